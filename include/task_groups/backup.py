"""Tasks of backups, drills and restores; one lease, shared with retention, keeps them apart."""

from __future__ import annotations

import datetime as dt
import hashlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import get_current_context, task

from include import connections, ledger, upkeep
from include.connections import LEDGER
from include.task_groups.run import holder
from include.task_groups.turns import PATIENT, holding

POOL = "backup"
# A part, a drill or a restore of terabytes takes hours; the DAG's own limit ends a run.
_LONG: dict[str, Any] = {"pool": POOL, "execution_timeout": dt.timedelta(hours=11)}


def set_id_of(run_id: str, at: dt.datetime) -> str:
    """One set a run: a task that is tried or cleared again goes on with it."""
    return f"{at.astimezone(dt.UTC):%Y%m%dT%H%M%SZ}-{hashlib.sha256(run_id.encode()).hexdigest()[:8]}"


def _set_id() -> str:
    run = get_current_context()["dag_run"]
    return set_id_of(run.run_id, run.start_date or run.run_after)


def release() -> Any:
    @task(task_id="release_lease", pool=POOL)
    def release_lease() -> None:
        with connections.connect(LEDGER) as conn:
            ledger.release_lease(conn, upkeep.LEASE, holder())

    return release_lease().as_teardown()  # runs whatever has failed, and does not turn the run green


def begin() -> Any:
    @task(task_id="begin", multiple_outputs=False, pool=POOL, **PATIENT)
    def begin() -> list[dict[str, str]]:
        """Waits for the lease; decides full or incremental; gives the set and each of its parts."""
        from include.backup import catalogue, create, settings

        with holding():
            backup, set_id = settings.load(), _set_id()
            wanted = bool(get_current_context()["params"]["full"])
            begun = create.begin(backup, set_id, full=wanted).begun()
            parent = (begun["parent"] or {}).get("set_id")
            with connections.connect(LEDGER) as conn:
                catalogue.begun(conn, set_id, begun["kind"], parent)
        print(f"{set_id}: {begun['kind']} on {parent or 'nothing'}")
        return [{"set_id": set_id, "part": name} for name in create.parts(backup)[0]]

    return begin()


def parts(begun: Any) -> Any:
    @task(task_id="part", **_LONG, map_index_template="{{ task.op_kwargs['part'] }}")
    def part(set_id: str, part: str) -> dict[str, Any]:
        """One part of the set; does nothing when an earlier try has made it."""
        from include.backup import create, programs, settings

        with holding():
            made = create.make_part(settings.load(), programs.find(), set_id, part)
        size = sum(one.size for file in made.files for one in file.segments)
        print(f"{part}: {len(made.files)} files, {size / 1e6:.1f} MB")
        return {"part": part, "bytes": size}

    return part.expand_kwargs(begun)


def finish() -> Any:
    @task(task_id="finish", trigger_rule="all_done", pool=POOL)
    def finish() -> dict[str, Any]:
        """Writes the manifest; fails, and says what is missing, when a part is."""
        from include.backup import catalogue, create, programs, settings
        from include.backup.errors import BackupError

        set_id = _set_id()
        try:
            with holding():
                manifest = create.finish(settings.load(), programs.find(), set_id)
        except BackupError as error:
            with connections.connect(LEDGER) as conn:
                catalogue.failed(conn, set_id, str(error))
            raise
        with connections.connect(LEDGER) as conn:
            catalogue.completed(conn, manifest)
        for name, reason in manifest.body["skipped"].items():
            print(f"without {name}: {reason}")
        return {"set_id": set_id, "kind": manifest.kind, "bytes": manifest.bytes, "skipped": manifest.body["skipped"]}

    return finish()


def choose() -> Any:
    @task(task_id="choose_sets", pool=POOL, **PATIENT)
    def choose_sets() -> list[str]:
        """The newest set without proof, or the newest at all; on Sundays also an older one, by chance."""
        from include.backup import catalogue, settings
        from include.backup import manifest as manifests
        from include.backup.errors import NotVerifiedError

        with holding():
            known = manifests.complete(settings.load().store)
        if not known:
            raise NotVerifiedError("there is no complete backup set to prove; look at the DAG `backup`")
        with connections.connect(LEDGER) as conn:
            chosen = [catalogue.unverified(conn) or known[-1]]
            older = catalogue.older(conn)
        context = get_current_context()
        weekly = bool(context["params"]["older"]) or dt.datetime.now(dt.UTC).weekday() == 6
        return [*chosen, older] if weekly and older and older not in chosen else chosen

    return choose_sets()


def drill(chosen: Any) -> Any:
    @task(task_id="drill", retries=0, **_LONG)
    def drill(set_id: str) -> dict[str, Any]:
        """Restores and compares; what could not be compared has failed."""
        from include.backup import catalogue, programs, settings
        from include.backup.drill import Drill
        from include.backup.errors import NotVerifiedError

        with holding():
            report = Drill(settings.load(), programs.find()).run(set_id)
        with connections.connect(LEDGER) as conn:
            catalogue.drilled(conn, report)
        for level in report.levels:
            print(f"proven: {level}")
        if not report.passed:
            raise NotVerifiedError(f"set {set_id} is not proven: {report.reason}")
        print(f"RTO {report.rto_seconds} s, RPO {report.rpo_seconds} s")
        return asdict(report)

    return drill.expand(set_id=chosen)


def plan() -> Any:
    @task(task_id="plan", pool=POOL, **PATIENT)
    def plan() -> dict[str, Any]:
        """What would be restored, and what it would replace; refuses what the params do not allow."""
        from include.backup import restore, settings
        from include.backup.errors import RefusedError
        from include.backup.scratch import Target

        given, backup = get_current_context()["params"], settings.load()
        names = [str(name) for name in given["databases"]]
        if backup.canary and given["instance"] == backup.canary.instance and backup.canary.database in names:
            raise RefusedError(
                f"{backup.canary.database!r} is Airflow's own database: stop Airflow and use `python -m include.backup`"
            )
        target = Target(given["lsn"] or None, given["time"] or None)
        into = Path(given["into"]) if given["into"] else None
        with holding():
            chosen = given["set_id"] or restore.newest_before(backup, target)
            made = restore.plan(backup, given["instance"], chosen, target, into, names)
        if made.word and given["word"] != made.word:
            raise RefusedError(f"{made}\nGive it as the param `word`")
        return {"plan_id": made.plan_id, "text": str(made), "databases": names, "set_id": chosen}

    return plan()


def approve() -> Any:
    """The plan on Airflow's page of required actions. No answer within the time is a refusal."""
    return ApprovalOperator(
        task_id="approve",
        subject="May this backup be restored?",
        body="{{ ti.xcom_pull(task_ids='plan')['text'] }}",
        defaults="Reject",
        response_timeout=dt.timedelta(hours=4),
        retries=0,
    )


def apply() -> Any:
    @task(task_id="apply", **_LONG, **PATIENT)
    def apply(planned: dict[str, Any]) -> dict[str, Any]:
        """Reads the whole set first, then builds aside, then swaps; a try after a crash goes on."""
        from include.backup import programs, restore, settings

        word = str(get_current_context()["params"]["word"])
        with holding():
            return restore.apply(settings.load(), programs.find(), planned["plan_id"], word)

    return apply
