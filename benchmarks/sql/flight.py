"""The SQL server over Flight beside plain DuckDB on the same Iceberg tables, point queries over REST, many clients.

    .venvs/embedded/bin/python benchmarks/sql/flight.py [--rows N] [--repeat N] [--clients N] [--only PART ...]

PostgreSQL, the object store and the server are started here and taken down again. Plain DuckDB runs in a process of its
own with the server's version, extensions, threads and memory; both are asked in turns. CPU is that of whole processes;
the object store's is not counted. Wall times depend on the machine's other work, ratios of one run less so. What
reflections gain is measured beside it, in reflections.py.
"""

from __future__ import annotations

import argparse
import multiprocessing
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any

PROJECT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(PROJECT))

import duckdb  # noqa: E402
import psutil  # noqa: E402

from embedded.credentials import Secrets  # noqa: E402
from embedded.home import Home  # noqa: E402
from embedded.object_store import NAME, PORT_NAMES, PORT_OFFSETS, ObjectStore, object_store  # noqa: E402
from embedded.ports import assign  # noqa: E402
from embedded.postgres import PLATFORM, platform_server  # noqa: E402
from embedded.programs import Child  # noqa: E402
from embedded.sql.engine.database import EXTENSIONS, extension_path  # noqa: E402
from tests.embedded.sql.engine import star  # noqa: E402
from tests.embedded.sql.engine.conftest import rest_catalog  # noqa: E402
from tests.embedded.sql.flight_client import FlightClient  # noqa: E402
from tests.embedded.sql.process import SqlProcess, new_database, rest_source  # noqa: E402

THREADS, MEMORY = 2, "2000MB"
PARTS = ("overhead", "points", "clients")
NAMESPACE = "bench"
# {sales} and {products} are the tables; both engines take this text.
QUERIES = {
    "sums by store and channel": "select store_id, channel, sum(amount) as s, sum(units) as u, count(*) as n"
    " from {sales} group by store_id, channel order by 1, 2",
    "distinct ids by month": "select extract(month from sold_on) as m, count(distinct id) as n from {sales} group by 1",
    "join with products": "select p.department, sum(s.amount * p.price) as v from {sales} s"
    " join {products} p on s.product_id = p.product_id group by p.department order by 1",
    "top rows": "select id, sold_at, amount, weight from {sales} order by weight desc, amount desc, id limit 100",
    "window": "select max(r) as m from"
    " (select row_number() over (partition by store_id order by id) as r from {sales}) t",
    "filter and group by day": "select sold_on, avg(weight) as w, max(amount) as m from {sales}"
    " where channel = 'a' and units > 3 group by sold_on order by 1",
    "a million rows": "select id, product_id, sold_at, amount, channel from {sales} where id < 1000000",
}


@dataclass
class Stand:
    """The servers of one run."""

    server: SqlProcess
    store: ObjectStore
    rpc: FlightClient

    @property
    def process(self) -> psutil.Process:
        assert self.server.process is not None
        return psutil.Process(self.server.process.pid)

    def location(self, table: str) -> str:
        return str(rest_catalog(self.store).load_table((NAMESPACE, table)).metadata_location)


def stand(stack: ExitStack, rows: int) -> Stand:
    folder = Path(tempfile.mkdtemp(prefix="lakehouse-bench-"))
    folder.chmod(0o711)
    stack.callback(shutil.rmtree, folder, ignore_errors=True)
    home = Home(folder / "home")
    home.create()
    secrets = Secrets.load_or_create(home.secrets)
    postgres = platform_server(home, secrets, assign([PLATFORM]).ports[PLATFORM])
    store = object_store(home, secrets, assign(PORT_NAMES, offsets=PORT_OFFSETS).ports)
    for program, log, ready in (
        (postgres.program(), home.log(PLATFORM), postgres.is_ready),
        (store.program(), home.log(NAME), store.is_ready),
    ):
        child = Child.start(program, log)
        stack.callback(child.stop)
        child.wait_ready(ready)
    stack.callback(store.remove_sockets)
    postgres.provision()
    store.provision()
    limits = {"LAKEHOUSE_SQL_MEMORY_LIMIT": MEMORY, "LAKEHOUSE_SQL_THREADS": str(THREADS)}
    server = SqlProcess(new_database(postgres), store, folder / "sql", limits).start()
    stack.callback(server.close)
    server.client().create(rest_source(store, "lake"))
    made = Stand(server, store, FlightClient(server.flight_port))
    for name, text in (("sales", star.SALES.format(0, rows)), ("products", star.PRODUCTS)):
        made.rpc.table(f"create table lake.{NAMESPACE}.{name} as {text}")
    return made


# Overhead -----------------------------------------------------------------------------------------------------------


def plain(pipe: Connection, setup: list[str]) -> None:
    """Plain DuckDB in a process of its own: takes SQL, answers with wall seconds, CPU-seconds and rows."""
    connection = duckdb.connect(config={"threads": THREADS, "memory_limit": MEMORY})
    for sql in ("set enable_progress_bar = false", *setup):
        connection.execute(sql)
    while sql := pipe.recv():
        wall, cpu = time.perf_counter(), time.process_time()
        rows = connection.execute(sql).to_arrow_table().num_rows
        pipe.send((time.perf_counter() - wall, time.process_time() - cpu, rows))


