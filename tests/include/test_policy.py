"""The policy file: what it says, and what it refuses, by file and field."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from docs import policy as page
from include.specs import policy
from include.specs.reader import SpecError


def changed(tmp_path: Path, place: str, value: Any) -> Path:
    """The shipped file with one field set, or left out where `value` is None."""
    data = yaml.safe_load(policy.FILE.read_text(encoding="utf-8"))
    *parents, last = place.split(".")
    node = data
    for part in parents:
        node = node[part]
    node.pop(last, None) if value is None else node.__setitem__(last, value)
    file = tmp_path / "policy.yaml"
    file.write_text(yaml.safe_dump(data), encoding="utf-8")
    return file


def test_the_shipped_policy_answers_for_every_role_service_and_action() -> None:
    found = policy.load()
    cells = list(found.cells())
    assert len(cells) == 4 * sum(len(actions) for actions in policy.ACTIONS.values())
    assert all(found.allows("admin", cell.service, cell.action) for cell in cells)
    assert {(c.service, c.action) for c in cells if c.role == "viewer" and c.allowed} == {
        ("superset", "view_dashboards")
    }
    assert found.actions("analyst", "s3") == ()
    assert "password" not in repr(found.members)


@pytest.mark.parametrize(
    ("place", "value", "complaint"),
    [
        ("roles.admin", None, "'roles' needs the role admin: without it nobody could change anything"),
        ("services.s3", None, "'services.s3' is missing; add a Mapping"),
        ("services.postgres.connect", None, "'services.postgres.connect' is missing; add a list"),
        ("services.dremio.drop_all", ["admin"], "'services.dremio.drop_all' is not known here; known: create_views"),
        ("services.airflow.run_dags", ["admin", "boss"], "'services.airflow.run_dags' names the role 'boss'"),
        ("services.s3.read_bronze", ["engineer'--"], "'services.s3.read_bronze' must list names matching"),
        ("services.s3.manage_buckets", [], "'services.s3.manage_buckets' must list admin"),
        (
            "services.dremio.read_gold",
            ["admin", "data_engineer", "analyst", "viewer"],
            "'services.dremio.read_gold' reaches raw data, and viewer has raw_data: false; take it out here",
        ),
        (
            "services.postgres.write_operations",
            ["admin", "analyst"],
            None,  # what it needs is there
        ),
        (
            "services.postgres.connect",
            ["admin", "data_engineer"],
            "'services.postgres.read_operations' is of no use to analyst without connect; list it there too",
        ),
        ("members.viewer.role", "boss", "'members.viewer.role' must be one of admin, analyst"),
        ("members.viewer.password", "secret", "'members.viewer.password' must refer to an Airflow connection"),
        ("rows.finished_syncs.roles", ["admin"], "'rows.finished_syncs.roles' names 'admin'"),
        ("rows.finished_syncs.where", "true; drop table x", "'rows.finished_syncs.where' must be one SQL condition"),
        ("rows.finished_syncs.objects", ["ledger"], "'rows.finished_syncs.objects' must list names such as"),
        ("rows.finished_syncs.service", "s3", "'rows.finished_syncs.service' must be one of postgres, superset"),
    ],
)
def test_a_mistake_is_named_with_file_field_and_fix(
    tmp_path: Path, place: str, value: Any, complaint: str | None
) -> None:
    file = changed(tmp_path, place, value)
    if complaint is None:
        policy.load(file)
        return
    with pytest.raises(SpecError) as caught:
        policy.load(file)
    assert str(caught.value).startswith(f"policy.yaml: {complaint}")


def test_the_generated_table_is_fresh() -> None:
    assert page.PAGE.read_text(encoding="utf-8") == page.page(), "docs/policy.md is stale: make docs"
