"""What `up` and `down` show while they work: a line for each service, and a sign of life at least every few seconds."""

from __future__ import annotations

import threading
import time

from rich.console import Console
from rich.markup import escape

from embedded.stack import Event

SILENCE_SECONDS = 8.0


class Progress:
    """Prints events as they come; on a terminal a last line names what is waited for, elsewhere a line now and then."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._pending: dict[str, float] = {}
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._last = time.monotonic()
        self._status = console.status("") if console.is_terminal else None
        self._thread = threading.Thread(target=self._tick, daemon=True)

    def __enter__(self) -> Progress:
        if self._status:
            self._status.start()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        if self._status:
            self._status.stop()

    def __call__(self, event: Event) -> None:
        with self._lock:
            if event.kind in ("starting", "stopping"):
                self._pending[event.service] = time.monotonic()
                return
            if event.kind != "note":
                self._pending.pop(event.service, None)
            self._print(self._line(event))

    def _line(self, event: Event) -> str:
        if event.kind == "note":
            return f"  {escape(': '.join(part for part in (event.service, event.text) if part))}"
        colour = {"ready": "green", "failed": "red"}.get(event.kind, "default")
        return f"  {event.service:<24}[{colour}]{event.kind:<8}[/] {event.seconds:6.1f} s"

    def _print(self, text: str) -> None:
        self._last = time.monotonic()
        self._console.print(text, highlight=False)

    def _tick(self) -> None:
        while not self._ended.wait(0.5):
            with self._lock:
                now = time.monotonic()
                waiting = ", ".join(f"{name} {now - since:.0f} s" for name, since in self._pending.items())
                if self._status:
                    self._status.update(f"waiting for {waiting}" if waiting else "")
                elif waiting and now - self._last > SILENCE_SECONDS:
                    self._print(f"  ... waiting for {waiting}")
