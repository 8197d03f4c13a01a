"""Rows of the speed lane's log that no reader can need: below the smallest pinned watermark, after the grace."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from include import speed
from include.retention.model import Item, Outcome, Survey
from include.retention.services import Services
from include.specs import pipeline as pipelines
from include.specs.reader import Node


@dataclass(frozen=True)
class ChangeLog:
    """`retail_speed` prunes after every micro-batch; this is for a log whose speed lane stands still."""

    kind: ClassVar[str] = "change_log"
    needs: ClassVar[tuple[str, ...]] = ()
    pipelines: tuple[str, ...]

    @classmethod
    def read(cls, node: Node) -> Self:
        return cls(node.names("pipelines"))

    def find(self, services: Services, now: dt.datetime, survey: Survey) -> Iterator[Item]:
        for name in self.pipelines:
            with services.ledger() as conn:
                found = list(speed.prunable(conn, pipelines.load(name)))
            for row in found:
                survey.saw(row.rows, row.bytes)
                survey.keep("above the smallest pinned watermark, or within the grace", row.rows - row.prunable)
                if row.prunable:
                    facts = {"pipeline": name, "stream": row.stream}
                    yield Item(
                        f"{speed.SCHEMA}.{row.stream}",
                        row.bytes * row.prunable // row.rows,
                        now.isoformat(),
                        row.prunable,
                        facts,
                    )

    def delete(self, services: Services, items: Sequence[Item]) -> Outcome:
        """The limits are read again in the transaction that deletes."""
        done = Outcome()
        for name in sorted({str(one.facts["pipeline"]) for one in items}):
            wanted = {one.facts["stream"]: one for one in items if one.facts["pipeline"] == name}
            with services.ledger() as conn:
                for stream, rows in speed.prune(conn, pipelines.load(name)):
                    planned = wanted.get(stream)
                    size = planned.bytes * rows // planned.count if planned else 0
                    done += Outcome(deleted=rows, bytes=size)
        return done
