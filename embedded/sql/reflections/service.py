"""Creating, changing and removing reflections, and what of them may answer queries."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import pyarrow as pa

from embedded.sql import clock
from embedded.sql.catalog import names
from embedded.sql.catalog.entities import Entity
from embedded.sql.catalog.service import CatalogService
from embedded.sql.datasets import Materialization, Measure, Path, S3Access
from embedded.sql.errors import ConcurrentModification, NotFound, UnsupportedError, ValidationError
from embedded.sql.reflections import definition, model, rules
from embedded.sql.reflections.model import Policy, Reflection, Refresh, Status
from embedded.sql.reflections.store import ReflectionStore

log = logging.getLogger(__name__)

_STALE_TAG = (
    "The reflection seems to have been modified by another flow. Please verify the state of the reflection and retry "
    "the operation."
)


@dataclass(frozen=True)
class Usage:
    """In how many statements the planner looked at a reflection, could have used it, used it."""

    considered: int = 0
    matched: int = 0
    chosen: int = 0


class Reflections:
    """`wake` tells the manager that there is something to look at; `cancel_job` stops a refresh that is void."""

    def __init__(
        self, store: ReflectionStore, catalog: CatalogService, edition: rules.Edition, dist_access: S3Access
    ) -> None:
        self.store = store
        self.edition = edition
        self._catalog = catalog
        self._dist_access = dist_access
        self.wake: Callable[[], None] = lambda: None
        self.cancel_job: Callable[[str], None] = lambda job_id: None
        self._usage: dict[str, Usage] = {}
        self._made: dict[str, tuple[object, Materialization]] = {}  # reflection id -> what it was made of, the result
        self.running: dict[str, Refresh] = {}  # reflection id -> the refresh at work
        catalog.on_removed.append(self._datasets_removed)
        catalog.on_changed.append(self._dataset_changed)

    # Looking ----------------------------------------------------------------------------------------------------

    def get(self, reflection_id: str) -> Reflection:
        reflection = self.store.reflections.get(reflection_id.lower())
        if reflection is None:
            raise NotFound(f"Could not find a reflection with id [{reflection_id}]")
        return reflection

    def all(self) -> list[Reflection]:
        with self.store.guard:
            return sorted(self.store.reflections.values(), key=lambda r: (r.created_at, r.id))

    def of_dataset(self, dataset_id: str) -> list[Reflection]:
        return [reflection for reflection in self.all() if reflection.dataset_id == dataset_id]

    def dataset(self, reflection: Reflection) -> Entity | None:
        return self._catalog.entities.get(reflection.dataset_id)

    def policy(self, reflection: Reflection) -> Policy:
        entity = self.dataset(reflection)
        if entity is None:
            return Policy()
        root = self._catalog.entities.find(entity.path[:1])
        source = root.body if root is not None and root.kind == "source" else None
        return rules.policy_of(entity.body.get("accelerationRefreshPolicy"), source)

    def usable(self, reflection: Reflection) -> Refresh | None:
        """The materialization that may answer queries now."""
        done = self.store.done.get(reflection.id)
        if done is None or not reflection.enabled:
            return None
        if done.expires_at is not None and done.expires_at <= clock.now():
            return None
        return done

    def status(self, reflection: Reflection) -> Status:
        return model.status(reflection, self.policy(reflection), self.usable(reflection))

    def serving(self) -> Sequence[Materialization]:
        """For the planner: every materialization that may answer queries now."""
        found = []
        for reflection in list(self.store.reflections.values()):
            done = self.usable(reflection)
            dataset = self.dataset(reflection)
            if done is not None and done.sources and dataset is not None and not reflection.config_error:
                found.append(self._materialization(reflection, done, dataset))
        return found

    def _materialization(self, reflection: Reflection, done: Refresh, dataset: Entity) -> Materialization:
        key = (done.id, reflection.tag, dataset.path)
        known = self._made.get(reflection.id)
        if known is None or known[0] != key:
            made = Materialization(
                reflection_id=reflection.id,
                name=reflection.name,
                kind=reflection.type,
                dataset=dataset.path,
                access=self._dist_access,
                metadata=done.metadata,
                files=tuple(done.files),
                columns=tuple((name, kind) for name, kind in done.stored_columns),
                sources={names.decode(path): version for path, version in done.sources.items()},
                rows=done.row_count,
                size=done.size_bytes,
                **engine_fields(reflection.definition),
            )
            known = self._made[reflection.id] = (key, made)
        return known[1]

    def lineage(self, reflection_id: str) -> pa.Table:
        """What refreshes along with a reflection: all that read one of its tables; batches go one after the other."""
        wanted = self.get(reflection_id)
        tables = self._tables(wanted)
        together = [r for r in self.all() if r.id == wanted.id or tables & self._tables(r)]
        batches: dict[str, int] = {}
        for reflection in together:
            self._batch(reflection.id, {r.id for r in together}, batches)
        rows = sorted(((batches[r.id], r.created_at, r) for r in together), key=lambda row: row[:2])
        return pa.table(
            {
                "batch_number": pa.array([batch for batch, _, _ in rows], pa.int32()),
                "reflection_id": pa.array([r.id for _, _, r in rows], pa.string()),
                "reflection_name": pa.array([r.name for _, _, r in rows], pa.string()),
                "dataset_name": pa.array([self._dataset_name(r) for _, _, r in rows], pa.string()),
            }
        )

    def _dataset_name(self, reflection: Reflection) -> str:
        dataset = self.dataset(reflection)
        return names.quoted(dataset.path) if dataset is not None else ""

    def _tables(self, reflection: Reflection) -> set[str]:
        dependencies = self.store.dependencies.get(reflection.id, ())
        return {names.key_text(d.path) for d in dependencies if d.kind == "DATASET"}

    def _batch(self, reflection_id: str, among: set[str], batches: dict[str, int]) -> int:
        """One more than the last of those that it is made from."""
        if reflection_id not in batches:
            dependencies = self.store.dependencies.get(reflection_id, ())
            parents = [d.entity_id for d in dependencies if d.kind == "REFLECTION" and d.entity_id in among]
            batches[reflection_id] = 1 + max((self._batch(str(p), among, batches) for p in parents), default=-1)
        return batches[reflection_id]

    # Changing ---------------------------------------------------------------------------------------------------

    def create(self, dataset: Entity, kind: str, name: str, body: Mapping[str, Any], *, enabled: bool) -> Reflection:
        """Raises ValidationError for a column or type that does not fit, 409 for a name that is taken."""
        if not name or not name.isprintable():
            raise ValidationError("Reflection name must not be empty")
        checked = definition.normalise(kind, body, self._catalog.columns(dataset))
        with self.store.guard:
            if any(known.name.lower() == name.lower() for known in self.of_dataset(dataset.id)):
                raise ConcurrentModification(f"A reflection with the name [{name}] already exists on this dataset")
            reflection = Reflection(
                dataset.id, name, "RAW" if kind == "RAW" else "AGGREGATION", checked, enabled=enabled
            )
            self.store.insert(reflection)
        self.wake()
        return reflection

    def update(self, reflection: Reflection, tag: str | None, body: Mapping[str, Any]) -> Reflection:
        """Replace a definition. A real change, and enabling again, rebuild it and clear its failures."""
        dataset = self.dataset(reflection)
        if dataset is None:
            raise NotFound(f"Could not find dataset with id [{reflection.dataset_id}]")
        if body.get("type", reflection.type) != reflection.type:
            raise ValidationError("The type of a reflection cannot be changed")
        checked = definition.normalise(reflection.type, body, self._catalog.columns(dataset))
        enabled = bool(body.get("enabled", reflection.enabled))
        with self.store.guard:
            reflection = self.get(reflection.id)
            if tag != reflection.tag:
                raise ConcurrentModification(_STALE_TAG)
            name = str(body.get("name") or reflection.name)
            same = reflection.definition == checked and reflection.enabled == enabled and not reflection.config_error
            if same and reflection.state != model.FAILED:
                if name != reflection.name:
                    reflection = replace(reflection, name=name, tag=str(uuid.uuid4()), updated_at=clock.now())
                    self.store.save(reflection)
                return reflection
            changed = self._start_over(replace(reflection, name=name, definition=checked, enabled=enabled))
        self.wake()
        return changed

    def _start_over(self, reflection: Reflection) -> Reflection:
        """What was built is void; a running refresh will notice the new tag and throw its work away."""
        reflection = replace(
            reflection.healthy(model.UPDATE if reflection.enabled else model.ACTIVE),
            tag=str(uuid.uuid4()),
            updated_at=clock.now(),
            config_error="",
        )
        self.store.deprecate(reflection)
        running = self.running.get(reflection.id)
        if running is not None and running.job_id:
            self.cancel_job(running.job_id)
        return reflection

    def delete(self, reflection: Reflection) -> None:
        running = self.running.get(reflection.id)
        self.store.delete([reflection.id])
        if running is not None and running.job_id:
            self.cancel_job(running.job_id)
        self.wake()

    # Requests ---------------------------------------------------------------------------------------------------

    def request_dataset(self, dataset: Entity) -> None:
        """POST /catalog/{id}/refresh: store the request, wake the manager; nothing more."""
        targets = {dataset.id}
        if dataset.kind == "view" and self.edition == "enterprise":
            # Enterprise: all reflections on the view's base tables, and what is built on those.
            for reflection in self.of_dataset(dataset.id):
                dependencies = self.store.dependencies.get(reflection.id, ())
                targets.update(d.entity_id for d in dependencies if d.entity_id and d.kind == "DATASET")
        known = [target for target in targets if self._catalog.entities.get(target) is not None]
        self.store.request(known, clock.now())
        self.wake()

    def request_reflection(self, reflection: Reflection) -> None:
        if self.edition == "community":
            raise NotFound("HTTP 404 Not Found")
        with self.store.guard:
            self.store.save(replace(self.get(reflection.id), requested_at=clock.now()))
        self.wake()

    # SQL --------------------------------------------------------------------------------------------------------

    def create_from_sql(self, dataset: Entity, definition: Mapping[str, object]) -> str:
        kind, name = str(definition.get("type")), str(definition.get("name"))
        self.create(dataset, kind, name, definition, enabled=bool(definition.get("enabled", True)))
        return "Layout added."

    def drop_named(self, dataset: Entity, name: str) -> str:
        wanted = name.lower()
        for reflection in self.of_dataset(dataset.id):
            if reflection.name.lower() == wanted or reflection.id == wanted:
                self.delete(reflection)
                return "Layout dropped."
        raise ValidationError(f"No matching reflection named {name} found.")

    def set_acceleration(self, dataset: Entity, kind: Literal["RAW", "AGGREGATION"], *, enabled: bool) -> str:
        for reflection in self.of_dataset(dataset.id):
            if reflection.type == kind and reflection.enabled != enabled:
                self.update(reflection, reflection.tag, {**reflection.definition, "enabled": enabled})
        return "Acceleration enabled." if enabled else "Acceleration disabled."

    def refresh_from_sql(self, dataset: Entity) -> str:
        if self.edition == "community":
            raise UnsupportedError("REFRESH REFLECTIONS command is not supported.")
        self.request_dataset(dataset)
        return f"Refreshing reflections for dataset {names.quoted(dataset.path)}"

    # What happens around us -------------------------------------------------------------------------------------

    def _datasets_removed(self, removed: Sequence[Entity]) -> None:
        gone = {entity.id for entity in removed}
        ids = [reflection.id for reflection in self.all() if reflection.dataset_id in gone]
        for reflection_id in ids:
            running = self.running.get(reflection_id)
            if running is not None and running.job_id:
                self.cancel_job(running.job_id)
        if ids:
            self.store.dataset_gone(ids)

    def _dataset_changed(self, entity: Entity) -> None:
        """A view got another text: what was built from the old one is void. Data changed: some want a refresh."""
        for reflection in self.of_dataset(entity.id):
            if entity.kind == "view":
                with self.store.guard:
                    self._start_over(reflection)
        if any(self.policy(r).on_data_changes for r in self.all() if self._reads(r, entity)):
            self.request_dataset(entity)
        self.wake()

    def _reads(self, reflection: Reflection, entity: Entity) -> bool:
        dependencies = self.store.dependencies.get(reflection.id, ())
        return reflection.dataset_id == entity.id or any(d.entity_id == entity.id for d in dependencies)

    def count(self, reflections: Sequence[tuple[str, Path, str]]) -> None:
        """Remember what the planner said of each reflection, until the server stops."""
        for reflection_id, _, relationship in reflections:
            with self.store.guard:
                used = self._usage.get(reflection_id, Usage())
                self._usage[reflection_id] = Usage(
                    used.considered + 1,
                    used.matched + (relationship in ("MATCHED", "CHOSEN")),
                    used.chosen + (relationship == "CHOSEN"),
                )

    def usage(self, reflection: Reflection) -> Usage:
        return self._usage.get(reflection.id, Usage())


def engine_fields(stored: Mapping[str, Any]) -> dict[str, Any]:
    """A stored definition in the words of datasets.Materialization."""
    return {
        "display": tuple(item["name"] for item in stored.get("displayFields", ())),
        "dimensions": tuple((item["name"], item["granularity"]) for item in stored.get("dimensionFields", ())),
        "measures": tuple(
            Measure(item["name"], tuple(item["measureTypeList"])) for item in stored.get("measureFields", ())
        ),
    }
