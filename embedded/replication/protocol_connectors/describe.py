"""`python -m embedded.replication.protocol_connectors.describe VENV`: ask a connector for its specification, once.

The server then knows its fields and its secrets without starting it.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from embedded.replication.failures import SyncError
from embedded.replication.protocol_connectors.calls import spec
from embedded.replication.protocol_connectors.registry import SPECIFICATION


def main(folder: Path) -> int:
    with tempfile.TemporaryDirectory() as scratch:
        try:
            found = spec(folder / "bin" / folder.name, Path(scratch))
        except (SyncError, OSError) as error:
            print(f"{folder.name}: {error}", file=sys.stderr)
            return 1
    (folder / SPECIFICATION).write_text(json.dumps(found, indent=1), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).absolute()))
