"""Results of finished jobs: one Arrow IPC file each, in the scratch folder."""

from __future__ import annotations

import os
import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.ipc

from embedded.sql.errors import NotFound

_KEPT = 64  # small results that are asked for at once are answered from memory
_SMALL = 1_000_000  # bytes


class Results:
    """Files appear whole or not at all. They are a convenience, not state: losing the folder loses no data."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._recent: OrderedDict[str, pa.Table] = OrderedDict()
        self._guard = threading.Lock()
        folder.mkdir(parents=True, exist_ok=True)
        for leftover in folder.glob("*.part"):
            leftover.unlink()

    def put(self, job_id: str, table: pa.Table) -> None:
        """Raises OSError when the disk is full."""
        target = self._path(job_id)
        part = target.with_suffix(".part")
        try:
            with pa.OSFile(str(part), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
                writer.write_table(table, max_chunksize=65536)
            os.replace(part, target)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        if table.nbytes <= _SMALL:
            with self._guard:
                self._recent[job_id] = table
                while len(self._recent) > _KEPT:
                    self._recent.popitem(last=False)

    def get(self, job_id: str) -> pa.Table:
        """Raises NotFound when the result has expired."""
        with self._guard:
            table = self._recent.get(job_id)
        if table is not None:
            return table
        try:
            return pa.ipc.open_file(pa.memory_map(str(self._path(job_id)))).read_all()
        except FileNotFoundError:
            raise NotFound(f"The results of job [{job_id}] have expired or were lost: run the query again") from None

    def forget(self, job_ids: Sequence[str]) -> None:
        with self._guard:
            for job_id in job_ids:
                self._recent.pop(job_id, None)
        for job_id in job_ids:
            self._path(job_id).unlink(missing_ok=True)

    def expire(self, older_than: float, most: int) -> int:
        """Delete files last written more than `older_than` seconds ago, then the oldest until `most` bytes are left."""
        limit = time.time() - older_than
        found = sorted(((path.stat(), path.stem) for path in self._folder.glob("*.arrow")), key=lambda f: f[0].st_mtime)
        total = sum(status.st_size for status, _ in found)
        doomed = []
        for status, job_id in found:
            if status.st_mtime >= limit and total <= most:
                break
            doomed.append(job_id)
            total -= status.st_size
        self.forget(doomed)
        return len(doomed)

    def _path(self, job_id: str) -> Path:
        return self._folder / f"{uuid.UUID(job_id)}.arrow"
