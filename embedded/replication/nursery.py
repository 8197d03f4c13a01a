"""Worker processes without their start-up time: `python -m embedded.replication.nursery FD`.

Importing Arrow, DuckDB and boto3 takes longer than a short sync. So one process imports them, starts no thread, and
forks for each attempt. A worker forked there is what it was as a program of its own: a session and process group of its
own that ends with a kill, memory that goes back when it ends, stdin that closes when the server is gone.

Protocol, JSON lines over the socket FD: the server sends `{"arguments": [...], "options": "..."}`; the nursery answers
each with `{"pid": N}` in order, and with `{"pid": N, "code": C}` when a worker ended (as subprocess.returncode has it).
"""

from __future__ import annotations

import gc
import json
import logging
import os
import selectors
import signal
import socket
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib import import_module
from typing import Any

from embedded.replication.protocol import OPTIONS

log = logging.getLogger(__name__)

_SPAWN_SECONDS = 60.0
_LOST = 255


class Worker:
    """A worker as the server sees it."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._ended = threading.Event()

    def poll(self) -> int | None:
        return self.returncode

    def wait(self, timeout: float | None = None) -> int | None:
        self._ended.wait(timeout)
        return self.returncode

    def end(self, code: int) -> None:
        self.returncode = code
        self._ended.set()

    def kill(self) -> None:
        """End its whole process group; it may have ended by itself."""
        if self.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)


class Nursery:
    """The server's end. The process behind it is started when it is first needed, and again if it was killed."""

    def __init__(self, environment: Callable[[], Mapping[str, str]], ended: Callable[[], None]) -> None:
        """`environment`: of all workers; `ended` is called whenever one of them has ended."""
        self._environment = environment
        self._ended = ended
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._asked: deque[tuple[threading.Event, list[Worker]]] = deque()
        self._workers: dict[int, Worker] = {}

    def start(self) -> None:
        """Load the libraries now, so that the first job need not wait for them."""
        with self._lock:
            self._ready()

    def spawn(self, arguments: list[str], options: str) -> Worker:
        """Fork a worker; raises OSError when there is no process to do it."""
        answered, found = threading.Event(), list[Worker]()
        with self._lock:
            connection = self._ready()
            self._asked.append((answered, found))
            line = json.dumps({"arguments": arguments, "options": options}) + "\n"
            connection.sendall(line.encode())
        if not answered.wait(_SPAWN_SECONDS) or not found:
            raise OSError("the process that forks workers ended or does not answer")
        return found[0]

    def _ready(self) -> socket.socket:
        if self._socket is not None and self._process is not None and self._process.poll() is None:
            return self._socket
        ours, theirs = socket.socketpair()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "embedded.replication.nursery", str(theirs.fileno())],
            stdin=subprocess.PIPE,
            env=dict(self._environment()),
            pass_fds=[theirs.fileno()],
            start_new_session=True,
        )
        theirs.close()
        self._socket = ours
        threading.Thread(target=self._listen, args=[ours, self._process], name="nursery", daemon=True).start()
        return ours

    def _listen(self, connection: socket.socket, process: subprocess.Popen[bytes]) -> None:
        mine: set[int] = set()
        with connection.makefile() as lines, suppress(OSError, ValueError):
            for line in lines:
                self._hear(json.loads(line), mine)
        process.wait()
        for pid in mine:  # nobody watches over them any more
            worker = self._workers.pop(pid, None)
            if worker is not None:
                worker.kill()
                worker.end(_LOST)
        with self._lock:
            if self._socket is connection:
                self._socket = None
                while self._asked:
                    self._asked.popleft()[0].set()
        self._ended()

    def _hear(self, message: dict[str, Any], mine: set[int]) -> None:
        pid = int(message["pid"])
        if "code" in message:
            mine.discard(pid)
            worker = self._workers.pop(pid, None)
            if worker is not None:
                worker.end(int(message["code"]))
            self._ended()
            return
        worker = Worker(pid)
        mine.add(pid)
        self._workers[pid] = worker
        with self._lock:
            answered, found = self._asked.popleft()
        found.append(worker)
        answered.set()

    def stop(self) -> None:
        """End it; its workers end with it, for their stdin is its own."""
        with self._lock:
            if self._process is not None and self._process.stdin is not None:
                self._process.stdin.close()
                with suppress(subprocess.TimeoutExpired):
                    self._process.wait(timeout=5)
                if self._process.poll() is None:
                    self._process.kill()


class _Forker:
    """The nursery's own end: one thread, or forking would not be safe."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._selector = selectors.DefaultSelector()
        self._received = b""

    def run(self) -> None:
        woken, wake = socket.socketpair()
        for end in (woken, wake):
            end.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.set_wakeup_fd(wake.fileno())
        for place in (self._connection, woken, 0):
            self._selector.register(place, selectors.EVENT_READ)
        while True:
            for key, _ in self._selector.select():
                if key.fileobj == 0:
                    return  # the server is gone
                if key.fileobj is woken:
                    woken.recv(4096)
                    self._reap()
                elif not self._receive():
                    return

    def _receive(self) -> bool:
        data = self._connection.recv(65536)
        self._received += data
        *lines, self._received = self._received.split(b"\n")
        for line in lines:
            request = json.loads(line)
            self._say(pid=self._fork(request["arguments"], request["options"]))
        self._reap()  # one may have ended before its birth was announced
        return bool(data)

    def _fork(self, arguments: list[str], options: str) -> int:
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(reading)
            code = _LOST
            try:
                os.setsid()  # before anybody knows its number: a kill goes to the group
                os.close(writing)
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                self._selector.close()
                self._connection.close()
                code = _work(arguments, options)
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        os.close(writing)
        os.read(reading, 1)
        os.close(reading)
        return pid

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            self._say(pid=pid, code=os.waitstatus_to_exitcode(status))

    def _say(self, **message: int) -> None:
        self._connection.sendall(json.dumps(message).encode() + b"\n")


def _work(arguments: list[str], options: str) -> int:
    from embedded.replication import worker

    os.environ[OPTIONS] = options
    return worker.main(arguments)


def main(arguments: list[str]) -> int:
    import_module("embedded.replication.worker")  # with all that it needs, before the first fork
    # The first array that is made of Python's values makes Arrow import pandas: 0.4 s of CPU.
    import_module("embedded.replication.records").Records([], (), 0, 0)
    import_module("embedded.replication.s3.client").preload()
    gc.collect()
    gc.freeze()  # what is loaded stays shared: no collection of a worker touches it
    with suppress(BrokenPipeError, ConnectionResetError):
        _Forker(socket.socket(fileno=int(arguments[0]))).run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
