"""Flight with a plain pyarrow client: the legacy form (a descriptor holds SQL), sessions, errors, jobs, cancelling."""

from __future__ import annotations

import base64
import datetime as dt
import decimal
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from pyarrow import flight

from embedded import certificates
from embedded.sql.flight import messages, wire
from tests.embedded.sql.flight_client import FlightClient
from tests.embedded.sql.process import PASSWORD, USER, Client, SqlProcess, rest_source, until

if TYPE_CHECKING:
    from embedded.object_store import ObjectStore


@pytest.fixture(scope="module")
def rpc(server: SqlProcess) -> FlightClient:
    return FlightClient(server.flight_port)


def last_job(client: Client, sql: str) -> dict[str, Any]:
    """The newest job with this text, as sys.jobs_recent shows it."""
    literal = sql.replace("'", "''")
    rows = client.rows(f"select * from sys.jobs_recent where query = '{literal}' order by submitted_ts desc")
    return rows[0]


# Results ------------------------------------------------------------------------------------------------------------

TYPES = """
select cast(1 as boolean) as b, 1 as i, cast(9007199254740993 as bigint) as big, cast(1.5 as float) as f,
  cast(0.1 as double) as d, cast(123456789012345678901234567890.12 as decimal(38, 2)) as m, 'ü''x' as s,
  from_hex('00ff') as bin, date '2024-02-29' as day, cast('12:34:56.789' as time) as t,
  timestamp '1969-12-31 23:59:59.999' as ts, array[1, null, 3] as l,
  sum(cast(3000000000 as bigint)) as total, count(*) as n
"""


def test_every_type_arrives_as_dremio_gives_it(rpc: FlightClient) -> None:
    table = rpc.table(TYPES)
    assert [str(field.type) for field in table.schema] == [
        "bool",
        "int32",
        "int64",
        "float",
        "double",
        "decimal128(38, 2)",
        "string",
        "binary",
        "date32[day]",
        "time32[ms]",
        "timestamp[ms]",
        "list<item: int32>",
        "int64",
        "int64",
    ]
    (row,) = table.to_pylist()
    assert row["big"] == 9007199254740993
    assert row["m"] == decimal.Decimal("123456789012345678901234567890.12")
    assert (row["s"], row["bin"]) == ("ü'x", b"\x00\xff")
    assert (row["day"], row["t"]) == (dt.date(2024, 2, 29), dt.time(12, 34, 56, 789000))
    assert row["ts"] == dt.datetime(1969, 12, 31, 23, 59, 59, 999000)  # noqa: DTZ001 - Dremio's have no zone
    assert (row["l"], row["total"]) == ([1, None, 3], 3000000000)


def test_a_client_without_complex_types_gets_texts(server: SqlProcess) -> None:
    rpc = FlightClient(server.flight_port, headers={"supports_complex_types": "false"})
    info = rpc.info("select array[1, null, 3] as l, 7 as n union all select null, 8 order by n")
    assert info.schema == pa.schema([("l", pa.string()), ("n", pa.int32())])
    assert rpc.fetch(info).to_pylist() == [{"l": "[1,null,3]", "n": 7}, {"l": None, "n": 8}]


def test_nulls_of_every_type(rpc: FlightClient) -> None:
    kinds = ["boolean", "int", "bigint", "float", "double", "decimal(10, 3)", "varchar", "varbinary", "date", "time"]
    kinds.append("timestamp")
    columns = ", ".join(f"cast(null as {kind}) as c{i}" for i, kind in enumerate(kinds))
    table = rpc.table(f"select {columns}")
    assert table.to_pylist() == [{f"c{i}": None for i in range(len(kinds))}]
    assert not any(pa.types.is_null(field.type) for field in table.schema)


def test_an_empty_result_has_its_columns_and_one_batch(rpc: FlightClient) -> None:
    batches = list(rpc.reader("select 1 as a, 'x' as b where 1 = 0"))
    assert [batch.data.num_rows for batch in batches] == [0]
    assert batches[0].data.schema.names == ["a", "b"]


