"""Runs in dbt's venv: one dbt that stays, so that a run costs its statements and not a start of Python.

Reads requests as JSON lines from stdin: {"arguments": [...], "environment": {...}}; answers {"ok", "messages"}.
"""

from __future__ import annotations

import json
import os
import sys

from dbt.cli.main import dbtRunner


def main() -> None:
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # dbt's own output must not mix with the replies
    sys.stdout = sys.stderr
    manifest = dbtRunner().invoke(["--quiet", "parse"]).result
    print(json.dumps({"ok": True}), file=replies)
    for line in sys.stdin:
        request = json.loads(line)
        os.environ.update(request["environment"])
        done = dbtRunner(manifest=manifest).invoke(request["arguments"])
        results = getattr(done.result, "results", None) or []
        messages = {r.node.unique_id: (str(r.status), str(r.message)) for r in results}
        problem = str(done.exception) if done.exception else ""
        print(json.dumps({"ok": bool(done.success), "messages": messages, "problem": problem}), file=replies)


if __name__ == "__main__":
    main()
