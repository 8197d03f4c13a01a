"""ALTER TABLE on Iceberg tables: columns, partition fields, order, properties, primary key."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pyarrow as pa
from pyiceberg.exceptions import ValidationError as IcebergValidationError
from pyiceberg.table import Table, Transaction
from pyiceberg.table.sorting import UNSORTED_SORT_ORDER
from pyiceberg.table.update import AddSortOrderUpdate, AssertTableUUID, SetDefaultSortOrderUpdate
from pyiceberg.table.update.schema import UpdateSchema
from pyiceberg.transforms import IdentityTransform
from pyiceberg.types import NestedField

from embedded.sql.datasets import IcebergTable
from embedded.sql.engine import iceberg
from embedded.sql.engine import statements as st
from embedded.sql.engine.datatypes import iceberg_type
from embedded.sql.engine.outcomes import ok
from embedded.sql.engine.relations import dotted, load_table
from embedded.sql.errors import ConcurrentModification, ValidationError

if TYPE_CHECKING:
    from collections.abc import Callable

    from embedded.sql.engine.engine import Run

PRIMARY_KEY = "dremio.primary_key"
# Written by the table's own machinery; a statement that set them would break readers.
_RESERVED = ("format-version", "uuid", "snapshot-count", "current-snapshot-id", "current-schema", PRIMARY_KEY)


def _altered(run: Run, path: tuple[str, ...], change: Callable[[Transaction, Table], None], words: str) -> pa.Table:
    """One metadata commit under the table's lock; losing a race is Dremio's 409."""
    dataset = run.iceberg(path)
    with run.engine.writing(dataset.path, run.job):
        table = load_table(dataset)
        transaction = table.transaction()
        try:
            change(transaction, table)
            with iceberg.committing(dataset, ""):
                transaction.commit_transaction()
        except iceberg.Conflict:
            raise ConcurrentModification(f"Table [{dotted(dataset.path)}] was changed by another statement.") from None
        except (ValueError, IcebergValidationError) as error:
            raise ValidationError(str(error)) from None
    run.changed(dataset.path)
    return ok(words)


def alter_columns(run: Run, statement: st.AddColumns | st.DropColumn | st.AlterColumn) -> pa.Table:
    def change(transaction: Transaction, table: Table) -> None:
        with transaction.update_schema(
            allow_incompatible_changes=isinstance(statement, st.DropColumn), case_sensitive=False
        ) as update:
            _alter(update, table, statement)

    words = {
        st.AddColumns: "New columns added.",
        st.DropColumn: "Column [{0}] dropped",
        st.AlterColumn: "Column [{0}] modified",
    }
    text = words[type(statement)].format(getattr(statement, "column", ""))
    return _altered(run, statement.path, change, text)


def _alter(update: UpdateSchema, table: Table, statement: st.AddColumns | st.DropColumn | st.AlterColumn) -> None:
    known = {f.name.lower(): f for f in table.schema().fields}
    if isinstance(statement, st.AddColumns):
        for column in statement.columns:
            if column.name.lower() in known:
                raise ValidationError(f"Column [{column.name}] already in the table.")
            assert column.type is not None
            update.add_column((column.name,), iceberg_type(column.type))
        return
    field = known.get(statement.column.lower())
    if field is None:
        raise ValidationError(f"Column [{statement.column}] is not present in table [{table.name()[-1]}]")
    if isinstance(statement, st.DropColumn):
        _check_droppable(table, field)
        update.delete_column((field.name,))
        return
    wanted = statement.definition
    assert wanted.type is not None
    if iceberg_type(wanted.type) != field.field_type:
        update.update_column((field.name,), iceberg_type(wanted.type))
    if wanted.name != field.name:
        update.rename_column((field.name,), wanted.name)


def _check_droppable(table: Table, field: NestedField) -> None:
    if len(table.schema().fields) == 1:
        raise ValidationError("Cannot drop all columns of a table")
    if any(p.source_id == field.field_id for p in table.spec().fields):
        raise ValidationError(f"[{field.name}] is a partition column. Partition spec change is not supported.")
    if any(s.source_id == field.field_id for s in table.sort_order().fields):
        raise ValidationError(f"[{field.name}] is a sort column. Drop the sort order first.")


def alter_partition(run: Run, statement: st.AlterPartition) -> pa.Table:
    """ADD or DROP PARTITION FIELD. Files stay where they are; OPTIMIZE moves them."""

    def change(transaction: Transaction, table: Table) -> None:
        wanted = iceberg.partition_spec(table.schema(), [statement.term]).fields[0]
        same = [f for f in table.spec().fields if f.source_id == wanted.source_id and f.transform == wanted.transform]
        if statement.add and same:
            raise ValidationError(f"Partition field [{same[0].name}] already exists in table [{table.name()[-1]}]")
        if not statement.add and not same:
            raise ValidationError(f"Partition field [{wanted.name}] is not found in table [{table.name()[-1]}]")
        column = table.schema().find_field(wanted.source_id).name
        with transaction.update_spec() as update:
            if statement.add:
                name = None if isinstance(wanted.transform, IdentityTransform) else wanted.name
                update.add_field(column, wanted.transform, name)
            else:
                update.remove_field(same[0].name)

    verb = "added" if statement.add else "dropped"
    return _altered(run, statement.path, change, f"Partition field [{statement.term.column}] {verb}")


def set_properties(run: Run, statement: st.SetProperties) -> pa.Table:
    """Table properties; names that Iceberg itself keeps are refused."""
    for name, _ in statement.properties:
        if not name or name.lower() in _RESERVED:
            raise ValidationError(f"Table property [{name}] is reserved and cannot be changed")

    def change(transaction: Transaction, table: Table) -> None:
        removed = [name for name, value in statement.properties if value is None]
        missing = [name for name in removed if name not in table.properties]
        if missing:
            raise ValidationError(f"Table property [{missing[0]}] is not set")
        if removed:
            transaction.remove_properties(*removed)
        given = {name: value for name, value in statement.properties if value is not None}
        if given:
            transaction.set_properties(given)

    removing = any(value is None for _, value in statement.properties)
    return _altered(
        run, statement.path, change, f"Table properties have been {'removed' if removing else 'set'} successfully."
    )


def set_primary_key(run: Run, statement: st.SetPrimaryKey) -> pa.Table:
    """Kept as a table property, as Dremio does; nothing enforces it."""

    def change(transaction: Transaction, table: Table) -> None:
        if not statement.columns:
            if PRIMARY_KEY not in table.properties:
                raise ValidationError(f"No primary key to drop in table [{table.name()[-1]}]")
            transaction.remove_properties(PRIMARY_KEY)
            return
        known = {f.name.lower(): f.name for f in table.schema().fields}
        for column in statement.columns:
            if column.lower() not in known:
                raise ValidationError(f"Column [{column}] is not present in table [{table.name()[-1]}]")
        transaction.set_properties({PRIMARY_KEY: json.dumps([known[c.lower()] for c in statement.columns])})

    return _altered(run, statement.path, change, f"Primary key {'added' if statement.columns else 'dropped'}")


def set_sort(run: Run, statement: st.SetSort) -> pa.Table:
    """LOCALSORT BY (...) or DROP LOCALSORT: the order inside files written from now on."""

    def change(transaction: Transaction, table: Table) -> None:
        order = iceberg.sort_order(table.schema(), statement.columns) if statement.columns else UNSORTED_SORT_ORDER
        known = next((o for o in table.metadata.sort_orders if o.fields == order.fields), None)
        if known is not None:
            updates: tuple[AddSortOrderUpdate | SetDefaultSortOrderUpdate, ...] = (
                SetDefaultSortOrderUpdate.model_validate({"sort-order-id": known.order_id}),
            )
        else:
            number = max((o.order_id for o in table.metadata.sort_orders), default=0) + 1
            fresh = order.model_copy(update={"order_id": number})
            updates = (
                AddSortOrderUpdate.model_validate({"sort-order": fresh}),
                SetDefaultSortOrderUpdate.model_validate({"sort-order-id": -1}),
            )
        transaction._apply(updates, (AssertTableUUID(uuid=table.metadata.table_uuid),))

    return _altered(run, statement.path, change, "Sort order updated" if statement.columns else "Sort order dropped")


def show_properties(run: Run, statement: st.ShowProperties) -> pa.Table:
    dataset: IcebergTable = run.iceberg(statement.path)
    found = sorted(load_table(dataset).properties.items())
    return pa.table(
        {
            "table_property_name": pa.array([name for name, _ in found], pa.string()),
            "table_property_value": pa.array([value for _, value in found], pa.string()),
        }
    )
