"""`python -m include.backup`: backup sets without Airflow. `--help` lists the commands."""

from __future__ import annotations

import json
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from getpass import getuser
from pathlib import Path
from typing import Annotated

import psycopg
import typer

from include import ledger, upkeep
from include.backup import catalogue, create, programs, restore, sets, settings
from include.backup import manifest as manifests
from include.backup.archiver import Archiver
from include.backup.drill import Drill
from include.backup.errors import BackupError, DamagedError
from include.backup.scratch import Target
from include.backup.sealed import Key

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)


LEASE_SECONDS = 30  # of a command: what is killed blocks the next one no longer than that

log = logging.getLogger(__name__)


def _ledger() -> Callable[[], catalogue.Connection] | None:
    """Connects to the ledger, where connection `lakehouse` exists."""
    login = settings.connection("lakehouse")
    if login is None:
        return None
    dsn = settings.Instance("lakehouse", login).dsn(login.schema or "lakehouse")
    return lambda: psycopg.connect(dsn, row_factory=psycopg.rows.dict_row)


def _tell(note: Callable[[catalogue.Connection], None]) -> None:
    """Tells the ledger, where there is one. A set counts without: the ledger may be what is lost."""
    connect = _ledger()
    if connect is None:
        return
    try:
        with connect() as conn:
            note(conn)
    except psycopg.Error as error:
        log.warning("the ledger was not told: %s", str(error).strip().splitlines()[0])


@contextmanager
def _turn() -> Iterator[None]:
    """Backup, drill, restore and retention never run together; without a ledger nobody can be asked.

    Raises LeaseHeldError, which says who is at work and until when.
    """
    connect = _ledger()
    if connect is None:
        yield
        return
    try:
        held = upkeep.Turn(connect, f"command line/{getuser()}/{os.getpid()}", LEASE_SECONDS)
    except psycopg.Error as error:
        log.warning("the ledger was not asked whose turn it is: %s", str(error).strip().splitlines()[0])
        yield
        return
    try:
        yield
    finally:
        with suppress(psycopg.Error):  # a restore may have replaced it; the lease runs out
            held.end()


@app.command("create")
def make(
    full: Annotated[bool, typer.Option("--full", help="Build on no earlier set")] = False,
    set_id: Annotated[str, typer.Option("--set", help="Go on with this set")] = "",
) -> None:
    """Make a set; goes on with one that was begun in the last day and not completed."""
    backup, found = settings.load(), programs.find()
    with _turn():
        chosen = set_id or sets.unfinished(backup.store, backup.key) or sets.new_id()
        manifest = create.run(backup, found, chosen, full=full)
        _tell(lambda conn: catalogue.completed(conn, manifest))
    print(f"{manifest.set_id}: {manifest.kind}, {manifest.bytes / 1e6:.1f} MB, {len(manifest.parts)} parts")
    for name, reason in manifest.body["skipped"].items():
        print(f"  without {name}: {reason}")


@app.command("list")
def show() -> None:
    """List the complete sets, oldest first."""
    backup = settings.load()
    for set_id in manifests.complete(backup.store):
        try:
            one = manifests.load(backup.store, backup.key, set_id)
        except DamagedError as error:
            print(f"{set_id}  DAMAGED  {error}")
            continue
        print(
            f"{set_id}  {one.kind:11}  {one.bytes / 1e6:10.1f} MB  {one.body['completed_at']}  on {one.parent or '-'}"
        )


@app.command()
def verify(set_id: str) -> None:
    """Read every object of a set and of those it builds on, and check seals and signatures; restores nothing."""
    backup = settings.load()
    for one in manifests.chain(backup.store, backup.key, set_id):
        size = sets.verify(backup.store, backup.key, one)
        print(f"{one.set_id}: {size / 1e6:.1f} MB are as they were written")


@app.command()
def drill(set_id: Annotated[str, typer.Argument(help="Default: the newest")] = "") -> None:
    """Restore a set into scratch and compare every table; exit code 1 when that does not prove it."""
    backup, found = settings.load(), programs.find()
    known = manifests.complete(backup.store)
    if not known:
        raise BackupError("there is no complete set: `python -m include.backup create`")
    with _turn():
        report = Drill(backup, found).run(set_id or known[-1])
        _tell(lambda conn: catalogue.drilled(conn, report))
    print(json.dumps(report.__dict__, indent=2, default=str))
    if not report.passed:
        raise typer.Exit(1)


@app.command("plan")
def plan_(
    instance: str,
    set_id: Annotated[
        str, typer.Option("--set", help="Default: the newest from which the position can be reached")
    ] = "",
    into: Annotated[Path | None, typer.Option(help="A data folder for a server that is stopped")] = None,
    database: Annotated[list[str] | None, typer.Option(help="A database to restore beside the live ones")] = None,
    lsn: Annotated[str | None, typer.Option(help="Stop before the record at this position")] = None,
    time: Annotated[str | None, typer.Option(help="Stop at this time, such as 2026-11-26T02:00:00+00:00")] = None,
) -> None:
    """Plan a restore: what would be read, built and replaced. Changes nothing."""
    backup, target = settings.load(), Target(lsn, time)
    chosen = set_id or restore.newest_before(backup, target)
    print(restore.plan(backup, instance, chosen, target, into, database or []))


@app.command("restore")
def restore_(plan_id: str, word: Annotated[str, typer.Option(help="The word that the plan names")] = "") -> None:
    """Carry out a plan; run again what was interrupted."""
    with _turn():
        print(json.dumps(restore.apply(settings.load(), programs.find(), plan_id, word)))


@app.command()
def archive(staging: Annotated[Path, typer.Option(help="Folder for log that is not in the store yet")]) -> None:
    """Ship every server's write-ahead log to the store, until it is told to stop."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO)
    logging.getLogger("botocore").setLevel(logging.WARNING)
    backup, found, stop = settings.load(), programs.find(), threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())

    def note(name: str, lsn: str) -> None:
        _tell(lambda conn: catalogue.archived(conn, name, lsn))

    threads = [
        threading.Thread(target=Archiver(one, found, backup.store, backup.key, staging, note).run, args=[stop])
        for one in backup.instances.values()
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@app.command()
def key() -> None:
    """Print a new backup key, to be kept where the backups are not."""
    print(Key.generate())


def main() -> None:
    try:
        app()
    except (BackupError, ledger.LedgerError) as error:
        raise SystemExit(f"{type(error).__name__}: {error}") from None


if __name__ == "__main__":
    main()