def test_a_sum_above_bigint_is_an_error(rpc: FlightClient) -> None:
    with pytest.raises(flight.FlightInternalError, match="Numeric overflow in column 's'"):
        rpc.table("select sum(v) as s from (values (9223372036854775807), (1)) t(v)")


def test_names_that_repeat_are_numbered(rpc: FlightClient) -> None:
    assert rpc.table("select 1 as id, 2 as id").schema.names == ["id", "id0"]


def test_the_schema_alone(rpc: FlightClient) -> None:
    descriptor = flight.FlightDescriptor.for_command(b"select 1 as a, 'x' as b")
    assert rpc.client.get_schema(descriptor, rpc.options).schema.names == ["a", "b"]


def test_commands_run_once_and_tell_their_columns_before(rpc: FlightClient, lake: str) -> None:
    home = f'"@{USER}"'
    expected = {
        f"create table {lake}.once (a int, b varchar)": [{"ok": True, "summary": "Table created"}],
        f"insert into {lake}.once values (1, 'x'), (2, null)": [{"Records": 2}],
        f"select a, b from {lake}.once order by a": [{"a": 1, "b": "x"}, {"a": 2, "b": None}],
        f"update {lake}.once set b = 'y' where a = 2": [{"Records": 1}],
        f"merge into {lake}.once t using (select 3 as a) s on t.a = s.a"
        " when not matched then insert (a, b) values (s.a, 'z')": [{"Records": 1}],
        f"delete from {lake}.once where a = 1": [{"Records": 1}],
        f"alter table {lake}.once add columns (c double)": None,
        f"create view {home}.once_view as select a from {lake}.once": None,
        f"drop view {home}.once_view": None,
        f"create table {lake}.once_more as select * from {lake}.once": [{"Records": 2}],
        f"truncate table {lake}.once_more": None,
        f"drop table {lake}.once_more": None,
        f"drop table {lake}.once": [{"ok": True, "summary": f"Table [{lake}.once] dropped"}],
    }
    for sql, rows in expected.items():
        info = rpc.info(sql)
        table = rpc.fetch(info)
        assert info.schema is not None, sql
        assert info.schema.equals(table.schema), sql
        assert rows in (None, table.to_pylist()), sql


def test_a_command_waits_for_its_reader(rpc: FlightClient, lake: str) -> None:
    rpc.info(f"create table {lake}.never (a int)")
    with pytest.raises(pa.ArrowInvalid, match="not found"):
        rpc.table(f"select * from {lake}.never")


def test_a_ticket_can_be_used_again(rpc: FlightClient) -> None:
    info = rpc.info("select 7 as seven")
    assert [rpc.fetch(info).to_pylist() for _ in range(3)] == [[{"seven": 7}]] * 3


# Who calls ----------------------------------------------------------------------------------------------------------


def test_a_wrong_password_and_wrong_tokens(server: SqlProcess, rpc: FlightClient) -> None:
    plain = flight.connect(("127.0.0.1", server.flight_port))
    for name, password in ((USER, "wrong"), ("nobody", PASSWORD), ("", "")):
        with pytest.raises(flight.FlightUnauthenticatedError, match="Invalid username or password"):
            plain.authenticate_basic_token(name, password)
    for header in ([], [(b"authorization", b"Bearer x")], [(b"authorization", b"Basic !")], [(b"authorization", b"")]):
        with pytest.raises(flight.FlightUnauthenticatedError):
            plain.get_flight_info(
                flight.FlightDescriptor.for_command(b"select 1"), flight.FlightCallOptions(headers=header)
            )


def test_credentials_that_a_client_sends_without_padding(server: SqlProcess, client: Client) -> None:
    """ADBC's driver does, whatever the length of name and password."""
    for length in (1, 2, 3):
        name = "unpadded"[:length] + uuid.uuid4().hex[:6]
        client.http.post("/api/v3/user", json={"name": name, "password": "Password-123"}).raise_for_status()
        encoded = base64.b64encode(f"{name}:Password-123".encode()).rstrip(b"=")
        options = flight.FlightCallOptions(headers=[(b"authorization", b"Basic " + encoded)])
        plain = flight.connect(("127.0.0.1", server.flight_port))
        assert plain.get_flight_info(flight.FlightDescriptor.for_command(b"select 1"), options) is not None


