"""Promotion with format options, formats that are tables of their own, metadata policies, secrets at rest."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from embedded.sql.catalog.vault import Vault, VaultError
from tests.embedded.sql.process import SECRET_KEY, Client, JobError, SqlProcess, s3_source

if TYPE_CHECKING:
    from embedded.object_store import ObjectStore

Put = Callable[[str, bytes], None]


@pytest.fixture(scope="module")
def put(object_store: ObjectStore, bronze: str) -> Put:
    s3 = object_store.client("s3")
    return lambda name, content: s3.put_object(Bucket="lakehouse", Key=f"{bronze}/{name}", Body=content)


def parquet(*ids: int) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table({"id": pa.array(ids, pa.int64())}), sink)
    return sink.getvalue()


def promote(client: Client, path: tuple[str, ...], **format_: Any) -> tuple[int, dict[str, Any]]:
    body = {"entityType": "dataset", "type": "PHYSICAL_DATASET", "path": list(path), "format": format_}
    answer = client.http.post(f"/api/v3/catalog/{quote('dremio:/' + '/'.join(path), safe='')}", json=body)
    return answer.status_code, answer.json()


def test_text_has_letters_or_a_header(client: Client, put: Put) -> None:
    put("csv/plain/a.csv", b"id,name\n1,Ann\n2,Bob\n")
    status, table = promote(client, ("bronze", "csv", "plain"), type="Text", fieldDelimiter=",")
    assert (status, [field["name"] for field in table["fields"]]) == (200, ["A", "B"])
    assert client.value("select count(*) from bronze.csv.plain") == 3
    changed = {**table, "format": {**table["format"], "extractHeader": True}}
    answer = client.http.put(f"/api/v3/catalog/{table['id']}", json=changed)
    assert answer.status_code == 200, answer.text
    assert [field["name"] for field in answer.json()["fields"]] == ["id", "name"]
    assert client.rows("select * from bronze.csv.plain order by id") == [
        {"id": "1", "name": "Ann"},
        {"id": "2", "name": "Bob"},
    ]


def test_text_takes_delimiter_quote_and_skips(client: Client, put: Put) -> None:
    put("csv/odd/a.txt", b"made by hand\nid|name\n1|'a|b'\n")
    options = {"fieldDelimiter": "|", "quote": "'", "skipFirstLine": True, "extractHeader": True}
    status, _ = promote(client, ("bronze", "csv", "odd"), type="Text", **options)
    assert status == 200
    assert client.rows("select * from bronze.csv.odd") == [{"id": "1", "name": "a|b"}]


@pytest.mark.parametrize(
    ("format_", "words"),
    [
        ({"type": "Excel"}, "Excel"),
        ({"type": "Magic"}, "format.type"),
        ({"type": "Text", "fieldDelimiter": "ab"}, "format.fieldDelimiter"),
        ({"type": "Text", "fieldDelimiter": "'; drop"}, "format.fieldDelimiter"),
        ({"type": "Text", "lineDelimiter": "x"}, "format.lineDelimiter"),
        ({"type": "Parquet", "colour": 1}, "format.colour"),
        ({"type": "Delta"}, "no Delta log"),
        ({"type": "Iceberg"}, "no Iceberg metadata"),
    ],
)
def test_wrong_formats_are_named(client: Client, put: Put, format_: dict[str, Any], words: str) -> None:
    put("csv/wrong/a.csv", b"1\n")
    status, answer = promote(client, ("bronze", "csv", "wrong"), **format_)
    assert status == 400
    assert words in answer["errorMessage"]


def test_json_is_read_by_its_names(client: Client, put: Put) -> None:
    put("json/a.json", b'{"id": 1, "tags": ["x"]}\n{"id": 2, "at": {"lat": 1.5}}\n')
    status, table = promote(client, ("bronze", "json"), type="JSON")
    assert status == 200, table
    assert client.rows("select id, tags from bronze.json order by id") == [
        {"id": 1, "tags": ["x"]},
        {"id": 2, "tags": None},
    ]
    assert client.http.delete(f"/api/v3/catalog/{table['id']}").status_code == 204
    assert client.entity("bronze", "json")["entityType"] == "folder"


def delta_log(*entries: dict[str, Any]) -> bytes:
    return "\n".join(json.dumps(entry) for entry in entries).encode()


def added(name: str, content: bytes) -> dict[str, Any]:
    facts = {"path": name, "partitionValues": {}, "size": len(content), "modificationTime": 1, "dataChange": True}
    return {"add": facts}


def test_a_delta_table_stands_at_its_refresh(client: Client, put: Put) -> None:
    fields = [{"name": "id", "type": "long", "nullable": True, "metadata": {}}]
    meta = {
        "id": "t",
        "format": {"provider": "parquet", "options": {}},
        "schemaString": json.dumps({"type": "struct", "fields": fields}),
        "partitionColumns": [],
        "configuration": {},
        "createdTime": 1,
    }
    one, two = parquet(1, 2), parquet(3)
    put("delta/one.parquet", one)
    protocol = {"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}}
    put(
        "delta/_delta_log/00000000000000000000.json", delta_log(protocol, {"metaData": meta}, added("one.parquet", one))
    )
    status, table = promote(client, ("bronze", "delta"), type="Delta")
    assert (status, table["format"]) == (200, {"type": "Delta"}), table
    put("delta/two.parquet", two)
    put("delta/_delta_log/00000000000000000001.json", delta_log(added("two.parquet", two)))
    assert client.value("select count(*) from bronze.delta") == 2
    client.run("alter table bronze.delta refresh metadata")
    assert client.value("select sum(id) from bronze.delta") == 6


def test_an_iceberg_folder_stands_at_its_refresh(
    client: Client, object_store: ObjectStore, lake: str, prefix: str
) -> None:
    client.run(f"create table {lake}.folded as select 1 as id")
    client.create(s3_source(object_store, "store", "/" + object_store.warehouse.removeprefix("s3://").strip("/")))
    folders = [child["path"][-1] for child in client.entity("store", prefix)["children"]]
    (folder,) = [name for name in folders if name.startswith("folded-")]
    status, answer = promote(client, ("store", prefix, folder), type="Iceberg")
    assert status == 200, answer
    client.run(f"insert into {lake}.folded select 2")
    count = f'select count(*) from store.{prefix}."{folder}"'
    assert client.value(count) == 1
    client.run(f'alter table store.{prefix}."{folder}" refresh metadata')
    assert client.value(count) == 2


def age(server: SqlProcess, entity_id: str, by: timedelta) -> None:
    """Let metadata be older than they are; the server reads it at its next start."""
    with psycopg.connect(server.database_url, autocommit=True) as connection:
        moment = datetime.now(UTC) - by
        connection.execute("update table_metadata set refreshed_at = %s where entity_id = %s", (moment, entity_id))


# By source: its policy, and how many files a query sees two minutes after the last refresh, of one known and one new.
POLICIES: dict[str, tuple[dict[str, Any], int]] = {
    "refreshed": ({"datasetUpdateMode": "INLINE", "datasetRefreshAfterMs": 60_000}, 2),
    "fresh": ({"datasetUpdateMode": "INLINE", "datasetRefreshAfterMs": 600_000}, 1),
    "expired": ({"datasetExpireAfterMs": 60_000}, 2),
    "silent": ({}, 1),
}


def test_a_query_honours_the_metadata_policy(
    make_server: Callable[..., SqlProcess], object_store: ObjectStore, put: Put, prefix: str
) -> None:
    server = make_server().start()
    client, tables = server.client(), []
    for source, (policy, _) in POLICIES.items():
        client.create({**s3_source(object_store, source, f"/lakehouse/{prefix}"), "metadataPolicy": policy})
        put(f"{source}/a.parquet", parquet(1))
        tables.append(client.promote(source, source)["id"])
        put(f"{source}/b.parquet", parquet(2))
    server.kill()
    for table in tables:
        age(server, table, timedelta(minutes=2))
    client = server.start().client()
    seen = {source: client.value(f"select count(*) from {source}.{source}") for source in POLICIES}
    assert seen == {source: count for source, (_, count) in POLICIES.items()}
    server.kill()


def test_a_policy_below_a_minute_is_refused(client: Client, object_store: ObjectStore, prefix: str) -> None:
    body = {**s3_source(object_store, "hasty", f"/lakehouse/{prefix}"), "metadataPolicy": {"namesRefreshMs": 10}}
    assert client.http.post("/api/v3/catalog", json=body).status_code == 400


def test_secrets_are_encrypted_at_rest(
    server: SqlProcess, client: Client, object_store: ObjectStore, lake: str
) -> None:
    with psycopg.connect(server.database_url) as connection:
        stored = connection.execute("select secrets::text from entities where kind = 'source'").fetchall()
    assert stored
    assert all(object_store.secret_key not in text and "fernet:" in text for (text,) in stored)


def test_a_new_key_takes_over_and_a_wrong_one_stops_the_start(
    make_server: Callable[..., SqlProcess], object_store: ObjectStore
) -> None:
    server = make_server().start()
    server.client().create(s3_source(object_store, "kept", "/lakehouse"))
    server.kill()
    fresh = "YW5vdGhlci1rZXktb2YtdGVzdHMtb2YtMzItYnl0ZXM="
    rotated = make_server(server.database_url, SECRET_KEY=f"{fresh},{SECRET_KEY}").start()
    assert rotated.client().entity("kept")["state"]["status"] == "good"
    rotated.kill()
    alone = make_server(server.database_url, SECRET_KEY=fresh).start()
    assert alone.client().entity("kept")["state"]["status"] == "good"
    alone.kill()
    wrong = make_server(server.database_url)
    assert wrong.launch().wait(timeout=60) == 2
    assert "was encrypted with another key" in wrong.log.read_text()


def test_plain_secrets_of_before_are_readable_and_stale() -> None:
    vault = Vault([SECRET_KEY])
    assert vault.open({"password": "plain"}, "s") == {"password": "plain"}
    assert vault.stale({"password": "plain"})
    assert not vault.stale(vault.lock({"password": "plain"}))
    with pytest.raises(VaultError, match="LAKEHOUSE_SQL_SECRET_KEY"):
        Vault(["short"])


def test_lineage_names_sources_parents_and_children(client: Client, lake: str) -> None:
    client.run(f"create table {lake}.base as select 1 as id")
    client.space("lineage", "f")
    client.run(f"create view lineage.f.first as with c as (select * from {lake}.base) select id from c")
    client.run("create view lineage.f.second as select id from lineage.f.first")
    first = client.entity("lineage", "f", "first")
    graph = client.http.get(f"/api/v3/catalog/{first['id']}/graph").json()
    assert [item["path"] for item in graph["sources"]] == [["lake"]]
    assert [item["path"][-1] for item in graph["parents"]] == ["base"]
    assert [item["path"][-1] for item in graph["children"]] == ["second"]
    with pytest.raises(JobError):
        client.run("select * from lineage.f.third")


def test_children_come_in_pages_or_not_at_all(client: Client) -> None:
    client.space("many", *(f"f{number}" for number in range(5)))
    space = client.entity("many")["id"]
    seen: list[str] = []
    token: str | None = None
    while True:
        query = {"maxChildren": 2} | ({"pageToken": token} if token else {})
        page = client.http.get(f"/api/v3/catalog/{space}", params=query).json()
        seen += [child["path"][-1] for child in page["children"]]
        token = page.get("nextPageToken")
        if token is None:
            break
    assert seen == [f"f{number}" for number in range(5)]
    assert "children" not in client.http.get(f"/api/v3/catalog/{space}?exclude=children").json()
    shown = client.http.get(f"/api/v3/catalog/{space}?include=permissions").json()
    assert "ALTER" in shown["permissions"]
    assert client.http.get(f"/api/v3/catalog/{space}?exclude=childen").status_code == 400
    both = client.http.post("/api/v3/catalog/by-ids", json={"ids": [space, "nothing"], "maxChildren": 1}).json()["data"]
    assert len(both[0]["children"]) == 1
    assert "errorMessage" in both[1]
