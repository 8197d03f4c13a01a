"""Elasticsearch indices by name pattern and age; never one that an alias writes to. Contract: Elasticsearch 8."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self
from urllib.parse import quote

from include.retention.model import Item, Outcome, Survey
from include.retention.services import Services
from include.retention.targets.stored import days
from include.specs.reader import Node

# A pattern that begins with a letter: never `*`, which would be every index of the cluster.
_PATTERN = re.compile(r"[a-z][a-z0-9_.-]*\*?")


@dataclass(frozen=True)
class Indices:
    kind: ClassVar[str] = "elasticsearch_indices"
    needs: ClassVar[tuple[str, ...]] = ("elasticsearch",)
    pattern: str
    age: dt.timedelta

    @classmethod
    def read(cls, node: Node) -> Self:
        pattern = node.get("pattern", str)
        if not _PATTERN.fullmatch(pattern):
            raise node.fail("pattern", f"must be a name, or its beginning and one *, found {pattern!r}")
        return cls(pattern, days(node))

    def _written(self, services: Services) -> set[str]:
        reply = services.elasticsearch.get(f"/{quote(self.pattern, safe='*')}/_alias").raise_for_status().json()
        return {
            index
            for index, body in reply.items()
            if any(alias.get("is_write_index") for alias in body.get("aliases", {}).values())
        }

    def find(self, services: Services, now: dt.datetime, survey: Survey) -> Iterator[Item]:
        written = self._written(services)
        wanted = {"h": "index,uuid,store.size,creation.date", "format": "json", "bytes": "b"}
        reply = services.elasticsearch.get(f"/_cat/indices/{quote(self.pattern, safe='*')}", params=wanted)
        for row in reply.raise_for_status().json():
            size = int(row.get("store.size") or 0)
            made = dt.datetime.fromtimestamp(int(row["creation.date"]) / 1000, dt.UTC)
            survey.saw(1, size)
            if row["index"] in written:
                survey.keep("an alias writes to it")
            elif made >= now - self.age:
                survey.keep(f"younger than {self.age.days} days")
            else:
                yield Item(row["index"], size, made.isoformat(), facts={"uuid": row["uuid"]})

    def delete(self, services: Services, items: Sequence[Item]) -> Outcome:
        done, written = Outcome(), self._written(services)
        for one in items:
            path = f"/{quote(one.id, safe='')}"
            reply = services.elasticsearch.get(f"{path}/_settings")
            if reply.status_code == 404:
                done += Outcome(gone=1)
                continue
            settings = reply.raise_for_status().json()
            if one.id in written or settings[one.id]["settings"]["index"]["uuid"] != one.facts["uuid"]:
                done += Outcome(spared=1)
                continue
            services.elasticsearch.delete(path).raise_for_status()
            done += Outcome(deleted=1, bytes=one.bytes)
        return done
