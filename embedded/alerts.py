"""The receiver of alerts: keeps every message that is posted to it as one line of `alerts.jsonl`.

It stands where a team has its chat or paging service. Whoever posts gives the user and password of the Airflow
connection `alerts` (HTTP basic authentication).
"""

from __future__ import annotations

import base64
import binascii
import json
import logging
import os
import secrets
import threading
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from embedded.ports import HOST

NAME = "alerts"
USER = "airflow"
PATH = "/alerts"
FILE = "alerts.jsonl"
LARGEST_BYTES = 1_000_000

logger = logging.getLogger(__name__)


class Receiver:
    """Appends each message, as it came, to one file; it is answered only after it lies on the disk."""

    def __init__(self, file: Path, password: str) -> None:
        self._file = file
        self._password = password
        self._lock = threading.Lock()

    def application(self) -> Starlette:
        return Starlette(
            routes=[
                Route(PATH, self._receive, methods=["POST"]),
                Route("/health", self._health, methods=["GET"]),
            ]
        )

    async def _health(self, request: Request) -> Response:
        return JSONResponse({"status": "healthy"})

    async def _receive(self, request: Request) -> Response:
        if not self._is_allowed(request.headers.get("authorization", "")):
            return JSONResponse({"error": "give the user and password of the connection `alerts`"}, status_code=401)
        body = await request.body()
        if len(body) > LARGEST_BYTES:
            return JSONResponse({"error": f"more than {LARGEST_BYTES} bytes"}, status_code=413)
        try:
            message = json.loads(body)
        except ValueError as error:
            return JSONResponse({"error": f"the body is not JSON: {error}"}, status_code=400)
        line = json.dumps(message)
        self._append(line)
        kind = message.get("kind") if isinstance(message, dict) else None
        logger.warning("alert %s: %s", kind, line[:500])
        return JSONResponse({"status": "kept"})

    def _append(self, line: str) -> None:
        with self._lock, self._file.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
            file.flush()
            os.fsync(file.fileno())

    def _is_allowed(self, header: str) -> bool:
        scheme, _, encoded = header.partition(" ")
        if scheme.lower() != "basic":
            return False
        try:
            user, _, password = base64.b64decode(encoded, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return False
        same_user = secrets.compare_digest(user.encode(), USER.encode())
        return secrets.compare_digest(password.encode(), self._password.encode()) and same_user


def main() -> None:
    """Reads LAKEHOUSE_ALERTS_PORT, LAKEHOUSE_ALERTS_PASSWORD and LAKEHOUSE_ALERTS_FILE."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    receiver = Receiver(Path(os.environ["LAKEHOUSE_ALERTS_FILE"]), os.environ["LAKEHOUSE_ALERTS_PASSWORD"])
    uvicorn.run(
        receiver.application(), host=HOST, port=int(os.environ["LAKEHOUSE_ALERTS_PORT"]), access_log=False, workers=1
    )


if __name__ == "__main__":
    main()
