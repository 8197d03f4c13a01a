"""Dashboard queries with and without reflections on one table of five million rows, and what planning costs.

    .venvs/embedded/bin/python benchmarks/sql/reflections.py [--rows N] [--repeat N]

The engine and the object store are started here and taken down again. CPU is that of this process, all threads; the
object store's is not counted. Wall times depend on the machine's other work; ratios of one run are what counts.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path as Folder
from statistics import median

PROJECT = Folder(__file__).resolve().parents[2]
sys.path.insert(0, str(PROJECT))

from embedded.credentials import Secrets  # noqa: E402
from embedded.home import Home  # noqa: E402
from embedded.object_store import NAME, PORT_NAMES, PORT_OFFSETS, object_store  # noqa: E402
from embedded.ports import assign  # noqa: E402
from embedded.programs import Child  # noqa: E402
from embedded.sql.datasets import Dataset, IcebergTable, Materialization, Path, S3Access  # noqa: E402
from embedded.sql.engine import Engine  # noqa: E402
from tests.embedded.sql.engine import star  # noqa: E402
from tests.embedded.sql.engine.conftest import Bench, MemoryCatalog, rest_catalog  # noqa: E402

QUERIES = {
    "revenue by month": "SELECT DATE_TRUNC('month', sold_at) AS m, SUM(amount) AS s, COUNT(*) AS n FROM $ns.sales"
    " GROUP BY DATE_TRUNC('month', sold_at) ORDER BY m",
    "average by store": "SELECT store_id, AVG(amount) AS a, SUM(units) AS u FROM $ns.sales GROUP BY store_id",
    "one month by channel": "SELECT channel, SUM(amount) AS s FROM gold.published"
    " WHERE sold_on >= DATE '2024-02-01' AND sold_on < DATE '2024-03-01' GROUP BY channel ORDER BY s DESC LIMIT 10",
    "by department (a join)": "SELECT department, region, SUM(amount) AS s FROM gold.lines GROUP BY department, region",
    "distinct values": "SELECT DISTINCT channel FROM $ns.sales",
    "totals": "SELECT SUM(amount) AS s, COUNT(*) AS n, MAX(sold_on) AS last FROM $ns.sales",
}


class Knowing(MemoryCatalog):
    """Asks the Iceberg catalog once whether a table exists, as the server's sources do; planning loads it each time."""

    def resolve(self, path: Path, context: Path) -> Dataset:
        found = super().resolve(path, context)
        if isinstance(found, IcebergTable):
            self.add(found)
        return found


@dataclass
class Cost:
    """Medians of some runs, in seconds."""

    wall: float
    cpu: float


def measure(bench: Bench, sql: str, repeat: int) -> Cost:
    walls, cpus = [], []
    bench.run(sql)
    for _ in range(repeat):
        wall, cpu = time.perf_counter(), time.process_time()
        bench.run(sql)
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    return Cost(median(walls), median(cpus))


def stand(stack: ExitStack) -> Bench:
    folder = Folder(tempfile.mkdtemp(prefix="lakehouse-bench-"))
    folder.chmod(0o711)
    stack.callback(shutil.rmtree, folder, ignore_errors=True)
    home = Home(folder / "home")
    home.create()
    secrets = Secrets.load_or_create(home.secrets)
    store = object_store(home, secrets, assign(PORT_NAMES, offsets=PORT_OFFSETS).ports)
    child = Child.start(store.program(), home.log(NAME))
    stack.callback(child.stop)
    child.wait_ready(store.is_ready)
    stack.callback(store.remove_sockets)
    store.provision()
    access = S3Access(store.endpoint.removeprefix("http://"), store.access_key, store.secret_key)
    catalog = Knowing(rest_catalog(store), access)
    engine = Engine(catalog, scratch=folder / "scratch", memory_limit="2000MB", threads=2)
    stack.callback(engine.close)
    return Bench(engine, catalog, "bench")


def wanted(bench: Bench) -> Iterator[Materialization]:
    measures = {"amount": "SUM COUNT MIN MAX", "units": "SUM COUNT"}
    yield star.aggregation(bench, bench.table("sales"), ("store_id", "channel", "sold_on", "sold_at"), measures)
    yield star.aggregation(bench, ("gold", "lines"), ("department", "region", "sold_on"), {"amount": "SUM COUNT"})


def planning(bench: Bench, made: list[Materialization], repeat: int) -> float:
    """CPU-seconds of planning and running a query that no reflection is for."""
    bench.catalog.made[:] = made
    sql = "SELECT p.department, MAX(p.price) AS m FROM $ns.products p JOIN $ns.stores t ON t.store_id = p.product_id"
    return measure(bench, f"{sql} WHERE p.price > 3 GROUP BY p.department HAVING COUNT(*) > 1", repeat).cpu


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rows", type=int, default=5_000_000)
    arguments.add_argument("--repeat", type=int, default=5)
    given = arguments.parse_args()
    with ExitStack() as stack:
        bench = stand(stack)
        star.build(bench, min(given.rows, 100_000))
        for start in range(100_000, given.rows, 1_000_000):
            bench.run(f"INSERT INTO $ns.sales {star.SALES.format(start, min(given.rows, start + 1_000_000))}")
        table = bench.catalog.iceberg.load_table((bench.namespace, "sales"))
        pin = table.metadata.current_snapshot_id
        bench.run(f"CREATE VIEW gold.published AS SELECT channel, amount, sold_on FROM $ns.sales AT SNAPSHOT '{pin}'")
        plain = {name: measure(bench, sql, given.repeat) for name, sql in QUERIES.items()}
        for m in list(wanted(bench)):
            begin = time.perf_counter()
            done, _ = star.refresh(bench, m)
            print(f"built {m.name}: {done.rows} rows, {done.size / 1e6:.1f} MB, {time.perf_counter() - begin:.1f} s")
        made = list(bench.catalog.made)
        print(f"\n{'query':<24}{'plain ms':>10}{'CPU':>7}{'refl. ms':>10}{'CPU':>7}{'ratio':>8}{'CPU':>7}")
        for name, sql in QUERIES.items():
            assert any(word == "CHOSEN" for _, _, word in bench.run(sql).reflections), name
            fast, slow = measure(bench, sql, given.repeat), plain[name]
            print(
                f"{name:<24}{slow.wall * 1000:>10.0f}{slow.cpu * 1000:>7.0f}{fast.wall * 1000:>10.0f}"
                f"{fast.cpu * 1000:>7.0f}{slow.wall / fast.wall:>8.1f}{slow.cpu / fast.cpu:>7.1f}"
            )
        none, some = planning(bench, [], 40), planning(bench, made, 40)
        print(
            f"\nA query without candidates: {none * 1000:.1f} CPU-ms without, {some * 1000:.1f} with reflections around"
        )


if __name__ == "__main__":
    main()
