"""What include/platform/dremio declares, as checked values. Every complaint names the file, the field and the fix.

Files: sources.yaml, spaces.yaml, and where wanted views.yaml, datasets.yaml, reflections.yaml, access.yaml.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path as File
from typing import Any

from include.paths import PLATFORM
from include.specs.reader import Node, SpecError, read

FOLDER = PLATFORM / "dremio"

Path = tuple[str, ...]
MEASURES = ("MIN", "MAX", "SUM", "COUNT", "APPROX_COUNT_DISTINCT")
TRANSFORMS = ("IDENTITY", "YEAR", "MONTH", "DAY", "HOUR")


@dataclass(frozen=True)
class Notes:
    """`wiki` and `tags`; None: whatever is there stays."""

    wiki: str | None = None
    tags: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Source:
    """`definition`: the body of a catalog entity; secrets in it are references to Airflow connections."""

    name: str
    definition: Mapping[str, Any] = field(repr=False)
    notes: Notes = Notes()


@dataclass(frozen=True)
class Container:
    """A space (a path of one part) or a folder."""

    path: Path
    notes: Notes = Notes()


@dataclass(frozen=True)
class View:
    path: Path
    sql: str
    context: Path = ()
    notes: Notes = Notes()


@dataclass(frozen=True)
class Dataset:
    """Notes on a table or view that something else creates."""

    path: Path
    notes: Notes


@dataclass(frozen=True)
class Reflection:
    """`display`: None for all columns. `dimensions`: column to granularity. `partition`: as the REST body has it."""

    dataset: Path
    name: str
    type: str
    display: tuple[str, ...] | None = None
    dimensions: Mapping[str, str] = field(default_factory=dict)
    measures: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    partition: tuple[Mapping[str, Any], ...] = ()
    sort: tuple[str, ...] = ()
    distribution: tuple[str, ...] = ()
    enabled: bool = True

    @property
    def label(self) -> str:
        return f"{'.'.join(self.dataset)}:{self.name}"


@dataclass(frozen=True)
class User:
    """`password`: a reference to an Airflow connection, used when the user is created."""

    name: str
    first_name: str
    last_name: str
    email: str
    password: str = field(repr=False)


@dataclass(frozen=True)
class Role:
    name: str
    description: str
    users: tuple[str, ...]
    roles: tuple[str, ...]


@dataclass(frozen=True)
class Grant:
    path: Path
    kind: str  # USER or ROLE
    grantee: str
    privileges: frozenset[str]


@dataclass(frozen=True)
class Declaration:
    sources: tuple[Source, ...]
    containers: tuple[Container, ...]  # parents first
    views: tuple[View, ...]  # what a view reads comes before it
    datasets: tuple[Dataset, ...]
    reflections: tuple[Reflection, ...]
    users: tuple[User, ...]
    roles: tuple[Role, ...]  # a role's members come before it
    grants: tuple[Grant, ...]
    administrators: tuple[str, ...] = ()  # of the users above: members of ADMIN; the others of them are none

    @property
    def roots(self) -> frozenset[str]:
        return frozenset([source.name for source in self.sources] + [c.path[0] for c in self.containers])


def load(folder: File = FOLDER) -> Declaration:
    """Raises SpecError."""
    optional = {name: folder / f"{name}.yaml" for name in ("views", "datasets", "reflections", "access")}
    nodes = {name: read(file) for name, file in optional.items() if file.exists()}
    access = nodes.get("access")
    found = Declaration(
        sources=tuple(_sources(read(folder / "sources.yaml"))),
        containers=tuple(_spaces(read(folder / "spaces.yaml"))),
        views=_ordered(tuple(_views(nodes["views"])) if "views" in nodes else (), optional["views"]),
        datasets=tuple(_datasets(nodes["datasets"])) if "datasets" in nodes else (),
        reflections=tuple(_all_reflections(nodes["reflections"])) if "reflections" in nodes else (),
        users=tuple(_users(access)) if access else (),
        roles=_role_order(tuple(_roles(access)), optional["access"]) if access else (),
        grants=tuple(_grants(access)) if access else (),
    )
    _check_roots(found, folder)
    _check_once([".".join(c.path) for c in found.containers], folder / "spaces.yaml")
    _check_once([reflection.label for reflection in found.reflections], optional["reflections"])
    return found


def reflections(pipeline: str, folder: File = FOLDER) -> tuple[Reflection, ...]:
    """Those of one pipeline; () where it declares none. Raises SpecError."""
    file = folder / "reflections.yaml"
    node = read(file)
    return tuple(_reflections(node, pipeline)) if pipeline in names(node) else ()


# Reading


def names(node: Node) -> list[str]:
    """The keys of a mapping, which are names in Dremio."""
    found: list[Any] = list(node.raw)
    for name in found:
        if not isinstance(name, str) or not name or "\0" in name:
            raise node.fail(str(name), "is no name")
    return found


def _path(node: Node, key: str, least: int = 2) -> Path:
    parts = node.get(key, list)
    if len(parts) < least or not all(isinstance(part, str) and part and "\0" not in part for part in parts):
        raise node.fail(key, f'must be a list of at least {least} names, such as ["lake", "gold"], found {parts!r}')
    return tuple(parts)


def _texts(node: Node, key: str, default: Sequence[str] | Any = ...) -> tuple[str, ...]:
    values = node.get(key, list, default)
    if not all(isinstance(value, str) and value for value in values):
        raise node.fail(key, f"must be a list of texts, found {values!r}")
    return tuple(values)


def _notes(node: Node, *, tags: bool = True) -> Notes:
    wiki = node.get("wiki", str, None)
    chosen = _texts(node, "tags") if tags and "tags" in node.raw else None
    return Notes(wiki, chosen)


def _sources(root: Node) -> Iterator[Source]:
    for name in names(root):
        node = root.child(name)
        node.get("type", str)
        node.get("config", Mapping)
        notes = _notes(node, tags=False)
        yield Source(name, {key: value for key, value in node.raw.items() if key != "wiki"}, notes)


def _spaces(root: Node) -> Iterator[Container]:
    for name in names(root):
        if isinstance(root.raw[name], list):  # the short form: a list of folders
            yield Container((name,))
            yield from (Container((name, folder)) for folder in _texts(root, name))
        else:
            yield from _container(root.child(name), (name,))


def _container(node: Node, path: Path) -> Iterator[Container]:
    yield Container(path, _notes(node, tags=False))
    if node.get("folders", Mapping, {}):
        inner = node.child("folders")
        for name in names(inner):
            yield from _container(inner.child(name), (*path, name))
    node.done()


def _items(root: Node, key: str) -> Iterator[Node]:
    """The mappings of a list, each with its place in the file."""
    for number, item in enumerate(root.get(key, list, [])):
        yield root.item(key, number, item)


def _views(root: Node) -> Iterator[View]:
    for node in _items(root, "views"):
        context = _path(node, "context", 1) if "context" in node.raw else ()
        yield View(_path(node, "path"), node.get("sql", str).strip(), context, _notes(node))
        node.done()
    root.done()


def _datasets(root: Node) -> Iterator[Dataset]:
    for node in _items(root, "datasets"):
        yield Dataset(_path(node, "path"), _notes(node))
        node.done()
    root.done()


def _all_reflections(root: Node) -> Iterator[Reflection]:
    for pipeline in names(root):
        yield from _reflections(root, pipeline)


def _reflections(root: Node, pipeline: str) -> Iterator[Reflection]:
    for node in _items(root, pipeline):
        kind = node.one_of("type", ("RAW", "AGGREGATION"))
        yield Reflection(
            dataset=_path(node, "dataset"),
            name=node.get("name", str),
            type=kind,
            display=_display(node) if kind == "RAW" else None,
            dimensions=_dimensions(node) if kind == "AGGREGATION" else {},
            measures=_measures(node) if kind == "AGGREGATION" else {},
            partition=tuple(_partition(node)),
            sort=_texts(node, "sort", []),
            distribution=_texts(node, "distribution", []),
            enabled=node.get("enabled", bool, True),
        )
        node.done()


def _display(node: Node) -> tuple[str, ...] | None:
    if node.raw.get("display") == "*":
        node.get("display", str)
        return None
    return _texts(node, "display")


def _dimensions(node: Node) -> dict[str, str]:
    """Names, or name to granularity where it is not DATE."""
    if isinstance(node.raw.get("dimensions"), Mapping):
        inner = node.child("dimensions")
        return {name: inner.one_of(name, ("DATE", "NORMAL")) for name in names(inner)}
    return dict.fromkeys(_texts(node, "dimensions"), "DATE")


def _measures(node: Node) -> dict[str, tuple[str, ...]]:
    inner = node.child("measures")
    found = {name: _texts(inner, name) for name in names(inner)}
    for name, functions in found.items():
        if unknown := sorted(set(functions) - set(MEASURES)):
            raise inner.fail(name, f"must list some of {', '.join(MEASURES)}, found {unknown[0]!r}")
    return found


def _partition(node: Node) -> Iterator[dict[str, Any]]:
    """A column, or {column: MONTH}, {column: bucket(16)}, {column: truncate(4)}."""
    for entry in node.get("partition", list, []):
        if isinstance(entry, str):
            yield {"name": entry, "transform": {"type": "IDENTITY"}}
        elif isinstance(entry, Mapping) and len(entry) == 1:
            ((column, transform),) = entry.items()
            yield {"name": str(column), "transform": _transform(node, str(transform))}
        else:
            raise node.fail("partition", f"must list columns or {{column: transform}}, found {entry!r}")


def _transform(node: Node, text: str) -> dict[str, Any]:
    number = re.fullmatch(r"(bucket|truncate)\((\d+)\)", text)
    if number and number[1] == "bucket":
        return {"type": "BUCKET", "bucketTransform": {"bucketCount": int(number[2])}}
    if number:
        return {"type": "TRUNCATE", "truncateTransform": {"truncateLength": int(number[2])}}
    if text.upper() in TRANSFORMS:
        return {"type": text.upper()}
    allowed = f"{', '.join(TRANSFORMS)}, bucket(n), truncate(n)"
    raise node.fail("partition", f"has the transform {text!r}; use one of {allowed}")


def _users(root: Node) -> Iterator[User]:
    if not root.get("users", Mapping, {}):
        return
    inner = root.child("users")
    for name in names(inner):
        node = inner.child(name)
        password = node.get("password", str, "")
        if password and "{{" not in password:
            raise node.fail("password", "must refer to an Airflow connection: {{ conn.<id>.password }}")
        first, last, email = (node.get(key, str, "") for key in ("first_name", "last_name", "email"))
        yield User(name, first, last, email, password)
        node.done()


def _roles(root: Node) -> Iterator[Role]:
    if not root.get("roles", Mapping, {}):
        return
    inner = root.child("roles")
    for name in names(inner):
        node = inner.child(name)
        yield Role(name, node.get("description", str, ""), _texts(node, "users", []), _texts(node, "roles", []))
        node.done()


def _grants(root: Node) -> Iterator[Grant]:
    seen: set[tuple[Path, str, str]] = set()
    for node in _items(root, "grants"):
        kinds = [kind for kind in ("user", "role") if kind in node.raw]
        if len(kinds) != 1:
            raise node.fail("role", "must be given, or user: one of the two")
        privileges = frozenset(text.upper().replace(" ", "_") for text in _texts(node, "privileges"))
        grant = Grant(_path(node, "path", 1), kinds[0].upper(), node.get(kinds[0], str), privileges)
        node.done()
        if (grant.path, grant.kind, grant.grantee) in seen:
            raise node.fail("path", f"is granted to {grant.grantee!r} twice; write one entry with all privileges")
        seen.add((grant.path, grant.kind, grant.grantee))
        yield grant
    root.get("users", Mapping, {})
    root.get("roles", Mapping, {})
    root.done()


# Order and consistency

_NAMES = re.compile(r'(?:"(?:[^"]|"")+"|[\w$@-]+)(?:\s*\.\s*(?:"(?:[^"]|"")+"|[\w$@-]+))+')


def _mentioned(sql: str) -> set[Path]:
    """Paths that a statement names, in lower case: Dremio finds names in any case."""
    parts = re.compile(r'"((?:[^"]|"")+)"|([\w$@-]+)')
    return {
        tuple((quoted.replace('""', '"') if quoted else plain).lower() for quoted, plain in parts.findall(text))
        for text in _NAMES.findall(sql)
    }


def _ordered(views: tuple[View, ...], file: File) -> tuple[View, ...]:
    _check_once([view.path for view in views], file)
    known = {tuple(part.lower() for part in view.path): view for view in views}
    needs = {
        path: {other for other in _read_by(view) if other in known and other != path} for path, view in known.items()
    }
    return tuple(known[path] for path in _sorted(needs, file, "views"))


def _read_by(view: View) -> set[Path]:
    prefix = tuple(part.lower() for part in view.context)
    return {path for named in _mentioned(view.sql) for path in (named, prefix + named)}


def _role_order(roles: tuple[Role, ...], file: File) -> tuple[Role, ...]:
    known = {role.name: role for role in roles}
    needs = {role.name: set(role.roles) & set(known) for role in roles}
    return tuple(known[name] for name in _sorted(needs, file, "roles"))


def _sorted(needs: Mapping[Any, set[Any]], file: File, what: str) -> list[Any]:
    """What others need comes first; otherwise the order of the file."""
    done: list[Any] = []
    left = dict(needs)
    while left:
        ready = [name for name, wanted in left.items() if wanted <= set(done)]
        if not ready:
            circle = ", ".join(".".join(name) if isinstance(name, tuple) else name for name in left)
            raise SpecError(f"{file.name}: '{what}' go round in a circle: {circle}; one of them must not need another")
        done += ready
        for name in ready:
            del left[name]
    return done


def _check_roots(found: Declaration, folder: File) -> None:
    """Where an object lies must be declared, too: what we own is noted there."""
    places = {
        "views": [view.path for view in found.views],
        "datasets": [dataset.path for dataset in found.datasets],
        "reflections": [reflection.dataset for reflection in found.reflections],
        "access": [grant.path for grant in found.grants],
    }
    for name, paths in places.items():
        for path in paths:
            if path[0] not in found.roots:
                raise SpecError(
                    f"{name}.yaml: '{'.'.join(path)}' lies in {path[0]!r}, which is neither in sources.yaml "
                    "nor in spaces.yaml; declare it there"
                )


def _check_once(found: Sequence[Any], file: File) -> None:
    """Dremio finds names in any case."""
    shown = [".".join(name) if isinstance(name, tuple) else str(name) for name in found]
    folded = [name.lower() for name in shown]
    for name in shown:
        if folded.count(name.lower()) > 1:
            raise SpecError(f"{file.name}: '{name}' is declared twice; delete one")
