"""How long a plan over a million objects takes, and how much memory: the bars are 60 s and 500 MB.

    .venvs/airflow/bin/python benchmarks/retention/plan.py [--objects 1000000] [--old 0.2]

The listing is served by a stand-in on this machine, page by page as S3 words it: a real store would need hours to be
filled. Client, parser, rules, guards, document and ledger are those of the product; the ledger is a real PostgreSQL.
CPU and memory are those of the planning process; wall time depends on the machine's other work.
"""

from __future__ import annotations

import argparse
import datetime as dt
import resource
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

PROJECT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(PROJECT))

import psycopg  # noqa: E402

from embedded.credentials import Secrets  # noqa: E402
from embedded.home import Home  # noqa: E402
from embedded.ports import assign  # noqa: E402
from embedded.postgres import PLATFORM, platform_server  # noqa: E402
from embedded.programs import Child  # noqa: E402
from include import ledger, upkeep  # noqa: E402
from include.paths import PLATFORM as DECLARED  # noqa: E402
from include.retention import plan, report, rules  # noqa: E402
from include.retention.services import Services, connector, s3_client  # noqa: E402

PREFIX = "archive/"
RULES = """
limits: {clock_skew_seconds: 3600, clock_jump_hours: 72, plan_age_hours: 72}
rules:
  archive:
    target: prefix
    with: {bucket: lakehouse, prefix: archive/, days: 30}
    grace_hours: 20
    approve_fraction: 0.1
    approve_count: 1000
"""


def _page(first: int, count: int, total: int, old: float) -> bytes:
    """Keys from number `first`; the first part of them is old."""
    now = dt.datetime.now(dt.UTC)
    ages = [f"{now - dt.timedelta(days=days):%Y-%m-%dT%H:%M:%S.000Z}" for days in (1, 60)]
    rows = "".join(
        f"<Contents><Key>{PREFIX}{n:010d}.parquet</Key><LastModified>{ages[n < total * old]}</LastModified>"
        f"<ETag>&quot;{n:032x}&quot;</ETag><Size>1048576</Size><StorageClass>STANDARD</StorageClass></Contents>"
        for n in range(first, min(first + count, total))
    )
    more = "true" if first + count < total else "false"
    return (
        '<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        f"<Name>lakehouse</Name><IsTruncated>{more}</IsTruncated>{rows}</ListBucketResult>"
    ).encode()


@contextmanager
def store(total: int, old: float) -> Iterator[str]:
    """A process of its own: its CPU is not the planner's."""
    import multiprocessing

    ready: Any = multiprocessing.Queue()
    process = multiprocessing.get_context("fork").Process(target=_serve, args=(total, old, ready), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{ready.get()}"
    finally:
        process.kill()
        process.join()


def _serve(total: int, old: float, ready: Any) -> None:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None: ...

        def do_GET(self) -> None:
            asked = parse_qs(urlsplit(self.path).query)
            after, prefix = asked.get("start-after", [""])[0], asked.get("prefix", [""])[0]
            first = int(after.removeprefix(PREFIX)[:10]) + 1 if after else 0
            inside = prefix in ("", PREFIX)
            self._answer(_page(first if inside else total, int(asked.get("max-keys", ["1000"])[0]), total, old))

        def do_PUT(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self._answer(b"")

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            name = b"CompleteMultipartUploadResult" if "uploadId" in self.path else b"InitiateMultipartUploadResult"
            self._answer(b"<" + name + b"><UploadId>1</UploadId></" + name + b">")

        def _answer(self, body: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("ETag", '"0"')
            self.end_headers()
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=lambda: ready.put(server.server_address[1])).start()
    server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objects", type=int, default=1_000_000)
    parser.add_argument("--old", type=float, default=0.2)
    asked = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="lakehouse-benchmark-"))
    folder.chmod(0o711)
    home = Home(folder / "home")
    home.create()
    server = platform_server(home, Secrets.load_or_create(home.secrets), assign([PLATFORM]).ports[PLATFORM])
    child = Child.start(server.program(), home.log(PLATFORM))
    try:
        child.wait_ready(server.is_ready, timeout=120)
        server.provision()
        with store(asked.objects, asked.old) as url:
            _measure(asked.objects, server.dsn("lakehouse", "lakehouse"), url, folder)
    finally:
        child.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _measure(objects: int, dsn: str, url: str, folder: Path) -> None:
    with psycopg.connect(dsn, row_factory=psycopg.rows.dict_row) as conn:
        ledger.migrate(conn, DECLARED / "postgres" / "ledger")
    file = folder / "retention.yaml"
    file.write_text(RULES)
    services = Services(ledger=connector(dsn), s3=s3_client(url, "key", "secret"))
    before, begun, used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic(), time.process_time()
    with upkeep.turn(services.ledger, "benchmark") as turn:
        number = plan.make(services, rules.load(file), "benchmark", turn)
    seconds, cpu = time.monotonic() - begun, time.process_time() - used
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with services.ledger() as conn:
        print(report.markdown(report.read(conn, number)))
    memory = f"peak {peak / 1000:.0f} MB ({before / 1000:.0f} MB before)"
    print(f"{objects} objects: {seconds:.1f} s, {cpu:.1f} CPU-s, {memory}")


if __name__ == "__main__":
    main()
