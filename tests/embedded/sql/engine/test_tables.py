"""Iceberg tables through SQL: what is written is there at once, for us, for plain pyiceberg and for plain DuckDB."""

from __future__ import annotations

import datetime
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import duckdb
import pytest
from pyiceberg.catalog.rest import RestCatalog

from embedded.sql.engine.database import extension_path
from embedded.sql.errors import ConcurrentModification, NotFound, SqlError, UnsupportedError, ValidationError

if TYPE_CHECKING:
    from embedded.object_store import ObjectStore
    from tests.embedded.sql.engine.conftest import Bench

TYPES = """
CREATE TABLE $ns.types AS SELECT
  CAST(1 AS INTEGER) AS i, CAST(9007199254740993 AS BIGINT) AS b, CAST(1.5 AS FLOAT) AS f, CAST(0.1 AS DOUBLE) AS d,
  CAST('12345678901234567890123456.78' AS DECIMAL(28, 2)) AS m, 'ü''x' AS s, TRUE AS t, DATE '2024-02-29' AS dt,
  TIMESTAMP '2024-02-29 12:34:56.789' AS ts, CAST('bytes' AS VARBINARY) AS vb, ARRAY[1, 2, NULL] AS l,
  TIME '10:11:12' AS tm
"""


def other_reader(bench: Bench, name: str) -> list[tuple[Any, ...]]:
    """The table as a DuckDB of its own sees it, with nothing but the metadata file."""
    table = bench.catalog.iceberg.load_table((bench.namespace, name))
    access = bench.catalog.access
    con = duckdb.connect(config={"autoinstall_known_extensions": False})
    for extension in ("httpfs", "avro", "iceberg"):
        con.execute(f"LOAD '{extension_path(extension)}'")
    con.execute(
        f"CREATE SECRET s (TYPE s3, KEY_ID '{access.access_key}', SECRET '{access.secret_key}', "
        f"ENDPOINT '{access.endpoint}', URL_STYLE 'path', USE_SSL false, REGION 'us-east-1')"
    )
    rows = con.execute(f"SELECT * FROM iceberg_scan('{table.metadata_location}') ORDER BY ALL").fetchall()
    con.close()
    return rows


def test_every_type_is_stored_exactly_and_read_by_others(bench: Bench, lake: RestCatalog) -> None:
    bench.run(TYPES)
    row = bench.rows("SELECT * FROM $ns.types")[0]
    assert row == (
        1,
        9007199254740993,
        1.5,
        0.1,
        Decimal("12345678901234567890123456.78"),
        "ü'x",
        True,
        datetime.date(2024, 2, 29),
        datetime.datetime(2024, 2, 29, 12, 34, 56, 789000),  # noqa: DTZ001  Dremio's have no zone
        b"bytes",
        [1, 2, None],
        datetime.time(10, 11, 12),
    )
    arrow = lake.load_table((bench.namespace, "types")).scan().to_arrow()
    assert arrow.num_rows == 1
    assert tuple(arrow.to_pylist()[0].values()) == row
    assert other_reader(bench, "types")[0] == row


def test_a_table_holds_what_was_just_committed(bench: Bench, lake: RestCatalog) -> None:
    bench.run("CREATE TABLE $ns.t AS SELECT 1 AS id, 'a' AS s")
    bench.run("INSERT INTO $ns.t VALUES (2, 'b'), (3, 'c')")
    bench.run("DELETE FROM $ns.t WHERE id = 2")
    bench.run("UPDATE $ns.t SET s = s || '!' WHERE id = 3")
    expected = [(1, "a"), (3, "c!")]
    assert bench.rows("SELECT * FROM $ns.t ORDER BY id") == expected
    assert other_reader(bench, "t") == expected
    arrow = lake.load_table((bench.namespace, "t")).scan().to_arrow().sort_by("id")
    assert [tuple(r.values()) for r in arrow.to_pylist()] == expected
    assert bench.catalog.changed == [bench.table("t")] * 4


def test_dropped_and_made_again_is_a_new_table(bench: Bench) -> None:
    for number in range(5):
        bench.run(f"CREATE TABLE $ns.t AS SELECT {number} AS v")
        assert bench.one("SELECT v FROM $ns.t") == number
        bench.run("DROP TABLE $ns.t")
    with pytest.raises(NotFound, match="Object 't' not found within"):
        bench.run("SELECT * FROM $ns.t")


