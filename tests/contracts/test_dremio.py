"""What clients rely on: the same assertions against our SQL server and, opt-in, against a real Dremio.

A real one: LAKEHOUSE_REAL_DREMIO_URL, _USER, _PASSWORD, and _LAKE, the name of a source that takes Iceberg tables.
"""

from __future__ import annotations

import json
import os
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import httpx
import pytest

from tests.embedded.sql.process import (
    PASSWORD,
    USER,
    Client,
    JobError,
    SqlProcess,
    new_database,
    rest_source,
    until,
)

if TYPE_CHECKING:
    from embedded.object_store import ObjectStore
    from embedded.postgres import PostgresServer

pytestmark = pytest.mark.contract

PROJECT = Path(__file__).resolve().parents[2]
DBT = PROJECT / ".venvs" / "dbt" / "bin" / "dbt"


@dataclass(frozen=True)
class Target:
    base: str
    user: str
    password: str = field(repr=False)
    lake: str
    space: str

    def client(self) -> Client:
        return Client(self.base, self.user, self.password)


@pytest.fixture(scope="module")
def target(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """Ours, freshly started, or the real product; with a space of this run's own."""
    space = f"contract_{uuid.uuid4().hex[:8]}"
    if real := os.environ.get("LAKEHOUSE_REAL_DREMIO_URL"):
        names = ("USER", "PASSWORD", "LAKE")
        user, password, lake = (os.environ[f"LAKEHOUSE_REAL_DREMIO_{name}"] for name in names)
        found = Target(real.rstrip("/"), user, password, lake, space)
        yield found
        client = found.client()
        client.http.delete(f"/api/v3/catalog/{client.entity(space)['id']}")
        return
    postgres: PostgresServer = request.getfixturevalue("platform_postgres")
    store: ObjectStore = request.getfixturevalue("object_store")
    server = SqlProcess(new_database(postgres), store, tmp_path_factory.mktemp("contract")).start()
    server.client().create(rest_source(store, "lake"))
    yield Target(server.base, USER, PASSWORD, "lake", space)
    server.close()


@pytest.fixture(scope="module")
def client(target: Target) -> Iterator[Client]:
    found = target.client()
    found.space(target.space)
    yield found
    found.http.close()


@pytest.fixture(scope="module")
def schema(target: Target) -> str:
    """The folder of the lake that this run writes to."""
    return f"c{uuid.uuid4().hex[:8]}"


# REST ---------------------------------------------------------------------------------------------------------------


def test_a_bad_token_is_401_without_a_body(target: Target) -> None:
    answer = httpx.get(f"{target.base}/api/v3/catalog", headers={"Authorization": "_dremiononsense"})
    assert (answer.status_code, answer.content) == (401, b"")


def test_a_bad_password_is_401_with_a_message(target: Target) -> None:
    answer = httpx.post(f"{target.base}/apiv2/login", json={"userName": target.user, "password": "wrong"})
    assert answer.status_code == 401
    assert answer.json()["errorMessage"]


def test_statements_fail_in_their_job(client: Client) -> None:
    for sql in ("selec 1", "select * from no_such_space.no_such_table"):
        job = client.wait(client.submit(sql))
        assert job["jobState"] == "FAILED"
        assert job["errorMessage"]


def test_the_limit_of_a_page_is_500(client: Client) -> None:
    job_id = client.submit("select 1 as one")
    assert client.wait(job_id)["jobState"] == "COMPLETED"
    answer = client.http.get(f"/api/v3/job/{job_id}/results", params={"limit": 501})
    assert (answer.status_code, answer.json()["errorMessage"]) == (400, "limit can not exceed 500 rows")
    body = client.http.get(f"/api/v3/job/{job_id}/results", params={"limit": 500}).json()
    assert (body["rowCount"], body["rows"]) == (1, [{"one": 1}])
    assert body["schema"][0]["name"] == "one"


def test_an_unknown_job_is_404(client: Client) -> None:
    job_id = str(uuid.uuid4())
    answer = client.http.get(f"/api/v3/job/{job_id}")
    assert (answer.status_code, answer.json()["errorMessage"]) == (404, f"Could not find a job with id [{job_id}]")


def test_values_have_dremios_text(client: Client) -> None:
    (row,) = client.rows(
        "select cast('2026-01-31 12:34:56.789' as timestamp) as ts, date '2026-01-31' as d,"
        " cast('12:34:56' as time) as t, cast(1.50 as decimal(12, 2)) as m, cast(null as varchar) as n, true as b"
    )
    assert list(row) == ["ts", "d", "t", "m", "n", "b"]
    assert (row["ts"], row["d"], row["t"]) == ("2026-01-31 12:34:56.789", "2026-01-31", "12:34:56.000")
    assert (row["m"], row["n"], row["b"]) == (1.5, None, True)


def test_existing_entities_are_409(client: Client, target: Target) -> None:
    answer = client.http.post("/api/v3/catalog", json={"entityType": "space", "name": target.space})
    assert answer.status_code == 409


def test_views_tags_and_wikis(client: Client, target: Target) -> None:
    body = {
        "entityType": "dataset",
        "type": "VIRTUAL_DATASET",
        "path": [target.space, "v"],
        "sql": "select 1 as one",
    }
    view = client.create(body)
    place = f"/api/v3/catalog/{view['id']}"
    changed = client.http.put(place, json={**view, "sql": "select 2 as two"})
    assert changed.status_code == 200, changed.text
    assert client.http.put(place, json={**view, "sql": "select 3 as three"}).status_code == 409
    wiki = client.http.post(f"{place}/collaboration/wiki", json={"text": "what it is"}).json()
    assert client.http.get(f"{place}/collaboration/wiki").json()["text"] == "what it is"
    again = client.http.post(f"{place}/collaboration/wiki", json={"text": "more", "version": wiki["version"]})
    assert again.status_code == 200
    assert client.http.post(f"{place}/collaboration/tag", json={"tags": ["gold"]}).json()["tags"] == ["gold"]
    client.run(f"drop view {target.space}.v")
    assert client.http.get(place).status_code == 404


def test_a_reflection_refreshes_accelerates_and_goes(client: Client, target: Target, schema: str) -> None:
    name = f"{target.lake}.{schema}.reflected"
    client.run(f"create table {name} as select * from (values (1, 'a'), (2, 'b'), (3, 'a')) t(id, kind)")
    dataset = client.entity(target.lake, schema, "reflected")
    body = {
        "type": "AGGREGATION",
        "name": "by_kind",
        "datasetId": dataset["id"],
        "enabled": True,
        "dimensionFields": [{"name": "kind", "granularity": "NORMAL"}],
        "measureFields": [{"name": "id", "measureTypeList": ["SUM", "COUNT"]}],
    }
    answer = client.http.post("/api/v3/reflection", json=body)
    assert answer.status_code == 200, answer.text
    reflection_id = answer.json()["id"]

    def ready(since: str) -> str | None:
        status = client.reflection(reflection_id)["status"]
        fresh = status["availability"] == "AVAILABLE" and status["lastDataFetch"] > since
        return status["lastDataFetch"] if fresh else None

    first = until(lambda: ready(""), "the first materialization", 180)
    job = client.run(f"select kind, sum(id) as s from {name} group by kind")
    relations = job["acceleration"]["reflectionRelationships"]
    assert [r["relationship"] for r in relations if r["reflectionId"] == reflection_id] == ["CHOSEN"]
    assert client.http.post(f"/api/v3/catalog/{dataset['id']}/refresh").status_code == 204
    until(lambda: ready(first), "a refresh after the request", 180)
    assert client.http.delete(f"/api/v3/reflection/{reflection_id}").status_code == 200
    client.run(f"drop table {name}")


def test_a_table_of_a_dropped_name_can_be_made_again(client: Client, target: Target, schema: str) -> None:
    name = f"{target.lake}.{schema}.again"
    for value in (1, 2, 3):
        client.run(f"create table {name} as select {value} as v, 'x{value}' as s")
        assert client.rows(f"select v, s from {name}") == [{"v": value, "s": f"x{value}"}]
        client.run(f"drop table {name}")
    with pytest.raises(JobError):
        client.run(f"select * from {name}")


# dbt ----------------------------------------------------------------------------------------------------------------

MODELS = {
    "models/v_countries.sql": "select id, name, population from {{ ref('countries') }}",
    "models/t_countries.sql": """
{{ config(materialized='table', partition_by=['continent']) }}
select cast(id as int) as id, name, continent, population, since from {{ ref('countries') }}
""",
    "models/inc_append.sql": """
{{ config(materialized='incremental', incremental_strategy='append') }}
select id, current_timestamp as loaded_at from {{ ref('t_countries') }}
""",
    "models/inc_merge.sql": """
{{ config(materialized='incremental', incremental_strategy='merge', unique_key='id') }}
select id, name, {{ var('mark', 0) }} as mark from {{ ref('t_countries') }}
""",
    "models/r_raw.sql": """
{{ config(materialized='reflection', reflection_type='raw', display=['id', 'name'], anchor='t_countries') }}
-- depends_on: {{ ref('t_countries') }}
""",
    "models/r_agg.sql": """
{{ config(materialized='reflection', reflection_type='aggregate', dimensions=['continent'], measures=['population'],
          computations=['COUNT, SUM'], anchor='t_countries') }}
-- depends_on: {{ ref('t_countries') }}
""",
    "snapshots/history.sql": """
{% snapshot history %}
{{ config(unique_key='id', strategy='check', check_cols=['name']) }}
select id, name from {{ ref('t_countries') }}
{% endsnapshot %}
""",
    "tests/no_negative.sql": "select * from {{ ref('t_countries') }} where population < 0",
    "seeds/countries.csv": "id,name,continent,population,since\n1,France,Europe,68000000,2024-01-01\n"
    "2,Chile,America,19000000,2024-02-01\n3,Kenya,Africa,,2024-03-01\n4,Spain,Europe,48000000,2024-04-01\n",
    "models/unit.yml": """
unit_tests:
  - name: keeps_names
    model: v_countries
    given:
      - input: ref('countries')
        rows: [{id: 7, name: Peru, population: 5}]
    expect:
      rows: [{id: 7, name: Peru, population: 5}]
""",
}
SCHEMA_YML = """
version: 2
sources:
  - name: raw
    database: {lake}
    schema: {schema}
    tables:
      - name: countries
        loaded_at_field: cast(since as timestamp)
        freshness: {{warn_after: {{count: 100000, period: day}}}}
models:
  - name: v_countries
    description: All countries
    config: {{tags: [geo]}}
    columns: [{{name: id, data_tests: [unique, not_null]}}]
  - name: t_countries
    description: Countries as a table
    config: {{tags: [geo, big]}}
    columns:
      - name: id
        data_tests: [unique, {{relationships: {{arguments: {{to: ref('v_countries'), field: id}}}}}}]
      - name: continent
        data_tests: [{{accepted_values: {{arguments: {{values: [Europe, America, Africa]}}}}}}]
  - name: inc_merge
    columns: [{{name: id, data_tests: [unique]}}]
"""


@dataclass
class Dbt:
    """A generated project and the dbt of the project's own venv, unmodified."""

    folder: Path

    def __call__(self, *arguments: str) -> str:
        """Run one command; fails the test with dbt's words when it does not succeed."""
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "DBT_PROFILES_DIR": str(self.folder),
            "DO_NOT_TRACK": "1",
            "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
        }
        done = subprocess.run(
            [str(DBT), "--no-use-colors", *arguments],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=280,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
        return done.stdout

    def results(self) -> dict[str, str]:
        """Node name to status, of the last command."""
        found = json.loads((self.folder / "target" / "run_results.json").read_text())["results"]
        return {result["unique_id"].split(".", 2)[2]: result["status"] for result in found}


@pytest.fixture(scope="module")
def dbt(target: Target, client: Client, schema: str, tmp_path_factory: pytest.TempPathFactory) -> Dbt:
    folder = tmp_path_factory.mktemp("dbt")
    address = urlsplit(target.base)
    profile = {
        "type": "dremio",
        "threads": 2,
        "software_host": address.hostname,
        "port": address.port or (443 if address.scheme == "https" else 80),
        "use_ssl": address.scheme == "https",
        "user": target.user,
        "password": target.password,
        "object_storage_source": target.lake,
        "object_storage_path": schema,
        "dremio_space": target.space,
        "dremio_space_folder": "views",
    }
    project = {
        "name": "contract",
        "version": "1.0",
        "profile": "contract",
        "models": {"contract": {"+persist_docs": {"relation": True}}},
    }
    files = MODELS | {
        "profiles.yml": json.dumps({"contract": {"target": "it", "outputs": {"it": profile}}}),
        "dbt_project.yml": json.dumps(project),
        "models/schema.yml": SCHEMA_YML.format(lake=target.lake, schema=schema),
    }
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text.lstrip())
    return Dbt(folder)


