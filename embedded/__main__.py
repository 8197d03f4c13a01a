"""`python -m embedded up|status|logs|down|reset|env|demo-traffic`: the platform of one data folder (LAKEHOUSE_HOME)."""

from __future__ import annotations

import contextlib
import json
import shlex
import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from embedded.airflow import API, USER
from embedded.console import Progress
from embedded.credentials import SecretsError
from embedded.home import HomeError
from embedded.logs import UnknownLogError, files, follow, last_lines
from embedded.ports import PortsError
from embedded.services import UnknownServiceError
from embedded.stack import Stack, StackError
from embedded.state import StateError
from embedded.status import ServiceStatus, statuses
from embedded.supervision import SupervisorError

# What a user can mend; anything else is a defect and keeps its traceback.
EXPECTED = (
    *(HomeError, PortsError, SecretsError, StackError, StateError, SupervisorError),
    *(UnknownLogError, UnknownServiceError),
)

app = typer.Typer(
    help="The embedded platform: PostgreSQL, S3, an Airbyte- and a Dremio-compatible server, Airflow; on this machine.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,  # they hold credentials
)
console = Console(soft_wrap=True)
errors = Console(stderr=True, soft_wrap=True)


@contextlib.contextmanager
def _clear_errors() -> Iterator[None]:
    try:
        yield
    except EXPECTED as error:
        errors.print(f"[red]{escape(str(error))}[/]", highlight=False)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        errors.print("interrupted; what was started goes on running: `python -m embedded down` stops it")
        raise typer.Exit(130) from None


@app.command()
def up(
    only: Annotated[str, typer.Option(help="Services or groups, with commas; what they need is started too.")] = "",
) -> None:
    """Start what does not run yet, wait until all is ready."""
    begun = time.monotonic()
    with _clear_errors(), Progress(console) as progress:
        stack = Stack(report=progress)
        stack.up([name.strip() for name in only.split(",") if name.strip()] or None)
    console.print(f"ready in {time.monotonic() - begun:.1f} s; data in {stack.home.root}", highlight=False)
    if not only:
        _how_to_sign_in(stack)


def _how_to_sign_in(stack: Stack) -> None:
    url = stack.endpoints().airflow_url
    console.print(
        f"Airflow: {url}  user {USER}, password: python -m embedded env LAKEHOUSE_AIRFLOW_PASSWORD", highlight=False
    )


@app.command()
def status(
    as_json: Annotated[bool, typer.Option("--json", help="For programs: sizes in bytes, times in seconds.")] = False,
) -> None:
    """Show every service: state, process, port, age, memory."""
    with _clear_errors():
        stack = Stack()
        found = statuses(stack)
    if as_json:
        typer.echo(json.dumps([asdict(one) for one in found], indent=2))
        return
    console.print(_table(found))
    if any(one.name == API and one.state == "ready" for one in found):
        _how_to_sign_in(stack)


def _table(found: list[ServiceStatus]) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in ("service", "state"):
        table.add_column(column)
    for column in ("pid", "port", "uptime", "memory"):
        table.add_column(column, justify="right")
    for one in found:
        colour = {"ready": "green", "stopped": "dim"}.get(one.state, "yellow" if one.state == "starting" else "red")
        table.add_row(
            one.name,
            f"[{colour}]{one.state}[/]",
            *("" if value is None else str(value) for value in (one.pid, one.port)),
            "" if one.uptime_seconds is None else _age(one.uptime_seconds),
            "" if one.memory_bytes is None else f"{one.memory_bytes / 1e6:.0f} MB",
        )
    total = sum(one.memory_bytes or 0 for one in found)
    table.add_row("", "", "", "", "", f"[bold]{total / 1e6:.0f} MB[/]")
    return table


def _age(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h {minutes}m" if hours else f"{minutes}m {rest}s" if minutes else f"{rest}s"


@app.command()
def logs(
    service: Annotated[str | None, typer.Argument(help="One service; all when left out.")] = None,
    keep_on: Annotated[bool, typer.Option("--follow", "-f", help="Show new lines as they come.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=1, help="How many lines of each log.")] = 20,
) -> None:
    """Show the newest log lines."""
    with _clear_errors():
        paths = files(Stack().home, service)
        width = max((len(path.stem) for path in paths), default=0)

        def show(name: str, line: str) -> None:
            typer.echo(line if service else f"{name:<{width}} | {line}")

        for name, line in last_lines(paths, lines):
            show(name, line)
        if keep_on:
            with contextlib.suppress(KeyboardInterrupt):
                for name, line in follow(paths):
                    show(name, line)


@app.command()
def down() -> None:
    """Stop everything; data is kept."""
    begun = time.monotonic()
    with _clear_errors(), Progress(console) as progress:
        Stack(report=progress).down()
    console.print(f"down in {time.monotonic() - begun:.1f} s", highlight=False)


@app.command()
def reset(
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Ask, then stop everything and delete the data folder."""
    home = Stack().home
    if not home.root.exists():
        console.print(f"{home.root} does not exist: there is nothing to delete", highlight=False)
        return
    if not yes:
        used = sum(path.stat().st_size for path in home.root.rglob("*") if path.is_file() and not path.is_symlink())
        typer.confirm(f"Delete {home.root} ({used / 1e6:.0f} MB: all databases, objects, credentials)?", abort=True)
    with _clear_errors(), Progress(console) as progress:
        Stack(report=progress).reset()
    console.print(f"deleted {home.root}", highlight=False)


@app.command("demo-traffic")
def demo_traffic(
    rate: Annotated[float, typer.Option(min=0.1, help="Row changes a second.")] = 50.0,
    seconds: Annotated[float | None, typer.Option(help="Stop after so long; else when the weeks are over.")] = None,
    seed: Annotated[int, typer.Option(help="Decides what is corrected and cancelled.")] = 1,
) -> None:
    """Replay the sample's held-back weeks at the source: purchases, corrections, cancellations, deletions."""
    from embedded.demo.source import SourceError
    from embedded.demo.traffic import Counts, Traffic

    def tell(counts: Counts) -> None:
        console.print(
            f"{counts.changes:,} changes in {counts.transactions:,} transactions: {counts.inserted:,} inserted, "
            f"{counts.updated:,} updated, {counts.deleted:,} deleted",
            highlight=False,
        )

    with _clear_errors():
        traffic = Traffic(Stack().endpoints().source.dsn("retail"), rate, seed)
        try:
            tell(traffic.run(seconds, tell))
        except SourceError as error:
            raise StackError(str(error)) from error


@app.command()
def env(
    name: Annotated[str | None, typer.Argument(help="One variable; only its value is printed.")] = None,
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Print addresses AND CREDENTIALS, for a shell: eval "$(python -m embedded env)"."""
    with _clear_errors():
        values = Stack().endpoints().environment()
        if name is not None and name not in values:
            raise StackError(f"there is no {name!r}; there are: {', '.join(values)}")
    if name is not None:
        typer.echo(values[name])
    elif as_json:
        typer.echo(json.dumps(values, indent=2))
    else:
        for key, value in values.items():
            typer.echo(f"export {key}={shlex.quote(value)}")


if __name__ == "__main__":
    app(prog_name="python -m embedded")
