"""What a statement needs beyond reading: checked before it runs, by the names it is written with.

Reading is checked where names are resolved (EngineCatalog.resolve), because queries hide in every statement.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from embedded.sql.access import Access
from embedded.sql.datasets import Path
from embedded.sql.engine import statements as st

Full = Callable[[Path], Path]
Needs = list[tuple[str, Path]]


def _on(*privileges: str) -> Callable[[Any, Full], Needs]:
    return lambda statement, full: [(privilege, full(statement.path)) for privilege in privileges]


def _on_target(*privileges: str) -> Callable[[Any, Full], Needs]:
    return lambda statement, full: [(privilege, full(statement.target.path)) for privilege in privileges]


def _in_parent(privilege: str) -> Callable[[Any, Full], Needs]:
    return lambda statement, full: [(privilege, full(statement.path)[:-1])]


def _merge(statement: st.Merge, full: Full) -> Needs:
    path = full(statement.target.path)
    needs = [("UPDATE", path)] if statement.update else []
    return needs + ([("INSERT", path)] if statement.insert_values else [])


NEEDS: dict[type, Callable[[Any, Full], Needs]] = {
    st.CreateTable: _in_parent("CREATE TABLE"),
    st.DropTable: _on("DROP"),
    st.Insert: _on("INSERT"),
    st.Update: _on_target("UPDATE"),
    st.Delete: _on_target("DELETE"),
    st.Merge: _merge,
    st.Truncate: _on("TRUNCATE"),
    st.AddColumns: _on("ALTER"),
    st.DropColumn: _on("ALTER"),
    st.AlterColumn: _on("ALTER"),
    st.RefreshMetadata: _on("ALTER"),
    st.ForgetMetadata: _on("ALTER"),
    st.Rollback: _on("ALTER"),
    st.Vacuum: _on("ALTER"),
    st.Optimize: _on("ALTER"),
    st.RemoveOrphans: _on("ALTER"),
    st.AlterPartition: _on("ALTER"),
    st.SetProperties: _on("ALTER"),
    st.SetSort: _on("ALTER"),
    st.SetPrimaryKey: _on("ALTER"),
    st.CopyInto: _on("INSERT"),
    st.VacuumCatalog: lambda statement, full: [("MODIFY", (statement.source,))],
    st.CreateFunction: _in_parent("ALTER"),
    st.DropFunction: _on("ALTER"),
    st.CreateReflection: _on("ALTER REFLECTION"),
    st.DropReflection: _on("ALTER REFLECTION"),
    st.SetAcceleration: _on("ALTER REFLECTION"),
    st.RefreshReflections: _on("ALTER REFLECTION"),
    st.EnableDefaultReflection: _on("ALTER REFLECTION"),
    st.CreateFolder: _in_parent("ALTER"),
    st.DropFolder: _on("ALTER"),
    st.DropView: _on("ALTER"),
    st.CreateView: _in_parent("ALTER"),
    st.Grant: _on("MANAGE GRANTS"),
}
READS = (
    st.Query,
    st.DescribeFunction,
    st.Show,
    st.ShowCreate,
    st.ShowProperties,
    st.Describe,
    st.Explain,
    st.Use,
)
"""What only reads: resolving its names is check enough."""
ELSEWHERE = (st.Account, st.GrantRole, st.SetOption, st.Versioned)
"""Checked by those who carry them out, or refused for everybody."""


def check(access: Access, statement: object, full: Full, exists: Callable[[Path], bool]) -> None:
    """Raises PermissionDenied for the first privilege that is missing."""
    if isinstance(statement, st.CreateView) and statement.replace and exists(full(statement.path)):
        access.need("ALTER", full(statement.path))
        return
    needs = NEEDS.get(type(statement))
    for privilege, path in needs(statement, full) if needs is not None else []:
        access.need(privilege, path)
