"""Dremio's declared state against our SQL server, over the wire."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from include.reconcile import dremio
from include.reconcile.dremio import reflections as declared_reflections
from include.reconcile.dremio.ownership import Owned, joined, split
from include.reconcile.plan import ApplyError, Change
from include.specs import dremio as spec
from include.specs.reader import SpecError
from lakehouse_providers.dremio import errors
from lakehouse_providers.dremio.administration import Administration, Grantee
from lakehouse_providers.dremio.client import DremioClient
from lakehouse_providers.dremio.hook import DremioHook
from tests.sql_server import iceberg_config

if TYPE_CHECKING:
    from embedded.object_store import ObjectStore

Files = dict[str, Any]


@pytest.fixture
def client(dremio_connection: Any) -> Iterator[DremioClient]:
    with DremioHook().client() as client:
        yield client


@pytest.fixture
def files(client: DremioClient, object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> Iterator[Files]:
    """A declaration in a source and a space of its own, with its secrets in a connection; all gone afterwards."""
    fields = {"conn_type": "aws", "login": object_store.access_key, "password": object_store.secret_key}
    monkeypatch.setenv("AIRFLOW_CONN_LAKE_S3", json.dumps(fields))
    mark = uuid.uuid4().hex[:8]
    config = iceberg_config(object_store, "{{ conn.lake_s3.login }}", "{{ conn.lake_s3.password }}")
    space, lake = f"space_{mark}", f"lake_{mark}"
    files: Files = {
        "lake": lake,
        "mark": mark,
        "space": space,
        "sources": {lake: {"type": "RESTCATALOG", "config": config, "wiki": "The lake."}},
        "spaces": {space: {"wiki": "For readers.", "folders": {"gold": {"folders": {"deep": {}}}, "ops": {}}}},
        "views": {
            "views": [
                {"path": [space, "ops", "b"], "sql": f'SELECT n FROM "{space}"."ops"."a"', "tags": ["ops", "daily"]},
                {"path": [space, "ops", "a"], "sql": "SELECT 1 AS n", "wiki": "One."},
            ]
        },
        "access": {
            "roles": {
                f"reader_{mark}": {"description": "Reads gold.", "users": [f"u_{mark}"]},
                f"all_{mark}": {"roles": [f"reader_{mark}"]},
            },
            "users": {
                f"u_{mark}": {
                    "first_name": "U",
                    "last_name": "V",
                    "email": "u@example.com",
                    "password": "{{ conn.lake_s3.password }}",
                }
            },
            "grants": [{"path": [space], "role": f"reader_{mark}", "privileges": ["SELECT", "alter"]}],
        },
        "reader": f"reader_{mark}",
        "all": f"all_{mark}",
        "user": f"u_{mark}",
    }
    yield files
    for name in (space, lake):
        if there := client.catalog_by_path([name]):
            client.delete_catalog(there["id"], there["tag"])
    for role in (f"all_{mark}", f"reader_{mark}"):
        Administration(client).delete_role(role)


NAMES = ("sources", "spaces", "views", "datasets", "reflections", "access")


def run(files: Files, folder: Path, *, apply: bool = True, prune: bool = False) -> list[str]:
    for name in NAMES:
        (folder / f"{name}.yaml").unlink(missing_ok=True)
        if name in files:
            (folder / f"{name}.yaml").write_text(yaml.safe_dump(files[name], sort_keys=False))
    changes = dremio.run(DremioHook(), apply=apply, prune=prune, declaration=spec.load(folder))
    return [str(change) for change in changes]


def test_a_plan_changes_nothing_and_an_apply_is_done_once(client: DremioClient, files: Files, tmp_path: Path) -> None:
    planned = run(files, tmp_path, apply=False)
    assert client.catalog_by_path([files["space"]]) is None
    assert client.catalog_by_path([files["lake"]]) is None
    assert f"create view {files['space']}.ops.a" in planned
    applied = run(files, tmp_path)
    space = files["space"]
    expected = [
        f"create user {files['user']}",
        f"create role {files['reader']}",
        f"create source {files['lake']}",
        f"create space {space}",
        f"create folder {space}.gold",
        f"create folder {space}.gold.deep",
        f"create view {space}.ops.a",
        f"create view {space}.ops.b",
    ]
    assert [line for line in applied if line in expected] == expected, "in the order in which each finds what it needs"
    assert run(files, tmp_path) == []
    assert run(files, tmp_path, apply=False, prune=True) == []
    assert client.query(f'SELECT n FROM "{space}"."ops"."b"') == [{"n": 1}]
    admin = Administration(client)
    view = client.by_path([space, "ops", "b"])["id"]
    assert sorted(admin.tags(view)) == ["daily", "ops"]
    assert admin.wiki(client.by_path([space, "ops", "a"])["id"]) == "One."
    assert split(admin.wiki(client.by_path([space])["id"]))[0].strip() == "For readers."
    assert [member.name for member in admin.members(files["reader"])] == [files["user"]]
    given = admin.grants(client.by_path([space])["id"])[Grantee("ROLE", files["reader"])]
    assert given == {"SELECT", "ALTER"}


def test_what_people_changed_by_hand_is_named_and_undone(client: DremioClient, files: Files, tmp_path: Path) -> None:
    run(files, tmp_path)
    space, admin = files["space"], Administration(client)
    client.apply_view([space, "ops", "a"], "SELECT 2 AS n")
    admin.set_tags(client.by_path([space, "ops", "b"])["id"], ["mine"])
    admin.set_wiki(client.by_path([space])["id"], lambda text: text.replace("For readers.", "Mine."))
    root = client.by_path([space])["id"]
    admin.change_grants(root, {Grantee("ROLE", files["reader"]): frozenset({"SELECT"})})
    drift = run(files, tmp_path, apply=False, prune=True)
    assert drift == [
        f'update view {space}.ops.a\n    sql: "SELECT 2 AS n" -> "SELECT 1 AS n"',
        f'update wiki {space}\n    wiki: "Mine." -> "For readers."',
        f'update tags {space}.ops.b\n    tags: ["mine"] -> ["daily", "ops"]',
        f"update grants {space}\n    + role {files['reader']} ALTER",
    ]
    assert run(files, tmp_path) == drift
    assert run(files, tmp_path, apply=False, prune=True) == []


def test_no_secret_is_shown_and_changed_settings_are(client: DremioClient, files: Files, tmp_path: Path) -> None:
    run(files, tmp_path)
    config = files["sources"][files["lake"]]["config"]
    config["propertyList"][4]["value"] = "eu-west-1"
    (line,) = run(files, tmp_path, apply=False)
    assert line == (
        f"update source {files['lake']}\n"
        '    config.propertyList.fs.s3a.endpoint.region.value: "us-east-1" -> "eu-west-1"'
    )
    changed = {"name": "x", "config": {"key": "{{ conn.lake_s3.password }}"}}
    from include.connections import resolve
    from include.reconcile.plan import diff

    (hidden,) = diff(changed, resolve(changed), {"name": "x", "config": {"key": "old-secret"}})
    assert "old-secret" not in hidden
    assert "comes from an Airflow connection" in hidden


def test_only_what_is_ours_and_undeclared_is_deleted(client: DremioClient, files: Files, tmp_path: Path) -> None:
    run(files, tmp_path)
    space = files["space"]
    client.apply_view([space, "ops", "theirs"], "SELECT 3 AS n")
    files["views"]["views"] = [v for v in files["views"]["views"] if v["path"][-1] == "a"]
    del files["spaces"][space]["folders"]["gold"]["folders"]
    files["access"]["grants"] = []
    del files["access"]["roles"][files["all"]]
    assert run(files, tmp_path) == [], "nothing is deleted unless asked to"
    expected = [
        f"delete grants {space}:ROLE:{files['reader']}",
        f"delete view {space}.ops.b",
        f"delete folder {space}.gold.deep",
        f"delete role {files['all']}",
    ]
    assert run(files, tmp_path, apply=False, prune=True) == expected
    assert client.catalog_by_path([space, "ops", "b"]) is not None
    assert run(files, tmp_path, prune=True) == expected
    assert client.catalog_by_path([space, "ops", "b"]) is None
    assert client.catalog_by_path([space, "ops", "theirs"]) is not None
    assert run(files, tmp_path, apply=False, prune=True) == []


def test_a_folder_with_other_peoples_objects_stays(client: DremioClient, files: Files, tmp_path: Path) -> None:
    run(files, tmp_path)
    space = files["space"]
    client.apply_view([space, "gold", "deep", "theirs"], "SELECT 3 AS n")
    del files["spaces"][space]["folders"]["gold"]["folders"]
    with pytest.raises(ApplyError, match=r"delete folder .*deep: it still holds .*theirs"):
        run(files, tmp_path, prune=True)
    assert client.catalog_by_path([space, "gold", "deep", "theirs"]) is not None


def test_an_error_stops_the_walk_and_the_next_one_goes_on(client: DremioClient, files: Files, tmp_path: Path) -> None:
    good = files["views"]["views"][1]["sql"]
    files["views"]["views"][1]["sql"] = "SELECT FROM nothing"
    with pytest.raises(ApplyError, match=rf"create view {files['space']}\.ops\.a: .*Applied before it: \d+ changes"):
        run(files, tmp_path)
    assert client.catalog_by_path([files["space"], "ops"]) is not None
    assert client.catalog_by_path([files["space"], "ops", "b"]) is None, "nothing after the error was tried"
    files["views"]["views"][1]["sql"] = good
    assert f"create view {files['space']}.ops.a" in run(files, tmp_path)
    assert run(files, tmp_path) == []


def test_what_is_made_is_noted_before(client: DremioClient, files: Files, tmp_path: Path) -> None:
    """A walk that is killed must not leave objects that nothing owns."""
    files["views"]["views"][1]["sql"] = "SELECT FROM nothing"
    with pytest.raises(ApplyError):
        run(files, tmp_path)
    _, owned = split(Administration(client).wiki(client.by_path([files["space"]])["id"]))
    assert Owned("view", (files["space"], "ops", "a")) in owned
    assert Owned("folder", (files["space"], "gold", "deep")) in owned


def test_a_conflict_is_read_again_once(client: DremioClient, files: Files, tmp_path: Path) -> None:
    run(files, tmp_path)
    space, admin = files["space"], Administration(client)
    writes: list[str] = []

    def change(there: dict[str, Any]) -> dict[str, Any]:
        writes.append(there["tag"])
        if len(writes) <= interferences:
            client.apply_view([space, "ops", "a"], f"SELECT {len(writes) + 10} AS n")
        return {**there, "sql": "SELECT 99 AS n"}

    interferences = 1
    admin.rewrite([space, "ops", "a"], change)
    assert len(writes) == 2
    assert client.by_path([space, "ops", "a"])["sql"] == "SELECT 99 AS n"
    writes.clear()
    interferences = 2
    with pytest.raises(errors.DremioConflictError):
        admin.rewrite([space, "ops", "a"], change)


def test_reflections(client: DremioClient, files: Files, tmp_path: Path) -> None:
    lake, mark = files["lake"], files["mark"]
    one = {
        "dataset": [lake, mark, "t"],
        "name": "by_kind",
        "type": "AGGREGATION",
        "dimensions": {"kind": "NORMAL"},
        "measures": {"amount": ["SUM", "COUNT"]},
    }
    raw = {"dataset": [lake, mark, "t"], "name": "raw", "type": "RAW", "display": "*", "sort": ["id"]}
    files["reflections"] = {"retail": [one, raw]}
    awaited = f"await reflection {lake}.{mark}.t:by_kind\n    its dataset is not built yet"
    assert awaited in run(files, tmp_path)
    client.query(f'CREATE TABLE "{lake}"."{mark}"."t" AS SELECT 1 AS id, \'a\' AS kind, 10 AS amount')
    created = [f"create reflection {lake}.{mark}.t:by_kind", f"create reflection {lake}.{mark}.t:raw"]
    assert run(files, tmp_path, apply=False) == created
    assert run(files, tmp_path) == created
    assert run(files, tmp_path) == []
    one["measures"] = {"amount": ["SUM"]}
    raw["sort"] = ["kind", "id"]
    assert run(files, tmp_path) == [
        f'update reflection {lake}.{mark}.t:by_kind\n    measures: ["amount COUNT", "amount SUM"] -> ["amount SUM"]',
        f'update reflection {lake}.{mark}.t:raw\n    sort: ["id"] -> ["kind", "id"]',
    ]
    one["measures"] = {"nothing": ["SUM"]}
    with pytest.raises(ValueError, match=r"by_kind: .*t has no column nothing"):
        run(files, tmp_path)
    dataset = client.by_path([lake, mark, "t"])["id"]
    client.create_reflection({"type": "RAW", "name": "theirs", "datasetId": dataset, "displayFields": [{"name": "id"}]})
    files["reflections"] = {"retail": [raw]}
    assert run(files, tmp_path, prune=True) == [f"delete reflection {lake}.{mark}.t:by_kind"]
    assert {r.name for r in client.reflections(dataset)} == {"raw", "theirs"}


def test_the_shipped_declaration_loads() -> None:
    state = spec.load()
    assert {source.name for source in state.sources} == {"bronze", "lake", "ledger"}
    assert declared_reflections.reflection_datasets("retail")
    assert declared_reflections.reflection_datasets("nothing") == []


R = {"dataset": ["s", "t"], "name": "r"}


@pytest.mark.parametrize(
    ("file", "change", "complaint"),
    [
        (
            "views",
            {"views": [{"path": ["elsewhere", "v"], "sql": "SELECT 1"}]},
            "neither in sources.yaml nor",
        ),
        ("views", {"views": [{"path": ["s"], "sql": "SELECT 1"}]}, r"'views\[0\].path' must be a list of at least 2"),
        ("views", {"views": [{"path": ["s", "v"], "sq": "SELECT 1"}]}, r"'views\[0\].sql' is missing"),
        (
            "views",
            {"views": [{"path": ["s", "a"], "sql": "TABLE s.b"}, {"path": ["s", "b"], "sql": 'TABLE "S"."A"'}]},
            "go round in a circle: s.a, s.b",
        ),
        ("views", {"views": [{"path": ["s", "a"], "sql": "SELECT 1"}] * 2}, "'s.a' is declared twice"),
        ("spaces", {"s": ["a", "a"]}, "'s.a' is declared twice"),
        ("spaces", {"s": {"folder": {}}}, r"'s.folder' is not known here"),
        ("access", {"users": {"u": {"password": "plain"}}}, "must refer to an Airflow connection"),
        ("access", {"grants": [{"path": ["s"], "privileges": ["SELECT"]}]}, "'grants.0..role' must be given"),
        ("access", {"roles": {"a": {"roles": ["b"]}, "b": {"roles": ["a"]}}}, "round in a circle"),
        (
            "reflections",
            {"p": [{**R, "type": "RAW", "display": "*", "partition": [{"d": "week"}]}]},
            "has the transform 'week'; use one of",
        ),
        (
            "reflections",
            {
                "p": [
                    {
                        "dataset": ["s", "t"],
                        "name": "r",
                        "type": "AGGREGATION",
                        "dimensions": [],
                        "measures": {"a": ["AVG"]},
                    }
                ]
            },
            "must list some of MIN",
        ),
    ],
)
def test_a_mistake_is_named_with_file_field_and_fix(
    tmp_path: Path, file: str, change: dict[str, Any], complaint: str
) -> None:
    contents = {"sources": {}, "spaces": {"s": ["f"]}, file: change}
    for name, content in contents.items():
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(SpecError, match=complaint) as caught:
        spec.load(tmp_path)
    assert f"{file}.yaml" in str(caught.value)


def test_the_list_of_what_is_ours_survives_hostile_names() -> None:
    owned = {Owned("view", ("s", '-->\n"x'), ""), Owned("grant", ("s",), "ROLE:a:b-->")}
    for text in ("", "Words.\n\n<!-- a comment -->", "ends\n"):
        assert split(joined(text, owned)) == (text.rstrip(), frozenset(owned))
        assert split(joined(joined(text, owned), owned))[1] == frozenset(owned)


def test_awaited_is_no_drift() -> None:
    assert not Change("await", "reflection", "x").differs
    assert Change("delete", "view", "x").differs
