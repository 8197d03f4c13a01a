"""destination-postgres: from queries and from changes, appended, replaced, deduplicated."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pytest

from embedded.replication.connectors import PostgresDestination, parse
from embedded.replication.pipeline import Job
from embedded.replication.postgres_destination.destination import PostgresTables
from tests.embedded.replication.capture import Capture, own, stream
from tests.embedded.replication.harness import incremental, overwrite, until


@pytest.fixture
def shop(capture: Capture) -> Capture:
    run = capture.source.run
    run("create table shop.orders (id int primary key, note varchar(20), amount numeric, updated_at timestamptz)")
    run("alter table shop.orders replica identity full")  # a numeric without a scale may be long
    run("insert into shop.orders select i, 'a', i * 0.5, '2026-01-01'::timestamptz + i * interval '1 min'"
        " from generate_series(1, 200) i")  # fmt: skip
    return capture


def plain(shop: Capture, *streams: dict[str, Any], **destination: Any) -> None:
    """A connection whose source is read by query."""
    shop.standard = True
    target = shop.speed.configuration(**destination)
    target.pop("applied_lsn_table")
    shop.connect(*streams, destination=target)


def read(shop: Capture) -> list[dict[str, Any]]:
    return [own(row) for row in shop.speed.rows("select * from speed.orders order by id, updated_at")]


def staged(shop: Capture) -> list[str]:
    query = "select relname from pg_class where relname like '\\_airbyte\\_job%%' and relkind = 'r' order by 1"
    return [row["relname"] for row in shop.speed.rows(query)]


def test_a_full_refresh_replaces_the_table_at_once(shop: Capture) -> None:
    plain(shop, overwrite("orders"))
    shop.sync()
    assert read(shop) == shop.truth("orders")
    shop.source.run("delete from shop.orders where id > 50")
    shop.source.run("alter table shop.orders add column extra jsonb")
    shop.source.run("""update shop.orders set extra = '{"a": 1}' where id = 3""")
    shop.sync()
    assert read(shop) == shop.truth("orders")
    generations = shop.speed.rows("select distinct _airbyte_generation_id as g from speed.orders")
    assert [row["g"] for row in generations] == [2]
    assert staged(shop) == []


@pytest.mark.parametrize("point", ["after_read", "after_upload", "half_visible", "before_state"])
def test_a_killed_publication_is_finished_once(shop: Capture, point: str) -> None:
    plain(shop, incremental("orders"))
    shop.server.faults(sync=[{"point": point, "action": "crash", "attempt": 1}])
    job = shop.sync()
    assert "SIGKILL" in job["attempts"][0]["failureReason"]["message"]
    assert read(shop) == shop.truth("orders")


@pytest.mark.parametrize("ended", ["jobs", "connections"])
def test_a_job_that_is_ended_leaves_no_table(shop: Capture, ended: str, tmp_path: Path) -> None:
    plain(shop, overwrite("orders"))
    shop.server.faults(sync=[{"point": "after_read", "action": "wait", "path": str(tmp_path / "never")}])
    job_id = shop.server.submit(shop.connection)
    until(lambda: staged(shop) == [f"_airbyte_job_{job_id}_0"], "the staging table")
    path = f"/jobs/{job_id}" if ended == "jobs" else f"/connections/{shop.connection}"
    shop.server.call("DELETE", path, expect=200 if ended == "jobs" else 204)
    until(lambda: not staged(shop), "the staging table to be dropped", 30)


def test_settling_a_job_leaves_the_tables_of_the_next_one(shop: Capture) -> None:
    connection = {"id": "c"}
    shop.speed.rows("create schema speed")
    for number in (1, 2):
        shop.speed.rows(f"create table speed._airbyte_job_{number}_0 (id int)")
        shop.speed.rows(f"""comment on table speed._airbyte_job_{number}_0 is '{{"connection": "c"}}'""")
    options = shop.speed.configuration()
    del options["applied_lsn_table"]
    target = parse(PostgresDestination, options)
    job: Any = Job(1, 0, connection, None, target, dt.datetime.now(dt.UTC), 0)
    db: Any = None
    tables = PostgresTables(db, job, lambda level, text: None, lambda point: None)
    tables.undo(all_of_it=True)
    tables._session.close()
    assert staged(shop) == ["_airbyte_job_2_0"]


def test_deduplication_keeps_the_newest_version(shop: Capture) -> None:
    plain(shop, stream("orders", "incremental_deduped_history", cursorField=["updated_at"]))
    shop.sync()
    shop.source.run("update shop.orders set note = 'b', updated_at = '2026-02-01' where id % 2 = 0")
    shop.source.run("insert into shop.orders values (900, 'new', 1, '2026-02-02')")
    shop.sync()
    assert read(shop) == shop.truth("orders")
    indexes = shop.speed.rows(
        "select pg_get_indexdef(indexrelid) as text from pg_index where indrelid = 'speed.orders'::regclass"
    )
    found = sorted(row["text"].split(" USING ")[1] for row in indexes)
    assert found == ["btree (_airbyte_extracted_at)", "btree (id)", "btree (updated_at)"]


@pytest.mark.parametrize("mode", ["Hard delete", "Soft delete"])
def test_changes_are_merged_by_key(shop: Capture, mode: str) -> None:
    shop.publish("orders")
    target = shop.speed.configuration(cdc_deletion_mode=mode)
    shop.connect(stream("orders", "incremental_deduped_history"), destination=target)
    shop.sync()
    shop.source.run("delete from shop.orders where id <= 10")
    shop.source.run("update shop.orders set note = 'b' where id between 11 and 20")
    shop.source.run("update shop.orders set id = 5000 where id = 21")
    shop.source.run("insert into shop.orders values (3, 'again', 1, now())")
    shop.sync()
    rows = shop.speed.rows("select * from speed.orders order by id")
    alive = [own(row) for row in rows if row["_ab_cdc_deleted_at"] is None]
    assert alive == shop.truth("orders")
    assert len(rows) - len(alive) == (0 if mode == "Hard delete" else 10)
    shop.source.run("truncate shop.orders")
    shop.source.run("insert into shop.orders values (1, 'first', 1, now())")
    shop.sync()
    assert read(shop) == shop.truth("orders")


@pytest.mark.parametrize("point", ["mid_range", "mid_snapshot", "before_commit"])
def test_a_rebuild_that_dies_leaves_the_table_whole(shop: Capture, point: str) -> None:
    run = shop.source.run
    run("insert into shop.orders select i, repeat('x', 20), 1, now() from generate_series(201, 30000) i")
    shop.publish("orders")
    shop.options = {"snapshot_range_mb": 1}
    shop.connect(stream("orders", "incremental_deduped_history"))
    shop.sync()
    before = read(shop)
    assert before == shop.truth("orders")
    shop.drop_slot()  # nobody captures this deletion
    run("delete from shop.orders where id between 100 and 199")
    shop.rebuild()
    shop.server.faults(sync=[{"point": point, "action": "crash", "attempt": 1}, {"point": "after_snapshot",
        "action": "hang", "attempt": 2}, {"point": "after_read", "action": "hang", "attempt": 2}])  # fmt: skip
    job = shop.server.submit(shop.connection)
    until(lambda: len(shop.server.job(job)["attempts"]) > 1, "the first attempt to die")
    assert read(shop) == before
    shop.server.call("DELETE", f"/jobs/{job}")
    shop.server.wait(job)
    assert read(shop) == before
    shop.server.faults()
    run("insert into shop.orders values (150, 'again', 1, now())")
    shop.sync()
    assert read(shop) == shop.truth("orders")


GENERATIONS = [
    incremental("orders"),
    stream("orders", "incremental_deduped_history", cursorField=["updated_at"]),
]


@pytest.mark.parametrize("chosen", GENERATIONS, ids=["append", "deduplicate"])
def test_a_truncating_refresh_leaves_the_new_generation_alone(shop: Capture, chosen: dict[str, Any]) -> None:
    plain(shop, chosen)
    shop.sync()
    shop.source.run("delete from shop.orders where id > 50")
    shop.source.run("update shop.orders set note = 'old', updated_at = '2025-01-01' where id = 3")  # it was set back
    assert shop.void("refresh", mode="truncate") == "succeeded"
    assert read(shop) == shop.truth("orders")


def test_a_merging_refresh_keeps_both_generations(shop: Capture) -> None:
    plain(shop, incremental("orders"))
    shop.sync()
    shop.void("refresh", mode="merge")
    assert len(read(shop)) == 2 * len(shop.truth("orders"))


def test_a_refresh_that_is_killed_while_it_publishes_is_finished(shop: Capture) -> None:
    plain(shop, incremental("orders"))
    shop.sync()
    shop.source.run("delete from shop.orders where id > 50")
    shop.server.faults(sync=[{"point": "half_visible", "action": "crash", "attempt": 1}])
    assert shop.void("refresh", mode="truncate") == "succeeded"
    assert read(shop) == shop.truth("orders")


@pytest.mark.parametrize("chosen", [*GENERATIONS, overwrite("orders")], ids=["append", "deduplicate", "replace"])
def test_clear_empties_the_table(shop: Capture, chosen: dict[str, Any]) -> None:
    shop.source.run("create table shop.items (id int primary key, updated_at timestamptz)")
    shop.source.run("insert into shop.items values (1, '2026-01-01')")
    plain(shop, chosen, incremental("items"))
    shop.sync()
    assert shop.void("clear", streams=[{"name": "orders"}]) == "succeeded"
    assert read(shop) == []
    assert len(shop.speed.rows("select id from speed.items")) == 1
    shop.sync()
    assert read(shop) == shop.truth("orders")


@pytest.mark.parametrize("chosen", GENERATIONS, ids=["append", "deduplicate"])
def test_what_clear_could_not_empty_goes_with_the_next_sync(shop: Capture, chosen: dict[str, Any]) -> None:
    plain(shop, chosen)
    shop.sync()
    shop.source.run("delete from shop.orders where id > 50")
    shop.speed.rows("alter table speed.orders rename to away")
    assert shop.void("clear") == "succeeded", "a table that is not there is empty"
    shop.speed.rows("alter table speed.away rename to orders")
    shop.sync()
    assert read(shop) == shop.truth("orders")
    again = shop.sync()
    assert again["streams"][0]["records"] == 1, "the cursor goes on"


def test_clear_leaves_what_was_captured_until_the_next_epoch_is_complete(shop: Capture) -> None:
    shop.publish("orders")
    shop.connect(stream("orders"))
    shop.sync()
    assert shop.void("clear") == "succeeded"
    shop.assert_exact("orders")
    shop.sync()
    shop.assert_exact("orders")
    epochs = shop.speed.rows("select distinct _airbyte_generation_id from speed.orders")
    assert len(epochs) == 2, "no row of a log is deleted"


ODD = {
    "floats float8[]": ("'{NaN,1.5,Infinity}'", [None, 1.5, None]),
    "amounts numeric(12,2)[]": ("'{1.5,-20}'", [1.5, -20]),
    "days date[]": ("'{12000-01-02,0044-03-15 BC}'", ["12000-01-02", "0044-03-15 BC"]),
    "stamps timestamptz[]": (
        "'{12000-01-02 03:04:05.5+00,2026-01-01 00:00:00+00}'",
        ["12000-01-02 03:04:05.500000+00:00", "2026-01-01 00:00:00+00:00"],
    ),
    "texts text[]": ("array['€\"', null]", ['€"', None]),
    "doc json": (
        r"""'{"a": "x\u0000y", "b": ["\ud800", 1e200000], "c": "\ud83d\ude00", "d": 1.10}'""",
        {"a": "xy", "b": ["�", None], "c": "😀", "d": 1.1},
    ),
    "plain json": (r"""'{"a":  "\\u0000", "a": "\u00e4"}'""", {"a": "ä"}),
}


@pytest.mark.parametrize("captured", [False, True], ids=["query", "changes"])
def test_a_value_that_json_has_no_place_for_stops_nothing(shop: Capture, captured: bool) -> None:
    shop.source.run(f"create table shop.odd (id int primary key, {', '.join(ODD)}, updated_at timestamptz)")
    shop.source.run("alter table shop.odd replica identity full")
    chosen = stream("odd") if captured else incremental("odd")
    if captured:
        shop.publish("odd")
        shop.connect(chosen)
        shop.sync()  # what follows comes from the log
    else:
        plain(shop, chosen)
    values = ", ".join(value for value, _ in ODD.values())
    shop.source.run(f"insert into shop.odd values (1, {values}, '2026-01-01'), (2, {'null, ' * len(ODD)}'2026-01-02')")
    job = shop.sync()
    columns = [name.split()[0] for name in ODD]
    first, second = shop.speed.rows("select * from speed.odd where id is not null order by id")
    assert [first[name] for name in columns] == [found for _, found in ODD.values()]
    assert all(second[name] is None for name in columns)
    changes = {(item["field"], item["change"]) for item in first["_airbyte_meta"]["changes"]}
    assert changes == {("floats", "NULLED"), ("doc", "NULLED"), ("doc", "TRUNCATED")}
    assert second["_airbyte_meta"]["changes"] == []
    assert job["streams"][0]["nulled"] == 3


def test_what_the_destination_lacks_is_said_clearly(shop: Capture) -> None:
    shop.publish("orders")
    shop.connect(stream("orders"), destination=shop.speed.configuration(applied_lsn_table="lakehouse.nothing"))
    assert "applied_lsn_table: lakehouse.nothing is not there" in shop.refuse()
    shop.connect(stream("orders"))
    shop.speed.rows("create schema speed")
    shop.speed.rows("create table speed.orders (id text, _airbyte_raw_id varchar)")
    assert "is not one of Airbyte's" in shop.refuse()


def test_a_column_of_another_type_is_refused(shop: Capture) -> None:
    plain(shop, incremental("orders"))
    shop.sync()
    shop.source.run("alter table shop.orders alter column note type int using 1")
    assert "note" in shop.refuse()


def test_sources_that_cannot_be_captured_are_refused(shop: Capture) -> None:
    run = shop.source.run
    run("create table shop.long (id int primary key, text text)")
    run("create table shop.keyless (id int)")
    shop.publish("orders", "long", "keyless", slot=False)
    workspace = shop.server.workspace()
    source = {"name": "s", "workspaceId": workspace, "configuration": shop.source_configuration()}
    target = {"name": "d", "workspaceId": workspace, "configuration": shop.speed.configuration()}
    body = {
        "sourceId": shop.server.call("POST", "/sources", json=source)["sourceId"],
        "destinationId": shop.server.call("POST", "/destinations", json=target)["destinationId"],
    }
    for name, advice in (("long", "REPLICA IDENTITY FULL"), ("keyless", "no primary key")):
        wrong = {**body, "configurations": {"streams": [stream(name)]}}
        assert advice in str(shop.server.call("POST", "/connections", expect=400, json=wrong))
    wrong = {**body, "configurations": {"streams": [overwrite("orders")]}}
    assert "incremental_append" in str(shop.server.call("POST", "/connections", expect=400, json=wrong))
    shop.connect(stream("orders"))
    assert "pg_create_logical_replication_slot" in shop.refuse()
