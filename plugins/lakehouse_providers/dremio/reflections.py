"""Which reflections a task means, which tables they hang on, and asking for their refresh. No Airflow."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from lakehouse_providers.dremio import errors, refresh, sql
from lakehouse_providers.dremio.client import DremioClient, Entity
from lakehouse_providers.dremio.models import Materialization, Reflection, instant

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Selection:
    """Reflections on `datasets`; narrowed to those with a name or id in `names`, and to datasets tagged `tag`."""

    datasets: tuple[tuple[str, ...], ...]
    names: tuple[str, ...] = ()
    tag: str | None = None


@dataclass(frozen=True)
class Chosen:
    reflection: Reflection
    dataset: str
    entity: Entity


def choose(client: DremioClient, selection: Selection) -> list[Chosen]:
    """Raises DremioReflectionError for a dataset that is missing, or when nothing is found."""
    chosen: list[Chosen] = []
    for path in selection.datasets:
        entity = client.catalog_by_path(path)
        if entity is None or entity.get("entityType") != "dataset":
            raise errors.DremioReflectionError(f"{sql.dotted(path)} is no dataset in Dremio")
        if selection.tag is not None and selection.tag not in client.tags(entity["id"]):
            continue
        for reflection in client.reflections(entity["id"]):
            if not selection.names or {reflection.name, reflection.id} & set(selection.names):
                chosen.append(Chosen(reflection, sql.dotted(path), entity))
    missing = set(selection.names) - {name for c in chosen for name in (c.reflection.name, c.reflection.id)}
    if missing or not chosen:
        where = ", ".join(sql.dotted(path) for path in selection.datasets) or "no dataset at all"
        what = f"reflection {', '.join(sorted(missing))}" if missing else "no reflection"
        tagged = f" tagged {selection.tag!r}" if selection.tag else ""
        raise errors.DremioReflectionError(f"{what} found on {where}{tagged}; create it, or correct the task")
    return chosen


def usable(client: DremioClient, chosen: Iterable[Chosen], *, skip: bool, revive: bool) -> list[Chosen]:
    """Those that can be refreshed. Others raise DremioReflectionError, or are left out if `skip`.

    `revive` brings back given-up ones by switching them off and on, which drops what they hold.
    """
    good: list[Chosen] = []
    complaints: list[str] = []
    for one in chosen:
        complaint = _complaint(one.reflection, revive=revive)
        if complaint:
            complaints.append(f"{one.reflection.name} on {one.dataset} {complaint}")
        elif one.reflection.refresh == "GIVEN_UP":
            good.append(Chosen(_revive(client, one.reflection), one.dataset, one.entity))
        else:
            good.append(one)
    if complaints and not skip:
        raise errors.DremioReflectionError("; ".join(complaints))
    for complaint in complaints:
        log.warning("Left out: %s", complaint)
    if not good:
        raise errors.DremioReflectionError("no reflection left to refresh: " + "; ".join(complaints))
    return good


def _complaint(reflection: Reflection, *, revive: bool) -> str:
    if not reflection.enabled:
        return "is disabled"
    if reflection.config == "INVALID":
        return f"is invalid: its definition does not fit the dataset. {reflection.last_failure}".strip()
    # An enabled reflection without any entry also shows GIVEN_UP, but then it has never failed.
    if reflection.refresh == "GIVEN_UP" and reflection.failure_count and not revive:
        return (
            f"was given up by Dremio after {reflection.failure_count} failures ({reflection.last_failure}); "
            "mend the cause, then edit the reflection or run with revive=True, which drops what it holds"
        )
    return ""


def _revive(client: DremioClient, reflection: Reflection) -> Reflection:
    if not reflection.failure_count:
        return reflection
    log.warning("Switching %s off and on; it cannot accelerate until it is built again", reflection.name)
    off = client.update_reflection(reflection.id, {**reflection.raw, "enabled": False})
    return Reflection.parse(client.update_reflection(reflection.id, {**off, "enabled": True}))


Dependencies = Mapping[str, Sequence[tuple[str, str]]]  # reflection id: (DATASET or REFLECTION, id)


def dependencies(client: DremioClient) -> dict[str, list[tuple[str, str]]]:
    found: dict[str, list[tuple[str, str]]] = {}
    for row in client.query(sql.dependencies(client.endpoint.system), idempotent=True):
        found.setdefault(row["reflection_id"], []).append((row["dependency_type"], row["dependency_id"]))
    return found


def leaves(reflection_id: str, known: Dependencies) -> set[str]:
    """Ids of the tables a reflection is finally built from; empty if Dremio has not yet built it once."""
    tables: set[str] = set()
    seen: set[str] = set()
    todo = [reflection_id]
    while todo:
        current = todo.pop()
        if current in seen:
            continue
        seen.add(current)
        for kind, other in known.get(current, ()):
            if kind == "REFLECTION":
                todo.append(other)
            elif kind == "DATASET":
                tables.add(other)
    return tables


def base_tables(client: DremioClient, chosen: Iterable[Chosen], known: Dependencies) -> dict[str, set[str]]:
    """For each reflection the ids of its base tables: Community refreshes tables only, a view's id does nothing."""
    return {one.reflection.id: leaves(one.reflection.id, known) or _from_catalog(client, one) for one in chosen}


def _from_catalog(client: DremioClient, one: Chosen) -> set[str]:
    """For a reflection that was never built: the dataset itself if it is a table, else the leaves of its graph."""
    if one.entity.get("type") == "PHYSICAL_DATASET":
        return {one.entity["id"]}
    tables: set[str] = set()
    todo, seen = [one.entity["id"]], set[str]()
    try:
        while todo:
            current = todo.pop()
            if current in seen:
                continue
            seen.add(current)
            parents = client.parents(current)
            if parents or current == one.entity["id"]:
                todo.extend(parents)
            else:
                tables.add(current)
    except errors.DremioResponseError as error:
        log.info("The catalog has no lineage to offer: %s", error)
        tables = set()
    if not tables:
        raise errors.DremioReflectionError(
            f"the tables under {one.dataset} are not known to Dremio yet; name them in the task's base_tables"
        )
    return tables


def downstream(client: DremioClient, tables: set[str], known: Dependencies, have: set[str]) -> list[Chosen]:
    """The other enabled reflections that a refresh of `tables` also rebuilds."""
    more: list[Chosen] = []
    for reflection_id in known:
        if reflection_id in have or not leaves(reflection_id, known) & tables:
            continue
        try:
            reflection = client.reflection(reflection_id)
        except errors.DremioNotFoundError:
            continue
        if reflection.enabled and reflection.config != "INVALID":
            more.append(Chosen(reflection, reflection.raw.get("datasetName") or reflection.dataset_id, {}))
    return more


def take_baseline(client: DremioClient, chosen: Sequence[Chosen], tables: Iterable[str]) -> refresh.Baseline:
    """Must come before the first refresh request, and after the data that the reflections shall contain."""
    at = instant(client.query(sql.NOW, idempotent=True)[0]["server_time"])
    if at is None:
        raise errors.DremioError("Dremio did not tell its time")
    rows = client.query(
        sql.materializations((c.reflection.id for c in chosen), client.endpoint.system), idempotent=True
    )
    made = [Materialization.parse(row) for row in rows]
    targets = tuple(refresh.target(client.reflection(c.reflection.id), c.dataset, made) for c in chosen)
    return refresh.Baseline(at=at, targets=targets, tables=tuple(sorted(set(tables))))
