"""What deferrable operators and triggers share: remembering across tries, and telling a kill from a move."""

from __future__ import annotations

import asyncio
import datetime as dt
import time
from collections.abc import Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from airflow.sdk import BaseOperator, BaseOperatorLink
from airflow.triggers.base import BaseTrigger
from asgiref.sync import sync_to_async

T = TypeVar("T")

# States in which the task still wants its remote work: it waits in another triggerer, or a new try has adopted it.
_WANTED = frozenset({"deferred", "running"})


class Memory:
    """One JSON record of this task instance that survives its retries. Forgets silently where Airflow keeps none.

    Airflow keeps the record over a clear as well, but a cleared task must do its work again: its upstream tasks may
    have brought new data. The run's clear_number tells the two apart.
    """

    def __init__(self, context: Mapping[str, Any], key: str, keep: dt.timedelta = dt.timedelta(days=2)) -> None:
        self._store, self._key, self._keep = context.get("task_state_store"), key, keep
        self._clear_number = getattr(context.get("dag_run"), "clear_number", None)

    def _stored(self) -> dict[str, Any]:
        value = self._store.get(self._key) if self._store is not None else None
        return value if isinstance(value, dict) else {}

    def read(self) -> dict[str, Any]:
        """What an earlier try left behind; {} when nothing, or when the run was cleared since."""
        found = self._stored()
        return found.get("record", {}) if found.get("clear_number") == self._clear_number else {}

    def read_any(self) -> dict[str, Any]:
        """Also what was left behind before a clear: remote work that still runs belongs to this task all the same."""
        found: dict[str, Any] = self._stored().get("record", {})
        return found

    def write(self, record: Mapping[str, Any]) -> None:
        if self._store is not None:
            value = {"clear_number": self._clear_number, "record": dict(record)}
            self._store.set(self._key, value, retention=self._keep)

    def forget(self) -> None:
        if self._store is not None:
            self._store.delete(self._key)


async def stopped_by_a_person(trigger: BaseTrigger) -> bool:
    """Whether the task of a trigger was failed, cleared or marked, and no new try has taken over its remote work.

    Airflow 3.3 calls BaseTrigger.on_kill also when it moves a trigger to another triggerer, where the new copy goes
    on waiting for the very job that on_kill would cancel. Only the task instance's state tells the two apart. When
    the state cannot be read the answer is no: a job left running can be adopted, a cancelled one is lost.
    """
    instance = trigger.task_instance
    if instance is None:
        return False
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    index = getattr(instance, "map_index", -1)
    index = -1 if index is None else index
    name = instance.task_id if index < 0 else f"{instance.task_id}_{index}"
    try:
        states = await sync_to_async(RuntimeTaskInstance.get_task_states)(
            dag_id=instance.dag_id, task_ids=[instance.task_id], run_ids=[instance.run_id], map_index=index
        )
        known = states[instance.run_id]
    except Exception:
        trigger.log.warning("The task's state is unknown; its remote work is left alone", exc_info=True)
        return False
    if name not in known:
        return False
    return str(known[name] or "none").lower().rpartition(".")[2] not in _WANTED


def deadline(operator: BaseOperator, timeout: float | None) -> float | None:
    """The epoch at which a wait ends: after `timeout` seconds or the task's execution_timeout, whichever comes first.

    Airflow itself does not apply execution_timeout to a task that waits in the triggerer.
    """
    limits = [timeout] if timeout is not None else []
    if operator.execution_timeout is not None:
        limits.append(operator.execution_timeout.total_seconds())
    return time.time() + min(limits) if limits else None


def run_apart(work: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine to its end from anywhere, also from a signal handler that has interrupted an event loop."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        return pool.submit(asyncio.run, work).result(timeout=60)


def push(context: Mapping[str, Any], key: str, value: Any) -> None:
    """An XCom beside the return value, so that it is there even if the task fails."""
    instance = context.get("ti")
    if instance is not None:
        instance.xcom_push(key=key, value=value)


class XComLink(BaseOperatorLink):
    """A button on the task's page whose address the task left in the XCom `key`."""

    key: str

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        from airflow.sdk.execution_time.xcom import XCom

        return str(XCom.get_value(ti_key=ti_key, key=self.key) or "")
