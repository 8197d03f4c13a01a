"""A small star schema shaped like the gold models, reflections on it, and random queries over it."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from embedded.sql.datasets import Materialization, Measure, Path, Session

if TYPE_CHECKING:
    from tests.embedded.sql.engine.conftest import Bench

_ROWS = "(SELECT FLATTEN(ARRAY_GENERATE_RANGE({0}, {1})) AS i)"
SALES = f"""
SELECT i AS id, CAST(MOD(i * 7, 40) AS INTEGER) AS product_id, CAST(MOD(i, 5) AS INTEGER) AS store_id,
       CASE WHEN MOD(i, 11) = 0 THEN NULL ELSE CAST(MOD(i, 9) AS INTEGER) END AS units,
       CASE WHEN MOD(i, 17) = 0 THEN NULL ELSE CAST(MOD(i, 23) * 1.25 AS DECIMAL(12, 2)) END AS amount,
       CAST(MOD(i, 8) AS DOUBLE) / 4 AS weight,
       TIMESTAMPADD(DAY, CAST(MOD(i, 70) AS INTEGER), DATE '2024-01-20') AS sold_on,
       TIMESTAMPADD(HOUR, CAST(MOD(i * 5, 1600) AS INTEGER), TIMESTAMP '2024-01-20 00:00:00') AS sold_at,
       CASE WHEN MOD(i, 13) = 0 THEN NULL ELSE CHR(97 + CAST(MOD(i, 3) AS INTEGER)) END AS channel
FROM {_ROWS}
"""
PRODUCTS = f"""
SELECT CAST(i AS INTEGER) AS product_id, CHR(65 + CAST(MOD(i, 4) AS INTEGER)) AS department,
       CASE WHEN MOD(i, 6) = 0 THEN NULL ELSE CHR(75 + CAST(MOD(i, 7) AS INTEGER)) END AS brand,
       CAST(i * 0.5 AS DECIMAL(8, 2)) AS price
FROM {_ROWS.format(0, 34)}
"""
STORES = f"""
SELECT CAST(i AS INTEGER) AS store_id, CHR(85 + CAST(MOD(i, 2) AS INTEGER)) AS region FROM {_ROWS.format(0, 4)}
"""
LINES = """
SELECT s.id, s.sold_on, s.sold_at, s.store_id, COALESCE(p.department, 'UNKNOWN') AS department, p.brand, s.units,
       s.amount, s.units * 2 AS doubled, st.region
