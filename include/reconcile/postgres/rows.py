"""Row security: which rows of a table a role sees. The others see all of them; owners are not asked.

PostgreSQL rewrites a condition as it stores it, so the text that it made is noted beside the declared one: a condition
changed by hand differs from the first, a changed declaration from the second.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from psycopg import sql

from include.reconcile.plan import Change
from include.reconcile.postgres.roles import group
from include.reconcile.postgres.session import MARK, Session
from include.specs.policy import Policy

_POLICIES = """
select p.polname as name, n.nspname as schema, c.relname as table, p.polcmd::text as command,
       p.polpermissive as permissive,
       array(select r.rolname::text from pg_roles as r where r.oid = any(p.polroles) order by 1) as roles,
       pg_get_expr(p.polqual, p.polrelid) as condition, obj_description(p.oid, 'pg_policy') as note
from pg_policy as p join pg_class as c on c.oid = p.polrelid join pg_namespace as n on n.oid = c.relnamespace
"""


@dataclass(frozen=True)
class Rule:
    """One PostgreSQL policy. `restrictive`: of what else is allowed only these rows; roles (): everybody."""

    name: str
    schema: str
    table: str
    roles: tuple[str, ...]
    where: str
    restrictive: bool

    @property
    def command(self) -> str:
        return "r" if self.restrictive else "*"

    @property
    def label(self) -> str:
        return f"{self.name} on {self.schema}.{self.table}"


def compiled(policy: Policy) -> Iterator[Rule]:
    """For each table with a rule: all rows for whom grants let in, less what the rule takes from its roles."""
    tables: dict[tuple[str, str], None] = {}
    for rule in policy.row_rules("postgres"):
        roles = tuple(sorted(map(group, rule.roles)))
        for schema, table in rule.objects:
            tables[schema, table] = None
            yield Rule(f"policy_{rule.name}", schema, table, roles, rule.where, restrictive=True)
    for schema, table in tables:
        yield Rule("policy_all_rows", schema, table, (), "true", restrictive=False)


def run(session: Session, policy: Policy, *, prune: bool) -> None:
    there = {(row["name"], row["schema"], row["table"]): row for row in session.rows(_POLICIES)}
    rules = list(compiled(policy))
    for rule in rules:
        secured = session.rows("select relrowsecurity as on from pg_class where oid = to_regclass(%s)", _regclass(rule))
        if not secured:
            session.changes.append(Change("await", "row security", rule.label, ("its table does not exist yet",)))
            continue
        if not secured[0]["on"]:
            table = sql.Identifier(rule.schema, rule.table)
            change = Change("update", "row security", f"{rule.schema}.{rule.table}", ("on: false -> true",))
            if change not in session.changes:
                session.make(change, [sql.SQL("alter table {} enable row level security").format(table)])
        _rule(session, rule, there.get((rule.name, rule.schema, rule.table)))
    if prune:
        declared = {(rule.name, rule.schema, rule.table) for rule in rules}
        for key, row in there.items():
            if key not in declared and _note(row).get("by") == MARK:
                drop = sql.SQL("drop policy {} on {}").format(sql.Identifier(key[0]), sql.Identifier(key[1], key[2]))
                session.make(Change("delete", "row policy", f"{key[0]} on {key[1]}.{key[2]}"), [drop])


def _regclass(rule: Rule) -> str:
    return sql.Identifier(rule.schema, rule.table).as_string(None)


def _note(row: dict[str, Any]) -> dict[str, str]:
    try:
        found = json.loads(row["note"] or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _rule(session: Session, rule: Rule, there: dict[str, Any] | None) -> None:
    note = _note(there) if there else {}
    lines = _differences(rule, there, note) if there else ()
    if there is not None and not lines:
        return
    change = Change("update" if there else "create", "row policy", rule.label, lines)
    name, table = sql.Identifier(rule.name), sql.Identifier(rule.schema, rule.table)
    roles = sql.SQL(", ").join(map(sql.Identifier, rule.roles)) if rule.roles else sql.SQL("public")
    kind = sql.SQL("restrictive for select" if rule.restrictive else "permissive for all")
    statements: list[sql.Composable] = [sql.SQL("drop policy {} on {}").format(name, table)] if there else []
    # The condition is the declaration's own SQL, checked to be one expression without comments.
    condition = sql.SQL(rule.where)
    statements.append(
        sql.SQL("create policy {} on {} as {} to {} using ({})").format(name, table, kind, roles, condition)
    )
    session.make(change, statements)
    if session.apply:
        session.conn.execute(sql.SQL("comment on policy {} on {} is {}").format(name, table, _stored(session, rule)))


def _differences(rule: Rule, there: dict[str, Any], note: dict[str, str]) -> tuple[str, ...]:
    actual = {
        "roles": (tuple(there["roles"]), rule.roles),
        "declared": (note.get("where"), rule.where),
        "condition": (there["condition"], note.get("stored")),
        "command": ((there["command"], there["permissive"]), (rule.command, not rule.restrictive)),
    }
    return tuple(f"{field}: {before!r} -> {after!r}" for field, (before, after) in actual.items() if before != after)


def _stored(session: Session, rule: Rule) -> sql.Literal:
    query = f"{_POLICIES} where p.polname = %s and n.nspname = %s and c.relname = %s"
    (row,) = session.rows(query, rule.name, rule.schema, rule.table)
    return sql.Literal(json.dumps({"by": MARK, "where": rule.where, "stored": row["condition"]}))
