"""`python -m include.mirror`: copies the lake's new objects off-site, and says how far behind the copies are."""

from __future__ import annotations

import getpass
import os
import socket
from typing import Annotated

import psycopg
import typer

from include import upkeep
from include.ledger import LedgerError
from include.mirror import lag, run, spec
from include.mirror.errors import MirrorError
from include.retention import services
from include.specs.reader import SpecError

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)

Deletes = Annotated[int | None, typer.Option("--max-deletes", help="Allow so many objects a bucket to be quarantined.")]


def _sites() -> run.Sites:
    found = services.from_environment()
    if found.s3 is None or found.offsite is None:
        raise services.ServicesError(
            "LAKEHOUSE_S3_ENDPOINT_URL or LAKEHOUSE_OFFSITE_ENDPOINT_URL is not set (with _ACCESS_KEY and _SECRET_KEY)"
        )
    return run.Sites(found.ledger, found.s3, found.offsite)


@app.command("sync")
def sync(max_deletes: Deletes = None) -> None:
    """One run over every bucket of include/mirror.yaml."""
    who = f"command line/{getpass.getuser()}@{socket.gethostname()}/{os.getpid()}"
    try:
        sites, declared = _sites(), spec.load()
        with upkeep.turn(sites.ledger, who, name=run.LEASE) as turn:
            for bucket, counts in run.sync(sites, declared, who, turn, max_deletes=max_deletes).items():
                typer.echo(
                    f"{bucket}: {counts.listed} listed, {counts.copied} copied ({counts.copied_bytes} bytes), "
                    f"{counts.quarantined} moved to quarantine, {counts.verified} read back"
                )
    except (MirrorError, LedgerError, SpecError, services.ServicesError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None
    except psycopg.OperationalError as error:
        typer.echo(f"error: the ledger does not answer: {str(error).splitlines()[0]}", err=True)
        raise typer.Exit(1) from None


@app.command("status")
def status() -> None:
    """How old the newest complete mirror of each bucket is."""
    try:
        with services.from_environment().ledger() as conn:
            for row in lag.read(conn, spec.load()):
                age = "never" if row.seconds is None else f"{row.seconds / 60:.0f} min ago"
                typer.echo(
                    f"{row.bucket}: {row.objects} copies, {row.bytes} bytes, complete {age}. {row.reason}".rstrip()
                )
    except (SpecError, services.ServicesError, psycopg.Error) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None
