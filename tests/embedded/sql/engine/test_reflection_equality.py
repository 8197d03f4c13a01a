"""A query answers the same with reflections as without; and every rule that this rests on is needed."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from sqlglot import exp

from embedded.sql.engine import blocks, expressions, matching
from embedded.sql.errors import SqlError
from tests.embedded.sql.engine import star

if TYPE_CHECKING:
    from tests.embedded.sql.engine.conftest import Bench


@pytest.fixture
def gold(bench: Bench) -> Bench:
    """Views hold their tables' full names."""
    run = bench.run
    star_sql = {name: getattr(star, name) for name in ("LINES", "BY_STORE")}
    assert all("$ns" in text for text in star_sql.values())
    star.build(bench)
    assert run("SELECT COUNT(*) FROM gold.lines").table.num_rows == 1
    return bench


def answer(bench: Bench, sql: str, *, accelerated: bool) -> tuple[Any, list[str], list[str]]:
    """Column types and the bag of rows, or the error; and the reflections that were chosen."""
    made = list(bench.catalog.made)
    if not accelerated:
        bench.catalog.made.clear()
    try:
        outcome = bench.run(sql)
    except SqlError as error:
        return type(error), [error.message], []
    finally:
        bench.catalog.made[:] = made
    rows = sorted(repr(_rounded(tuple(row.values()))) for row in outcome.table.to_pylist())
    return outcome.table.schema, rows, [r for r, _, relationship in outcome.reflections if relationship == "CHOSEN"]


def _rounded(row: tuple[object, ...]) -> tuple[object, ...]:
    """Sums of DOUBLE depend on the order of rows; nothing else may differ in any digit."""
    return tuple(float(f"{v:.12g}") if isinstance(v, float) else v for v in row)


def compare(bench: Bench, seed: int, count: int) -> Counter[str]:
    queries = star.Queries(seed)
    chosen: Counter[str] = Counter()
    for number in range(count):
        sql = next(queries)
        schema, rows, _ = answer(bench, sql, accelerated=False)
        found_schema, found, used = answer(bench, sql, accelerated=True)
        assert (found_schema, found) == (schema, rows), f"query {number} of seed {seed}, answered by {used}:\n{sql}"
        chosen.update(used or ["none"])
    return chosen


def test_random_queries_answer_the_same(gold: Bench) -> None:
    star.reflections(gold)
    assert all(m.sources for m in gold.catalog.made)
    chosen = compare(gold, seed=26, count=50)
    assert chosen["none"] < 30  # most are accelerated
    assert len(chosen) >= 7, chosen  # and nearly every reflection has had its turn


@pytest.mark.faults
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", range(5))
def test_many_random_queries_answer_the_same(gold: Bench, seed: int) -> None:
    star.reflections(gold)
    assert len(compare(gold, seed, count=400)) == 9


def _no_residual(self: Any) -> list[exp.Expr]:
    return []


def _all_conditions(self: Any) -> list[exp.Expr]:
    wanted = {expressions.canonical(self._mine(c)) for c in self._provider.block.conjuncts}
    return [c for c in self._block.conjuncts if expressions.canonical(c) not in wanted]


_offer = matching._Rewriting._offer


def _impure(self: Any, *, pure: bool) -> None:
    _offer(self, pure=False)


def _unversioned(self: blocks.Leaf) -> Any:
    return blocks.lowered(self.path)


MUTANTS: dict[str, tuple[object, str, object, str]] = {
    "conditions of the query are applied": (
        matching._Rewriting, "_residual", _no_residual,
        "SELECT store_id, SUM(amount) AS m FROM $ns.sales WHERE store_id > 1 GROUP BY store_id",
    ),
    "conditions of the reflection are asked for": (
        matching._Rewriting, "_residual", _all_conditions,
        "SELECT s.id, p.brand, st.region FROM $ns.sales s JOIN $ns.stores st ON s.store_id = st.store_id"
        " LEFT JOIN $ns.products p ON s.product_id = p.product_id",
    ),
    "a count is summed": (
        matching, "_count", lambda value: exp.Anonymous(this="COUNT", expressions=[value]),
        "SELECT store_id, COUNT(*) AS n FROM $ns.sales GROUP BY store_id",
    ),
    "a timestamp kept by day meets midnight only": (
        matching, "_is_midnight", lambda bound: True,
        "SELECT COUNT(*) AS n FROM $ns.sales WHERE sold_at >= TIMESTAMP '2024-02-01 05:00:00'",
    ),
    "DATE_TRUNC of a day is no hour": (
        matching, "_DAY_UNITS", ("hour",),
        "SELECT DATE_TRUNC('hour', sold_at) AS h, COUNT(*) AS n FROM $ns.sales GROUP BY 1",
    ),
    "the optional side of a join shows plain columns only": (
        matching._Rewriting, "_offer", _impure,
        "SELECT st.store_id, COALESCE(p.brand, 'none') AS b FROM $ns.stores st LEFT JOIN $ns.products p"
        " ON p.product_id = st.store_id + 100",
    ),
    "volatile expressions stay where they are": (
        blocks, "VOLATILE", set(),
        "SELECT COUNT(DISTINCT r) > 1 AS many FROM (SELECT RANDOM() AS r, store_id FROM $ns.sales) t",
    ),
    "versions are compared": (
        blocks.Leaf, "identity", property(_unversioned),
        "SELECT store_id, COUNT(*) AS n FROM $ns.sales GROUP BY store_id",
    ),
}  # fmt: skip


