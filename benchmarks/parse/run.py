"""CPU seconds that parsing all DAG files costs beyond Airflow's own import, each time in a fresh process.

    .venvs/airflow/bin/python benchmarks/parse/run.py --times 5

The bar is one second for all files together. Shown apart is what installed providers make Airflow load in the same
process whatever the files hold: plugins (Cosmos brings one, and FastAPI and OpenLineage with it), and the handlers of
asset addresses.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent.parent
BAR = 1.0
ALL = "all DAG files"

PROGRAM = """
import gc, json, runpy, sys, time
import airflow.sdk, airflow.dag_processing.processor
from airflow.plugins_manager import ensure_plugins_loaded
imported = time.process_time()
ensure_plugins_loaded()
plugins = time.process_time()
airflow.sdk.Asset("s3://any/one")
assets = time.process_time()
gc.collect(), gc.freeze()  # as the dag-processor does before it forks a process for a file
files = {}
for path in sys.argv[1:]:
    before = time.process_time()
    runpy.run_path(path)
    files[path] = time.process_time() - before
print(json.dumps({"airflow": imported, "plugins": plugins - imported, "assets": assets - plugins, "files": files}))
"""


def measure(files: list[Path]) -> dict[str, float]:
    """CPU seconds by part of one process."""
    command = [sys.executable, "-c", PROGRAM, *map(str, files)]
    answer = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    parts = json.loads(answer.splitlines()[-1])
    named = {str(Path(path).relative_to(PROJECT)): seconds for path, seconds in parts["files"].items()}
    airflow = {"airflow's import": parts["airflow"], "plugins": parts["plugins"], "asset handlers": parts["assets"]}
    return {**airflow, **named, ALL: sum(named.values())}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--times", type=int, default=5)
    times = parser.parse_args().times
    files = sorted(path for path in (PROJECT / "dags").glob("*/*.py") if path.name != "__init__.py")
    runs = [measure(files) for _ in range(times)]
    for part in runs[0]:
        values = [run[part] for run in runs]
        print(f"{part:<40} {statistics.median(values):6.2f} s  ({min(values):.2f} to {max(values):.2f})")
    beyond = statistics.median(run[ALL] for run in runs)
    print(f"bar: {BAR:.2f} s, {'met' if beyond < BAR else 'NOT met'}")
    return 0 if beyond < BAR else 1


if __name__ == "__main__":
    sys.exit(main())
