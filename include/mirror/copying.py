"""Copies one object and proves the copy: length and checksum of what was read, and of what the other site then has."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from botocore.exceptions import ClientError

from include.mirror.errors import DamagedCopyError, naming
from include.mirror.transfers import PART, Transfers

_MD5 = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class Source:
    """An object of the lake, as listed."""

    bucket: str
    key: str
    size: int
    etag: str

    @property
    def name(self) -> str:
        return f"s3://{self.bucket}/{self.key}"

    @property
    def has_md5(self) -> bool:
        """Its ETag is that of an object which was stored in one part."""
        return bool(_MD5.fullmatch(self.etag))


@dataclass(frozen=True, slots=True)
class Copied:
    source: Source
    sha256: str


@dataclass
class _Hashes:
    """SHA-256 is what the ledger keeps; MD5 is what a plain ETag is."""

    md5: Any = field(default_factory=lambda: hashlib.md5(usedforsecurity=False))
    sha256: Any = field(default_factory=hashlib.sha256)
    size: int = 0

    def take(self, data: Any, *, md5: bool) -> None:
        self.sha256.update(data)
        if md5:
            self.md5.update(data)
        self.size += len(data)


def destination(source: Source) -> str:
    return f"current/{source.bucket}/{source.key}"


class Copier:
    """`lake` and `offsite` are boto3 clients, safe for threads; `bucket` is the mirror's, `mirrored` the lake's."""

    def __init__(self, lake: Any, mirrored: str, offsite: Any, bucket: str) -> None:
        self._lake, self._offsite, self._bucket = lake, offsite, bucket
        self._originals, self._copies = Transfers(lake, mirrored), Transfers(offsite, bucket)

    def copy(self, source: Source) -> Copied | None:
        """None: the object is gone or was replaced since it was listed; the next run sees what is there then.

        Raises MirrorError, and DamagedCopyError when either side's bytes are not right.
        """
        hashes = _Hashes()
        with naming("lake's", self._lake, source.name):
            found = self._originals.get(source.key, source.etag)
        if found is None:
            return None
        blocks = self._read(source, found, hashes)
        if source.size <= PART:
            self._put(source, b"".join(blocks), hashes)
        else:
            self._put_parts(source, blocks, hashes)
        return Copied(source, hashes.sha256.hexdigest())

    def _read(self, source: Source, blocks: Iterator[Any], hashes: _Hashes) -> Iterator[Any]:
        with naming("lake's", self._lake, source.name):
            for block in blocks:
                hashes.take(block, md5=source.has_md5)
                yield block

    def _check(self, source: Source, hashes: _Hashes) -> bool:
        """Before anything is acknowledged: the bytes read are those that were listed. Was their MD5 compared?"""
        if hashes.size != source.size:
            raise DamagedCopyError(
                f"{source.name} was listed with {source.size} bytes and read with {hashes.size}: the lake's store sent "
                "a body that is cut off; nothing was copied of it"
            )
        if not source.has_md5:
            return False
        if hashes.md5.hexdigest() == source.etag:
            return True
        if self._is_sealed(source):
            return False
        raise DamagedCopyError(
            f"{source.name} is damaged in the lake: its MD5 is not its ETag. The mirror keeps the copy it has; "
            "restore the object from there"
        )

    def _is_sealed(self, source: Source) -> bool:
        """With a key service the ETag is no MD5 of what is read."""
        with naming("lake's", self._lake, source.name):
            reply = self._lake.head_object(Bucket=source.bucket, Key=source.key)
        return "SSEKMSKeyId" in reply or "SSECustomerAlgorithm" in reply

    def _put(self, source: Source, data: bytes, hashes: _Hashes) -> None:
        compared = self._check(source, hashes)
        with naming("off-site", self._offsite, destination(source)):
            etag = self._copies.put(destination(source), data, hashes.sha256.digest())
        # A plain store answers with the MD5 of what it has; any other answer is looked into.
        if not compared or etag != source.etag:
            self._confirm(source)

    def _put_parts(self, source: Source, blocks: Iterator[Any], hashes: _Hashes) -> None:
        """The upload is completed, and so visible, only when all that was read was right."""
        at = {"Bucket": self._bucket, "Key": destination(source)}
        with naming("off-site", self._offsite, destination(source)):
            upload = self._offsite.create_multipart_upload(**at)["UploadId"]
        try:
            parts = []
            for number, block in enumerate(_whole(blocks), 1):
                checksum = base64.b64encode(hashlib.sha256(block).digest()).decode()
                with naming("off-site", self._offsite, destination(source)):
                    reply = self._offsite.upload_part(
                        **at, UploadId=upload, PartNumber=number, Body=block, ChecksumSHA256=checksum
                    )
                parts.append({"PartNumber": number, "ETag": reply["ETag"]})
            self._check(source, hashes)
            with naming("off-site", self._offsite, destination(source)):
                self._offsite.complete_multipart_upload(**at, UploadId=upload, MultipartUpload={"Parts": parts})
        except BaseException:
            with naming("off-site", self._offsite, destination(source)):
                self._offsite.abort_multipart_upload(**at, UploadId=upload)
            raise
        self._confirm(source)

    def _confirm(self, source: Source) -> None:
        """What the other site says that it has: a store that acknowledges and cuts off is found out here."""
        try:
            size = self._offsite.head_object(Bucket=self._bucket, Key=destination(source))["ContentLength"]
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] != 404:
                with naming("off-site", self._offsite, destination(source)):
                    raise
            size = 0
        if size != source.size:
            raise DamagedCopyError(
                f"the off-site store acknowledged {source.name} and has {size} of its {source.size} "
                "bytes: it is copied again in the next run; if that fails too, the store is broken"
            )

    def read_back(self, source: Source, sha256: str) -> None:
        """Reads a whole copy. Raises DamagedCopyError when it is not what was copied, or is gone."""
        digest, size, place = hashlib.sha256(), 0, destination(source)
        with naming("off-site", self._offsite, place):
            found = self._copies.get(place)
            if found is None:
                raise DamagedCopyError(f"the copy of {source.name} is gone from the off-site store")
            for block in found:
                digest.update(block)
                size += len(block)
        if size != source.size or digest.hexdigest() != sha256:
            raise DamagedCopyError(
                f"the copy of {source.name} is damaged: {size} of {source.size} bytes, "
                f"SHA-256 {digest.hexdigest()[:12]}, not {sha256[:12]}"
            )

    def put_aside(self, source: Source, day: str) -> bool:
        """A second copy in quarantine, on the other site itself; False when there is no first one any more."""
        aside = f"quarantine/{day}/{source.bucket}/{source.key}"
        with naming("off-site", self._offsite, destination(source)):
            try:
                self._offsite.copy_object(
                    Bucket=self._bucket, Key=aside, CopySource={"Bucket": self._bucket, "Key": destination(source)}
                )
            except ClientError as error:
                if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
                    return False
                raise
        return True

    def quarantine(self, source: Source, day: str) -> None:
        """Moves a copy aside; safe to repeat after a crash at any point."""
        if self.put_aside(source, day):
            with naming("off-site", self._offsite, destination(source)):
                self._offsite.delete_object(Bucket=self._bucket, Key=destination(source))

    def is_gone(self, source: Source) -> bool:
        """Asked for each object that a listing lacks: listings have been seen to end early."""
        try:
            self._lake.head_object(Bucket=source.bucket, Key=source.key)
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
                return True
            with naming("lake's", self._lake, source.name):
                raise
        return False


def _whole(blocks: Iterator[Any]) -> Iterator[bytes]:
    """Blocks of exactly PART bytes, the last one shorter: S3 refuses small parts in the middle."""
    kept = bytearray()
    for block in blocks:
        kept += block
        while len(kept) >= PART:
            yield bytes(kept[:PART])
            del kept[:PART]
    if kept:
        yield bytes(kept)
