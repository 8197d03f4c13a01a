"""The real Superset, run from its own venv: one web server, its metadata in the platform's PostgreSQL."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from embedded.credentials import Secrets
from embedded.home import PROJECT, Home
from embedded.metadata_database import MetadataDatabase
from embedded.ports import HOST
from embedded.probes import answers
from embedded.programs import Program

NAME = "superset"
USER = "admin"
SETUP_NAME = "superset-database"
# Files that Superset's own Python runs; nothing here imports them.
CONFIG = Path(__file__).with_name("superset_config.py")
SERVER = Path(__file__).with_name("superset_server.py")
SETUP = Path(__file__).with_name("superset_setup.py")
SETUP_SECONDS = 900


class SupersetError(Exception):
    """Superset cannot be set up; the message says what to change."""


def venv() -> Path:
    given = os.environ.get("LAKEHOUSE_SUPERSET_VENV", "")
    return Path(given).expanduser().absolute() if given else PROJECT / ".venvs" / "superset"


def is_installed() -> bool:
    """Superset has no packages for the newest Python: there the platform does without dashboards."""
    return (venv() / "bin" / "superset").exists()


@dataclass(frozen=True)
class Superset:
    """`database_url`: postgresql://... of its own role."""

    home: Home
    port: int
    database_url: str = field(repr=False)
    secrets: Secrets = field(repr=False)

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    @property
    def folder(self) -> Path:
        return self.home.root / NAME

    def environment(self) -> dict[str, str]:
        return {
            "HOME": str(self.folder),
            "SUPERSET_HOME": str(self.folder),
            "SUPERSET_CONFIG_PATH": str(CONFIG),
            "LAKEHOUSE_SUPERSET_BIND": f"{HOST}:{self.port}",
            "LAKEHOUSE_SUPERSET_DATABASE_URL": self.database_url.replace("postgresql://", "postgresql+psycopg2://", 1),
            "LAKEHOUSE_SUPERSET_SECRET_KEY": self.secrets.superset_secret_key,
            "LAKEHOUSE_SUPERSET_URL": self.url,
            "PYTHONUNBUFFERED": "1",
            "DO_NOT_TRACK": "1",
            "SCARF_ANALYTICS": "false",
        }

    def program(self) -> Program:
        """Raises SupersetError when it is not installed."""
        python = venv() / "bin" / "python"
        if not is_installed():
            raise SupersetError(
                f"no Superset in {venv()}: run `make setup`, or set LAKEHOUSE_SUPERSET_VENV to its venv"
            )
        self.folder.mkdir(mode=0o700, exist_ok=True)
        return Program(
            name=NAME,
            argv=(str(python), "-P", "-m", "gunicorn", "--config", str(SERVER), "superset.app:create_app()"),
            cwd=self.folder,
            environment=self.environment(),
            stop_seconds=20,
            stop_group=False,  # gunicorn tells its workers, which then end what they are answering
        )

    def is_ready(self) -> bool:
        return answers(f"{self.url}/health")

    def migrate(self) -> None:
        """Brings the metadata database to this Superset's version, with roles and administrator, when any is missing.

        Raises SupersetError with the end of the output when it fails.
        """
        self.folder.mkdir(mode=0o700, exist_ok=True)
        MetadataDatabase(
            server="Superset",
            url=self.database_url,
            version=self._version(),
            revisions=(
                "select version_num from alembic_version",
                f"select username from ab_user where username = '{USER}'",
            ),
            python=venv() / "bin" / "python",
            script=SETUP,
            account={"username": USER, "password": self.secrets.superset_admin_password},
            environment=self.environment(),
            folder=self.folder,
            log=self.home.log(SETUP_NAME),
            stamp=self.folder / "migrated.json",
            seconds=SETUP_SECONDS,
            failure=SupersetError,
        ).migrate()

    def _version(self) -> str:
        """Of the installed Superset, without the seconds that asking it would cost."""
        return " ".join(
            path.name for path in sorted(venv().glob("lib/python*/site-packages/apache_superset-*.dist-info"))
        )
