"""Layout, properties, OPTIMIZE and VACUUM of Iceberg tables: what is left in the object store, and what others read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow.fs as pafs
import pytest
from pyiceberg.catalog.rest import RestCatalog
from pyiceberg.io.pyarrow import PyArrowFileIO

from embedded.sql.errors import NotFound, SqlError, UnsupportedError, ValidationError

if TYPE_CHECKING:
    from tests.embedded.sql.engine.conftest import Bench

FUTURE = "OLDER_THAN '2100-01-01 00:00:00'"


def stored(bench: Bench, lake: RestCatalog, name: str = "t") -> set[str]:
    """Every object below the table's place."""
    table = lake.load_table((bench.namespace, name))
    assert isinstance(table.io, PyArrowFileIO)
    place = table.location().split("://")[1]
    store = table.io.fs_by_scheme("s3", place.split("/")[0])
    found = store.get_file_info(pafs.FileSelector(place, recursive=True))
    return {f.path for f in found if f.type == pafs.FileType.File}


def test_optimize_follows_its_options(bench: Bench, lake: RestCatalog) -> None:
    bench.run("CREATE TABLE $ns.t PARTITION BY (g) AS SELECT 'a' AS g, 0 AS id")
    for number in range(1, 4):
        bench.run(f"INSERT INTO $ns.t VALUES ('a', {number}), ('b', {number})")
    nothing = bench.run("OPTIMIZE TABLE $ns.t (MIN_INPUT_FILES = 8)").table.to_pylist()[0]
    assert nothing == {"rewritten_data_files_count": 0, "rewritten_delete_files_count": 0, "new_data_files_count": 0}
    one = bench.run(
        "OPTIMIZE TABLE $ns.t REWRITE DATA USING BIN_PACK (MIN_INPUT_FILES = 2) FOR PARTITIONS g = 'b'"
    ).table.to_pylist()[0]
    assert (one["rewritten_data_files_count"], one["new_data_files_count"]) == (3, 1)
    rest = bench.run("OPTIMIZE TABLE $ns.t (MIN_INPUT_FILES = 2)").table.to_pylist()[0]
    assert (rest["rewritten_data_files_count"], rest["new_data_files_count"]) == (4, 1)
    assert bench.run("OPTIMIZE TABLE $ns.t (MIN_INPUT_FILES = 2)").table.to_pylist()[0]["new_data_files_count"] == 0
    assert bench.rows("SELECT g, COUNT(*) FROM $ns.t GROUP BY g ORDER BY g") == [("a", 4), ("b", 3)]
    for number in range(2):
        bench.run(f"INSERT INTO $ns.t VALUES ('c', {number})")
    before = len(lake.load_table((bench.namespace, "t")).current_snapshot().manifests(bench_io(bench, lake)))
    assert bench.run("OPTIMIZE TABLE $ns.t REWRITE MANIFESTS").table.to_pylist()[0]["ok"]
    after = len(lake.load_table((bench.namespace, "t")).current_snapshot().manifests(bench_io(bench, lake)))
    assert after < before
    assert bench.one("SELECT COUNT(*) FROM $ns.t") == 9
    with pytest.raises(ValidationError, match="TARGET_FILE_SIZE_MB"):
        bench.run("OPTIMIZE TABLE $ns.t (TARGET_FILE_SIZE_MB = 10, MIN_FILE_SIZE_MB = 20, MAX_FILE_SIZE_MB = 30)")
    with pytest.raises(SqlError, match="nope"):
        bench.run("OPTIMIZE TABLE $ns.t FOR PARTITIONS nope = 1")


def bench_io(bench: Bench, lake: RestCatalog):  # type: ignore[no-untyped-def]
    return lake.load_table((bench.namespace, "t")).io


def test_vacuum_removes_what_only_expired_snapshots_need(bench: Bench, lake: RestCatalog) -> None:
    bench.run("CREATE TABLE $ns.t AS SELECT 1 AS id")
    bench.run("INSERT INTO $ns.t VALUES (2)")
    bench.run("UPDATE $ns.t SET id = id + 10")
    bench.run("INSERT INTO $ns.t VALUES (3)")
    before = stored(bench, lake)
    assert sum(p.endswith(".parquet") for p in before) == 4 or sum(p.endswith(".parquet") for p in before) == 5
    counts = bench.run(f"VACUUM TABLE $ns.t EXPIRE SNAPSHOTS {FUTURE} RETAIN_LAST 1").table.to_pylist()[0]
    after = stored(bench, lake)
    assert counts["deleted_data_files_count"] == 2
    assert counts["deleted_manifest_lists_count"] == 3
    gone = before - after
    assert sum(p.endswith(".parquet") for p in gone) == 2
    assert len(gone) == sum(counts.values())
    assert bench.rows("SELECT id FROM $ns.t ORDER BY id") == [(3,), (11,), (12,)]
    assert len(lake.load_table((bench.namespace, "t")).snapshots()) == 1


