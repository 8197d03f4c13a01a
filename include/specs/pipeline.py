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
    """One table of the source. `key`, `cursor`, `created`, `money` are column names; `table` is its table in silver.

    `created` None: the source does not say when a row was made, so nothing is known of rows that moved since.
    """

    name: str
    key: tuple[str, ...]
    mode: str
    cursor: str
    created: str | None
    business_time: str | None
    money: tuple[str, ...]
    table: str

    @property
    def incremental(self) -> bool:
        return self.mode == "incremental_append"


@dataclass(frozen=True)
class Speed:
    """Change data capture of some streams into the change log. `source`, `destination`: their names in Airbyte.

    owner: the Airflow connection of the role that owns the tables and may publish them.
    wait: how long a batch run waits for the log before it falls back. grace: how long log rows and snapshots outlive
    the publication that no longer needs them; longer than the longest query. freshness: from a commit to readers.
    log_max_bytes, log_max_age: limits of the log; above them retail_speed alerts.
    """

    connection: str
    source: str
    destination: str
    owner: str
    publication: str
    slot: str
    streams: tuple[str, ...]
    wait: dt.timedelta
    grace: dt.timedelta
    freshness: dt.timedelta
    log_max_bytes: int
    log_max_age: dt.timedelta


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
    source_connection: str | None  # of a PostgreSQL source, which can be asked itself; other sources only Airbyte knows
    source_schema: str
    destination: str
    bronze_source: str
    bronze_retention_days: int
    groups: tuple[Group, ...]
    speed: Speed | None = None

    @cached_property
    def streams(self) -> tuple[Stream, ...]:
        return tuple(stream for group in self.groups for stream in group.streams)

    @cached_property
    def cdc_streams(self) -> tuple[Stream, ...]:
        """The streams whose changes the speed lane captures."""
        names = self.speed.streams if self.speed else ()
        return tuple(stream for stream in self.streams if stream.name in names)

    def bronze_path(self, stream: Stream) -> tuple[str, ...]:
        """The promoted folder of a stream in Dremio."""
        return (self.bronze_source, self.source_schema, stream.name)


def _stream(name: str, node: Node) -> Stream:
    stream = Stream(
        name=name,
        key=node.names("key"),
        mode=node.one_of("mode", MODES, "incremental_append"),
        cursor=node.name("cursor"),
        created=node.name("created") if "created" in node.raw else None,
        business_time=node.name("business_time") if node.get("business_time", str, None) else None,
        money=node.names("money", []),
        table=node.name("table") if "table" in node.raw else name,
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


def _speed(node: Node) -> Speed:
    speed = Speed(
        connection=node.name("connection"),
        source=node.name("source"),
        destination=node.name("destination"),
        owner=node.name("owner"),
        publication=node.name("publication"),
        slot=node.name("slot"),
        streams=node.names("streams"),
        wait=dt.timedelta(minutes=node.get("wait_minutes", int)),
        grace=dt.timedelta(minutes=node.get("grace_minutes", int)),
        freshness=dt.timedelta(seconds=node.get("freshness_seconds", int)),
        log_max_bytes=node.get("log_max_mb", int) * 1_000_000,
        log_max_age=dt.timedelta(hours=node.get("log_max_hours", int)),
    )
    node.done()
    return speed


def _check_speed(node: Node, pipeline: Pipeline) -> None:
    if pipeline.speed is None:
        return
    unknown = set(pipeline.speed.streams) - {stream.name for stream in pipeline.streams}
    if unknown:
        raise node.fail("speed.streams", f"names {', '.join(sorted(unknown))}; every CDC stream belongs to a group too")
    if pipeline.source_connection is None:
        raise node.fail("speed", "needs source.connection: changes are captured from a PostgreSQL source")
    whole = [stream.name for stream in pipeline.cdc_streams if not stream.incremental]
    if whole:
        raise node.fail("speed.streams", f"names {', '.join(whole)}; a full refresh knows its deletes without a log")


def load_all(folder: Path = PIPELINES) -> tuple[Pipeline, ...]:
    """Every declared pipeline, by name. Raises SpecError naming file and field."""
    return tuple(load(file.stem, folder) for file in sorted(folder.glob("*.yaml")))


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
        source_connection=source.name("connection") if "connection" in source.raw else None,
        source_schema=source.name("schema"),
        destination=node.name("destination"),
        bronze_source=node.name("bronze_source"),
        bronze_retention_days=node.get("bronze_retention_days", int),
        groups=tuple(_group(group, child) for group, child in node.children("groups").items()),
        speed=_speed(node.child("speed")) if node.get("speed", dict, None) is not None else None,
    )
    if pipeline.name != name:
        raise node.fail("name", f"must equal the file's name {name!r}")
    names = [stream.name for stream in pipeline.streams]
    if len(names) != len(set(names)):
        raise node.fail("groups", "names a stream twice; a stream belongs to one group")
    _check_speed(node, pipeline)
    source.done()
    node.done()
    return pipeline
