"""Every suite of dbt-tests-adapter: what is new upstream runs here without being asked for.

What an adapter must say for itself (its types, its words for an error) is said below, and nothing else is changed.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dbt.tests import adapter
from dbt.tests.adapter.aliases import fixtures as aliases
from dbt.tests.adapter.basic.expected_catalog import base_expected_catalog, expected_references_catalog, no_stats
from dbt.tests.adapter.simple_seed import fixtures as seeds
from dbt.tests.adapter.utils import fixture_get_intervals_between as intervals

from tests.conformance.not_applicable import ADD_COLUMN, CASCADE, GROUPS, MATERIALIZED_VIEW, NOT_APPLICABLE

ROOT = Path(adapter.__path__[0])


class Columns:
    """Dremio's types where the suites say PostgreSQL's."""

    @pytest.fixture
    def string_type(self) -> str:
        return "VARCHAR"

    @pytest.fixture
    def int_type(self) -> str:
        return "INTEGER"

    @pytest.fixture
    def data_types(self, schema_int_type: str, int_type: str, string_type: str) -> list[list[str]]:
        return [
            ["1", schema_int_type, int_type],
            ["'1'", string_type, string_type],
            ["cast('2019-01-01' as date)", "date", "DATE"],
            ["true", "boolean", "BOOLEAN"],
            ["cast('2013-11-03 00:00:00' as timestamp)", "timestamp", "TIMESTAMP"],
            ["cast('1' as decimal)", "decimal", "DECIMAL"],
        ]


class Contract(Columns):
    """The DDL of a contract: dbt-dremio writes types and NOT NULL, and no other constraint."""

    @pytest.fixture(scope="class")
    def expected_sql(self) -> str:
        return (
            "create table <model_identifier> ( id integer not null, color VARCHAR, date_day VARCHAR ) as ("
            " select id, color, date_day from ( -- depends_on: <foreign_key_model_identifier>"
            " select 'blue' as color, 1 as id, '2019-01-01' as date_day ) as model_subq )"
        )


class Quoted(Columns):
    @pytest.fixture(scope="class")
    def expected_sql(self) -> str:
        return (
            'create table <model_identifier> ( id integer not null, "from" varchar not null, date_day varchar ) as ('
            ' select id, "from", date_day from ('
            " select 'blue' as \"from\", 1 as id, '2019-01-01' as date_day ) as model_subq )"
        )


class Catalog:
    @pytest.fixture(scope="class")
    def expected_catalog(self, project: Any) -> Any:
        catalog = base_expected_catalog(
            project, None, "bigint", "character varying", "timestamp", "view", "table", no_stats()
        )
        # dbt-dremio's own generate_schema_name: a model's schema is a folder in the target's.
        catalog["nodes"]["model.test.second_model"]["metadata"]["schema"] = f"{project.test_schema}.test"
        return catalog


class References:
    @pytest.fixture(scope="class")
    def expected_catalog(self, project: Any) -> Any:
        return expected_references_catalog(
            project, None, "bigint", "character varying", "timestamp", "view", "table", no_stats(), "bigint"
        )


class Aliases:
    """A text is 'x'::text by default; each adapter says its own."""

    @pytest.fixture(scope="class")
    def macros(self) -> dict[str, str]:
        literal = "{% macro dremio__string_literal(s) %}cast('{{ s }}' as varchar){% endmacro %}"
        return {"cast.sql": aliases.MACROS__CAST_SQL + literal, "expect_value.sql": aliases.MACROS__EXPECT_VALUE_SQL}


class TableAliases(Aliases):
    """dbt-dremio takes a table's other name from `file`; `alias` is for views."""

    @pytest.fixture(scope="class")
    def models(self) -> dict[str, str]:
        return {
            "schema.yml": aliases.MODELS__SCHEMA_YML,
            "foo_alias.sql": aliases.MODELS__FOO_ALIAS_SQL.replace("alias=", "file="),
            "alias_in_project.sql": aliases.MODELS__ALIAS_IN_PROJECT_SQL,
            "alias_in_project_with_override.sql": aliases.MODELS__ALIAS_IN_PROJECT_WITH_OVERRIDE_SQL,
            "ref_foo_alias.sql": aliases.MODELS__REF_FOO_ALIAS_SQL,
        }


