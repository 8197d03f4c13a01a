"""Objects that appear all at once: parts are uploaded while a sync reads, uploads are completed when all is there.

Nothing of an uncompleted multipart upload is visible to anyone, and nothing touches the local disk. Every upload is in
the manifest (store/objects.py) before it can exist, so that whoever comes after a crash can complete or undo it.
"""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from embedded.replication.connectors import S3Destination
from embedded.replication.failures import SyncError
from embedded.replication.s3.client import error_code, translate

# Airbyte's parts have 10 MB; each one in flight is memory.
PART_BYTES = 8 * 1024 * 1024
_IN_FLIGHT = 2
_METADATA = "ab-generation-id"
_METADATA_SYNC = "ab-sync-id"


class UploadLost(SyncError):
    """An upload that was complete but for its last call is gone: the data has to be read again."""


class Uploads:
    """Multipart uploads of one destination."""

    def __init__(self, s3: Any, destination: S3Destination) -> None:
        self._s3 = s3
        self._destination = destination
        self._bucket = destination.s3_bucket_name
        self._threads = ThreadPoolExecutor(_IN_FLIGHT, thread_name_prefix="upload")

    def _call(self, method: str, **values: Any) -> Any:
        try:
            return getattr(self._s3, method)(Bucket=self._bucket, **values)
        except (BotoCoreError, ClientError) as error:
            raise translate(error, self._destination) from None

    def start(self, key: str, generation: int, sync_id: int) -> str:
        """Begin an upload; gives its id. No encryption header: the bucket's default applies."""
        metadata = {_METADATA: str(generation), _METADATA_SYNC: str(sync_id)}
        reply = self._call("create_multipart_upload", Key=key, Metadata=metadata)
        return str(reply["UploadId"])

    def exists(self, key: str) -> bool:
        return self._head(key) is not None

    def sink(self, key: str, upload_id: str) -> PartSink:
        return PartSink(lambda number, body: self._send(key, upload_id, number, body))

    def _send(self, key: str, upload_id: str, number: int, body: bytes) -> Future[dict[str, Any]]:
        def send() -> dict[str, Any]:
            reply = self._call("upload_part", Key=key, UploadId=upload_id, PartNumber=number, Body=body)
            return {"PartNumber": number, "ETag": reply["ETag"]}

        return self._threads.submit(send)

    def complete(self, key: str, upload_id: str, parts: list[dict[str, Any]], size: int, sync_id: int) -> None:
        """Make the object visible, or find that it is so already (a lost reply, an earlier attempt)."""
        try:
            self._s3.complete_multipart_upload(
                Bucket=self._bucket,
                Key=key,
                UploadId=upload_id,
                MultipartUpload={"Parts": parts},
                IfNoneMatch="*",  # never over an object that someone else put there
            )
        except ClientError as error:
            if error_code(error) not in ("NoSuchUpload", "PreconditionFailed", "412", "404"):
                raise translate(error, self._destination) from None
        except BotoCoreError as error:
            raise translate(error, self._destination) from None
        self._verify(key, size, sync_id)

    def _verify(self, key: str, size: int, sync_id: int) -> None:
        head = self._head(key)
        if head is None:
            message = f"object {key} is gone: its upload was aborted by someone else"
            raise UploadLost("destination", "system_error", message)
        ours = head.get("Metadata", {}).get(_METADATA_SYNC) == str(sync_id)
        if not ours or head["ContentLength"] != size:
            message = f"object {key} is not the one that was uploaded ({head['ContentLength']} bytes, not {size})"
            raise UploadLost("destination", "system_error", message)

    def _head(self, key: str) -> dict[str, Any] | None:
        try:
            reply: dict[str, Any] = self._s3.head_object(Bucket=self._bucket, Key=key)
        except ClientError as error:
            if error_code(error) in ("404", "NoSuchKey", "NotFound"):
                return None
            raise translate(error, self._destination) from None
        except BotoCoreError as error:
            raise translate(error, self._destination) from None
        return reply

    def undo(self, key: str, upload_id: str | None) -> None:
        """Abort the upload and delete the object, whichever of the two there is. Idempotent."""
        for known in [upload_id] if upload_id else self._uploads_of(key):
            try:
                self._s3.abort_multipart_upload(Bucket=self._bucket, Key=key, UploadId=known)
            except ClientError as error:
                if error_code(error) not in ("NoSuchUpload", "404"):
                    raise translate(error, self._destination) from None
            except BotoCoreError as error:
                raise translate(error, self._destination) from None
        if self.exists(key):
            self._call("delete_object", Key=key)

    def _uploads_of(self, key: str) -> list[str]:
        """Uploads whose id was not written down: the worker died between starting and noting it."""
        reply = self._call("list_multipart_uploads", Prefix=key)
        return [str(item["UploadId"]) for item in reply.get("Uploads", []) if item["Key"] == key]

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


class PartSink(io.RawIOBase):
    """A file to write a Parquet object to: cuts it into parts and uploads them in the background."""

    def __init__(self, send: Callable[[int, bytes], Future[dict[str, Any]]]) -> None:
        super().__init__()
        self._send = send
        self._buffer = bytearray()
        self._waiting: deque[Future[dict[str, Any]]] = deque()
        self._done: list[dict[str, Any]] = []
        self._parts = 0
        self.size = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.size

    def write(self, data: Any) -> int:
        count = memoryview(data).nbytes
        self._buffer += data
        self.size += count
        while len(self._buffer) >= PART_BYTES:
            self._flush_part(PART_BYTES)
        return count

    def _flush_part(self, length: int) -> None:
        while len(self._waiting) >= _IN_FLIGHT:
            self._done.append(self._waiting.popleft().result())
        self._parts += 1
        body = bytes(memoryview(self._buffer)[:length])
        del self._buffer[:length]
        self._waiting.append(self._send(self._parts, body))

    def finish(self) -> list[dict[str, Any]]:
        """Upload the rest and wait; gives the parts for completing the upload. Raises SyncError."""
        if self._buffer or not self._parts:
            self._flush_part(len(self._buffer))
        while self._waiting:
            self._done.append(self._waiting.popleft().result())
        return self._done
