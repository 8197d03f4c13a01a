"""The thread that decides which reflections to refresh, and the refreshes themselves."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
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
REFRESH_USER = "$dremio$"


@dataclass(frozen=True)
class Built:
    """What the engine wrote: the files of one materialization and what it read for them."""

    files: tuple[str, ...]
    rows: int
    size: int
    scanned: tuple[Path, ...]
    versions: Mapping[str, str]  # encoded path of a table -> the version that was read
    anchor_snapshot: int | None


class Builder(Protocol):
    """The engine's side of a refresh."""

    def versions(self, tables: Sequence[Path]) -> Mapping[str, str] | None:
        """The versions at which these tables stand now; None when one has no version to compare."""
        ...

    def build(self, dataset: Path, reflection: Reflection, folder: str, job: Job) -> Built: ...


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
        due = [reflection for reflection in everything if self._due(reflection)]
        due_ids = {reflection.id for reflection in due}
        for reflection in sorted(due, key=self._depth):
            parents = [other for other in everything if self._builds_on(reflection, other)]
            now = clock.now()
            if rules.must_wait(reflection, parents, due_ids, now):
                self._wait(reflection)
            else:
                self._submit(reflection)

    def _due(self, reflection: Reflection) -> bool:
        dataset = self._reflections.dataset(reflection)
        if dataset is None or not self._valid(reflection, dataset):
            return False
        dependencies = self._store.dependencies.get(reflection.id, ())
        asked = rules.asked_at(reflection, dependencies, self._store.requests, dataset.kind, self._reflections.edition)
        policy = self._reflections.policy(reflection)
        return rules.due(reflection, asked, policy, clock.now(), self._faults.backoff_unit)

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

    def _depth(self, reflection: Reflection) -> tuple[bool, str]:
        dataset = self._reflections.dataset(reflection)
        return (dataset is None or dataset.kind == "view", reflection.id)

    def _builds_on(self, reflection: Reflection, other: Reflection) -> bool:
        """Whether `other` lies on a table that `reflection`, which lies on a view, reads."""
        if other.id == reflection.id or other.dataset_id == reflection.dataset_id or not other.enabled:
            return False
        return any(d.entity_id == other.dataset_id for d in self._store.dependencies.get(reflection.id, ()))

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
        if not self._unchanged(reflection, refresh, last):
            built = self._builder.build(dataset.path, reflection, refresh.folder, job)
            self._take(refresh, built)
        # Here and not at the end: looking up a table may register it, which must not happen under the store's guard.
        refresh.dependencies = self._dependencies(refresh)
        return Outcome(
            table=pa.table({"Records": pa.array([refresh.row_count], pa.int64())}),
            query_type="ACCELERATOR_CREATE",
            scanned=[names.decode(path) for path in refresh.sources],
        )

    def _unchanged(self, reflection: Reflection, refresh: Refresh, last: Refresh | None) -> bool:
        """A refresh that finds the same snapshots writes nothing, and is DONE all the same."""
        if last is None or last.definition_tag != refresh.definition_tag or not last.sources:
            return False
        if self._store.done.get(reflection.id) is not last:
            return False
        tables = [names.decode(path) for path in last.sources]
        versions = self._builder.versions(tables)
        if versions is None or dict(versions) != last.sources:
            return False
        refresh.folder, refresh.files = last.folder, list(last.files)
        refresh.row_count, refresh.size_bytes = last.row_count, last.size_bytes
        refresh.anchor_snapshot, refresh.sources = last.anchor_snapshot, dict(last.sources)
        refresh.refresh_method = "NONE"
        return True

    def _take(self, refresh: Refresh, built: Built) -> None:
        refresh.files = list(built.files)
        refresh.row_count, refresh.size_bytes = built.rows, built.size
        refresh.anchor_snapshot = built.anchor_snapshot
        refresh.sources = {names.encode(path): built.versions.get(names.encode(path), "") for path in built.scanned}

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
        own_folder = f"{self._distributed.root}/{reflection.id}/{refresh.id}"
        refresh.state, refresh.finished_at, refresh.expires_at = "DONE", now, expires
        refresh.last_refresh_from_pds = refresh.created_at
        healthy = replace(
            reflection, state=model.ACTIVE, failure_count=0, last_failure_message=None, last_failure_at=None
        )
        self._store.succeed(healthy, refresh, own_folder)

    def _dependencies(self, refresh: Refresh) -> tuple[Dependency, ...]:
        paths = [names.decode(path) for path in refresh.sources]
        found = []
        for path in paths:
            item = self._catalog.find(path)
            found.append(Dependency(path, item.id if isinstance(item, Entity) else None))
        return tuple(found)

    def _fail(self, reflection: Reflection, refresh: Refresh, message: str, state: str) -> None:
        """Count the failure; give up after the last try. The old materialization stays until it expires."""
        with self._store.guard:
            self._reflections.running.pop(reflection.id, None)
            refresh.state, refresh.finished_at, refresh.failure_message = state, clock.now(), message
            count = reflection.failure_count + 1
            failed = replace(
                reflection,
                state=model.FAILED if count >= model.MAX_ATTEMPTS else model.ACTIVE,
                failure_count=count,
                last_failure_message=message,
                last_failure_at=clock.now(),
            )
            self._store.fail(failed, refresh)
        log.warning("Refresh of reflection %s failed (%d times in a row): %s", reflection.name, count, message)

    # Sweeping ---------------------------------------------------------------------------------------------------

    def _sweep(self) -> None:
        """Delete the files of materializations that nobody can be reading any more."""
        limit = clock.now() - FOLDER_GRACE
        kept = {done.folder for done in list(self._store.done.values())}
        for folder, moment in list(self._store.doomed.items()):
            if moment < limit and folder not in kept:
                try:
                    self._distributed.remove(folder)
                except SqlError as error:
                    log.warning("Files of a dropped materialization stay for now: %s", error.message)
                    return
                self._store.folder_gone(folder)
