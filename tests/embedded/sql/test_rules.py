"""The rules without a server: when a reflection is due, what its status says, how a listing is completed."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest

from embedded.sql.catalog import names, object_listing, sources
from embedded.sql.catalog.parquet import Footer, merge, widen
from embedded.sql.errors import ValidationError
from embedded.sql.reflections import model, rules
from embedded.sql.reflections.model import Dependency, Policy, Reflection, Refresh, status
from embedded.sql.settings import SettingsError, from_environment

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
MANUAL = Policy(refresh_period=None)


def reflection(**fields: Any) -> Reflection:
    given: dict[str, Any] = {"state": model.ACTIVE, "last_submitted_at": NOW - 10 * MINUTE, **fields}
    return Reflection("dataset", "r", "RAW", {}, **given)


def due(found: Reflection, asked: datetime | None = None, policy: Policy = MANUAL, now: datetime = NOW) -> bool:
    return rules.due(found, asked, policy, now, 60.0)


def test_a_refresh_is_due_when_it_was_asked_for_after_the_last_submission() -> None:
    assert not due(reflection())
    assert due(reflection(), asked=NOW - 9 * MINUTE)
    assert not due(reflection(), asked=NOW - 11 * MINUTE)
    assert due(reflection(state=model.NEW, last_submitted_at=None))
    assert not due(reflection(state=model.REFRESHING), asked=NOW)
    assert not due(reflection(enabled=False), asked=NOW)
    assert not due(reflection(state=model.FAILED), asked=NOW)
    assert not due(reflection(config_error="no column"), asked=NOW)


def test_the_period_counts_from_the_last_submission() -> None:
    policy = Policy(refresh_period=10 * MINUTE)
    assert due(reflection(), policy=policy)
    assert not due(reflection(), policy=policy, now=NOW - timedelta(seconds=1))


@pytest.mark.parametrize(
    ("failures", "minutes"), [(1, 1), (2, 2), (3, 5), (4, 15), (5, 30), (6, 60), (7, 120), (8, 240), (23, 240)]
)
def test_the_back_off_grows_and_a_request_breaks_it(failures: int, minutes: int) -> None:
    failed = reflection(failure_count=failures, last_failure_at=NOW, last_submitted_at=NOW - MINUTE)
    assert not due(failed, now=NOW + minutes * MINUTE - timedelta(seconds=1))
    assert due(failed, now=NOW + minutes * MINUTE)
    assert due(failed, asked=NOW, now=NOW + timedelta(seconds=1))


def test_requests_count_on_tables_and_in_enterprise_on_views() -> None:
    below = (Dependency(("lake", "t"), "table"),)
    requests = {"table": NOW - MINUTE, "dataset": NOW}
    one = reflection()
    assert rules.asked_at(one, below, requests, "view", "community") == NOW - MINUTE
    assert rules.asked_at(one, below, requests, "view", "enterprise") == NOW
    assert rules.asked_at(one, below, requests, "table", "community") == NOW
    assert rules.asked_at(one, (), {}, "table", "enterprise") is None
    assert rules.asked_at(reflection(requested_at=NOW), (), {}, "view", "community") == NOW


def test_parents_go_first_but_not_for_ever() -> None:
    child, parent = reflection(), reflection(state=model.REFRESHING)
    assert rules.must_wait(child, [parent], set(), NOW)
    assert rules.must_wait(child, [replace(parent, state=model.ACTIVE)], {parent.id}, NOW)
    assert not rules.must_wait(child, [replace(parent, state=model.ACTIVE)], set(), NOW)
    waited = reflection(state=model.REFRESH_PENDING, pending_since=NOW - 31 * MINUTE)
    assert not rules.must_wait(waited, [parent], set(), NOW)


DONE = Refresh("r", "tag", 1, state="DONE", last_refresh_from_pds=NOW, expires_at=NOW + MINUTE)


@pytest.mark.parametrize(
    ("fields", "policy", "done", "refresh", "combined"),
    [
        ({"state": model.NEW}, Policy(), None, "SCHEDULED", "CANNOT_ACCELERATE_SCHEDULED"),
        ({"state": model.NEW}, MANUAL, None, "MANUAL", "CANNOT_ACCELERATE_MANUAL"),
        ({"state": model.REFRESHING}, Policy(), None, "RUNNING", "REFRESHING"),
        ({"state": model.REFRESHING}, Policy(), DONE, "RUNNING", "CAN_ACCELERATE"),
        ({"state": model.REFRESH_PENDING}, Policy(), None, "PENDING", "REFRESHING"),
        ({}, Policy(), DONE, "SCHEDULED", "CAN_ACCELERATE"),
        ({"failure_count": 1}, Policy(), DONE, "SCHEDULED", "CAN_ACCELERATE_WITH_FAILURES"),
        ({"failure_count": 1}, Policy(), None, "SCHEDULED", "CANNOT_ACCELERATE_SCHEDULED"),
        ({"state": model.FAILED}, Policy(), DONE, "GIVEN_UP", "FAILED"),
        ({"enabled": False}, Policy(), None, "SCHEDULED", "DISABLED"),
        ({"config_error": "x"}, Policy(), DONE, "SCHEDULED", "INVALID"),
    ],
)
def test_the_words_of_a_status(
    fields: dict[str, Any], policy: Policy, done: Refresh | None, refresh: str, combined: str
) -> None:
    found = status(reflection(**fields), policy, done)
    assert (found.refresh, found.combined) == (refresh, combined)


def test_policies() -> None:
    assert rules.policy_of(None, None) == Policy()
    assert rules.policy_of(None, {"accelerationNeverRefresh": True, "accelerationNeverExpire": True}) == Policy(
        None, None
    )
    own = {"activePolicyType": "PERIOD", "refreshPeriodMs": 60_000, "gracePeriodMs": 120_000}
    assert rules.policy_of(own, {"accelerationNeverRefresh": True}) == Policy(MINUTE, 2 * MINUTE)
    assert rules.policy_of({"activePolicyType": "REFRESH_ON_DATA_CHANGES"}, None).on_data_changes


def test_schedules_name_one_time_of_day() -> None:
    # 2026-01-31 is a Saturday.
    assert rules.last_scheduled("0 30 4 * * *", NOW) == NOW.replace(hour=4, minute=30)
    assert rules.last_scheduled("0 30 14 ? * *", NOW) == NOW.replace(day=30, hour=14, minute=30)
    assert rules.last_scheduled("0 0 12 * * 2,5", NOW) == NOW.replace(day=29)
    assert rules.last_scheduled("0 0 12 * * SAT", NOW) == NOW
    daily = Policy(refresh_period=None, schedule="0 0 12 * * *")
    assert due(reflection(), policy=daily)
    assert not due(reflection(last_submitted_at=NOW), policy=daily)
    for bad in ("", "0 0 12 1 * *", "0 0/5 12 * * *", "0 0 25 * * *", "0 0 12 * * 9", "0 12 * * *"):
        with pytest.raises(ValidationError):
            rules.parse_schedule(bad)


class TruncatingStore:
    """Ends a listing too early when a page ends at a key that is also a folder, as SeaweedFS 4.48 does."""

    def __init__(self, keys: list[str], page: int) -> None:
        self.keys = sorted(keys)
        self.page = page

    def list_objects_v2(self, **asked: Any) -> dict[str, Any]:
        after = asked.get("ContinuationToken") or asked.get("StartAfter") or ""
        left = [key for key in self.keys if key.startswith(asked["Prefix"]) and key > after]
        page = left[: self.page]
        last = page[-1] if page else ""
        lies = any(key.startswith(f"{last.rstrip('/')}/") for key in left[self.page :])
        answer: dict[str, Any] = {"Contents": [{"Key": key, "Size": 1, "ETag": '"e"'} for key in page]}
        if len(left) > self.page and not lies:
            answer |= {"IsTruncated": True, "NextContinuationToken": last}
        return answer


@pytest.mark.parametrize("page", [1, 2, 3, 7])
def test_a_listing_that_ends_too_early_is_completed(page: int) -> None:
    keys = ["p/a", "p/b", "p/b/1", "p/b/2", "p/c/", "p/c/1", "p/d", "q/x"]
    found = [item.key for item in object_listing.objects(TruncatingStore(keys, page), "bucket", "p/")]
    assert found == sorted(key for key in keys if key.startswith("p/"))


def test_schemas_are_united() -> None:
    one = Footer("a", pa.schema([("id", pa.int32()), ("s", pa.struct([("x", pa.int64())]))]), 1)
    two = Footer("b", pa.schema([("ID", pa.int64()), ("s", pa.struct([("y", pa.string())])), ("n", pa.string())]), 1)
    assert merge(None, [one, two], "t") == pa.schema(
        [("id", pa.int64()), ("s", pa.struct([("x", pa.int64()), ("y", pa.string())])), ("n", pa.string())]
    )
    with pytest.raises(ValidationError, match=r"column 'id'.*BIGINT in b.*VARCHAR in c"):
        merge(None, [one, two, Footer("c", pa.schema([("id", pa.string())]), 1)], "t")
    assert widen(pa.decimal128(12, 2), pa.decimal128(10, 4)) == pa.decimal128(14, 4)
    assert widen(pa.decimal128(38, 2), pa.decimal128(38, 10)) is None
    assert widen(pa.list_(pa.int32()), pa.list_(pa.int64())) == pa.list_(pa.int64())


def test_configurations_keep_their_secrets_apart() -> None:
    config = {"hostname": "h", "databaseName": "d", "username": "u", "password": "p"}
    public, secrets = sources.split("POSTGRES", config, {})
    assert (secrets, "password" in public) == ({"password": "p"}, False)
    assert sources.shown(public, secrets)["password"] == sources.EXISTING
    assert sources.split("POSTGRES", {**config, "password": sources.EXISTING}, secrets)[1] == secrets
    with pytest.raises(ValidationError, match=r"config.password \(there is no existing value"):
        sources.split("POSTGRES", {**config, "password": sources.EXISTING}, {})
    with pytest.raises(ValidationError, match="needs config"):
        sources.split("POSTGRES", {"databaseName": "d", "username": "u"}, {})


@pytest.mark.parametrize("name", ["../x", "a\x00b", "a\nb", "", " ", ".", "..", "x" * 256, "a/b"])
def test_hostile_names_are_refused(name: str) -> None:
    with pytest.raises(ValidationError):
        names.check_folder(name)


def test_paths_are_compared_without_case_and_read_back_exactly() -> None:
    path = ("A", 'b"c', "d.e", "ü/é")
    assert names.decode(names.encode(path)) == path
    assert names.key(path) == ("a", 'b"c', "d.e", "ü/é")
    assert names.quoted(path) == 'A."b""c"."d.e"."ü/é"'


def test_settings_name_what_is_missing_or_wrong() -> None:
    with pytest.raises(SettingsError, match=r"LAKEHOUSE_SQL_DATABASE_URL.*LAKEHOUSE_SQL_SCRATCH"):
        from_environment({})
    names_ = ("DATABASE_URL", "ADMIN_USER", "ADMIN_PASSWORD", "DIST_ENDPOINT", "DIST_ACCESS_KEY", "DIST_SECRET_KEY")
    good = {f"LAKEHOUSE_SQL_{name}": "x" for name in (*names_, "SCRATCH", "SECRET_KEY")} | {
        "LAKEHOUSE_SQL_DIST": "s3://b/p/"
    }
    settings = from_environment(good)
    assert settings.dist_root == "s3://b/p"
    assert "'x'" not in repr(settings.dist_access).replace("access_key='x'", "").replace("endpoint='x'", "")
    for name, value in (("PORT", "x"), ("EDITION", "free"), ("DIST", "b"), ("FAULTS", "["), ("WORKERS", "0")):
        with pytest.raises(SettingsError, match=f"LAKEHOUSE_SQL_{name}"):
            from_environment(good | {f"LAKEHOUSE_SQL_{name}": value})
