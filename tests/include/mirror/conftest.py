"""Two real object stores with a bucket each of their own, and a proxy that spoils what passes between."""

from __future__ import annotations

import contextlib
import http.client
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import pytest

from include import ledger, upkeep
from include.mirror import run, spec
from include.mirror.run import Sites
from include.retention.services import connector, s3_client


@dataclass
class Proxy:
    """Stands before a store. `spoil` gets method and path, and names what is done to the exchange, None for nothing.

    cut-request: half of a body reaches the store, which is asked for nothing more; the client hears 200.
    cut-reply: half of a body comes back, with a length to match. throttle: 503 SlowDown.
    """

    backend: str
    spoil: Callable[[str, str], str | None] = field(default=lambda method, path: None)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


def _handler(proxy: Proxy) -> type[BaseHTTPRequestHandler]:
    target = urlsplit(proxy.backend)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None: ...

        def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes, length: int | None = None) -> None:
            self.send_response(status)
            for name, value in headers:
                if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(body) if length is None else length))
            self.end_headers()
            with contextlib.suppress(BrokenPipeError):
                self.wfile.write(body)

        def _pass(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            what = proxy.spoil(self.command, self.path)
            if what == "throttle":
                error = b"<Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>"
                self._answer(503, [("Content-Type", "application/xml")], error)
                return
            if what == "cut-request":
                self._answer(200, [("ETag", '"0"')], b"")
                return
            upstream = http.client.HTTPConnection(str(target.hostname), target.port, timeout=60)
            upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                upstream.putheader(name, value)
            upstream.endheaders(body)
            reply = upstream.getresponse()
            data = reply.read()
            if what == "cut-reply":
                data = data[: len(data) // 2]
            length = int(reply.headers["Content-Length"] or 0) if self.command == "HEAD" else None
            self._answer(reply.status, reply.getheaders(), data, length)
            upstream.close()

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _pass

    return Handler


@contextlib.contextmanager
def proxied(backend: str) -> Iterator[Proxy]:
    proxy = Proxy(backend)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(proxy))
    server.daemon_threads = True
    proxy.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@dataclass
class Site:
    """`run`: one run, as the DAG does it."""

    sites: Sites
    mirror: spec.Mirror
    bucket: str
    lake_store: Any
    offsite_store: Any

    def run(self, *, sites: Sites | None = None, **options: Any) -> run.Counts:
        with upkeep.turn(self.sites.ledger, "test", name=run.LEASE) as turn:
            return run.sync(sites or self.sites, self.mirror, "test", turn, **options)[self.bucket]

    def put(self, key: str, body: bytes) -> None:
        self.sites.lake.put_object(Bucket=self.bucket, Key=key, Body=body)

    def copies(self, folder: str = "current") -> dict[str, bytes]:
        """What the other site holds of this bucket, by key."""
        client, found = self.sites.offsite, {}
        for item in client.list_objects_v2(Bucket=self.mirror.bucket, Prefix=f"{folder}/").get("Contents", ()):
            marker = f"/{self.bucket}/"
            if marker in item["Key"]:
                body = client.get_object(Bucket=self.mirror.bucket, Key=item["Key"])["Body"].read()
                found[item["Key"].partition(marker)[2]] = body
        return found

    def ledger(self) -> dict[str, bool]:
        """Keys that the ledger says are copied, and whether each was read back."""
        with self.sites.ledger() as conn:
            rows = conn.execute(
                "select key, verified_at from lakehouse.mirror_objects where bucket = %s", [self.bucket]
            ).fetchall()
        return {row["key"]: row["verified_at"] is not None for row in rows}

    def last(self) -> dict[str, Any]:
        with self.sites.ledger() as conn:
            row = conn.execute(
                "select * from lakehouse.mirror_runs where bucket = %s order by run_id desc limit 1", [self.bucket]
            ).fetchone()
        assert row is not None
        return row

    def through(self, *, lake: str | None = None, offsite: str | None = None) -> Sites:
        """The same sites behind other addresses."""
        one, other = self.lake_store, self.offsite_store
        return replace(
            self.sites,
            lake=s3_client(lake, one.access_key, one.secret_key) if lake else self.sites.lake,
            offsite=s3_client(offsite, other.access_key, other.secret_key) if offsite else self.sites.offsite,
        )


@pytest.fixture
def site(conn: ledger.Connection, platform_postgres: Any, object_store: Any, offsite_store: Any) -> Iterator[Site]:
    conn.commit()
    lake = s3_client(object_store.endpoint_url, object_store.access_key, object_store.secret_key)
    offsite = s3_client(offsite_store.endpoint_url, offsite_store.access_key, offsite_store.secret_key)
    bucket = f"mirrored-{uuid.uuid4().hex[:12]}"
    lake.create_bucket(Bucket=bucket)
    mirror = replace(spec.load(), sources=(bucket,), delete_count=2, delete_fraction=0.0)
    sites = Sites(connector(platform_postgres.dsn("lakehouse", "lakehouse")), lake, offsite)
    yield Site(sites, mirror, bucket, object_store, offsite_store)
    for item in lake.list_objects_v2(Bucket=bucket).get("Contents", ()):
        lake.delete_object(Bucket=bucket, Key=item["Key"])
    lake.delete_bucket(Bucket=bucket)
