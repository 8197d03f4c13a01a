"""The write-ahead log as a stream of pgoutput messages, over PostgreSQL's replication protocol.

psycopg has no replication API; libpq's COPY_BOTH is all it takes. A message is kept as the server sent it, with the
XLogData header of 25 bytes before it: type, LSN of the change, end of the log, clock.
"""

from __future__ import annotations

import select
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import psycopg
from psycopg import pq

from embedded.replication.connectors import PostgresSource
from embedded.replication.failures import SyncError
from embedded.replication.postgres.cdc.lsn import Identity, format_lsn, parse_lsn
from embedded.replication.postgres.connection import parameters, translate

HEADER = 25
# Raw bytes that are decoded together. Decoding takes some ten times as much memory for a moment.
BLOCK_BYTES = 4 * 1024 * 1024
_STATUS_SECONDS = 10.0
_BUSY_SECONDS = 20.0
# How long the server may need to answer a status request before it counts as gone.
_SILENCE_SECONDS = 120.0
_EPOCH_2000 = 946_684_800


class ReplicationConnection:
    """A walsender session; a context manager. Raises SyncError."""

    def __init__(self, source: PostgresSource, application: str, folder: Path | None = None) -> None:
        self._source = source
        values = parameters(source, application, folder)
        # Our own writes may take longer than the server's patience with a silent client; a new slot waits for the end
        # of all transactions that are open, as for a lock.
        patience = source.cdc.initial_waiting_seconds if source.cdc else 30
        values["options"] = f"{values['options']} -c wal_sender_timeout=0 -c lock_timeout={patience}s"
        try:
            self._connection = psycopg.connect(
                **values, password=source.password, autocommit=True, replication="database"
            )
        except psycopg.Error as error:
            raise translate(error, source) from None
        self.pgconn = self._connection.pgconn

    def __enter__(self) -> ReplicationConnection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._connection.close()

    def command(self, text: str) -> list[str]:
        """One replication command that answers with one row."""
        result = self.pgconn.exec_(text.encode())
        if result.status != pq.ExecStatus.TUPLES_OK:
            raise self.failure(result.error_message)
        return [(result.get_value(0, column) or b"").decode() for column in range(result.nfields)]

    def identify(self) -> Identity:
        system, timeline, flushed, _ = self.command("IDENTIFY_SYSTEM")
        return Identity(system, int(timeline), parse_lsn(flushed))

    def failure(self, message: bytes) -> SyncError:
        return translate(psycopg.OperationalError(message.decode("utf-8", "replace")), self._source)

    def start(self, slot: str, publication: str, position: int, *, binary: bool) -> None:
        """Stream from a position, values in PostgreSQL's binary form or as text.

        Raises SyncError, a transient one while another session holds the slot.
        """
        quoted = publication.replace('"', '""')
        text = quoted.replace("'", "''")
        options = f"proto_version '1', publication_names '\"{text}\"', binary '{binary}'"
        command = f'START_REPLICATION SLOT "{slot}" LOGICAL {format_lsn(position)} ({options})'
        deadline = time.monotonic() + _BUSY_SECONDS
        while True:
            result = self.pgconn.exec_(command.encode())
            if result.status == pq.ExecStatus.COPY_BOTH:
                return
            message = result.error_message
            # A walsender notices that its client was killed only a moment later.
            if b"is active for PID" not in message or time.monotonic() > deadline:
                raise self._busy(message) if b"is active for PID" in message else self.failure(message)
            time.sleep(0.2)

    def _busy(self, message: bytes) -> SyncError:
        text = f"Another process reads the slot: {message.decode('utf-8', 'replace').strip()}"
        return SyncError("source", "transient_error", text)


class WalStream:
    """The messages from `position` on, until the log has been read up to `target`."""

    def __init__(self, connection: ReplicationConnection, position: int, target: int) -> None:
        self._connection = connection
        self._pgconn = connection.pgconn
        self._target = target
        self.flushed = position
        self._reported = time.monotonic()
        self._heard = time.monotonic()
        self._asked = 0

    def blocks(self) -> Iterator[list[bytes]]:
        """Messages in blocks of about BLOCK_BYTES, in the order of the log; the last block may be empty."""
        messages: list[bytes] = []
        size = 0
        get, target = self._pgconn.get_copy_data, self._target
        while True:
            count, data = get(1)
            if count > 0:
                message = bytes(data)
                kind = message[0]
                if kind == 0x77:  # w: XLogData
                    # C: a transaction ended, where bytes 10 to 18 say; one that ends beyond the target is left
                    if message[HEADER] == 0x43 and int.from_bytes(message[HEADER + 10 : HEADER + 18], "big") > target:
                        break
                    messages.append(message)
                    size += count
                    if size >= BLOCK_BYTES:
                        self._heard = time.monotonic()
                        yield messages
                        messages, size = [], 0
                        self._tick()
                elif kind == 0x6B:  # k: the server's position
                    self._heard = time.monotonic()
                    position = int.from_bytes(message[1:9], "big")
                    if position >= target:
                        break
                    if message[17]:
                        self.report()
            elif count == 0:
                self._wait()
            else:
                raise self._end()
        yield messages

    def _wait(self) -> None:
        """Nothing is there yet: ask how far the server is, and wait for it."""
        # Not at once after the last question: the server may have a lot of log that is not for us.
        if not select.select([self._pgconn.socket], [], [], 0.0 if self._asked < 1 else 0.05)[0]:
            self.report(ask=True)
        self._asked += 1
        while not select.select([self._pgconn.socket], [], [], 1.0)[0]:
            self._tick()
            if time.monotonic() - self._heard > _SILENCE_SECONDS:
                raise SyncError("source", "transient_error", "The source stopped answering while its log was read.")
        self._pgconn.consume_input()

    def _tick(self) -> None:
        if time.monotonic() - self._reported > _STATUS_SECONDS:
            self.report()

    def report(self, *, ask: bool = False) -> None:
        """Tell the server what is durable here; it may forget the log before that."""
        self._reported = time.monotonic()
        clock = int((time.time() - _EPOCH_2000) * 1_000_000)
        position = self.flushed
        message = b"r" + struct.pack(">qqqqB", position, position, position, clock, ask)
        self._pgconn.put_copy_data(message)
        self._pgconn.flush()

    def _end(self) -> SyncError:
        result = self._pgconn.get_result()
        return self._connection.failure(result.error_message if result else b"the server ended the stream")
