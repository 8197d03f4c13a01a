"""Functions that DuckDB has no words for, in Python. Macros of functions.sql give them Dremio's names and types.

They run row by row, so only what cannot be said in SQL stands here. An error text is what the client sees.
"""

from __future__ import annotations

import base64
import datetime
import hashlib
import re
import struct
import unicodedata
import zlib
from collections.abc import Callable, Sequence
from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation
from typing import Any
from urllib.parse import parse_qsl, urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import duckdb
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from duckdb.func import FunctionNullHandling

# sys.timezone_abbrevs, as far as people use them: an abbreviation is a fixed offset, never a zone with summer time.
_ABBREVIATIONS = {
    "UTC": 0, "GMT": 0, "WET": 0, "WEST": 60, "CET": 60, "CEST": 120, "EET": 120, "EEST": 180, "MSK": 180, "BST": 60,
    "IST": 330, "JST": 540, "KST": 540, "AEST": 600, "AEDT": 660, "NZST": 720, "NZDT": 780, "EST": -300, "EDT": -240,
    "CST": -360, "CDT": -300, "MST": -420, "MDT": -360, "PST": -480, "PDT": -420, "AKST": -540, "AKDT": -480,
    "HST": -600,
}  # fmt: skip
_OFFSET = re.compile(r"([+-])(\d{1,2}):?(\d{2})?\Z")


def _zone(name: str) -> datetime.tzinfo:
    if name.upper() in _ABBREVIATIONS:
        return datetime.timezone(datetime.timedelta(minutes=_ABBREVIATIONS[name.upper()]))
    if match := _OFFSET.match(name.strip()):
        minutes = int(match[2]) * 60 + int(match[3] or 0)
        return datetime.timezone(datetime.timedelta(minutes=-minutes if match[1] == "-" else minutes))
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        raise ValueError(f"Unable to find the requested timezone {name}") from None


def convert_timezone(source: str, target: str, moment: datetime.datetime) -> datetime.datetime:
    return moment.replace(tzinfo=_zone(source)).astimezone(_zone(target)).replace(tzinfo=None)


# Numbers as text: Java's DecimalFormat -------------------------------------------------------------------------------


class _Mask:
    """One pattern such as $#,##0.00 or 0.#%"""

    _DIGITS = re.compile(r"[#0,.]+")

    def __init__(self, mask: str) -> None:
        found = self._DIGITS.search(mask)
        if found is None or self._DIGITS.search(mask, found.end()):
            raise ValueError(f"Failure parsing the formatting string '{mask}'.")
        self.before, self.after = mask[: found.start()].replace("'", ""), mask[found.end() :].replace("'", "")
        if re.search(r"[;E]", self.before + self.after):
            raise ValueError(f"Failure parsing the formatting string '{mask}'.")
        whole, _, fraction = found[0].partition(".")
        self.percent = "%" in self.before + self.after
        self.group = len(whole) - whole.rfind(",") - 1 if "," in whole else 0
        self.least = whole.count("0") or (1 if fraction and whole.replace(",", "") else 0)
        self.least_fraction, self.most_fraction = fraction.count("0"), len(fraction)

    def write(self, value: Decimal) -> str:
        value = value * 100 if self.percent else value
        rounded = value.quantize(Decimal(1).scaleb(-self.most_fraction), ROUND_HALF_EVEN)
        sign = "-" if rounded < 0 else ""
        whole, _, fraction = format(abs(rounded), "f").partition(".")
        fraction = fraction.rstrip("0").ljust(self.least_fraction, "0")
        whole = whole.lstrip("0").rjust(self.least, "0")
        if not whole and not fraction:
            whole = "0"
        if self.group:
            at = len(whole)
            parts = []
            while at > 0:
                parts.append(whole[max(0, at - self.group) : at])
                at -= self.group
            whole = ",".join(reversed(parts))
        return f"{sign}{self.before}{whole}{'.' if fraction else ''}{fraction}{self.after}"


def format_number(value: Decimal, mask: str) -> str:
    return _Mask(mask).write(value)