class GrantWords:
    def grantee_does_not_exist_error(self) -> str:
        return "User [invalid_user] not found"

    def privilege_does_not_exist_error(self) -> str:
        return "FAKE_PRIVILEGE"


class SeedRefresh:
    def seeds_support_partial_refresh(self) -> bool:
        return False  # dbt-dremio drops and creates the table of a seed


class DropsTheTable:
    """The suite loses its table by dropping the schema, which dbt-dremio does not do in the object store."""

    @pytest.fixture(autouse=True)
    def _drop_the_table(self, project: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        def drop_table(adapter: Any, relation: Any) -> None:
            project.run_sql(f"drop table {relation}")

        # Of the class: every command of dbt's makes an adapter of its own.
        monkeypatch.setattr(type(project.adapter), "drop_schema", drop_table)


class ShowWords:
    DATABASE_ERROR_MESSAGE = 'Encountered "limit"'


class Now:
    """Dremio's timestamps have no zone, and dbt-dremio has no macros of older names."""

    @pytest.fixture(scope="class")
    def models(self) -> dict[str, str]:
        return {"get_current_timestamp.sql": 'select {{ current_timestamp() }} as "current_timestamp"'}

    @pytest.fixture(scope="class")
    def expected_schema(self) -> dict[str, str]:
        return {"current_timestamp": "timestamp"}

    @pytest.fixture(scope="class")
    def expected_sql(self) -> None:
        return None


class Samples:
    """The suite's rows without a zone; its clock stands at two in the morning of the third of January 2025."""

    @pytest.fixture(scope="class")
    def input_model_sql(self) -> str:
        times = ("2025-01-01 01:25:00", "2025-01-02 12:25:00", "2025-01-03 01:25:00")
        rows = (f"select {number} as id, cast('{at}' as timestamp) as event_time" for number, at in enumerate(times, 1))
        return "{{ config(materialized='table', event_time='event_time') }} " + " union all ".join(rows)


class UnitTypes:
    """Values of Dremio's types, as SQL and as a unit test says them."""

    @pytest.fixture
    def data_types(self) -> list[list[str]]:
        return [
            ["1", "1"],
            ["'1'", "1"],
            ["'12345'", "12345"],
            ["'string'", "string"],
            ["true", "true"],
            ["cast('2020-01-02' as date)", "2020-01-02"],
            ["cast('2013-11-03 00:00:00' as timestamp)", "2013-11-03 00:00:00"],
            ["cast(1.25 as decimal(10, 2))", "1.25"],
            ["cast(1.5 as double)", "1.5"],
            ["cast(9007199254740993 as bigint)", "9007199254740993"],
        ]


class Arrays:
    """dbt-dremio makes no empty array: Dremio's has no type."""

    expected, actual = "", ""

    @pytest.fixture(scope="class")
    def models(self) -> dict[str, str]:
        return {
            f"{name}.sql": f"select 1 as id, {{{{ {sql} }}}} as array_col"
            for name, sql in (("expected", self.expected), ("actual", self.actual))
        }


class Appended(Arrays):
    expected, actual = "array_construct([1, 2, 3, 4])", "array_append(array_construct([1, 2, 3]), 4)"


class Concatenated(Arrays):
    expected = "array_construct([1, 2, 3, 4])"
    actual = "array_concat(array_construct([1, 2]), array_construct([3, 4]))"


class Constructed(Arrays):
    expected, actual = "array_construct([1, 2])", "array_construct([1, 2])"


class Intervals:
    """Dates as Dremio reads them."""

    @pytest.fixture(scope="class")
    def models(self) -> dict[str, str]:
        counted = "{{ get_intervals_between(\"'2023-09-01'\", \"'2023-09-12'\", 'day') }}"
        return {
            "test_get_intervals_between.yml": intervals.models__test_get_intervals_between_yml,
            "test_get_intervals_between.sql": f"select {counted} as intervals, 11 as expected",
        }


class WithoutMaterializedViews:
    @pytest.mark.skip(reason=MATERIALIZED_VIEW)
    def test_simple_copy_with_materialized_views(self) -> None:
        """Dremio has none."""


class Merge:
    """dbt-dremio appends unless it is told to merge."""

    @pytest.fixture(scope="class")
    def project_config_update(self) -> dict[str, Any]:
        return {"models": {"+incremental_strategy": "merge"}}


class SeedWords:
    """The types that the suite's own macro finds in the catalog."""

    @pytest.fixture(scope="class")
    def models(self) -> dict[str, str]:
        text = seeds.properties__schema_yml
        for theirs, ours in (("text", "character varying(65536)"), ("integer", "bigint")):
            text = text.replace(f"type: {theirs}\n", f"type: {ours}\n")
        return {"schema.yml": text.replace("timestamp without time zone", "timestamp")}

    @staticmethod
    def seed_enabled_types() -> dict[str, str]:
        return {"seed_id": "character varying", "birthday": "date"}

    @staticmethod
    def seed_tricky_types() -> dict[str, str]:
        return dict.fromkeys(("seed_id_str", "looks_like_a_bool", "looks_like_a_date"), "character varying")


class WithoutNewColumn:
    @pytest.mark.skip(reason=ADD_COLUMN)
    def test_new_column_captured_by_snapshot(self) -> None:
        """dbt adds the column to the snapshot."""


class WithoutCascade:
    @pytest.mark.skip(reason=CASCADE)
    def test_simple_seed_full_refresh_flag(self) -> None:
        """The suite waits for the view to be gone."""


OVERRIDES: dict[str, type] = {
    "BaseIncrementalUniqueKey": Merge,
    "BaseBasicSeedTests": WithoutCascade,
    "BaseSimpleSeedColumnOverride": SeedWords,
    "BaseSimpleSnapshot": WithoutNewColumn,
    "BaseShowDoesNotHandleDoubleLimit": ShowWords,
    "BaseAliases": TableAliases,
    "BaseAliasErrors": Aliases,
    "BaseSameAliasDifferentSchemas": Aliases,
    "BaseSameAliasDifferentDatabases": Aliases,
    "BaseTableConstraintsColumnsEqual": Columns,
    "BaseViewConstraintsColumnsEqual": Columns,
    "BaseIncrementalConstraintsColumnsEqual": Columns,
    "BaseConstraintsRuntimeDdlEnforcement": Contract,
    "BaseIncrementalConstraintsRuntimeDdlEnforcement": Contract,
    "BaseModelConstraintsRuntimeEnforcement": Contract,
    "BaseConstraintQuotedColumn": Quoted,
    "BaseDocsGenerate": Catalog,
    "BaseDocsGenReferences": References,
    "BaseInvalidGrants": GrantWords,
    "BaseSeedGrants": SeedRefresh,
    "BaseIncrementalGrants": DropsTheTable,
    "BaseCurrentTimestamps": Now,
    "BaseSampleModeTest": Samples,
    "BaseUnitTestingTypes": UnitTypes,
    "BaseArrayAppend": Appended,
    "BaseArrayConcat": Concatenated,
    "BaseArrayConstruct": Constructed,
    "BaseGetIntervalsBetween": Intervals,
    "SimpleCopyBase": WithoutMaterializedViews,
}


def _suites() -> Iterator[tuple[str, str, type]]:
    """Group, name and class of every suite that upstream meant to be inherited from."""
    for path in sorted(ROOT.rglob("*.py")):
        if path.name in ("__init__.py", "conftest.py"):
            continue
        place = path.relative_to(ROOT)
        module = importlib.import_module(".".join((adapter.__name__, *place.with_suffix("").parts)))
        for name, value in vars(module).items():
            own = isinstance(value, type) and value.__module__ == module.__name__ and not name.startswith("Test")
            if own and any(attribute.startswith("test_") for attribute in dir(value)):
                yield place.parts[0], name, value


for _group, _name, _base in _suites():
    _bases = (OVERRIDES[_name], _base) if _name in OVERRIDES else (_base,)
    _suite = type(f"Test_{_group}_{_name}", _bases, {"__module__": __name__})
    _reason = GROUPS.get(_group) or NOT_APPLICABLE.get(_name)
    globals()[_suite.__name__] = pytest.mark.skip(reason=_reason)(_suite) if _reason else _suite
