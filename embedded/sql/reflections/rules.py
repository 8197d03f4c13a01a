"""When a reflection is refreshed (dremio-oss 25.2 ReflectionManager and DependencyManager): pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, time, timedelta
from typing import Literal

from embedded.sql.errors import ValidationError
from embedded.sql.reflections import model
from embedded.sql.reflections.model import Dependency, Policy, Reflection

PENDING_TIMEOUT = timedelta(minutes=30)  # reflection.manager.refresh_pending.timeout
Edition = Literal["community", "enterprise"]


def asked_at(
    reflection: Reflection,
    dependencies: Sequence[Dependency],
    requests: Mapping[str, datetime],
    dataset_kind: str,
    edition: Edition,
) -> datetime | None:
    """The newest request that concerns a reflection.

    Requests count on the tables it reads. A request with the id of a view matches nothing in the Community edition;
    the others refresh what is built on it.
    """
    moments = [requests[d.entity_id] for d in dependencies if d.entity_id is not None and d.entity_id in requests]
    own = requests.get(reflection.dataset_id)
    if own is not None and (dataset_kind == "table" or edition == "enterprise"):
        moments.append(own)
    if reflection.requested_at is not None:
        moments.append(reflection.requested_at)
    return max(moments, default=None)


def due(reflection: Reflection, asked: datetime | None, policy: Policy, now: datetime, backoff_unit: float) -> bool:
    """Whether a refresh should start now, parents aside."""
    if not reflection.enabled or reflection.config_error:
        return False
    if reflection.state in (model.REFRESHING, model.FAILED):
        return False
    submitted = reflection.last_submitted_at
    fresh_request = asked is not None and (submitted is None or asked > submitted)
    retry_at = reflection.backoff_ends(backoff_unit)
    if retry_at is not None:
        # A request during the back-off forces a retry; otherwise the back-off alone decides.
        return fresh_request or now >= retry_at
    if submitted is None or reflection.state in (model.NEW, model.REFRESH, model.UPDATE, model.REFRESH_PENDING):
        return True
    if fresh_request:
        return True
    if policy.schedule:
        return submitted < last_scheduled(policy.schedule, now)
    return policy.refresh_period is not None and now - submitted >= policy.refresh_period


def must_wait(reflection: Reflection, parents: Sequence[Reflection], due_ids: set[str], now: datetime) -> bool:
    """Whether reflections on the tables that this one reads go first; not for longer than the timeout."""
    busy = [p for p in parents if p.state in (model.REFRESHING, model.REFRESH_PENDING) or p.id in due_ids]
    if not busy:
        return False
    return reflection.pending_since is None or now - reflection.pending_since < PENDING_TIMEOUT


def policy_of(dataset_policy: Mapping[str, object] | None, source: Mapping[str, object] | None) -> Policy:
    """The policy of a dataset, else of its source, else Dremio's defaults (1 h, 3 h)."""
    if dataset_policy:
        return _policy(dataset_policy, _DATASET_KEYS)
    return _policy(source or {}, _SOURCE_KEYS)


# type, never refresh, period, schedule, never expire, grace
_DATASET_KEYS = (
    "activePolicyType",
    "neverRefresh",
    "refreshPeriodMs",
    "refreshSchedule",
    "neverExpire",
    "gracePeriodMs",
)
_SOURCE_KEYS = (
    "accelerationActivePolicyType",
    "accelerationNeverRefresh",
    "accelerationRefreshPeriodMs",
    "accelerationRefreshSchedule",
    "accelerationNeverExpire",
    "accelerationGracePeriodMs",
)


def _policy(given: Mapping[str, object], keys: Sequence[str]) -> Policy:
    kind_key, never, period_key, schedule_key, never_expire, grace_key = keys
    kind = "NEVER" if given.get(never) else given.get(kind_key) or "PERIOD"
    return Policy(
        refresh_period=_ms(given.get(period_key), 3_600_000) if kind == "PERIOD" else None,
        grace_period=None if given.get(never_expire) else _ms(given.get(grace_key), 10_800_000),
        on_data_changes=kind == "REFRESH_ON_DATA_CHANGES",
        schedule=str(given.get(schedule_key, "")) if kind == "SCHEDULE" else "",
    )


def _ms(value: object, default: int) -> timedelta:
    return timedelta(milliseconds=value if isinstance(value, (int, float)) and value > 0 else default)


_DAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")


def parse_schedule(text: str) -> tuple[int, int, int, frozenset[int]]:
    """Second, minute, hour and days (Monday 0) of a refresh schedule: six cron fields, one time of day, days of week.

    Raises ValidationError for anything else, as Dremio does.
    """
    fields = text.upper().split()
    try:
        second, minute, hour = (int(field) for field in fields[:3])
        day, month, week = fields[3:]
        days = frozenset(_weekday(part) for part in week.split(",")) if week not in ("*", "?") else frozenset(range(7))
        if day not in ("*", "?") or month not in ("*", "?"):
            raise ValueError(text)
        time(hour, minute, second)
    except ValueError:
        raise ValidationError(
            f"Invalid refresh schedule [{text}]: six fields, one time of day and days of the week only, "
            "such as 0 30 4 * * MON,THU"
        ) from None
    return second, minute, hour, days


def _weekday(part: str) -> int:
    """Cron counts from Sunday = 1, or names the days."""
    number = _DAYS.index(part) if part in _DAYS else int(part) - 1
    if not 0 <= number <= 6:
        raise ValueError(part)
    return (number - 1) % 7


def last_scheduled(text: str, now: datetime) -> datetime:
    """The last moment at or before `now` that a schedule names (UTC)."""
    second, minute, hour, days = parse_schedule(text)
    moment = now.replace(hour=hour, minute=minute, second=second, microsecond=0)
    while moment > now or moment.weekday() not in days:
        moment -= timedelta(days=1)
    return moment
