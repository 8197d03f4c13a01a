"""The S3 client of a destination, and what its errors mean for the person who has to mend them."""

from __future__ import annotations

from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, EndpointConnectionError

from embedded.replication.connectors import S3Destination
from embedded.replication.failures import SyncError

_CONFIG = Config(
    connect_timeout=10,
    read_timeout=60,
    retries={"mode": "standard", "total_max_attempts": 6},
    max_pool_connections=4,
    # The signature covers a SHA-256 of every part; a second checksum would be stored as a content encoding by some
    # servers (SeaweedFS over HTTPS).
    request_checksum_calculation="when_required",
    response_checksum_validation="when_required",
    signature_version="s3v4",
)


def client(destination: S3Destination) -> Any:
    """A boto3 client; without keys in the configuration boto3's own chain applies (environment, instance role)."""
    own = Config(
        s3={"addressing_style": "path" if destination.s3_endpoint else "auto", "payload_signing_enabled": True}
    )
    return boto3.client(
        "s3",
        endpoint_url=destination.s3_endpoint or None,
        region_name=destination.s3_bucket_region or "us-east-1",
        aws_access_key_id=destination.access_key_id or None,
        aws_secret_access_key=destination.secret_access_key or None,
        config=_CONFIG.merge(own),
    )


def preload() -> None:
    """Read botocore's description of S3, which its default session keeps: a fork need not read it again."""
    boto3.client("s3", region_name="us-east-1", aws_access_key_id="-", aws_secret_access_key="-", config=_CONFIG)


def error_code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def check(s3: Any, destination: S3Destination) -> None:
    """Raise SyncError unless the bucket is there and may be used with these keys."""
    try:
        s3.head_bucket(Bucket=destination.s3_bucket_name)
    except (BotoCoreError, ClientError) as error:
        raise translate(error, destination) from None


def translate(error: BotoCoreError | ClientError, destination: S3Destination) -> SyncError:
    """Whose fault an S3 error is, whether to retry, what to mend."""
    where = f"S3 destination {destination.s3_endpoint or 'AWS'}, bucket {destination.s3_bucket_name}"
    if isinstance(error, ClientError):
        code = error_code(error)
        advice = _CONFIG_CODES.get(code)
        if advice:
            return SyncError("destination", "config_error", f"{where}: {advice} ({error})")
        return SyncError("destination", "transient_error", f"{where}: the store refused the request ({error})")
    if isinstance(error, EndpointConnectionError):
        advice = "cannot be reached; check that it runs and that s3_endpoint is right"
        return SyncError("destination", "transient_error", f"{where} {advice} ({error})")
    return SyncError("destination", "transient_error", f"{where}: {error}")


_CONFIG_CODES = {
    "404": "the bucket does not exist",
    "NoSuchBucket": "the bucket does not exist",
    "403": "the keys are wrong or may not use the bucket",
    "AccessDenied": "the keys may not write there",
    "InvalidAccessKeyId": "access_key_id is unknown",
    "SignatureDoesNotMatch": "secret_access_key is wrong",
    "PermanentRedirect": "s3_bucket_region is wrong",
    "AuthorizationHeaderMalformed": "s3_bucket_region is wrong",
}
