"""The runner, on real processes: start, death of each part, stop, ports, secrets. Airflow's start is an e2e test."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import psutil
import psycopg
import pytest

from embedded.home import PROJECT
from embedded.postgres import SOURCE_SETTINGS
from embedded.programs import wait_until
from embedded.services import PORTS_OF
from embedded.stack import Event, Stack, StackError
from embedded.state import StackState, StateError, locked
from embedded.status import statuses
from tests.embedded.conftest import SERVICES


def _pids(stack: Stack) -> dict[str, int]:
    return {name: stack.pid(name) for name in SERVICES}


def _groups(stack: Stack) -> set[int]:
    groups = set()
    for process in stack.supervisor.survivors():
        with contextlib.suppress(ProcessLookupError):
            groups.add(os.getpgid(process.pid))
    return groups


def _group_lives(group: int) -> bool:
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, ProcessLookupError):  # others come and go meanwhile
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                return True
    return False


def _command(stack: Stack, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "embedded", *words],
        env={**os.environ, "LAKEHOUSE_HOME": str(stack.home.root)},
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_all_become_ready_and_a_second_up_changes_nothing(running: Stack, stack_events: list[Event]):
    before = _pids(running)
    stack_events.clear()
    running.up(SERVICES)
    assert _pids(running) == before
    # Ports of what does not run here may be taken by anybody meanwhile, and a note says so.
    elsewhere = {port for name, ports in PORTS_OF.items() if name not in SERVICES for port in ports}
    assert {event.kind for event in stack_events if event.service not in elsewhere} == {"starting", "ready"}
    wait_until(
        lambda: {one.name for one in statuses(running) if one.state == "ready"} == set(SERVICES),
        "every service",
        running.supervisor.log,
        60,
    )


@pytest.mark.parametrize("service", SERVICES)
def test_a_killed_service_is_ready_again(running: Stack, service: str):
    killed = running.pid(service)
    os.kill(killed, signal.SIGKILL)
    running.wait_ready(service, other_than=killed)
    assert running.pid(service) != killed


def test_data_survive_a_stop_and_nothing_is_left_running(running: Stack):
    endpoints = running.endpoints()
    with psycopg.connect(endpoints.platform.dsn("lakehouse"), autocommit=True) as connection:
        connection.execute("create table if not exists kept as select 42 as answer")
    endpoints.object_store.client("s3").put_object(Bucket="lakehouse", Key="test/kept", Body=b"kept")
    groups = _groups(running)
    assert len(groups) > len(SERVICES)  # each in a group of its own, and supervisord

    running.down()

    assert running.supervisor.survivors() == []
    assert not any(_group_lives(group) for group in groups)
    assert not any(path.exists() for path in endpoints.object_store.socket_files())

    running.up(SERVICES)
    assert running.endpoints().ports == endpoints.ports
    with psycopg.connect(endpoints.platform.dsn("lakehouse")) as connection:
        assert connection.execute("select answer from kept").fetchone() == (42,)
    found = endpoints.object_store.client("s3").get_object(Bucket="lakehouse", Key="test/kept")
    assert found["Body"].read() == b"kept"


def test_a_killed_supervisor_leaves_nothing_in_the_way_of_the_next_up(running: Stack, stack_events: list[Event]):
    before = _pids(running)
    supervisor = running.supervisor.recorded("supervisord")
    assert supervisor
    supervisor.kill()
    wait_until(lambda: not running.supervisor.states(), "supervisord's end", running.supervisor.log, 10)
    assert {one.state for one in statuses(running) if one.name in SERVICES} == {"orphaned"}

    stack_events.clear()
    running.up(SERVICES)

    assert any("left behind" in event.text for event in stack_events)
    after = _pids(running)
    assert not set(before.values()) & set(after.values())
    assert not any(psutil.pid_exists(pid) and _group_lives(pid) for pid in before.values())


def test_down_after_a_killed_supervisor_stops_what_it_left(running: Stack):
    supervisor = running.supervisor.recorded("supervisord")
    assert supervisor
    supervisor.kill()
    running.down()
    assert running.supervisor.survivors() == []


def test_an_occupied_port_is_replaced_and_the_user_is_told(running: Stack, stack_events: list[Event]):
    old = running.endpoints().ports["s3"]
    running.down()
    with socket.socket() as stranger:
        stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        stranger.bind(("127.0.0.1", old))
        stranger.listen()
        stack_events.clear()
        running.up(SERVICES)
    notes = [event for event in stack_events if event.kind == "note"]
    assert [(note.service, str(old) in note.text) for note in notes] == [("s3", True)]
    assert running.endpoints().ports["s3"] != old
    assert running.endpoints().object_store.is_ready()


def test_changed_settings_restart_what_they_change(
    running: Stack, stack_events: list[Event], monkeypatch: pytest.MonkeyPatch
):
    before = _pids(running)
    monkeypatch.setitem(SOURCE_SETTINGS, "max_connections", "61")
    stack_events.clear()
    running.up(SERVICES)
    changed = {name for name, pid in _pids(running).items() if before[name] != pid}
    assert changed == {"postgres-source"}
    with psycopg.connect(running.endpoints().source.dsn("retail")) as connection:
        assert connection.execute("show max_connections").fetchone() == ("61",)


def test_a_service_that_cannot_start_is_given_up_with_the_end_of_its_log(running: Stack):
    settings = running.home.pg_source / "postgresql.conf"
    good = settings.read_text()
    running.stop_service("postgres-source")
    try:
        settings.write_text(good + "\nno_such_setting = on\n")
        with pytest.raises(StackError, match="postgres-source: it ended again and again") as caught:
            running.up(["postgres-source"])
        assert "no_such_setting" in str(caught.value)
        assert running.endpoints().platform.is_ready()  # the others go on
    finally:
        settings.write_text(good)
    running.up(["postgres-source"])


def test_secrets_are_private_and_in_no_log(running: Stack):
    assert running.home.secrets.stat().st_mode & 0o777 == 0o600
    secrets = running.endpoints().secrets
    assert "Secrets()" in repr(secrets)
    for file in (path for path in running.home.logs.rglob("*") if path.is_file()):
        text = file.read_text(errors="replace")
        assert not [value for value in secrets.values() if value in text], file
    for file in (path for path in running.home.run.rglob("*") if path.is_file()):
        assert not file.stat().st_mode & 0o077, file
    listed = " ".join(word for process in psutil.process_iter(["cmdline"]) for word in process.info["cmdline"] or [])
    assert not [value for value in secrets.values() if value in listed]
    shown = "".join(_command(running, *words).stdout for words in (["up", "--only", "alerts"], ["status"], ["logs"]))
    assert not [value for value in secrets.values() if value in shown]


def test_servers_listen_on_loopback_only(running: Stack):
    ports = set(running.endpoints().ports.values())
    listening = []
    for process in running.supervisor.survivors():
        with contextlib.suppress(psutil.NoSuchProcess):  # a session of PostgreSQL that ended meanwhile
            found = process.net_connections(kind="inet")
            listening += [one.laddr for one in found if one.status == psutil.CONN_LISTEN]
    # gRPC binds the very address through an IPv6 socket.
    assert {address.ip.removeprefix("::ffff:") for address in listening} == {"127.0.0.1"}
    assert {address.port for address in listening} <= ports


def test_one_command_at_a_time_changes_a_stack(running: Stack):
    with locked(running.home), pytest.raises(StateError, match=str(os.getpid())):
        running.up(SERVICES)
    with locked(running.home):
        done = _command(running, "down")
    assert (done.returncode, "wait until it is done" in done.stderr) == (1, True)


def test_alerts_are_kept_as_they_come_and_only_from_who_may(running: Stack):
    endpoints = running.endpoints()
    connection = endpoints.connections()["alerts"]
    file = running.home.logs / "alerts.jsonl"
    message = {"kind": "run_failed", "reason": "zażółć"}
    assert httpx.post(connection["host"], json=message).status_code == 401
    assert httpx.post(connection["host"], json=message, auth=(connection["login"], "wrong")).status_code == 401
    auth = (connection["login"], connection["password"])
    assert httpx.post(connection["host"], content=b"{no json", auth=auth).status_code == 400
    assert httpx.post(connection["host"], json=message, auth=auth).status_code == 200
    assert json.loads(file.read_text().splitlines()[-1]) == message


def test_status_for_programs(running: Stack):
    found = {one["name"]: one for one in json.loads(_command(running, "status", "--json").stdout)}
    assert found["sql"]["port"] == running.endpoints().ports["sql"]
    for name in SERVICES:
        assert found[name]["state"] == "ready"
        assert found[name]["pid"] == running.pid(name)
        assert found[name]["memory_bytes"] > 1_000_000
    assert found["airflow-scheduler"]["state"] == "stopped"


def test_commands_name_what_to_mend(running: Stack, tmp_path: Path):
    wrong = _command(running, "up", "--only", "postgre")
    assert (wrong.returncode, "choose from postgres" in wrong.stderr) == (1, True)
    assert "alerts" in _command(running, "logs", "nothing").stderr
    assert "| " in _command(running, "logs", "-n", "1").stdout
    value = _command(running, "env", "LAKEHOUSE_DREMIO_PASSWORD").stdout.strip()
    assert value == running.endpoints().secrets.sql_admin_password
    (tmp_path / "precious").write_text("mine")
    other = Stack(tmp_path)
    assert "was never started" in _command(other, "status").stderr
    assert "is not deleted" in _command(other, "reset", "--yes").stderr
    assert (tmp_path / "precious").exists()


def test_a_damaged_state_is_named(tmp_path: Path):
    stack = Stack(tmp_path)
    stack.home.state.write_text("{")
    with pytest.raises(StateError, match=r"stack\.json"):
        StackState.load(stack.home)


def test_reset_asks_then_deletes_everything(stack: Stack):
    stack.up(["alerts"])
    asked = _command(stack, "reset")
    assert (asked.returncode, stack.home.secrets.exists()) == (1, True)
    done = _command(stack, "reset", "--yes")
    assert done.returncode == 0, done.stderr
    assert not stack.home.root.exists()
    assert stack.supervisor.survivors() == []
