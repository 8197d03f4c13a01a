"""Makes one set: which parts it has, which set it builds on, and each part by its name."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from typing import Any

from include.backup import dremio, elasticsearch, postgres, versions
from include.backup import manifest as manifests
from include.backup.errors import BackupError, ConfigurationError, DamagedError
from include.backup.manifest import File, Manifest, Part
from include.backup.programs import Programs
from include.backup.sets import SetWriter
from include.backup.settings import Backup

POSTGRES = "postgres-"


def parts(backup: Backup) -> tuple[list[str], dict[str, str]]:
    """The parts that a set here has, and those that it has not, with the reason."""
    made = [POSTGRES + name for name in backup.instances] + [versions.PART]
    skipped = {}
    for name, login in backup.optional.items():
        if login is None:
            skipped[name] = "its connection does not exist here"
        else:
            made.append(name)
    return made, skipped


def begin(backup: Backup, set_id: str, *, full: bool = False) -> SetWriter:
    """Decides what the set builds on, and writes that down."""
    parent = None if full else latest(backup)
    writer = SetWriter(backup.store, backup.key, set_id)
    writer.begin("incremental" if parent else "full", parent)
    return writer


def latest(backup: Backup) -> Manifest | None:
    """The newest set, unless the next one must be a full one: it is damaged, of another key, or its full set is old."""
    known = manifests.complete(backup.store)
    if not known:
        return None
    try:
        chain = manifests.chain(backup.store, backup.key, known[-1])
    except (BackupError, KeyError):
        return None
    age = dt.datetime.now(dt.UTC) - dt.datetime.fromisoformat(str(chain[0].body["started_at"]))
    wanted = {POSTGRES + name for name in backup.instances}
    if age >= dt.timedelta(days=backup.full_every_days) or not wanted <= set(chain[-1].parts):
        return None
    return chain[-1]


def make_part(backup: Backup, programs: Programs, set_id: str, name: str) -> Part:
    """Makes one part of a set that was begun; does nothing when it is made. Raises BackupError."""
    writer = SetWriter(backup.store, backup.key, set_id)
    return writer.run(name, _maker(backup, programs, writer, name))


def _maker(
    backup: Backup, programs: Programs, writer: SetWriter, name: str
) -> Callable[[SetWriter, list[File]], Mapping[str, Any]]:
    if name.startswith(POSTGRES):
        instance = backup.instance(name.removeprefix(POSTGRES))
        return lambda writer, files: postgres.part(writer, files, instance, programs, _parent(backup, writer, name))
    if name == versions.PART:
        return lambda writer, files: versions.part(writer, files, backup, programs)
    login = backup.optional.get(name)
    if name == dremio.PART and login is not None:
        return lambda writer, files: dremio.part(writer, files, login)
    if name == elasticsearch.PART and login is not None:
        return lambda writer, files: elasticsearch.part(writer.set_id, login)
    raise ConfigurationError(f"there is no part {name!r}; there are {', '.join(parts(backup)[0])}")


def _parent(backup: Backup, writer: SetWriter, name: str) -> Part | None:
    parent = writer.begun()["parent"]
    if parent is None:
        return None
    found = manifests.load(backup.store, backup.key, parent["set_id"])
    if found.sha256 != parent["manifest_sha256"]:
        raise DamagedError(f"the manifest of {found.set_id}, which this set builds on, was exchanged")
    return found.parts.get(name)


def finish(backup: Backup, programs: Programs, set_id: str) -> Manifest:
    """Raises IncompleteError when a part is missing."""
    made, skipped = parts(backup)
    return SetWriter(backup.store, backup.key, set_id).finish(made, skipped, versions.tools(programs))


def run(backup: Backup, programs: Programs, set_id: str, *, full: bool = False) -> Manifest:
    """All of it, part after part; goes on with a set that was begun before."""
    begin(backup, set_id, full=full)
    for name in parts(backup)[0]:
        make_part(backup, programs, set_id, name)
    return finish(backup, programs, set_id)
