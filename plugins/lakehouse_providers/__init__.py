"""Airflow providers of this lakehouse, one folder a service.

Airflow reads get_provider_info through the entry point `apache_airflow_provider` and refuses to start at all if its
answer does not fit its schema; a test checks it.
"""

from __future__ import annotations

from typing import Any

from lakehouse_providers.dremio.form import FIELDS


def get_provider_info() -> dict[str, Any]:
    """What Airflow wants to know of this distribution: connection types, links, triggers, notifiers."""
    package = "lakehouse_providers"
    services = ("Airbyte", "Dremio", "Superset")
    return {
        "package-name": "open-lakehouse",
        "name": "Open Lakehouse",
        "description": "Dremio, Airbyte, Superset, PostgreSQL and webhooks for long, restartable lakehouse runs.",
        "integrations": [
            {"integration-name": "Dremio", "external-doc-url": "https://docs.dremio.com", "tags": ["service"]},
            {"integration-name": "Airbyte", "external-doc-url": "https://docs.airbyte.com", "tags": ["service"]},
            {
                "integration-name": "Postgres",
                "external-doc-url": "https://www.postgresql.org/docs",
                "tags": ["service"],
            },
            {"integration-name": "Superset", "external-doc-url": "https://superset.apache.org", "tags": ["service"]},
            {"integration-name": "Webhook", "tags": ["protocol"]},
        ],
        "connection-types": [
            {
                "connection-type": "dremio",
                "hook-class-name": f"{package}.dremio.hook.DremioHook",
                "hook-name": "Dremio",
                "ui-field-behaviour": {
                    "hidden-fields": ["schema"],
                    "relabeling": {"login": "User"},
                    "placeholders": {"host": "dremio.example.com", "port": "9047"},
                },
                "conn-fields": FIELDS,
            },
            {
                "connection-type": "superset",
                "hook-class-name": f"{package}.superset.hook.SupersetHook",
                "hook-name": "Superset",
                "ui-field-behaviour": {
                    "hidden-fields": ["schema", "port"],
                    "relabeling": {"host": "URL", "login": "User"},
                    "placeholders": {"host": "https://superset.example.com"},
                },
            },
        ],
        "hooks": [_modules(name, "hook") for name in services],
        "operators": [_modules(name, "operators") for name in ("Airbyte", "Dremio", "Postgres")],
        "sensors": [_modules("Dremio", "sensors")],
        "triggers": [_modules(name, "triggers") for name in ("Airbyte", "Dremio", "Postgres")],
        "extra-links": [
            f"{package}.dremio.operators.DremioJobLink",
            f"{package}.airbyte.operators.AirbyteJobLink",
        ],
        "notifications": [f"{package}.webhook.notifier.WebhookNotifier"],
    }


def _modules(service: str, module: str) -> dict[str, Any]:
    return {"integration-name": service, "python-modules": [f"lakehouse_providers.{service.lower()}.{module}"]}
