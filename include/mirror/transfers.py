"""GET and PUT of whole objects by obstore, which takes a quarter of boto3's CPU: a mirror is mostly requests.

Keys that obstore does not take as they are (an empty part, a dot, a control character) go through boto3.
"""

from __future__ import annotations

import base64
import datetime as dt
from collections.abc import Iterator
from typing import Any

import obstore
from botocore.exceptions import ClientError
from obstore.exceptions import PreconditionError
from obstore.store import S3Store

PART = 16 << 20
_TRIES = 6
_ABSENT = (404, 412)


class Transfers:
    """One bucket of one store. `client`: its boto3 client, whose address, region and credentials are taken."""

    def __init__(self, client: Any, bucket: str) -> None:
        self._client, self._bucket = client, bucket
        self._store = S3Store(
            bucket,
            endpoint=client.meta.endpoint_url,
            region=client.meta.region_name,
            virtual_hosted_style_request=False,
            checksum_algorithm="SHA256",
            credential_provider=self._credentials,
            client_options={
                "allow_http": True,
                "connect_timeout": dt.timedelta(seconds=10),
                "read_timeout": dt.timedelta(seconds=60),
                "timeout": dt.timedelta(days=1),  # of a whole body, 30 s where it is not given
            },
            retry_config={"max_retries": _TRIES - 1, "retry_timeout": dt.timedelta(minutes=10)},
        )

    def _credentials(self) -> Any:
        # botocore has no public way to ask a client for them; they renew themselves there.
        found = self._client._request_signer._credentials.get_frozen_credentials()
        return {
            "access_key_id": found.access_key,
            "secret_access_key": found.secret_key,
            "token": found.token,
            "expires_at": dt.datetime.now(dt.UTC) + dt.timedelta(minutes=5),
        }

    def get(self, key: str, etag: str | None = None) -> Iterator[Any] | None:
        """An object in blocks, of PART bytes or less; None: there is none, or none with this ETag.

        Raises errors of botocore and of obstore, also while the blocks are read.
        """
        if not _is_plain(key):
            return self._get_by_boto3(key, etag)
        try:
            found = obstore.get(self._store, key, options={"if_match": f'"{etag}"'} if etag else None)
        except (FileNotFoundError, PreconditionError):
            return None
        if found.meta["size"] <= PART:
            return iter([found.bytes()])
        return iter(found.stream(min_chunk_size=PART // 2))

    def _get_by_boto3(self, key: str, etag: str | None) -> Iterator[bytes] | None:
        condition = {"IfMatch": f'"{etag}"'} if etag else {}
        try:
            reply = self._client.get_object(Bucket=self._bucket, Key=key, **condition)
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] in _ABSENT:
                return None
            raise
        blocks: Iterator[bytes] = reply["Body"].iter_chunks(PART)
        return blocks

    def put(self, key: str, data: Any, sha256: bytes) -> str:
        """Stores an object, which the store compares with its SHA-256 first. Gives the ETag that it answers with."""
        if _is_plain(key):
            return (obstore.put(self._store, key, data, use_multipart=False)["e_tag"] or "").strip('"')
        reply = self._client.put_object(
            Bucket=self._bucket, Key=key, Body=bytes(data), ChecksumSHA256=base64.b64encode(sha256).decode()
        )
        return str(reply.get("ETag", "")).strip('"')


def _is_plain(key: str) -> bool:
    return key.isprintable() and not {"", ".", ".."} & set(key.split("/"))
