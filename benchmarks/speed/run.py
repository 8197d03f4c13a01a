"""From a commit at the source to the row in the serving view, through the running platform and its Airflow.

    make demo && .venvs/embedded/bin/python benchmarks/speed/run.py [--rate 200] [--seconds 120]

The sample's traffic runs at `--rate` changes a second. Once a second an order is touched at the source, and readers ask
the serving view until they see that touch: the time between is what a dashboard's reader waits. Both lanes must be
united (`retail_speed` on, `retail_batch` run once since); set LAKEHOUSE_SPEED_SCHEDULE=continuous before `make up` for
one run after the other. Times are seconds of the wall; the CPU of the whole machine stands beside them.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median, quantiles
from typing import Any

PROJECT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(PROJECT))

import httpx  # noqa: E402
import psutil  # noqa: E402
import psycopg  # noqa: E402

from embedded.demo.traffic import Traffic  # noqa: E402
from embedded.endpoints import Endpoints  # noqa: E402
from embedded.stack import Stack  # noqa: E402

TOUCH = b"update retail.orders set updated_at = clock_timestamp() where order_id = %s returning updated_at"


class Reader:
    """The serving view over plain REST."""

    def __init__(self, endpoints: Endpoints) -> None:
        environment = endpoints.environment()
        self._http = httpx.Client(base_url=endpoints.sql_url, timeout=60)
        credentials = {
            "userName": environment["LAKEHOUSE_DREMIO_USER"],
            "password": environment["LAKEHOUSE_DREMIO_PASSWORD"],
        }
        token = self._http.post("/apiv2/login", json=credentials).raise_for_status().json()["token"]
        self._http.headers["authorization"] = f"_dremio{token}"

    def rows(self, sql: str) -> list[dict[str, Any]]:
        job = self._http.post("/api/v3/sql", json={"sql": sql}).raise_for_status().json()["id"]
        while (state := self._http.get(f"/api/v3/job/{job}").json())["jobState"] not in ("COMPLETED", "FAILED"):
            time.sleep(0.01)
        if state["jobState"] == "FAILED":
            raise SystemExit(f"{sql}: {state['errorMessage']}")
        rows: list[dict[str, Any]] = self._http.get(f"/api/v3/job/{job}/results", params={"limit": 500}).json()["rows"]
        return rows


@dataclass
class Probes:
    """Touches at the source, and when each was seen by a reader of the serving view."""

    waiting: dict[int, tuple[float, int]] = field(default_factory=dict)  # order -> committed, milliseconds of the touch
    seconds: list[float] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def touch(self, session: psycopg.Connection[Any], order: int) -> None:
        row = session.execute(TOUCH, [order]).fetchone()
        assert row is not None
        with self.lock:
            self.waiting[order] = (time.monotonic(), int(row[0].timestamp() * 1000))

    def look(self, reader: Reader) -> None:
        with self.lock:
            waiting = dict(self.waiting)
        if not waiting:
            return
        wanted = ", ".join(map(str, waiting))
        rows = reader.rows(f"SELECT order_id, updated_at FROM lakehouse.serving.orders WHERE order_id IN ({wanted})")
        now = time.monotonic()
        for row in rows:
            order = int(row["order_id"])
            committed, touched = waiting[order]
            if _milliseconds(row["updated_at"]) >= touched:
                self.seconds.append(now - committed)
                with self.lock:
                    del self.waiting[order]


def _milliseconds(text: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def measure(endpoints: Endpoints, rate: float, seconds: float) -> dict[str, Any]:
    dsn, probes, reader = endpoints.source.dsn("retail"), Probes(), Reader(endpoints)
    status = reader.rows("SELECT mode, reason FROM lakehouse.serving.serving_status WHERE entity = 'orders'")
    if not status or status[0]["mode"] == "batch":
        why = status[0]["reason"] if status else "there is no serving view"
        raise SystemExit(f"the lanes are not united ({why}): turn retail_speed on and run retail_batch after it")
    traffic = Traffic(dsn, rate=rate)
    thread = threading.Thread(target=traffic.run, args=[seconds], daemon=True)
    with psycopg.connect(dsn, autocommit=True) as session:
        orders = [int(row[0]) for row in session.execute("select order_id from retail.orders order by 1 limit 2000")]
        psutil.cpu_percent()
        thread.start()
        began = time.monotonic()
        for number, order in enumerate(orders):
            if time.monotonic() - began > seconds:
                break
            probes.touch(session, order)
            while time.monotonic() - began < number + 1:
                probes.look(reader)
                time.sleep(0.05)
        thread.join()
        end = time.monotonic() + 120
        while probes.waiting and time.monotonic() < end:
            probes.look(reader)
    spent = time.monotonic() - began
    return {
        "changes_per_second": round(traffic.counts.changes / seconds, 1),
        "probes": len(probes.seconds),
        "never_seen": len(probes.waiting),
        "p50_seconds": round(median(probes.seconds), 2),
        "p95_seconds": round(quantiles(probes.seconds, n=20)[18], 2),
        "max_seconds": round(max(probes.seconds), 2),
        "machine_cpu_percent": psutil.cpu_percent(),
        "seconds": round(spent, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=200.0, help="changes a second")
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--home", type=Path, help="the platform's data folder, the usual one when not given")
    options = parser.parse_args()
    stack = Stack(options.home) if options.home else Stack()
    print(json.dumps(measure(stack.endpoints(), options.rate, options.seconds), indent=2))


if __name__ == "__main__":
    main()
