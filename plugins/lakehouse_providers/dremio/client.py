"""Dremio over REST: a client for tasks and one for event loops. Contract: api/v3 of Dremio 24 to 26, v0 of Cloud.

Every call has a time limit; what may safely be repeated is repeated with back-off (see transport).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeVar

import httpx

from lakehouse_providers import transport
from lakehouse_providers.dremio import calls, errors
from lakehouse_providers.dremio.calls import Path, Pause, Step
from lakehouse_providers.dremio.endpoint import Endpoint
from lakehouse_providers.dremio.models import Job, Reflection, Row
from lakehouse_providers.dremio.results import Result
from lakehouse_providers.transport import Call

T = TypeVar("T")
Entity = dict[str, Any]


class DremioClient(transport.Session):
    """For tasks."""

    def __init__(self, endpoint: Endpoint) -> None:
        super().__init__(endpoint.http())
        self.endpoint = endpoint

    def call(self, call: Call) -> Any:
        """Sends one request. Raises DremioResponseError, DremioUnreachableError."""
        try:
            return calls.parsed(transport.send(self._http, self.endpoint.place(call), self.endpoint.retry))
        except httpx.TransportError as error:
            raise calls.unreachable(error, self.endpoint.base_url) from error

    def run(self, flow: Generator[Step, Any, T]) -> T:
        """Walks a conversation of `calls`; an error is raised inside it."""
        try:
            step = next(flow)
            while True:
                try:
                    answer = self._take(step)
                except errors.DremioError as error:
                    step = flow.throw(error)
                else:
                    step = flow.send(answer)
        except StopIteration as stop:
            result: T = stop.value
            return result

    def _take(self, step: Step) -> Any:
        return time.sleep(step.seconds) if isinstance(step, Pause) else self.call(step)

    # Jobs

    def submit(self, sql: str, context: Path | None = None, *, idempotent: bool = False) -> str:
        """Starts one statement and returns its job id. Syntax errors show in the job, not here.

        Mark a statement as idempotent if running it twice does no harm: then a lost reply is answered by a repeat.
        """
        return str(self.call(calls.sql(sql, context, idempotent=idempotent, engine=self.endpoint.engine))["id"])

    def job(self, job_id: str) -> Job:
        return Job.parse(job_id, self.call(calls.job(job_id)))

    def wait(self, job_id: str, *, timeout: float | None = None, longest_pause: float = 2.0) -> Job:
        return self.run(calls.wait_for_job(job_id, self.endpoint.job_url(job_id), timeout, longest_pause))

    def rows(self, job_id: str, limit: int | None = None) -> list[Row]:
        return self.result(job_id, limit).rows

    def result(self, job_id: str, limit: int | None = None) -> Result:
        """Schema and rows of a completed job. DECIMAL is exact; moments are text, as Dremio writes them."""
        return self.run(calls.result(job_id, limit))

    def cancel_job(self, job_id: str) -> bool:
        """False if there is nothing left to cancel."""
        try:
            self.call(calls.cancel_job(job_id))
        except (errors.DremioRequestError, errors.DremioNotFoundError, errors.DremioConflictError):
            return False
        return True

    def query(
        self,
        sql: str,
        context: Path | None = None,
        *,
        timeout: float | None = None,
        limit: int | None = None,
        idempotent: bool = False,
    ) -> list[Row]:
        """Runs one statement and returns its rows. Whatever interrupts the wait cancels the job."""
        job_id = self.submit(sql, context, idempotent=idempotent)
        try:
            self.wait(job_id, timeout=timeout)
        except (errors.DremioJobFailedError, errors.DremioJobCanceledError):
            raise
        except BaseException:  # out of time, a kill signal, a task timeout, no answer any more
            with suppress(errors.DremioError):
                self.cancel_job(job_id)
            raise
        return self.rows(job_id, limit)

    # Catalog

    def entity(self, entity_id: str) -> Entity:
        found: Entity = self.call(calls.entity(entity_id))
        return found

    def by_path(self, path: Path) -> Entity:
        found: Entity = self.call(calls.by_path(path))
        return found

    def catalog_by_path(self, path: Path) -> Entity | None:
        """None where nothing has that path."""
        try:
            return self.by_path(path)
        except errors.DremioNotFoundError:
            return None

    def catalog(self) -> list[Entity]:
        """The top level: sources, spaces and the home."""
        items: list[Entity] = self.call(Call("GET", f"{calls.V3}/catalog"))["data"]
        return items

    def create_catalog(self, body: Mapping[str, Any]) -> Entity:
        made: Entity = self.call(Call("POST", f"{calls.V3}/catalog", json=dict(body), idempotent=False))
        return made

    def update_catalog(self, entity_id: str, body: Mapping[str, Any]) -> Entity:
        """Replaces an entity; `body` needs its current `tag`. Raises DremioConflictError if somebody was quicker."""
        request = {**body, "id": entity_id}
        made: Entity = self.call(Call("PUT", calls.entity(entity_id).path, json=request, idempotent=False))
        return made

    def delete_catalog(self, entity_id: str, tag: str | None = None) -> None:
        params = {"tag": tag} if tag else None
        self.call(Call("DELETE", calls.entity(entity_id).path, params=params, idempotent=False))

    def ensure_space(self, name: str) -> Entity:
        return self._ensure([name], {"entityType": "space", "name": name})

    def ensure_folder(self, path: Path) -> Entity:
        return self._ensure(path, {"entityType": "folder", "path": list(path)})

    def _ensure(self, path: Path, body: Mapping[str, Any]) -> Entity:
        found = self.catalog_by_path(path)
        if found is not None:
            return found
        try:
            return self.create_catalog(body)
        except errors.DremioResponseError as error:  # lost reply, or a neighbour was quicker
            found = self.catalog_by_path(path)
            if found is None:
                raise error
            return found

    def apply_source(self, body: Mapping[str, Any]) -> Entity:
        """Creates the source, or replaces its settings. `body`: entityType, name, type, config, policies."""
        for _ in range(3):
            found = self.catalog_by_path([str(body["name"])])
            try:
                if found is None:
                    return self.create_catalog({"entityType": "source", **body})
                return self.update_catalog(found["id"], {"entityType": "source", **body, "tag": found.get("tag")})
            except errors.DremioConflictError as error:
                conflict = error  # somebody created or changed it between our two requests
        raise conflict

    def apply_view(self, path: Path, sql: str, context: Path | None = None) -> Entity:
        """Creates the view, or replaces its text."""
        body = {"entityType": "dataset", "type": "VIRTUAL_DATASET", "path": list(path), "sql": sql}
        body["sqlContext"] = list(context or [])
        found = self.catalog_by_path(path)
        if found is None:
            return self.create_catalog(body)
        return self.update_catalog(found["id"], {**body, "tag": found.get("tag")})

    def promote(self, path: Path, file_format: Mapping[str, Any]) -> Entity:
        """Makes a table of a folder or file. `file_format`: for example {"type": "Parquet"}. Idempotent."""
        found = self.by_path(path)
        if found.get("entityType") == "dataset":
            return found
        body = {"entityType": "dataset", "type": "PHYSICAL_DATASET", "path": list(path), "format": dict(file_format)}
        try:
            made: Entity = self.call(
                Call("POST", calls.entity(found["id"]).path, json={**body, "id": found["id"]}, idempotent=False)
            )
        except errors.DremioConflictError:
            return self.by_path(path)
        return made

    def refresh_reflections_of(self, dataset_id: str) -> None:
        """Asks for a refresh of all reflections that depend on a table. On Community a view's id does nothing."""
        self.call(Call("POST", calls.entity(dataset_id, "/refresh").path))  # a second request is absorbed

    def parents(self, dataset_id: str) -> list[str]:
        """Ids of the datasets a dataset is made from; none for a table. Enterprise only."""
        graph = self.call(calls.entity(dataset_id, "/graph")) or {}
        return [item["id"] for item in graph.get("parents") or []]

    def tags(self, entity_id: str) -> list[str]:
        try:
            body = self.call(calls.entity(entity_id, "/collaboration/tag"))
        except errors.DremioNotFoundError:
            return []
        return list((body or {}).get("tags") or [])

    # Reflections

    def dataset_reflections(self, dataset_id: str) -> list[Entity]:
        """As Dremio gives them."""
        return list(self.call(calls.reflections_of(dataset_id))["data"])

    def reflections(self, dataset_id: str) -> list[Reflection]:
        return [Reflection.parse(item) for item in self.dataset_reflections(dataset_id)]

    def reflection(self, reflection_id: str) -> Reflection:
        return Reflection.parse(self.call(calls.reflection(reflection_id)))

    def create_reflection(self, body: Mapping[str, Any]) -> Entity:
        """`body`: type, name, datasetId, and displayFields or dimensionFields and measureFields."""
        request = {"entityType": "reflection", "enabled": True, **body}
        made: Entity = self.call(Call("POST", f"{calls.V3}/reflection", json=request, idempotent=False))
        return made

    def update_reflection(self, reflection_id: str, body: Mapping[str, Any]) -> Entity:
        """Replaces a reflection; `body` needs its current `tag`. A changed definition is rebuilt from nothing."""
        place = calls.reflection(reflection_id).path
        made: Entity = self.call(Call("PUT", place, json=dict(body), idempotent=False))
        return made

    def delete_reflection(self, reflection_id: str) -> None:
        try:
            self.call(Call("DELETE", calls.reflection(reflection_id).path))
        except errors.DremioNotFoundError:
            return


