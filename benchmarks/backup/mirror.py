"""CPU and throughput of the off-site mirror beside `rclone sync`, in one run; the bar is 1.3 times its CPU.

    .venvs/airflow/bin/python benchmarks/backup/mirror.py [--large 60] [--small 500] [--repeat 3]

Two object stores and PostgreSQL are started here and taken down again. `large` objects have 8 MB, `small` ones 20 kB.
Three comparisons, each in processes of their own whose CPU is taken from wait4:

- copy: ours with lengths, SHA-256 and MD5 checked, beside `rclone sync --checksum`;
- copy and read back: ours as it runs, beside `rclone sync` and `rclone check --download`;
- nothing new: what a run costs when nothing has changed.

The stores' CPU is shown beside. Wall times depend on the machine's other work; CPU-seconds less, ratios least.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

PROJECT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(PROJECT))

import psutil  # noqa: E402
import psycopg  # noqa: E402

from benchmarks.backup import rclone  # noqa: E402
from embedded.credentials import Secrets  # noqa: E402
from embedded.home import Home  # noqa: E402
from embedded.object_store import (  # noqa: E402
    OFFSITE_PORTS,
    PORT_NAMES,
    PORT_OFFSETS,
    ObjectStore,
    object_store,
    offsite_store,
)
from embedded.ports import assign  # noqa: E402
from embedded.postgres import PLATFORM, platform_server  # noqa: E402
from embedded.programs import Child  # noqa: E402
from include import ledger  # noqa: E402
from include.paths import PLATFORM as DECLARED  # noqa: E402

BUCKET = "lakehouse"
OURS = """
import sys
from dataclasses import replace
from include import upkeep
from include.mirror import run, spec
from include.retention.services import connector, s3_client
read_back, dsn, *stores = sys.argv[1:]
sites = run.Sites(connector(dsn), s3_client(*stores[:3]), s3_client(*stores[3:]))
mirror = replace(spec.load(), sources=("lakehouse",))
if read_back == "no":
    run._Run._read_back = lambda self, conn: None
else:
    run._READ_BACK_NEW = 1_000_000
with upkeep.turn(sites.ledger, "benchmark", name=run.LEASE) as turn:
    run.sync(sites, mirror, "benchmark", turn)
