"""One walk over the object store: notes what differs, and with `apply` makes it so; each call is whole by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from botocore.exceptions import ClientError

from include.reconcile.plan import ApplyError, Change

T = TypeVar("T")


@dataclass
class Session:
    """`s3`, `iam`: boto3 clients of the same store."""

    s3: Any
    iam: Any
    apply: bool
    changes: list[Change] = field(default_factory=list)

    def make(self, change: Change, do: Callable[[], Any]) -> None:
        """Notes the change, then makes it. Raises ApplyError, which names it; what was applied before it stays."""
        if self.apply:
            try:
                do()
            except ClientError as error:
                raise ApplyError(f"{change.action} {change.kind} {change.name}: {error}") from error
        self.changes.append(change)


def or_none(read: Callable[[], T], absent: Iterable[str]) -> T | None:
    """What `read` gives; None for an error code that says that there is none."""
    try:
        return read()
    except ClientError as error:
        if error.response["Error"]["Code"] in absent:
            return None
        raise


def canonical(value: Any) -> Any:
    """A policy document as it compares: a list of one is its item, lists are sets, no defaults."""
    if isinstance(value, dict):
        return {key: canonical(item) for key, item in value.items()}
    if isinstance(value, list):
        found = sorted((canonical(item) for item in value), key=repr)
        return found[0] if len(found) == 1 else found
    return value
