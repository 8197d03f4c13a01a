"""Nothing but what was sealed comes out: in this order, at this place, whole, under this key."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from include.backup import manifest as manifests
from include.backup.errors import ConfigurationError, DamagedError
from include.backup.sealed import Key, Reader, seal, unseal

KEY = Key.parse(Key.generate(), "the test")
SALT = os.urandom(16)


def sealed(pieces: list[bytes], place: str = "set/part/file", salt: bytes = SALT) -> list[bytes]:
    last = len(pieces) - 1
    return [seal(KEY, place, salt, n, piece, final=n == last) for n, piece in enumerate(pieces)]


def opened(blobs: list[bytes], place: str = "set/part/file", key: Key = KEY) -> bytes:
    return Reader(key, place, len(blobs), blobs.__getitem__).read()


@pytest.mark.parametrize("data", [b"", b"x", b"text " * 10_000, os.urandom(70_000)])
def test_what_is_sealed_is_read_back(data: bytes) -> None:
    assert opened(sealed([data])) == data
    assert opened(sealed([data, data[::-1], data])) == data + data[::-1] + data


def test_compressible_data_becomes_smaller_and_random_data_does_not_grow() -> None:
    assert len(sealed([b"0" * 100_000])[0]) < 1000
    assert len(sealed([os.urandom(100_000)])[0]) < 100_100


def test_every_flipped_bit_of_a_segment_is_found() -> None:
    (blob,) = sealed([b"some text " * 20])
    for bit in range(len(blob) * 8):
        changed = bytearray(blob)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(DamagedError):
            opened([bytes(changed)])


def test_every_length_but_the_whole_is_found() -> None:
    (blob,) = sealed([b"some text " * 20])
    for length in range(len(blob)):
        with pytest.raises(DamagedError):
            opened([blob[:length]])
    with pytest.raises(DamagedError):
        opened([blob + b"\0"])


def test_segments_are_of_one_file_in_order_and_up_to_the_last() -> None:
    first, second, third = sealed([b"a" * 100, b"b" * 100, b"c" * 100])
    other = sealed([b"a" * 100, b"x" * 100, b"c" * 100], salt=os.urandom(16))
    for blobs in (
        [first, second],
        [first, third],
        [second, first, third],
        [first, second, third, third],
        [first, other[1], third],
        [third],
    ):
        with pytest.raises(DamagedError):
            opened(blobs)
    with pytest.raises(DamagedError):
        opened([first, second, third], place="set/part/other")


def test_another_key_opens_nothing() -> None:
    with pytest.raises(DamagedError, match="another key"):
        opened(sealed([b"secret"]), key=Key.parse(Key.generate(), "the test"))


def test_a_reader_gives_pieces_of_any_size() -> None:
    pieces = [random.randbytes(1000) for _ in range(5)]
    reader, found = Reader(KEY, "f", 5, sealed(pieces, "f").__getitem__), b""
    while piece := reader.read(333):
        found += piece
    assert found == b"".join(pieces)


@pytest.mark.parametrize("text", ["", "short", "*" * 44, Key.generate()[:-4]])
def test_what_is_no_key_is_refused_by_name(text: str) -> None:
    with pytest.raises(ConfigurationError, match="backup_key"):
        Key.parse(text, "connection backup_key")


def test_a_key_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(Key.generate())
    file.chmod(0o640)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        Key.read(file)
    file.chmod(0o600)
    assert Key.read(file).fingerprint
    with pytest.raises(ConfigurationError, match="nowhere"):
        Key.read(tmp_path / "nowhere")


def test_a_signed_document_cannot_be_changed_nor_passed_off_as_another() -> None:
    data = manifests.sign(KEY, "manifest", {"set_id": "a", "parts": []})
    assert manifests.read(KEY, "manifest", data, "it")["set_id"] == "a"
    for bit in range(len(data) * 8):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(DamagedError):
            manifests.read(KEY, "manifest", bytes(changed), "it")
    for wrong in (data[:-1], data + b" ", b"[]", b"null", b"{}", b"", b"\xff"):
        with pytest.raises(DamagedError):
            manifests.read(KEY, "manifest", wrong, "it")
    with pytest.raises(DamagedError, match="forged"):
        manifests.read(KEY, "report", data, "it")
    with pytest.raises(DamagedError, match="give the key that made the set"):
        manifests.read(Key.parse(Key.generate(), "the test"), "manifest", data, "it")


def test_a_header_that_promises_gigabytes_is_refused_before_anything_is_unpacked() -> None:
    (blob,) = sealed([b"x" * 1000])
    huge = blob[:25] + (2**32 - 1).to_bytes(4, "big") + blob[29:]
    with pytest.raises(DamagedError, match="none, or another"):
        unseal(KEY, "set/part/file", 0, huge)