def parse_number(text: str, mask: str) -> float:
    """The longest start of the text that fits; decimals beyond the mask are cut, as in Dremio's example."""
    pattern = _Mask(mask)
    plain = text.strip().removeprefix(pattern.before).removesuffix(pattern.after)
    try:
        value = Decimal(plain.replace(",", "") if pattern.group else plain)
    except InvalidOperation:
        raise ValueError(f"Could not parse input string '{text}' with number format '{mask}'") from None
    value = value / 100 if pattern.percent else value
    return float(value.quantize(Decimal(1).scaleb(-pattern.most_fraction), ROUND_HALF_EVEN))


# Text ---------------------------------------------------------------------------------------------------------------

_SOUNDEX = {c: d for d, letters in enumerate(("BFPV", "CGJKQSXZ", "DT", "L", "MN", "R"), 1) for c in letters}


def soundex(text: str) -> str:
    letters = [c for c in text.upper() if "A" <= c <= "Z"]
    if not letters:
        return ""
    codes = [str(_SOUNDEX.get(letters[0], ""))]
    for letter in letters[1:]:
        code = str(_SOUNDEX.get(letter, ""))
        if letter in "HW":  # they do not part two letters of one sound
            continue
        codes.append(code if code != codes[-1] else "=")
        if codes[-1] == "=":
            codes[-1:] = []
    return (letters[0] + "".join(codes[1:]) + "000")[:4]


def regexp_split(text: str, pattern: str, keyword: str, number: int) -> list[str]:
    """FIRST, LAST, INDEX n (the n-th match from zero), ALL n (the first n pieces)."""
    matches = [m for m in re.finditer(pattern, text) if m.end() > m.start()]
    word = keyword.upper()
    if word in ("FIRST", "LAST", "INDEX"):
        at = {"FIRST": 0, "LAST": len(matches) - 1}.get(word, number)
        if not 0 <= at < len(matches):
            return [text]
        return [text[: matches[at].start()], text[matches[at].end() :]]
    if word != "ALL":
        raise ValueError(f"REGEXP_SPLIT expects FIRST, LAST, INDEX or ALL, not '{keyword}'")
    starts = [0, *(m.end() for m in matches)]
    ends = [*(m.start() for m in matches), len(text)]
    pieces = [text[a:b] for a, b in zip(starts, ends, strict=True)]
    return pieces[:number] if number > 0 else pieces


def _parse_url(url: str | None, part: str | None, key: str | None) -> str | None:
    return None if url is None or part is None or key is None else parse_url(url, part, key)


def parse_url(url: str, part: str, key: str) -> str | None:
    """java.net.URL's parts; `key` '' gives the whole query."""
    try:
        found = urlsplit(url)
    except ValueError:
        return None
    if not found.scheme:
        return None
    if part == "QUERY":
        if not key:
            return found.query or None
        return next((value for name, value in parse_qsl(found.query, keep_blank_values=True) if name == key), None)
    user = found.netloc.rpartition("@")[0]
    parts = {
        "HOST": found.netloc.rpartition("@")[2].partition(":")[0],
        "PATH": found.path,
        "REF": found.fragment or None,
        "PROTOCOL": found.scheme,
        "AUTHORITY": found.netloc,
        "FILE": found.path + (f"?{found.query}" if found.query else ""),
        "USERINFO": user or None,
    }
    return parts.get(part)


def normalize(text: str, form: str) -> str:
    if form.upper() not in ("NFC", "NFD", "NFKC", "NFKD"):
        raise ValueError(f"Unknown normalization form '{form}'")
    return unicodedata.normalize(form.upper(), text)  # type: ignore[arg-type]


def string_binary(value: bytes) -> str:
    return "".join(chr(b) if 32 <= b < 127 else f"\\x{b:02X}" for b in value)


def binary_string(text: str) -> bytes:
    r"""Characters as UTF-8, and \xNN as the byte NN."""
    pieces = re.split(r"\\x([0-9A-Fa-f]{2})", text)
    return b"".join(bytes.fromhex(p) if i % 2 else p.encode() for i, p in enumerate(pieces))


def encode_text(text: str, charset: str) -> bytes:
    try:
        return text.encode(charset)
    except LookupError:
        raise ValueError(f"Unsupported charset '{charset}'") from None


def replace_utf8(value: bytes, mark: str) -> str:
    pieces: list[str] = []
    while value:
        try:
            return "".join(pieces) + value.decode()
        except UnicodeDecodeError as error:
            pieces += [value[: error.start].decode(), mark]
            value = value[error.end :]
    return "".join(pieces)