def good(results: dict[str, str]) -> bool:
    return set(results.values()) <= {"success", "pass"}


@pytest.fixture(scope="module")
def built(dbt: Dbt) -> Dbt:
    dbt("build")
    results = dbt.results()
    assert good(results), results
    assert len(results) == 16
    return dbt


def test_dbt_builds_everything_twice(built: Dbt, client: Client, target: Target, schema: str) -> None:
    lake = f"{target.lake}.{schema}"
    assert client.value(f"select count(*) from {lake}.inc_append") == 4
    built("build", "--vars", "{mark: 7}")
    assert good(built.results()), built.results()
    assert client.value(f"select count(*) from {lake}.inc_append") == 8
    assert client.rows(f"select count(*) as n, min(mark) as m from {lake}.inc_merge") == [{"n": 4, "m": 7}]
    assert client.value(f"select count(*) from {lake}.history") == 4
    assert client.value(f"select sum(population) from {target.space}.views.v_countries") == 135_000_000


def test_dbt_takes_a_changed_row_into_its_snapshot(built: Dbt, client: Client, target: Target, schema: str) -> None:
    lake = f"{target.lake}.{schema}"
    client.run(f"update {lake}.t_countries set name = 'Espana' where id = 4")
    built("snapshot")
    rows = client.rows(f"select name, dbt_valid_to is null as current_one from {lake}.history where id = 4 order by 2")
    assert rows == [{"name": "Spain", "current_one": False}, {"name": "Espana", "current_one": True}]