def test_another_program_drops_and_makes_the_table_again(bench: Bench, lake: RestCatalog) -> None:
    """It reuses the location and the metadata file names, where DuckDB's cache would serve the dropped rows."""
    import pyarrow as pa

    lake.create_namespace_if_not_exists(bench.namespace)
    for number in range(4):
        data = pa.table({"v": [number]})
        lake.create_table((bench.namespace, "t"), data.schema).append(data)
        assert bench.one("SELECT v FROM $ns.t") == number
        lake.drop_table((bench.namespace, "t"))


@pytest.mark.parametrize(
    ("partition", "files"),
    [
        ("region", 3),
        ("year(ts)", 2),
        ("month(ts)", 3),
        ("day(ts)", 4),
        ("hour(ts)", 4),
        ("truncate(2, s)", 2),
        ("bucket(4, id)", None),
        ("region, year(ts)", 4),
        ("d", 3),
        ("m", 5),
    ],
)
def test_partition_transforms(bench: Bench, lake: RestCatalog, partition: str, files: int | None) -> None:
    bench.run(
        f"""CREATE TABLE $ns.p PARTITION BY ({partition}) LOCALSORT BY (id) AS SELECT * FROM (VALUES
        (1, 'north', 'abc', TIMESTAMP '2023-12-31 23:00:00', DATE '2024-01-01', CAST(1.10 AS DECIMAL(9, 2))),
        (2, 'north', 'abd', TIMESTAMP '2024-01-01 00:00:00', DATE '2024-01-02', 2.20),
        (3, 'sou/th=1', 'xbc', TIMESTAMP '2024-01-01 00:59:59', DATE '2024-01-01', 3.30),
        (4, 'sou/th=1', 'xbd', TIMESTAMP '2024-01-02 05:00:00', NULL, NULL),
        (5, NULL, 'xb', TIMESTAMP '2024-02-01 00:00:00', DATE '2024-01-01', 5.50)
        ) AS v (id, region, s, ts, d, m)"""
    )
    table = lake.load_table((bench.namespace, "p"))
    tasks = list(table.scan().plan_files())
    if files is not None:
        assert len(tasks) == files
    assert all("=" not in task.file.file_path for task in tasks)
    assert [r[0] for r in bench.rows("SELECT id FROM $ns.p ORDER BY id")] == [1, 2, 3, 4, 5]
    # pyiceberg prunes by the partition values in the manifests: a wrong value would lose rows here.
    for condition, expected in [
        ("id = 3", [3]),
        ("region = 'north'", [1, 2]),
        ("ts >= '2024-01-01T00:00:00' and ts < '2024-01-02T00:00:00'", [2, 3]),
        ("s >= 'x'", [3, 4, 5]),
        ("d = '2024-01-01'", [1, 3, 5]),
        ("m = 3.30", [3]),
        ("region is null", [5]),
    ]:
        found = table.scan(row_filter=condition).to_arrow().column("id").to_pylist()
        assert sorted(found) == expected, condition
    bench.run("INSERT INTO $ns.p SELECT id + 10, region, s, ts, d, m FROM $ns.p")
    bench.run("DELETE FROM $ns.p WHERE id IN (1, 12)")
    assert [r[0] for r in bench.rows("SELECT id FROM $ns.p ORDER BY id")] == [2, 3, 4, 5, 11, 13, 14, 15]
    found = (
        lake.load_table((bench.namespace, "p")).scan(row_filter="region = 'north'").to_arrow().column("id").to_pylist()
    )
    assert sorted(found) == [2, 11]


