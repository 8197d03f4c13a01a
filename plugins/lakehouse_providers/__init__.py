"""Airflow providers of this lakehouse, one folder a service.

Airflow reads get_provider_info through the entry point `apache_airflow_provider` and refuses to start at all if its
answer does not fit its schema; a test checks it.
"""

from __future__ import annotations

from typing import Any

_DREMIO_FIELDS = {
    "use_ssl": {
        "label": "Use TLS",
        "description": "Talk https to Dremio.",
        "schema": {"type": ["boolean", "null"], "default": True},
    },
    "verify_ssl": {
        "label": "Verify certificate",
        "description": "true, false, or the path of a CA bundle.",
        "schema": {"type": ["string", "null"]},
    },
    "pat": {
        "label": "Personal access token",
        "description": "Used instead of login and password.",
        "schema": {"type": ["string", "null"], "format": "password"},
    },
    "timeout": {
        "label": "Timeout",
        "description": "Seconds to wait for one reply (60).",
        "schema": {"type": ["number", "null"]},
    },
    "ui_url": {
        "label": "Web address",
        "description": "Where people reach Dremio's pages, if it differs from host and port.",
        "schema": {"type": ["string", "null"]},
    },
}


def get_provider_info() -> dict[str, Any]:
    """What Airflow wants to know of this distribution: connection types, links, triggers, notifiers."""
    package = "lakehouse_providers"
    services = ("Airbyte", "Dremio")
    return {
        "package-name": "open-lakehouse",
        "name": "Open Lakehouse",
        "description": "Dremio, Airbyte and webhooks for long, restartable lakehouse runs.",
        "integrations": [
            {"integration-name": "Dremio", "external-doc-url": "https://docs.dremio.com", "tags": ["service"]},
            {"integration-name": "Airbyte", "external-doc-url": "https://docs.airbyte.com", "tags": ["service"]},
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
                "conn-fields": _DREMIO_FIELDS,
            }
        ],
        "hooks": [_modules(name, "hook") for name in services],
        "operators": [_modules(name, "operators") for name in services],
        "triggers": [_modules(name, "triggers") for name in services],
        "extra-links": [
            f"{package}.dremio.operators.DremioJobLink",
            f"{package}.airbyte.operators.AirbyteJobLink",
        ],
        "notifications": [f"{package}.webhook.notifier.WebhookNotifier"],
    }


def _modules(service: str, module: str) -> dict[str, Any]:
    return {"integration-name": service, "python-modules": [f"lakehouse_providers.{service.lower()}.{module}"]}
