"""The thread that decides which reflections to refresh, and the refreshes themselves."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Protocol

import pyarrow as pa

from embedded.sql import clock
from embedded.sql.catalog import names
from embedded.sql.catalog.entities import Entity
from embedded.sql.catalog.service import CatalogService
from embedded.sql.datasets import Outcome, Path
from embedded.sql.errors import DataReadError, NotFound, SqlError
from embedded.sql.faults import Faults
from embedded.sql.jobs.model import CANCELED, COMPLETED, Job
from embedded.sql.jobs.service import Jobs
from embedded.sql.reflections import definition, model, rules
from embedded.sql.reflections.files import Distributed
from embedded.sql.reflections.model import Dependency, Reflection, Refresh
from embedded.sql.reflections.service import Reflections

log = logging.getLogger(__name__)

WAKE_EVERY = 10.0  # seconds, as Dremio's manager
FOLDER_GRACE = timedelta(minutes=10)  # readers that planned with old files may still be at them
MAX_UNIONS = 50  # refreshes that add to one another before the next one is full
REFRESH_USER = "$dremio$"


@dataclass(frozen=True)
class Built:
    """What the engine wrote for one materialization and what it read for it."""

    metadata: str
    files: tuple[str, ...]
    rows: int
    size: int
    columns: tuple[tuple[str, str], ...]
    scanned: tuple[Path, ...]
    sources: Mapping[str, str]  # encoded path of a table or view -> the version that was read
    method: str
    parents: tuple[str, ...]  # reflections


class Builder(Protocol):
    """The engine's side of a refresh."""

    def versions(self, dataset: Path) -> Mapping[str, str]:
        """The versions at which all that a dataset reads stands now; empty when something has none to compare."""
        ...

    def build(self, dataset: Path, reflection: Reflection, folder: str, job: Job, base: Refresh | None) -> Built:
        """Refresh in full, or from `base` on where that gives the same."""
        ...


class RefreshFailed(SqlError):
    """A refresh ended without a materialization."""