def test_merge_updates_and_inserts(bench: Bench) -> None:
    bench.run(
        "CREATE TABLE $ns.t AS SELECT * FROM "
        "(VALUES (1, 'a', CAST(1.5 AS DECIMAL(9, 1))), (2, 'b', 2.5)) AS v (id, s, m)"
    )
    bench.run("CREATE TABLE $ns.s AS SELECT * FROM (VALUES (2, 'B', 20.5), (3, 'C', 30.5)) AS v (id, s, m)")
    count = bench.one(
        """merge into $ns.t as DBT_INTERNAL_DEST using $ns.s as DBT_INTERNAL_SOURCE
        on ( DBT_INTERNAL_SOURCE.id = DBT_INTERNAL_DEST.id )
        when matched then update set "s" = DBT_INTERNAL_SOURCE."s", "m" = DBT_INTERNAL_SOURCE."m"
        when not matched then insert ("id", "s", "m")
        values (DBT_INTERNAL_SOURCE.id, DBT_INTERNAL_SOURCE.s, DBT_INTERNAL_SOURCE.m)"""
    )
    assert count == 2
    assert bench.rows("SELECT id, s, m FROM $ns.t ORDER BY id") == [
        (1, "a", Decimal("1.5")),
        (2, "B", Decimal("20.5")),
        (3, "C", Decimal("30.5")),
    ]
    bench.run(
        "MERGE INTO $ns.t USING (SELECT 9 AS id, 'z' AS s, 1.0 AS m) q ON t.id = q.id WHEN NOT MATCHED THEN INSERT *"
    )
    bench.run(
        "MERGE INTO $ns.t t USING $ns.s AS q ON t.id = q.id AND q.m > 25 WHEN MATCHED THEN UPDATE SET s = t.s || q.s"
    )
    assert bench.rows("SELECT id, s FROM $ns.t ORDER BY id") == [(1, "a"), (2, "B"), (3, "CC"), (9, "z")]


def test_merge_needs_one_source_row_for_a_target_row(bench: Bench) -> None:
    bench.run("CREATE TABLE $ns.t AS SELECT 1 AS id, 'a' AS s")
    with pytest.raises(ValidationError, match=r"A target row matched more than once\. Please update your query\."):
        bench.run(
            "MERGE INTO $ns.t t USING (SELECT 1 AS id UNION ALL SELECT 1) q ON t.id = q.id "
            "WHEN MATCHED THEN UPDATE SET s = 'x'"
        )
    assert bench.one("SELECT s FROM $ns.t") == "a"


def test_update_and_delete_with_other_tables(bench: Bench) -> None:
    bench.run("CREATE TABLE $ns.t AS SELECT * FROM (VALUES (1, 10), (2, 20), (3, NULL)) AS v (id, n)")
    bench.run("CREATE TABLE $ns.u AS SELECT * FROM (VALUES (1, 5), (3, 7)) AS v (id, n)")
    assert bench.one("UPDATE $ns.t SET n = u.n + COALESCE(t.n, 0) FROM $ns.u AS u WHERE t.id = u.id") == 2
    assert bench.rows("SELECT id, n FROM $ns.t ORDER BY id") == [(1, 15), (2, 20), (3, 7)]
    assert bench.one("UPDATE $ns.t SET n = (SELECT MAX(n) FROM $ns.u) WHERE id = 2") == 1
    assert bench.one("DELETE FROM $ns.t USING $ns.u AS u WHERE t.id = u.id AND u.n = 5") == 1
    assert bench.one("DELETE FROM $ns.t WHERE id IN (SELECT id FROM $ns.u)") == 1
    assert bench.rows("SELECT id, n FROM $ns.t") == [(2, 7)]
    assert bench.one("DELETE FROM $ns.t") == 1
    assert bench.one("SELECT COUNT(*) FROM $ns.t") == 0
    assert bench.one("DELETE FROM $ns.t WHERE id = 1") == 0


