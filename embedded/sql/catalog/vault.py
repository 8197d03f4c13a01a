"""Secrets of sources at rest: PostgreSQL, its backups and its logs see ciphertext only.

The key is not in the database. A wrong key is found at start, before a source fails with words of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

_MARK = "fernet:"


class VaultError(ValueError):
    """A key is malformed, or it is not the one that the stored secrets were encrypted with."""


class Vault:
    """The first key encrypts, every key decrypts: put a new key in front to rotate."""

    def __init__(self, keys: Sequence[str]) -> None:
        try:
            self._fernet = MultiFernet([Fernet(key) for key in keys])
        except ValueError:
            raise VaultError("LAKEHOUSE_SQL_SECRET_KEY must hold URL-safe base64 keys of 32 bytes") from None
        self._newest = Fernet(keys[0])

    def lock(self, secrets: Mapping[str, str]) -> dict[str, str]:
        return {name: _MARK + self._newest.encrypt(value.encode()).decode() for name, value in secrets.items()}

    def open(self, stored: Mapping[str, str], owner: str) -> dict[str, str]:
        """Plain values; those of before encryption are taken as they are. Raises VaultError that names `owner`."""
        return {name: self._one(value, name, owner) for name, value in stored.items()}

    def _one(self, value: str, name: str, owner: str) -> str:
        if not value.startswith(_MARK):
            return value
        try:
            return self._fernet.decrypt(value.removeprefix(_MARK)).decode()
        except InvalidToken:
            raise VaultError(
                f"The secret {name} of source [{owner}] was encrypted with another key: give that key in "
                "LAKEHOUSE_SQL_SECRET_KEY too, after the new one and a comma"
            ) from None

    def stale(self, stored: Mapping[str, str]) -> bool:
        """Whether any value is plain text or encrypted with an older key."""
        return any(not self._fresh(value) for value in stored.values())

    def _fresh(self, value: str) -> bool:
        try:
            self._newest.decrypt(value.removeprefix(_MARK))
        except InvalidToken:
            return False
        return value.startswith(_MARK)