def test_personal_and_login_tokens(server: SqlProcess, client: Client) -> None:
    place = f"/api/v3/user/{client.login['userId']}/token"
    pat = client.http.post(place, json={"label": "flight", "millisecondsToExpire": 60_000}).text
    for token in (pat, client.login["token"]):
        assert FlightClient(server.flight_port, token=token).table("select 1 as a").to_pylist() == [{"a": 1}]
    client.http.delete(place)
    with pytest.raises(flight.FlightUnauthenticatedError):
        FlightClient(server.flight_port, token=pat).table("select 1")


def test_an_expired_token(make_server: Callable[..., SqlProcess]) -> None:
    server = make_server(FAULTS="{}").start()
    rpc = FlightClient(server.flight_port)
    info = rpc.info("select 1 as a")
    assert server.client().http.post("/faults", json={"expire_tokens": True}).status_code == 200
    with pytest.raises(flight.FlightUnauthenticatedError, match="expired"):
        rpc.fetch(info)
    assert FlightClient(server.flight_port).table("select 2 as a").to_pylist() == [{"a": 2}]


def test_the_schema_header_and_use(server: SqlProcess, rpc: FlightClient, lake: str) -> None:
    rpc.table(f"create table {lake}.mine as select 5 as five")
    with_header = FlightClient(server.flight_port, headers={"schema": lake})
    assert with_header.table("select five from mine").to_pylist() == [{"five": 5}]
    with_cookie = FlightClient(server.flight_port, cookies=True)
    with pytest.raises(pa.ArrowInvalid, match="Object 'mine' not found"):
        with_cookie.table("select five from mine")
    with_cookie.table(f"use {lake}")
    assert with_cookie.table("select five from mine").to_pylist() == [{"five": 5}]
    assert server.client().rows("select five from mine", lake.split(".")) == [{"five": 5}]
    with pytest.raises(pa.ArrowInvalid, match="Object 'mine' not found"):
        rpc.table("select five from mine")  # another session
    rpc.table(f"drop table {lake}.mine")


@pytest.mark.parametrize(
    ("quoting", "name"), [("BACK_TICK", "`a ``b`"), ("BRACKET", "[a ]]b]"), ("DOUBLE_QUOTE", '"a b"')]
)
def test_the_quoting_header(server: SqlProcess, quoting: str, name: str) -> None:
    rpc = FlightClient(server.flight_port, headers={"quoting": quoting})
    table = rpc.table(f"select '`[x' as {name} /* ` [ */ -- `\n")
    expected = {"BACK_TICK": "a `b", "BRACKET": "a ]b", "DOUBLE_QUOTE": "a b"}[quoting]
    assert table.to_pylist() == [{expected: "`[x"}]


def test_wrong_headers_say_what_is_wrong(server: SqlProcess) -> None:
    for headers, words in (({"quoting": "SINGLE"}, "BACK_TICK"), ({"schema": "a..b"}, r"\[a\.\.b\] is not a path")):
        with pytest.raises(flight.FlightError, match=words):
            FlightClient(server.flight_port, headers=headers).table("select 1")


def test_tls(make_server: Callable[..., SqlProcess], tmp_path: Path) -> None:
    files = certificates.ensure(tmp_path)
    server = make_server(FLIGHT_CERTIFICATE=str(files.certificate), FLIGHT_KEY=str(files.key)).start()
    authority = files.authority.read_bytes()
    rpc = FlightClient(server.flight_port, scheme="grpc+tls", tls_root_certs=authority)
    assert rpc.table("select 1 as a").to_pylist() == [{"a": 1}]
    unchecked = FlightClient(server.flight_port, scheme="grpc+tls", disable_server_verification=True)
    assert unchecked.table("select 2 as a").to_pylist() == [{"a": 2}]
    for scheme in ("grpc+tls", "grpc+tcp"):  # an unknown authority, and no TLS
        with pytest.raises(flight.FlightError):
            FlightClient(server.flight_port, scheme=scheme)


