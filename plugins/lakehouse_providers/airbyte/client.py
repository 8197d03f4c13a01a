"""Airbyte's public API: a client for tasks and one for event loops. Contract: api/public/v1 of Airbyte 1.x.

Every call has a time limit; what may safely be repeated is repeated with back-off (see transport).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import httpx

from lakehouse_providers import transport
from lakehouse_providers.airbyte import calls, errors
from lakehouse_providers.airbyte.calls import Kind
from lakehouse_providers.airbyte.models import SyncJob
from lakehouse_providers.transport import Call, RetryPolicy

Body = dict[str, Any]


class Endpoint:
    """Where an Airbyte is and how to get in. Without `client_id` requests carry no credentials.

    `timeout`: seconds for one reply; creating a job was seen to take more than a minute. `ui_url`: the address of
    the web app where it differs from the API's.
    """

    def __init__(
        self,
        base_url: str,
        *,
        client_id: str = "",
        client_secret: str = "",
        token_path: str = "",
        timeout: float = 60.0,
        retry: RetryPolicy | None = None,
        ui_url: str = "",
        proxy: str | None = None,
    ) -> None:
        self.base_url = base_url.rstrip("/")
        self.ui_url = (ui_url or self.base_url.partition("/api/")[0]).rstrip("/")
        self.retry = retry or RetryPolicy()
        auth = calls.ClientCredentials(self.base_url, client_id, client_secret, token_path) if client_id else None
        self._options: dict[str, Any] = {
            "base_url": self.base_url,
            "auth": auth,
            "timeout": httpx.Timeout(timeout, connect=min(timeout, 10.0)),
            # Loading certificates takes 20 ms, which would stall the triggerer's loop for nothing on plain HTTP.
            "verify": self.base_url.startswith("https:"),
            "proxy": proxy,
        }

    def http(self) -> httpx.Client:
        return httpx.Client(**self._options)

    def async_http(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(**self._options)

    def job_url(self, job_id: int, connection_id: str, workspace_id: str = "") -> str:
        """The job on the connection's timeline in the web app."""
        workspace = f"/workspaces/{workspace_id}" if workspace_id else ""
        return f"{self.ui_url}{workspace}/connections/{connection_id}/timeline?jobId={job_id}"


