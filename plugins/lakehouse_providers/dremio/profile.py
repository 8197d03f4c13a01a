"""The dbt profile of a `dremio` connection, for Cosmos."""

from __future__ import annotations

from typing import Any, ClassVar
from urllib.parse import urlsplit

from cosmos.profiles.base import BaseProfileMapping

from lakehouse_providers.dremio.connection import base_url, text, verify, way
from lakehouse_providers.dremio.errors import DremioConfigurationError


class DremioProfileMapping(BaseProfileMapping):  # type: ignore[misc]
    """dbt-dremio's profile, for Software and Cloud; the secret goes through the environment, never into the file.

    Where tables and views go is the project's matter: pass object_storage_source, object_storage_path, dremio_space
    and dremio_space_folder in `profile_args` (and threads).
    """

    airflow_connection_type = "dremio"
    dbt_profile_type = "dremio"
    is_community = True
    required_fields: ClassVar[list[str]] = [
        "object_storage_source",
        "object_storage_path",
        "dremio_space",
        "dremio_space_folder",
    ]
    # dbt-dremio reads either `pat`, or `user` and `password`.
    airflow_param_mapping: ClassVar[dict[str, str | list[str]]] = {
        "user": "login",
        "password": "password",
        "pat": "extra.pat",
    }

    @property
    def secret_fields(self) -> list[str]:
        chosen = way(self.conn)
        if chosen not in ("pat", "password"):
            raise DremioConfigurationError(
                f"dbt-dremio cannot sign in by {chosen}; give dbt a connection with a pat, or with Login and Password"
            )
        return [chosen]

    @property
    def profile(self) -> dict[str, Any]:
        secret = self.secret_fields[0]
        known = {
            "type": self.dbt_profile_type,
            **self._place(),
            "verify_ssl": bool(verify(self.conn.extra_dejson.get("verify_ssl"))),
            "user": self.get_dbt_value("user"),
            "threads": 1,
            **self.profile_args,
            secret: self.get_env_var_format(secret),
        }
        return {key: value for key, value in known.items() if value is not None}

    def _place(self) -> dict[str, Any]:
        place = urlsplit(base_url(self.conn))
        encrypted = place.scheme == "https"
        project = text(self.conn.extra_dejson, "project_id")
        if project:
            return {"cloud_host": place.hostname, "cloud_project_id": project, "use_ssl": encrypted}
        return {"software_host": place.hostname, "port": place.port or 443, "use_ssl": encrypted}

    @property
    def mock_profile(self) -> dict[str, Any]:
        """For parsing where there is no connection; dbt-dremio wants one host or the other."""
        return {**super().mock_profile, "software_host": "mock_value"}

    @property
    def env_vars(self) -> dict[str, str]:
        """The secret, and the CA bundle, for which dbt-dremio has no setting of its own."""
        bundle = verify(self.conn.extra_dejson.get("verify_ssl"))
        extra = {"REQUESTS_CA_BUNDLE": bundle} if isinstance(bundle, str) else {}
        return {**super().env_vars, **extra}