def test_inserts_by_name_by_position_and_wrong_ones(bench: Bench) -> None:
    bench.run("CREATE TABLE $ns.t (id INTEGER NOT NULL, s VARCHAR, m DECIMAL(9, 2))")
    assert bench.one("SELECT COUNT(*) FROM $ns.t") == 0
    bench.run("INSERT INTO $ns.t (m, ID) SELECT 1.005, 7")
    bench.run("INSERT INTO $ns.t SELECT 8, 'x', NULL")
    assert bench.rows("SELECT * FROM $ns.t ORDER BY id") == [(7, None, Decimal("1.01")), (8, "x", None)]
    for sql, words in [
        ("INSERT INTO $ns.t SELECT 1", "does not equal number of source items"),
        ("INSERT INTO $ns.t (id, nope) SELECT 1, 2", "Unknown target column 'nope'"),
        ("INSERT INTO $ns.t (id, id) SELECT 1, 2", "assigned more than once"),
        ("INSERT INTO $ns.t (s) SELECT 'x'", "does not allow NULLs"),
        ("INSERT INTO $ns.t SELECT NULL, 'x', 1", "Column id is NOT NULL"),
        ("INSERT INTO $ns.t SELECT 1, 'x', 'abc'", "abc"),
    ]:
        with pytest.raises(SqlError, match=words):
            bench.run(sql)
    assert bench.one("SELECT COUNT(*) FROM $ns.t") == 2


def test_time_travel(bench: Bench) -> None:
    bench.run("CREATE TABLE $ns.t AS SELECT 1 AS id")
    path = f"lake.{bench.namespace}.t"
    first = bench.one(f"SELECT snapshot_id FROM TABLE(table_snapshot('{path}'))")
    committed = bench.one(f'SELECT MAX(committed_at) FROM TABLE( table_snapshot(\'"lake"."{bench.namespace}"."t"\') )')
    bench.run("ALTER TABLE $ns.t ADD COLUMNS (extra VARCHAR)")
    bench.run("INSERT INTO $ns.t VALUES (2, 'x')")
    assert bench.rows(f"SELECT * FROM $ns.t AT SNAPSHOT '{first}'") == [(1,)]
    assert bench.rows(
        f"SELECT a.id, b.id FROM $ns.t a LEFT JOIN $ns.t AT SNAPSHOT '{first}' AS b ON a.id = b.id ORDER BY 1"
    ) == [
        (1, 1),
        (2, None),
    ]
    bench.run(f"CREATE VIEW gold.pinned AS SELECT id FROM $ns.t AT SNAPSHOT '{first}'")
    assert bench.rows("SELECT * FROM gold.pinned") == [(1,)]
    assert bench.rows(f"SELECT * FROM $ns.t AT TIMESTAMP '{committed}'") == [(1,)]
    with pytest.raises(ValidationError, match="out of range"):
        bench.run("SELECT * FROM $ns.t AT TIMESTAMP '2001-01-01 00:00:00'")
    with pytest.raises(ValidationError, match="snapshot ID '17'"):
        bench.run("SELECT * FROM $ns.t AT SNAPSHOT '17'")
    with pytest.raises(ValidationError, match="Time travel is not supported on view"):
        bench.run(f"SELECT * FROM gold.pinned AT SNAPSHOT '{first}'")
    bench.run(f"ROLLBACK TABLE $ns.t TO SNAPSHOT '{first}'")
    assert bench.rows("SELECT id FROM $ns.t") == [(1,)]
    history = bench.rows(f"SELECT is_current_ancestor FROM TABLE(table_history('{path}')) ORDER BY made_current_at")
    assert len(history) == 3
    assert bench.one(f"SELECT SUM(record_count) FROM TABLE(table_files('{path}'))") == 1
    assert bench.one(f"SELECT SUM(record_count) FROM TABLE(table_partitions('{path}'))") == 1
    assert bench.one(f"SELECT COUNT(*) FROM TABLE(table_manifests('{path}'))") == 1


def test_columns_come_and_go(bench: Bench) -> None:
    bench.run("CREATE TABLE $ns.t PARTITION BY (id) AS SELECT 1 AS id, 'a' AS s, CAST(1 AS INTEGER) AS n")
    bench.run("ALTER TABLE $ns.t DROP COLUMN s")
    bench.run("ALTER TABLE $ns.t ADD COLUMNS (s INTEGER, m DECIMAL(9, 2))")
    bench.run('ALTER TABLE $ns.t ALTER COLUMN "n" "number" BIGINT')
    bench.run("INSERT INTO $ns.t VALUES (2, 5000000000, 7, 1.5)")
    assert bench.rows("SELECT * FROM $ns.t ORDER BY id") == [(1, 1, None, None), (2, 5000000000, 7, Decimal("1.50"))]
    bench.run("UPDATE $ns.t SET s = 0 WHERE s IS NULL")
    assert bench.rows("SELECT s FROM $ns.t ORDER BY id") == [(0,), (7,)]
    for sql, words in [
        ("ALTER TABLE $ns.t DROP COLUMN id", "partition column"),
        ("ALTER TABLE $ns.t DROP COLUMN nope", r"\[nope\] is not present"),
        ("ALTER TABLE $ns.t ADD COLUMNS (S VARCHAR)", "already"),
        ("ALTER TABLE $ns.t ALTER COLUMN number number INTEGER", "Cannot|incompatible"),
    ]:
        with pytest.raises(ValidationError, match=words):
            bench.run(sql)


