"""Whole transactions out of blocks of messages: decoded together when they fit, from a file when one is huge.

Rows need the LSN of their commit, which is known at the end of a transaction only. So an open one waits: in memory up
to a bound, beyond that on disk, as it came.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from embedded.replication.postgres.cdc.pgoutput import Decoded, Decoder
from embedded.replication.postgres.cdc.wal import BLOCK_BYTES, HEADER, WalStream

_COMMIT = ord("C")
_OPEN_BYTES = 4 * BLOCK_BYTES
_MICROS_2000 = 946_684_800_000_000


class Transactions:
    """Reads a stream of the log. `complete`: the end of the last transaction that was given out whole."""

    def __init__(self, wal: WalStream, decoder: Decoder, folder: Path, position: int) -> None:
        self._wal = wal
        self._decoder = decoder
        self._file = folder / "transaction"
        self._parts: list[int] = []
        self.complete = position

    def read(self) -> Iterator[Decoded | None]:
        """Decoded rows in the order of commits; None where everything up to `complete` was given out."""
        waiting: list[bytes] = []
        for block in self._wal.blocks():
            waiting += block
            if self._parts:
                ended = next((i for i, message in enumerate(waiting) if message[HEADER] == _COMMIT), None)
                if ended is None:
                    self._spill(waiting)
                    waiting = []
                    continue
                yield from self._replay(waiting[:ended], waiting[ended])
                waiting = waiting[ended + 1 :]
            whole = _whole(waiting)
            if whole:
                yield from self._decoder.decode(waiting[:whole])
                self.complete = int.from_bytes(waiting[whole - 1][HEADER + 10 : HEADER + 18], "big")
                yield None
            waiting = waiting[whole:]
            if sum(map(len, waiting)) > _OPEN_BYTES:
                self._spill(waiting)
                waiting = []
        self._file.unlink(missing_ok=True)  # of a transaction that ended beyond the target

    def _spill(self, messages: list[bytes]) -> None:
        with self._file.open("ab") as file:
            np.save(file, np.fromiter(map(len, messages), np.int64, len(messages)))
            np.save(file, np.frombuffer(b"".join(messages), np.uint8))
        self._parts.append(len(messages))

    def _replay(self, rest: list[bytes], commit: bytes) -> Iterator[Decoded | None]:
        end = int.from_bytes(commit[HEADER + 10 : HEADER + 18], "big")
        within = (end, int.from_bytes(commit[HEADER + 18 : HEADER + 26], "big") + _MICROS_2000)
        with self._file.open("rb") as file:
            for _ in self._parts:
                yield from self._decoder.decode(_load(file), within)
        yield from self._decoder.decode(rest, within)
        self._file.unlink()
        self._parts = []
        self.complete = end
        yield None


def _load(file: BinaryIO) -> list[bytes]:
    lengths, data = np.load(file), np.load(file).tobytes()
    ends = np.cumsum(lengths).tolist()
    return [data[begin:end] for begin, end in zip([0, *ends[:-1]], ends, strict=True)]


def _whole(messages: list[bytes]) -> int:
    """How many of the messages belong to transactions that end among them."""
    for at in range(len(messages), 0, -1):
        if messages[at - 1][HEADER] == _COMMIT:
            return at
    return 0
