"""A SQL server of the session's own, and a client that sees it as other people's clients do."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg

PROJECT = Path(__file__).resolve().parent.parent


class Dremio:
    """The SQL server as a client sees it."""

    def __init__(self, port: int, user: str, password: str) -> None:
        self.port, self.user, self.password = port, user, password
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60)
        reply = self.http.post("/apiv2/login", json={"userName": user, "password": password})
        reply.raise_for_status()
        self.http.headers["Authorization"] = f"_dremio{reply.json()['token']}"

    def sql(self, statement: str) -> list[dict[str, Any]]:
        """Runs a statement and gives all of its rows; fails with Dremio's message."""
        job = self.http.post("/api/v3/sql", json={"sql": statement}).raise_for_status().json()["id"]
        while (state := self.http.get(f"/api/v3/job/{job}").json())["jobState"] not in (
            "COMPLETED",
            "FAILED",
            "CANCELED",
        ):
            pass
        assert state["jobState"] == "COMPLETED", f"{state.get('errorMessage')}\n{statement}"
        rows: list[dict[str, Any]] = []
        while True:
            page = self.http.get(f"/api/v3/job/{job}/results", params={"offset": len(rows), "limit": 500})
            page.raise_for_status()
            rows += page.json()["rows"]
            if len(rows) >= page.json()["rowCount"]:
                return rows

    def one(self, statement: str) -> Any:
        """The only value of the only row."""
        ((value,),) = (row.values() for row in self.sql(statement))
        return value

    def entity(self, body: dict[str, Any]) -> None:
        reply = self.http.post("/api/v3/catalog", json=body)
        assert reply.status_code in (200, 409), reply.text

    def content(self, path: str, order: str) -> list[dict[str, Any]]:
        """Every public column of every row: what a hash of the table would cover."""
        rows = self.sql(f"select * from {path} order by {order}")
        return [{name: value for name, value in row.items() if not name.startswith("_")} for row in rows]

    def snapshots(self, path: str) -> int:
        return int(self.one(f"select count(*) from table(table_snapshot('{path}'))"))


def iceberg_config(store: Any, access_key: str = "", secret_key: str = "") -> dict[str, Any]:
    """The object store's Iceberg catalog as a RESTCATALOG source; with other keys than the store's own if given."""
    access, secret = access_key or store.access_key, secret_key or store.secret_key
    return {
        "restEndpointUri": store.iceberg_uri,
        "propertyList": [
            {"name": "warehouse", "value": store.warehouse},
            {"name": "fs.s3a.endpoint", "value": store.endpoint},
            {"name": "fs.s3a.path.style.access", "value": "true"},
            {"name": "fs.s3a.connection.ssl.enabled", "value": "false"},
            {"name": "fs.s3a.endpoint.region", "value": "us-east-1"},
        ],
        "secretPropertyList": [
            {"name": "fs.s3a.access.key", "value": access},
            {"name": "fs.s3a.secret.key", "value": secret},
            {"name": "credential", "value": f"{access}:{secret}"},
        ],
    }


def _sources(lake_postgres: str, store: Any) -> Iterator[dict[str, Any]]:
    parts = psycopg.conninfo.conninfo_to_dict(lake_postgres)
    yield {
        "name": "bronze",
        "type": "S3",
        "config": {
            "credentialType": "ACCESS_KEY",
            "accessKey": store.access_key,
            "accessSecret": store.secret_key,
            "secure": False,
            "rootPath": "/lakehouse/bronze",
            "propertyList": [
                {"name": "fs.s3a.path.style.access", "value": "true"},
                {"name": "fs.s3a.endpoint", "value": store.endpoint},
            ],
        },
    }
    yield {
        "name": "lake",
        "type": "RESTCATALOG",
        "config": iceberg_config(store),
    }
    yield {
        "name": "ledger",
        "type": "POSTGRES",
        "config": {
            "hostname": parts["host"],
            "port": str(parts["port"]),
            "databaseName": parts["dbname"],
            "username": parts["user"],
            "password": parts["password"],
            "authenticationType": "MASTER",
        },
    }


def serve(services_home: Any, platform_postgres: Any, object_store: Any) -> Iterator[Dremio]:
    """A SQL server of our own with the sources `bronze`, `lake` and `ledger`."""
    from embedded.ports import assign
    from embedded.programs import Child, Program

    port = assign(["sql"]).ports["sql"]
    scratch = services_home.root / "sql-scratch"
    scratch.mkdir(exist_ok=True)
    program = Program(
        name="sql",
        argv=(sys.executable, "-m", "embedded.sql"),
        cwd=PROJECT,
        environment={
            "LAKEHOUSE_SQL_PORT": str(port),
            "LAKEHOUSE_SQL_FLIGHT_PORT": "off",
            "LAKEHOUSE_SQL_DATABASE_URL": platform_postgres.dsn("sqlserver"),
            "LAKEHOUSE_SQL_ADMIN_USER": "admin",
            "LAKEHOUSE_SQL_ADMIN_PASSWORD": "a-password-of-tests-1",
            "LAKEHOUSE_SQL_DIST": "s3://lakehouse-dist",
            "LAKEHOUSE_SQL_DIST_ENDPOINT": object_store.endpoint,
            "LAKEHOUSE_SQL_DIST_ACCESS_KEY": object_store.access_key,
            "LAKEHOUSE_SQL_DIST_SECRET_KEY": object_store.secret_key,
            "LAKEHOUSE_SQL_SCRATCH": str(scratch),
            "LAKEHOUSE_SQL_SECRET_KEY": "dGhlLWtleS1vZi10ZXN0cy1pcy0zMi1ieXRlcy1sbmc=",
        },
    )
    child = Child.start(program, services_home.log("sql"))
    try:
        child.wait_ready(lambda: _is_up(port))
        client = Dremio(port, "admin", "a-password-of-tests-1")
        client.entity({"entityType": "space", "name": "lakehouse"})
        for source in _sources(platform_postgres.dsn("lakehouse"), object_store):
            client.entity({"entityType": "source", **source})
        yield client
        client.http.close()
    finally:
        child.stop()


def _is_up(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/apiv2/server_status").status_code == 200
    except httpx.HTTPError:
        return False