class AsyncDremioClient(transport.AsyncSession):
    """For the triggerer: only what a wait needs."""

    def __init__(self, endpoint: Endpoint) -> None:
        super().__init__(endpoint.async_http())
        self.endpoint = endpoint

    async def call(self, call: Call) -> Any:
        try:
            return calls.parsed(await transport.asend(self._http, self.endpoint.place(call), self.endpoint.retry))
        except httpx.TransportError as error:
            raise calls.unreachable(error, self.endpoint.base_url) from error

    async def run(self, flow: Generator[Step, Any, T]) -> T:
        """Walks a conversation of `calls`; an error is raised inside it."""
        try:
            step = next(flow)
            while True:
                try:
                    answer = await self._take(step)
                except errors.DremioError as error:
                    step = flow.throw(error)
                else:
                    step = flow.send(answer)
        except StopIteration as stop:
            result: T = stop.value
            return result

    async def _take(self, step: Step) -> Any:
        return await (asyncio.sleep(step.seconds) if isinstance(step, Pause) else self.call(step))

    async def job(self, job_id: str) -> Job:
        return Job.parse(job_id, await self.call(calls.job(job_id)))

    async def cancel_job(self, job_id: str) -> bool:
        try:
            await self.call(calls.cancel_job(job_id))
        except (errors.DremioRequestError, errors.DremioNotFoundError, errors.DremioConflictError):
            return False
        return True

    async def query(self, sql: str, *, timeout: float = 120.0) -> list[Row]:
        """Runs a statement that only reads: a lost reply is answered by a repeat."""
        job_id = str((await self.call(calls.sql(sql, idempotent=True, engine=self.endpoint.engine)))["id"])
        await self.run(calls.wait_for_job(job_id, self.endpoint.job_url(job_id), timeout, 2.0))
        return (await self.run(calls.result(job_id, None))).rows

    async def reflections(self, ids: Sequence[str]) -> dict[str, Reflection | None]:
        """By id; None for one that no longer exists."""
        found: dict[str, Reflection | None] = {}
        for reflection_id in ids:
            try:
                found[reflection_id] = Reflection.parse(await self.call(calls.reflection(reflection_id)))
            except errors.DremioNotFoundError:
                found[reflection_id] = None
        return found
