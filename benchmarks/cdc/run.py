"""Changes per second from a slot: decoded to Arrow, and decoded and durable in PostgreSQL, beside pg_recvlogical.

    .venvs/embedded/bin/python benchmarks/cdc/run.py [--changes N] [--repeat N] [--latency SECONDS] [--rate N]

The same log three times, from three slots: 40 % inserts, 40 % updates, 20 % deletions, 1,000 changes a transaction.
`recvlogical` throws the messages away; `decode` is our reader up to Arrow batches; `append` adds the records' shape,
binary COPY and commits into the destination's log with its indexes. They take turns within one run, so that ratios
hold while the machine is shared; CPU-seconds, of client and server, depend least on what else it does. Memory is the
peak of the process that reads.
`--latency` then measures a running server: from the API call to the applied LSN, with `--rate` changes a second.
Everything is started here and taken down again.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from statistics import median
from typing import Any
from uuid import uuid4

PROJECT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(PROJECT))

import psutil  # noqa: E402
import psycopg  # noqa: E402

from embedded.credentials import Secrets  # noqa: E402
from embedded.home import Home  # noqa: E402
from embedded.ports import assign  # noqa: E402
from embedded.postgres import PLATFORM, SOURCE, SUPERUSER, installation, platform_server, source_server  # noqa: E402
from embedded.programs import Child  # noqa: E402
from embedded.replication.connectors import PostgresDestination, PostgresSource  # noqa: E402
from tests.embedded.replication.capture import capturing, stream  # noqa: E402
from tests.embedded.replication.harness import Server, new_database, new_source  # noqa: E402

TABLE = """
create table shop.orders (
    order_id bigint primary key, customer_id int not null, status varchar(12) not null, amount numeric(12,2) not null,
    tax numeric(10,4), quantity int not null, created_at timestamptz not null, updated_at timestamptz not null)
"""
CHURN = """
create procedure churn(first int, transactions int) language plpgsql as $$ begin
    for k in first .. first + transactions - 1 loop
        insert into shop.orders
        select 1000000000 + k * 400 + i, i, 'placed', i * 1.25, i * 0.5, i % 9, now(), now()
          from generate_series(1, 400) i;
        update shop.orders set status = 'shipped', amount = amount + 1, updated_at = now()
         where order_id between k * 600 + 1 and k * 600 + 400;
        delete from shop.orders where order_id between k * 600 + 401 and k * 600 + 600;
        commit;
    end loop;
end $$
"""


@dataclass
class Result:
    """One measured run; seconds of wall and CPU, megabytes."""

    name: str
    wall: float
    client: float
    server: float
    peak_mb: float
    rows: int

    @property
    def rate(self) -> float:
        return self.rows / self.wall

    @property
    def per_cpu_second(self) -> float:
        return self.rows / (self.client + self.server)


class Stand:
    """Both servers of one run."""

    def __init__(self, stack: ExitStack) -> None:
        root = Path(tempfile.mkdtemp(prefix="lakehouse-cdc-"))
        root.chmod(0o711)
        stack.callback(shutil.rmtree, root, ignore_errors=True)
        self.home = Home(root / "home")
        self.home.create()
        self.servers: dict[str, Any] = {}
        self.children: dict[str, Child] = {}
        for name, make in ((SOURCE, source_server), (PLATFORM, platform_server)):
            server = make(self.home, Secrets.load_or_create(self.home.secrets), assign([name]).ports[name])
            child = Child.start(server.program(), self.home.log(name))
            stack.callback(child.stop)
            child.wait_ready(server.is_ready)
            server.provision()
            self.servers[name], self.children[name] = server, child

    def cpu(self) -> float:
        return sum(cpu(child.process.pid) for child in self.children.values())


def cpu(root: int) -> float:
    """CPU-seconds of a process, its reaped children and its living descendants."""
    total = 0.0
    process = psutil.Process(root)
    for one in [process, *process.children(recursive=True)]:
        try:
            times = one.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system + times.children_user + times.children_system
    return total


def _measured(work: Callable[..., int], connection: Any, arguments: tuple[Any, ...]) -> None:
    import_module("embedded.replication.worker")  # a worker is forked from a process that has done so already
    connection.send(None)
    connection.recv()
    begun, before = time.perf_counter(), time.process_time()
    rows = work(*arguments)
    wall, client = time.perf_counter() - begun, time.process_time() - before
    connection.send((rows, wall, client, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))


def in_process(stand: Stand, name: str, work: Callable[..., int], *arguments: Any) -> Result:
    """Run it in a process of its own; its imports do not count, its connections do."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_measured, args=(work, there, arguments))
    process.start()
    here.recv()
    before = stand.cpu()
    here.send(None)
    rows, wall, client, peak = here.recv()
    process.join()
    return Result(name, wall, client, stand.cpu() - before, peak, rows)


