"""What can go wrong with the mirror: one message each, which says whose fault it is and what to do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError
from obstore.exceptions import BaseError

_CREDENTIALS = {"InvalidAccessKeyId", "SignatureDoesNotMatch", "AccessDenied", "ExpiredToken", "403"}
_THROTTLED = {"SlowDown", "503", "429", "Throttling", "RequestLimitExceeded", "ServiceUnavailable"}
_CODE, _STATUS = re.compile(r"<Code>(\w+)</Code>"), re.compile(r"status code: (\d{3})")
_FULL = {"507", "QuotaExceeded", "InsufficientCapacity"}


class MirrorError(Exception):
    """The mirror stopped. What it had copied is written down, and the next run goes on from there."""


class DamagedCopyError(MirrorError):
    """A body is not what it should be: shorter, or with another checksum."""


class TooManyDeletesError(MirrorError):
    """More is gone from the lake than the limits allow; the mirror keeps it all until a person has looked."""


@contextmanager
def naming(store: str, client: Any, what: str) -> Iterator[None]:
    """Turns botocore's and obstore's errors into one MirrorError that names the store, the object and the fix."""
    where = f"the {store} store ({client.meta.endpoint_url})"
    try:
        yield
    except ClientError as error:
        said = error.response.get("Error", {})
        raise MirrorError(
            f"{where} {_refusal(str(said.get('Code', '')), said.get('Message', ''))} at {what}"
        ) from error
    except (BaseError, FileNotFoundError) as error:
        # Of what the store answered obstore keeps the text alone.
        found = _CODE.search(str(error)) or _STATUS.search(str(error))
        if found is None:
            raise MirrorError(_silence(where, what, error)) from error
        raise MirrorError(f"{where} {_refusal(found[1], str(error).splitlines()[0])} at {what}") from error
    except (HTTPClientError, BotoCoreError, OSError) as error:
        raise MirrorError(_silence(where, what, error)) from error


def _silence(where: str, what: str, error: Exception) -> str:
    return f"{where} did not answer at {what} ({type(error).__name__}): is it up, and reachable from here?"


def _refusal(code: str, message: str) -> str:
    if code in _CREDENTIALS:
        return f"refuses the credentials or their rights ({code}): check login and password of its connection"
    if code in _THROTTLED:
        return f"goes on throttling after several tries ({code}): lower `threads` in include/mirror.yaml"
    if code in _FULL:
        return f"is full ({code}): give it room"
    if code == "NoSuchBucket":
        return "has no such bucket: make it, or correct include/mirror.yaml"
    return f"refused ({code}): {message}"
