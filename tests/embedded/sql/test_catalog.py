"""Spaces, folders, views: entities with ids, tags, conflicts; wiki and tags with versions."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest

from tests.embedded.sql.process import Client, JobError


@pytest.fixture(scope="module", autouse=True)
def space(client: Client) -> str:
    client.space("shop", "gold")
    return "shop"


def view(name: str, sql: str = "select 1 as one", **more: Any) -> dict[str, Any]:
    return {
        "entityType": "dataset",
        "type": "VIRTUAL_DATASET",
        "path": ["shop", "gold", name],
        "sql": sql,
        **more,
    }


def test_what_exists_is_409(client: Client) -> None:
    for body in (
        {"entityType": "space", "name": "SHOP"},
        {"entityType": "folder", "path": ["shop", "Gold"]},
    ):
        answer = client.http.post("/api/v3/catalog", json=body)
        assert answer.status_code == 409
        assert "already exists" in answer.json()["errorMessage"]


def test_names_that_cannot_be_are_400(client: Client) -> None:
    for name in ("a.b", 'q"', "a@b", "", " x", "sys", "information_schema", "line\nbreak", "x" * 300):
        assert client.http.post("/api/v3/catalog", json={"entityType": "space", "name": name}).status_code == 400
    for name in ("a/b", "a.b", "..", ""):
        body = {"entityType": "folder", "path": ["shop", name]}
        assert client.http.post("/api/v3/catalog", json=body).status_code == 400
    body = {"entityType": "folder", "path": ["shop", "no", "such"]}
    assert "does not exist" in client.http.post("/api/v3/catalog", json=body).json()["errorMessage"]


def test_children_and_look_up_by_id_and_path(client: Client) -> None:
    created = client.create(view("by_path"))
    assert client.entity("shop", "gold", "by_path")["id"] == created["id"]
    assert client.entity("SHOP", "Gold", "BY_PATH")["id"] == created["id"]
    assert client.http.get(f"/api/v3/catalog/{created['id']}").json() == created
    children = client.entity("shop", "gold")["children"]
    assert {"id", "path", "type", "tag", "datasetType"} <= set(children[0])
    assert "children" not in client.http.get("/api/v3/catalog/by-path/shop?exclude=children").json()
    page = client.http.get("/api/v3/catalog/by-path/shop?maxChildren=1").json()
    assert len(page["children"]) == 1
    roots = client.http.get("/api/v3/catalog").json()["data"]
    assert ["shop"] in [item["path"] for item in roots]


def test_missing_entities_are_404_in_dremios_words(client: Client) -> None:
    answer = client.http.get("/api/v3/catalog/by-path/shop/nothing")
    assert answer.json()["errorMessage"] == "Could not find entity with path [shop.nothing]"
    answer = client.http.get("/api/v3/catalog/3a1c")
    assert (answer.status_code, answer.json()["errorMessage"]) == (404, "Could not find entity with id [3a1c]")


def test_a_segment_may_hold_a_slash_and_dots(client: Client) -> None:
    client.run('create view shop.gold."a.b %41 é" as select 5 as five')
    found = client.entity("shop", "gold", "a.b %41 é")
    assert found["path"] == ["shop", "gold", "a.b %41 é"]
    assert client.value('select five from shop.gold."a.b %41 é"') == 5
    answer = client.http.get(f"/api/v3/catalog/by-path/shop/{quote('gold/x', safe='')}")
    assert answer.json()["errorMessage"] == "Could not find entity with path [shop.gold/x]"


def test_a_view_shows_its_columns(client: Client) -> None:
    sql = "select 1 as i, cast(2.5 as decimal(12, 2)) as m, 'x' as s, date '2026-01-31' as d"
    created = client.create(view("typed", sql, sqlContext=["shop"]))
    assert created["sql"] == sql
    assert created["sqlContext"] == ["shop"]
    assert [(field["name"], field["type"]["name"]) for field in created["fields"]] == [
        ("i", "INTEGER"),
        ("m", "DECIMAL"),
        ("s", "VARCHAR"),
        ("d", "DATE"),
    ]


def test_a_view_that_cannot_be_planned_is_refused(client: Client) -> None:
    answer = client.http.post("/api/v3/catalog", json=view("bad", "select nothing from nowhere"))
    assert answer.status_code in (400, 404)
    assert "nowhere" in answer.json()["errorMessage"]
    with pytest.raises(JobError, match="nowhere"):
        client.run("create view shop.gold.bad as select * from nowhere")


def test_put_needs_the_current_tag(client: Client) -> None:
    old = client.create(view("tagged"))
    body = view("tagged", "select 2 as two", id=old["id"], tag=old["tag"])
    new = client.http.put(f"/api/v3/catalog/{old['id']}", json=body)
    assert new.status_code == 200
    assert new.json()["tag"] != old["tag"]
    assert client.value("select two from shop.gold.tagged") == 2
    assert client.http.put(f"/api/v3/catalog/{old['id']}", json=body).status_code == 409
    assert client.http.delete(f"/api/v3/catalog/{old['id']}?tag={old['tag']}").status_code == 409
    assert client.http.delete(f"/api/v3/catalog/{old['id']}?tag={new.json()['tag']}").status_code == 204
    assert client.http.get(f"/api/v3/catalog/{old['id']}").status_code == 404


def test_views_over_sql(client: Client) -> None:
    client.run("create view shop.gold.v as select 1 as a")
    with pytest.raises(JobError, match="already exists"):
        client.run("create view shop.gold.v as select 2 as a")
    before = client.entity("shop", "gold", "v")
    client.run("create or replace view shop.gold.v as select 3 as a, 4 as b")
    after = client.entity("shop", "gold", "v")
    assert (after["id"], len(after["fields"])) == (before["id"], 2)
    client.run("drop view shop.gold.v")
    client.run("drop view if exists shop.gold.v")
    with pytest.raises(JobError, match=r"Unknown view \[shop.gold.v\]"):
        client.run("drop view shop.gold.v")


def test_deleting_a_folder_takes_all_inside(client: Client) -> None:
    client.create({"entityType": "folder", "path": ["shop", "old"]})
    client.run("create view shop.old.v as select 1 as a")
    client.http.delete(f"/api/v3/catalog/{client.entity('shop', 'old')['id']}")
    with pytest.raises(JobError, match="not found"):
        client.run("select * from shop.old.v")


def test_wiki_and_tags_have_versions(client: Client) -> None:
    place = f"/api/v3/catalog/{client.create(view('documented'))['id']}/collaboration"
    assert client.http.get(f"{place}/wiki").json() == {"text": ""}
    assert client.http.post(f"{place}/wiki", json={"text": "one"}).json() == {"text": "one", "version": 0}
    assert client.http.post(f"{place}/wiki", json={"text": "again"}).status_code == 409
    assert client.http.post(f"{place}/wiki", json={"text": "two", "version": 0}).json()["version"] == 1
    assert client.http.post(f"{place}/wiki", json={"text": "three", "version": 0}).status_code == 409
    assert client.http.get(f"{place}/wiki").json() == {"text": "two", "version": 1}
    first = client.http.post(f"{place}/tag", json={"tags": ["a", "b"]}).json()
    assert client.http.get(f"{place}/tag").json() == first
    second = client.http.post(f"{place}/tag", json={"tags": [], "version": first["version"]})
    assert second.json()["tags"] == []
    assert client.http.post(f"{place}/tag", json={"tags": ["c"], "version": first["version"]}).status_code == 409


def test_many_at_once(client: Client) -> None:
    answer = client.http.post("/api/v3/catalog/by-paths", json={"paths": [["shop"], ["shop", "nope"]]})
    found, missing = answer.json()["data"]
    assert found["name"] == "shop"
    assert "Could not find" in missing["errorMessage"]


def test_information_schema_speaks_dremios_names(client: Client) -> None:
    client.run("create or replace view shop.gold.columns_of as select 1 as i, 'x' as s, cast(1 as decimal(9, 3)) as d")
    rows = client.rows(
        "select column_name, ordinal_position, data_type, numeric_precision, numeric_scale"
        " from information_schema.columns"
        " where table_schema = 'shop.gold' and table_name = 'columns_of' order by 2"
    )
    assert [tuple(row.values()) for row in rows] == [
        ("i", 1, "INTEGER", 32, 0),
        ("s", 2, "CHARACTER VARYING", None, None),
        ("d", 3, "DECIMAL", 9, 3),
    ]
    tables = client.rows(
        'select table_catalog, table_type from information_schema."TABLES"'
        " where ilike(table_schema, 'shop.gold') and table_name = 'columns_of'"
    )
    assert tables == [{"table_catalog": "DREMIO", "table_type": "VIEW"}]
    schemas = [row["schema_name"] for row in client.rows("select schema_name from information_schema.schemata")]
    assert {"shop", "shop.gold", "INFORMATION_SCHEMA", "sys"} <= set(schemas)
    definition = client.value("select view_definition from information_schema.views where table_name = 'columns_of'")
    assert definition.startswith("select 1 as i")


def test_unknown_system_tables_are_not_found(client: Client) -> None:
    for name in ("sys.memory", 'information_schema."nothing"', "sys"):
        with pytest.raises(JobError, match="not found"):
            client.run(f"select * from {name}")
