"""What dbt's suites send by hand is PostgreSQL's SQL; `in_dremio` says it in Dremio's."""

from __future__ import annotations

from typing import Any

import agate
import sqlglot
from sqlglot import exp


def run_by_hand(self: Any, sql: str, fetch: str | None, conn: Any) -> Any:
    """In place of an adapter's run_sql_for_tests, which every adapter of another SQL has its own of."""
    credentials, cursor = self.config.credentials, conn.handle.cursor()
    for statement in in_dremio(sql, credentials.database):
        cursor.execute(statement, fetch=fetch is not None)
    if fetch is None:
        return None
    rows = _rows(cursor.job_results())
    return rows[0] if fetch == "one" else rows


def _rows(results: dict[str, Any]) -> Any:
    """A text stays one: dbt-dremio's own cursor takes 'True' for a boolean."""
    kinds = {"VARCHAR": agate.Text(cast_nulls=False), "BIGINT": agate.Number(), "INTEGER": agate.Number()}
    known = {c["name"]: kinds[c["type"]["name"]] for c in results["schema"] if c["type"]["name"] in kinds}
    return agate.Table.from_object(results["rows"], column_types=agate.TypeTester(force=known)).rows


def in_dremio(sql: str, database: str) -> list[str]:
    """The statements one by one; names of tables in a schema of dbt's get the database: Dremio has no default one."""
    return [_written(tree, database) for tree in sqlglot.parse(sql, read="postgres") if tree is not None]


def _written(tree: exp.Expr, database: str) -> str:
    for table in tree.find_all(exp.Table):
        if table.db and not table.catalog and table.db.lower() != "information_schema":
            table.set("catalog", exp.to_identifier(database, quoted=True))
    for constraint in list(tree.find_all(exp.ColumnConstraint)):
        if isinstance(constraint.kind, exp.DefaultColumnConstraint) and isinstance(constraint.kind.this, exp.Null):
            constraint.pop()  # it is the default
    if isinstance(tree, exp.Alter) and isinstance(tree.args["actions"][0], exp.ColumnDef):
        columns = ", ".join(action.sql("dremio") for action in tree.args["actions"])
        return f"ALTER TABLE {tree.this.sql('dremio')} ADD COLUMNS ({columns})"  # sqlglot writes ADD COLUMN
    return tree.sql("dremio")
