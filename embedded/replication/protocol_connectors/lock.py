"""`python -m embedded.replication.protocol_connectors.lock airbyte-source-faker==7.2.1 [DEFINITION_ID] --uv UV`.

Resolves a connector of PyPI for this project's Pythons and writes its requirements file with the hash of every file.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from uuid import NAMESPACE_URL, UUID, uuid5

from embedded.replication.protocol_connectors.registry import LOCKED, NAME

_PACKAGE = re.compile(r"airbyte-(?P<name>source-[a-z0-9-]+)==(?P<version>[0-9][0-9A-Za-z.+!-]*)")


def lock(package: str, definition_id: UUID | None, uv: str, folder: Path = LOCKED) -> Path:
    """Write the file; gives its path. Raises ValueError for a package that is not pinned, CalledProcessError by uv."""
    match = _PACKAGE.fullmatch(package)
    if match is None or not NAME.fullmatch(match["name"]):
        raise ValueError(f"{package!r} must be a pinned connector, such as airbyte-source-faker==7.2.1")
    name = match["name"]
    # Airbyte's own id is in its registry; any stable one will do for a connector that is not.
    identity = definition_id or uuid5(NAMESPACE_URL, f"https://pypi.org/project/airbyte-{name}")
    command = [uv, "pip", "compile", "--quiet", "--universal", "--python-version", "3.11", "--generate-hashes"]
    command += ["--no-header", "--no-annotate", "-"]
    environment = {**os.environ, "UV_PYTHON_DOWNLOADS": "never", "UV_PYTHON": sys.executable}
    done = subprocess.run(command, input=package, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise ValueError(f"{package} cannot be resolved:\n{done.stderr.strip()}")
    path = folder / f"{name}.txt"
    with tempfile.NamedTemporaryFile("w", dir=folder, delete=False, suffix=".tmp") as file:
        file.write(f"# package: {package}\n# definition-id: {identity}\n{done.stdout}")
    os.chmod(file.name, 0o644)
    os.replace(file.name, path)
    return path


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package")
    parser.add_argument("definition_id", nargs="?", type=UUID)
    parser.add_argument("--uv", default="uv")
    options = parser.parse_args()
    try:
        path = lock(options.package, options.definition_id, options.uv)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{path.name} is written; install it with `make connector NAME={path.stem}`")
    return 0


if __name__ == "__main__":
    sys.exit(main())