class ReflectionManager:
    """Wakes when told to or every ten seconds; starts at most what is due; never dies."""

    def __init__(
        self,
        reflections: Reflections,
        catalog: CatalogService,
        jobs: Jobs,
        builder: Builder,
        distributed: Distributed,
        faults: Faults,
    ) -> None:
        self._reflections = reflections
        self._store = reflections.store
        self._catalog = catalog
        self._jobs = jobs
        self._builder = builder
        self._distributed = distributed
        self._faults = faults
        self._signal = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="reflection-manager", daemon=True)
        self._store.root = distributed.root
        self._polled: dict[str, datetime] = {}  # reflection id -> when its sources were last looked at
        self._parents: dict[str, set[str]] = {}  # a reflection that is not built yet -> what its dataset reads
        faults.on_advance = self._signal.set
        reflections.wake = self._signal.set
        reflections.cancel_job = lambda job_id: jobs.cancel(job_id, REFRESH_USER)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._signal.set()
        self._thread.join(timeout=5)

    def _loop(self) -> None:
        while not self._stopping.is_set():
            try:
                self._pass()
                self._sweep()
            except SqlError as error:  # PostgreSQL is away
                log.warning("Reflections wait: %s", error.message)
            except Exception:
                log.exception("The reflection manager stumbled")
            self._signal.wait(self._pause())
            self._signal.clear()

    def _pause(self) -> float:
        """Until the next back-off ends, at most the usual interval."""
        unit = self._faults.backoff_unit
        ends = [r.backoff_ends(unit) for r in self._reflections.all() if r.enabled and r.state != model.FAILED]
        waits = [(end - clock.now()).total_seconds() for end in ends if end is not None]
        return min([WAKE_EVERY, *(max(0.05, wait) for wait in waits)])

    # Deciding ---------------------------------------------------------------------------------------------------

    def _pass(self) -> None:
        everything = self._reflections.all()
        for reflection in everything:
            self._expire(reflection)
        due = [reflection for reflection in everything if self._due(reflection)]
        due_ids = {reflection.id for reflection in due}
        for reflection in sorted(due, key=self._depth):
            parents = [other for other in everything if self._builds_on(reflection, other)]
            now = clock.now()
            if rules.must_wait(reflection, parents, due_ids, now):
                self._wait(reflection)
            else:
                self._submit(reflection)

    def _expire(self, reflection: Reflection) -> None:
        """A materialization past its grace period answers nothing any more; its files go."""
        done = self._store.done.get(reflection.id)
        if done is not None and done.expires_at is not None and done.expires_at <= clock.now():
            with self._store.guard:
                current = self._store.reflections.get(reflection.id)
                if current is not None and self._store.done.get(reflection.id) is done:
                    self._store.deprecate(current)

    def _due(self, reflection: Reflection) -> bool:
        dataset = self._reflections.dataset(reflection)
        if dataset is None or not self._valid(reflection, dataset):
            return False
        dependencies = self._store.dependencies.get(reflection.id, ())
        asked = rules.asked_at(reflection, dependencies, self._store.requests, dataset.kind, self._reflections.edition)
        parents = [self._store.done[d.entity_id].created_at for d in dependencies if d.entity_id in self._store.done]
        asked = max([moment for moment in (asked, *parents) if moment is not None], default=None)
        policy = self._reflections.policy(reflection)
        if rules.due(reflection, asked, policy, clock.now(), self._faults.backoff_unit):
            return True
        return policy.on_data_changes and self._data_changed(reflection, dataset)

    def _data_changed(self, reflection: Reflection, dataset: Entity) -> bool:
        """Has someone committed to a table below, perhaps past this server? Looked at every ten seconds."""
        done = self._store.done.get(reflection.id)
        now = clock.now()
        seen = self._polled.get(reflection.id)
        if done is None or reflection.state != model.ACTIVE or reflection.failure_count:
            return False
        if seen is not None and now - seen < timedelta(seconds=WAKE_EVERY):
            return False
        self._polled[reflection.id] = now
        try:
            versions = dict(self._builder.versions(dataset.path))
        except SqlError:
            return False  # the source is away
        return bool(versions) and versions != done.sources

    def _valid(self, reflection: Reflection, dataset: Entity) -> bool:
        """Keep `config_error` true to the dataset's columns of now."""
        if not reflection.enabled or reflection.state == model.REFRESHING:
            return reflection.enabled
        try:
            missing = definition.missing_columns(reflection.definition, self._catalog.columns(dataset))
        except NotFound:
            return False
        except SqlError:
            return not reflection.config_error  # the source is away: the refresh itself will say so
        error = f"Columns {', '.join(missing)} are not in the dataset any more" if missing else ""
        if error != reflection.config_error:
            self._change(reflection, config_error=error)
        return not error

    def _depth(self, reflection: Reflection) -> tuple[int, str]:
        """What reads more comes later."""
        return (len(self._sources(reflection)), reflection.id)

    def _sources(self, reflection: Reflection) -> set[str]:
        """(encoded, lowered) paths of all tables and views that a reflection's dataset reads, itself included."""
        done = self._store.done.get(reflection.id)
        if done is not None and done.sources:
            return set(done.sources)
        dataset = self._reflections.dataset(reflection)
        if dataset is None:
            return set()
        if reflection.tag not in self._parents:
            try:
                self._parents[reflection.tag] = set(self._builder.versions(dataset.path))
            except SqlError:
                return set()  # the refresh itself will say what is wrong
        return self._parents[reflection.tag]

    def _builds_on(self, reflection: Reflection, other: Reflection) -> bool:
        """Whether `other` lies on a table or view that `reflection` reads."""
        if other.id == reflection.id or other.dataset_id == reflection.dataset_id or not other.enabled:
            return False
        below = self._reflections.dataset(other)
        return below is not None and names.encode(names.key(below.path)) in self._sources(reflection)

    def _wait(self, reflection: Reflection) -> None:
        if reflection.state == model.REFRESH_PENDING:
            return
        self._change(reflection, state=model.REFRESH_PENDING, pending_since=clock.now())

    def _change(self, reflection: Reflection, **fields: Any) -> None:
        with self._store.guard:
            current = self._store.reflections.get(reflection.id)
            if current is not None:
                self._store.save(replace(current, **fields))

    # Starting ---------------------------------------------------------------------------------------------------

    def _submit(self, reflection: Reflection) -> None:
        last = self._store.done.get(reflection.id)
        moment = clock.now()
        refresh = Refresh(
            reflection.id,
            reflection.tag,
            series_id=last.series_id if last else clock.epoch_ms(moment),
            series_ordinal=last.series_ordinal + 1 if last else 0,
            created_at=moment,
        )
        refresh.folder = f"{self._distributed.root}/{reflection.id}/{refresh.id}"
        job = Job(
            sql=f"REFRESH REFLECTION '{reflection.id}' AS '{refresh.id}'",
            user=REFRESH_USER,
            query_type="ACCELERATOR_CREATE",
            run=lambda job: self._run(job, reflection, refresh, last),
            on_end=lambda job: self._ended(job, refresh),
            details={"reflectionId": reflection.id, "materializationId": refresh.id},
        )
        refresh.job_id = job.id
        with self._store.guard:
            current = self._store.reflections.get(reflection.id)
            if current is None or current.tag != reflection.tag:
                return  # changed or deleted a moment ago: the next pass sees what it is now
            started = replace(current, state=model.REFRESHING, last_submitted_at=moment, pending_since=None)
            self._store.begin(started, refresh)
            self._reflections.running[reflection.id] = refresh
        try:
            self._jobs.submit(job, line="REFLECTION")
        except SqlError as error:
            self._fail(started, refresh, error.message, "FAILED")

    # Running (in the refresh worker) ----------------------------------------------------------------------------

    def _run(self, job: Job, reflection: Reflection, refresh: Refresh, last: Refresh | None) -> Outcome:
        reason = self._faults.before_refresh(job.cancelled)
        if reason is not None:
            raise DataReadError(reason)
        dataset = self._reflections.dataset(reflection)
        if dataset is None:
            raise RefreshFailed("The dataset of the reflection is gone")
        # Taken before: what a parent fetched then, this one has at least.
        fetched = {i: done.last_refresh_from_pds for i, done in list(self._store.done.items())}
        if not self._unchanged(reflection, dataset, refresh, last):
            base = last if self._extensible(reflection, refresh, last) else None
            built = self._builder.build(dataset.path, reflection, refresh.folder, job, base)
            self._faults.after_refresh(job.cancelled)
            self._take(refresh, built)
            if built.method == "FULL":
                refresh.series_id, refresh.series_ordinal = clock.epoch_ms(refresh.created_at), 0
            oldest = [fetched[parent] for parent in built.parents if fetched.get(parent) is not None]
            refresh.last_refresh_from_pds = min(oldest, default=None)  # type: ignore[type-var]
            # Here and not at the end: looking up a table may register it, which must not be under the store's guard.
            refresh.dependencies = self._dependencies(built)
        else:
            refresh.dependencies = self._store.dependencies.get(reflection.id, ())
        return Outcome(
            table=pa.table({"Records": pa.array([refresh.row_count], pa.int64())}),
            query_type="ACCELERATOR_CREATE",
            scanned=[d.path for d in refresh.dependencies if d.kind == "DATASET"],
        )

    def _extensible(self, reflection: Reflection, refresh: Refresh, last: Refresh | None) -> bool:
        """May a refresh add to the last one? After so many additions reading them costs more than starting over."""
        if last is None or last.definition_tag != refresh.definition_tag or not last.sources or not last.metadata:
            return False
        return self._store.done.get(reflection.id) is last and last.series_ordinal + 1 < MAX_UNIONS

    def _unchanged(self, reflection: Reflection, dataset: Entity, refresh: Refresh, last: Refresh | None) -> bool:
        """A refresh that finds the same versions writes nothing, and is DONE all the same."""
        if last is None or last.definition_tag != refresh.definition_tag or not last.sources:
            return False
        if self._store.done.get(reflection.id) is not last:
            return False
        if dict(self._builder.versions(dataset.path)) != last.sources:
            return False
        refresh.metadata, refresh.files, refresh.stored_columns = last.metadata, list(last.files), last.stored_columns
        refresh.row_count, refresh.size_bytes = last.row_count, last.size_bytes
        refresh.sources, refresh.parents = dict(last.sources), list(last.parents)
        refresh.series_id, refresh.series_ordinal = last.series_id, last.series_ordinal
        refresh.refresh_method = "NONE"
        return True

    def _take(self, refresh: Refresh, built: Built) -> None:
        refresh.metadata, refresh.files = built.metadata, list(built.files)
        refresh.stored_columns = [list(column) for column in built.columns]
        refresh.row_count, refresh.size_bytes = built.rows, built.size
        refresh.sources, refresh.parents = dict(built.sources), list(built.parents)
        refresh.refresh_method = built.method

    # Ending -----------------------------------------------------------------------------------------------------

    def _ended(self, job: Job, refresh: Refresh) -> None:
        if self._stopping.is_set() and job.state != COMPLETED:
            return  # not the refresh's fault: the next start begins it again
        while True:
            try:
                self._write_down(job, refresh)
                break
            except SqlError as error:
                log.warning("The end of a refresh cannot be written yet: %s", error.message)
                if self._stopping.wait(1.0):
                    return
        self._signal.set()

    def _write_down(self, job: Job, refresh: Refresh) -> None:
        with self._store.guard:
            if self._reflections.running.get(refresh.reflection_id) is refresh:
                del self._reflections.running[refresh.reflection_id]
            reflection = self._store.reflections.get(refresh.reflection_id)
            if reflection is not None:
                self._settle(job, reflection, refresh)

    def _settle(self, job: Job, reflection: Reflection, refresh: Refresh) -> None:
        void = refresh.definition_tag != reflection.tag
        if void:
            refresh.state, refresh.finished_at = "CANCELED", clock.now()
            refresh.failure_message = "The reflection was changed during the refresh"
            state = model.UPDATE if reflection.state == model.REFRESHING else reflection.state
            self._store.fail(replace(reflection, state=state), refresh)
        elif job.state == COMPLETED:
            self._succeed(reflection, refresh)
        elif job.state == CANCELED:
            self._fail(reflection, refresh, job.cancellation_reason or "The refresh was cancelled", "CANCELED")
        else:
            self._fail(reflection, refresh, job.error, "FAILED")

    def _succeed(self, reflection: Reflection, refresh: Refresh) -> None:
        policy = self._reflections.policy(reflection)
        now = clock.now()
        expires = model.expiry(refresh.created_at, policy)
        if expires <= now:
            # Dremio does not count this one: it is the grace period that is wrong.
            refresh.state, refresh.finished_at = "FAILED", now
            refresh.failure_message = "Successful materialization already expired"
            self._store.fail(replace(reflection, state=model.ACTIVE), refresh)
            return
        refresh.state, refresh.finished_at, refresh.expires_at = "DONE", now, expires
        refresh.last_refresh_from_pds = refresh.last_refresh_from_pds or refresh.created_at
        self._store.succeed(reflection.healthy(), refresh)

    def _dependencies(self, built: Built) -> tuple[Dependency, ...]:
        found = []
        for path in built.scanned:
            item = self._catalog.find(path)
            known = item if isinstance(item, Entity) else None
            found.append(Dependency(known.path if known else path, known.id if known else None))
        for parent in built.parents:
            reflection = self._store.reflections.get(parent)
            dataset = self._reflections.dataset(reflection) if reflection is not None else None
            if reflection is not None and dataset is not None:
                found.append(Dependency((*dataset.path, reflection.name), parent, "REFLECTION"))
        return tuple(found)

    def _fail(self, reflection: Reflection, refresh: Refresh, message: str, state: str) -> None:
        """Count the failure; give up after the last try. The old materialization stays until it expires."""
        with self._store.guard:
            self._reflections.running.pop(reflection.id, None)
            refresh.state, refresh.finished_at, refresh.failure_message = state, clock.now(), message
            failed = reflection.failed(message, clock.now())
            self._store.fail(failed, refresh)
        count = failed.failure_count
        log.warning("Refresh of reflection %s failed (%d times in a row): %s", reflection.name, count, message)

    # Sweeping ---------------------------------------------------------------------------------------------------

    def _sweep(self) -> None:
        """Delete the files of materializations that nobody can be reading any more."""
        limit = min(clock.now() - FOLDER_GRACE, self._jobs.oldest_start() or clock.now())
        kept = self._store.kept_folders()
        for folder, moment in list(self._store.doomed.items()):
            if moment < limit and folder not in kept:
                try:
                    self._distributed.remove(folder)
                except SqlError as error:
                    log.warning("Files of a dropped materialization stay for now: %s", error.message)
                    return
                self._store.folder_gone(folder)
