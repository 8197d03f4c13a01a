"""The fields of a `dremio` connection beside Airflow's own, as the connection's page shows them."""

from __future__ import annotations

from typing import Any


def _field(label: str, description: str, kind: str = "string", **more: Any) -> dict[str, Any]:
    return {"label": label, "description": description, "schema": {"type": [kind, "null"], **more}}


def _secret(label: str, description: str) -> dict[str, Any]:
    return _field(label, description, format="password")


FIELDS: dict[str, dict[str, Any]] = {
    "use_ssl": _field("Use TLS", "Talk https to Dremio.", "boolean", default=True),
    "verify_ssl": _field("Verify certificate", "true, false, or the path of a CA bundle."),
    "auth": _field(
        "Sign in by",
        "password: Login and Password (the default). pat: the token below. client_credentials: Login is the client id, "
        "Password its secret. token_exchange: exchanges the token below, or the subject token, for an access token.",
        enum=["password", "pat", "client_credentials", "token_exchange", None],
    ),
    "pat": _secret("Personal access token", "Used instead of Login and Password."),
    "subject_token": _secret("Subject token", "For token_exchange: a JWT of another identity provider."),
    "subject_token_file": _field("Subject token file", "For token_exchange: a file with the JWT; read each time."),
    "oauth_url": _field("Token address", "Where access tokens are given out, if not /oauth/token of the host."),
    "project_id": _field("Cloud project", "The id of a Dremio Cloud project; empty for Dremio Software."),
    "engine": _field("Engine", "The engine that runs the statements (Cloud and Enterprise)."),
    "routing_tag": _field("Routing tag", "The tag of Flight queries for workload management."),
    "routing_queue": _field("Routing queue", "The queue of Flight queries for workload management."),
    "flight_port": _field("Flight port", "32010, on Cloud 443. 0: this connection has no Flight.", "integer"),
    "flight_host": _field("Flight host", "Where Flight listens, if not at the host of REST."),
    "use_encryption": _field("Flight over TLS", "As for REST where it is empty.", "boolean"),
    "disable_certificate_verification": _field(
        "Trust any Flight certificate", "For self-signed certificates in tests.", "boolean"
    ),
    "timeout": _field("Timeout", "Seconds to wait for one reply of REST (60).", "number"),
    "ui_url": _field("Web address", "Where people reach Dremio's pages, if it differs from host and port."),
}
