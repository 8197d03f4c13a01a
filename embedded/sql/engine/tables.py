"""Names of tables in a query: which dataset, at which version."""

from __future__ import annotations

from sqlglot import exp

from embedded.sql.datasets import Catalog, Dataset, Path
from embedded.sql.engine.relations import Version
from embedded.sql.errors import NotFound, ParseError

_VERSIONS = ("SNAPSHOT", "TIMESTAMP", "BRANCH", "TAG", "COMMIT", "REFERENCE")


def resolve(catalog: Catalog, path: Path, context: Path) -> Dataset:
    """Look a path up; a schema quoted as one identifier with dots ("a.b"."t") is what SQLAlchemy clients send."""
    try:
        return catalog.resolve(path, context)
    except NotFound:
        split = tuple(part for name in path for part in name.split("."))
        if split == path or not all(split):
            raise
        try:
            return catalog.resolve(split, context)
        except NotFound:
            pass
        raise


def version_of(node: exp.Table) -> Version | None:
    version = node.args.get("version")
    if version is None:
        return None
    kind = {"VERSION": "SNAPSHOT"}.get(version.name, version.name)
    value = version.expression
    if version.text("kind") != "AS OF" or kind not in _VERSIONS:
        raise ParseError(f"Failure parsing the query. AT {kind} is not supported.")
    if isinstance(value, exp.Cast):
        value = value.this
    if kind in ("SNAPSHOT", "TIMESTAMP") and not (isinstance(value, exp.Literal) and value.is_string):
        raise ParseError(f"Failure parsing the query. AT {kind} expects a text literal.")
    return Version(kind, value.name)


def is_name(table: exp.Table, hidden: frozenset[str]) -> bool:
    if not all(isinstance(part, exp.Identifier) for part in table.parts):
        return False
    return len(table.parts) > 1 or table.parts[0].name.lower() not in hidden