def test_a_missing_certificate_is_named(make_server: Callable[..., SqlProcess]) -> None:
    server = make_server(FLIGHT_CERTIFICATE="/nowhere/cert.pem", FLIGHT_KEY="")
    assert server.launch().wait(timeout=60) == 2
    assert "LAKEHOUSE_SQL_FLIGHT_CERTIFICATE must name a PEM file" in server.log.read_text()


# Jobs ---------------------------------------------------------------------------------------------------------------


def test_a_query_is_a_job_that_rest_shows(server: SqlProcess, client: Client) -> None:
    sql = "select 1 as one_flight_job union all select 2"
    headers = {"routing_queue": "High Cost", "routing_tag": "nightly"}
    FlightClient(server.flight_port, headers=headers).table(sql)
    shown = last_job(client, sql)
    job = client.job(shown["job_id"])
    assert (job["jobState"], job["queryType"], job["rowCount"]) == ("COMPLETED", "FLIGHT", 2)
    assert job["queueName"] == "High Cost"
    assert (shown["user_name"], shown["query_type"]) == (USER, "FLIGHT")


def test_a_failing_query_is_a_failed_job(rpc: FlightClient, client: Client) -> None:
    sql = "select cast(x as int) as failing_flight_job from (values ('1'), ('y')) t(x)"
    with pytest.raises(flight.FlightInternalError, match="Could not convert string 'y'"):
        rpc.table(sql)
    job = client.job(last_job(client, sql)["job_id"])
    assert job["jobState"] == "FAILED"
    assert "Could not convert string 'y'" in job["errorMessage"]


@pytest.mark.parametrize(
    ("sql", "error", "words"),
    [
        ("selec 1", pa.ArrowInvalid, 'Encountered "selec" at line 1, column 1'),
        ("select * from nowhere.t", pa.ArrowInvalid, "Object 't' not found within 'nowhere'"),
        ("select nothing", pa.ArrowInvalid, "Column 'nothing' not found in any table"),
        ("select nofunction(1)", pa.ArrowInvalid, "No match found for function signature"),
        ("set a = 1", pa.ArrowInvalid, "The option 'a' does not exist"),
        ("", pa.ArrowInvalid, "The statement is empty"),
        ("select 1; select 2", pa.ArrowInvalid, "Failure parsing"),
    ],
)
def test_errors_have_dremios_words_and_no_stack(
    rpc: FlightClient, sql: str, error: type[Exception], words: str
) -> None:
    with pytest.raises(error) as raised:
        rpc.table(sql)
    assert words in str(raised.value)
    assert "Traceback" not in str(raised.value)
    assert ".py" not in str(raised.value)


BIG = "select a.v * 1000000 + b.v * 1000 + c.v as n, cast(a.v as varchar) as s from {t} a, {t} b, {t} c"


@pytest.fixture(scope="module")
def big(rpc: FlightClient, lake: str) -> str:
    """A query of a billion rows."""
    numbers = " union all ".join(f"select {i} as v" for i in range(10))
    rpc.table(f"create table {lake}.ten as {numbers}")
    rpc.table(
        f"create table {lake}.thousand as select a.v * 100 + b.v * 10 + c.v as v"
        f" from {lake}.ten a, {lake}.ten b, {lake}.ten c"
    )
    return BIG.format(t=f"{lake}.thousand")


def drain(reader: flight.FlightStreamReader) -> None:
    """Read to the end. Not by read_all: pyarrow makes a KeyboardInterrupt of a cancellation there."""
    for _ in reader:
        pass


def running(client: Client, mark: str) -> str:
    """The id of the running job with this mark in its text, once there is one."""

    def look() -> str | None:
        sql = f"select job_id from sys.jobs_recent where query like '%/* {mark} */' and status = 'RUNNING'"
        found = client.rows(sql)
        return str(found[0]["job_id"]) if found else None

    return until(look, "a running job")


