"""Every square of the policy, tried live as each role: what is allowed works, what is not is refused.

Airflow's and Superset's squares need the whole platform: tests/e2e/test_roles.py.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from psycopg import sql

from include import ledger
from include.reconcile import dremio, postgres, s3
from include.reconcile.steps import MIGRATIONS
from include.specs import policy as spec
from include.specs.policy import Cell
from lakehouse_providers.dremio.administration import Administration
from lakehouse_providers.dremio.hook import DremioHook
from tests.include.role_probes import DATASETS, DremioFlight, DremioRest, ObjectStore, Postgres

POLICY = spec.load()
MEMBER = {member.role: member.name for member in POLICY.members}
FLIGHT_ACTIONS = (*DATASETS, "create_views")


def password(member: str) -> str:
    return f"Password-of-{member}-1"


def _connections(servers: dict[str, Any], store: Any, sql_server: Any) -> dict[str, dict[str, Any]]:
    s3_keys = {"login": store.access_key, "password": store.secret_key}
    endpoint = {"endpoint_url": store.endpoint_url, "region_name": "us-east-1"}
    found: dict[str, dict[str, Any]] = {
        "logins": {"conn_type": "generic", "extra": {name: password(name) for name in MEMBER.values()}},
        "lake_s3": {"conn_type": "aws", **s3_keys, "host": store.endpoint_url, "extra": endpoint},
        "lake_catalog": {
            "conn_type": "http",
            **s3_keys,
            "host": store.iceberg_uri,
            "extra": {"warehouse": store.warehouse},
        },
        "dremio": {
            "conn_type": "dremio",
            "host": "127.0.0.1",
            "port": sql_server.port,
            "login": "admin",
            "password": "dremio123",
            "extra": {"use_ssl": False, "flight_port": sql_server.flight_port},
        },
    }
    for name, server in servers.items():
        place = {"conn_type": "postgres", "host": "127.0.0.1", "port": server.port, "schema": name}
        for suffix, role in (("", name), ("_admin", "lakehouse_admin")):
            secret = server.layout.roles[role].password
            found[f"{name}{suffix}"] = {**place, "login": role, "password": secret}
    return found


def _seed(servers: dict[str, Any], store: Any) -> None:
    """A row wherever a square of the policy looks for one."""
    with psycopg.connect(servers["lakehouse"].dsn("lakehouse"), row_factory=psycopg.rows.dict_row) as conn:
        conn.execute("drop schema if exists lakehouse cascade")
        ledger.migrate(conn, MIGRATIONS)
        conn.execute("create table if not exists speed.probe (n int)")
    with psycopg.connect(servers["retail"].dsn("retail")) as conn:
        conn.execute("create table if not exists retail.probe (n int)")
    sink = io.BytesIO()
    pq.write_table(pa.table({"n": [1]}), sink)
    store.client("s3").put_object(Bucket="lakehouse", Key="bronze/probe/rows/1.parquet", Body=sink.getvalue())


def _publish(hook: DremioHook) -> None:
    hook.run_sql("alter table bronze.probe.rows refresh metadata auto promotion")
    hook.run_sql("create folder if not exists lake.gold")
    hook.run_sql("drop table if exists lake.gold.probe")
    hook.run_sql("create table lake.gold.probe as select 1 as n")
    for layer in ("silver", "gold", "serving"):
        hook.run_sql(f"create or replace view lakehouse.{layer}.probe as select n from lake.gold.probe")


def _clean(servers: dict[str, Any], store: Any, hook: DremioHook) -> None:
    with hook.client() as client:
        client_admin = Administration(client)
        hook.run_sql("drop table if exists lake.gold.probe")
        for name in ("lakehouse", "bronze", "lake", "ledger"):
            if there := client.catalog_by_path([name]):
                client.delete_catalog(there["id"], there["tag"])
        for role in POLICY.roles:
            client_admin.delete_role(f"policy_{role}")
    store.client("s3").delete_object(Bucket="lakehouse", Key="bronze/probe/rows/1.parquet")
    iam = store.client("iam")
    for name in {user["UserName"] for user in iam.list_users()["Users"]} & set(MEMBER.values()):
        for policy in iam.list_user_policies(UserName=name)["PolicyNames"]:
            iam.delete_user_policy(UserName=name, PolicyName=policy)
        for key in iam.list_access_keys(UserName=name)["AccessKeyMetadata"]:
            iam.delete_access_key(UserName=name, AccessKeyId=key["AccessKeyId"])
        iam.delete_user(UserName=name)
    for database, server in servers.items():
        with psycopg.connect(server.superuser_dsn(database), autocommit=True) as root:
            root.execute("drop table if exists speed.probe, retail.probe")
            for role in [*MEMBER.values(), *(f"policy_{name}" for name in POLICY.roles)]:
                root.execute(sql.SQL("drop owned by {0} cascade; drop role {0}").format(sql.Identifier(role)))


@pytest.fixture(scope="module")
def services(
    platform_postgres: Any, source_postgres: Any, object_store: Any, sql_server: Any
) -> Iterator[dict[str, Any]]:
    """PostgreSQL, S3 and Dremio with the shipped policy applied, and a way to try each as a member."""
    servers = {"lakehouse": platform_postgres, "retail": source_postgres}
    with pytest.MonkeyPatch.context() as patch:
        for name, fields in _connections(servers, object_store, sql_server).items():
            patch.setenv(f"AIRFLOW_CONN_{name.upper()}", json.dumps(fields))
        _seed(servers, object_store)
        hook = DremioHook()
        clients = (object_store.client("s3"), object_store.client("iam"))
        try:
            s3.run(*clients, apply=True)
            postgres.run(apply=True)
            dremio.run(hook, apply=True)
            _publish(hook)
            assert [c for c in dremio.run(hook, apply=False) if c.differs] == []
            places = {name: {"host": "127.0.0.1", "port": server.port} for name, server in servers.items()}
            yield {
                "hook": hook,
                "postgres": Postgres(places, password),
                "s3": ObjectStore(object_store),
                "dremio": DremioRest(sql_server.url, password),
                "flight": DremioFlight(f"grpc://127.0.0.1:{sql_server.flight_port}", password),
            }
        finally:
            _clean(servers, object_store, hook)


def _cells(service: str, way: str) -> list[Any]:
    found = [cell for cell in POLICY.cells(service) if way != "flight" or cell.action in FLIGHT_ACTIONS]
    return [pytest.param(way, cell, id=f"{way}-{cell.role}-{cell.action}") for cell in found]


CELLS = [*_cells("postgres", "postgres"), *_cells("s3", "s3"), *_cells("dremio", "dremio"), *_cells("dremio", "flight")]


@pytest.mark.parametrize(("way", "cell"), CELLS)
def test_a_role_can_do_what_the_policy_says_and_nothing_else(services: dict[str, Any], way: str, cell: Cell) -> None:
    assert services[way].tries(MEMBER[cell.role], cell.action) is cell.allowed


def test_there_are_enough_squares_of_both_kinds() -> None:
    assert len(CELLS) >= 80
    allowed = [cell.values[1].allowed for cell in CELLS]
    assert allowed.count(True) >= 40
    assert allowed.count(False) >= 40


def test_a_grant_by_hand_is_drift_and_is_taken_back(services: dict[str, Any]) -> None:
    hook = services["hook"]
    hook.run_sql("grant select on folder lakehouse.gold to role policy_viewer")
    hook.run_sql("grant select on table lake.gold.probe to user viewer")
    assert services["dremio"].tries("viewer", "read_gold")
    drift = [str(change) for change in dremio.run(hook, apply=True) if change.differs]
    assert drift == [
        "update grants lakehouse.gold\n    - role policy_viewer SELECT",
        "delete grants lake.gold.probe\n    - user viewer SELECT",
    ]
    assert not services["dremio"].tries("viewer", "read_gold")
    assert not services["flight"].tries("viewer", "read_tables")
    assert [c for c in dremio.run(hook, apply=False) if c.differs] == []
