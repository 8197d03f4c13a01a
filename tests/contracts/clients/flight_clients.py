"""Runs in a venv of its own (clients-requirements.txt): other people's Flight clients, what they saw printed as JSON.

python flight_clients.py adbc|sqlalchemy HOST PORT USER PASSWORD SCHEMA
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable
from typing import Any

QUERY = (
    "select 9007199254740993 as big, cast(1.50 as decimal(12, 2)) as m, 'ü' as s, date '2024-02-29' as day,"
    " timestamp '2024-01-02 03:04:05.678' as ts, true as b, cast(null as varchar) as n"
)


def refused(call: Callable[[], Any]) -> str:
    """What the client says when a call fails; fails itself when it does not."""
    try:
        call()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    raise AssertionError("the call succeeded")


def adbc(host: str, port: str, user: str, password: str, schema: str) -> dict[str, Any]:
    """The ADBC Flight SQL driver through its DB-API."""
    from adbc_driver_flightsql import DatabaseOptions, dbapi

    uri = f"grpc://{host}:{port}"
    login = {"username": user, "password": password}
    found: dict[str, Any] = {}
    with dbapi.connect(uri, db_kwargs=login, autocommit=True) as connection, connection.cursor() as cursor:

        def run(sql: str, parameters: Any = None) -> list[Any]:
            cursor.execute(sql, parameters)
            return [list(row) for row in cursor.fetchall()]

        found["info"] = connection.adbc_get_info()["vendor_name"]
        found["ddl"] = run(f"create table {schema}.t (a bigint, b varchar, c double, d date, e timestamp)")
        found["empty"] = [run(f"select * from {schema}.t"), [column[0] for column in cursor.description]]
        row = (2**53 + 1, "it's", 0.1, "2024-02-29", "2024-01-02 03:04:05.678")
        cursor.execute(f"insert into {schema}.t values (?, ?, ?, cast(? as date), cast(? as timestamp))", row)
        found["inserted"] = [list(one) for one in cursor.fetchall()]
        cursor.executemany(f"insert into {schema}.t (a, b) values (?, ?)", [(1, None), (-2, "?"), (3, "x' or '1'='1")])
        found["many"] = cursor.rowcount
        found["bound"] = run(f"select a, b, c, d, e from {schema}.t where a = ? and b = ?", (2**53 + 1, "it's"))
        found["hostile"] = run(f"select a from {schema}.t where b = ?", ("x' or '1'='1",))
        found["null"] = run(f"select a from {schema}.t where b is null")
        cursor.execute(QUERY)
        found["types"] = [str(field.type) for field in cursor.fetch_arrow_table().schema]
        found["table_types"] = connection.adbc_get_table_types()
        found["schema"] = [str(field.type) for field in connection.adbc_get_table_schema("t", db_schema_filter=schema)]
        tree = connection.adbc_get_objects(depth="columns", db_schema_filter=schema, table_name_filter="t")
        found["objects"] = tree.read_all().to_pylist()
        found["count"] = refused(lambda: run("select ?, ?", (1,)))
        found["syntax"] = refused(lambda: run("selec 1"))
        found["missing"] = refused(lambda: run(f"select * from {schema}.nothing"))
        found["late"] = refused(lambda: run("select cast(v as int) as i from (values ('1'), ('x')) t(v)"))
        found["dropped"] = run(f"drop table {schema}.t")
    found["password"] = refused(lambda: dbapi.connect(uri, db_kwargs={**login, "password": "wrong"}))
    token = {DatabaseOptions.AUTHORIZATION_HEADER.value: "Bearer nonsense"}

    def with_token() -> None:
        with dbapi.connect(uri, db_kwargs=token, autocommit=True) as stranger, stranger.cursor() as cursor:
            cursor.execute("select 1")

    found["token"] = refused(with_token)
    return found


def sqlalchemy(host: str, port: str, user: str, password: str, schema: str) -> dict[str, Any]:
    """sqlalchemy-dremio, as Superset uses it."""
    import sqlalchemy as sa

    place = f"{host}:{port}/?UseEncryption=false"
    engine = sa.create_engine(f"dremio+flight://{user}:{password}@{place}")
    found: dict[str, Any] = {}
    with engine.connect() as connection:

        def run(sql: str) -> list[Any]:
            return [list(row) for row in connection.execute(sa.text(sql)).fetchall()]

        connection.execute(sa.text(f"create table {schema}.s as {QUERY}")).fetchall()
        found["rows"] = run(f"select * from {schema}.s")
        found["one_type"] = run(f"select big from {schema}.s")
        found["empty"] = run(f"select * from {schema}.s where 1 = 0")
        found["nulls"] = run("select cast(null as timestamp) as ts, cast(null as date) as d, cast(null as bigint) as i")
        inspector = sa.inspect(engine)
        found["schemas"] = inspector.get_schema_names()
        found["tables"] = inspector.get_table_names(schema)
        found["has"] = [engine.dialect.has_table(connection, name, schema) for name in ("s", "no")]
        found["columns"] = [[column["name"], str(column["type"])] for column in inspector.get_columns("s", schema)]
        found["views"] = inspector.get_view_names(schema)
        found["syntax"] = refused(lambda: run("selec 1"))
        connection.execute(sa.text(f"drop table {schema}.s")).fetchall()
    wrong = sa.create_engine(f"dremio+flight://{user}:wrong@{place}")
    found["password"] = refused(lambda: wrong.connect())
    return found


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    client = {"adbc": adbc, "sqlalchemy": sqlalchemy}[sys.argv[1]]
    print(json.dumps(client(*sys.argv[2:]), default=str))