def recvlogical(stand: Stand, url: str, slot: str, end: str, rows: int) -> Result:
    info = psycopg.conninfo.conninfo_to_dict(url)
    command = [
        str(installation() / "bin" / "pg_recvlogical"),
        *("-h", str(info["host"]), "-p", str(info["port"]), "-U", SUPERUSER, "-d", str(info["dbname"])),
        *("--slot", slot, "--start", "-o", "proto_version=1", "-o", "publication_names=speed"),
        *("-f", "/dev/null", f"--endpos={end}"),
    ]
    before = stand.cpu()
    begun = time.perf_counter()
    process = subprocess.Popen(command, env={**os.environ, "PGPASSWORD": str(info["password"])})
    _, _, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - begun
    client = usage.ru_utime + usage.ru_stime
    return Result("recvlogical", wall, client, stand.cpu() - before, usage.ru_maxrss / 1024, rows)


def _job(source: dict[str, Any], destination: dict[str, Any]) -> Any:
    from embedded.replication.pipeline import Job

    connection = {"id": uuid4(), "name": "bench", "decimal_as_double": None}
    target = PostgresDestination.model_validate(destination)
    return Job(1, 1, connection, PostgresSource.model_validate(source), target, datetime.now(UTC), 0)


@contextmanager
def _reader(job: Any, state: dict[str, Any]) -> Iterator[Any]:
    """Our reader, set up as a sync does it, past its snapshot."""
    from embedded.replication.postgres.cdc.reader import ChangeReader

    config: dict[str, Any] = {"name": "orders", "namespace": "shop", "syncMode": "incremental_append"}
    config |= {"cursorField": ["_ab_cdc_lsn"], "primaryKey": [["order_id"]]}
    with tempfile.TemporaryDirectory() as folder:
        reader = ChangeReader(job, Path(folder), lambda level, text: None, lambda point: None)
        with reader:
            from embedded.replication.catalog import field
            from embedded.replication.postgres.discovery import discover

            table = discover(reader._db, ["shop"])["shop", "orders"]
            fields = [field(column) for column in table.columns]
            row = {"namespace": "shop", "name": "orders", "config": config, "fields": fields}
            identity = reader._replication.identify()
            origin = reader._db.execute(
                "select r.oid::bigint as oid from pg_publication_rel r where prrelid = 'shop.orders'::regclass"
            ).fetchone()
            assert origin is not None
            stream_state = {"oid": table.oid, "membership": origin["oid"], "point": 0, "complete": True}
            shared = {**state, "system": identity.system, "timeline": identity.timeline}
            shared |= {"epoch": 1, "streams": {"shop.orders": stream_state}}
            yield reader, reader.select([row], "ignore", shared)


def decode(source: dict[str, Any], destination: dict[str, Any], state: dict[str, Any]) -> int:
    from embedded.replication.pipeline import Checkpoint, Rows

    rows = 0
    with _reader(_job(source, destination), state) as (reader, selection):
        for event in reader.read(selection, {}, None):
            if isinstance(event, Rows):
                rows += event.batch.num_rows
            elif isinstance(event, Checkpoint):
                reader.acknowledge(event.state)
    return rows


def append(source: dict[str, Any], destination: dict[str, Any], state: dict[str, Any]) -> int:
    from embedded.replication.pipeline import Checkpoint, Rows, Target
    from embedded.replication.postgres_destination.destination import PostgresTables
    from embedded.replication.records import Records

    rows = 0
    job = _job(source, destination)
    with _reader(job, state) as (reader, selection):
        (chosen,) = selection.streams
        target = PostgresTables(None, job, lambda level, text: None, lambda point: None)  # type: ignore[arg-type]
        records = Records(chosen.fields, chosen.guarded, 1, 1)
        writer = target.writer(chosen, Target("", "orders", 1, 0), records.schema)
        for event in reader.read(selection, {}, None):
            if isinstance(event, Rows):
                rows += event.batch.num_rows
                writer.write(records.shape(event.batch, event.event))
            elif isinstance(event, Checkpoint):
                if event.last:
                    target.publish(1, event.state)
                else:
                    target.checkpoint(event.state)
                reader.acknowledge(event.state)
    return rows


def throughput(stand: Stand, changes: int, repeat: int) -> list[Result]:
    source_url, platform = stand.servers[SOURCE].superuser_dsn, stand.servers[PLATFORM].superuser_dsn
    results: list[Result] = []
    with new_source(source_url, "127.0.0.1", stand.servers[SOURCE].port) as source, new_database(platform) as url:
        server = Server(url, stand.home.log("unused"))
        with capturing(server, source, url) as capture:
            source.run(TABLE)
            source.run(CHURN)
            count = changes // 1000
            for index in range(repeat):
                first = index * count
                source.run(
                    "insert into shop.orders select i, i % 5000, 'placed', i % 1000 * 1.25,"
                    f" case when i % 7 > 0 then i % 997 * 0.5 end, i % 10, now(), now()"
                    f" from generate_series({first * 600 + 1}, {(first + count) * 600}) i"
                )
                if index == 0:
                    capture.publish("orders", slot=False)
                slots = [f"{capture.slot}_{name}" for name in ("recvlogical", "decode", "append")]
                for slot in slots:
                    source.run(f"select pg_create_logical_replication_slot('{slot}', 'pgoutput')")
                print(f"round {index + 1}: writing {changes:,} changes", flush=True)
                source.run(f"call churn({first}, {count})")
                end = source.run("select pg_current_wal_flush_lsn()::text").fetchone()[0]
                names = dict(zip(("recvlogical", "decode", "append"), slots, strict=True))
                turns = ["recvlogical", "decode", "append"]
                for name in turns[index % 3 :] + turns[: index % 3]:
                    state = {"lsn": _confirmed(source, names[name]), "snapshot_lsn": 0}
                    configuration = {**capture.source_configuration(), "username": SUPERUSER}
                    configuration["password"] = psycopg.conninfo.conninfo_to_dict(source_url("postgres"))["password"]
                    configuration["replication_method"]["replication_slot"] = names[name]
                    target = capture.speed.configuration()
                    if name == "recvlogical":
                        result = recvlogical(stand, source_url(source.database), names[name], end, changes)
                    else:
                        work = decode if name == "decode" else append
                        result = in_process(stand, name, work, configuration, target, state)
                    results.append(result)
                    print(f"  {line(result)}", flush=True)
                for slot in slots:
                    source.run("select pg_drop_replication_slot(%s)", slot)
    return results


