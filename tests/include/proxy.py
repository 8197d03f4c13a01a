"""A proxy before a real object store that spoils what passes between."""

from __future__ import annotations

import contextlib
import http.client
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit


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
