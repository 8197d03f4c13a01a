"""What sealing, signing and checking cost: our base backup and dump beside plain pg_basebackup and pg_dump -Fc.

    .venvs/airflow/bin/python -m benchmarks.backup.run [--megabytes 400] [--rounds 3]

CPU seconds are those of the program, of its children and of the PostgreSQL server; the object store that ours goes to
(the peers write files) is told apart. Rounds alternate, so that a busy machine is busy for all; ratios are of the
medians. `--naive`: what the usual script would restore from copies that were damaged as ours are in the tests.
"""

from __future__ import annotations

import argparse
import gzip
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psutil
import psycopg

from embedded.credentials import Secrets
from embedded.home import Home
from embedded.object_store import NAME, PORT_NAMES, PORT_OFFSETS, object_store
from embedded.ports import assign
from embedded.postgres import SOURCE, source_server
from embedded.programs import Child
from include.backup import postgres, programs, scratch, sets
from include.backup.manifest import File
from include.backup.point import Point, hashes, prepare
from include.backup.sealed import Key
from include.backup.settings import Instance, Login
from include.backup.store import Store

DATA = """
create table retail.lines as
select i as id, md5(i::text) as code, 'article number ' || i % 5000 as article, (i % 977)::numeric / 100 as price,
       timestamptz '2026-01-01' + i * interval '1 second' as at
from generate_series(1, {rows}) as i
"""
ROW_BYTES = 120


@contextmanager
def servers() -> Iterator[tuple[Any, Any, dict[str, Child]]]:
    root = Path(tempfile.mkdtemp(prefix="lakehouse-benchmark-"))
    root.chmod(0o711)
    home = Home(root / "home")
    home.create()
    secrets = Secrets.load_or_create(home.secrets)
    ports = assign([SOURCE, *PORT_NAMES], offsets={k: v for k, v in PORT_OFFSETS.items() if k in PORT_NAMES}).ports
    source = source_server(home, secrets, ports[SOURCE])
    store = object_store(home, secrets, ports)
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, root, ignore_errors=True)
        children = {}
        for name, server in ((SOURCE, source), (NAME, store)):
            children[name] = Child.start(server.program(), home.log(name))
            stack.callback(children[name].stop)
            children[name].wait_ready(server.is_ready, 120)
            server.provision()
        yield source, store, children


def cpu(pid: int | None = None) -> float:
    """Seconds of a process, of its living children and of those that have ended."""
    process = psutil.Process(pid)
    total = 0.0
    for one in (process, *process.children(recursive=True)):
        try:
            times = one.cpu_times()
        except psutil.Error:
            continue
        total += times.user + times.system
    mine = process.cpu_times()
    return total + mine.children_user + mine.children_system


def measured(action: Callable[[], int], server: int, store: int) -> dict[str, float]:
    before = (cpu(), cpu(server), cpu(store), time.monotonic())
    size = action()
    wall = time.monotonic() - before[3]
    return {
        "program": cpu() - before[0],
        "server": cpu(server) - before[1],
        "store": cpu(store) - before[2],
        "wall": wall,
        "bytes": float(size),
    }


def peers(source: Any, ours: Instance, found: programs.Programs, folder: Path) -> dict[str, Callable[[], int]]:
    def run(output: Path, *argv: str) -> int:
        subprocess.run(argv, env=ours.environment(), check=True, stderr=subprocess.DEVNULL)
        return output.stat().st_size

    base, dump = folder / "base", folder / "dump"

    def base_backup() -> int:
        shutil.rmtree(base, ignore_errors=True)
        common = ("--dbname", ours.address(), "--format", "tar", "--wal-method", "none", "--checkpoint", "fast")
        return run(base / "base.tar", found.path("pg_basebackup"), *common, "--pgdata", str(base))

    def pg_dump() -> int:
        return run(dump, found.path("pg_dump"), "-Fc", "-f", str(dump), "--dbname", ours.address("retail"))

    return {"pg_basebackup": base_backup, "pg_dump -Fc": pg_dump}


def own(store: Store, key: Key, ours: Instance, found: programs.Programs) -> dict[str, Callable[[], int]]:
    def base_backup() -> int:
        writer, files = sets.SetWriter(store, key, sets.new_id()), list[File]()
        with writer.file("part", postgres.BASE, files) as file:
            postgres.base_backup(ours, found, file, None)
        return sum(one.size for one in files[0].segments)

    def dump() -> int:
        writer, files = sets.SetWriter(store, key, sets.new_id()), list[File]()
        with psycopg.connect(ours.dsn("retail")) as session:
            session.execute("set transaction isolation level repeatable read")
            point = Point("0/0", {"retail": session})
            postgres.dump(writer, files, "part", ours, found, point, "retail")
        return sum(one.size for one in files[0].segments)

    return {"pg_basebackup": base_backup, "pg_dump -Fc": dump}


