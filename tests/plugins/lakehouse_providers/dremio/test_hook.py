from __future__ import annotations

import datetime as dt
import ipaddress
import json
import socket
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from airflow.sdk import Connection

from lakehouse_providers.dremio import errors
from lakehouse_providers.dremio.connection import base_url
from lakehouse_providers.dremio.hook import DremioHook
from tests.plugins.lakehouse_providers.dremio.flight_server import FlightServer


def connection(**fields: Any) -> Connection:
    extra = fields.pop("extra", {})
    return Connection(conn_id="dremio", conn_type="dremio", extra=json.dumps(extra), **fields)


def self_signed() -> tuple[str, str]:
    """A certificate for 127.0.0.1 and its key, as PEM."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    pem, none = serialization.Encoding.PEM, serialization.NoEncryption()
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, none)
    return certificate.public_bytes(pem).decode(), secret.decode()


@pytest.mark.parametrize(
    ("fields", "url"),
    [
        ({"host": "dremio"}, "https://dremio:9047"),
        ({"host": "dremio", "port": 80, "extra": {"use_ssl": False}}, "http://dremio:80"),
        ({"host": "dremio", "extra": {"use_ssl": "false"}}, "http://dremio:9047"),
        ({"host": "http://dremio:1234/sub/"}, "http://dremio:1234/sub"),
        ({"host": "::1".join("[]"), "port": 1}, "https://[::1]:1"),
    ],
)
def test_address(fields: dict[str, Any], url: str) -> None:
    assert base_url(connection(**fields)) == url


def test_rows_in_one_call(dremio: Any) -> None:
    dremio.results["t"] = [{"a": 1}]
    assert DremioHook().run_sql("SELECT a FROM t") == [{"a": 1}]


def test_the_test_really_logs_in(dremio: Any) -> None:
    ok, message = DremioHook().test_connection()
    assert ok, message
    assert dremio.logins == 1


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"password": "wrong"}, "Login or Password is wrong"),
        ({"password": None}, "Password is empty"),
        ({"login": None}, "Login is empty"),
        ({"host": ""}, "Host is empty"),
        ({"host": "ftp://x"}, "Host 'ftp://x'"),
        ({"extra": {"use_ssl": "maybe"}}, "use_ssl"),
        ({"extra": {"use_ssl": False, "timeout": -1}}, "timeout"),
        ({"extra": {"use_ssl": False, "pat": "expired"}}, "pat in Extra is refused"),
        ({"extra": {"use_ssl": True}}, "use_ssl"),
    ],
)
def test_a_failed_test_names_the_field(
    dremio: Any, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], field: str
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_DREMIO", dremio.connection(**changes))
    ok, message = DremioHook().test_connection()
    assert not ok
    assert field in message
    assert "correct" not in message.replace("incorrect", ""), "a message must not show the password"


def test_a_port_where_nothing_listens(dremio: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    monkeypatch.setenv("AIRFLOW_CONN_DREMIO", dremio.connection(port=port))
    ok, message = DremioHook().test_connection()
    assert (ok, "check Host and Port" in message) == (False, True)


def test_a_server_that_is_something_else(dremio: Any, monkeypatch: pytest.MonkeyPatch, wire: Any, reply: Any) -> None:
    other = wire(lambda request: reply(404, "<h1>Not here</h1>"))
    monkeypatch.setenv("AIRFLOW_CONN_DREMIO", dremio.connection(port=other.port))
    ok, message = DremioHook().test_connection()
    assert (ok, "not Dremio's REST" in message) == (False, True)


def test_airflow_finds_the_hook_and_its_form() -> None:
    from airflow.providers_manager import ProvidersManager

    manager = ProvidersManager()
    found = manager.hooks["dremio"]
    assert found is not None
    assert found.hook_class_name == "lakehouse_providers.dremio.hook.DremioHook"
    assert "extra__dremio__use_ssl" in manager.connection_form_widgets
    assert manager.connection_form_widgets["extra__dremio__pat"].is_sensitive
    assert manager.field_behaviours["dremio"]["relabeling"] == {"login": "User"}


def test_links_use_the_address_that_people_use(dremio: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    extra = {"use_ssl": False, "ui_url": "https://dremio.example.com/"}
    monkeypatch.setenv("AIRFLOW_CONN_DREMIO", dremio.connection(extra=extra))
    assert DremioHook().job_url("j") == "https://dremio.example.com/job/j"


def test_a_wrong_statement_says_why(dremio: Any) -> None:
    dremio.broken["nothing"] = "Object 'nothing' not found"
    with pytest.raises(errors.DremioJobFailedError, match="Object 'nothing' not found"):
        DremioHook().run_sql("SELECT * FROM nothing")


# Queries over Flight


def test_records_come_over_flight(dremio: Any) -> None:
    dremio.flight.results["FROM t"] = pa.table({"a": [1, 2], "b": ["x", None]})
    hook = DremioHook()
    assert hook.get_records("SELECT a, b FROM t") == [(1, "x"), (2, None)]
    assert hook.get_first("SELECT a, b FROM t") == (1, "x")
    assert [column[0] for column in hook.last_description or []] == ["a", "b"]
    assert dremio.wire.requests == [], "a query needs no REST"


def test_several_statements_and_a_handler(dremio: Any) -> None:
    dremio.flight.results["two"] = pa.table({"n": [2]})
    text = "SELECT 1; SELECT 'a;b' AS two;"
    found = DremioHook().run(text, split_statements=True, return_last=False, handler=lambda cursor: cursor.fetchall())
    assert found == [[(1,)], [(2,)]]
    assert dremio.flight.statements == ["SELECT 1", "SELECT 'a;b' AS two"]


def test_nothing_is_committed_or_rolled_back(dremio: Any, recwarn: pytest.WarningsRecorder) -> None:
    hook = DremioHook()
    hook.run("INSERT INTO t VALUES (1)", autocommit=False)
    assert hook.get_autocommit(None) is True
    assert not [str(w.message) for w in recwarn if "autocommit" in str(w.message)]


def test_parameters_are_written_as_literals(dremio: Any) -> None:
    DremioHook().get_records("SELECT '?' FROM t WHERE a = ? AND b = ? -- ?", parameters=("O'Hara", 1))
    assert dremio.flight.statements == ["SELECT '?' FROM t WHERE a = 'O''Hara' AND b = 1 -- ?"]


def test_a_result_arrives_in_batches(dremio: Any) -> None:
    pieces = [pa.table({"n": list(range(start, start + 4))}) for start in (0, 4, 8)]
    dremio.flight.results["FROM t"] = pa.concat_tables(pieces)
    hook = DremioHook()
    assert [batch.num_rows for batch in hook.arrow_batches("SELECT n FROM t")] == [4, 4, 4]
    assert hook.get_arrow("SELECT n FROM t")["n"].to_pylist() == list(range(12))


def test_an_empty_result_keeps_its_columns(dremio: Any) -> None:
    dremio.flight.results["FROM t"] = pa.schema([("a", pa.int64()), ("b", pa.string())]).empty_table()
    found = DremioHook().get_arrow("SELECT a, b FROM t")
    assert (found.num_rows, found.column_names) == (0, ["a", "b"])
    assert DremioHook().get_records("SELECT a, b FROM t") == []


def test_data_frames(dremio: Any) -> None:
    dremio.flight.results["FROM t"] = pa.table({"n": list(range(5)), "d": [Decimal("1.10")] * 5})
    hook = DremioHook()
    frame = hook.get_df("SELECT n, d FROM t")
    assert frame["d"].sum() == Decimal("5.50")
    assert [len(piece) for piece in hook.get_df_by_chunks("SELECT n FROM t", chunksize=2)] == [2, 2, 1]


def test_a_missing_library_is_named(dremio: Any) -> None:
    with pytest.raises(errors.DremioConfigurationError, match=r"polars is not installed.*get_arrow"):
        DremioHook().get_df("SELECT n FROM t", df_type="polars")


def test_rows_are_inserted_many_at_a_time(dremio: Any) -> None:
    """Each statement is a snapshot of the table."""
    DremioHook().insert_rows("lake.t", ((n, f"it's {n}") for n in range(5)), ["id", 'na"me'], commit_every=2)
    assert dremio.flight.statements == [
        'INSERT INTO "lake"."t" ("id", "na""me") VALUES (0, \'it\'\'s 0\'), (1, \'it\'\'s 1\')',
        'INSERT INTO "lake"."t" ("id", "na""me") VALUES (2, \'it\'\'s 2\'), (3, \'it\'\'s 3\')',
        'INSERT INTO "lake"."t" ("id", "na""me") VALUES (4, \'it\'\'s 4\')',
    ]
    with pytest.raises(errors.DremioConfigurationError, match="MERGE"):
        DremioHook().insert_rows("t", [(1,)], replace=True)


def test_a_failing_query_raises_dremios_words(dremio: Any) -> None:
    dremio.flight.results["nowhere"] = pa.ArrowInvalid("Object 'nowhere' not found within 'lake'")
    for call in (DremioHook().get_records, DremioHook().get_arrow):
        with pytest.raises(errors.DremioStatementError, match="Object 'nowhere' not found"):
            call("SELECT * FROM nowhere")


def test_flight_signs_in_by_token_where_rest_does(dremio: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    dremio.flight.tokens.add("my-pat")
    extra = {"use_ssl": False, "pat": "my-pat", "engine": "big", "routing_tag": "etl"}
    monkeypatch.setenv("AIRFLOW_CONN_DREMIO", dremio.connection(extra=extra))
    assert DremioHook().get_first("SELECT 1") == (1,)
    assert dremio.flight.headers[-1]["authorization"] == "Bearer my-pat"
    assert dremio.flight.headers[-1]["routing_engine"] == "big"
    assert dremio.flight.headers[-1]["routing_tag"] == "etl"


def test_flight_over_tls(dremio: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Trusted by its CA, not trusted without it, and trusted blindly only where that was asked for."""
    certificate, key = self_signed()
    (tmp_path / "ca.pem").write_text(certificate)
    server = FlightServer(dremio.flight, (certificate, key))

    def first(**extra: Any) -> Any:
        chosen = {"flight_port": server.port, "use_encryption": True, **extra}
        monkeypatch.setenv("AIRFLOW_CONN_DREMIO", dremio.connection(extra=chosen))
        return DremioHook().get_first("SELECT 1")

    assert first(verify_ssl=str(tmp_path / "ca.pem")) == (1,)
    assert first(disable_certificate_verification=True) == (1,)
    with pytest.raises(errors.DremioUnreachableError, match="certificate"):
        first()
    with pytest.raises(errors.DremioConfigurationError, match="verify_ssl in Extra names no readable PEM"):
        first(verify_ssl=str(tmp_path / "absent.pem"))
    server.shutdown()


def test_the_test_signs_in_over_flight_too(dremio: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    ok, message = DremioHook().test_connection()
    assert (ok, f"grpc://127.0.0.1:{dremio.flight_port}" in message) == (True, True)
    dremio.flight.users.clear()
    ok, message = DremioHook().test_connection()
    assert (ok, "refuses the credentials that REST takes" in message) == (False, True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    monkeypatch.setenv("AIRFLOW_CONN_DREMIO", dremio.connection(extra={"flight_port": port}))
    ok, message = DremioHook().test_connection()
    assert (ok, "check flight_port" in message) == (False, True)
    monkeypatch.setenv("AIRFLOW_CONN_DREMIO", dremio.connection(extra={"flight_port": 0}))
    ok, message = DremioHook().test_connection()
    assert (ok, "Flight is switched off" in message) == (True, True)
    with pytest.raises(errors.DremioConfigurationError, match="no Flight port"):
        DremioHook().get_records("SELECT 1")
