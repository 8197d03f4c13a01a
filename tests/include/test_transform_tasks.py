"""Which build a model's task looks at: Cosmos goes by the number of its try, and the rounds of the run decide that."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from include.task_groups import transform

RETRIES = 2


class Instance:
    """A task instance, as far as the hooks know one."""

    def __init__(self, try_number: int, max_tries: int, xcoms: dict[str, Any]) -> None:
        self.try_number, self.max_tries, self.xcoms = try_number, max_tries, xcoms

    def xcom_push(self, *, key: str, value: Any) -> None:
        self.xcoms[key] = value

    def xcom_pull(self, *, task_ids: str, key: str) -> Any:
        assert task_ids == "silver.dbt_producer_watcher"
        return self.xcoms.get(key)


class Sensor:
    """Cosmos' sensor of one model; `status` is what dbt has said of it."""

    producer_task_id = "silver.dbt_producer_watcher"
    retries = RETRIES

    def __init__(self, status: str | None) -> None:
        self._status = status

    def _get_node_status(self, ti: Instance, context: dict[str, Any]) -> str | None:
        return self._status


def watched_try(*, built_in: int, cleared: int, try_number: int, life: int, status: str | None) -> int:
    """The try that Cosmos sees. `life`: how many tries the task had before it was cleared last."""
    xcoms: dict[str, Any] = {}
    producer = Instance(1, RETRIES, xcoms)
    transform._build_again({"ti": producer, "dag_run": SimpleNamespace(clear_number=built_in)})  # type: ignore[typeddict-item]
    instance = Instance(try_number, life + RETRIES, xcoms)
    run = SimpleNamespace(clear_number=cleared)
    transform._watch_again({"ti": instance, "task": Sensor(status), "dag_run": run})  # type: ignore[typeddict-item]
    return instance.try_number


@pytest.mark.parametrize("status", [None, "success", "error"])
def test_the_first_try_of_a_round_watches(status: str | None) -> None:
    assert watched_try(built_in=0, cleared=0, try_number=1, life=0, status=status) == 1
    # Cleared with the whole run, after three tries of its own.
    assert watched_try(built_in=1, cleared=1, try_number=4, life=3, status=status) == 1


def test_a_second_try_watches_only_what_dbt_is_done_with() -> None:
    again = {"built_in": 0, "cleared": 0, "try_number": 2, "life": 0}
    assert watched_try(**again, status="success") == 1
    assert watched_try(**again, status="error") == 2
    assert watched_try(**again, status=None) == 2


def test_a_model_that_is_cleared_alone_is_built() -> None:
    assert watched_try(built_in=0, cleared=1, try_number=2, life=1, status="success") == 2


def test_dbt_builds_in_every_try() -> None:
    producer = Instance(3, RETRIES, {})
    transform._build_again({"ti": producer, "dag_run": SimpleNamespace(clear_number=0)})  # type: ignore[typeddict-item]
    assert producer.try_number == 1
