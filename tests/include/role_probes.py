"""What each action of the policy means on the wire, tried as one login: True when it works, False when it is refused.

Any other failure is an error: a refusal is recognised by the service's own words.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import boto3
import httpx
import psycopg
from adbc_driver_flightsql import DatabaseOptions, dbapi
from adbc_driver_manager import Error as AdbcError
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError
from psycopg.conninfo import make_conninfo

DENIED_S3 = {"AccessDenied", "403"}
DENIED_SQL = ("Access denied reading dataset", "does not have the privilege", "is not authorized to access")
DATASETS = {
    "read_bronze": "bronze.probe.rows",
    "read_tables": "lake.gold.probe",
    "read_operations": "ledger.lakehouse.receipts",
    "read_silver": "lakehouse.silver.probe",
    "read_gold": "lakehouse.gold.probe",
    "read_serving": "lakehouse.serving.probe",
}


@dataclass(frozen=True)
class Postgres:
    """`servers`: database to host and port, as psycopg takes them."""

    servers: dict[str, dict[str, Any]]
    password: Callable[[str], str]

    def tries(self, member: str, action: str) -> bool:
        database, statement = {
            "connect": ("lakehouse", "select 1"),
            "read_operations": ("lakehouse", "select * from lakehouse.receipts"),
            "write_operations": ("lakehouse", "update lakehouse.sync_ledger set rows_committed = 0"),
            "read_changes": ("lakehouse", "select * from speed.probe"),
            "read_source": ("retail", "select * from retail.probe"),
            "create_schemas": ("lakehouse", "create schema of_the_probe"),
        }[action]
        try:
            login = {"user": member, "password": self.password(member), "dbname": database}
            with psycopg.connect(make_conninfo(**self.servers[database], **login)) as conn:
                if action == "write_operations":
                    conn.execute("delete from lakehouse.receipts")
                conn.execute(statement.encode())
                conn.rollback()
        except psycopg.errors.InsufficientPrivilege:
            return False
        except psycopg.OperationalError as error:
            if "permission denied for database" in str(error):
                return False
            raise
        return True


class ObjectStore:
    """A member without an identity is nobody: it tries without a key, since no key can be made for it."""

    def __init__(self, store: Any) -> None:
        self._store, self._iam = store, store.client("iam")
        self._clients: dict[str, Any] = {}

    def _client(self, member: str) -> Any:
        if member not in self._clients:
            known = {user["UserName"] for user in self._iam.list_users()["Users"]}
            if member in known:
                key = self._iam.create_access_key(UserName=member)["AccessKey"]
                signed = {"aws_access_key_id": key["AccessKeyId"], "aws_secret_access_key": key["SecretAccessKey"]}
                config = Config(retries={"max_attempts": 1})
            else:
                signed, config = {}, Config(signature_version=UNSIGNED, retries={"max_attempts": 1})
            where = {"endpoint_url": self._store.endpoint_url, "region_name": "us-east-1"}
            self._clients[member] = boto3.client("s3", config=config, **where, **signed)
        return self._clients[member]

    def tries(self, member: str, action: str) -> bool:
        client, name = self._client(member), f"probe-{uuid.uuid4().hex[:8]}"
        bucket, prefix = ("lakehouse", "bronze/") if action.endswith("bronze") else ("warehouse", "")
        try:
            if action.startswith("read_"):
                keys = client.list_objects_v2(Bucket=bucket, Prefix=prefix)["Contents"]
                client.get_object(Bucket=bucket, Key=keys[0]["Key"])["Body"].read()
            elif action == "manage_buckets":
                client.create_bucket(Bucket=name)
                client.delete_bucket(Bucket=name)
            elif action == "write_tables":  # a table bucket takes tables' files only: one that is there, once more
                key = self._store.client("s3").list_objects_v2(Bucket=bucket)["Contents"][0]["Key"]
                body = self._store.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read()
                client.put_object(Bucket=bucket, Key=key, Body=body)
            else:
                client.put_object(Bucket=bucket, Key=f"{prefix}{name}", Body=b"1")
                client.delete_object(Bucket=bucket, Key=f"{prefix}{name}")
        except ClientError as error:
            if error.response["Error"]["Code"] in DENIED_S3:
                return False
            raise
        return True


def _statement(action: str, member: str) -> str:
    if action == "create_views":
        return f"create or replace view lakehouse.probe_of_{member} as select 1 as n"
    return f"select * from {DATASETS[action]}"


@dataclass(frozen=True)
class DremioRest:
    url: str
    password: Callable[[str], str]

    def tries(self, member: str, action: str) -> bool:
        with httpx.Client(base_url=self.url, timeout=120) as http:
            login = {"userName": member, "password": self.password(member)}
            token = http.post("/apiv2/login", json=login).raise_for_status().json()["token"]
            http.headers["Authorization"] = f"_dremio{token}"
            if action in ("manage_sources", "manage_users"):
                return self._manages(http, action, f"probe_{uuid.uuid4().hex[:8]}")
            job = http.post("/api/v3/sql", json={"sql": _statement(action, member)}).raise_for_status().json()["id"]
            while True:
                found = http.get(f"/api/v3/job/{job}").raise_for_status().json()
                if found["jobState"] in ("COMPLETED", "FAILED", "CANCELED"):
                    break
            return _refused(found["jobState"] == "COMPLETED", str(found.get("errorMessage")))

    @staticmethod
    def _manages(http: httpx.Client, action: str, name: str) -> bool:
        body: dict[str, Any] = {"entityType": "space", "name": name}
        path = "/api/v3/catalog" if action == "manage_sources" else "/api/v3/role"
        reply = http.post(path, json=body if action == "manage_sources" else {"name": name})
        if reply.status_code == httpx.codes.FORBIDDEN:
            return False
        http.delete(f"{path}/{reply.raise_for_status().json()['id']}").raise_for_status()
        return True


@dataclass(frozen=True)
class DremioFlight:
    uri: str
    password: Callable[[str], str]

    @contextlib.contextmanager
    def _cursor(self, member: str) -> Iterator[Any]:
        options = {"username": member, "password": self.password(member), DatabaseOptions.TLS_SKIP_VERIFY.value: "true"}
        with dbapi.connect(self.uri, db_kwargs=options, autocommit=True) as conn, conn.cursor() as cursor:
            yield cursor

    def tries(self, member: str, action: str) -> bool:
        with self._cursor(member) as cursor:
            try:
                cursor.execute(_statement(action, member))
                cursor.fetch_arrow_table()
            except AdbcError as error:
                return _refused(False, str(error))
        return True


def _refused(worked: bool, message: str) -> bool:
    if worked:
        return True
    assert any(words in message for words in DENIED_SQL), message
    return False
