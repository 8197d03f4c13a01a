from __future__ import annotations

from typing import Any

import pytest

from lakehouse_providers.dremio import reflections
from lakehouse_providers.dremio.errors import DremioReflectionError
from lakehouse_providers.dremio.reflections import Selection

GOLD = ("lake", "gold", "t")


def choose(dremio: Any, *paths: tuple[str, ...], names: tuple[str, ...] = (), tag: str | None = None) -> list[str]:
    with dremio.client() as client:
        found = reflections.choose(client, Selection(paths or (GOLD,), names, tag))
    return [one.reflection.name for one in found]


@pytest.fixture
def gold(dremio: Any) -> Any:
    table = dremio.table(*GOLD)
    dremio.reflection("a", table)
    dremio.reflection("b", table)
    return table


def test_by_dataset_by_name_and_by_id(dremio: Any, gold: Any) -> None:
    assert choose(dremio) == ["a", "b"]
    assert choose(dremio, names=("a",)) == ["a"]
    assert choose(dremio, names=("ref-b",)) == ["b"]


def test_by_tag(dremio: Any, gold: Any) -> None:
    other = dremio.table("lake", "gold", "u")
    dremio.reflection("c", other)
    other["tags"] = ["nightly"]
    assert choose(dremio, GOLD, ("lake", "gold", "u"), tag="nightly") == ["c"]
    with pytest.raises(DremioReflectionError, match="tagged 'weekly'"):
        choose(dremio, tag="weekly")


def test_what_is_not_there_fails_early_and_by_name(dremio: Any, gold: Any) -> None:
    with pytest.raises(DremioReflectionError, match=r"lake\.gold\.typo is no dataset"):
        choose(dremio, ("lake", "gold", "typo"))
    with pytest.raises(DremioReflectionError, match="reflection typo found on lake"):
        choose(dremio, names=("a", "typo"))
    dremio.table("lake", "gold", "bare")
    with pytest.raises(DremioReflectionError, match="no reflection found on lake"):
        choose(dremio, ("lake", "gold", "bare"))


def usable(dremio: Any, **options: bool) -> list[str]:
    with dremio.client() as client:
        chosen = reflections.choose(client, Selection((GOLD,)))
        return [
            one.reflection.name
            for one in reflections.usable(client, chosen, **{"skip": False, "revive": False} | options)
        ]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"enabled": False}, "b on lake.gold.t is disabled"),
        ({"config": "INVALID", "lastFailureMessage": "no column x"}, "b on lake.gold.t is invalid.*no column x"),
        (
            {"refresh": "GIVEN_UP", "failureCount": 24, "lastFailureMessage": "oom"},
            "given up.*24 failures.*oom.*revive",
        ),
    ],
)
def test_what_can_never_be_refreshed_fails_early_or_is_left_out(
    dremio: Any, gold: Any, change: dict[str, Any], reason: str
) -> None:
    if "enabled" in change:
        dremio.reflections["ref-b"].update(change)
    else:
        dremio.status("b", **change)
    with pytest.raises(DremioReflectionError, match=reason):
        usable(dremio)
    assert usable(dremio, skip=True) == ["a"]


def test_leaving_all_out_is_a_failure(dremio: Any, gold: Any) -> None:
    for one in dremio.reflections.values():
        one["enabled"] = False
    with pytest.raises(DremioReflectionError, match="no reflection left"):
        usable(dremio, skip=True)


def test_a_given_up_one_is_revived_by_switching_it_off_and_on(dremio: Any, gold: Any) -> None:
    dremio.status("b", refresh="GIVEN_UP", failureCount=24)
    assert usable(dremio, revive=True) == ["a", "b"]
    assert [request.json["enabled"] for request in dremio.wire.seen("PUT")] == [False, True]


def test_a_new_reflection_that_only_looks_given_up_is_not_touched(dremio: Any, gold: Any) -> None:
    dremio.status("b", refresh="GIVEN_UP", failureCount=0)
    assert usable(dremio) == ["a", "b"]
    assert usable(dremio, revive=True) == ["a", "b"]
    assert not dremio.wire.seen("PUT")


def base_tables(dremio: Any, path: tuple[str, ...]) -> dict[str, set[str]]:
    with dremio.client() as client:
        chosen = reflections.choose(client, Selection((path,)))
        return reflections.base_tables(client, chosen, reflections.dependencies(client))


def test_a_view_leads_to_its_tables_through_other_reflections(dremio: Any, gold: Any) -> None:
    view = dremio.table("space", "v", kind="VIRTUAL_DATASET")
    dremio.reflection("on_view", view, tables=["id-x"])
    dremio.dependencies += [
        {"reflection_id": "ref-on_view", "dependency_id": "ref-a", "dependency_type": "REFLECTION"},
        {"reflection_id": "ref-a", "dependency_id": "ref-on_view", "dependency_type": "REFLECTION"},  # a ring
    ]
    assert base_tables(dremio, ("space", "v")) == {"ref-on_view": {"id-x", gold["id"]}}


def test_a_reflection_never_built_on_a_table_refreshes_that_table(dremio: Any) -> None:
    table = dremio.table("lake", "new")
    dremio.reflection("n", table, tables=[])
    assert base_tables(dremio, ("lake", "new")) == {"ref-n": {table["id"]}}


def test_a_reflection_never_built_on_a_view_follows_the_lineage(dremio: Any) -> None:
    view = dremio.table("space", "v", kind="VIRTUAL_DATASET")
    dremio.reflection("n", view, tables=[])
    with pytest.raises(DremioReflectionError, match=r"space\.v are not known .* base_tables"):
        base_tables(dremio, ("space", "v"))
    dremio.graph = {view["id"]: ["id-inner", "id-t1"], "id-inner": ["id-t2", "id-t1"]}
    assert base_tables(dremio, ("space", "v")) == {"ref-n": {"id-t1", "id-t2"}}


def test_downstream_reflections_of_the_same_tables(dremio: Any, gold: Any) -> None:
    view = dremio.table("space", "v", kind="VIRTUAL_DATASET")
    dremio.reflection("on_view", view, tables=[gold["id"]])
    dremio.reflection("elsewhere", dremio.table("lake", "x"))
    dremio.reflection("off", view, tables=[gold["id"]])["enabled"] = False
    with dremio.client() as client:
        known = reflections.dependencies(client)
        found = reflections.downstream(client, {gold["id"]}, known, {"ref-a", "ref-b"})
    assert [one.reflection.name for one in found] == ["on_view"]


def test_the_baseline_is_the_servers_clock_and_what_existed(dremio: Any, gold: Any) -> None:
    dremio.clock = 42
    dremio.status("a", failureCount=3)
    dremio.made("a", state="RUNNING")
    with dremio.client() as client:
        baseline = reflections.take_baseline(
            client, reflections.choose(client, Selection((GOLD,), ("a",))), ["id-2", "id-1", "id-2"]
        )
    assert baseline.at.isoformat() == "2026-01-01T12:00:42+00:00"
    assert baseline.tables == ("id-1", "id-2")
    (target,) = baseline.targets
    assert (target.failures, target.known, target.running) == (3, ("mat-1", "mat-3"), ("mat-3",))
