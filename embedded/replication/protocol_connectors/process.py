"""One run of a connector: its files, its environment, its output, and its end."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from embedded.replication.failures import SyncError

_LEASH = Path(__file__).with_name("leash.py")
_CHUNK = 1 << 20
# Nothing in the protocol is larger; Airbyte's own limit for a record is a third of it.
_LONGEST_LINE = 64 << 20
_STDERR_LINES = 200
# Only what a program needs to run, and the ways to the network that this machine uses.
INHERITED = (
    *("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE"),
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"),
)


class Process:
    """A running connector; a context manager that ends it and removes its files, whatever happens.

    Its files (configuration with secrets, catalog, state) have mode 0600 in a folder of its own; nothing of them is in
    its arguments or its environment.
    """

    def __init__(
        self,
        program: Path,
        command: str,
        files: dict[str, Any],
        folder: Path,
        *,
        silence: float,
        grace: float = 5.0,
        on_stderr: Callable[[str], None] | None = None,
        on_output: Callable[[], None] | None = None,
    ) -> None:
        """`files`: JSON values by option name (`config`). `silence`: seconds without output before it is given up."""
        self._on_output = on_output
        self._name = program.name
        self._silence = silence
        self._grace = grace
        self._on_stderr = on_stderr
        self._folder = folder / f"{program.name}-{command}-{time.monotonic_ns()}"
        self._folder.mkdir(mode=0o700)
        arguments = [command]
        for option, value in files.items():
            arguments += [f"--{option}", str(self._private_file(option, value))]
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(_LEASH), str(grace), str(program), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=self._folder,
            env=self._environment(),
            start_new_session=True,
        )
        self._stderr = threading.Thread(target=self._read_stderr, name=f"{program.name}-stderr", daemon=True)
        self._stderr.start()

    def _private_file(self, option: str, value: Any) -> Path:
        path = self._folder / f"{option}.json"
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(value, file)
        return path

    def _environment(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in INHERITED if name in os.environ}
        folder = str(self._folder)
        return {**kept, "HOME": folder, "TMPDIR": folder, "TZ": "UTC", "PYTHONUNBUFFERED": "1", "DO_NOT_TRACK": "1"}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.end()

    @property
    def group(self) -> int:
        """The process group, for people and tests."""
        return self._process.pid

    def lines(self) -> Iterator[bytes]:
        """Whole lines of stdout as they come, without their ends; a last line without one is dropped: it was cut off.

        Raises SyncError when nothing comes for too long, or when a line does not end.
        """
        assert self._process.stdout is not None
        handle = self._process.stdout.fileno()
        rest = b""
        while chunk := self._next_chunk(handle):
            if self._on_output is not None:
                self._on_output()
            *whole, rest = (rest + chunk).split(b"\n") if rest else chunk.split(b"\n")
            if len(rest) > _LONGEST_LINE:
                raise SyncError("source", "system_error", f"{self._name} sent a line of more than 64 MB.")
            yield from whole

    def _next_chunk(self, handle: int) -> bytes:
        ready, _, _ = select.select([handle], [], [], self._silence)
        if not ready:
            message = f"{self._name} sent nothing for {self._silence:.0f} s and was stopped."
            raise SyncError("source", "transient_error", message)
        return os.read(handle, _CHUNK)

    def wait(self) -> int:
        """The exit code, once its output has ended; negative signals come as 128 + number."""
        try:
            return self._process.wait(self._silence)
        except subprocess.TimeoutExpired:
            raise SyncError(
                "source", "transient_error", f"{self._name} closed its output but did not end; it was stopped."
            ) from None

    def end(self) -> None:
        """End the whole process tree and remove the files. Idempotent."""
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with suppress(OSError):
                    stream.close()  # stdin is the leash
        try:
            self._process.wait(self._grace + 5)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._stderr.join(timeout=1)
        remove_folder(self._folder)

    def _read_stderr(self) -> None:
        assert self._process.stderr is not None
        for count, line in enumerate(self._process.stderr):
            if self._on_stderr is not None and count < _STDERR_LINES:
                self._on_stderr(line.decode("utf-8", "replace").rstrip()[:2000])


def remove_folder(folder: Path) -> None:
    """Remove what a connector was given and what it left; nothing of it is worth an error."""
    import shutil

    shutil.rmtree(folder, ignore_errors=True)