class AirbyteClient(transport.Session):
    """For tasks."""

    def __init__(self, endpoint: Endpoint) -> None:
        super().__init__(endpoint.http())
        self.endpoint = endpoint

    def call(self, call: Call) -> Any:
        """Sends one request. Raises AirbyteResponseError, AirbyteUnreachableError."""
        try:
            return calls.parsed(transport.send(self._http, call, self.endpoint.retry))
        except httpx.TransportError as error:
            raise calls.unreachable(error, self.endpoint.base_url) from error

    # Jobs

    def create_job(self, connection_id: str) -> SyncJob:
        """Starts a sync. After any error list the jobs before trying again: it may have been started."""
        return SyncJob.parse(self.call(calls.create_job(connection_id)))

    def job(self, job_id: int) -> SyncJob:
        return SyncJob.parse(self.call(calls.job(job_id)))

    def cancel_job(self, job_id: int) -> bool:
        """False if there is nothing left to cancel."""
        try:
            self.call(calls.cancel_job(job_id))
        except (errors.AirbyteConflictError, errors.AirbyteNotFoundError):
            return False
        return True

    def jobs(self, connection_id: str, after: int = 0) -> list[SyncJob]:
        """Sync jobs of a connection with an id above `after`, newest first."""
        found: dict[int, SyncJob] = {}
        for offset in _offsets():
            page = [SyncJob.parse(item) for item in self.call(calls.jobs(connection_id, offset))["data"]]
            found.update({job.id: job for job in page if job.id > after and job.connection_id == connection_id})
            if not page or min(job.id for job in page) <= after:
                break
        syncs = [job for job in found.values() if job.raw.get("jobType", "sync") == "sync"]
        return sorted(syncs, key=lambda job: job.id, reverse=True)

    def newest_jobs(self, connection_id: str) -> list[SyncJob]:
        """The last hundred at most, newest first."""
        found = [SyncJob.parse(item) for item in self.call(calls.jobs(connection_id, 0))["data"]]
        return sorted((j for j in found if j.connection_id == connection_id), key=lambda job: job.id, reverse=True)

    def job_report(self, job_id: int) -> Body | None:
        """Reason, attempts, per-stream counts: absent from the public API; None on a server without our extension."""
        url = calls.extension_url(self.endpoint.base_url, f"/jobs/{job_id:d}")
        if url is None:
            return None
        try:
            body = self.call(Call("GET", url))
        except (errors.AirbyteNotFoundError, errors.AirbyteRequestError):
            return None
        return body if isinstance(body, dict) else None

    def rebuild(self, connection_id: str) -> bool:
        """Gives up the position of a change data capture: its next sync begins with a snapshot, under a new slot.

        False on a server without our extension; in Airbyte itself that is "clear data" of the connection.
        """
        url = calls.extension_url(self.endpoint.base_url, f"/connections/{connection_id}/rebuild")
        if url is None:
            return False
        try:
            self.call(Call("POST", url))
        except errors.AirbyteNotFoundError:
            return False
        return True

    # Objects, found by name

    def all(self, kind: Kind, workspace: str | None = None) -> list[Body]:
        found: dict[str, Body] = {}
        for offset in _offsets():
            page: list[Body] = self.call(calls.listing(kind, offset, workspace))["data"]
            fresh = {str(item[f"{kind}Id"]): item for item in page}
            if not fresh.keys() - found.keys():  # empty: the last page; a server that ignores offset repeats itself
                break
            found |= fresh
        return list(found.values())

    def find(self, kind: Kind, name: str) -> Body | None:
        """The object of that name, or None. Raises AirbyteConfigurationError if several have it."""
        same = [item for item in self.all(kind) if item.get("name") == name]
        if len(same) > 1:
            raise errors.AirbyteConfigurationError(f"{len(same)} Airbyte {kind}s are named {name!r}; keep one")
        return same[0] if same else None

    def get(self, kind: Kind, identity: str) -> Body:
        found: Body = self.call(Call("GET", calls.member(kind, identity)))
        return found

    def create(self, kind: Kind, body: Mapping[str, Any]) -> Body:
        made: Body = self.call(Call("POST", calls.collection(kind), json=dict(body), idempotent=False))
        return made

    def update(self, kind: Kind, identity: str, body: Mapping[str, Any]) -> Body:
        """Merges the given keys; `configuration` and `configurations` are replaced whole."""
        made: Body = self.call(Call("PATCH", calls.member(kind, identity), json=dict(body)))
        return made

    def upsert(self, kind: Kind, body: Mapping[str, Any]) -> Body:
        """Creates the object or brings the one of that name to `body`, by name; leaves others alone."""
        found = self.find(kind, str(body["name"]))
        if found is None:
            return self.create(kind, body)
        fixed = ("workspaceId", "sourceId", "destinationId")  # Airbyte refuses to change them
        return self.update(kind, str(found[f"{kind}Id"]), {k: v for k, v in body.items() if k not in fixed})

    def delete(self, kind: Kind, identity: str) -> None:
        try:
            self.call(Call("DELETE", calls.member(kind, identity)))
        except errors.AirbyteNotFoundError:
            return

    def workspaces(self) -> list[Body]:
        return self.all("workspace")

    def workspace_id(self, name: str | None = None) -> str:
        """Of the workspace of that name, or of the only one there is."""
        found = [item for item in self.workspaces() if name is None or item.get("name") == name]
        if len(found) != 1:
            which = f"named {name!r}" if name else "to choose from"
            raise errors.AirbyteConfigurationError(f"{len(found)} Airbyte workspaces {which}; name exactly one")
        return str(found[0]["workspaceId"])

    def connection_id(self, name: str) -> str:
        found = self.find("connection", name)
        if found is None:
            raise errors.AirbyteConfigurationError(f"no Airbyte connection is named {name!r}")
        return str(found["connectionId"])


def _offsets() -> Iterator[int]:
    """Airbyte's `next` is empty only when the page is: a client reads on until it gets nothing."""
    return iter(range(0, 1_000_000, calls.PAGE))


class AsyncAirbyteClient(transport.AsyncSession):
    """For the triggerer: only what a wait needs."""

    def __init__(self, endpoint: Endpoint) -> None:
        super().__init__(endpoint.async_http())
        self.endpoint = endpoint

    async def call(self, call: Call) -> Any:
        try:
            return calls.parsed(await transport.asend(self._http, call, self.endpoint.retry))
        except httpx.TransportError as error:
            raise calls.unreachable(error, self.endpoint.base_url) from error

    async def job(self, job_id: int) -> SyncJob:
        return SyncJob.parse(await self.call(calls.job(job_id)))

    async def cancel_job(self, job_id: int) -> bool:
        try:
            await self.call(calls.cancel_job(job_id))
        except (errors.AirbyteConflictError, errors.AirbyteNotFoundError):
            return False
        return True
