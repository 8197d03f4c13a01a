"""The list of a rule's items: one JSON line each, zipped, in the lake's bucket; written and read in constant memory."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tempfile
from collections.abc import Iterator
from types import TracebackType
from typing import IO, Any, Self, cast

from include.retention.model import Item, RetentionError
from include.retention.services import Services

FOLDER = "retention/plans"
SAMPLE = 10


class Writer:
    """Collects items in a temporary file; `store` uploads it."""

    def __init__(self) -> None:
        self.items = self.count = self.bytes = 0
        self.sample: list[dict[str, Any]] = []
        self._digest = hashlib.sha256()
        self._file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed by __exit__
        self._zip = gzip.GzipFile(fileobj=self._file, mode="wb", compresslevel=1, mtime=0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._zip.close()
        self._file.close()

    def add(self, item: Item) -> None:
        line = json.dumps([item.id, item.bytes, item.since, item.count, dict(item.facts)]).encode() + b"\n"
        self._digest.update(line)
        self._zip.write(line)
        self.items, self.count, self.bytes = self.items + 1, self.count + item.count, self.bytes + item.bytes
        if len(self.sample) < SAMPLE:
            self.sample.append({"item": item.id, "bytes": item.bytes, "since": item.since, "count": item.count})

    def store(self, services: Services, plan: int, rule: str) -> tuple[str, str]:
        """Gives the document's key and SHA-256."""
        self._zip.close()
        self._file.seek(0)
        key = f"{FOLDER}/{plan:08d}/{rule}.jsonl.gz"
        if services.s3 is None:
            raise RetentionError("a plan is stored in the lake's bucket: configure the S3 connection")
        services.s3.upload_fileobj(self._file, services.bucket, key)
        return key, self._digest.hexdigest()


def items(services: Services, key: str, digest: str) -> Iterator[Item]:
    """The items of a stored document. The whole is checked before the first is given: what was approved is what goes.

    Raises RetentionError when it is not the document that was planned.
    """
    with tempfile.TemporaryFile() as file:
        services.s3.download_fileobj(services.bucket, key, file)
        file.seek(0)
        found = hashlib.sha256()
        try:
            with gzip.open(file, "rb") as lines:
                for block in iter(lambda: lines.read(1 << 20), b""):
                    found.update(block)
        except (OSError, EOFError) as error:
            raise RetentionError(f"s3://{services.bucket}/{key} is damaged ({error}): make a new plan") from None
        if found.hexdigest() != digest:
            raise RetentionError(f"s3://{services.bucket}/{key} is not what was planned: make a new plan")
        file.seek(0)
        with gzip.open(file, "rb") as lines:
            for line in io.TextIOWrapper(cast(IO[bytes], lines), encoding="utf-8"):
                identifier, size, since, count, facts = json.loads(line)
                yield Item(identifier, size, since, count, facts)
