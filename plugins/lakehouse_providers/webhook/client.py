"""Posts one JSON message to one address. Receivers must bear a message twice: a lost reply is answered by a repeat."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httpx

from lakehouse_providers import transport
from lakehouse_providers.transport import Call, RetryPolicy
from lakehouse_providers.webhook.errors import WebhookConfigurationError, WebhookDeliveryError


@dataclass(frozen=True)
class Address:
    """`url` may carry a secret in its path or query: never log it. `auth`: user and password for HTTP Basic."""

    url: str = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    auth: tuple[str, str] | None = field(default=None, repr=False)
    timeout: float = 10.0

    @property
    def where(self) -> str:
        """For people and logs."""
        return urlsplit(self.url).hostname or "?"

    def options(self) -> dict[str, Any]:
        return {"headers": dict(self.headers), "auth": self.auth, "timeout": self.timeout, "follow_redirects": False}


def address(
    host: str, *, scheme: str = "", port: int | None = None, login: str = "", password: str = "", extra: Any = None
) -> Address:
    """From the fields of an Airflow `http` connection. `host` may hold a whole URL; extra: headers, timeout."""
    options = extra if isinstance(extra, Mapping) else {}
    if not host.strip():
        raise WebhookConfigurationError("Host is empty; put the webhook's URL there")
    url = host.strip() if "://" in host else f"{scheme or 'https'}://{host.strip()}"
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise WebhookConfigurationError("Host is neither a host name nor an http(s) URL")
    if port and not parts.port:
        parts = parts._replace(netloc=f"{parts.netloc}:{port}")
    return Address(
        parts.geturl(),
        headers={str(k): str(v) for k, v in (options.get("headers") or {}).items()},
        auth=(login, password) if login else None,
        timeout=float(options.get("timeout") or 10.0),
    )


def _call(to: Address, message: Mapping[str, Any]) -> Call:
    return Call("POST", to.url, json=dict(message), label=f"webhook at {to.where}")


RETRY = RetryPolicy(attempts=4, first=0.5, longest=5.0, give_up=20.0)


def _checked(reply: httpx.Response, to: Address) -> None:
    if not reply.is_success:
        raise WebhookDeliveryError(f"the webhook at {to.where} answered {reply.status_code}")


def post(to: Address, message: Mapping[str, Any], retry: RetryPolicy = RETRY) -> None:
    """Raises WebhookDeliveryError."""
    try:
        with httpx.Client(**to.options()) as client:
            _checked(transport.send(client, _call(to, message), retry), to)
    except httpx.HTTPError as error:
        raise WebhookDeliveryError(f"the webhook at {to.where} gave no answer: {type(error).__name__}") from error


async def apost(to: Address, message: Mapping[str, Any], retry: RetryPolicy = RETRY) -> None:
    """`post` for an event loop."""
    try:
        async with httpx.AsyncClient(**to.options()) as client:
            _checked(await transport.asend(client, _call(to, message), retry), to)
    except httpx.HTTPError as error:
        raise WebhookDeliveryError(f"the webhook at {to.where} gave no answer: {type(error).__name__}") from error
