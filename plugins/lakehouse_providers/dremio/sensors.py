"""Waiting for what others do in Dremio: datasets that appear, reflections that become fresh enough."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Sequence
from typing import Any

from airflow.sdk import BaseSensorOperator, Context
from airflow.sdk.exceptions import AirflowSensorTimeout, AirflowSkipException

from lakehouse_providers.dremio import errors
from lakehouse_providers.dremio import sql as statements
from lakehouse_providers.dremio.conditions import Condition, DatasetsExist, ReflectionsFresh
from lakehouse_providers.dremio.hook import DremioHook
from lakehouse_providers.dremio.models import instant
from lakehouse_providers.dremio.triggers import DremioConditionTrigger
from lakehouse_providers.dremio.watch import Event

Dataset = str | Sequence[str]


class _DremioSensor(BaseSensorOperator):
    """Defers by default; `mode` and `poke_interval` are those of every sensor where it does not."""

    ui_color = "#c9e9f0"

    def __init__(self, *, conn_id: str, deferrable: bool, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.conn_id = conn_id
        self.deferrable = deferrable

    def condition(self) -> Condition:
        """What is waited for. Raises DremioConfigurationError."""
        raise NotImplementedError

    def execute(self, context: Context) -> Any:
        if not self.deferrable:
            return super().execute(context)
        condition = self.condition()
        trigger = DremioConditionTrigger(
            condition.dump(), self.conn_id, time.time() + self._patience(), self.poke_interval, self.poke_interval
        )
        self.defer(trigger=trigger, method_name="execute_complete")

    def _patience(self) -> float:
        limit = self.execution_timeout.total_seconds() if self.execution_timeout is not None else self.timeout
        return min(self.timeout, limit)

    def poke(self, context: Context) -> bool:
        with DremioHook(self.conn_id).client() as client:
            missing = client.run(self.condition().missing())
        if missing:
            self.log.info("Still waiting: %s", missing)
        return not missing

    def execute_complete(self, context: Context, event: Event) -> None:
        """Resumes when the condition holds. Raises AirflowSensorTimeout, or what stands in its way for good."""
        if event["status"] == "success":
            return
        if event["status"] == "timeout":
            message = f"Not in {self._patience():g} s: {event['message']}"
            raise AirflowSkipException(message) if self.soft_fail else AirflowSensorTimeout(message)
        if self.never_fail:
            raise AirflowSkipException(event["message"])
        raise errors.DremioError(event["message"])


class DremioDatasetExistenceSensor(_DremioSensor):
    """Waits until all datasets exist; a folder that is not yet promoted to a table is none.

    :param datasets: paths, each a list of parts or dotted text with quotes where needed. Templated.
    :param columns: columns that each of them must have.
    """

    template_fields: Sequence[str] = ("datasets", "columns", "conn_id")

    def __init__(
        self,
        *,
        datasets: Sequence[Dataset],
        columns: Sequence[str] = (),
        conn_id: str = DremioHook.default_conn_name,
        deferrable: bool = True,
        poke_interval: float = 15.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(conn_id=conn_id, deferrable=deferrable, poke_interval=poke_interval, **kwargs)
        self.datasets = datasets
        self.columns = columns

    def condition(self) -> Condition:
        return DatasetsExist(_paths(self.datasets), tuple(self.columns))


class DremioReflectionFreshnessSensor(_DremioSensor):
    """Waits until the reflections of all datasets hold data that was fetched recently enough, and can accelerate.

    For reflections that somebody else refreshes, by schedule or on data changes. A disabled, invalid or given-up one
    fails the task at once: nobody would ever refresh it.

    :param datasets: datasets whose reflections are meant. Templated.
    :param reflections: names or ids, to narrow them down. Templated.
    :param since: ISO moment at or after which the data must have been fetched, for example
        "{{ data_interval_end }}". Templated. Without a zone it is UTC.
    :param max_age: instead: how old the fetched data may be when the sensor looks.
    """

    template_fields: Sequence[str] = ("datasets", "reflections", "since", "conn_id")

    def __init__(
        self,
        *,
        datasets: Sequence[Dataset],
        reflections: Sequence[str] = (),
        since: str | None = None,
        max_age: dt.timedelta | None = None,
        conn_id: str = DremioHook.default_conn_name,
        deferrable: bool = True,
        poke_interval: float = 30.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(conn_id=conn_id, deferrable=deferrable, poke_interval=poke_interval, **kwargs)
        if (since is None) == (max_age is None):
            raise ValueError("give either since or max_age")
        self.datasets = datasets
        self.reflections = reflections
        self.since = since
        self.max_age = max_age

    def condition(self) -> Condition:
        since = None
        if self.since is not None:
            try:
                since = instant(self.since)
            except ValueError:
                since = None
            if since is None:
                raise errors.DremioConfigurationError(f"since must be an ISO date and time, found {self.since!r}")
        age = self.max_age.total_seconds() if self.max_age is not None else None
        return ReflectionsFresh(_paths(self.datasets), tuple(self.reflections), since, age)


def _paths(datasets: Sequence[Dataset]) -> tuple[tuple[str, ...], ...]:
    if not datasets or isinstance(datasets, str):
        raise errors.DremioConfigurationError("datasets must be a list with at least one path")
    return tuple(statements.path_of(dataset) for dataset in datasets)
