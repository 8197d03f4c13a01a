"""What makes the drift tasks red, and what does not."""

from __future__ import annotations

import pytest

from include.reconcile.plan import Change, diff, differences
from include.task_groups.platform import DriftError, _judge


def test_a_difference_is_red_and_named() -> None:
    changes = [
        Change("update", "view", "a.b", ('sql: "SELECT 2" -> "SELECT 1"',)),
        Change("await", "reflection", "lake.t:r", ("its dataset is not built yet",)),
        Change("delete", "folder", "a.c"),
    ]
    with pytest.raises(DriftError) as caught:
        _judge("Dremio", changes)
    assert str(caught.value).splitlines() == [
        "Dremio is not as declared; to make it so: run apply_platform, or correct the declaration.",
        "update view a.b",
        '    sql: "SELECT 2" -> "SELECT 1"',
        "delete folder a.c",
    ]


def test_no_difference_and_what_is_awaited_are_green() -> None:
    assert _judge("Dremio", []) == []
    assert len(_judge("Dremio", [Change("await", "reflection", "lake.t:r")])) == 1


def test_differences_are_shown_field_by_field() -> None:
    wanted = {"a": 1, "list": [{"name": "x.y", "value": "1"}, {"name": "z", "value": "2"}], "same": True}
    actual = {"a": "1", "list": [{"name": "x.y", "value": "3"}], "same": True, "more": 5}
    assert differences(wanted, actual) == ["list.x.y.value", "list.z.name", "list.z.value"]
    assert diff(wanted, wanted, actual) == (
        'list.x.y.value: "3" -> "1"',
        'list.z.name: nothing -> "z"',
        'list.z.value: nothing -> "2"',
    )


@pytest.mark.parametrize("masked", ["**********", "$DREMIO_EXISTING_VALUE$"])
def test_masked_secrets_count_as_equal(masked: str) -> None:
    assert diff({"key": "{{ conn.a.password }}"}, {"key": "secret"}, {"key": masked}) == ()


def test_a_value_from_a_connection_is_never_shown() -> None:
    (line,) = diff({"c": {"key": "{{ conn.a.password }}"}}, {"c": {"key": "new-secret"}}, {"c": {"key": "old-secret"}})
    assert line == "c.key: differs (its value comes from an Airflow connection)"
