"""A source that is silent for a day, and a reader that stays away for an hour under traffic.

Shortened here; `make soak-outage` runs the day's 1,440 syncs and the whole hour.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.embedded.replication.capture import Capture, stream
from tests.embedded.replication.test_cdc_recovery import own_stand

SYNCS = int(os.environ.get("LAKEHOUSE_SILENT_SYNCS", "6"))  # a day has 1,440, one a minute
AWAY = float(os.environ.get("LAKEHOUSE_AWAY_SECONDS", "4"))
TRANSACTIONS = 40  # a second, of five changes each
SEGMENT = 16 << 20  # of the source's log
HOUR = 3600

pytestmark = pytest.mark.timeout(600 + SYNCS + int(AWAY) * 2)


@pytest.fixture
def shipped(platform_postgres: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Capture]:
    """A captured table on a source with the settings that the platform gives it."""
    with own_stand(platform_postgres, tmp_path_factory) as capture:
        run = capture.source.run
        run("create table shop.orders (id bigint primary key, note varchar(300))")
        run("insert into shop.orders select i, repeat('x', 100) from generate_series(1, 1000) i")
        capture.publish("orders")
        capture.connect(stream("orders"))
        capture.sync()
        yield capture


def test_a_day_of_silence_holds_no_log_back(shipped: Capture) -> None:
    """What is captured is silent, other tables are not, and the source makes its checkpoint every five minutes."""
    run = shipped.source.run
    run("create table shop.other (note text)")
    begun, most = shipped.state(), 0
    for number in range(SYNCS):
        run("insert into shop.other select repeat('y', 500) from generate_series(1, 400)")
        if number % 5 == 4:
            run("checkpoint")
        assert shipped.sync()["rowsSynced"] == 0
        most = max(most, shipped.state()["retainedBytes"])
    ended = shipped.state()
    assert run("select %s::pg_lsn > %s::pg_lsn", ended["restartLsn"], begun["restartLsn"]).fetchone()[0]
    print(f"{SYNCS} syncs without a row: {most / 1e6:.1f} MB of log held back at most")
    assert most < 4 * SEGMENT
    assert ended["walStatus"] == "reserved"


def test_a_reader_that_stays_away_stays_inside_the_limit(shipped: Capture) -> None:
    shipped.server.stop()
    changes = _traffic(shipped, AWAY)
    shipped.server.start()
    behind = shipped.state()
    begun = time.monotonic()
    assert shipped.sync()["rowsSynced"] == changes
    print(
        f"{changes} changes in {AWAY:.0f} s without a reader: {behind['retainedBytes'] / 1e6:.1f} MB of log of a limit "
        f"of {behind['limitBytes'] / 1e6:.0f} MB; read in {time.monotonic() - begun:.0f} s"
    )
    shipped.assert_exact("orders")
    # From half of the limit on syncs warn: an hour must be no reason to.
    assert behind["retainedBytes"] * max(1.0, HOUR / AWAY) < behind["limitBytes"] / 2
    assert behind["walStatus"] in ("reserved", "extended")


def _traffic(shipped: Capture, seconds: float) -> int:
    """Transactions of two inserts, two updates and a delete, at TRANSACTIONS a second; how many changes it made."""
    run, begun, number = shipped.source.run, time.monotonic(), 0
    while (spent := time.monotonic() - begun) < seconds:
        if number >= spent * TRANSACTIONS:
            time.sleep(1 / TRANSACTIONS)
            continue
        number += 1
        new = 999 + 2 * number
        with shipped.source.db.transaction():
            run(
                "insert into shop.orders select i, repeat('n', 100) from generate_series(%s::bigint, %s) i",
                new,
                new + 1,
            )
            run("update shop.orders set note = %s where id in (%s, %s)", f"{number} {'u' * 90}", new, new - 1)
            run("delete from shop.orders where id = %s", number)
    return number * 5
