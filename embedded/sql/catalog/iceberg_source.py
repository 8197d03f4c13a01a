"""Sources of type RESTCATALOG: namespaces and tables of an Iceberg REST catalog, discovered when they are asked for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from typing import TypeVar

import pyarrow as pa
import requests
from pyiceberg.catalog import Catalog, load_catalog
from pyiceberg.exceptions import (
    BadRequestError,
    NamespaceAlreadyExistsError,
    NamespaceNotEmptyError,
    NoSuchNamespaceError,
    NoSuchTableError,
    RESTError,
    ServerError,
)
from pyiceberg.io.pyarrow import schema_to_pyarrow
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential

from embedded.sql.catalog import names
from embedded.sql.catalog.entities import Entity
from embedded.sql.catalog.sources import Child, property_of
from embedded.sql.datasets import IcebergTable, Path, S3Access
from embedded.sql.engine.datatypes import normalise
from embedded.sql.errors import NotFound, ResourceError, SqlError, ValidationError

T = TypeVar("T")

_TRUST = 30.0  # seconds for which columns are believed when only others could have changed them

# SeaweedFS answers 500 for a namespace that another statement is just making.
_AGAIN = Retrying(
    retry=retry_if_exception_type(ServerError), stop=stop_after_attempt(4), wait=wait_exponential(0.05), reraise=True
)


class IcebergSource:
    def __init__(self, entity: Entity) -> None:
        self._entity = entity
        self._guard = threading.RLock()
        self._catalog: Catalog | None = None
        self._known: dict[names.Key, tuple[str, ...]] = {}  # tables seen to exist, as the catalog spells them
        self._columns: dict[names.Key, tuple[float, pa.Schema]] = {}

    @property
    def access(self) -> S3Access:
        endpoint = self._property("fs.s3a.endpoint") or ""
        return S3Access(
            endpoint=endpoint.removeprefix("https://").removeprefix("http://").rstrip("/"),
            access_key=self._property("fs.s3a.access.key") or "",
            secret_key=self._property("fs.s3a.secret.key") or "",
            secure=(self._property("fs.s3a.connection.ssl.enabled") or "false").lower() == "true",
            region=self._property("fs.s3a.endpoint.region") or "us-east-1",
        )

    def _property(self, name: str) -> str | None:
        return property_of(self._entity.body["config"], self._entity.secrets, name)

    @property
    def catalog(self) -> Catalog:
        """The pyiceberg catalog, made at first use: the source may be away when the server starts."""
        with self._guard:
            if self._catalog is None:
                self._catalog = self._ask(self._load)
            return self._catalog

    def _load(self) -> Catalog:
        uri = str(self._entity.body["config"]["restEndpointUri"]).rstrip("/")
        access = self.access
        scheme = "https" if access.secure else "http"
        properties = {
            "uri": uri,
            "warehouse": self._property("warehouse"),
            "credential": self._property("credential"),
            "scope": self._property("scope"),
            "oauth2-server-uri": self._property("oauth2-server-uri") or f"{uri}/v1/oauth/tokens",
            "s3.endpoint": f"{scheme}://{access.endpoint}",
            "s3.access-key-id": access.access_key,
            "s3.secret-access-key": access.secret_key,
            "s3.region": access.region,
        }
        return load_catalog(self._entity.name, type="rest", **{k: v for k, v in properties.items() if v})

    def _ask(self, call: Callable[[], T]) -> T:
        """Run a call to the catalog; whatever goes wrong on the way names the source."""
        try:
            return _AGAIN(call)
        except (NoSuchTableError, NoSuchNamespaceError, NamespaceAlreadyExistsError, NamespaceNotEmptyError):
            raise
        except BadRequestError as error:  # a name that this catalog does not take
            raise ValidationError(f"The catalog of source [{self._entity.name}] refuses it: {error}") from error
        except (RESTError, requests.RequestException, OSError, ValueError) as error:
            text = str(error).strip() or type(error).__name__
            raise ResourceError(f"The source [{self._entity.name}] is currently unavailable. {text}") from error

    # What the server asks ---------------------------------------------------------------------------------------

    def probe(self) -> str | None:
        if not self.access.endpoint:
            return f"Source [{self._entity.name}]: set the property fs.s3a.endpoint to host:port of the object store"
        try:
            self._ask(lambda: self.catalog.list_namespaces())
        except SqlError as error:
            return error.message
        return None

    def children(self, sub: Path) -> list[Child] | None:
        try:
            namespaces = self._ask(lambda: self.catalog.list_namespaces(sub))
            tables = self._ask(lambda: self.catalog.list_tables(sub)) if sub else []
        except NoSuchNamespaceError:
            return None
        folders = {namespace[len(sub)] for namespace in namespaces if len(namespace) > len(sub)}
        return [Child(name, "folder") for name in sorted(folders)] + [
            Child(name[-1], "table") for name in sorted(tables)
        ]

    def table(self, path: Path) -> IcebergTable | None:
        """Known tables cost nothing; the engine finds out at planning when one has vanished meanwhile."""
        identifier = self._known.get(names.key(path)) or self._find(path)
        if identifier is None:
            return None
        return self._table((path[0], *identifier), identifier)

    def target(self, path: Path) -> IcebergTable:
        """Where a table of this path is or would be; its namespace exists afterwards."""
        if len(path) < 3:
            raise ValidationError(
                f"A table in source [{self._entity.name}] needs a folder: {names.dotted(path[:1])}.<folder>.<table>"
            )
        found = self.table(path)
        if found is not None:
            return found
        for part in path[1:-1]:
            names.check_folder(part)
        names.check_dataset(path[-1])
        namespace = self._spelled_namespace(path[1:-1])
        self.create_namespace(namespace)
        return self._table((path[0], *namespace, path[-1]), (*namespace, path[-1]))

    def _table(self, path: Path, identifier: tuple[str, ...]) -> IcebergTable:
        return IcebergTable(path=path, catalog=self.catalog, identifier=identifier, access=self.access)

    def _find(self, path: Path) -> tuple[str, ...] | None:
        sub = path[1:]
        if len(sub) < 2:
            return None
        try:
            exists = self._ask(lambda: self.catalog.table_exists(sub))
        except ValidationError:  # spelled as the catalog takes no name, it may still be a table's in other case
            exists = False
        found = sub if exists else self._find_ignoring_case(sub)
        if found is not None:
            with self._guard:
                self._known[names.key(path)] = found
        return found

    def _find_ignoring_case(self, sub: Path) -> tuple[str, ...] | None:
        namespace = self._spelled_namespace(sub[:-1])
        try:
            tables = self._ask(lambda: self.catalog.list_tables(namespace))
        except NoSuchNamespaceError:
            return None
        return next((table for table in tables if table[-1].lower() == sub[-1].lower()), None)

    def _spelled_namespace(self, namespace: Path) -> Path:
        """The namespace as the catalog spells it, where it exists."""
        spelled: Path = ()
        for part in namespace:
            try:
                known = self._ask(lambda: self.catalog.list_namespaces(spelled))  # noqa: B023 - called at once
            except NoSuchNamespaceError:
                known = []
            depth = len(spelled)
            same = [n[depth] for n in known if len(n) > depth and n[depth].lower() == part.lower()]
            spelled = (*spelled, part if part in same or not same else same[0])
        return spelled

    def create_namespace(self, namespace: Path) -> bool:
        """Create it and its parents; False when it is already there."""
        created = False
        for depth in range(1, len(namespace) + 1):
            part = namespace[:depth]
            if self._ask(lambda: self.catalog.namespace_exists(part)):  # noqa: B023 - called at once
                continue
            try:
                self._ask(lambda: self.catalog.create_namespace(part))  # noqa: B023 - called at once
                created = True
            except NamespaceAlreadyExistsError:
                continue
        return created

    def drop_namespace(self, namespace: Path) -> bool:
        """False when there is none. Raises ValidationError when it still holds tables."""
        try:
            self._ask(lambda: self.catalog.drop_namespace(namespace))
        except NoSuchNamespaceError:
            return False
        except NamespaceNotEmptyError as error:
            raise ValidationError(f"Folder [{'.'.join(namespace)}] is not empty") from error
        return True

    def tables(self) -> list[Path]:
        return [(self._entity.name, *table) for namespace in self._namespaces() for table in self._tables(namespace)]

    def _tables(self, namespace: Path) -> Iterable[tuple[str, ...]]:
        try:
            return sorted(self._ask(lambda: self.catalog.list_tables(namespace)))
        except NoSuchNamespaceError:
            return []

    def folders(self) -> list[Path]:
        return [(self._entity.name, *namespace) for namespace in self._namespaces()]

    def _namespaces(self) -> list[Path]:
        found: list[Path] = []
        waiting = sorted(self._ask(lambda: self.catalog.list_namespaces()))
        while waiting:
            namespace = waiting.pop(0)
            found.append(namespace)
            try:
                inner = self._ask(lambda: self.catalog.list_namespaces(namespace))  # noqa: B023 - called at once
            except NoSuchNamespaceError:
                continue
            waiting.extend(n for n in sorted(inner) if len(n) > len(namespace))
        return found

    def columns(self, path: Path) -> pa.Schema:
        known = self._columns.get(names.key(path))
        if known is not None and known[0] > time.monotonic():
            return known[1]
        found = self.table(path)
        try:
            if found is None:
                raise NoSuchTableError
            schema = self._ask(lambda: self.catalog.load_table(found.identifier)).schema()
        except NoSuchTableError:
            self.forget(path)
            raise NotFound(f"Table '{names.dotted(path)}' not found") from None
        arrow = pa.schema(
            [
                pa.field(f.name, normalise(f.type), nullable=f.nullable)
                for f in schema_to_pyarrow(schema, include_field_ids=False)
            ]
        )
        with self._guard:
            self._columns[names.key(path)] = (time.monotonic() + _TRUST, arrow)
        return arrow

    def forget(self, path: Path) -> None:
        with self._guard:
            self._known.pop(names.key(path), None)
            self._columns.pop(names.key(path), None)
