"""New files and snapshots of datasets become visible."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Literal

from airflow.sdk import BaseOperator, Context

from lakehouse_providers.dremio import errors
from lakehouse_providers.dremio import sql as statements
from lakehouse_providers.dremio.client import DremioClient
from lakehouse_providers.dremio.hook import DremioHook


class DremioRefreshMetadataOperator(BaseOperator):
    """Lets Dremio see new files and snapshots of exactly the given datasets; new files are invisible until then.

    :param datasets: paths, each a list of parts or dotted text with quotes where needed. Templated. None: nothing done.
    :param promote: the format, for example {"type": "Parquet"}, to make a table of a folder that is none yet.
    :param auto_promotion, update, missing: the options of REFRESH METADATA; None leaves the server's default.
    :param timeout: seconds for all of them together; running jobs are then cancelled.
    :return: [{"dataset", "job_id", "duration_seconds", "url", "promoted"}]
    """

    template_fields: Sequence[str] = ("datasets", "conn_id")
    ui_color = "#c9e9f0"

    def __init__(
        self,
        *,
        datasets: Sequence[str | Sequence[str]],
        conn_id: str = DremioHook.default_conn_name,
        promote: dict[str, Any] | None = None,
        auto_promotion: bool | None = None,
        update: Literal["force", "lazy"] | None = None,
        missing: Literal["delete", "maintain"] | None = None,
        timeout: float = 3600.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.datasets = datasets
        self.conn_id = conn_id
        self.promote = promote
        self.auto_promotion = auto_promotion
        self.update = update
        self.missing = missing
        self.timeout = timeout
        self._running: set[str] = set()

    def execute(self, context: Context) -> list[dict[str, Any]]:
        paths = [statements.path_of(dataset) for dataset in self.datasets]
        if not paths:
            self.log.info("No dataset has changed; nothing to refresh")
            return []
        end = time.monotonic() + self.timeout
        done: list[dict[str, Any]] = []
        complaints: list[str] = []
        with DremioHook(self.conn_id).client() as client:
            for path in paths:
                try:
                    done.append(self._refresh(client, path, end))
                except (errors.DremioJobFailedError, errors.DremioResponseError) as error:
                    complaints.append(f"{statements.dotted(path)}: {error}")
        if complaints:
            raise errors.DremioError("Metadata was not refreshed. " + " | ".join(complaints))
        return done

    def _refresh(self, client: DremioClient, path: tuple[str, ...], end: float) -> dict[str, Any]:
        promoted = False
        if self.promote is not None and client.by_path(path).get("entityType") != "dataset":
            client.promote(path, self.promote)
            promoted = True
        text = statements.refresh_metadata(
            path, auto_promotion=self.auto_promotion, update=self.update, missing=self.missing
        )
        job_id = client.submit(text, idempotent=True)
        self._running.add(job_id)
        try:
            job = client.wait(job_id, timeout=max(end - time.monotonic(), 0.0))
        except errors.DremioJobTimeoutError:
            client.cancel_job(job_id)
            raise
        self._running.discard(job_id)
        self.log.info("Refreshed metadata of %s in %s s", statements.dotted(path), job.seconds)
        return {
            "dataset": statements.dotted(path),
            "job_id": job_id,
            "duration_seconds": job.seconds,
            "url": client.endpoint.job_url(job_id),
            "promoted": promoted,
        }

    def on_kill(self) -> None:
        if self._running:
            with DremioHook(self.conn_id).client() as client:
                for job_id in self._running:
                    client.cancel_job(job_id)