def test_maintenance(bench: Bench, lake: RestCatalog) -> None:
    bench.run("CREATE TABLE $ns.t AS SELECT 0 AS id")
    for number in range(1, 4):
        bench.run(f"INSERT INTO $ns.t VALUES ({number})")
    result = bench.run("OPTIMIZE TABLE $ns.t (MIN_INPUT_FILES = 2)").table.to_pylist()[0]
    assert (result["rewritten_data_files_count"], result["new_data_files_count"]) == (4, 1)
    assert bench.rows("SELECT id FROM $ns.t ORDER BY id") == [(0,), (1,), (2,), (3,)]
    bench.run("VACUUM TABLE $ns.t EXPIRE SNAPSHOTS OLDER_THAN '2100-01-01 00:00:00' RETAIN_LAST 2")
    assert len(lake.load_table((bench.namespace, "t")).snapshots()) == 2
    assert bench.one("SELECT COUNT(*) FROM $ns.t") == 4
    bench.run("TRUNCATE TABLE $ns.t")
    assert bench.one("SELECT COUNT(*) FROM $ns.t") == 0


def test_ctas_with_declared_columns_and_names_that_hurt(bench: Bench) -> None:
    hostile = 'a"b; DROP TABLE x --'
    quoted = '"' + hostile.replace('"', '""') + '"'
    bench.run(f"CREATE TABLE $ns.h PARTITION BY ({quoted}) AS SELECT 'it''s; {{}}' AS {quoted}, 1 AS \"SELECT\"")
    assert bench.rows(f'SELECT {quoted}, "select" FROM $ns.h') == [("it's; {}", 1)]
    bench.run(f"UPDATE $ns.h SET {quoted} = {quoted} || '!'")
    assert bench.one(f"SELECT {quoted} FROM $ns.h") == "it's; {}!"
    bench.run('CREATE TABLE $ns.c ("id" BIGINT NOT NULL, "m" DECIMAL(12, 2)) AS SELECT 1, 2')
    table = bench.run("SELECT * FROM $ns.c").table
    assert [str(t) for t in table.schema.types] == ["int64", "decimal128(12, 2)"]
    for sql, words in [
        ("CREATE TABLE $ns.c AS SELECT 1 AS a", "already exists"),
        ("CREATE TABLE $ns.x AS SELECT 1 AS a, 2 AS A", "Duplicate column"),
        ("CREATE TABLE $ns.x (a, b) AS SELECT 1", "different counts"),
        ("CREATE TABLE $ns.x PARTITION BY (nope) AS SELECT 1 AS a", "nope"),
        ("CREATE TABLE $ns.x LOCALSORT BY (nope) AS SELECT 1 AS a", "nope"),
        ("CREATE TABLE elsewhere.x AS SELECT 1 AS a", "cannot hold tables"),
    ]:
        with pytest.raises(SqlError, match=words):
            bench.run(sql)
    assert bench.run("CREATE TABLE IF NOT EXISTS $ns.c AS SELECT 1 AS a").table.column("ok")[0].as_py()


def test_dml_needs_an_iceberg_table(bench: Bench) -> None:
    bench.run("CREATE VIEW a.v AS SELECT 1 AS x")
    for sql in ("INSERT INTO a.v VALUES (1)", "DELETE FROM a.v", "DROP TABLE a.v"):
        with pytest.raises(UnsupportedError, match="no Iceberg table"):
            bench.run(sql)


# Several writers, and the end of a writer -----------------------------------------------------------------------------


