"""Segments of a file, each sealed with AES-256-GCM so that none can be changed, cut off, moved or exchanged.

The STREAM construction: every file has a key of its own (HKDF-SHA-256 from the backup key, a random salt, the file's
place), every segment's nonce is its number and whether it is the last. The place (set and file name) and the header are
authenticated with the data. A reader gets plain bytes of authentic segments only.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from include.backup.errors import ConfigurationError, DamagedError

# Bytes of plain text in a segment: what a reader and a writer hold in memory, a few times over.
SEGMENT = 8 << 20
_MAGIC = b"LHB1"
_HEADER = struct.Struct(">4sB16sII")  # magic, flags, salt, number of the segment, size before compression
HEADER_SIZE = _HEADER.size
_FINAL, _ZSTD = 1, 2
KEY_SIZE = 32
# Faster levels save less CPU than sealing and sending their larger output costs.
ZSTD_LEVEL = 1


@dataclass(frozen=True)
class Key:
    """The backup key: 32 random bytes that never lie in the backup store."""

    secret: bytes = field(repr=False)

    @classmethod
    def parse(cls, text: str, place: str) -> Key:
        """`text`: base64. Raises ConfigurationError, naming `place`, when it is no key."""
        try:
            secret = base64.urlsafe_b64decode(text.strip().encode())
        except (binascii.Error, ValueError):
            secret = b""
        if len(secret) != KEY_SIZE:
            raise ConfigurationError(
                f"{place} must hold {KEY_SIZE} random bytes in base64; make some with `python -m include.backup key`"
            )
        return cls(secret)

    @classmethod
    def read(cls, path: Path) -> Key:
        """From a file that only its owner may read. Raises ConfigurationError."""
        try:
            mode, text = path.stat().st_mode & 0o077, path.read_text(encoding="ascii")
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"cannot read the backup key {path}: {error}") from error
        if mode:
            raise ConfigurationError(f"{path} holds the backup key and may be read by others: chmod 600 {path}")
        return cls.parse(text, str(path))

    @staticmethod
    def generate() -> str:
        return base64.urlsafe_b64encode(os.urandom(KEY_SIZE)).decode()

    def derive(self, purpose: str, salt: bytes = b"") -> bytes:
        return _derive(self.secret, purpose, salt)

    @property
    def fingerprint(self) -> str:
        """Names the key without telling it."""
        return self.derive("fingerprint")[:8].hex()

    def sign(self, data: bytes) -> str:
        return hmac.new(self.derive("signature"), data, hashlib.sha256).hexdigest()

    def is_signature(self, data: bytes, signature: object) -> bool:
        return isinstance(signature, str) and hmac.compare_digest(self.sign(data).encode(), signature.encode())


@lru_cache(maxsize=256)
def _derive(secret: bytes, purpose: str, salt: bytes) -> bytes:
    return HKDF(hashes.SHA256(), KEY_SIZE, salt or None, f"open-lakehouse backup: {purpose}".encode()).derive(secret)


@lru_cache(maxsize=1)
def _zstd() -> Any:
    from pyarrow import Codec  # heavy, and not needed to list sets

    return Codec("zstd", compression_level=ZSTD_LEVEL)


def seal(key: Key, place: str, salt: bytes, number: int, data: bytes | bytearray, *, final: bool) -> bytes:
    """One segment of the file at `place`, `number` from 0. Compressed where that makes it a tenth smaller."""
    flags, size = (_FINAL if final else 0), len(data)
    packed = _zstd().compress(data, asbytes=True) if size > 64 else data
    if len(packed) < size * 0.9:
        data, flags = packed, flags | _ZSTD
    header = _HEADER.pack(_MAGIC, flags, salt, number, size)
    return header + _cipher(key, place, salt).encrypt(_nonce(number, flags), data, header + place.encode())


def unseal(key: Key, place: str, number: int, blob: bytes) -> tuple[bytes, bytes, bool]:
    """Salt, data and whether it is the file's last segment. Raises DamagedError for anything but what was sealed."""
    try:
        magic, flags, salt, found, size = _HEADER.unpack_from(blob)
    except struct.error:
        raise DamagedError(f"segment {number} of {place} is cut off") from None
    if magic != _MAGIC or found != number or size > 64 * SEGMENT:
        raise DamagedError(f"segment {number} of {place} is none, or another one")
    header = blob[:HEADER_SIZE]
    try:
        data = _cipher(key, place, salt).decrypt(
            _nonce(number, flags), memoryview(blob)[HEADER_SIZE:], header + place.encode()
        )
    except InvalidTag:
        raise DamagedError(f"segment {number} of {place} was changed, or sealed with another key") from None
    if flags & _ZSTD:
        data = _zstd().decompress(data, decompressed_size=size, asbytes=True)
    if len(data) != size:
        raise DamagedError(f"segment {number} of {place} has {len(data)} bytes, not {size}")
    return salt, data, bool(flags & _FINAL)


def _cipher(key: Key, place: str, salt: bytes) -> AESGCM:
    return AESGCM(key.derive(f"segments of {place}", salt))


def _nonce(number: int, flags: int) -> bytes:
    return number.to_bytes(11, "big") + bytes([flags & _FINAL])


class Reader:
    """Plain bytes of one file, segment after segment; checks that they are one file's, in order, up to the last."""

    def __init__(self, key: Key, place: str, count: int, fetch: Callable[[int], bytes]) -> None:
        self._key, self._place, self._count, self._fetch = key, place, count, fetch
        self._next, self._salt, self._rest = 0, b"", memoryview(b"")

    def segment(self) -> bytes:
        """The next segment, nothing after the last. Raises DamagedError."""
        if self._next == self._count:
            return b""
        salt, data, final = unseal(self._key, self._place, self._next, self._fetch(self._next))
        self._next += 1
        if self._next > 1 and salt != self._salt:
            raise DamagedError(f"segment {self._next - 1} of {self._place} belongs to another writing of it")
        self._salt = salt
        if final != (self._next == self._count):
            raise DamagedError(f"{self._place} does not end with its last segment")
        return data

    def read(self, size: int = -1) -> bytes:
        """As a file's `read`."""
        taken = []
        while size:
            if not self._rest:
                self._rest = memoryview(self.segment())
                if not self._rest:
                    break
            piece = self._rest if size < 0 else self._rest[:size]
            self._rest = self._rest[len(piece) :]
            taken.append(piece)
            size -= len(piece) if size > 0 else 0
        return b"".join(taken)
