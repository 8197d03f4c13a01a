"""`python -m include.reconcile plan|apply|drift`: the declared platform against the actual one, in a terminal.

Connections are Airflow's: from the environment (AIRFLOW_CONN_*) or a secrets backend. `make plan`, `make apply` and
`make drift` run it on the embedded platform. Exits with 0, 1 for drift, 2 when something could not be read or written.
"""

from __future__ import annotations

import argparse
import sys

from include.reconcile.plan import Change
from include.reconcile.steps import Options, Step, by_name

DRIFTED, FAILED = 1, 2


def main(arguments: list[str] | None = None) -> int:
    options = _arguments(arguments)
    known = by_name()
    differing = 0
    for name in options.service or list(known):
        step = known[name]
        try:
            changes = step.changes(Options(options.what == "apply", options.prune or options.what == "drift"))
        except Exception as error:
            print(f"{step.title}\n  failed: {type(error).__name__}: {error}", file=sys.stderr)
            return FAILED
        _show(step, changes)
        differing += sum(change.differs for change in changes)
    print(_summary(options.what, differing))
    return DRIFTED if options.what == "drift" and differing else 0


def _arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m include.reconcile", description=__doc__)
    parser.add_argument("what", choices=("plan", "apply", "drift"))
    parser.add_argument("--service", action="append", choices=list(by_name()), help="only this one; may be repeated")
    parser.add_argument("--prune", action="store_true", help="also what was made from declarations that are gone")
    return parser.parse_args(arguments)


def _show(step: Step, changes: list[Change]) -> None:
    print(step.title)
    for change in changes:
        print("\n".join(f"  {line}" for line in str(change).splitlines()))
    if not changes:
        print("  as declared")


def _summary(what: str, differing: int) -> str:
    if not differing:
        return "\nEverything is as declared."
    verb = {"plan": "to make", "apply": "made", "drift": "found"}[what]
    return f"\n{differing} change{'s' if differing > 1 else ''} {verb}."


if __name__ == "__main__":
    sys.exit(main())
