"""An incremental refresh stores the same as a full one, and says what it did."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from embedded.sql.datasets import Materialization
from embedded.sql.engine.database import NeverSet
from tests.embedded.sql.engine import star

if TYPE_CHECKING:
    from tests.embedded.sql.engine.conftest import Bench

PARTITION = [("day_of", "month", 0)]


def row(number: int) -> str:
    month, day = 1 + number % 4, 1 + number % 27
    return f"({number}, 's{number % 3}', {number % 7}.25, DATE '2024-{month:02d}-{day:02d}', {number % 5})"


def rows(start: int, count: int) -> str:
    return ", ".join(row(number) for number in range(start, start + count))


@pytest.fixture
def orders(bench: Bench) -> Bench:
    bench.run(
        "CREATE TABLE $ns.orders (id BIGINT, store VARCHAR, amount DECIMAL(10, 2), day_of DATE, kind INT)"
        " PARTITION BY (MONTH(day_of))"
    )
    bench.run("CREATE TABLE $ns.kinds (kind INT, label VARCHAR)")
    bench.run("INSERT INTO $ns.kinds VALUES (0, 'a'), (1, 'b'), (2, 'c'), (3, NULL)")
    bench.run(f"INSERT INTO $ns.orders VALUES {rows(0, 40)}")
    bench.run(
        "CREATE VIEW gold.labelled AS SELECT o.id, o.store, o.amount, o.day_of, k.label FROM $ns.orders o"
        " LEFT JOIN $ns.kinds k ON o.kind = k.kind WHERE o.amount > 1"
    )
    return bench


def wanted(bench: Bench) -> dict[str, Materialization]:
    table, view = bench.table("orders"), ("gold", "labelled")
    measures = {"amount": "SUM COUNT MIN MAX"}
    return {
        "raw": star.raw(bench, table, "id", "amount", "day_of"),
        "aggregation": star.aggregation(bench, table, ("store", "day_of"), measures),
        "raw of a view": star.raw(bench, view, "id", "label", "day_of"),
        "aggregation of a view": star.aggregation(bench, view, ("label", "day_of"), measures),
    }


def content(bench: Bench, made: Materialization) -> list[str]:
    """What a reflection holds, with partial groups put together."""
    names = [name for name, _ in made.columns]
    keys = [name for name in names if made.kind == "RAW" or name.startswith("d")]
    partial = [
        f"sum({n})" if n.endswith(("sum", "count", "rows")) else f"{n[-3:]}({n})" for n in names if n not in keys
    ]
    parts = ", ".join([*(f'"{key}"' for key in keys), *(partial or ["count(*)"])])
    files = ", ".join(f"'{file}'" for file in made.files)
    source = f"read_parquet([{files}])" if files else "(SELECT 1) WHERE false"
    with bench.engine.database.job("", NeverSet()) as job:
        found = job.rows(f"SELECT {parts} FROM {source} GROUP BY ALL")
    return sorted(map(repr, found))


def changes(bench: Bench, chance: random.Random, at: int) -> str:
    """One random statement, and whether it only appends."""
    kind = chance.choice(("insert", "insert", "optimize", "delete", "update", "nothing", "kinds"))
    if kind == "insert":
        bench.run(f"INSERT INTO $ns.orders VALUES {rows(at, chance.randint(1, 9))}")
    elif kind == "optimize":
        bench.run("OPTIMIZE TABLE $ns.orders")
    elif kind == "delete":
        bench.run(f"DELETE FROM $ns.orders WHERE id = {chance.randrange(at)}")
    elif kind == "update":
        bench.run(f"UPDATE $ns.orders SET amount = 9.75 WHERE id = {chance.randrange(at)}")
    elif kind == "kinds":
        bench.run(f"INSERT INTO $ns.kinds VALUES ({chance.randint(4, 6)}, 'z')")
    return kind


def run_random(bench: Bench, seed: int, steps: int) -> set[tuple[str, str]]:
    chance = random.Random(seed)
    reflections = wanted(bench)
    built = {
        name: star.refresh(bench, m, partition=PARTITION if "raw" in name or "view" not in name else ())[0]
        for name, m in reflections.items()
    }
    seen: set[tuple[str, str]] = set()
    at = 40
    for step in range(1, steps + 1):
        happened = {changes(bench, chance, at + 10 * step) for _ in range(chance.randint(1, 2))}
        for name, m in reflections.items():
            partition = PARTITION if "raw" in name or "view" not in name else ()
            built[name], method = star.refresh(bench, m, partition=partition, base=built[name], number=step)
            full, _ = star.refresh(bench, m, partition=partition, number=1000 + step)
            assert content(bench, built[name]) == content(bench, full), (seed, step, name, happened)
            bench.catalog.made[:] = [*(o for o in bench.catalog.made if o is not full), built[name]]
            seen.add((name, method))
    return seen


def test_random_changes_give_what_a_full_refresh_gives(orders: Bench) -> None:
    seen = run_random(orders, seed=4, steps=5)
    assert {method for _, method in seen} == {"FULL", "INCREMENTAL"}


@pytest.mark.faults
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", range(6))
def test_many_random_changes_give_what_a_full_refresh_gives(orders: Bench, seed: int) -> None:
    run_random(orders, seed, steps=25)


@pytest.mark.parametrize(
    ("statement", "methods"),
    [
        ("INSERT INTO $ns.orders VALUES (900, 's1', 3.25, DATE '2024-02-02', 1)", ("INCREMENTAL",) * 4),
        ("OPTIMIZE TABLE $ns.orders", ("INCREMENTAL",) * 4),
        # one partition is read again where table and reflection are partitioned alike
        ("DELETE FROM $ns.orders WHERE id = 7", ("INCREMENTAL", "INCREMENTAL", "INCREMENTAL", "FULL")),
        # the optional side of a join: rows that were there change
        ("INSERT INTO $ns.kinds VALUES (4, 'new')", ("FULL", "FULL", "FULL", "FULL")),
        ("ALTER TABLE $ns.orders ADD COLUMNS (extra INT)", ("FULL",) * 4),
    ],
)
@pytest.mark.faults
def test_the_method_tells_the_truth(orders: Bench, statement: str, methods: tuple[str, ...]) -> None:
    orders.run("INSERT INTO $ns.orders VALUES (800, 's1', 3.25, DATE '2024-02-02', 1)")  # a second file to OPTIMIZE
    parts = dict(zip(wanted(orders), (PARTITION, PARTITION, PARTITION, ()), strict=True))
    built = {name: star.refresh(orders, m, partition=parts[name])[0] for name, m in wanted(orders).items()}
    files = {name: set(m.files) for name, m in built.items()}
    orders.run(statement)
    found = []
    for name, m in wanted(orders).items():
        again, method = star.refresh(orders, m, partition=parts[name], base=built[name], number=1)
        found.append(method)
        assert (method == "FULL") == (not files[name] & set(again.files)), name
        full, _ = star.refresh(orders, m, partition=parts[name], number=2)
        assert content(orders, again) == content(orders, full), name
    assert tuple(found) == methods


def test_a_reflection_is_an_iceberg_table_with_its_partitions(orders: Bench) -> None:
    from pyiceberg.table import StaticTable

    from embedded.sql.engine.materialize import file_properties

    made, _ = star.refresh(
        orders, star.raw(orders, orders.table("orders"), "id", "day_of"), partition=PARTITION, order=["id"]
    )
    table = StaticTable.from_metadata(made.metadata, file_properties(made.access))
    assert [str(field.transform) for field in table.spec().fields] == ["month"]
    assert len(table.sort_order().fields) == 1
    assert table.scan().to_arrow().num_rows == 40 == made.rows
    assert {task.file.file_path for task in table.scan().plan_files()} == set(made.files)
    assert len(made.files) == 4


def test_a_self_join_and_a_grouping_view_are_read_in_full(orders: Bench) -> None:
    orders.run("CREATE VIEW gold.twice AS SELECT a.id, b.store FROM $ns.orders a JOIN $ns.orders b ON a.id = b.id + 1")
    orders.run("CREATE VIEW gold.grouped AS SELECT store, COUNT(*) AS n FROM $ns.orders GROUP BY store")
    orders.run("CREATE VIEW gold.both AS SELECT id FROM $ns.orders UNION ALL SELECT kind FROM $ns.kinds")
    for name, columns in (("twice", ("id", "store")), ("grouped", ("store", "n")), ("both", ("id",))):
        m = star.raw(orders, ("gold", name), *columns)
        base, _ = star.refresh(orders, m)
        orders.run(f"INSERT INTO $ns.orders VALUES {rows(500, 3)}")
        again, method = star.refresh(orders, m, base=base, number=1)
        assert method == "FULL", name
        assert again.rows == int(str(orders.one(f"SELECT COUNT(*) FROM gold.{name}"))), name
