"""Becomes one server: `launch.py SPEC` reads the program from a JSON file and turns into it.

Started by supervisor at every start and restart, so what must happen then happens here: what an earlier process of this
service left behind is killed or removed, the new process is recorded, and root becomes another account where it must.
Run with `-P`: the modules beside this file must not shadow those of others.
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import sys
from pathlib import Path

import psutil

HOME_VARIABLE = "LAKEHOUSE_STACK"
SERVICE_VARIABLE = "LAKEHOUSE_SERVICE"


def marked(home: str, service: str | None = None) -> list[psutil.Process]:
    """The living processes that a stack, or one of its services, started, whoever their parent is by now."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            environment = process.environ()
            if environment.get(HOME_VARIABLE) != home or process.status() == psutil.STATUS_ZOMBIE:
                continue
            if service in (None, environment.get(SERVICE_VARIABLE)):
                found.append(process)
    return found


def record(path: Path, pid: int) -> None:
    """Process id and start time (seconds since 1970): together they name one process, even after ids are reused."""
    started = psutil.Process(pid).create_time()
    temporary = path.with_name(f"{path.name}.new")
    temporary.touch(mode=0o600)
    temporary.write_text(json.dumps({"pid": pid, "started": started}), encoding="utf-8")
    temporary.replace(path)


def main(spec_file: str) -> None:
    spec = json.loads(Path(spec_file).read_text(encoding="utf-8"))
    # supervisord has the caller's PATH and locale, and adds words of its own.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("SUPERVISOR_")}
    environment: dict[str, str] = inherited | spec["environment"]
    # A killed scheduler leaves its workers, a killed server perhaps a child with its port.
    for left in marked(environment[HOME_VARIABLE], environment[SERVICE_VARIABLE]):
        with contextlib.suppress(psutil.Error):
            left.kill()
    for path in spec["stale"]:
        Path(path).unlink(missing_ok=True)
    record(Path(spec["pid_file"]), os.getpid())
    os.chdir(spec["cwd"])
    if spec["user"]:
        account = pwd.getpwnam(spec["user"])
        os.setgroups([])
        os.setgid(account.pw_gid)
        os.setuid(account.pw_uid)
    os.execvpe(spec["argv"][0], spec["argv"], environment)


if __name__ == "__main__":
    main(sys.argv[1])