def ended(client: Client, job_id: str) -> dict[str, Any]:
    return until(lambda: job if (job := client.job(job_id))["jobState"] == "CANCELED" else None, "the job's end")


def test_a_reader_that_goes_away_ends_its_job(rpc: FlightClient, client: Client, big: str) -> None:
    reader = rpc.reader(f"{big} /* gone */")
    assert reader.read_chunk().data.num_rows > 0
    job_id = running(client, "gone")
    reader.cancel()
    assert ended(client, job_id)["cancellationReason"]


def test_cancel_over_rest_reaches_the_reader(rpc: FlightClient, client: Client, big: str) -> None:
    reader = rpc.reader(f"{big} /* stopped */")
    reader.read_chunk()
    job_id = running(client, "stopped")
    assert client.http.post(f"/api/v3/job/{job_id}/cancel").status_code == 204
    with pytest.raises(flight.FlightCancelledError):
        drain(reader)
    assert ended(client, job_id)["cancellationReason"] == f"Query cancelled by user '{USER}'"


def test_cancel_flight_info(rpc: FlightClient, client: Client, big: str) -> None:
    info = rpc.info(f"{big} /* by info */")
    job_id = running(client, "by info")
    request = wire.write((1, info.serialize()))
    (answer,) = rpc.client.do_action(flight.Action("CancelFlightInfo", request), rpc.options)
    assert wire.read(answer.body.to_pybytes()) == {1: [1]}
    ended(client, job_id)
    (again,) = rpc.client.do_action(flight.Action("CancelFlightInfo", request), rpc.options)
    assert wire.read(again.body.to_pybytes()) == {1: [3]}  # nothing to cancel


def test_rows_that_nobody_takes_are_let_go_of(
    make_server: Callable[..., SqlProcess], object_store: ObjectStore, big: str
) -> None:
    server = make_server(UNCLAIMED_TIMEOUT="1", READER_TIMEOUT="2").start()
    client = server.client()
    client.create(rest_source(object_store, "lake"))
    rpc = FlightClient(server.flight_port)
    rpc.info(f"{big} /* never fetched */")
    job = ended(client, running(client, "never fetched"))
    assert job["cancellationReason"] == "Nobody fetched the result for 1 seconds"
    reader = rpc.reader(f"{big} /* not read */")
    job_id = running(client, "not read")
    assert ended(client, job_id)["cancellationReason"] == "The client read nothing for 2 seconds"
    with pytest.raises(flight.FlightCancelledError):
        drain(reader)
    blocked = rpc.reader(f"{big} /* blocked */")
    running(client, "blocked")
    assert server.stop() == 0  # with a reader that does not read
    del blocked


# Flight SQL on the wire ---------------------------------------------------------------------------------------------


def test_what_is_not_implemented_says_so(rpc: FlightClient) -> None:
    calls: list[Callable[[], Any]] = [
        lambda: list(rpc.client.list_flights(options=rpc.options)),
        lambda: list(rpc.client.do_action(flight.Action("BeginTransaction", b""), rpc.options)),
        lambda: rpc.client.get_flight_info(flight.FlightDescriptor.for_path("a"), rpc.options),
        lambda: rpc.client.get_flight_info(
            flight.FlightDescriptor.for_command(wire.pack("CommandStatementSubstraitPlan", b"")), rpc.options
        ),
    ]
    for call in calls:
        with pytest.raises(pa.ArrowNotImplementedError):
            call()


def test_broken_messages_are_bad_arguments(rpc: FlightClient) -> None:
    broken = [
        b"\xff\xfe",
        wire.pack("CommandGetTables", b"\x0a\x7f"),
        wire.pack("CommandPreparedStatementQuery", wire.write((1, b"zz"))),
    ]
    for command in broken:
        with pytest.raises(pa.ArrowInvalid):
            rpc.client.get_flight_info(flight.FlightDescriptor.for_command(command), rpc.options)
    for ticket in (
        b"",
        b"select 1",
        messages.statement_ticket(b"\x01\x00\x02x"),
        wire.pack("TicketStatementQuery", b""),
    ):
        with pytest.raises(pa.ArrowInvalid):
            rpc.client.do_get(flight.Ticket(ticket), rpc.options).read_all()


