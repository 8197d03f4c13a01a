"""The backup store: one bucket of an S3 endpoint, with every byte checked on its way there and back."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from functools import cached_property
from typing import Any

from include.backup.errors import ConfigurationError, DamagedError, ExistsError, StoreError

_DENIED = {"403", "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken"}
_EXISTS = {"412", "PreconditionFailed", "ConditionalRequestConflict"}
_MISSING = {"404", "NoSuchKey", "NotFound"}
_SLOW = {"SlowDown", "503", "ServiceUnavailable", "TooManyRequests", "429", "Throttling", "RequestLimitExceeded"}


class MissingError(StoreError):
    """There is no such object."""


@dataclass(frozen=True)
class Store:
    """`endpoint`: URL, empty for AWS. `prefix`: of every key, ends with a slash unless empty."""

    endpoint: str
    bucket: str
    access_key: str
    secret_key: str = field(repr=False)
    region: str = "us-east-1"
    prefix: str = ""
    attempts: int = 8

    def __post_init__(self) -> None:
        if not self.bucket:
            raise ConfigurationError("the backup store has no bucket: set it in include/backup.yaml")

    @cached_property
    def client(self) -> Any:
        import boto3
        from botocore.config import Config

        return boto3.client(
            "s3",
            endpoint_url=self.endpoint or None,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            region_name=self.region,
            config=Config(
                # An object store that was killed answers again after up to 30 s.
                retries={"mode": "standard", "max_attempts": self.attempts},
                connect_timeout=10,
                read_timeout=60,
                # Each body carries its own SHA-256, which the server checks; hashing it a second time proves nothing.
                s3={"payload_signing_enabled": False, "addressing_style": "path"},
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )

    def put(self, key: str, data: bytes, *, once: bool = False) -> str:
        """Gives the SHA-256. `once`: raises ExistsError when there is such an object already."""
        digest = hashlib.sha256(data)
        condition = {"IfNoneMatch": "*"} if once else {}
        self._call(
            "put_object",
            key,
            Body=data,
            ChecksumSHA256=base64.b64encode(digest.digest()).decode(),
            **condition,
        )
        return digest.hexdigest()

    def get(self, key: str, size: int | None = None, sha256: str | None = None) -> bytes:
        """Raises MissingError, and DamagedError for a body that is not whole or not the expected one."""
        answer = self._call("get_object", key)
        try:
            data: bytes = answer["Body"].read()
        except Exception as error:
            raise DamagedError(f"{self.bucket}/{self.prefix}{key} broke off while it was read: {error}") from error
        if size is not None and len(data) != size:
            raise DamagedError(f"{key} has {len(data)} bytes, its manifest says {size}")
        if sha256 is not None and hashlib.sha256(data).hexdigest() != sha256:
            raise DamagedError(f"{key} was changed: its SHA-256 is not the manifest's")
        return data

    def size(self, key: str) -> int:
        """Raises MissingError."""
        return int(self._call("head_object", key)["ContentLength"])

    def age(self, key: str) -> float:
        """Seconds since the object was written, by the store's own clock. Raises MissingError."""
        answer = self._call("head_object", key)
        now = parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"])
        return max(0.0, float((now - answer["LastModified"]).total_seconds()))

    def delete(self, key: str) -> None:
        self._call("delete_object", key)

    def keys(self, prefix: str) -> Iterator[tuple[str, int]]:
        """Keys below `prefix` with their sizes, in the store's order."""
        token: dict[str, str] = {}
        while True:
            page = self._call("list_objects_v2", None, Prefix=self.prefix + prefix, **token)
            for item in page.get("Contents", ()):
                yield item["Key"].removeprefix(self.prefix), int(item["Size"])
            if not page.get("IsTruncated"):
                return
            token = {"ContinuationToken": page["NextContinuationToken"]}

    def folders(self, prefix: str) -> list[str]:
        """Names of the folders right below `prefix`, sorted."""
        found, token = set(), dict[str, str]()
        while True:
            page = self._call("list_objects_v2", None, Prefix=self.prefix + prefix, Delimiter="/", **token)
            found |= {item["Prefix"].removeprefix(self.prefix + prefix) for item in page.get("CommonPrefixes", ())}
            if not page.get("IsTruncated"):
                return sorted(name.rstrip("/") for name in found)
            token = {"ContinuationToken": page["NextContinuationToken"]}

    def _call(self, method: str, key: str | None, **arguments: Any) -> Any:
        from botocore.exceptions import BotoCoreError, ClientError

        where = {"Key": self.prefix + key} if key is not None else {}
        try:
            return getattr(self.client, method)(Bucket=self.bucket, **where, **arguments)
        except ClientError as error:
            raise self._told(error, key) from error
        except BotoCoreError as error:
            raise StoreError(f"the backup store {self.endpoint} does not answer: {error}") from error

    def _told(self, error: Any, key: str | None) -> StoreError:
        code = str(error.response.get("Error", {}).get("Code", ""))
        place = f"{self.bucket}/{self.prefix}{key or ''}"
        if code in _EXISTS:
            return ExistsError(f"{place} exists already")
        if code in _MISSING:
            return MissingError(f"{place} does not exist")
        if code == "NoSuchBucket":
            return StoreError(f"the backup store {self.endpoint} has no bucket {self.bucket!r}: create it")
        if code in _DENIED:
            return StoreError(f"the backup store {self.endpoint} refuses the credentials for {place} ({code})")
        if code in _SLOW:
            return StoreError(
                f"the backup store {self.endpoint} went on throttling at {place} after {self.attempts} tries ({code}): "
                "run this again, it goes on where it stopped"
            )
        return StoreError(f"the backup store {self.endpoint} failed at {place}: {code or error}")
