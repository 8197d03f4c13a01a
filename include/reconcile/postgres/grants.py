"""The policy's actions as PostgreSQL privileges, compared with what the roles really have, object by object.

What a role of ours was given by hand is taken away again, whatever it is on; the privileges of others stay.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from psycopg import sql

from include.reconcile.plan import Change
from include.reconcile.postgres.roles import group
from include.reconcile.postgres.session import Session
from include.specs.policy import Policy
from include.specs.postgres import DatabaseSpec, Schema

READ = ("SELECT",)
WRITE = ("INSERT", "UPDATE", "DELETE")
_RELATIONS = "('r', 'v', 'm', 'p', 'f')"
_ACTUAL = """
with acl (kind, place, name, owner, list) as (
    select 'database', datname::text, '', '', datacl from pg_database where datname = current_database()
    union all select 'schema', nspname::text, '', '', nspacl from pg_namespace
    union all select case c.relkind when 'S' then 'sequence' else 'table' end, n.nspname, c.relname, '', c.relacl
              from pg_class as c join pg_namespace as n on n.oid = c.relnamespace
    union all select 'column', n.nspname, c.relname || '.' || a.attname, '', a.attacl from pg_attribute as a
              join pg_class as c on c.oid = a.attrelid join pg_namespace as n on n.oid = c.relnamespace
    union all select 'function', n.nspname, p.oid::regprocedure::text, '', p.proacl
              from pg_proc as p join pg_namespace as n on n.oid = p.pronamespace
    union all select case d.defaclobjtype when 'n' then 'future schemas' else 'future tables' end,
                     coalesce(n.nspname, ''), '', pg_get_userbyid(d.defaclrole), d.defaclacl
              from pg_default_acl as d left join pg_namespace as n on n.oid = d.defaclnamespace
              where d.defaclobjtype in ('r', 'n')
)
select acl.kind, acl.place, acl.name, acl.owner, x.privilege_type as privilege, r.rolname as role
from acl, aclexplode(acl.list) as x join pg_roles as r on r.oid = x.grantee where r.rolname = any(%s)
"""


@dataclass(frozen=True, order=True)
class Right:
    """`kind`: database, schema, table, sequence, column, function, future tables, future schemas (then of `owner`)."""

    kind: str
    place: str
    name: str
    owner: str
    privilege: str

    def __str__(self) -> str:
        where = ".".join(part for part in (self.place, self.name) if part)
        of = f"of {self.owner}" if self.owner else ""
        return " ".join(part for part in (self.privilege, "on", self.kind, where, of) if part)

    def statement(self, role: str, *, grant: bool) -> sql.Composable:
        """GRANT or REVOKE of this one privilege."""
        privilege: sql.Composable = sql.SQL(self.privilege)  # of a fixed list, or as PostgreSQL itself names it
        word, preposition = (sql.SQL("grant"), sql.SQL("to")) if grant else (sql.SQL("revoke"), sql.SQL("from"))
        if self.kind == "column":
            table, _, column = self.name.rpartition(".")
            privilege = sql.SQL("{} ({})").format(privilege, sql.Identifier(column))
            target: sql.Composable = sql.SQL("table {}").format(sql.Identifier(self.place, table))
        else:
            target = self._target()
        parts = {
            "word": word,
            "privilege": privilege,
            "target": target,
            "to": preposition,
            "role": sql.Identifier(role),
        }
        statement = sql.SQL("{word} {privilege} on {target} {to} {role}").format(**parts)
        if not self.owner:
            return statement
        within = sql.SQL(" in schema {}").format(sql.Identifier(self.place)) if self.place else sql.SQL("")
        return sql.SQL("alter default privileges for role {}{} {}").format(
            sql.Identifier(self.owner), within, statement
        )

    def _target(self) -> sql.Composable:
        if self.owner:
            return sql.SQL("schemas" if self.kind == "future schemas" else "tables")
        if self.kind in ("database", "schema"):
            return sql.SQL("{} {}").format(sql.SQL(self.kind), sql.Identifier(self.place))
        if self.kind == "function":  # regprocedure: PostgreSQL has quoted it
            return sql.SQL("function {}").format(sql.SQL(self.name))
        return sql.SQL("{} {}").format(sql.SQL(self.kind), sql.Identifier(self.place, self.name))


def wanted(session: Session, policy: Policy, database: DatabaseSpec, role: str) -> set[Right]:
    """What a role of the policy must have in this database, on what is there now and on what will be."""
    actions = set(policy.actions(role, "postgres"))
    rights = set()
    if database.connect in actions:
        rights |= {Right("database", database.name, "", "", "CONNECT")}
    if database.create in actions:
        rights |= {Right("database", database.name, "", "", "CREATE")}
    for schema in database.schemas:
        if _exists(session, schema):
            rights |= set(_in_schema(session, actions, database, schema))
    return rights


def _exists(session: Session, schema: Schema) -> bool:
    return bool(session.rows("select 1 from pg_namespace where nspname = %s", schema.name))


def _in_schema(session: Session, actions: set[str], database: DatabaseSpec, schema: Schema) -> Iterator[Right]:
    privileges = (*(READ if schema.read in actions else ()), *(WRITE if schema.write in actions else ()))
    if not privileges:
        return
    yield Right("schema", schema.name, "", "", "USAGE")
    place = schema.name if schema.future == "schema" else ""
    if not place:
        yield Right("future schemas", "", "", database.owner, "USAGE")
    tables = session.rows(
        "select c.relname as name, c.relkind in ('r', 'p') as writable from pg_class as c join pg_namespace as n "
        f"on n.oid = c.relnamespace where n.nspname = %s and c.relkind in {_RELATIONS}",
        schema.name,
    )
    for privilege in privileges:
        yield Right("future tables", place, "", database.owner, privilege)
        yield from (Right("table", schema.name, row["name"], "", privilege) for row in tables)


def actual(session: Session, roles: list[str]) -> dict[str, set[Right]]:
    found: dict[str, set[Right]] = {}
    for row in session.rows(_ACTUAL, roles):
        found.setdefault(row.pop("role"), set()).add(Right(**row))
    return found


def run(session: Session, policy: Policy, database: DatabaseSpec, ours: list[str]) -> None:
    """Members have what their group has, and nothing of their own."""
    has = actual(session, ours)
    should = {group(role): wanted(session, policy, database, role) for role in policy.roles}
    for schema in database.schemas:
        if not _exists(session, schema):
            session.changes.append(
                Change("await", "grants on schema", f"{database.name}.{schema.name}", ("not there",))
            )
    for role in ours:
        add, remove = should.get(role, set()) - has.get(role, set()), has.get(role, set()) - should.get(role, set())
        if add or remove:
            lines = [f"+ {right}" for right in sorted(add)] + [f"- {right}" for right in sorted(remove)]
            statements = [right.statement(role, grant=True) for right in sorted(add)]
            statements += [right.statement(role, grant=False) for right in sorted(remove)]
            session.make(Change("update", "grants", f"{role} in {database.name}", tuple(lines)), statements)
