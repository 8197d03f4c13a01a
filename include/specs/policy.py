"""include/platform/policy.yaml as checked values: roles, what each may do in each service, and which rows it sees.

Every complaint names the file, the field and the fix. What a role is not listed for is denied.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from include.paths import PLATFORM
from include.specs.reader import Node, read

FILE = PLATFORM / "policy.yaml"
ADMIN = "admin"


@dataclass(frozen=True)
class Action:
    """`raw`: it reaches data beside a dashboard. `needs`: another action of the service that it cannot do without."""

    text: str
    raw: bool = False
    needs: str | None = None


ACTIONS: Mapping[str, Mapping[str, Action]] = {
    "postgres": {
        "connect": Action("open a session on the platform's database"),
        "read_operations": Action("read the sync ledger, receipts and states", raw=True, needs="connect"),
        "write_operations": Action("change the sync ledger by hand", raw=True, needs="read_operations"),
        "read_changes": Action("read the change log of the speed lane", raw=True, needs="connect"),
        "read_source": Action("read the tables of the source", raw=True),
        "create_schemas": Action("make schemas in the platform's database", needs="connect"),
    },
    "s3": {
        "read_bronze": Action("list and read what syncs delivered", raw=True),
        "write_bronze": Action("write and delete there", raw=True, needs="read_bronze"),
        "read_tables": Action("list and read the files of silver and gold", raw=True),
        "write_tables": Action("write and delete there", raw=True, needs="read_tables"),
        "manage_buckets": Action("make and configure buckets"),
    },
    "dremio": {
        "read_bronze": Action("query promoted files of bronze", raw=True),
        "read_tables": Action("query the built tables behind the views", raw=True),
        "read_operations": Action("query the ledger's source", raw=True),
        "read_silver": Action("query published silver", raw=True),
        "read_gold": Action("query published gold", raw=True),
        "read_serving": Action("query the state of this minute", raw=True),
        "create_views": Action("make and change views in the space", raw=True, needs="read_gold"),
        "manage_sources": Action("make and change sources"),
        "manage_users": Action("make and change users and roles"),
    },
    "airflow": {
        "read_dags": Action("see DAGs, runs and tasks"),
        "read_logs": Action("read the logs of tasks", raw=True, needs="read_dags"),
        "run_dags": Action("trigger, clear, backfill, switch on and off", needs="read_dags"),
        "manage_connections": Action("see and change connections, pools and variables", raw=True),
        "manage_users": Action("make and change users and roles"),
    },
    "superset": {
        "view_dashboards": Action("open published dashboards"),
        "query_datasets": Action("explore datasets by hand", raw=True, needs="view_dashboards"),
        "edit_dashboards": Action("make and change charts and dashboards", raw=True, needs="query_datasets"),
        "export_data": Action("download a chart's rows", raw=True, needs="view_dashboards"),
        "sql_lab": Action("write SQL", raw=True, needs="query_datasets"),
        "manage_datasets": Action("make and change datasets", raw=True, needs="query_datasets"),
        "manage_databases": Action("make and change database connections", raw=True),
        "manage_users": Action("make and change users, roles and row-level rules"),
    },
}
"""What can be allowed, by service; each compiler gives these words their meaning."""

ROW_SERVICES = ("postgres", "superset")


@dataclass(frozen=True)
class Role:
    """`raw_data`: whether it may be given actions that reach data beside a dashboard."""

    name: str
    title: str
    description: str
    raw_data: bool


@dataclass(frozen=True)
class Member:
    """A login that is made in every service. `password`: a reference to an Airflow connection."""

    name: str
    role: str
    password: str = field(repr=False)


@dataclass(frozen=True)
class RowRule:
    """Members of `roles` see the rows of `objects` for which `where` holds, a condition in the service's SQL."""

    name: str
    service: str
    roles: tuple[str, ...]
    objects: tuple[tuple[str, str], ...]
    where: str


@dataclass(frozen=True)
class Cell:
    """One square of the table: whether a role may do an action in a service."""

    role: str
    service: str
    action: str
    allowed: bool


