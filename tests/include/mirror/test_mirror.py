"""The mirror between two real object stores: exact, incremental, careful with deletes, and honest about damage."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from include.mirror import lag
from include.mirror.errors import MirrorError
from include.mirror.transfers import PART
from include.objects import ListingError, listing
from include.retention.services import s3_client
from tests.include.mirror.conftest import Site
from tests.include.proxy import proxied

PROJECT = Path(__file__).resolve().parents[3]


def test_what_is_new_is_copied_once_and_read_back(site: Site) -> None:
    site.put("a/1.parquet", b"one")
    site.put("a/2.parquet", b"two" * 1000)
    site.put("big.bin", os.urandom(PART + 7))
    first = site.run()
    assert (first.listed, first.copied, first.verified) == (3, 3, 3)
    assert site.copies()["a/1.parquet"] == b"one"
    assert len(site.copies()["big.bin"]) == PART + 7
    second = site.run()
    assert (second.listed, second.copied, second.verified) == (3, 0, 0)
    with site.sites.ledger() as conn:
        (row,) = lag.read(conn, site.mirror)
    assert row.seconds is not None
    assert (row.objects, row.unproven, row.reason) == (3, 0, "")


def test_what_is_replaced_or_deleted_goes_to_quarantine(site: Site) -> None:
    site.put("kept", b"1")
    site.put("replaced", b"old")
    site.put("deleted", b"old too")
    site.run()
    site.put("replaced", b"new")
    site.sites.lake.delete_object(Bucket=site.bucket, Key="deleted")
    counts = site.run()
    assert (counts.copied, counts.quarantined) == (1, 1)
    assert site.copies() == {"kept": b"1", "replaced": b"new"}
    assert site.copies("quarantine") == {"replaced": b"old", "deleted": b"old too"}
    assert set(site.ledger()) == {"kept", "replaced"}


def test_more_deletes_than_allowed_are_refused_until_somebody_allows_them(site: Site) -> None:
    for name in "abcd":
        site.put(name, b"x")
    site.run()
    for name in "abc":
        site.sites.lake.delete_object(Bucket=site.bucket, Key=name)
    site.put("new", b"y")
    with pytest.raises(MirrorError, match=r"3 of 5 copied objects are gone .* nothing was moved"):
        site.run()
    assert set(site.copies()) == {*"abcd", "new"}, "what is new was copied all the same"
    assert site.last()["status"] == "failed"
    assert site.run(max_deletes=3).quarantined == 3
    assert set(site.copies()) == {"d", "new"}


def test_a_bucket_that_is_gone_deletes_nothing(site: Site) -> None:
    site.put("a", b"x")
    site.run()
    site.mirror = replace(site.mirror, sources=(f"{site.bucket}-gone",))
    with pytest.raises(MirrorError, match="has no such bucket"):
        site.run()
    assert set(site.copies()) == {"a"}


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (lambda offsite, place: offsite.put_object(**place, Body=b"evil"), "damaged"),
        (lambda offsite, place: offsite.delete_object(**place), "gone"),
    ],
)
def test_a_copy_that_rots_or_is_gone_is_found_and_made_again(site: Site, harm: Any, says: str) -> None:
    site.put("a", b"good")
    site.run()
    harm(site.sites.offsite, {"Bucket": site.mirror.bucket, "Key": f"current/{site.bucket}/a"})
    with site.sites.ledger() as conn:
        conn.execute("update lakehouse.mirror_objects set verified_at = verified_at - interval '16 days'")
    with pytest.raises(MirrorError, match=f"the copy of s3://{site.bucket}/a is {says}"):
        site.run()
    assert site.run().copied == 1
    assert site.copies() == {"a": b"good"}


def test_a_mirror_without_its_bucket_says_so(site: Site) -> None:
    site.put("a", b"x")
    site.mirror = replace(site.mirror, bucket=f"{site.bucket}-gone")
    with pytest.raises(MirrorError, match=r"the off-site store .* has no such bucket"):
        site.run()


def test_keys_are_copied_as_they_are(site: Site) -> None:
    """A tab is nothing that the library which copies the others takes in a key."""
    keys = ("a b+c%20.bin", "ü/ß#?&='\"~*[1].bin", "day=2017-03-01/x:y", "with\ttab", "dot/.hidden/..x")
    for key in keys:
        site.put(key, key.encode())
    assert site.run().verified == len(keys)
    assert site.copies() == {key: key.encode() for key in keys}


def test_an_object_that_is_another_ones_folder_is_named(site: Site) -> None:
    site.put("x", b"1")
    site.put("x/y", b"2")
    with pytest.raises(MirrorError, match=f"s3://{site.bucket}/x is an object and a folder at once"):
        site.run()


def test_a_listing_never_ends_before_its_end(site: Site) -> None:
    """Where a page ends exactly at a key that is a folder too, SeaweedFS says that nothing follows."""
    for name in ("a", "b", "b/1", "b/2", "c"):
        site.put(name, b"x")
    for page in (1, 2, 3, 4, 5):
        with pytest.raises(ListingError, match=f"s3://{site.bucket}/b is an object and a folder"):
            list(listing(site.sites.lake, site.bucket, page=page))
        plain = [item.key for item in listing(site.sites.lake, site.bucket, "b/", page=page)]
        assert plain == ["b/1", "b/2"]


def _spoiled(site: Site, side: str, what: str, method: str) -> Any:
    """The exception of a run in which one kind of call is spoiled."""
    store = site.lake_store if side == "lake" else site.offsite_store
    with proxied(store.endpoint_url) as proxy:
        proxy.spoil = lambda verb, path: what if verb == method and path.split("?")[0].endswith("/a") else None
        with pytest.raises(MirrorError) as caught:
            site.run(sites=site.through(**{side: proxy.url}))
    return caught.value


@pytest.mark.parametrize(
    ("side", "what", "method", "says"),
    [
        ("lake", "cut-reply", "GET", "was listed with 100 bytes and read with 50"),
        ("offsite", "cut-request", "PUT", "acknowledged .* and has 0 of its 100 bytes"),
        ("offsite", "cut-reply", "GET", "is damaged: 50 of 100 bytes"),
        ("offsite", "throttle", "PUT", "goes on throttling after several tries"),
    ],
)
def test_a_store_that_misbehaves_loses_nothing(site: Site, side: str, what: str, method: str, says: str) -> None:
    site.put("a", b"x" * 100)
    site.put("b", b"y")
    error = _spoiled(site, side, what, method)
    assert site.last()["status"] == "failed"
    assert re.search(says, str(error)), str(error)
    site.run()
    assert site.copies() == {"a": b"x" * 100, "b": b"y"}
    assert site.ledger() == {"a": True, "b": True}


def test_unreachable_and_wrong_credentials_have_a_message_each(site: Site) -> None:
    site.put("a", b"x")
    with proxied(site.offsite_store.endpoint_url) as proxy:
        closed = proxy.url
    with pytest.raises(MirrorError, match=r"the off-site store .* did not answer .* is it up"):
        site.run(sites=site.through(offsite=closed))
    wrong = s3_client(site.offsite_store.endpoint_url, site.offsite_store.access_key, "wrong")
    with pytest.raises(MirrorError, match=r"the off-site store .* refuses the credentials"):
        site.run(sites=replace(site.sites, offsite=wrong))
    assert site.ledger() == {}
    assert site.run().copied == 1


KILLED = """
import sys
from dataclasses import replace
from include import upkeep
from include.mirror import run, spec
from include.retention.services import connector, s3_client
bucket, dsn, *stores = sys.argv[1:]
sites = run.Sites(connector(dsn), s3_client(*stores[:3]), s3_client(*stores[3:]))
mirror = replace(spec.load(), sources=(bucket,), delete_count=10)
with upkeep.turn(sites.ledger, "test", name=run.LEASE) as turn:
    run.sync(sites, mirror, "test", turn)