# Places -------------------------------------------------------------------------------------------------------------

_BASE32 = "0123456789bcdefghjkmnpqrstuvwxyz"


def geohash(latitude: float, longitude: float, length: int) -> str:
    if not 1 <= length <= 20:
        raise ValueError("precision must be between 1 and 20")
    if not (-90 <= latitude <= 90 and -180 <= longitude <= 180):
        raise ValueError("latitude must be between -90 and 90, longitude between -180 and 180")
    ranges = [[-180.0, 180.0], [-90.0, 90.0]]
    values = (longitude, latitude)
    out, bits, number = [], 0, 0
    for at in range(length * 5):
        span = ranges[at % 2]
        middle = (span[0] + span[1]) / 2
        upper = values[at % 2] >= middle
        span[0 if upper else 1] = middle
        number, bits = number * 2 + upper, bits + 1
        if bits == 5:
            out.append(_BASE32[number])
            bits = number = 0
    return "".join(out)


def from_geohash(text: str) -> dict[str, float]:
    ranges = [[-180.0, 180.0], [-90.0, 90.0]]
    at = 0
    for letter in text.lower():
        if letter not in _BASE32:
            raise ValueError(f"geohash must be a valid, base32-encoded geohash: '{text}'")
        for shift in range(4, -1, -1):
            span = ranges[at % 2]
            span[0 if _BASE32.index(letter) >> shift & 1 else 1] = (span[0] + span[1]) / 2
            at += 1
    return {"Latitude": sum(ranges[1]) / 2, "Longitude": sum(ranges[0]) / 2}


# Cryptography -------------------------------------------------------------------------------------------------------


def _cipher(key: bytes, mode: str, iv: bytes) -> tuple[Cipher[Any], bool]:
    """The cipher of AES-ECB or AES-CBC, and whether it pads."""
    parts = mode.upper().split("-")
    if parts[:1] != ["AES"] or parts[1:2] not in (["ECB"], ["CBC"]) or parts[2:] not in ([], ["PKCS7"], ["NONE"]):
        raise ValueError(f"Unsupported encryption mode '{mode}'")
    if len(key) not in (16, 24, 32):
        raise ValueError("The key must have 16, 24 or 32 bytes")
    if parts[1] == "CBC" and len(iv) != 16:
        raise ValueError("The IV of AES-CBC must have 16 bytes")
    chosen = modes.ECB() if parts[1] == "ECB" else modes.CBC(iv)
    return Cipher(algorithms.AES(key), chosen), parts[2:] != ["NONE"]


def encrypt(data: bytes, key: bytes, mode: str, iv: bytes, extra: bytes) -> bytes:
    if mode.upper() == "AES-GCM":
        return AESGCM(key).encrypt(iv, data, extra or None)
    cipher, pads = _cipher(key, mode, iv)
    if pads:
        rest = 16 - len(data) % 16
        data += bytes([rest]) * rest
    encryptor = cipher.encryptor()
    return bytes(encryptor.update(data) + encryptor.finalize())


def decrypt(data: bytes, key: bytes, mode: str, iv: bytes, extra: bytes) -> bytes:
    if mode.upper() == "AES-GCM":
        try:
            return AESGCM(key).decrypt(iv, data, extra or None)
        except InvalidTag:
            raise ValueError("Decryption failed: the authentication tag does not match") from None
    cipher, pads = _cipher(key, mode, iv)
    decryptor = cipher.decryptor()
    plain = bytes(decryptor.update(data) + decryptor.finalize())
    if not pads:
        return plain
    rest = plain[-1] if plain else 0
    if not 1 <= rest <= 16 or plain[-rest:] != bytes([rest]) * rest:
        raise ValueError("Decryption failed: wrong key or padding")
    return plain[:-rest]


def aes_encrypt(text: str, key: str) -> str:
    return base64.b64encode(encrypt(text.encode(), key.encode(), "AES-ECB", b"", b"")).decode()


def aes_decrypt(text: str, key: str) -> str:
    return decrypt(base64.b64decode(text), key.encode(), "AES-ECB", b"", b"").decode()


# Bytes of numbers: CONVERT_TO and CONVERT_FROM ------------------------------------------------------------------------

_INTEGERS = {"INT": "i", "BIGINT": "q", "DATE_EPOCH": "q", "TIME_EPOCH": "i", "TIMESTAMP_EPOCH": "q",
             "BOOLEAN_BYTE": "b"}  # fmt: skip
