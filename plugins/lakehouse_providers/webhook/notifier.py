"""Tells a webhook that a run failed or is late.

It lives among the providers because the triggerer, which runs deadline callbacks, imports plugins/ but never dags/.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from airflow.sdk import BaseHook, BaseNotifier, Connection, Context

from lakehouse_providers.webhook import client


def _get(source: Any, name: str) -> Any:
    """A fact that may be missing; Airflow computes some of them, and a failure there must not cost the alert."""
    try:
        return source.get(name) if isinstance(source, Mapping) else getattr(source, name, None)
    except Exception:
        return None


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _kind(context: Mapping[str, Any]) -> str:
    if "deadline" in context:
        return "deadline_missed"
    return "task_failed" if context.get("exception") is not None else "run_failed"


def _reason(context: Mapping[str, Any]) -> str | None:
    if "deadline" in context:
        return f"not finished by {_get(context['deadline'], 'deadline_time')}"
    return _text(context.get("exception") or context.get("reason"))


def _page(base: str, dag_id: str | None, run_id: str | None) -> str | None:
    if not base or not dag_id or not run_id:
        return None
    return f"{base.rstrip('/')}/dags/{quote(dag_id, safe='')}/runs/{quote(run_id, safe='')}"


def message(kind: str | None, context: Mapping[str, Any], base_url: str) -> dict[str, Any]:
    """What is posted: kind, dag_id, run_id, task_id, reason, url, at (ISO, UTC). Absent facts are null."""
    run, instance, dag = context.get("dag_run"), context.get("ti"), context.get("dag")
    dag_id = _text(_get(run, "dag_id") or _get(instance, "dag_id") or _get(dag, "dag_id"))
    run_id = _text(_get(run, "run_id") or _get(run, "dag_run_id") or context.get("run_id") or _get(instance, "run_id"))
    url = _text(_get(instance, "log_url")) or _page(base_url, dag_id, run_id)
    return {
        "kind": kind or _kind(context),
        "dag_id": dag_id,
        "run_id": run_id,
        "task_id": _text(_get(instance, "task_id")),
        "reason": _reason(context),
        "url": url,
        "at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
    }


def _address(connection: Connection) -> client.Address:
    return client.address(
        connection.host or "",
        scheme=connection.schema or "",
        port=connection.port,
        login=connection.login or "",
        password=connection.password or "",
        extra=connection.extra_dejson,
    )


def _airflow_url() -> str:
    from airflow.sdk.configuration import conf

    return str(conf.get("api", "base_url", fallback="") or "")


class WebhookNotifier(BaseNotifier):
    """Posts JSON to the URL in an Airflow `http` connection; as on_failure_callback, or in a DeadlineAlert.

    A message that cannot be delivered is logged and never raised: telling must not break what it tells about.

    :param conn_id: an `http` connection; its host may hold the whole URL. Extra: headers, timeout (seconds).
    :param kind: what the message is called; by default run_failed, task_failed or deadline_missed.
    :param reason: text in place of what Airflow says.
    """

    def __init__(
        self,
        conn_id: str = "alerts",
        kind: str | None = None,
        reason: str | None = None,
        context: Context | None = None,
    ) -> None:
        super().__init__(context=context)
        self.conn_id = conn_id
        self.kind = kind
        self.reason = reason

    def render_template_fields(self, context: Context, jinja_env: Any = None) -> None:
        """Nothing is templated here; Airflow's way wants a DAG object that callbacks of runs do not always get."""

    def _message(self, context: Context) -> dict[str, Any]:
        body = message(self.kind, context, _airflow_url())
        return {**body, "reason": self.reason} if self.reason else body

    def notify(self, context: Context) -> None:
        try:
            client.post(_address(BaseHook.get_connection(self.conn_id)), self._message(context))
        except Exception as error:
            self.log.error("The alert was not delivered: %s", error)

    async def async_notify(self, context: Context) -> None:
        try:
            await client.apost(_address(await BaseHook.aget_connection(self.conn_id)), self._message(context))
        except Exception as error:
            self.log.error("The alert was not delivered: %s", error)
