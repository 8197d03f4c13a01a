"""Runs inside Airflow's own environment: migrates its database and makes the first administrator, in one process.

`airflow db migrate` and `airflow users create`, each a command that costs seconds to import, through the very functions
of these commands. Reads {"username": ..., "password": ...} from its input. Run
with `-P`: the modules beside this file must not shadow those of others.
"""

from __future__ import annotations

import json
import sys


def main() -> None:
    account = json.load(sys.stdin)
    # Airflow records a command's own words in its audit log: they are ours alone, without the password.
    sys.argv = ["airflow", "embedded-setup"]

    from airflow.cli.cli_parser import get_parser  # type: ignore[import-not-found]  # in another venv

    parser = get_parser()
    migrate = parser.parse_args(["db", "migrate"])
    migrate.func(migrate)
    create = parser.parse_args(
        [
            *("users", "create", "--role", "Admin", "--email", f"{account['username']}@lakehouse.invalid"),
            # One word each: a password may begin with a dash.
            *(f"--username={account['username']}", f"--password={account['password']}"),
            *("--firstname", "Lakehouse", "--lastname", "Administrator"),
        ]
    )
    create.func(create)  # says so and does nothing when the user exists


if __name__ == "__main__":
    main()
