"""`airflow_settings.yaml` declares connections and pools; a stack puts its own addresses in place of the values."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from embedded.airflow import Airflow
from embedded.connections import FILE, Item, SettingsError, declared
from embedded.credentials import Secrets
from embedded.endpoints import Endpoints
from embedded.home import PROJECT, Home
from embedded.ports import PortsError
from embedded.services import ALL_PORTS, UnknownServiceError, catalogue, selection, wanted_ports


@pytest.fixture
def endpoints(tmp_path: Path) -> Endpoints:
    Home(tmp_path).create()
    ports = {name: 10_000 + number for number, name in enumerate(ALL_PORTS)}
    return Endpoints(Home(tmp_path), ports, Secrets.load_or_create(tmp_path / "secrets.json"))


def _connections(items: list[Item]) -> dict[str, Item]:
    return {item.name: item for item in items if item.kind == "connections"}


def test_the_file_holds_no_secret_and_no_address_of_this_machine():
    text = FILE.read_text(encoding="utf-8")
    assert "127.0.0.1" not in text
    assert "localhost" not in text
    assert all(one["conn_password"] is None for one in yaml.safe_load(text)["airflow"]["connections"])


def test_every_declared_connection_points_to_the_running_service(endpoints: Endpoints):
    found = _connections(declared(FILE, endpoints.connections()))
    assert set(found) == set(endpoints.connections())
    for item in found.values():
        # Keys and logins have no address, nor has a service that is not installed here.
        assert item.name in ("backup_key", "logins") or item.body["host"] == "" or "127.0.0.1" in item.body["host"]
        assert item.body["password"] or item.name == "logins"  # which holds one a member in its extra
    assert found["retail_source"].body["schema"] == "retail"  # what is not replaced stays as declared
    s3 = json.loads(found["lake_s3"].body["extra"])
    assert s3 == {"endpoint_url": endpoints.object_store.endpoint_url, "region_name": "us-east-1"}
    assert json.loads(found["dremio"].body["extra"]) == {
        "use_ssl": False,
        "flight_port": endpoints.ports["sql-flight"],
        "use_encryption": False,
        "disable_certificate_verification": False,
    }


def test_a_changed_address_or_password_counts_as_changed_and_nothing_else(endpoints: Endpoints):
    before = {item.name: item.fingerprint for item in declared(FILE, endpoints.connections())}
    moved = Endpoints(endpoints.home, {**endpoints.ports, "sql": 9999}, endpoints.secrets)
    after = {item.name: item.fingerprint for item in declared(FILE, moved.connections())}
    assert {name for name in before if before[name] != after[name]} == {"dremio"}
    assert not any(endpoints.secrets.sql_admin_password in value for value in after.values())


def test_flight_is_found_and_its_port_can_be_chosen(endpoints: Endpoints, monkeypatch: pytest.MonkeyPatch):
    assert endpoints.environment()["LAKEHOUSE_DREMIO_FLIGHT_URL"] == f"grpc://127.0.0.1:{endpoints.ports['sql-flight']}"
    assert wanted_ports() == {}
    monkeypatch.setenv("LAKEHOUSE_SQL_FLIGHT_PORT", "32010")
    monkeypatch.setenv("LAKEHOUSE_SQL_FLIGHT_CERTIFICATE", "/some/file.pem")
    assert wanted_ports() == {"sql-flight": 32010}
    assert endpoints.flight_url.startswith("grpc+tls://")
    assert json.loads(_connections(declared(FILE, endpoints.connections()))["dremio"].body["extra"])["use_encryption"]
    monkeypatch.setenv("LAKEHOUSE_SQL_PORT", "the usual")
    with pytest.raises(PortsError, match="LAKEHOUSE_SQL_PORT"):
        wanted_ports()


def test_a_wrong_file_and_a_wrong_name_are_named(tmp_path: Path):
    wrong = tmp_path / "airflow_settings.yaml"
    wrong.write_text("airflow:\n  pools:\n    - pool_slot: 2\n")
    with pytest.raises(SettingsError, match=r"airflow_settings\.yaml.*pool_name"):
        declared(wrong, {})
    with pytest.raises(SettingsError, match="does not declare the connections mistyped"):
        declared(FILE, {"mistyped": {"host": "x"}})


def test_secrets_are_made_once_and_a_new_one_is_added(tmp_path: Path):
    file = tmp_path / "secrets.json"
    first = Secrets.load_or_create(file)
    assert Secrets.load_or_create(file) == first
    known = json.loads(file.read_text())
    del known["alerts_token"]
    file.write_text(json.dumps(known))
    later = Secrets.load_or_create(file)
    assert later.retail == first.retail
    assert later.alerts_token not in ("", first.alerts_token)
    assert file.stat().st_mode & 0o777 == 0o600
    assert not any(value in repr(first) for value in first.values())


def test_a_selection_brings_what_it_needs_in_order(endpoints: Endpoints):
    known = catalogue(endpoints)
    assert [one.name for one in selection(["sql"], known)] == ["postgres-platform", "object-store", "sql"]
    airflow = [one.name for one in selection(["airflow-scheduler"], known)]
    assert airflow[:2] == ["postgres-platform", "airflow-database"]
    assert len(airflow) == 6
    assert len(selection(["postgres"], known)) == 2
    with pytest.raises(UnknownServiceError, match="choose from postgres, airflow"):
        selection(["nothing"], known)


def test_every_airflow_setting_exists_in_the_installed_airflow(endpoints: Endpoints):
    """A mistyped or removed option would be ignored without a word."""
    airflow = Airflow(endpoints.home, 1, "postgresql://airflow:x@127.0.0.1:1/airflow", endpoints.secrets)
    (file,) = airflow.venv.glob("lib/python*/site-packages/airflow/config_templates/config.yml")
    known = yaml.safe_load(file.read_text(encoding="utf-8"))
    options = {(section, option) for section, body in known.items() for option in body["options"]}
    of_providers = {("cosmos", "enable_telemetry"), ("cosmos", "cache_dir")}
    assert set(airflow._settings()) - of_providers <= options


def test_tasks_get_what_they_need_and_nothing_of_the_servers(monkeypatch: pytest.MonkeyPatch, endpoints: Endpoints):
    monkeypatch.setenv("LAKEHOUSE_LEASE_SECONDS", "60")
    monkeypatch.setenv("LAKEHOUSE_SQL_FAULTS", "{}")
    program = catalogue(endpoints)["airflow-scheduler"].prepare()
    assert program
    found = program.environment
    assert found["LAKEHOUSE_LEASE_SECONDS"] == "60"
    assert "LAKEHOUSE_SQL_FAULTS" not in found
    assert found["LAKEHOUSE_HOME"] == str(endpoints.home.root)
    assert found["LAKEHOUSE_DBT_EXECUTABLE"].endswith("dbt")
    assert found["PYTHONPATH"].split(":") == [str(PROJECT), str(PROJECT / "plugins")]
    sql = catalogue(endpoints)["sql"].prepare()
    assert sql
    assert sql.environment["LAKEHOUSE_SQL_FAULTS"] == "{}"