def test_writers_in_one_process_lose_nothing(bench: Bench) -> None:
    bench.run("CREATE TABLE $ns.t AS SELECT 0 AS id, 0 AS n")

    def insert(number: int) -> None:
        bench.run(f"INSERT INTO $ns.t VALUES ({number}, 0)")

    def add(_: int) -> None:
        bench.run("UPDATE $ns.t SET n = n + 1 WHERE id = 0")

    with ThreadPoolExecutor(6) as pool:
        done = [pool.submit(insert, i) for i in range(1, 9)] + [pool.submit(add, i) for i in range(8)]
        for future in done:
            future.result()
    assert bench.rows("SELECT COUNT(*), MAX(n) FROM $ns.t") == [(9, 8)]


def test_a_commit_of_another_program_is_not_overwritten(
    bench: Bench, object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its commit lands between our read and ours: the statement runs again on what it wrote."""
    import pyarrow as pa

    from embedded.sql.engine import dml

    bench.run("CREATE TABLE $ns.t AS SELECT CAST(1 AS BIGINT) AS id")
    real = dml._commit
    races = iter([True, True, False])

    def late(*arguments: Any) -> None:
        if next(races, False):
            bench.catalog.iceberg.load_table((bench.namespace, "t")).append(pa.table({"id": pa.array([1], pa.int64())}))
        real(*arguments)

    monkeypatch.setattr(dml, "_commit", late)
    assert bench.one("UPDATE $ns.t SET id = id + 10") == 3
    assert bench.rows("SELECT id FROM $ns.t") == [(11,)] * 3
    monkeypatch.setattr(dml, "ATTEMPTS", 2)
    races = iter([True] * 9)
    with pytest.raises(ConcurrentModification):
        bench.run("UPDATE $ns.t SET id = 0")
    assert bench.one("SELECT COUNT(*) FROM $ns.t WHERE id = 0") == 0


@pytest.mark.parametrize("step", ["append", "committing"])
def test_a_ctas_that_ends_early_leaves_no_table(bench: Bench, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """Data files are written before the one commit that makes the table known."""
    from embedded.sql.engine import iceberg

    class Killed(BaseException):
        pass

    def die(*_: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(iceberg, step, die)
        with pytest.raises(Killed):
            bench.run("CREATE TABLE $ns.t AS SELECT 1 AS id")
    assert not bench.catalog.iceberg.table_exists((bench.namespace, "t"))
    bench.run("CREATE TABLE $ns.t AS SELECT 2 AS id")
    assert bench.rows("SELECT * FROM $ns.t") == [(2,)]


def test_two_ctas_of_one_name_make_one_table(bench: Bench) -> None:
    def create(number: int) -> str:
        try:
            bench.run(f"CREATE TABLE $ns.t AS SELECT {number} AS id")
        except ValidationError as error:
            return error.message
        return "made"

    with ThreadPoolExecutor(4) as pool:
        outcomes = list(pool.map(create, range(4)))
    assert outcomes.count("made") == 1
    assert all("already exists" in o for o in outcomes if o != "made")
    assert bench.one("SELECT COUNT(*) FROM $ns.t") == 1


def test_a_lost_answer_to_a_commit_is_no_failure(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    from pyiceberg.exceptions import CommitStateUnknownException
    from pyiceberg.table import Transaction

    bench.run("CREATE TABLE $ns.t AS SELECT 1 AS id")
    real = Transaction.commit_transaction

    def unanswered(self: Transaction) -> Any:
        real(self)
        raise CommitStateUnknownException("no answer")

    monkeypatch.setattr(Transaction, "commit_transaction", unanswered)
    assert bench.one("UPDATE $ns.t SET id = 5") == 1
    monkeypatch.undo()
    assert bench.rows("SELECT id FROM $ns.t") == [(5,)]


# Cancelling -----------------------------------------------------------------------------------------------------------

LONG = "SELECT COUNT(*) FROM {0} a, {0} b, {0} c WHERE MOD(a.x + b.x * c.x, 7) = 3".format(
    "(SELECT FLATTEN(ARRAY_GENERATE_RANGE(0, 3000)) AS x)"
)


@pytest.mark.parametrize("sql", [LONG, f"CREATE TABLE $ns.t AS {LONG}"])
def test_a_running_statement_is_interrupted(bench: Bench, sql: str) -> None:
    from embedded.sql.errors import Cancelled

    job = str(uuid.uuid4())
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(bench.run, sql, job_id=job)
        pause = threading.Event()
        for _ in range(600):
            if bench.engine.interrupt(job):
                break
            pause.wait(0.05)
        else:
            pytest.fail("the statement was never seen running")
        while not running.done():
            bench.engine.interrupt(job)
            pause.wait(0.05)
        with pytest.raises(Cancelled):
            running.result()
    assert not bench.catalog.iceberg.table_exists((bench.namespace, "t"))
    assert not bench.engine.interrupt(job)
    assert bench.one("SELECT 1") == 1


def test_a_job_that_was_cancelled_before_it_ran_does_nothing(bench: Bench) -> None:
    from embedded.sql.errors import Cancelled

    flag = threading.Event()
    flag.set()
    with pytest.raises(Cancelled):
        bench.run("CREATE TABLE $ns.t AS SELECT 1 AS id", cancelled=flag)
    assert not bench.catalog.iceberg.table_exists((bench.namespace, "t"))


def test_rows_that_another_engine_deleted_stay_deleted(bench: Bench, object_store: ObjectStore) -> None:
    """DuckDB itself deletes merge-on-read: delete files beside the data, which a rewrite must respect."""
    bench.run("CREATE TABLE $ns.t AS SELECT * FROM (VALUES (1, 'a'), (2, 'b'), (3, 'c'), (4, 'd')) AS v (id, s)")
    access = bench.catalog.access
    con = duckdb.connect(config={"autoinstall_known_extensions": False})
    for extension in ("httpfs", "avro", "iceberg"):
        con.execute(f"LOAD '{extension_path(extension)}'")
    con.execute(
        f"CREATE SECRET s (TYPE s3, KEY_ID '{access.access_key}', SECRET '{access.secret_key}', "
        f"ENDPOINT '{access.endpoint}', URL_STYLE 'path', USE_SSL false, REGION 'us-east-1')"
    )
    con.execute(
        f"CREATE SECRET i (TYPE iceberg, CLIENT_ID '{access.access_key}', CLIENT_SECRET '{access.secret_key}', "
        f"OAUTH2_SERVER_URI '{object_store.iceberg_uri}/v1/oauth/tokens')"
    )
    con.execute(
        f"ATTACH 's3://warehouse' AS ice "
        f"(TYPE iceberg, ENDPOINT '{object_store.iceberg_uri}', SECRET i, READ_ONLY false)"
    )
    con.execute(f"DELETE FROM ice.{bench.namespace}.t WHERE id = 2")
    con.close()
    table = bench.catalog.iceberg.load_table((bench.namespace, "t"))
    assert any(task.delete_files for task in table.scan().plan_files())
    assert bench.rows("SELECT id FROM $ns.t ORDER BY id") == [(1,), (3,), (4,)]
    assert bench.one("UPDATE $ns.t SET s = s || '!' WHERE id IN (2, 3)") == 1
    assert bench.rows("SELECT * FROM $ns.t ORDER BY id") == [(1, "a"), (3, "c!"), (4, "d")]
    assert bench.one("DELETE FROM $ns.t WHERE id = 4") == 1
    assert other_reader(bench, "t") == [(1, "a"), (3, "c!")]


def test_a_table_that_is_made_anew_between_planning_and_reading_is_read_as_it_is_now(bench: Bench) -> None:
    bench.run("CREATE TABLE $ns.t AS SELECT 1 AS a")

    def make_anew() -> None:
        bench.run("DROP TABLE $ns.t")
        bench.run("CREATE TABLE $ns.t AS SELECT 2 AS a")

    assert bench.run("SELECT a FROM $ns.t", on_start=make_anew).table.column("a").to_pylist() == [2]


def test_a_table_that_is_dropped_between_planning_and_reading_is_not_found(bench: Bench) -> None:
    bench.run("CREATE TABLE $ns.t AS SELECT 1 AS a")

    def drop() -> None:
        bench.run("DROP TABLE $ns.t")

    with pytest.raises(NotFound):
        bench.run("SELECT a FROM $ns.t", on_start=drop)
