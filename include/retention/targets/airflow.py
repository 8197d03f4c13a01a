"""Airflow's own past: rows of its metadata database through `airflow db clean`, and the files of task logs."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

from include.retention.model import Item, Outcome, RetentionError, Survey
from include.retention.services import Services
from include.retention.targets.stored import days
from include.specs.reader import Node

# Counted to show and to guard how much would go; what goes, and what of it must stay, is Airflow's own business.
TABLES = {
    "dag_run": "start_date",
    "task_instance": "start_date",
    "xcom": "timestamp",
    "log": "dttm",
    "asset_event": "timestamp",
    "job": "latest_heartbeat",
}


@dataclass(frozen=True)
class Metadata:
    """DAG runs, task instances, XComs, events; Airflow keeps each DAG's newest scheduled run."""

    kind: ClassVar[str] = "airflow_metadata"
    needs: ClassVar[tuple[str, ...]] = ("airflow", "clean_airflow")
    age: dt.timedelta

    @classmethod
    def read(cls, node: Node) -> Self:
        return cls(days(node, least=7))

    def find(self, services: Services, now: dt.datetime, survey: Survey) -> Iterator[Item]:
        before = now - self.age
        old, counted = self._count(services, before)
        survey.saw(counted, 0)
        survey.keep("younger", counted - old)
        if old:
            yield Item(f"rows before {before:%Y-%m-%d}", 0, before.isoformat(), old, {"before": before.isoformat()})

    @staticmethod
    def _count(services: Services, before: dt.datetime) -> tuple[int, int]:
        assert services.airflow is not None
        old = counted = 0
        with services.airflow() as conn:
            for table, column in TABLES.items():
                row = conn.execute(
                    f'select count(*) as rows, count(*) filter (where "{column}" < %s) as old from "{table}"'.encode(),
                    [before],
                ).fetchone()
                assert row is not None
                old, counted = old + row["old"], counted + row["rows"]
        return old, counted

    def delete(self, services: Services, items: Sequence[Item]) -> Outcome:
        assert services.clean_airflow is not None
        done = Outcome()
        for one in items:
            before = dt.datetime.fromisoformat(one.facts["before"])
            old, _ = self._count(services, before)
            services.clean_airflow(before.isoformat())
            left, _ = self._count(services, before)
            done += Outcome(deleted=old - left, spared=left)
        return done


@dataclass(frozen=True)
class Logs:
    """Files of task logs on the disk beside which retention runs; remote logs belong to a `prefix` rule."""

    kind: ClassVar[str] = "airflow_logs"
    needs: ClassVar[tuple[str, ...]] = ("airflow_logs",)
    age: dt.timedelta

    @classmethod
    def read(cls, node: Node) -> Self:
        return cls(days(node))

    def find(self, services: Services, now: dt.datetime, survey: Survey) -> Iterator[Item]:
        assert services.airflow_logs is not None
        limit = (now - self.age).timestamp()
        for path in _files(services.airflow_logs):
            with suppress(FileNotFoundError):
                stat = path.lstat()
                survey.saw(1, stat.st_size)
                if stat.st_mtime >= limit:
                    survey.keep(f"younger than {self.age.days} days")
                    continue
                written = dt.datetime.fromtimestamp(stat.st_mtime, dt.UTC).isoformat()
                name = str(path.relative_to(services.airflow_logs))
                yield Item(name, stat.st_size, written, facts={"written": stat.st_mtime_ns})

    def delete(self, services: Services, items: Sequence[Item]) -> Outcome:
        assert services.airflow_logs is not None
        done, root = Outcome(), services.airflow_logs.resolve()
        for one in items:
            path = root / one.id
            if not path.parent.resolve().is_relative_to(root):
                raise RetentionError(f"{one.id} is not inside {root}: the plan's document was changed")
            try:
                if path.lstat().st_mtime_ns != one.facts["written"]:
                    done += Outcome(spared=1)
                    continue
                path.unlink()
                done += Outcome(deleted=1, bytes=one.bytes)
            except FileNotFoundError:
                done += Outcome(gone=1)
            _drop_empty(path.parent, root)
        return done


def _files(root: Path) -> Iterator[Path]:
    """Regular files, links not followed."""
    for folder, _, names in os.walk(root):
        for name in names:
            path = Path(folder) / name
            if not path.is_symlink():
                yield path


def _drop_empty(folder: Path, root: Path) -> None:
    with suppress(OSError):  # not empty, or gone: both fine
        while folder != root:
            folder.rmdir()
            folder = folder.parent
