"""How long deferred syncs keep the triggerer's event loop from everything else: ours beside the official trigger.

    PYTHONPATH=.:plugins .venvs/airflow/bin/python benchmarks/triggerer/run.py [--waits 20] [--latency 0.5]

A server answers each request after `latency` seconds. `waits` triggers share one loop with a task that only wants to
run every millisecond; the longest time it had to wait is what any other deferred task suffers. A loop without triggers
stands beside them: what is left then is the machine's doing, and the CPU that was spent is ours alone.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import import_module
from typing import Any

JOB = {
    "jobId": 1,
    "status": "running",
    "jobType": "sync",
    "connectionId": "c0000000-0000-0000-0000-000000000001",
    "startTime": "2026-01-01T12:00:00Z",
}


def serve(latency: float) -> int:
    """Start the slow server; gives its port."""

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("content-length") or 0))
            token = self.path.endswith("/token")
            time.sleep(0 if token else latency)
            body = {"access_token": "t", "token_type": "Bearer", "expires_in": 900} if token else JOB
            data = json.dumps(body).encode()
            with suppress(BrokenPipeError):  # who asked was cancelled
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

        do_GET = do_POST = answer

        def log_message(self, *_: Any) -> None:
            """Nothing is printed."""

    class Server(ThreadingHTTPServer):
        request_queue_size = 128  # with five, the standard, some of twenty that come at once are turned away

    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return int(server.server_address[1])


async def longest_hold(triggers: list[Any], seconds: float) -> tuple[float, float]:
    """The longest time that a task of the same loop was kept from running, and the most CPU spent in such a time."""
    waits = [asyncio.ensure_future(anext(aiter(trigger.run()))) for trigger in triggers]
    worst, most, end = 0.0, 0.0, time.monotonic() + seconds
    while (begun := time.monotonic()) < end:
        spent = time.thread_time()
        await asyncio.sleep(0.001)
        worst, most = max(worst, time.monotonic() - begun), max(most, time.thread_time() - spent)
    for wait in waits:
        wait.cancel()
    await asyncio.gather(*waits, return_exceptions=True)
    return worst, most


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--waits", type=int, default=20)
    parser.add_argument("--latency", type=float, default=0.5)
    parser.add_argument("--seconds", type=float, default=10.0)
    options = parser.parse_args()
    host = f"http://127.0.0.1:{serve(options.latency)}/api/public/v1"
    connection = {"conn_type": "airbyte", "host": host, "login": "id", "password": "secret", "extra": {"timeout": 60}}
    os.environ["AIRFLOW_CONN_AIRBYTE"] = json.dumps(connection)
    ours = import_module("lakehouse_providers.airbyte.triggers").AirbyteJobTrigger
    official = import_module("airflow.providers.airbyte.triggers.airbyte").AirbyteSyncTrigger
    end = time.time() + 3600
    contenders: dict[str, Callable[[], list[Any]]] = {
        "nothing": list,
        "ours": lambda: [ours(1, "airbyte", interval=1.0) for _ in range(options.waits)],
        "official": lambda: [official(1, "airbyte", end, 1.0) for _ in range(options.waits)],
    }
    for make in contenders.values():
        asyncio.run(longest_hold(make()[:1], 2.0))  # what is imported at first use
    print(f"{options.waits} waits, {options.latency} s a reply; the loop's longest hold in ms, and the CPU in it")
    for name, make in contenders.items():
        wall, cpu = asyncio.run(longest_hold(make(), options.seconds))
        print(f"{name:10}{wall * 1000:10.0f}{cpu * 1000:10.0f}", flush=True)
    print(f"load average {os.getloadavg()}")


if __name__ == "__main__":
    main()
