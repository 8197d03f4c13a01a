from __future__ import annotations

from typing import Any

import pytest
import yaml

from lakehouse_providers.dremio.errors import DremioConfigurationError
from lakehouse_providers.dremio.profile import DremioProfileMapping

ARGS = {
    "object_storage_source": "lake",
    "object_storage_path": "silver",
    "dremio_space": "lakehouse",
    "dremio_space_folder": "silver",
    "threads": 2,
}


def mapping() -> DremioProfileMapping:
    return DremioProfileMapping(conn_id="dremio", profile_args=ARGS)


def test_profile_from_the_connection(dremio: Any) -> None:
    text = mapping().get_profile_file_contents("lakehouse", "airflow")
    assert yaml.safe_load(text)["lakehouse"]["outputs"]["airflow"] == {
        "type": "dremio",
        "software_host": "127.0.0.1",
        "port": dremio.wire.port,
        "use_ssl": False,
        "verify_ssl": True,
        "user": "anna",
        "password": "{{ env_var('COSMOS_CONN_DREMIO_PASSWORD') }}",
        **ARGS,
    }


def test_the_password_goes_through_the_environment_only(dremio: Any) -> None:
    assert mapping().env_vars == {"COSMOS_CONN_DREMIO_PASSWORD": "correct"}
    assert "correct" not in mapping().get_profile_file_contents("lakehouse")


def test_a_token_takes_the_passwords_place(dremio: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_DREMIO", dremio.connection(extra={"use_ssl": True, "pat": "abc"}, password=None))
    profile = mapping().profile
    assert profile["pat"] == "{{ env_var('COSMOS_CONN_DREMIO_PAT') }}"
    assert "password" not in profile
    assert profile["use_ssl"] is True
    assert mapping().env_vars == {"COSMOS_CONN_DREMIO_PAT": "abc"}


def test_parsing_a_dag_needs_no_connection() -> None:
    assert DremioProfileMapping(conn_id="absent", profile_args=ARGS).mock_profile["software_host"] == "mock_value"


def test_cosmos_takes_the_connection_for_it(dremio: Any) -> None:
    assert mapping().can_claim_connection()


def test_a_project_of_cloud(dremio: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    extra = {"project_id": "p-1", "pat": "abc", "use_ssl": True}
    changes = {"host": "api.eu.dremio.cloud", "port": None, "password": None, "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_DREMIO", dremio.connection(**changes))
    profile = mapping().profile
    assert (profile["cloud_host"], profile["cloud_project_id"]) == ("api.eu.dremio.cloud", "p-1")
    assert profile["pat"] == "{{ env_var('COSMOS_CONN_DREMIO_PAT') }}"
    assert not {"software_host", "port", "password"} & set(profile)
    assert mapping().can_claim_connection()


def test_a_ca_bundle_reaches_dbt(dremio: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    extra = {"use_ssl": True, "verify_ssl": "/etc/ca.pem"}
    monkeypatch.setenv("AIRFLOW_CONN_DREMIO", dremio.connection(extra=extra))
    assert mapping().profile["verify_ssl"] is True
    assert mapping().env_vars["REQUESTS_CA_BUNDLE"] == "/etc/ca.pem"


def test_what_dbt_cannot_do_is_said(dremio: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_DREMIO", dremio.connection(extra={"auth": "client_credentials"}))
    with pytest.raises(DremioConfigurationError, match="cannot sign in by client_credentials"):
        _ = mapping().profile
