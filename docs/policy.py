"""Writes the table of docs/policy.md from include/platform/policy.yaml; with `--check` fails where it is stale."""

from __future__ import annotations

import sys
from pathlib import Path

from include.specs import policy

PAGE = Path(__file__).with_suffix(".md")
MARK = "<!-- generated: python -m docs.policy -->\n"


def table() -> str:
    found = policy.load()
    titles = [role.title for role in found.roles.values()]
    lines = [f"| service | action | {' | '.join(titles)} |", f"|---|---|{'---|' * len(titles)}"]
    for service, actions in policy.ACTIONS.items():
        for name, action in actions.items():
            cells = ["yes" if found.allows(role, service, name) else "-" for role in found.roles]
            lines.append(f"| {service} | `{name}`: {action.text} | {' | '.join(cells)} |")
    rows = [
        f"- {', '.join(r.roles)} in {r.service}, {', '.join('.'.join(o) for o in r.objects)}: `{r.where}`"
        for r in found.rows
    ]
    return "\n".join([*lines, "", "Rows that a role sees of an object:", "", *rows, ""])


def page() -> str:
    head, _, _ = PAGE.read_text(encoding="utf-8").partition(MARK)
    return f"{head}{MARK}\n{table()}"


if __name__ == "__main__":
    if "--check" in sys.argv and PAGE.read_text(encoding="utf-8") != page():
        sys.exit("docs/policy.md is stale: make docs")
    PAGE.write_text(page(), encoding="utf-8")