FROM $ns.sales s JOIN $ns.stores AS st ON s.store_id = st.store_id
LEFT JOIN $ns.products p ON s.product_id = p.product_id
WHERE s.units IS NOT NULL
"""
BY_STORE = "SELECT store_id, COUNT(*) AS n, SUM(amount) AS total FROM $ns.sales GROUP BY store_id"


def build(bench: Bench, rows: int = 1500) -> None:
    bench.run(f"CREATE TABLE $ns.sales AS {SALES.format(0, rows)}")
    bench.run(f"CREATE TABLE $ns.products AS {PRODUCTS}")
    bench.run(f"CREATE TABLE $ns.stores AS {STORES}")
    bench.run(f"CREATE VIEW gold.lines AS {LINES}")
    bench.run(f"CREATE VIEW gold.by_store AS {BY_STORE}")
    bench.run("CREATE VIEW gold.sales AS SELECT id, product_id, store_id, units, amount, sold_on FROM $ns.sales")


def raw(bench: Bench, dataset: Path, *display: str) -> Materialization:
    return _reflection(bench, dataset, "RAW", display=display)


def aggregation(
    bench: Bench, dataset: Path, dimensions: Sequence[str], measures: dict[str, str], granularity: str = "DATE"
) -> Materialization:
    """`measures`: column -> its functions, separated by blanks."""
    return _reflection(
        bench,
        dataset,
        "AGGREGATION",
        dimensions=tuple((name, granularity) for name in dimensions),
        measures=tuple(Measure(name, tuple(functions.split())) for name, functions in measures.items()),
    )


def _reflection(
    bench: Bench, dataset: Path, kind: Literal["RAW", "AGGREGATION"], **parts: tuple[object, ...]
) -> Materialization:
    empty: dict[str, tuple[object, ...]] = {"display": (), "dimensions": (), "measures": ()}
    name = f"{kind.lower()}_{dataset[-1]}"
    return Materialization(name, name, kind, dataset, access=bench.catalog.access, **(empty | parts))  # type: ignore[arg-type]


def refresh(
    bench: Bench,
    wanted: Materialization,
    *,
    order: Sequence[str] = (),
    partition: Sequence[tuple[str, str, int]] = (),
    base: Materialization | None = None,
    number: int = 0,
) -> tuple[Materialization, str]:
    """The built reflection and how it was refreshed; it may answer from now on."""
    made = bench.engine.materialize(
        wanted,
        f"s3://lakehouse-dist/{bench.namespace}/{wanted.reflection_id}/{number}",
        Session("refresh"),
        order=order,
        partition=partition,
        base=(base.metadata, base.sources) if base else None,
    )
    done = dataclasses.replace(
        wanted,
        metadata=made.metadata,
        files=made.files,
        columns=made.columns,
        sources=made.sources,
        rows=made.rows,
        size=made.size,
    )
    bench.catalog.made[:] = [m for m in bench.catalog.made if m.reflection_id != wanted.reflection_id]
    bench.catalog.made.append(done)
    return done, made.method


def reflections(bench: Bench) -> None:
    """One of each kind that the rules speak of."""
    sales, products, stores = (bench.table(name) for name in ("sales", "products", "stores"))
    measures = {"amount": "SUM COUNT MIN MAX", "units": "SUM COUNT", "weight": "SUM COUNT"}
    for number, wanted in enumerate((
        raw(bench, sales, "id", "product_id", "store_id", "amount", "units"),
        aggregation(bench, sales, ("store_id", "sold_on", "sold_at"), measures),
        aggregation(bench, sales, ("store_id", "product_id", "channel"), measures),
        raw(bench, products, "product_id", "department", "brand"),
        raw(bench, stores, "store_id", "region"),
        raw(bench, ("gold", "lines"), "id", "department", "brand", "amount", "units", "store_id", "region"),
        aggregation(bench, ("gold", "lines"), ("department", "region", "sold_at"), {"amount": "SUM COUNT MIN MAX",
                                                                                   "doubled": "SUM COUNT"}),
        raw(bench, ("gold", "by_store"), "store_id", "n", "total"),
    )):  # fmt: skip
        refresh(bench, dataclasses.replace(wanted, reflection_id=f"{wanted.name}_{number}"))


class Queries:
    """Random queries; results are compared as bags, so LIMIT comes with an order over everything shown."""

    _DIMENSIONS: ClassVar = {
        "sales": ["{t}store_id", "{t}product_id", "{t}channel", "{t}sold_on", "CAST({t}sold_at AS DATE)",
                  "DATE_TRUNC('month', {t}sold_at)", "DATE_TRUNC('week', {t}sold_on)", "EXTRACT(MONTH FROM {t}sold_at)",
                  "CASE WHEN {t}store_id > 2 THEN 'big' ELSE 'small' END", "{t}store_id + 1"],
        "lines": ["{t}department", "{t}region", "{t}brand", "CAST({t}sold_at AS DATE)", "{t}store_id",
                  "DATE_TRUNC('month', {t}sold_at)", "YEAR({t}sold_at)", "UPPER({t}department)"],
        "join": ["s.store_id", "p.department", "p.brand", "st.region", "s.channel", "CAST(s.sold_at AS DATE)",
                 "COALESCE(p.department, 'UNKNOWN')", "COALESCE(p.brand, 'none')"],
    }  # fmt: skip
    _MEASURES: ClassVar = {
        "sales": ["SUM({t}amount)", "COUNT({t}amount)", "MIN({t}amount)", "MAX({t}amount)", "AVG({t}amount)",
                  "SUM({t}units)", "AVG({t}units)", "COUNT(*)", "COUNT(1)", "SUM({t}amount) / NULLIF(COUNT(*), 0)",
                  "COUNT(DISTINCT {t}store_id)", "COUNT(DISTINCT {t}units)", "MAX({t}sold_on)", "SUM({t}weight)",
                  "SUM(CASE WHEN {t}store_id = 1 THEN {t}amount ELSE 0 END)", "SUM({t}units + 1)",
                  "COUNT(CASE WHEN {t}store_id < 3 THEN {t}units END)", "COUNT({t}channel)", "SUM(DISTINCT {t}units)"],
        "lines": ["SUM({t}amount)", "COUNT(*)", "AVG({t}amount)", "MIN({t}amount)", "SUM({t}doubled)",
                  "COUNT(DISTINCT {t}region)", "COUNT({t}brand)", "AVG({t}doubled)", "MAX({t}units)"],
        "join": ["SUM(s.amount)", "COUNT(*)", "AVG(s.amount)", "SUM(s.units * 2)", "MAX(p.price)", "MIN(s.amount)",
                 "COUNT(DISTINCT p.department)", "COUNT(p.brand)", "SUM(s.units)", "COUNT(DISTINCT st.region)"],
    }  # fmt: skip
    _FILTERS: ClassVar = {
        "sales": ["{t}store_id IN (1, 2)", "{t}sold_on >= DATE '2024-02-10'", "{t}amount > 5", "{t}channel = 'b'",
                  "{t}sold_at >= TIMESTAMP '2024-02-01 00:00:00'", "{t}sold_at < DATE '2024-03-01'",
                  "{t}sold_at > TIMESTAMP '2024-02-01 05:00:00'", "{t}channel IS NULL", "NOT {t}store_id = 3",
                  "{t}store_id BETWEEN 1 AND 3", "{t}product_id IN (SELECT product_id FROM $ns.products)",
                  "({t}store_id = 1 OR {t}channel = 'a')"],
        "lines": ["{t}region = 'U'", "{t}department <> 'A'", "{t}brand IS NOT NULL", "{t}units > 3",
                  "{t}sold_at < TIMESTAMP '2024-02-20 00:00:00'", "{t}department = 'UNKNOWN'", "{t}amount > 3"],
        "join": ["s.units IS NOT NULL", "p.department = 'B'", "st.region = 'V'", "p.brand IS NULL", "s.store_id > 1",
                 "s.sold_at >= DATE '2024-02-01'", "s.amount > 3", "p.department IS NULL"],
    }  # fmt: skip
    _JOINS = (
        "$ns.sales s JOIN $ns.stores st ON s.store_id = st.store_id LEFT JOIN $ns.products p"
        " ON s.product_id = p.product_id",
        "$ns.sales s LEFT JOIN $ns.products p ON p.product_id = s.product_id JOIN $ns.stores st"
        " ON st.store_id = s.store_id",
        "$ns.sales AS s, $ns.stores AS st, $ns.products AS p"
        " WHERE s.store_id = st.store_id AND s.product_id = p.product_id",
        "$ns.stores st LEFT JOIN $ns.sales s ON st.store_id = s.store_id LEFT JOIN $ns.products p"
        " ON s.product_id = p.product_id",
        "$ns.sales s JOIN $ns.products p ON s.product_id = p.product_id JOIN gold.by_store b"
        " ON b.store_id = s.store_id JOIN $ns.stores st ON st.store_id = b.store_id",
    )

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def __next__(self) -> str:
        kind = self._random.choice(("sales", "sales", "lines", "lines", "join", "join"))
        alias = self._random.choice(("", "x")) if kind != "join" else ""
        source = self._source(kind, alias)
        prefix = f"{alias}." if alias else ""
        filters = self._some(self._FILTERS[kind], 0, 2)
        where = " AND ".join(filters)
        if where:
            where = (" AND " if " WHERE " in source else " WHERE ") + where
        dimensions = self._some(self._DIMENSIONS[kind], 0 if self._random.random() < 0.2 else 1, 3)
        shape = self._random.random()
        if shape < 0.15 and dimensions:
            sql = f"SELECT DISTINCT {self._named(dimensions, 'd')} FROM {source}{where}"
        elif shape < 0.35:
            shown = dimensions or self._some(self._DIMENSIONS[kind], 1, 1)
            key = "s.id" if kind == "join" else "{t}id"
            sql = f"SELECT {self._named([key, *shown], 'c')} FROM {source}{where}"
        else:
            sql = self._grouped(kind, source, where, dimensions)
        return self._wrapped(sql.replace("{t}", prefix))

    def _source(self, kind: str, alias: str) -> str:
        if kind == "join":
            return self._random.choice(self._JOINS)
        name = "$ns.sales" if kind == "sales" else "gold.lines"
        if self._random.random() < 0.25:
            return f"(SELECT * FROM {name} WHERE store_id > 0) {alias or 'q'}"
        return f"{name} {alias}".strip()

    def _grouped(self, kind: str, source: str, where: str, dimensions: list[str]) -> str:
        measures = self._some(self._MEASURES[kind], 1, 3)
        shown = ", ".join(part for part in (self._named(dimensions, "d"), self._named(measures, "m")) if part)
        sql = f"SELECT {shown} FROM {source}{where}"
        if dimensions:
            style = self._random.randrange(3)
            keys = [str(i + 1) for i in range(len(dimensions))] if style == 0 else dimensions
            if style == 2:
                keys = [f"d{i}" for i in range(len(dimensions))]
            sql += f" GROUP BY {', '.join(keys)}"
        if self._random.random() < 0.3:
            sql += f" HAVING {self._random.choice(('COUNT(*) > 3', measures[0] + ' IS NOT NULL'))}"
        if dimensions and self._random.random() < 0.3:
            order = ", ".join(f"d{i}" for i in range(len(dimensions)))
            sql += f" ORDER BY {order}" + self._random.choice(("", " LIMIT 4", " LIMIT 3 OFFSET 1"))
        return sql

    def _wrapped(self, sql: str) -> str:
        chance = self._random.random()
        if chance < 0.1:
            return f"WITH w AS ({sql}) SELECT * FROM w"
        if chance < 0.2:
            return f"SELECT COUNT(*) AS n FROM ({sql}) AS w"
        return sql

    def _some(self, items: list[str], least: int, most: int) -> list[str]:
        return self._random.sample(items, self._random.randint(least, most))

    @staticmethod
    def _named(items: list[str], letter: str) -> str:
        return ", ".join(f"{item} AS {letter}{i}" for i, item in enumerate(items))
