"""A connector whose behaviour is in its configuration, installed like any other: for what real ones do only at times.

`configuration(...)` gives one. `runs` is a list of scripts, one for each run of `read` (the last one repeats); a script
is a list of steps: {"say": message}, {"raw": text}, {"records": stream, "rows": [...]}, {"state": stream, "is": ...},
{"wait": path}, {"orphan": path}, {"exit": code}. `says` in a configuration: messages by command, said first.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

PROGRAM = """#!{python} -I
import json, os, signal, subprocess, sys, time

command, options = sys.argv[1], dict(zip(sys.argv[2::2], sys.argv[3::2]))
configuration = json.load(open(options["--config"])) if "--config" in options else {{}}


def say(message):
    print(json.dumps(message, separators=(",", ":")), flush=True)


def count():
    with open(configuration["counter"], "a+") as file:
        file.write("x")
        file.seek(0)
        return len(file.read())


def note():
    with open(configuration["notes"], "w") as file:
        json.dump(
            {{
                "arguments": sys.argv,
                "environment": dict(os.environ),
                "folder": os.getcwd(),
                "modes": {{name: oct(os.stat(path).st_mode & 0o777) for name, path in options.items()}},
                "state": json.load(open(options["--state"])) if "--state" in options else None,
                "login": configuration.get("login"),
                "catalog": json.load(open(options["--catalog"])),
            }},
            file,
        )


def act(step):
    if "say" in step:
        say(step["say"])
    elif "raw" in step:
        sys.stdout.write(step["raw"])
        sys.stdout.flush()
    elif "records" in step:
        for data in step["rows"]:
            record = {{"stream": step["records"], "data": data, "emitted_at": step.get("at", 1795455052018)}}
            say({{"type": "RECORD", "record": record}})
    elif "state" in step:
        stream = {{"stream_descriptor": {{"name": step["state"]}}, "stream_state": step["is"]}}
        say({{"type": "STATE", "state": {{"type": "STREAM", "stream": stream}}}})
    elif "wait" in step:
        while not os.path.exists(step["wait"]):
            time.sleep(0.02)
    elif "orphan" in step:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
        child = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
        with open(step["orphan"] + ".new", "w") as file:
            file.write(f"{{os.getpid()}} {{child.pid}}")
        os.rename(step["orphan"] + ".new", step["orphan"])
    elif "exit" in step:
        sys.exit(step["exit"])


for message in configuration.get("says", {{}}).get(command, []):
    say(message)
if command == "check":
    say({{"type": "CONNECTION_STATUS", "connectionStatus": configuration.get("check", {{"status": "SUCCEEDED"}})}})
elif command == "discover":
    say({{"type": "CATALOG", "catalog": {{"streams": configuration["streams"]}}}})
elif command == "read":
    note()
    run = count()
    for step in configuration["runs"][min(run, len(configuration["runs"])) - 1]:
        act(step)
"""

SPECIFICATION = {
    "connectionSpecification": {
        "type": "object",
        "required": ["streams", "runs"],
        "properties": {
            "streams": {"type": "array"},
            "runs": {"type": "array"},
            "login": {"type": "object", "properties": {"key": {"type": "string", "airbyte_secret": True}}},
        },
    }
}


def install(folder: Path, name: str = "source-scripted") -> None:
    """Put the connector into a folder of connectors, with the lock file that makes it known."""
    lock = folder / "locked" / f"{name}.txt"
    lock.parent.mkdir(parents=True, exist_ok=True)
    lock.write_text(f"# package: airbyte-{name}==1.0\n# definition-id: 8e7a2f5a-0a52-4a1c-8a4e-0d0f2f9d7c11\n")
    program = folder / name / "bin" / name
    program.parent.mkdir(parents=True)
    program.write_text(PROGRAM.format(python=sys.executable))
    program.chmod(0o755)
    (folder / name / "spec.json").write_text(json.dumps(SPECIFICATION))
    (folder / name / ".installed").write_bytes(lock.read_bytes())


def stream(name: str, properties: dict[str, Any], *, incremental: bool = True, **more: Any) -> dict[str, Any]:
    """A stream of a catalog, with the key `id`."""
    return {
        "name": name,
        "json_schema": {"type": "object", "properties": properties},
        "supported_sync_modes": ["full_refresh", *(["incremental"] if incremental else [])],
        "source_defined_cursor": incremental,
        "default_cursor_field": ["id"] if incremental else [],
        "source_defined_primary_key": [["id"]],
        **more,
    }


def configuration(folder: Path, streams: list[dict[str, Any]], *runs: Sequence[Any]) -> dict[str, Any]:
    """`folder` gets `notes`, what the last run was given, and counts the runs."""
    return {
        "sourceType": "scripted",
        "streams": streams,
        "runs": list(runs),
        "notes": str(folder / "notes"),
        "counter": str(folder / "counter"),
    }


def notes(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "notes").read_text())
    return found


def status(name: str, value: str) -> dict[str, Any]:
    descriptor = {"stream_descriptor": {"name": name}, "status": value}
    trace = {"type": "STREAM_STATUS", "emitted_at": 1795455051995.6392, "stream_status": descriptor}
    return {"say": {"type": "TRACE", "trace": trace}}


def error(message: str, kind: str = "system_error") -> dict[str, Any]:
    details = {"message": message, "internal_message": "inner words", "stack_trace": "a trace", "failure_type": kind}
    return {"say": {"type": "TRACE", "trace": {"type": "ERROR", "emitted_at": 1.5, "error": details}}}


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
