"""S3 and S3-compatible sources: folders of files, some of them promoted to tables."""

from __future__ import annotations

import functools
from typing import Any

import pyarrow as pa

from embedded.sql.catalog import names, object_listing
from embedded.sql.catalog.entities import Entity
from embedded.sql.catalog.object_listing import STORE_ERRORS, StoredObject
from embedded.sql.catalog.sources import Child, property_of
from embedded.sql.datasets import Dataset, Path, S3Access
from embedded.sql.errors import NotFound, ValidationError


class S3Source:
    def __init__(self, entity: Entity) -> None:
        self._entity = entity
        self._config = entity.body["config"]

    @functools.cached_property
    def access(self) -> S3Access:
        """Raises ValidationError when the configuration names no endpoint or no keys."""
        config, secrets = self._config, self._entity.secrets
        endpoint = property_of(config, secrets, "fs.s3a.endpoint")
        if not endpoint:
            raise ValidationError(
                f"Source [{self._entity.name}]: set the property fs.s3a.endpoint to host:port of the object store"
            )
        region = property_of(config, secrets, "fs.s3a.endpoint.region") or "us-east-1"
        return S3Access(
            endpoint=endpoint.removeprefix("https://").removeprefix("http://").rstrip("/"),
            access_key=str(config.get("accessKey", "")),
            secret_key=secrets.get("accessSecret", ""),
            secure=bool(config.get("secure", False)),
            region=region,
        )

    @functools.cached_property
    def _client(self) -> Any:
        return object_listing.client(self.access)

    def location(self, sub: Path) -> tuple[str, str]:
        """Bucket and key of a path inside the source. Raises NotFound for a path above the buckets."""
        for part in sub:
            names.check_dataset(part)
            if part in (".", ".."):
                raise ValidationError(f"Invalid path segment [{part}]")
        root = [part for part in str(self._config.get("rootPath", "/")).split("/") if part]
        full = [*root, *sub]
        if not full:
            raise NotFound(f"A path inside source [{self._entity.name}] starts with a bucket")
        return full[0], "/".join(full[1:])

    def probe(self) -> str | None:
        try:
            root = [part for part in str(self._config.get("rootPath", "/")).split("/") if part]
            if root:
                self._client.head_bucket(Bucket=root[0])
            else:
                self._client.list_buckets()
        except STORE_ERRORS as error:
            return object_listing.explain(error, self._entity.name).message
        except ValidationError as error:
            return error.message
        return None

    def children(self, sub: Path) -> list[Child] | None:
        try:
            if not sub and not str(self._config.get("rootPath", "/")).strip("/"):
                buckets = self._client.list_buckets()["Buckets"]
                return [Child(bucket["Name"], "folder") for bucket in buckets]
            bucket, key = self.location(sub)
            folders, files = object_listing.level(self._client, bucket, f"{key}/" if key else "")
        except STORE_ERRORS as error:
            raise object_listing.explain(error, self._entity.name) from error
        if sub and not folders and not files:
            return None
        shown = [Child(name, "folder") for name in folders if not _hidden(name)]
        return shown + [Child(file.key.rsplit("/", 1)[-1], "file") for file in files if not _hidden(file.key)]

    def files(self, sub: Path) -> list[tuple[str, StoredObject]]:
        """URI and facts of every data file of a folder, or of the one file that this path names; no hidden ones."""
        bucket, key = self.location(sub)
        try:
            found = [
                item
                for item in object_listing.objects(self._client, bucket, f"{key}/" if key else "")
                if item.size and not _hidden(item.key[len(key) :])
            ]
            found = found or [item for item in object_listing.objects(self._client, bucket, key) if item.key == key]
        except STORE_ERRORS as error:
            raise object_listing.explain(error, self._entity.name) from error
        return sorted((f"s3://{bucket}/{item.key}", item) for item in found)

    def everything(self, sub: Path) -> list[tuple[str, StoredObject]]:
        """URI and facts of every object of a folder, hidden ones too: logs and metadata of table formats."""
        bucket, key = self.location(sub)
        try:
            return [(f"s3://{bucket}/{o.key}", o) for o in object_listing.objects(self._client, bucket, f"{key}/")]
        except STORE_ERRORS as error:
            raise object_listing.explain(error, self._entity.name) from error

    def read(self, uri: str) -> bytes:
        """A small object's content."""
        bucket, _, key = uri.removeprefix("s3://").partition("/")
        try:
            content: bytes = self._client.get_object(Bucket=bucket, Key=key)["Body"].read()
        except STORE_ERRORS as error:
            raise object_listing.explain(error, self._entity.name) from error
        return content

    def table(self, path: Path) -> Dataset | None:
        return None

    def tables(self) -> list[Path]:
        return []

    def folders(self) -> list[Path]:
        return []

    def columns(self, path: Path) -> pa.Schema:
        raise NotFound(f"Table '{names.dotted(path)}' not found")

    def forget(self, path: Path) -> None:
        return


def _hidden(key: str) -> bool:
    """Names that start with . or _ are no data: the Hadoop convention, which Dremio follows."""
    return any(part.startswith((".", "_")) for part in key.split("/") if part)
