"""Reflections in PostgreSQL, with a copy of the living ones in memory."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from embedded.sql import clock
from embedded.sql.database import Database, Row
from embedded.sql.datasets import Path
from embedded.sql.reflections.model import Dependency, Reflection, Refresh

RESTARTED = "The server stopped while the refresh was running"


class ReflectionStore:
    """Writers hold `guard`. Every method that changes something writes PostgreSQL first, then memory."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.guard = threading.RLock()
        self.reflections: dict[str, Reflection] = {}
        self.done: dict[str, Refresh] = {}  # reflection id -> its newest usable materialization
        self.dependencies: dict[str, tuple[Dependency, ...]] = {}
        self.requests: dict[str, datetime] = {}  # dataset id -> when a refresh was last asked for
        self.doomed: dict[str, datetime] = {}  # folder -> when it was given up
        self.root = ""  # where all folders lie

    def load(self) -> None:
        """Read all; what was running when the last server died is a failed refresh, and begins again."""
        with self._database.transaction() as connection:
            lost = connection.execute(
                "update materializations set state = 'FAILED', failure_message = %s, finished_at = now()"
                " where state = 'RUNNING' returning folder",
                (RESTARTED,),
            ).fetchall()
            self._doom([row["folder"] for row in lost], connection)
            connection.execute(
                "update reflections set state = 'REFRESH' where state in ('REFRESHING', 'REFRESH_PENDING')"
            )
            self.reflections = {
                str(row["id"]): _reflection(row) for row in connection.execute("select * from reflections")
            }
            newest = "select distinct on (reflection_id) * from materializations where state = 'DONE'"
            rows = connection.execute(newest + " order by reflection_id, created_at desc")
            self.done = {str(row["reflection_id"]): _refresh(row) for row in rows}
            self._load_dependencies(connection)
            requests = connection.execute("select * from refresh_requests")
            self.requests = {str(row["dataset_id"]): row["requested_at"] for row in requests}
            doomed = connection.execute("select * from doomed_folders")
            self.doomed = {row["folder"]: row["doomed_at"] for row in doomed}

    def _load_dependencies(self, connection: psycopg.Connection[Row]) -> None:
        found: dict[str, list[Dependency]] = {}
        for row in connection.execute("select * from reflection_dependencies order by dependency_path"):
            path = tuple(row["dependency_path"])
            entity = row["dependency_id"] if row["dependency_id"] != ".".join(path) else None
            found.setdefault(str(row["reflection_id"]), []).append(Dependency(path, entity, row["dependency_type"]))
        self.dependencies = {key: tuple(value) for key, value in found.items()}

    # Definitions ------------------------------------------------------------------------------------------------

    def insert(self, reflection: Reflection) -> None:
        self._database.execute(
            "insert into reflections (id, dataset_id, name, type, tag, enabled, definition, created_at, updated_at,"
            " state) values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
            (
                reflection.id,
                reflection.dataset_id,
                reflection.name,
                reflection.type,
                reflection.tag,
                reflection.enabled,
                Jsonb(reflection.definition),
                reflection.created_at,
                reflection.updated_at,
                reflection.state,
            ),
        )
        self._remember(reflection)

    def _remember(self, reflection: Reflection) -> None:
        with self.guard:
            self.reflections[reflection.id] = reflection

    def save(self, reflection: Reflection) -> None:
        """Take this changed reflection in place of the one with its id."""
        with self._database.transaction() as connection:
            self._update(reflection, connection)
        self._remember(reflection)

    def _update(self, reflection: Reflection, connection: psycopg.Connection[Row]) -> None:
        connection.execute(
            "update reflections set name = %s, tag = %s, enabled = %s, definition = %s, updated_at = %s, state = %s,"
            " config_error = %s, failure_count = %s, last_failure_message = %s, last_failure_at = %s,"
            " failing_since = %s, last_submitted_at = %s, requested_at = %s where id = %s",
            (
                reflection.name,
                reflection.tag,
                reflection.enabled,
                Jsonb(reflection.definition),
                reflection.updated_at,
                reflection.state,
                reflection.config_error,
                reflection.failure_count,
                reflection.last_failure_message,
                reflection.last_failure_at,
                reflection.failing_since,
                reflection.last_submitted_at,
                reflection.requested_at,
                reflection.id,
            ),
        )

    def delete(self, reflection_ids: Iterable[str]) -> None:
        """Definitions go at once; their files are doomed and go later."""
        ids = list(reflection_ids)
        with self.guard, self._database.transaction() as connection:
            self._doom([f"{self.root}/{reflection_id}" for reflection_id in ids], connection)
            connection.execute("delete from reflections where id = any(%s::uuid[])", (ids,))
        self._drop(ids)

    def dataset_gone(self, reflection_ids: Iterable[str]) -> None:
        """The cascade has deleted the rows; all their files are doomed."""
        ids = list(reflection_ids)
        with self._database.transaction() as connection:
            self._doom([f"{self.root}/{reflection_id}" for reflection_id in ids], connection)
        self._drop(ids)

    def _drop(self, ids: Sequence[str]) -> None:
        with self.guard:
            for reflection_id in ids:
                self.reflections.pop(reflection_id, None)
                self.done.pop(reflection_id, None)
                self.dependencies.pop(reflection_id, None)

    def request(self, dataset_ids: Iterable[str], moment: datetime) -> None:
        ids = list(dataset_ids)
        with self.guard, self._database.transaction() as connection:
            for dataset_id in ids:
                connection.execute(
                    "insert into refresh_requests (dataset_id, requested_at) values (%s, %s)"
                    " on conflict (dataset_id) do update set requested_at = excluded.requested_at",
                    (dataset_id, moment),
                )
        self.requests.update(dict.fromkeys(ids, moment))

    # Refreshes --------------------------------------------------------------------------------------------------

    def begin(self, reflection: Reflection, refresh: Refresh) -> None:
        """The intent is durable before a file is written: nothing can be orphaned."""
        with self._database.transaction() as connection:
            self._insert_refresh(refresh, connection)
            self._update(reflection, connection)
        self._remember(reflection)

    def _insert_refresh(self, refresh: Refresh, connection: psycopg.Connection[Row]) -> None:
        connection.execute(
            "insert into materializations (id, reflection_id, state, created_at, job_id, series_id, series_ordinal,"
            " definition_tag, folder) values (%s, %s, %s, %s, %s, %s, %s, %s, %s)",
            (
                refresh.id,
                refresh.reflection_id,
                refresh.state,
                refresh.created_at,
                refresh.job_id,
                refresh.series_id,
                refresh.series_ordinal,
                refresh.definition_tag,
                refresh.folder,
            ),
        )

    def succeed(self, reflection: Reflection, refresh: Refresh) -> None:
        """In one transaction: this one is DONE, the older ones are DEPRECATED and their files doomed."""
        with self.guard, self._database.transaction() as connection:
            self._write_end(refresh, connection)
            old = connection.execute(
                "update materializations set state = 'DEPRECATED' where reflection_id = %s and state = 'DONE'"
                " and id != %s returning *",
                (reflection.id, refresh.id),
            ).fetchall()
            given_up = {refresh.folder}.union(*(_refresh(row).folders() for row in old))
            self._doom(given_up - refresh.folders(), connection)
            connection.execute("delete from reflection_dependencies where reflection_id = %s", (reflection.id,))
            for dependency in refresh.dependencies:
                connection.execute(
                    "insert into reflection_dependencies values (%s, %s, %s, %s) on conflict do nothing",
                    (
                        reflection.id,
                        dependency.kind,
                        dependency.entity_id or ".".join(dependency.path),
                        list(dependency.path),
                    ),
                )
            self._update(reflection, connection)
        with self.guard:
            self._remember(reflection)
            self.done[reflection.id] = refresh
            self.dependencies[reflection.id] = refresh.dependencies

    def fail(self, reflection: Reflection, refresh: Refresh) -> None:
        with self.guard, self._database.transaction() as connection:
            self._write_end(refresh, connection)
            self._doom([refresh.folder], connection)
            self._update(reflection, connection)
        self._remember(reflection)

    def _write_end(self, refresh: Refresh, connection: psycopg.Connection[Row]) -> None:
        connection.execute(
            "update materializations set state = %s, finished_at = %s, expires_at = %s, last_refresh_from_pds = %s,"
            " refresh_method = %s, failure_message = %s, row_count = %s, size_bytes = %s, metadata = %s, files = %s,"
            " stored_columns = %s, sources = %s, parents = %s where id = %s",
            (
                refresh.state,
                refresh.finished_at,
                refresh.expires_at,
                refresh.last_refresh_from_pds,
                refresh.refresh_method,
                refresh.failure_message,
                refresh.row_count,
                refresh.size_bytes,
                refresh.metadata,
                Jsonb(refresh.files),
                Jsonb(refresh.stored_columns),
                Jsonb(refresh.sources),
                Jsonb(refresh.parents),
                refresh.id,
            ),
        )

    def deprecate(self, reflection: Reflection) -> None:
        """Nothing of this reflection may answer any more (it was changed or disabled, its view was, it expired)."""
        with self.guard, self._database.transaction() as connection:
            old = connection.execute(
                "update materializations set state = 'DEPRECATED' where reflection_id = %s and state = 'DONE'"
                " returning *",
                (reflection.id,),
            ).fetchall()
            self._doom(set().union(*(_refresh(row).folders() for row in old)), connection)
            self._update(reflection, connection)
        with self.guard:
            self._remember(reflection)
            self.done.pop(reflection.id, None)

    def refreshes(self) -> list[Refresh]:
        """All materializations that are remembered, oldest first."""
        return [_refresh(row) for row in self._database.rows("select * from materializations order by created_at")]

    # Files ------------------------------------------------------------------------------------------------------

    def _doom(self, folders: Iterable[str], connection: psycopg.Connection[Row]) -> None:
        """A folder that was doomed already may have been read until now: its grace begins again."""
        moment = clock.now()
        for folder in set(folders) - {""}:
            connection.execute(
                "insert into doomed_folders (folder, doomed_at) values (%s, %s)"
                " on conflict (folder) do update set doomed_at = excluded.doomed_at",
                (folder, moment),
            )
            self.doomed[folder] = moment

    def kept_folders(self) -> set[str]:
        """Folders that a usable materialization needs."""
        return set().union(*(done.folders() for done in list(self.done.values())))

    def folder_gone(self, folder: str) -> None:
        with self._database.transaction() as connection:
            connection.execute("delete from doomed_folders where folder = %s", (folder,))
            connection.execute(
                "update materializations set state = 'DELETED' where folder = %s and state = 'DEPRECATED'", (folder,)
            )
        self.doomed.pop(folder, None)

    def clean(self, before: datetime) -> None:
        """Forget ended materializations older than this."""
        self._database.execute(
            "delete from materializations where finished_at < %s and state in ('FAILED', 'CANCELED', 'DELETED')",
            (before,),
        )

    def dependency_paths(self, reflection_id: str) -> list[Path]:
        return [dependency.path for dependency in self.dependencies.get(reflection_id, ())]


def _reflection(row: Row) -> Reflection:
    names: tuple[str, ...] = ("name", "type", "definition", "enabled", "tag", "created_at", "updated_at", "state")
    names += ("config_error", "failure_count", "last_failure_message", "last_failure_at", "last_submitted_at")
    names += ("requested_at", "failing_since")
    values: dict[str, Any] = {name: row[name] for name in names}
    return Reflection(id=str(row["id"]), dataset_id=str(row["dataset_id"]), **values)


def _refresh(row: Row) -> Refresh:
    names: tuple[str, ...] = ("state", "created_at", "finished_at", "expires_at", "last_refresh_from_pds", "series_id")
    names += ("series_ordinal", "definition_tag", "refresh_method", "failure_message", "row_count", "size_bytes")
    names += ("folder", "metadata", "files", "stored_columns", "sources", "parents")
    values: dict[str, Any] = {name: row[name] for name in names}
    job_id = str(row["job_id"]) if row["job_id"] else None
    return Refresh(id=str(row["id"]), reflection_id=str(row["reflection_id"]), job_id=job_id, **values)
