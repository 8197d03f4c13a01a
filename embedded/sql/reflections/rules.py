"""When a reflection is refreshed (dremio-oss 25.2 ReflectionManager and DependencyManager): pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Literal

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
        kind = dataset_policy.get("activePolicyType", "PERIOD")
        never = bool(dataset_policy.get("neverRefresh")) or kind == "NEVER"
        period = None if never or kind != "PERIOD" else _ms(dataset_policy.get("refreshPeriodMs"), 3_600_000)
        grace = None if dataset_policy.get("neverExpire") else _ms(dataset_policy.get("gracePeriodMs"), 10_800_000)
        return Policy(period, grace, kind == "REFRESH_ON_DATA_CHANGES")
    source = source or {}
    kind = source.get("accelerationActivePolicyType", "PERIOD")
    never = bool(source.get("accelerationNeverRefresh")) or kind != "PERIOD"
    return Policy(
        None if never else _ms(source.get("accelerationRefreshPeriodMs"), 3_600_000),
        None if source.get("accelerationNeverExpire") else _ms(source.get("accelerationGracePeriodMs"), 10_800_000),
        kind == "REFRESH_ON_DATA_CHANGES",
    )


def _ms(value: object, default: int) -> timedelta:
    return timedelta(milliseconds=value if isinstance(value, (int, float)) and value > 0 else default)