def test_vacuum_keeps_what_a_view_pins_and_what_is_young(bench: Bench) -> None:
    bench.run("CREATE TABLE $ns.t AS SELECT 1 AS id")
    first = bench.one(f"SELECT snapshot_id FROM TABLE(table_snapshot('lake.{bench.namespace}.t'))")
    bench.run("UPDATE $ns.t SET id = 2")
    bench.run("VACUUM TABLE $ns.t EXPIRE SNAPSHOTS")
    assert bench.one(f"SELECT id FROM $ns.t AT SNAPSHOT '{first}'") == 1
    with pytest.raises(ValidationError, match="Minimum number of snapshots"):
        bench.run("VACUUM TABLE $ns.t EXPIRE SNAPSHOTS RETAIN_LAST 0")


def test_vacuum_keeps_what_a_running_statement_reads(bench: Bench, lake: RestCatalog) -> None:
    from embedded.sql.engine.database import NeverSet

    bench.run("CREATE TABLE $ns.t AS SELECT 1 AS id")
    with bench.engine.database.job("reader", NeverSet()):
        bench.run("UPDATE $ns.t SET id = 2")
        bench.run(f"VACUUM TABLE $ns.t EXPIRE SNAPSHOTS {FUTURE}")
        assert len(lake.load_table((bench.namespace, "t")).snapshots()) == 2
    bench.run(f"VACUUM TABLE $ns.t EXPIRE SNAPSHOTS {FUTURE}")
    assert len(lake.load_table((bench.namespace, "t")).snapshots()) == 1


def test_orphans_go_and_nothing_else(bench: Bench, lake: RestCatalog) -> None:
    bench.run("CREATE TABLE $ns.t AS SELECT 1 AS id")
    bench.run("INSERT INTO $ns.t VALUES (2)")
    table = lake.load_table((bench.namespace, "t"))
    known = stored(bench, lake)
    for name in ("data/left-over.parquet", "data/deep/er/x.avro"):
        with table.io.new_output(f"{table.location()}/{name}").create() as stream:
            stream.write(b"what a killed writer left")
    assert bench.run("VACUUM TABLE $ns.t REMOVE ORPHAN FILES").table.to_pylist()[0]["deleted_files_count"] == 0
    found = bench.run(f"VACUUM TABLE $ns.t REMOVE ORPHAN FILES {FUTURE}").table.to_pylist()[0]
    assert found["deleted_files_count"] == 2
    assert stored(bench, lake) == known
    assert bench.rows("SELECT id FROM $ns.t ORDER BY id") == [(1,), (2,)]
    for place in ("s3://warehouse", f"{table.location()}/../", "s3://elsewhere/x"):
        with pytest.raises(ValidationError, match="not inside"):
            bench.run(f"VACUUM TABLE $ns.t REMOVE ORPHAN FILES {FUTURE} LOCATION '{place}'")


def test_the_layout_changes_for_what_is_written_afterwards(bench: Bench, lake: RestCatalog) -> None:
    bench.run("CREATE TABLE $ns.t LOCALSORT BY (id) AS SELECT FLATTEN(ARRAY[3, 1, 2]) AS id, 'a' AS g")
    assert [r[0] for r in bench.rows("SELECT id FROM $ns.t")] == [1, 2, 3]
    bench.run("ALTER TABLE $ns.t ADD PARTITION FIELD g")
    bench.run("ALTER TABLE $ns.t LOCALSORT BY (g, id)")
    bench.run("INSERT INTO $ns.t SELECT id + 10, CASE WHEN id = 1 THEN 'x' ELSE 'y' END FROM $ns.t")
    table = lake.load_table((bench.namespace, "t"))
    assert [f.name for f in table.spec().fields] == ["g"]
    assert len(table.sort_order().fields) == 2
    assert len(list(table.scan().plan_files())) == 3
    assert table.scan(row_filter="g = 'x'").to_arrow().column("id").to_pylist() == [11]
    bench.run("UPDATE $ns.t SET id = id + 1 WHERE id IN (1, 13)")
    assert bench.rows("SELECT id, g FROM $ns.t ORDER BY id") == [(2, "a"), (2, "a"), (3, "a"), (11, "x"), (12, "y"),
                                                                (14, "y")]  # fmt: skip
    bench.run("ALTER TABLE $ns.t DROP PARTITION FIELD g")
    bench.run("ALTER TABLE $ns.t DROP LOCALSORT")
    table = lake.load_table((bench.namespace, "t"))
    assert not table.sort_order().fields
    bench.run("DELETE FROM $ns.t WHERE g = 'y'")
    assert bench.one("SELECT COUNT(*) FROM $ns.t") == 4
    for sql, words in [
        ("ALTER TABLE $ns.t DROP PARTITION FIELD g", "not found"),
        ("ALTER TABLE $ns.t ADD PARTITION FIELD month(g)", "Cannot apply transform"),
        ("ALTER TABLE $ns.t LOCALSORT BY (nope)", "nope"),
    ]:
        with pytest.raises(ValidationError, match=words):
            bench.run(sql)


