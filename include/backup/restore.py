"""Restores a server as it was at one position: planned, approved by a word, applied; a dead run is simply run again.

Two targets. A *folder*: a data folder that a stopped server is started on. *Databases*: copies beside the live ones on
the running server, which take their names in one transaction; the live ones stay, renamed.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from include.backup import databases, wal
from include.backup import manifest as manifests
from include.backup.databases import Swap
from include.backup.errors import ConfigurationError, RefusedError
from include.backup.programs import Programs, confine
from include.backup.scratch import Scratch, Target, fetch_base, fetch_wal, instance
from include.backup.sets import verify
from include.backup.settings import Backup
from include.failpoints import reach

PREFIX = "postgres-"


@dataclass(frozen=True)
class Plan:
    """`into`: an absolute folder, or empty when `databases` are restored. `word`: what must be said before apply
    replaces something that exists; empty when nothing does.
    """

    plan_id: str
    set_id: str
    chain: tuple[str, ...]
    instance: str
    lsn: str | None
    time: str | None
    into: str
    databases: tuple[str, ...]
    replaces: tuple[str, ...]
    bytes: int
    word: str
    made_at: str

    def __str__(self) -> str:
        where = f"the folder {self.into}" if self.into else f"databases {', '.join(self.databases)} of {self.instance}"
        lines = [
            f"plan {self.plan_id}: restore {self.instance} from set {self.set_id} into {where}",
            f"  position: {self.lsn or self.time or 'the end of the archived log'}",
            f"  reads {self.bytes / 1e6:.1f} MB of {len(self.chain)} sets, and the log since",
            *(f"  replaces {name}, which is kept under another name" for name in self.replaces),
        ]
        return "\n".join([*lines, f"  to apply it say: {self.word}"] if self.word else lines)


def newest_before(backup: Backup, target: Target) -> str:
    """The newest set from which the target can be reached. Raises ConfigurationError when there is none."""
    for set_id in reversed(manifests.complete(backup.store)):
        manifest = manifests.load(backup.store, backup.key, set_id)
        if not target.time or _moment(target.time) > _moment(str(manifest.body["completed_at"])):
            return set_id
    raise ConfigurationError(f"no complete set is older than {target.time or 'that'}: `python -m include.backup list`")


def plan(
    backup: Backup, server: str, set_id: str, target: Target, into: Path | None = None, names: Sequence[str] = ()
) -> Plan:
    """Reads manifests and looks at the target; changes nothing but to store the plan. Raises BackupError."""
    if (into is None) == (not names):
        raise ConfigurationError("restore into a folder, or restore databases: say one of both")
    chain = manifests.chain(backup.store, backup.key, set_id)
    part = chain[-1].parts.get(PREFIX + server)
    if part is None:
        raise ConfigurationError(f"set {set_id} holds no PostgreSQL server {server!r}")
    _check_target(target, part.facts, set_id)
    unknown = set(names) - set(part.facts["point"]["databases"])
    if unknown:
        raise ConfigurationError(f"set {set_id} holds no database {', '.join(sorted(unknown))} of {server}")
    place = str(into.absolute()) if into else ""
    replaces: tuple[str, ...] = (place,) if place and Path(place).exists() else ()
    if names:
        replaces = tuple(sorted(set(names) & databases.existing(databases.admin(backup, server))))
    made = dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds")
    facts = [set_id, server, target.lsn, target.time, place, list(names), made]
    plan_id = hashlib.sha256(manifests.canonical(facts)).hexdigest()[:12]
    word = f"replace {' '.join(Path(one).name for one in replaces)}" if replaces else ""
    planned = Plan(
        plan_id,
        set_id,
        tuple(one.set_id for one in chain),
        server,
        target.lsn,
        target.time,
        place,
        tuple(names),
        replaces,
        sum(one.bytes for one in chain),
        word,
        made,
    )
    backup.store.put(_key(plan_id), manifests.sign(backup.key, "plan", asdict(planned)), once=True)
    reach("restore.after_plan")
    return planned


def load(backup: Backup, plan_id: str) -> Plan:
    """Raises StoreError for an unknown plan, DamagedError for one that was changed."""
    if not plan_id.isalnum():
        raise ConfigurationError(f"{plan_id!r} is no plan's id")
    body = manifests.read(backup.key, "plan", backup.store.get(_key(plan_id)), f"plan {plan_id}")
    lists = {name: tuple(body[name]) for name in ("chain", "databases", "replaces")}
    return Plan(**{**body, **lists})


def apply(backup: Backup, programs: Programs, plan_id: str, word: str = "") -> dict[str, Any]:
    """Carries a plan out, from where an earlier try stopped; gives what came of it.

    Raises RefusedError without the plan's word, and BackupError, before anything is touched, when the set is damaged.
    """
    planned = load(backup, plan_id)
    if planned.word and word != planned.word:
        raise RefusedError(f"{planned}\nNothing was done: the word is {planned.word!r}")
    if planned.into:
        return _apply_folder(backup, programs, planned)
    return _apply_databases(backup, programs, planned)


def _apply_databases(backup: Backup, programs: Programs, planned: Plan) -> dict[str, Any]:
    swap = Swap(databases.admin(backup, planned.instance), planned.plan_id, planned.databases, planned.replaces)
    if todo := swap.missing():
        chain = _read_everything(backup, planned)
        with instance(backup.store, backup.key, chain, PREFIX + planned.instance, programs, None) as scratch:
            scratch.recover(Target(planned.lsn, planned.time), "promote")
            for name in todo:
                swap.copy(scratch, programs, name)
                reach("restore.after_copy")
    reach("restore.before_swap")
    swap.run()
    return {"databases": list(planned.databases), "kept": swap.kept()}


def _check_target(target: Target, facts: Any, set_id: str) -> None:
    if target.lsn:
        try:
            wanted = wal.number(target.lsn)
        except ValueError:
            raise ConfigurationError(f"{target.lsn!r} is no LSN, such as 0/16B3748") from None
        if wanted < wal.number(facts["end_lsn"]):
            raise ConfigurationError(
                f"set {set_id} begins at {facts['end_lsn']}, after {target.lsn}: choose an older set"
            )
    if target.time:
        _moment(target.time)


def _moment(text: str) -> dt.datetime:
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        raise ConfigurationError(f"{text!r} is no time, such as 2026-11-26T02:00:00+00:00") from None
    if moment.tzinfo is None:
        raise ConfigurationError(f"{text!r} has no time zone: add +00:00 for UTC")
    return moment


def _key(plan_id: str) -> str:
    return f"restores/{plan_id}.json"


def _read_everything(backup: Backup, planned: Plan) -> list[manifests.Manifest]:
    """Nothing is written anywhere before every object of the chain was read and found as it was written."""
    chain = manifests.chain(backup.store, backup.key, planned.set_id)
    for one in chain:
        verify(backup.store, backup.key, one)
    return chain


def _apply_folder(backup: Backup, programs: Programs, planned: Plan) -> dict[str, Any]:
    target = Path(planned.into)
    building = target.with_name(f".{target.name}.{planned.plan_id}")
    old = target.with_name(f"{target.name}.before-{planned.plan_id}")
    ready = building / "ready"
    if building.exists() and ready.exists() and not (building / "data").exists():
        shutil.rmtree(building)  # the last try died after the swap
        return {"folder": str(target), "kept": str(old) if old.exists() else None}
    if not ready.exists():
        _refuse_running(target)
        shutil.rmtree(building, ignore_errors=True)
        chain = _read_everything(backup, planned)
        building.mkdir(mode=0o711, parents=True)
        _build(backup, programs, planned, chain, building)
        ready.touch()
    reach("restore.before_swap")
    if target.exists():
        if str(target) not in planned.replaces:
            raise RefusedError(f"{target} was not there when the restore was planned: plan it again")
        _refuse_running(target)
        target.rename(old)
    (building / "data").rename(target)
    reach("restore.after_swap")
    shutil.rmtree(building)
    return {"folder": str(target), "kept": str(old) if old.exists() else None}


def _build(backup: Backup, programs: Programs, planned: Plan, chain: list[manifests.Manifest], building: Path) -> None:
    part = PREFIX + planned.instance
    data = fetch_base(backup.store, backup.key, chain, part, building, programs)
    fetch_wal(backup.store, backup.key, chain[-1].parts[part], building / "wal", None)
    own = (data / "postgresql.auto.conf").read_bytes()
    scratch = Scratch(building, programs, confine(programs, building), data)
    try:
        scratch.recover(Target(planned.lsn, planned.time), "promote", {"fsync": "on", "full_page_writes": "on"})
    finally:
        scratch.stop()
    (data / "postgresql.auto.conf").write_bytes(own)
    os.sync()


def _refuse_running(folder: Path) -> None:
    try:
        pid = int((folder / "postmaster.pid").read_text().split("\n", 1)[0])
        os.kill(pid, 0)
    except (OSError, ValueError):
        return
    raise RefusedError(f"a server runs on {folder} (process {pid}): stop it first, then apply the plan again")
