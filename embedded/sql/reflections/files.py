"""The distributed store: where materializations lie."""

from __future__ import annotations

import functools
from typing import Any

from embedded.sql.catalog import object_listing
from embedded.sql.datasets import S3Access
from embedded.sql.errors import ValidationError


class Distributed:
    """`root` is s3://bucket[/prefix]; folders below it belong to us alone."""

    def __init__(self, root: str, access: S3Access) -> None:
        self.root = root
        self.access = access

    @functools.cached_property
    def _client(self) -> Any:
        return object_listing.client(self.access)

    def _split(self, folder: str) -> tuple[str, str]:
        if not folder.startswith(f"{self.root}/") or folder == f"{self.root}/":
            raise ValidationError(f"{folder} does not lie in the distributed store {self.root}")
        bucket, _, key = folder.removeprefix("s3://").partition("/")
        return bucket, key.rstrip("/")

    def size(self, folder: str) -> int:
        """Bytes of all files of a folder."""
        bucket, key = self._split(folder)
        try:
            return sum(item.size for item in object_listing.objects(self._client, bucket, f"{key}/"))
        except object_listing.STORE_ERRORS as error:
            raise object_listing.explain(error, "distributed store") from error

    def remove(self, folder: str) -> None:
        """Delete all files of a folder; fine when there are none."""
        bucket, key = self._split(folder)
        try:
            keys = [item.key for item in object_listing.objects(self._client, bucket, f"{key}/")]
            for start in range(0, len(keys), 1000):
                batch = [{"Key": key} for key in keys[start : start + 1000]]
                self._client.delete_objects(Bucket=bucket, Delete={"Objects": batch, "Quiet": True})
        except object_listing.STORE_ERRORS as error:
            raise object_listing.explain(error, "distributed store") from error
