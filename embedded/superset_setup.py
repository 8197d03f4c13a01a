"""Runs inside Superset's own environment: migrates its database, syncs its roles, makes the first administrator.

`superset db upgrade`, `superset init` and `superset fab create-admin`, each a command that costs seconds to import, in
one process. Reads {"username": ..., "password": ...} from its input. Run with `-P`: the modules beside this file must
not shadow those of others.
"""

from __future__ import annotations

import json
import sys


def main() -> None:
    account = json.load(sys.stdin)

    import flask_migrate  # in another venv
    from superset.app import create_app

    with create_app().app_context():
        flask_migrate.upgrade()

        from superset.extensions import appbuilder, security_manager

        appbuilder.add_permissions(update_perms=True)
        security_manager.sync_role_definitions()
        if security_manager.find_user(account["username"]) is None:
            made = security_manager.add_user(
                account["username"],
                "Lakehouse",
                "Administrator",
                f"{account['username']}@lakehouse.invalid",
                security_manager.find_role("Admin"),
                password=account["password"],
            )
            if not made:
                raise SystemExit(f"user {account['username']} could not be made")


if __name__ == "__main__":
    main()