def test_dbt_persists_docs_and_tags(built: Dbt, client: Client, target: Target, schema: str) -> None:
    for path, text, tags in (
        ((target.space, "views", "v_countries"), "All countries", ["geo"]),
        ((target.lake, schema, "t_countries"), "Countries as a table", ["big", "geo"]),
    ):
        place = f"/api/v3/catalog/{client.entity(*path)['id']}/collaboration"
        assert text in client.http.get(f"{place}/wiki").json()["text"]
        assert sorted(client.http.get(f"{place}/tag").json()["tags"]) == tags


def test_dbt_makes_reflections(built: Dbt, client: Client, target: Target, schema: str) -> None:
    dataset = client.entity(target.lake, schema, "t_countries")
    listed = client.http.get(f"/api/v3/dataset/{dataset['id']}/reflection").json()["data"]
    assert sorted((r["name"], r["type"]) for r in listed) == [("r_agg", "AGGREGATION"), ("r_raw", "RAW")]
    for found in listed:
        until(lambda: client.reflection(found["id"])["status"]["availability"] == "AVAILABLE", "a build", 180)  # noqa: B023


def test_dbt_rebuilds_fully(built: Dbt, client: Client, target: Target, schema: str) -> None:
    built("build", "--full-refresh")
    assert good(built.results()), built.results()
    assert client.value(f"select count(*) from {target.lake}.{schema}.inc_append") == 4


def test_dbt_generates_docs(built: Dbt) -> None:
    built("docs", "generate")
    catalog = json.loads((built.folder / "target" / "catalog.json").read_text())
    table = catalog["nodes"]["model.contract.t_countries"]
    assert [column.lower() for column in table["columns"]] == ["id", "name", "continent", "population", "since"]
    assert "model.contract.v_countries" in catalog["nodes"]


def test_dbt_checks_freshness(built: Dbt) -> None:
    built("source", "freshness")
    (result,) = json.loads((built.folder / "target" / "sources.json").read_text())["results"]
    assert (result["status"], result["max_loaded_at"][:10]) == ("pass", "2024-04-01")


def test_a_failing_test_fails_dbt_with_its_rows(built: Dbt, client: Client, target: Target, schema: str) -> None:
    client.run(f"insert into {target.lake}.{schema}.t_countries select 5, 'Atlantis', 'Europe', -1, date '2024-05-01'")
    with pytest.raises(AssertionError, match=r"Got 1 result"):
        built("test", "--select", "no_negative")
