"""A declared pipeline: one source system, its streams, and what the lanes need to know of them."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from include.paths import PIPELINES
from include.specs.reader import Node, read

MODES = ("incremental_append", "full_refresh_append")


@dataclass(frozen=True)
class Stream:
    """One table of the source. `key`, `cursor`, `created` and `money` are its column names."""

    name: str
    key: tuple[str, ...]
    mode: str
    cursor: str
    created: str
    business_time: str | None
    money: tuple[str, ...]

    @property
    def incremental(self) -> bool:
        return self.mode == "incremental_append"


@dataclass(frozen=True)
class Group:
    """Streams that one Airbyte connection replicates together, in one snapshot of the source."""

    name: str
    connection: str
    streams: tuple[Stream, ...]


@dataclass(frozen=True)
class Pipeline:
    name: str
    description: str
    schedule: str
    start_date: dt.datetime
    deadline: dt.timedelta
    timeout: dt.timedelta
    freshness: dt.timedelta
    source: str
    source_connection: str
    source_schema: str
    destination: str
    bronze_source: str
    bronze_retention_days: int
    groups: tuple[Group, ...]

    @cached_property
    def streams(self) -> tuple[Stream, ...]:
        return tuple(stream for group in self.groups for stream in group.streams)

    def bronze_path(self, stream: Stream) -> tuple[str, ...]:
        """The promoted folder of a stream in Dremio."""
        return (self.bronze_source, self.source_schema, stream.name)


def _stream(name: str, node: Node) -> Stream:
    stream = Stream(
        name=name,
        key=node.names("key"),
        mode=node.one_of("mode", MODES, "incremental_append"),
        cursor=node.name("cursor"),
        created=node.name("created"),
        business_time=node.name("business_time") if node.get("business_time", str, None) else None,
        money=node.names("money", []),
    )
    if not stream.key:
        raise node.fail("key", "is empty; name the columns of the primary key")
    node.done()
    return stream


def _group(name: str, node: Node) -> Group:
    streams = tuple(_stream(stream, child) for stream, child in node.children("streams").items())
    if not streams:
        raise node.fail("streams", "is empty; declare at least one stream")
    group = Group(name=name, connection=node.name("connection"), streams=streams)
    node.done()
    return group


def load(name: str, folder: Path = PIPELINES) -> Pipeline:
    """Loads `<folder>/<name>.yaml`. Raises SpecError naming file and field."""
    node = read(folder / f"{name}.yaml")
    source = node.child("source")
    pipeline = Pipeline(
        name=node.name("name"),
        description=node.get("description", str),
        schedule=node.get("schedule", str),
        start_date=dt.datetime.combine(node.get("start_date", dt.date), dt.time(), dt.UTC),
        deadline=dt.timedelta(minutes=node.get("deadline_minutes", int)),
        timeout=dt.timedelta(minutes=node.get("timeout_minutes", int)),
        freshness=dt.timedelta(hours=node.get("freshness_hours", int)),
        source=source.name("airbyte"),
        source_connection=source.name("connection"),
        source_schema=source.name("schema"),
        destination=node.name("destination"),
        bronze_source=node.name("bronze_source"),
        bronze_retention_days=node.get("bronze_retention_days", int),
        groups=tuple(_group(group, child) for group, child in node.children("groups").items()),
    )
    if pipeline.name != name:
        raise node.fail("name", f"must equal the file's name {name!r}")
    names = [stream.name for stream in pipeline.streams]
    if len(names) != len(set(names)):
        raise node.fail("groups", "names a stream twice; a stream belongs to one group")
    source.done()
    node.done()
    return pipeline