@pytest.mark.parametrize("rule", MUTANTS)
def test_without_a_rule_the_answer_differs(gold: Bench, monkeypatch: pytest.MonkeyPatch, rule: str) -> None:
    owner, name, broken, sql = MUTANTS[rule]
    gold.run("CREATE VIEW gold.brands AS SELECT product_id, COALESCE(brand, 'none') AS brand FROM $ns.products")
    star.reflections(gold)
    star.refresh(gold, star.raw(gold, ("gold", "brands"), "product_id", "brand"))
    if rule == "versions are compared":
        gold.run("INSERT INTO $ns.sales (id, store_id) VALUES (100000, 1)")
    truth = answer(gold, sql, accelerated=False)[:2]
    assert answer(gold, sql, accelerated=True)[:2] == truth
    monkeypatch.setattr(owner, name, broken)
    if rule == "volatile expressions stay where they are":
        assert [r for r, _, word in gold.run(sql).reflections if word == "CHOSEN"]  # it would be merged
    else:
        assert answer(gold, sql, accelerated=True)[:2] != truth


def _refreshed(bench: Bench, sql: str) -> list[str]:
    return answer(bench, sql, accelerated=True)[2]


@pytest.mark.parametrize(
    ("sql", "why"),
    [
        ("SELECT region, SUM(amount) AS s FROM gold.lines GROUP BY region", "view"),
        ("SELECT SUM(s.amount) AS s, st.region FROM $ns.sales s JOIN $ns.stores st"
         " ON st.store_id = s.store_id LEFT JOIN $ns.products p ON s.product_id = p.product_id"
         " WHERE s.units IS NOT NULL GROUP BY st.region", "star"),
        ("SELECT st.region, SUM(s.amount) AS t FROM $ns.sales s JOIN $ns.stores st ON s.store_id = st.store_id"
         " GROUP BY st.region", "one side of a join"),
        ("SELECT * FROM gold.by_store WHERE n > 10", "a grouping view"),
        ("SELECT p.department, b.total FROM gold.by_store b JOIN $ns.products p ON p.product_id = b.store_id", "two"),
    ],
)  # fmt: skip
def test_joins_and_views_are_served(gold: Bench, sql: str, why: str) -> None:
    star.reflections(gold)
    assert answer(gold, sql, accelerated=True)[:2] == answer(gold, sql, accelerated=False)[:2]
    assert len(_refreshed(gold, sql)) == (2 if why in ("one side of a join", "two") else 1), why


def test_a_view_with_another_text_is_not_answered(gold: Bench) -> None:
    star.reflections(gold)
    sql = "SELECT COUNT(*) AS n, MAX(total) AS t FROM gold.by_store"
    assert _refreshed(gold, sql)
    gold.run("CREATE OR REPLACE VIEW gold.by_store AS SELECT store_id, 1 AS n, 2 AS total FROM $ns.sales")
    assert not any("by_store" in name for name in _refreshed(gold, sql))
    assert answer(gold, sql, accelerated=True)[:2] == answer(gold, sql, accelerated=False)[:2]


def test_a_column_dropped_and_added_again_is_another_column(gold: Bench) -> None:
    star.reflections(gold)
    sql = "SELECT product_id, brand FROM $ns.products"
    assert _refreshed(gold, sql)
    gold.run("ALTER TABLE $ns.products DROP COLUMN brand")
    gold.run("ALTER TABLE $ns.products ADD COLUMNS (brand VARCHAR)")
    assert not _refreshed(gold, sql)
    assert answer(gold, sql, accelerated=True)[:2] == answer(gold, sql, accelerated=False)[:2]


def test_what_changes_with_time_or_user_is_never_stored(gold: Bench) -> None:
    gold.run("CREATE VIEW gold.recent AS SELECT id, CURRENT_DATE AS today FROM $ns.sales WHERE channel <> QUERY_USER()")
    made, _ = star.refresh(gold, star.raw(gold, ("gold", "recent"), "id", "today"))
    assert made.sources == {}
    assert not _refreshed(gold, "SELECT today FROM gold.recent")


def test_a_common_table_expression_keeps_what_its_names_mean(gold: Bench) -> None:
    star.reflections(gold)
    sql = (
        "WITH a AS (SELECT region, store_id FROM stores), stores AS (SELECT 1 AS store_id)"
        " SELECT a.region, s.store_id FROM a JOIN stores s ON s.store_id = a.store_id"
    )
    rows = gold.run(sql, context=("lake", gold.namespace)).table.to_pylist()
    assert rows == [{"region": "V", "store_id": 1}]


def test_a_stale_reflection_is_considered_and_no_more(gold: Bench) -> None:
    star.reflections(gold)
    gold.run("INSERT INTO $ns.stores VALUES (9, 'U')")
    outcome = gold.run("SELECT region FROM $ns.stores")
    assert {word for _, _, word in outcome.reflections} == {"CONSIDERED"}