_FLOATS = {"FLOAT": "f", "DOUBLE": "d"}


def _layout(kind: str) -> str:
    name = kind.removesuffix("_BE")
    return (">" if kind.endswith("_BE") else "<") + {**_INTEGERS, **_FLOATS}[name]


def pack_integer(value: int, kind: str) -> bytes:
    return struct.pack(_layout(kind), value)


def pack_float(value: float, kind: str) -> bytes:
    return struct.pack(_layout(kind), value)


def _unpack(value: bytes, kind: str) -> Any:
    size = struct.calcsize(_layout(kind))
    if len(value) < size:
        raise ValueError(f"Wrong length {len(value)} (0x{len(value):X}) in the buffer, expected {size}")
    return struct.unpack(_layout(kind), value[:size])[0]


def unpack_integer(value: bytes, kind: str) -> int:
    return int(_unpack(value, kind))


def unpack_float(value: bytes, kind: str) -> float:
    return float(_unpack(value, kind))


# name, function, parameter types, result type
_TABLE: tuple[tuple[str, Callable[..., Any], Sequence[str], str], ...] = (
    ("py_convert_timezone", convert_timezone, ("VARCHAR", "VARCHAR", "TIMESTAMP"), "TIMESTAMP"),
    ("py_format_number", format_number, ("DECIMAL(38, 10)", "VARCHAR"), "VARCHAR"),
    ("py_parse_number", parse_number, ("VARCHAR", "VARCHAR"), "DOUBLE"),
    ("py_soundex", soundex, ("VARCHAR",), "VARCHAR"),
    ("py_regexp_split", regexp_split, ("VARCHAR", "VARCHAR", "VARCHAR", "INTEGER"), "VARCHAR[]"),
    ("py_normalize", normalize, ("VARCHAR", "VARCHAR"), "VARCHAR"),
    ("py_string_binary", string_binary, ("BLOB",), "VARCHAR"),
    ("py_binary_string", binary_string, ("VARCHAR",), "BLOB"),
    ("py_encode", encode_text, ("VARCHAR", "VARCHAR"), "BLOB"),
    ("py_replace_utf8", replace_utf8, ("BLOB", "VARCHAR"), "VARCHAR"),
    ("py_crc32", lambda value: zlib.crc32(value), ("BLOB",), "BIGINT"),
    ("py_sha512", lambda value: hashlib.sha512(value).hexdigest(), ("BLOB",), "VARCHAR"),
    ("py_geohash", geohash, ("DOUBLE", "DOUBLE", "INTEGER"), "VARCHAR"),
    ("py_from_geohash", from_geohash, ("VARCHAR",), 'STRUCT("Latitude" DOUBLE, "Longitude" DOUBLE)'),
    ("py_encrypt", encrypt, ("BLOB", "BLOB", "VARCHAR", "BLOB", "BLOB"), "BLOB"),
    ("py_decrypt", decrypt, ("BLOB", "BLOB", "VARCHAR", "BLOB", "BLOB"), "BLOB"),
    ("py_aes_encrypt", aes_encrypt, ("VARCHAR", "VARCHAR"), "VARCHAR"),
    ("py_aes_decrypt", aes_decrypt, ("VARCHAR", "VARCHAR"), "VARCHAR"),
    ("py_pack_integer", pack_integer, ("BIGINT", "VARCHAR"), "BLOB"),
    ("py_pack_float", pack_float, ("DOUBLE", "VARCHAR"), "BLOB"),
    ("py_unpack_integer", unpack_integer, ("BLOB", "VARCHAR"), "BIGINT"),
    ("py_unpack_float", unpack_float, ("BLOB", "VARCHAR"), "DOUBLE"),
)


def register(connection: duckdb.DuckDBPyConnection) -> None:
    """Before the macros are made: they call these."""
    for name, function, parameters, result in _TABLE:
        connection.create_function(name, function, list(parameters), result)
    # DuckDB's default handling answers NULL for a NULL argument, and takes no NULL as an answer.
    connection.create_function(
        "py_parse_url",
        _parse_url,
        ["VARCHAR", "VARCHAR", "VARCHAR"],
        "VARCHAR",
        null_handling=FunctionNullHandling.SPECIAL,
    )