"""


@pytest.mark.parametrize(
    "point",
    [
        pytest.param("mirror.before_batch", marks=pytest.mark.faults),
        "mirror.after_copy",
        pytest.param("mirror.after_record", marks=pytest.mark.faults),
        "mirror.after_quarantine",
    ],
)
def test_a_killed_run_is_completed_by_the_next(site: Site, platform_postgres: Any, point: str) -> None:
    site.put("deleted", b"old")
    site.run()
    site.sites.lake.delete_object(Bucket=site.bucket, Key="deleted")
    site.put("a", b"x")
    stores = [
        value
        for store in (site.lake_store, site.offsite_store)
        for value in (store.endpoint_url, store.access_key, store.secret_key)
    ]
    dsn = platform_postgres.dsn("lakehouse", "lakehouse")
    ended = subprocess.run(
        [sys.executable, "-c", KILLED, site.bucket, dsn, *stores],
        cwd=PROJECT,
        env={**os.environ, "PYTHONPATH": f"{PROJECT}:{PROJECT / 'plugins'}", "LAKEHOUSE_UPKEEP_KILL_AT": point},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    site.run()
    assert site.copies() == {"a": b"x"}
    assert site.copies("quarantine") == {"deleted": b"old"}
    assert site.ledger() == {"a": True}
    with site.sites.ledger() as conn:
        states = [row["status"] for row in conn.execute("select status from lakehouse.mirror_runs order by run_id")]
    assert states == ["ok", "failed", "ok"]
