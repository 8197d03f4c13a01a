"""What sealing, signing and checking cost: our base backup and dump beside plain pg_basebackup and pg_dump -Fc.

    .venvs/airflow/bin/python -m benchmarks.backup.run [--megabytes 400] [--rounds 3]

Ours goes to an object store. Peers: the plain program, to a file of this machine; and, where it ends in the same store,
piped into `rclone rcat`. CPU seconds are those of the program, of its children and of the PostgreSQL server; the object
store's are told apart. Rounds alternate, so that a busy machine is busy for all; ratios are of the medians. `--naive`:
what the usual script would restore from copies that were damaged as ours are in the tests.
"""

from __future__ import annotations

import argparse
import gzip
import os
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import psycopg

from benchmarks.backup import rclone
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
BASE, DUMP = "base backup", "dump"


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


def cpu(pid: int) -> float:
    """Seconds of a server, of its living children and of those that have ended."""
    process = psutil.Process(pid)
    total = 0.0
    for one in (process, *process.children(recursive=True)):
        with suppress(psutil.Error):
            total += sum(one.cpu_times()[:2])
    times = process.cpu_times()
    return total + times.children_user + times.children_system


def own_cpu() -> float:
    """Seconds of this process and of the programs that it has run to their end: not of the servers, which go on."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def measured(action: Callable[[], int], server: int, store: int) -> dict[str, float]:
    before = (own_cpu(), cpu(server), cpu(store), time.monotonic())
    size = action()
    wall = time.monotonic() - before[3]
    return {
        "program": own_cpu() - before[0],
        "server": cpu(server) - before[1],
        "store": cpu(store) - before[2],
        "wall": wall,
        "bytes": float(size),
    }


def peers(
    store: Any, ours: Instance, found: programs.Programs, folder: Path
) -> dict[str, tuple[str, Callable[[], int]]]:
    """By name: the comparison's kind, and what the peer does; it gives the bytes that it has written."""
    file, copier = folder / "backup", rclone.install(folder)
    base = [found.path("pg_basebackup"), "--dbname", ours.address(), "--format", "tar", "--wal-method", "none"]
    base += ["--checkpoint", "fast", "--pgdata"]

    def to_folder() -> int:
        shutil.rmtree(file, ignore_errors=True)
        subprocess.run([*base, str(file)], env=ours.environment(), check=True, stderr=subprocess.DEVNULL)
        return (file / "base.tar").stat().st_size

    def to_store() -> int:
        with subprocess.Popen(
            [*base, "-"], env=ours.environment(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as sender:
            subprocess.run(
                [copier, "rcat", "store:benchmark/peer"],
                env=rclone.environment(folder, {"store": store}),
                stdin=sender.stdout,
                check=True,
            )
        if sender.returncode:
            raise SystemExit("pg_basebackup failed")
        return int(store.client("s3").head_object(Bucket="benchmark", Key="peer")["ContentLength"])

    def dump() -> int:
        argv = [found.path("pg_dump"), "-Fc", "-f", str(file), "--dbname", ours.address("retail")]
        shutil.rmtree(file, ignore_errors=True)
        subprocess.run(argv, env=ours.environment(), check=True, stderr=subprocess.DEVNULL)
        return file.stat().st_size

    return {
        "pg_basebackup": (BASE, to_folder),
        "pg_basebackup | rclone rcat": (BASE, to_store),
        "pg_dump -Fc": (DUMP, dump),
    }


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

    return {BASE: base_backup, DUMP: dump}


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
        mine = own(store, key, ours, found)
        for name, (kind, theirs) in peers(store_, ours, found, folder).items():
            results: dict[str, list[dict[str, float]]] = {"theirs": [], "ours": []}
            for _ in range(rounds):
                results["theirs"].append(measured(theirs, *pids))
                results["ours"].append(measured(mine[kind], *pids))
            report(name, results)
    shutil.rmtree(folder, ignore_errors=True)


def report(name: str, results: dict[str, list[dict[str, float]]]) -> None:
    totals = {}
    for side, runs in results.items():
        middle = {field: statistics.median(run[field] for run in runs) for field in runs[0]}
        totals[side] = middle["program"] + middle["server"]
        print(
            f"{name:27} {side:7} CPU {totals[side]:6.2f} s (program {middle['program']:.2f}, server "
            f"{middle['server']:.2f}), store {middle['store']:.2f} s, wall {middle['wall']:.2f} s, "
            f"{middle['bytes'] / 1e6:.0f} MB written"
        )
    print(f"{name:27} CPU ratio {totals['ours'] / totals['theirs']:.2f} (bar 1.30)\n", flush=True)


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