"""


@dataclass
class Stand:
    lake: ObjectStore
    offsite: ObjectStore
    pids: list[int]
    dsn: str
    folder: Path
    rclone: str

    def stores_cpu(self) -> float:
        return sum(sum(psutil.Process(pid).cpu_times()[:2]) for pid in self.pids)

    def environment(self) -> dict[str, str]:
        return rclone.environment(self.folder, {"lake": self.lake, "offsite": self.offsite})

    def ours(self, read_back: bool) -> Sequence[str]:
        stores = [v for s in (self.lake, self.offsite) for v in (s.endpoint_url, s.access_key, s.secret_key)]
        return [sys.executable, "-c", OURS, "yes" if read_back else "no", self.dsn, *stores]

    def theirs(self, command: str, *options: str) -> Sequence[str]:
        places = [f"lake:{BUCKET}", "offsite:lakehouse-mirror/rclone"]
        return [self.rclone, command, *places, "--transfers", "4", "--checkers", "4", *options]

    def forget(self) -> None:
        """The other site is empty again, and the ledger knows it."""
        s3 = self.offsite.client("s3")
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket="lakehouse-mirror"):
            keys = [{"Key": item["Key"]} for item in page.get("Contents", ())]
            if keys:
                s3.delete_objects(Bucket="lakehouse-mirror", Delete={"Objects": keys, "Quiet": True})
        with psycopg.connect(self.dsn) as conn:
            conn.execute("truncate lakehouse.mirror_objects, lakehouse.mirror_runs")


@dataclass
class Result:
    """Seconds."""

    wall: float
    cpu: float
    stores: float


def measure(stand: Stand, *commands: Sequence[str]) -> Result:
    stores, begun, cpu = stand.stores_cpu(), time.monotonic(), 0.0
    environment = {**stand.environment(), "PYTHONPATH": f"{PROJECT}:{PROJECT / 'plugins'}"}
    for command in commands:
        log = stand.folder / "client.log"
        with log.open("wb") as output:
            process = subprocess.Popen(command, cwd=PROJECT, env=environment, stdout=output, stderr=output)
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"{command[0]} failed:\n{log.read_text()[-3000:]}")
        cpu += usage.ru_utime + usage.ru_stime
    return Result(time.monotonic() - begun, cpu, stand.stores_cpu() - stores)


def fill(store: ObjectStore, large: int, small: int) -> int:
    s3, size = store.client("s3"), 0
    for number in range(large + small):
        body = os.urandom(8_000_000 if number < large else 20_000)
        s3.put_object(Bucket=BUCKET, Key=f"bronze/retail/orders/{number:06d}.parquet", Body=body)
        size += len(body)
    return size


def _start(stack: ExitStack, program: Any, log: Path, ready: Any) -> int:
    child = Child.start(program, log)
    stack.callback(child.stop)
    child.wait_ready(ready, timeout=120)
    return child.process.pid


def stand(stack: ExitStack) -> Stand:
    folder = Path(tempfile.mkdtemp(prefix="lakehouse-benchmark-"))
    stack.callback(shutil.rmtree, folder, ignore_errors=True)
    folder.chmod(0o711)
    home = Home(folder / "home")
    home.create()
    secrets = Secrets.load_or_create(home.secrets)
    names = [PLATFORM, *PORT_NAMES, *OFFSITE_PORTS.values()]
    ports = assign(names, offsets=PORT_OFFSETS).ports
    server = platform_server(home, secrets, ports[PLATFORM])
    _start(stack, server.program(), home.log(PLATFORM), server.is_ready)
    server.provision()
    with psycopg.connect(server.dsn("lakehouse", "lakehouse"), row_factory=psycopg.rows.dict_row) as conn:
        ledger.migrate(conn, DECLARED / "postgres" / "ledger")
    stores, pids = (object_store(home, secrets, ports), offsite_store(home, secrets, ports)), []
    for store in stores:
        pids.append(_start(stack, store.program(), home.log(store.name), store.is_ready))
        stack.callback(store.remove_sockets)
        store.provision()
    return Stand(*stores, pids, server.dsn("lakehouse", "lakehouse"), folder, rclone.install(folder))


def _show(name: str, size: int, ours: list[Result], theirs: list[Result]) -> None:
    for label, results in (("ours", ours), ("rclone", theirs)):
        wall, cpu, stores = (median(getattr(one, key) for one in results) for key in ("wall", "cpu", "stores"))
        print(f"{name:<20} {label:<7} {size / wall / 1e6:7.1f} MB/s {cpu:7.2f} CPU-s, stores {stores:6.2f} CPU-s")
    ratios = [one.cpu / other.cpu for one, other in zip(ours, theirs, strict=True)]
    print(f"{name:<20} CPU, ours to rclone's: {median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--large", type=int, default=60)
    parser.add_argument("--small", type=int, default=500)
    parser.add_argument("--repeat", type=int, default=3)
    asked = parser.parse_args()
    with ExitStack() as stack:
        place = stand(stack)
        size = fill(place.lake, asked.large, asked.small)
        print(f"{asked.large} objects of 8 MB and {asked.small} of 20 kB, {size / 1e6:.0f} MB\n")
        sync = place.theirs("sync", "--checksum")
        check = place.theirs("check", "--download")
        pairs: dict[str, tuple[list[Result], list[Result]]] = {}
        for _ in range(asked.repeat):
            for name, read_back, peers in (("copy", False, [sync]), ("copy and read back", True, [sync, check])):
                place.forget()
                ours, theirs = pairs.setdefault(name, ([], []))
                ours.append(measure(place, place.ours(read_back)))
                theirs.append(measure(place, *peers))
            ours, theirs = pairs.setdefault("nothing new", ([], []))
            ours.append(measure(place, place.ours(False)))
            theirs.append(measure(place, sync))
        for name, (mine, others) in pairs.items():
            _show(name, size, mine, others)


if __name__ == "__main__":
    main()
