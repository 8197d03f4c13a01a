"""Dremio's job history. It has no call that deletes jobs: it ages them itself, and here it is checked that it does."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from include.retention.model import BlockedError, Item, Outcome, Survey
from include.retention.services import Services
from include.retention.targets.stored import days
from include.specs.reader import Node


@dataclass(frozen=True)
class QueryJobs:
    kind: ClassVar[str] = "query_jobs"
    needs: ClassVar[tuple[str, ...]] = ("sql",)
    age: dt.timedelta

    @classmethod
    def read(cls, node: Node) -> Self:
        return cls(days(node))

    def find(self, services: Services, now: dt.datetime, survey: Survey) -> Iterator[Item]:
        """Never finds anything to delete. Raises BlockedError when the server keeps jobs for longer than declared."""
        assert services.sql is not None
        # A day more: the server cleans up now and then only.
        before = int((now - self.age - dt.timedelta(days=1)).timestamp() * 1000)
        row = services.sql(
            "SELECT COUNT(*) AS jobs, SUM(CASE WHEN submitted_epoch < " + str(before) + " THEN 1 ELSE 0 END) AS old "
            "FROM sys.jobs_recent"
        )[0]
        jobs, old = int(row["jobs"] or 0), int(row["old"] or 0)
        survey.saw(jobs, 0)
        survey.keep("aged by Dremio itself", jobs)
        if old:
            raise BlockedError(
                f"{old} jobs are older than {self.age.days} days: lower the support key jobs.max.age_in_days in Dremio "
                "(LAKEHOUSE_SQL_JOB_RETENTION, in seconds, on the embedded platform)"
            )
        yield from ()

    def delete(self, services: Services, items: Sequence[Item]) -> Outcome:
        return Outcome(spared=len(items))
