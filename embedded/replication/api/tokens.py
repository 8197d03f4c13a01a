"""POST /applications/token, and the health of the server: the calls without a token."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl

from starlette.responses import PlainTextResponse

from embedded.replication.api.calls import Call
from embedded.replication.auth import credentials
from embedded.replication.problems import bad_request


def issue(call: Call) -> dict[str, Any]:
    """Form (RFC 6749; what the SDK sends) and JSON (what Airbyte documents) are both understood."""
    client_id, client_secret = credentials(call.content_type, _fields(call))
    token = call.services.tokens.issue(client_id, client_secret)
    return {"access_token": token, "token_type": "Bearer", "expires_in": call.services.tokens.lifetime}


def _fields(call: Call) -> dict[str, str]:
    if call.content_type == "application/x-www-form-urlencoded":
        return dict(parse_qsl(call.body.decode("utf-8", "replace")))
    values = call.json()
    if not isinstance(values, dict):
        raise bad_request("The body must be a form or a JSON object with client_id and client_secret.")
    fields = {name.replace("-", "_"): value for name, value in values.items() if isinstance(value, str)}
    grant = fields.get("grant_type", "client_credentials")
    if grant != "client_credentials":
        raise bad_request(f"grant_type must be client_credentials, not {grant!r}.")
    return fields


def health(call: Call) -> PlainTextResponse:
    """200 when the state database answers; otherwise the caller turns the error into 503."""
    with call.services.pool.connection(timeout=5) as db:
        db.execute("select 1")
    return PlainTextResponse("Successful operation")