@dataclass(frozen=True)
class Policy:
    roles: Mapping[str, Role]
    members: tuple[Member, ...]
    allowed: Mapping[str, Mapping[str, frozenset[str]]]  # service, action -> names of roles
    rows: tuple[RowRule, ...]

    def allows(self, role: str, service: str, action: str) -> bool:
        return role in self.allowed[service][action]

    def actions(self, role: str, service: str) -> tuple[str, ...]:
        """What a role may do in a service."""
        return tuple(action for action, roles in self.allowed[service].items() if role in roles)

    def cells(self, service: str | None = None) -> Iterator[Cell]:
        for name, actions in self.allowed.items():
            if service in (None, name):
                for action, roles in actions.items():
                    yield from (Cell(role, name, action, role in roles) for role in self.roles)

    def row_rules(self, service: str) -> tuple[RowRule, ...]:
        return tuple(rule for rule in self.rows if rule.service == service)


def load(file: Path = FILE) -> Policy:
    """Raises SpecError naming the file, the field and the fix."""
    root = read(file)
    roles = {name: _role(name, node) for name, node in root.children("roles").items()}
    if ADMIN not in roles:
        raise root.fail("roles", f"needs the role {ADMIN}: without it nobody could change anything")
    members = tuple(_members(root, roles)) if root.get("members", Mapping, {}) else ()
    allowed = _allowed(root.child("services"), roles)
    rows = tuple(_rows(root, roles, allowed)) if root.get("rows", Mapping, {}) else ()
    root.done()
    return Policy(roles, members, allowed, rows)


def _role(name: str, node: Node) -> Role:
    role = Role(name, node.get("title", str), node.get("description", str, ""), node.get("raw_data", bool))
    if not role.title.strip():
        raise node.fail("title", "is empty; give the name that people see")
    node.done()
    return role


def _members(root: Node, roles: Mapping[str, Role]) -> Iterator[Member]:
    for name, node in root.children("members").items():
        password = node.get("password", str)
        if "{{" not in password:
            raise node.fail("password", "must refer to an Airflow connection: {{ conn.<id>.extra.<name> }}")
        yield Member(name, node.one_of("role", list(roles)), password)
        node.done()


def _allowed(root: Node, roles: Mapping[str, Role]) -> dict[str, dict[str, frozenset[str]]]:
    found: dict[str, dict[str, frozenset[str]]] = {}
    for service, known in ACTIONS.items():
        node = root.child(service)
        found[service] = {action: _granted(node, action, roles, one) for action, one in known.items()}
        node.done()
        for action, one in known.items():
            lacking = sorted(found[service][action] - found[service][one.needs]) if one.needs else []
            if lacking:
                raise node.fail(action, f"is of no use to {lacking[0]} without {one.needs}; list it there too")
    root.done()
    return found


def _granted(node: Node, action: str, roles: Mapping[str, Role], meaning: Action) -> frozenset[str]:
    granted = node.names(action)
    for name in granted:
        if name not in roles:
            raise node.fail(action, f"names the role {name!r}; declared are {', '.join(roles)}")
        if meaning.raw and not roles[name].raw_data:
            raise node.fail(action, f"reaches raw data, and {name} has raw_data: false; take it out here")
    if ADMIN not in granted:
        raise node.fail(action, f"must list {ADMIN}, whom every service lets do everything")
    return frozenset(granted)


def _rows(root: Node, roles: Mapping[str, Role], allowed: Mapping[str, object]) -> Iterator[RowRule]:
    for name, node in root.children("rows").items():
        service = node.one_of("service", ROW_SERVICES)
        named = node.names("roles")
        for role in named:
            if role not in roles or role == ADMIN:
                raise node.fail("roles", f"names {role!r}; use declared roles other than {ADMIN}, who sees all rows")
        where = node.get("where", str).strip()
        if not where or any(mark in where for mark in (";", "--", "/*")):
            raise node.fail("where", "must be one SQL condition, without comments and semicolons")
        yield RowRule(name, service, named, tuple(_objects(node)), where)
        node.done()


def _objects(node: Node) -> Iterator[tuple[str, str]]:
    for text in node.get("objects", list):
        parts = text.split(".") if isinstance(text, str) else []
        if len(parts) != 2 or not all(parts):
            raise node.fail("objects", f"must list names such as lakehouse.sync_ledger, found {text!r}")
        yield parts[0], parts[1]
