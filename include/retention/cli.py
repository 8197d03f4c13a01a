"""`python -m include.retention`: shows before it deletes; what deletes has to be asked for with `--yes`."""

from __future__ import annotations

import getpass
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import psycopg
import typer

from include import upkeep
from include.ledger import LedgerError
from include.retention import apply as application
from include.retention import holds, plan, report, rules, services
from include.retention.model import RetentionError
from include.specs.reader import SpecError

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)
hold = typer.Typer(no_args_is_help=True, help="Legal holds: what must stay whatever a rule says.")
app.add_typer(hold, name="hold")

Only = Annotated[list[str] | None, typer.Option("--rule", help="Only this rule; may be repeated.")]
AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]


@contextmanager
def _told() -> Iterator[services.Services]:
    """One line for what a person can mend; a traceback for what only we can."""
    try:
        yield services.from_environment()
    except (RetentionError, LedgerError, SpecError, services.ServicesError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None
    except psycopg.errors.UndefinedTable:
        typer.echo("error: the ledger lacks retention's tables: run the DAG apply_platform", err=True)
        raise typer.Exit(1) from None
    except psycopg.OperationalError as error:
        typer.echo(f"error: the ledger does not answer: {str(error).splitlines()[0]}", err=True)
        raise typer.Exit(1) from None


def who() -> str:
    return f"{getpass.getuser()}@{socket.gethostname()}"


def _holder() -> str:
    return f"command line/{who()}/{os.getpid()}"


def _show(found: dict[str, Any], as_json: bool) -> None:
    typer.echo(json.dumps(found, default=str, indent=2) if as_json else report.markdown(found))


@app.command("plan")
def make_plan(rule: Only = None, as_json: AsJson = False) -> None:
    """Looks at everything, stores a plan and shows it. Deletes nothing."""
    with _told() as use:
        declared = rules.load()
        _known(declared, rule)
        with upkeep.turn(use.ledger, _holder()) as turn:
            number = plan.make(use, declared, who(), turn, only=rule or ())
        with use.ledger() as conn:
            _show(report.read(conn, number), as_json)


@app.command("apply")
def apply_due(rule: Only = None, yes: Annotated[bool, typer.Option("--yes", help="Really delete.")] = False) -> None:
    """Shows what is due; deletes it with --yes."""
    with _told() as use:
        declared = rules.load()
        _known(declared, rule)
        if not yes:
            waiting = application.due(use, declared, rule or ())
            for section in waiting:
                left = section["planned_items"] - section["position"]
                typer.echo(
                    f"plan {section['plan_id']}, {section['rule']}: {left} items, {section['planned_count']} in all"
                )
            typer.echo("nothing is due" if not waiting else "nothing was deleted; repeat with --yes to delete")
            return
        with upkeep.turn(use.ledger, _holder()) as turn:
            for name, outcome in application.run(use, declared, turn, only=rule or ()):
                typer.echo(
                    f"{name}: {outcome.deleted} deleted ({report.size(outcome.bytes)}), {outcome.gone} gone before, "
                    f"{outcome.spared} protected by now"
                )


def _known(declared: rules.Rules, names: list[str] | None) -> None:
    there = {rule.name for rule in declared.rules}
    for name in names or ():
        if name not in there:
            raise RetentionError(f"there is no rule {name!r}; there are {', '.join(sorted(there))}")


@app.command("approve")
def approve(number: int, rule: Only = None) -> None:
    """Allows what a plan asks for."""
    _decide(number, rule, True)


@app.command("reject")
def reject(number: int, rule: Only = None) -> None:
    """Refuses what a plan asks for."""
    _decide(number, rule, False)


def _decide(number: int, rule: list[str] | None, yes: bool) -> None:
    with _told() as use, use.ledger() as conn:
        names = plan.decide(conn, number, who(), approve=yes, only=rule or ())
        typer.echo(", ".join(names) or f"plan {number} asks for nothing")


@app.command("report")
def show(number: Annotated[int | None, typer.Argument()] = None, as_json: AsJson = False) -> None:
    """Shows a plan and what came of it: the newest, or the one given."""
    with _told() as use, use.ledger() as conn:
        _show(report.read(conn, number or report.last(conn)), as_json)


@hold.command("add")
def add_hold(name: str, pattern: str, reason: str) -> None:
    """Keeps what matches PATTERN, a glob over <rule>/<item>, until the hold is lifted."""
    with _told() as use, use.ledger() as conn:
        holds.place(conn, name, pattern, reason, who())


@hold.command("lift")
def lift_hold(name: str) -> None:
    with _told() as use, use.ledger() as conn:
        holds.lift(conn, name, who())


@hold.command("list")
def list_holds() -> None:
    with _told() as use, use.ledger() as conn:
        for one in holds.listed(conn):
            state = f"lifted by {one['lifted_by']} {one['lifted_at']:%Y-%m-%d}" if one["lifted_at"] else "in force"
            typer.echo(f"{one['name']}: {one['pattern']} ({one['reason']}), by {one['placed_by']}, {state}")
