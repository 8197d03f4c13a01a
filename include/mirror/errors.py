"""What can go wrong with the mirror: one message each, which says whose fault it is and what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError

_CREDENTIALS = {"InvalidAccessKeyId", "SignatureDoesNotMatch", "AccessDenied", "ExpiredToken", "403"}
_THROTTLED = {"SlowDown", "503", "429", "Throttling", "RequestLimitExceeded", "ServiceUnavailable"}
_FULL = {"507", "QuotaExceeded", "InsufficientCapacity"}


class MirrorError(Exception):
    """The mirror stopped. What it had copied is written down, and the next run goes on from there."""


class DamagedCopyError(MirrorError):
    """A body is not what it should be: shorter, or with another checksum."""


class TooManyDeletesError(MirrorError):
    """More is gone from the lake than the limits allow; the mirror keeps it all until a person has looked."""


@contextmanager
def naming(store: str, client: Any, what: str) -> Iterator[None]:
    """Turns botocore's errors into one MirrorError that names the store, the object and the fix."""
    where = f"the {store} store ({client.meta.endpoint_url})"
    try:
        yield
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", ""))
        raise MirrorError(f"{where} {_refusal(code, error)} at {what}") from error
    except (HTTPClientError, BotoCoreError, OSError) as error:
        raise MirrorError(
            f"{where} did not answer at {what} ({type(error).__name__}): is it up, and reachable from here?"
        ) from error


def _refusal(code: str, error: ClientError) -> str:
    if code in _CREDENTIALS:
        return f"refuses the credentials or their rights ({code}): check login and password of its connection"
    if code in _THROTTLED:
        return f"goes on throttling after several tries ({code}): lower `threads` in include/mirror.yaml"
    if code in _FULL:
        return f"is full ({code}): give it room"
    if code == "NoSuchBucket":
        return "has no such bucket: make it, or correct include/mirror.yaml"
    message = error.response.get("Error", {}).get("Message", "")
    return f"refused ({code}): {message}"
