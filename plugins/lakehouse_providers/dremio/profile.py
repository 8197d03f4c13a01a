"""The dbt profile of a `dremio` connection, for Cosmos."""

from __future__ import annotations

from typing import Any, ClassVar
from urllib.parse import urlsplit

from cosmos.profiles.base import BaseProfileMapping

from lakehouse_providers.dremio.connection import base_url, verify


class DremioProfileMapping(BaseProfileMapping):  # type: ignore[misc]
    """dbt-dremio's profile; the password (or access token) goes through the environment, never into the file.

    Where tables and views go is the project's matter: pass object_storage_source, object_storage_path, dremio_space
    and dremio_space_folder in `profile_args` (and threads).
    """

    airflow_connection_type = "dremio"
    dbt_profile_type = "dremio"
    is_community = True
    required_fields: ClassVar[list[str]] = [
        "software_host",
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
        return ["pat"] if self.get_dbt_value("pat") else ["password"]

    @property
    def profile(self) -> dict[str, Any]:
        place = urlsplit(base_url(self.conn))
        secret = self.secret_fields[0]
        known = {
            "type": self.dbt_profile_type,
            "software_host": place.hostname,
            "port": place.port,
            "use_ssl": place.scheme == "https",
            "verify_ssl": bool(verify(self.conn.extra_dejson.get("verify_ssl"))),
            "user": self.get_dbt_value("user"),
            "threads": 1,
            **self.profile_args,
            secret: self.get_env_var_format(secret),
        }
        return {key: value for key, value in known.items() if value is not None}