def compare(megabytes: int, rounds: int) -> None:
    found, folder = programs.find(), Path(tempfile.mkdtemp(prefix="lakehouse-benchmark-"))
    with servers() as (source, store_, children):
        store_.client("s3").create_bucket(Bucket="benchmark")
        store = Store(store_.endpoint_url, "benchmark", store_.access_key, store_.secret_key)
        key = Key.parse(Key.generate(), "the benchmark")
        ours = Instance(
            "source", Login("b", "127.0.0.1", source.port, "backup", source.layout.roles["backup"].password)
        )
        with psycopg.connect(source.superuser_dsn("retail"), autocommit=True) as session:
            session.execute(DATA.format(rows=megabytes * 1_000_000 // ROW_BYTES).encode())
            session.execute("checkpoint")
        pids = (children[SOURCE].process.pid, children[NAME].process.pid)
        theirs, mine = peers(source, ours, found, folder), own(store, key, ours, found)
        for name in theirs:
            results: dict[str, list[dict[str, float]]] = {"theirs": [], "ours": []}
            for _ in range(rounds):
                results["theirs"].append(measured(theirs[name], *pids))
                results["ours"].append(measured(mine[name], *pids))
            report(name, results)
    shutil.rmtree(folder, ignore_errors=True)


def report(name: str, results: dict[str, list[dict[str, float]]]) -> None:
    totals = {}
    for side, runs in results.items():
        middle = {field: statistics.median(run[field] for run in runs) for field in runs[0]}
        totals[side] = middle["program"] + middle["server"]
        print(
            f"{name:14} {side:7} CPU {totals[side]:6.2f} s (program {middle['program']:.2f}, server "
            f"{middle['server']:.2f}), store {middle['store']:.2f} s, wall {middle['wall']:.2f} s, "
            f"{middle['bytes'] / 1e6:.0f} MB written"
        )
    print(f"{name:14} CPU ratio {totals['ours'] / totals['theirs']:.2f} (bar 1.30)\n", flush=True)


def naive(times: int) -> None:
    """pg_dumpall, plain and zipped: how many damaged copies load without an error, and hold other rows."""
    found = programs.find()
    with scratch.empty(found) as server:
        with psycopg.connect(server.dsn(), autocommit=True) as session:
            session.execute("create schema retail")
            session.execute(DATA.format(rows=20_000).encode())
        plain = found.run("pg_dumpall", "--dbname", server.dsn()).encode()
        expected = rows(server)
    for name, damage in (("bit flipped", flip), ("cut off", cut)):
        chance, wrong, told = random.Random(7), 0, 0
        for _ in range(times):
            ok, same = load(found, damage(plain, chance), expected)
            told += not ok
            wrong += ok and not same
        print(f"pg_dumpall.sql  {name:12} {times} times: {wrong} restored wrong data without an error, {told} said so")
    chance, told = random.Random(7), 0
    zipped = gzip.compress(plain)
    for _ in range(times):
        try:
            told += gzip.decompress(flip(zipped, chance)) != plain
        except Exception:
            told += 1
    print(f"pg_dumpall.sql.gz bit flipped {times} times: {told} found, if somebody unpacks it before it is needed")


def flip(data: bytes, chance: random.Random) -> bytes:
    changed = bytearray(data)
    changed[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def cut(data: bytes, chance: random.Random) -> bytes:
    return data[: chance.randrange(len(data) // 2, len(data))]


def load(found: programs.Programs, text: bytes, expected: Any) -> tuple[bool, bool]:
    """Whether psql says that all is well, and whether the rows are those that were dumped."""
    with scratch.empty(found) as server:
        file = server.folder / "dump.sql"
        # What the script itself makes fail on a fresh server.
        file.write_bytes(text.replace(b"CREATE ROLE postgres;", b""))
        done = subprocess.run(
            [found.path("psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", server.dsn(), "-f", str(file)],
            capture_output=True,
            check=False,
        )
        try:
            return done.returncode == 0, rows(server) == expected
        except psycopg.Error:
            return done.returncode == 0, False


def rows(server: scratch.Scratch) -> Any:
    with psycopg.connect(server.dsn()) as session:
        prepare(session)
        return hashes(session)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--naive", type=int, metavar="TIMES", default=0)
    given = parser.parse_args()
    print(f"{os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}, Python {sys.version.split()[0]}")
    naive(given.naive) if given.naive else compare(given.megabytes, given.rounds)


if __name__ == "__main__":
    main()
