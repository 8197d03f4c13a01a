"""Sources: what they must offer, how their configuration is checked and their secrets kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import pyarrow as pa

from embedded.sql.datasets import Dataset, Path
from embedded.sql.errors import ValidationError

EXISTING = "$DREMIO_EXISTING_VALUE$"


@dataclass(frozen=True)
class Child:
    """Something directly under a container of a source, as the source itself spells it."""

    name: str
    kind: Literal["folder", "file", "table"]


class Source(Protocol):
    """One external system. `sub` is a path inside it. Every method raises ResourceError while it cannot be reached."""

    def probe(self) -> str | None:
        """None when the source answers, else what is wrong."""
        ...

    def children(self, sub: Path) -> list[Child] | None:
        """None: there is no such container."""
        ...

    def table(self, path: Path) -> Dataset | None:
        """A table that the source itself knows, by its full path; None for an unknown one and for plain files."""
        ...

    def tables(self) -> list[Path]:
        """The full paths of all tables that the source itself knows."""
        ...

    def folders(self) -> list[Path]:
        """The full paths of all schemas or namespaces."""
        ...

    def columns(self, path: Path) -> pa.Schema:
        """The columns of one of its tables, in Dremio's types."""
        ...

    def forget(self, path: Path) -> None:
        """Whatever is remembered about this table may be wrong now."""
        ...


# Every key that the product documents for a source type. What we do not act upon is kept and given back.
_KNOWN: dict[str, frozenset[str]] = {
    "S3": frozenset(
        "credentialType accessKey accessSecret secure rootPath enableAsync compatibilityMode whitelistedBuckets "
        "externalBucketList isCachingEnabled maxCacheSpacePct requesterPays enableFileStatusCheck defaultCtasFormat "
        "isPartitionInferenceEnabled propertyList".split()
    ),
    "RESTCATALOG": frozenset(
        "restEndpointUri isRecursiveAllowedNamespaces allowedNamespaces propertyList secretPropertyList "
        "isUsingVendedCredentials enableAsync isCachingEnabled maxCacheSpacePct".split()
    ),
    "POSTGRES": frozenset(
        "hostname port databaseName username password authenticationType fetchSize useSsl encryptionValidationMode "
        "maxIdleConns idleTimeSec queryTimeoutSec enableExternalQuery propertyList".split()
    ),
}
KNOWN_TYPES = tuple(sorted(_KNOWN))
_SECRETS = {"S3": ("accessSecret",), "RESTCATALOG": (), "POSTGRES": ("password",)}
_NEEDED = {
    "S3": (),
    "RESTCATALOG": ("restEndpointUri",),
    "POSTGRES": ("hostname", "databaseName", "username"),
}
_LIST = "secretPropertyList"


def split(kind: str, config: Mapping[str, Any], known: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, str]]:
    """Check a configuration and take its secrets out; `known` are the stored ones, kept where EXISTING stands.

    Raises ValidationError that names the wrong or missing key.
    """
    if kind not in _KNOWN:
        raise ValidationError(f"Source type [{kind}] is not supported. Known types: {', '.join(sorted(_KNOWN))}")
    for name in config:
        if name not in _KNOWN[kind]:
            raise ValidationError(f"Invalid value found at: config.{name}")
    missing = [name for name in _NEEDED[kind] if not config.get(name)]
    if missing:
        raise ValidationError(f"A {kind} source needs config.{', config.'.join(missing)}")
    public = {name: value for name, value in config.items() if value is not None}
    secrets: dict[str, str] = {}
    for name in _SECRETS[kind]:
        if name in public:
            secrets[name] = _secret(name, public.pop(name), known)
    for item in _properties(public.pop(_LIST, []), _LIST):
        secrets[f"{_LIST}.{item[0]}"] = _secret(f"{_LIST}.{item[0]}", item[1], known)
    _properties(public.get("propertyList", []), "propertyList")
    return public, secrets


def _secret(name: str, value: Any, known: Mapping[str, str]) -> str:
    if value != EXISTING:
        return str(value)
    if name not in known:
        raise ValidationError(f"Invalid value found at: config.{name} (there is no existing value to keep)")
    return known[name]


def _properties(items: Any, name: str) -> list[tuple[str, Any]]:
    try:
        return [(str(item["name"]), item["value"]) for item in items]
    except (TypeError, KeyError):
        raise ValidationError(f"Invalid value found at: config.{name}") from None


def shown(public: Mapping[str, Any], secrets: Mapping[str, str]) -> dict[str, Any]:
    """The configuration as clients see it: no secret, but the place where one is."""
    config = dict(public)
    hidden = [name.removeprefix(f"{_LIST}.") for name in secrets if name.startswith(f"{_LIST}.")]
    if hidden:
        config[_LIST] = [{"name": name, "value": EXISTING} for name in hidden]
    config.update({name: EXISTING for name in secrets if not name.startswith(f"{_LIST}.")})
    return config


def property_of(public: Mapping[str, Any], secrets: Mapping[str, str], name: str) -> str | None:
    """A value of propertyList or secretPropertyList."""
    hidden = secrets.get(f"{_LIST}.{name}")
    if hidden is not None:
        return hidden
    return next((str(item["value"]) for item in public.get("propertyList", []) if item["name"] == name), None)
