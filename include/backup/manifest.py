"""Signed documents of a set, and the manifest that binds it: canonical JSON under HMAC-SHA-256."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from include.backup.errors import ConfigurationError, DamagedError
from include.backup.sealed import Key
from include.backup.store import MissingError, Store

FORMAT = 1
SET_ID = re.compile(r"[0-9]{8}T[0-9]{6}Z-[0-9a-f]{8}")
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@-]{0,199}")


def canonical(value: Any) -> bytes:
    """One text for one value, whoever writes it."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode()


def sign(key: Key, kind: str, body: Mapping[str, Any]) -> bytes:
    """`kind` is part of what is signed: a report can never be passed off as a manifest."""
    signature = key.sign(kind.encode() + b"\n" + canonical(body))
    return canonical({"kind": kind, "key": key.fingerprint, "body": body, "signature": signature})


def read(key: Key, kind: str, data: bytes, place: str) -> dict[str, Any]:
    """The body. Raises DamagedError for whatever was not signed with this key, and for another kind."""
    try:
        document = json.loads(data)
        body, signature, fingerprint = document["body"], document["signature"], document["key"]
        text = canonical(body)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DamagedError(f"{place} is no signed document: {error}") from None
    if data != canonical(document):  # one value has one text: anything else was written by somebody else
        raise DamagedError(f"{place} is not as it was written")
    if fingerprint != key.fingerprint:
        raise DamagedError(
            f"{place} was signed with the backup key {str(fingerprint)[:16]}, this one is {key.fingerprint}: "
            "give the key that made the set, in the connection or file that include/backup.yaml names"
        )
    if not key.is_signature(kind.encode() + b"\n" + text, signature) or document.get("kind") != kind:
        raise DamagedError(f"{place} was forged or changed: its signature is wrong")
    assert isinstance(body, dict)
    return body


@dataclass(frozen=True)
class Segment:
    """One object of the store."""

    key: str
    size: int
    sha256: str


@dataclass(frozen=True)
class File:
    """`size`: plain bytes. `place`: what its segments are sealed for."""

    name: str
    place: str
    size: int
    segments: tuple[Segment, ...]

    def as_json(self) -> dict[str, Any]:
        segments = [[one.key, one.size, one.sha256] for one in self.segments]
        return {"name": self.name, "place": self.place, "size": self.size, "segments": segments}

    @classmethod
    def from_json(cls, item: Mapping[str, Any]) -> File:
        return cls(
            str(item["name"]), str(item["place"]), int(item["size"]), tuple(Segment(*one) for one in item["segments"])
        )


@dataclass(frozen=True)
class Part:
    """What one part of a set left: its files, and facts such as LSNs and row hashes."""

    name: str
    files: tuple[File, ...]
    facts: Mapping[str, Any]

    def file(self, name: str) -> File:
        """Raises DamagedError when the part has none of that name."""
        for file in self.files:
            if file.name == name:
                return file
        raise DamagedError(f"part {self.name} has no file {name}")

    def as_json(self) -> dict[str, Any]:
        return {"name": self.name, "files": [file.as_json() for file in self.files], "facts": dict(self.facts)}

    @classmethod
    def from_json(cls, item: Mapping[str, Any]) -> Part:
        return cls(str(item["name"]), tuple(File.from_json(file) for file in item["files"]), item["facts"])


@dataclass(frozen=True)
class Manifest:
    """`skipped`: parts that do not exist here, with the reason. `sha256`: of the manifest as it lies in the store."""

    set_id: str
    body: Mapping[str, Any]
    sha256: str
    parts: Mapping[str, Part]

    @property
    def kind(self) -> str:
        return str(self.body["kind"])

    @property
    def parent(self) -> str | None:
        parent = self.body["parent"]
        return str(parent["set_id"]) if parent else None

    @property
    def bytes(self) -> int:
        """Of all objects, as they lie in the store."""
        return sum(one.size for part in self.parts.values() for file in part.files for one in file.segments)


def check_id(set_id: str) -> str:
    """Raises ConfigurationError for what is no set id: it becomes part of keys and paths."""
    if not SET_ID.fullmatch(set_id):
        raise ConfigurationError(f"{set_id!r} is no set id, such as 20261126T020000Z-0123abcd")
    return set_id


def manifest_key(set_id: str) -> str:
    return f"sets/{check_id(set_id)}/manifest.json"


def load(store: Store, key: Key, set_id: str) -> Manifest:
    """Raises DamagedError for a manifest that is missing, forged, or another set's."""
    try:
        data = store.get(manifest_key(set_id))
    except MissingError:
        raise DamagedError(f"set {set_id} has no manifest: it was never completed, or the manifest is lost") from None
    place = f"the manifest of {set_id}"
    body = read(key, "manifest", data, place)
    if body.get("format") != FORMAT:
        raise DamagedError(f"{place} has format {body.get('format')}, this program reads {FORMAT}")
    if body.get("set_id") != set_id:
        raise DamagedError(f"{place} is that of {body.get('set_id')}: it was put here instead")
    parts = {part.name: part for part in map(Part.from_json, body["parts"])}
    manifest = Manifest(set_id, body, hashlib.sha256(data).hexdigest(), parts)
    return manifest


def chain(store: Store, key: Key, set_id: str) -> list[Manifest]:
    """The set and what it builds on, the full one first. Raises DamagedError where a parent was exchanged."""
    found = [load(store, key, set_id)]
    while (parent := found[0].body["parent"]) is not None:
        above = load(store, key, parent["set_id"])
        if above.sha256 != parent["manifest_sha256"]:
            raise DamagedError(f"the manifest of {parent['set_id']} is not the one that {found[0].set_id} builds on")
        found.insert(0, above)
    return found


def complete(store: Store) -> list[str]:
    """Ids of the sets that have a manifest, oldest first; nothing is said about what is in them."""
    found = []
    for name in store.folders("sets/"):
        if SET_ID.fullmatch(name):
            try:
                store.size(manifest_key(name))
            except MissingError:
                continue
            found.append(name)
    return found