def _confirmed(source: Any, slot: str) -> int:
    query = "select (confirmed_flush_lsn - '0/0')::bigint from pg_replication_slots where slot_name = %s"
    return int(source.run(query, slot).fetchone()[0])


def line(result: Result) -> str:
    return (
        f"{result.name:12} {result.rate / 1000:7.0f}k changes/s  wall {result.wall:6.1f} s  CPU client"
        f" {result.client:5.1f} s server {result.server:5.1f} s  peak {result.peak_mb:4.0f} MB  {result.rows:,} rows"
    )


def latency(stand: Stand, seconds: float, rate: int) -> dict[str, float]:
    """From POST /jobs to the move of the applied LSN, syncs one after the other, while changes are written."""
    source_url, platform = stand.servers[SOURCE].superuser_dsn, stand.servers[PLATFORM].superuser_dsn
    took: list[float] = []
    with (
        new_source(source_url, "127.0.0.1", stand.servers[SOURCE].port) as source,
        new_database(platform) as state,
        new_database(platform) as url,
    ):
        server = Server(state, stand.home.log("replication")).start()
        stop = threading.Event()
        try:
            with capturing(server, source, url) as capture:
                source.run(TABLE)
                capture.publish("orders")
                capture.connect(stream("orders"))
                capture.sync()
                info = source.db.info
                writer = threading.Thread(target=_write, args=[info.dsn, info.password, rate, stop])
                writer.start()
                deadline = time.monotonic() + seconds
                while time.monotonic() < deadline:
                    begun = time.perf_counter()
                    job = server.submit(capture.connection)
                    while (capture.speed.applied() or {}).get("job_id") != job:
                        time.sleep(0.005)
                    took.append(time.perf_counter() - begun)
                    server.wait(job)
                stop.set()
                writer.join()
                capture.sync()
                assert len(capture.speed.table("orders", "order_id")) == len(capture.truth("orders", "order_id"))
        finally:
            stop.set()
            server.stop()
    took.sort()
    return {"syncs": len(took), "p50": median(took), "p95": took[int(len(took) * 0.95)], "max": took[-1]}


def _write(dsn: str, password: str, rate: int, stop: threading.Event) -> None:
    """Ten transactions a second."""
    statement = (
        "insert into shop.orders select i, 1, 'placed', 1.5, null, 1, now(), now() from generate_series(%s::int, %s) i"
    )
    with psycopg.connect(dsn, password=password, autocommit=True) as db:
        number, due = 0, time.monotonic()
        while not stop.is_set():
            db.execute(statement, [number + 1, number + rate // 10])
            number += rate // 10
            due += 0.1
            time.sleep(max(0.0, due - time.monotonic()))


def summary(results: list[Result]) -> dict[str, Any]:
    def middle(name: str, value: Callable[[Result], float]) -> float:
        return median(value(result) for result in results if result.name == name)

    base = middle("recvlogical", lambda r: r.rate)
    found: dict[str, Any] = {"recvlogical_per_second": round(base)}
    for name in ("decode", "append"):
        found[f"{name}_per_second"] = round(middle(name, lambda r: r.rate))
        found[f"{name}_ratio"] = round(middle(name, lambda r: r.rate) / base, 3)
        found[f"{name}_cpu_ratio"] = round(
            middle(name, lambda r: r.per_cpu_second) / middle("recvlogical", lambda r: r.per_cpu_second), 3
        )
        found[f"{name}_peak_mb"] = round(max(r.peak_mb for r in results if r.name == name))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--changes", type=int, default=1_000_000)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--latency", type=float, default=0.0, metavar="SECONDS")
    parser.add_argument("--rate", type=int, default=200)
    options = parser.parse_args()
    with ExitStack() as stack:
        stand = Stand(stack)
        load = os.getloadavg()[0]
        found: dict[str, Any] = {"changes": options.changes, "load": round(load, 1)}
        if options.repeat:
            found |= summary(throughput(stand, options.changes, options.repeat))
        if options.latency:
            found["latency_seconds"] = latency(stand, options.latency, options.rate)
        print(json.dumps(found, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