def test_session_options(rpc: FlightClient, server: SqlProcess) -> None:
    rpc = FlightClient(server.flight_port, cookies=True)

    def act(name: str, body: bytes) -> wire.Fields:
        (answer,) = rpc.client.do_action(flight.Action(name, body), rpc.options)
        return wire.read(answer.body.to_pybytes())

    rpc.table("select 1")  # gives the cookie
    option = wire.write((1, "schema"), (2, wire.write((1, 'sys."x"'))))
    assert act("SetSessionOptions", wire.write((1, option))) == {}
    assert act("GetSessionOptions", b"")[1] == [wire.write((1, "schema"), (2, wire.write((1, '"sys"."x"'))))]
    unknown = wire.write((1, "colour"), (2, wire.write((1, "red"))))
    assert act("SetSessionOptions", wire.write((1, unknown)))[1] == [wire.write((1, "colour"), (2, wire.write((1, 1))))]
    assert act("CloseSession", b"") == {1: [1]}
    assert act("GetSessionOptions", b"")[1] == [wire.write((1, "schema"), (2, wire.write((1, ""))))]


@pytest.mark.parametrize(
    "name", ["a'b", 'say "x"', "semi;colon", "--", "ünï", "x" * 200, "drop table t", "%", "a.b", " ", "a\\b", "${x}"]
)
def test_hostile_names(rpc: FlightClient, client: Client, name: str) -> None:
    """An error or a correct result; never something else that runs."""
    quoted = '"' + name.replace('"', '""') + '"'
    assert rpc.table(f"select 1 as {quoted}").schema.names == [name]
    view = f'"@{USER}".{quoted}'
    try:
        rpc.table(f"create view {view} as select 1 as c")
    except pa.ArrowInvalid as error:
        refusal = str(error)
        assert "Invalid dataset name" in refusal
        return
    assert rpc.table(f"select * from {view}").to_pylist() == [{"c": 1}]
    rpc.table(f"drop view {view}")


# Privileges ---------------------------------------------------------------------------------------------------------


def test_privileges_hold_over_flight(server: SqlProcess, client: Client, rpc: FlightClient, lake: str) -> None:
    body = {"name": "reader", "userName": "reader", "password": "reader123", "email": "r@example.com"}
    answer = client.http.post("/api/v3/user", json=body)
    assert answer.status_code == 200, answer.text
    rpc.table(f"create table {lake}.secret as select 42 as v")
    rpc.table(f"create table {lake}.open as select 1 as v")
    rpc.table(f'grant select on table {lake}.open to user "reader"')
    reader = FlightClient(server.flight_port, login=("reader", "reader123"))
    assert reader.table(f"select v from {lake}.open").to_pylist() == [{"v": 1}]
    for sql in (f"select v from {lake}.secret", f"insert into {lake}.open values (2)", f"drop table {lake}.open"):
        with pytest.raises((flight.FlightUnauthorizedError, pa.ArrowInvalid)) as raised:
            reader.table(sql)
        assert "42" not in str(raised.value)
    tables = wire.pack("CommandGetTables", wire.write((2, lake)))
    names = {
        who: reading.fetch(reading.client.get_flight_info(flight.FlightDescriptor.for_command(tables), reading.options))
        for who, reading in (("admin", rpc), ("reader", reader))
    }
    assert "secret" in names["admin"]["table_name"].to_pylist()
    assert names["reader"]["table_name"].to_pylist() == ["open"]
    ticket = rpc.info(f"select v from {lake}.secret").endpoints[0].ticket
    with pytest.raises((flight.FlightUnauthorizedError, pa.ArrowInvalid)):
        reader.client.do_get(ticket, reader.options).read_all()  # somebody else's ticket
    assert rpc.table(f"select v from {lake}.open").to_pylist() == [{"v": 1}]