def test_properties_and_primary_key(bench: Bench, lake: RestCatalog) -> None:
    bench.run("CREATE TABLE $ns.t PARTITION BY (bucket(4, id)) LOCALSORT BY (id) AS SELECT 1 AS id, 'x' AS s")
    bench.run("ALTER TABLE $ns.t SET TBLPROPERTIES ('owner.team' = 'it''s us')")
    assert ("owner.team", "it's us") in bench.rows("SHOW TBLPROPERTIES $ns.t")
    bench.run("ALTER TABLE $ns.t UNSET TBLPROPERTIES ('owner.team')")
    assert ("owner.team", "it's us") not in bench.rows("SHOW TBLPROPERTIES $ns.t")
    bench.run("ALTER TABLE $ns.t ADD PRIMARY KEY (ID)")
    assert lake.load_table((bench.namespace, "t")).properties["dremio.primary_key"] == '["id"]'
    bench.run("ALTER TABLE $ns.t DROP PRIMARY KEY")
    path, sql = bench.rows("SHOW CREATE TABLE $ns.t")[0]
    assert path == f"lake.{bench.namespace}.t"
    bench.run(str(sql).replace('."t"', '."again"'))
    again = lake.load_table((bench.namespace, "again"))
    assert [str(f.transform) for f in again.spec().fields] == ["bucket[4]"]
    assert len(again.sort_order().fields) == 1
    for statement, words in [
        ("ALTER TABLE $ns.t SET TBLPROPERTIES ('format-version' = '1')", "reserved"),
        ("ALTER TABLE $ns.t UNSET TBLPROPERTIES ('nope')", "not set"),
        ("ALTER TABLE $ns.t ADD PRIMARY KEY (nope)", "not present"),
        ("ALTER TABLE $ns.t DROP PRIMARY KEY", "No primary key"),
    ]:
        with pytest.raises(ValidationError, match=words):
            bench.run(statement)


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE BRANCH b IN lake",
        "DROP TAG t IN lake",
        "MERGE BRANCH a INTO b IN lake",
        "USE BRANCH b IN lake",
        "SHOW BRANCHES IN lake",
        "SHOW LOGS IN lake",
        "CREATE TABLE lake.a.b AT BRANCH x AS SELECT 1 AS v",
        "SELECT * FROM $ns.t AT COMMIT '0123'",
        "SELECT * FROM $ns.t AT REFERENCE main",
    ],
)
def test_branches_need_a_versioned_source(bench: Bench, sql: str) -> None:
    bench.run("CREATE TABLE $ns.t AS SELECT 1 AS id")
    with pytest.raises(UnsupportedError, match="Source lake does not support versioning"):
        bench.run(sql)


def test_iceberg_branches_and_tags_can_be_read(bench: Bench, lake: RestCatalog) -> None:
    bench.run("CREATE TABLE $ns.t AS SELECT 1 AS id")
    table = lake.load_table((bench.namespace, "t"))
    snapshot = table.current_snapshot()
    assert snapshot is not None
    with table.manage_snapshots() as manage:
        manage.create_tag(snapshot.snapshot_id, "release")
    bench.run("UPDATE $ns.t SET id = 2")
    bench.run(f"VACUUM TABLE $ns.t EXPIRE SNAPSHOTS {FUTURE}")
    assert bench.one("SELECT id FROM $ns.t AT TAG release") == 1
    assert bench.one("SELECT id FROM $ns.t AT BRANCH main") == 2


def test_options_and_accounts_that_this_catalog_has_not(bench: Bench) -> None:
    with pytest.raises(ValidationError, match=r"The option 'store.nope' does not exist"):
        bench.run('ALTER SESSION SET "store.nope" = 1')
    with pytest.raises(UnsupportedError, match="GRANT ROLE"):
        bench.run("GRANT ROLE r TO USER u")
    with pytest.raises(UnsupportedError, match="VACUUM CATALOG is supported only on versioned sources"):
        bench.run("VACUUM CATALOG lake")
    with pytest.raises(NotFound):
        bench.run("VACUUM TABLE $ns.nope EXPIRE SNAPSHOTS")