def duckdb_setup(store: ObjectStore) -> list[str]:
    host = store.endpoint.removeprefix("http://")
    return [
        *(f"load '{extension_path(name)}'" for name in EXTENSIONS),
        f"create secret (type s3, key_id '{store.access_key}', secret '{store.secret_key}', endpoint '{host}',"
        " url_style 'path', use_ssl false)",
    ]


def seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def over_flight(bench: Stand, sql: str) -> tuple[float, float, int]:
    wall, cpu, own = time.perf_counter(), seconds(bench.process), time.process_time()
    rows = bench.rpc.table(sql).num_rows
    return time.perf_counter() - wall, seconds(bench.process) - cpu + time.process_time() - own, rows


def overhead(bench: Stand, repeat: int) -> None:
    here, there = multiprocessing.get_context("spawn").Pipe()
    worker = multiprocessing.get_context("spawn").Process(target=plain, args=(there, duckdb_setup(bench.store)))
    worker.start()
    tables = ("sales", "products")
    ours = {name: f"lake.{NAMESPACE}.{name}" for name in tables}
    theirs = {name: f"iceberg_scan('{bench.location(name)}')" for name in tables}
    print("| query | rows | DuckDB ms | Flight ms | ratio | DuckDB CPU-ms | server and client CPU-ms | ratio |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    for name, text in QUERIES.items():
        found: list[tuple[tuple[float, float, int], tuple[float, float, int]]] = []
        for _ in range(repeat + 1):  # in turns, so that both meet the same load; the first warms the caches
            here.send(text.format(**theirs))
            found.append((here.recv(), over_flight(bench, text.format(**ours))))
        assert all(a[2] == b[2] for a, b in found), name
        walls = [median(pair[side][0] for pair in found[1:]) * 1000 for side in (0, 1)]
        cpus = [median(pair[side][1] for pair in found[1:]) * 1000 for side in (0, 1)]
        ratio = median(b[0] / a[0] for a, b in found[1:])
        print(
            f"| {name} | {found[0][0][2]} | {walls[0]:.0f} | {walls[1]:.0f} | {ratio:.2f} |"
            f" {cpus[0]:.0f} | {cpus[1]:.0f} | {cpus[1] / cpus[0]:.2f} |",
            flush=True,
        )
    here.send("")
    worker.join()


# Point queries ------------------------------------------------------------------------------------------------------


def points(bench: Stand, repeat: int) -> None:
    """Server time of one row by its key over REST, from submission to the end of the job, and the CPU it takes."""
    client = bench.server.client()
    sql = f"select * from lake.{NAMESPACE}.products where product_id = "
    walls, count = [], repeat * 20
    for number in range(10):
        client.rows(f"{sql}{number}")
    cpu = seconds(bench.process)
    for number in range(count):
        job_id = client.submit(f"{sql}{number % 34}")
        client.wait(job_id)
    cpu = (seconds(bench.process) - cpu) / count
    recent = f"select * from sys.jobs_recent where query like '{sql}%' and status = 'COMPLETED'"
    for row in client.rows(recent):
        walls.append(float(row["final_state_epoch"] - row["submitted_epoch"]))
    walls.sort()
    print(
        f"\nA point query over REST: {median(walls):.0f} ms of server time in the median of {len(walls)}"
        f" (fastest {walls[0]:.0f}, slowest of 90 % {walls[int(len(walls) * 0.9)]:.0f}); {cpu * 1000:.0f} CPU-ms with"
        " the client's polling"
    )


# Many clients -------------------------------------------------------------------------------------------------------


def clients(bench: Stand, count: int, repeat: int) -> None:
    """So many clients at once over Flight, each with queries of several kinds."""
    errors: list[str] = []
    rows = [0] * count
    before = bench.process.memory_info().rss
    peak = [before]
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(0.2):
            peak[0] = max(peak[0], bench.process.memory_info().rss)

    def work(number: int) -> None:
        texts = [
            text.format(**{n: f"lake.{NAMESPACE}.{n}" for n in ("sales", "products")}) for text in QUERIES.values()
        ]
        try:
            rpc = FlightClient(bench.server.flight_port)
            for turn in range(repeat):
                for chunk in rpc.reader(texts[(number + turn) % len(texts)]):
                    rows[number] += chunk.data.num_rows
        except Exception as error:
            errors.append(f"{type(error).__name__}: {error}")

    threading.Thread(target=watch, daemon=True).start()
    threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
    begun = time.perf_counter()
    _together(threads)
    stop.set()
    print(
        f"\n{count} clients at once, {repeat} queries each, {sum(rows)} rows: {time.perf_counter() - begun:.0f} s,"
        f" {len(errors)} errors, memory {before / 1e6:.0f} MB before, {peak[0] / 1e6:.0f} MB at the peak"
        f" (DuckDB's limit: {MEMORY})"
    )
    for error in sorted(set(errors)):
        print(f"  {error}")


def _together(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--only", nargs="*", choices=PARTS, default=PARTS)
    given = parser.parse_args()
    with ExitStack() as stack:
        bench = stand(stack, given.rows)
        parts: dict[str, Callable[[], Any]] = {
            "overhead": lambda: overhead(bench, given.repeat),
            "points": lambda: points(bench, given.repeat),
            "clients": lambda: clients(bench, given.clients, max(1, given.repeat // 2)),
        }
        for name in given.only:
            parts[name]()


if __name__ == "__main__":
    main()
