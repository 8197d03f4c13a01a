"""Why an attempt failed, in the three words that Airbyte's failure reasons use: origin, type, message."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Origin = Literal["source", "destination", "replication"]
Kind = Literal["config_error", "transient_error", "system_error"]


@dataclass
class SyncError(Exception):
    """An attempt cannot go on.

    kind: `config_error` is never retried (a person must mend something: the message says what);
    `transient_error` and `system_error` are retried with back-off.
    """

    origin: Origin
    kind: Kind
    message: str
    # The connection is made inactive as well (nonBreakingSchemaUpdatesBehavior disable_connection).
    disables_connection: bool = False

    def __str__(self) -> str:
        return self.message

    def as_json(self) -> dict[str, Any]:
        return {"origin": self.origin, "type": self.kind, "message": self.message}


def scrub(text: str, secrets: list[str]) -> str:
    """Take secret values out of a message. Values under 5 characters are left: they would tear words apart."""
    for secret in secrets:
        if len(secret) >= 5:
            text = text.replace(secret, "**********")
    return text
