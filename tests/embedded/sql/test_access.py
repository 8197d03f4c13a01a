"""Privileges, roles and owners (Enterprise), over REST and SQL, and the Community edition without them."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from tests.embedded.sql.process import Client, JobError, SqlProcess, rest_source

if TYPE_CHECKING:
    from embedded.object_store import ObjectStore

WORD = "secret4ann"


@pytest.fixture(scope="module")
def admin(client: Client, lake: str) -> Client:
    """The administrator, with a space, a table and a view over it."""
    client.space("shop", "open", "closed")
    client.run(f"create table {lake}.orders as select 1 as id, 10 as amount union all select 2, 20")
    client.run(f"create view shop.open.totals as select sum(amount) as total from {lake}.orders")
    client.run("create view shop.closed.salaries as select 7 as salary")
    return client


@pytest.fixture(scope="module")
def login(server: SqlProcess, admin: Client) -> Callable[[str], Client]:
    def make(name: str) -> Client:
        answer = admin.http.post("/api/v3/user", json={"name": name, "password": WORD, "email": f"{name}@x.y"})
        assert answer.status_code == 200, answer.text
        return server.client(name, WORD)

    return make


@pytest.fixture(scope="module")
def ann(login: Callable[[str], Client]) -> Client:
    return login("ann")


def denied(client: Client, sql: str) -> str:
    with pytest.raises(JobError) as error:
        client.run(sql)
    return str(error.value)


def test_nothing_is_readable_without_a_grant(ann: Client, lake: str) -> None:
    assert denied(ann, f"select * from {lake}.orders") == f"Access denied reading dataset {lake}.orders."
    assert denied(ann, "select * from shop.open.totals") == "Access denied reading dataset shop.open.totals."


def test_nothing_is_visible_without_a_grant(ann: Client, admin: Client) -> None:
    listed = [item["path"] for item in ann.http.get("/api/v3/catalog").json()["data"]]
    assert listed == [["@ann"]]
    assert ann.http.get("/api/v3/catalog/by-path/shop").status_code == 403
    assert ann.http.get(f"/api/v3/catalog/{admin.entity('shop')['id']}").status_code == 403
    assert ann.rows("select table_name from information_schema.\"tables\" where table_schema like 'shop%'") == []
    assert ann.http.get("/api/v3/catalog/search?query=totals").json()["data"] == []


def test_a_view_reads_with_its_owners_privileges(admin: Client, ann: Client, lake: str) -> None:
    admin.run("grant select on view shop.open.totals to user ann")
    assert ann.rows("select total from shop.open.totals") == [{"total": 30}]
    assert "Access denied" in denied(ann, f"select * from {lake}.orders")
    # Also where the same table stands beside the view in one query.
    both = f"select t.total, o.id from shop.open.totals t, {lake}.orders o"
    assert "Access denied" in denied(ann, both)
    assert [child["path"] for child in ann.entity("shop")["children"]] == [["shop", "open"]]
    admin.run("revoke select on view shop.open.totals from user ann")
    assert "Access denied" in denied(ann, "select total from shop.open.totals")


def test_an_owner_who_may_no_longer_read_closes_the_view(
    admin: Client, login: Callable[[str], Client], ann: Client, lake: str
) -> None:
    bob = login("bob")
    admin.run("grant alter on folder shop.open to user bob")
    admin.run(f"grant select on table {lake}.orders to user bob")
    bob.run(f"create view shop.open.bobs as select id from {lake}.orders")
    admin.run("grant select on view shop.open.bobs to user ann")
    assert len(ann.rows("select * from shop.open.bobs")) == 2
    admin.run(f"revoke select on table {lake}.orders from user bob")
    assert "Access denied" in denied(ann, "select * from shop.open.bobs")
    admin.run("revoke select on view shop.open.bobs from user ann")


def test_privileges_come_through_roles_and_from_above(admin: Client, ann: Client) -> None:
    role = admin.http.post("/api/v3/role", json={"name": "readers", "description": "may read"}).json()
    outer = admin.http.post("/api/v3/role", json={"name": "staff", "roles": [{"id": role["id"]}]}).json()
    admin.run("grant select on space shop to role readers")
    user = ann.login["userId"]
    place = f"/api/v3/role/{outer['id']}/member"
    assert admin.http.patch(place, json=[{"op": "add", "type": "USER", "id": user}]).status_code == 200
    assert ann.rows("select salary from shop.closed.salaries") == [{"salary": 7}]
    names = [r["name"] for r in ann.http.get(f"/api/v3/user/{user}").json()["roles"]]
    assert names == ["PUBLIC", "readers", "staff"]
    circle = [{"op": "add", "type": "ROLE", "name": "readers"}]
    assert admin.http.patch(place, json=circle).status_code == 400
    assert admin.http.patch(place, json=[{"op": "remove", "type": "USER", "id": user}]).status_code == 200
    assert "Access denied" in denied(ann, "select salary from shop.closed.salaries")
    assert admin.http.delete(f"/api/v3/role/{role['id']}").status_code == 204
    assert admin.rows("select * from sys.privileges where grantee_id = 'readers'") == []


@pytest.mark.parametrize(
    ("privilege", "sql"),
    [
        ("INSERT", "insert into {t} select 9, 9"),
        ("UPDATE", "update {t} set amount = 1 where id = 9"),
        ("DELETE", "delete from {t} where id = 9"),
        ("TRUNCATE", "truncate table {t}"),
        ("ALTER", "alter table {t} add columns (more int)"),
        ("ALTER REFLECTION", "alter table {t} create raw reflection r using display (id)"),
        ("DROP", "drop table {t}"),
    ],
)
def test_each_change_needs_its_privilege(admin: Client, ann: Client, lake: str, privilege: str, sql: str) -> None:
    table = f"{lake}.t{uuid.uuid4().hex[:8]}"
    admin.run(f"create table {table} as select 1 as id, 1 as amount")
    admin.run(f"grant select on table {table} to user ann")
    assert privilege in denied(ann, sql.format(t=table))
    assert admin.value(f"select count(*) from {table}") == 1
    admin.run(f"grant {privilege} on table {table} to user ann")
    ann.run(sql.format(t=table))


def test_creating_needs_a_privilege_and_makes_an_owner(admin: Client, ann: Client, lake: str) -> None:
    table = f"{lake}.anns"
    assert "CREATE TABLE" in denied(ann, f"create table {table} as select 1 as id")
    admin.run(f"grant create table on folder {lake} to user ann")
    ann.run(f"create table {table} as select 1 as id")
    ann.run(f"insert into {table} select 2")
    ann.run(f"grant select on table {table} to user bob")
    assert [r["grantee_id"] for r in ann.rows(f"select * from sys.privileges where object_id = '{table}'")] == ["bob"]
    ann.run(f"drop table {table}")
    assert admin.rows(f"select * from sys.privileges where object_id = '{table}'") == []
    admin.run(f"revoke create table on folder {lake} from user ann")


def test_a_dropped_folder_leaves_no_privileges(admin: Client, ann: Client) -> None:
    folder = f"lake.f{uuid.uuid4().hex[:8]}"
    admin.run(f"create folder {folder}")
    admin.run(f"grant select on folder {folder} to user ann")
    admin.run(f"drop folder {folder}")
    admin.run(f"create folder {folder}")
    admin.run(f"create table {folder}.again as select 1 as id")
    assert "Access denied" in denied(ann, f"select * from {folder}.again")


def test_rest_writes_need_privileges(admin: Client, ann: Client) -> None:
    view = admin.entity("shop", "open", "totals")
    admin.run("grant select on view shop.open.totals to user ann")
    place = f"/api/v3/catalog/{view['id']}"
    assert ann.http.get(place).status_code == 200
    refused = [
        ann.http.put(place, json=view),
        ann.http.delete(place),
        ann.http.post(f"{place}/collaboration/wiki", json={"text": "mine"}),
        ann.http.post(f"{place}/refresh"),
        ann.http.get(f"{place}/grants"),
        ann.http.post("/api/v3/catalog", json={"entityType": "space", "name": "anns"}),
        ann.http.post("/api/v3/catalog", json={"entityType": "folder", "path": ["shop", "anns"]}),
        ann.http.post("/api/v3/user", json={"name": "eve", "password": WORD}),
        ann.http.post("/api/v3/role", json={"name": "anns"}),
        ann.http.put(f"/api/v3/user/{admin.login['userId']}", json={"name": "admin", "password": "hacked123"}),
    ]
    assert [answer.status_code for answer in refused] == [403] * len(refused)
    escape = {
        "entityType": "dataset",
        "type": "VIRTUAL_DATASET",
        "path": ["@ann", "v"],
        "sql": "select * from shop.closed.salaries",
    }
    assert ann.http.post("/api/v3/catalog", json=escape).status_code == 403


def test_jobs_are_their_users_own(admin: Client, ann: Client) -> None:
    job = admin.submit("select 1 as one")
    admin.wait(job)
    for path in (f"/api/v3/job/{job}", f"/api/v3/job/{job}/results"):
        assert ann.http.get(path).status_code == 403
    assert ann.http.post(f"/api/v3/job/{job}/cancel").status_code == 403
    assert {r["user_name"] for r in ann.rows("select user_name from sys.jobs_recent")} == {"ann"}


def test_grants_over_rest_replace_what_was_there(admin: Client, ann: Client) -> None:
    place = f"/api/v3/catalog/{admin.entity('shop', 'open', 'totals')['id']}/grants"
    wanted = [{"privileges": ["SELECT", "MANAGE_GRANTS"], "granteeType": "USER", "id": ann.login["userId"]}]
    assert admin.http.put(place, json={"grants": wanted}).status_code == 204
    shown = ann.http.get(place).json()
    assert shown["grants"][0]["privileges"] == ["MANAGE_GRANTS", "SELECT"]
    assert "ALTER" in shown["availablePrivileges"]
    bad = [{"privileges": ["INSERT"], "granteeType": "USER", "id": ann.login["userId"]}]
    assert admin.http.put(place, json={"grants": bad}).status_code == 400
    assert admin.http.put(place, json={"grants": []}).status_code == 204
    assert "Access denied" in denied(ann, "select total from shop.open.totals")


def test_unknown_grantees_privileges_and_objects_are_errors(admin: Client) -> None:
    for sql, words in (
        ("grant select on view shop.open.totals to user nobody", "User [nobody] not found"),
        ("grant select on view shop.open.totals to role nobody", "Role [nobody] not found"),
        ("grant fly on view shop.open.totals to user ann", "FLY"),
        ("grant select on view shop.open.nothing to user ann", "nothing"),
    ):
        assert words in denied(admin, sql)


def test_a_deleted_user_is_gone_at_once_and_leaves_nothing(admin: Client, login: Callable[[str], Client]) -> None:
    carl = login("carl")
    admin.run("grant select on space shop to user carl")
    assert admin.http.delete(f"/api/v3/user/{carl.login['userId']}").status_code == 204
    assert carl.http.get("/api/v3/catalog").status_code == 401
    again = login("carl")
    assert "Access denied" in denied(again, "select * from shop.closed.salaries")


def test_hostile_names_of_users_and_roles(admin: Client, server: SqlProcess) -> None:
    for name in ("o'brien", 'a"b', "a.b/c", "ünï", "x; drop table users"):
        made = admin.http.post("/api/v3/user", json={"name": name, "password": WORD})
        assert made.status_code == 200, made.text
        assert server.client(name, WORD).login["userName"] == name
        quoted = name.replace('"', '""')
        admin.run(f'grant select on view shop.open.totals to user "{quoted}"')
        assert server.client(name, WORD).value("select total from shop.open.totals") == 30
    for name in ("", "\x00", "a\nb", "x" * 10_000):
        assert admin.http.post("/api/v3/user", json={"name": name, "password": WORD}).status_code == 400
        assert admin.http.post("/api/v3/role", json={"name": name}).status_code == 400


def test_the_community_edition_has_neither_roles_nor_privileges(
    make_server: Callable[..., SqlProcess], object_store: ObjectStore
) -> None:
    server = make_server(EDITION="community").start()
    client = server.client()
    client.space("plain")
    client.run("create view plain.v as select 1 as one")
    assert client.http.post("/api/v3/user", json={"name": "ann", "password": WORD}).status_code == 200
    ann = server.client("ann", WORD)
    assert ann.value("select one from plain.v") == 1
    assert "Enterprise" in denied(client, "grant select on view plain.v to user ann")
    assert "REFRESH REFLECTIONS command is not supported" in denied(client, "alter view plain.v refresh reflections")
    view = client.entity("plain", "v")["id"]
    assert client.http.post(f"/api/v3/catalog/{view}/refresh").status_code == 204
    for method, path in (("GET", "/api/v3/role"), ("GET", f"/api/v3/catalog/{view}/grants"), ("POST", "/oauth/token")):
        assert client.http.request(method, path).status_code == 404
    client.create(rest_source(object_store, "lake"))
