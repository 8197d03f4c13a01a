"""Superset over its public REST API (/api/v1 of Superset 4 to 6): sessions, assets, chart data, roles. No Airflow.

A session is a JSON web token, and for everything that changes something a CSRF token with its cookie as well; both are
renewed in the middle of a walk of any length.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

from lakehouse_providers import transport
from lakehouse_providers.superset import errors
from lakehouse_providers.transport import Call, RetryPolicy

V1 = "/api/v1"
SECURITY = f"{V1}/security"
PAGE = 100
# By what each collection can be ordered, so that pages neither repeat nor leave out; by id where that is allowed.
ORDER = {
    "database": "database_name",
    "dataset": "table_name",
    "chart": "slice_name",
    "dashboard": "dashboard_title",
    "rowlevelsecurity": "name",
}
Item = dict[str, Any]


@dataclass(frozen=True)
class Endpoint:
    """`base_url`: without /api/v1. `provider`: db, or ldap where Superset asks a directory. `timeout`: seconds."""

    base_url: str
    user: str
    password: str = field(repr=False)
    provider: str = "db"
    timeout: float = 60.0
    verify: bool | str = True
    retry: RetryPolicy = field(default_factory=RetryPolicy)


@dataclass(frozen=True)
class ChartData:
    """One query of a chart. `cached`: answered without asking the database. `sql`: what the database was asked."""

    cached: bool
    rows: list[Item]
    sql: str


class SupersetClient(transport.Session):
    """A session of one account."""

    def __init__(self, endpoint: Endpoint) -> None:
        super().__init__(
            httpx.Client(base_url=endpoint.base_url.rstrip("/"), timeout=endpoint.timeout, verify=endpoint.verify)
        )
        self.endpoint = endpoint
        self._signed_in = False

    # Session

    def sign_in(self) -> None:
        """Raises SupersetAuthenticationError when user or password is wrong."""
        self._http.headers.pop("authorization", None)
        body = {"username": self.endpoint.user, "password": self.endpoint.password, "provider": self.endpoint.provider}
        token = self._json(self._send(Call("POST", f"{SECURITY}/login", json=body)))["access_token"]
        self._http.headers["authorization"] = f"Bearer {token}"
        csrf = self._json(self._send(Call("GET", f"{SECURITY}/csrf_token/")))["result"]
        self._http.headers["x-csrftoken"] = csrf
        # Superset checks the referrer of what changes something over TLS.
        self._http.headers["referer"] = f"{self.endpoint.base_url.rstrip('/')}/"
        self._signed_in = True

    def response(self, call: Call) -> httpx.Response:
        """A good reply. Raises SupersetResponseError, SupersetUnreachableError."""
        if not self._signed_in:
            self.sign_in()
        reply = self._send(call)
        if reply.status_code == httpx.codes.UNAUTHORIZED or "CSRF" in _refusal(reply):
            self.sign_in()
            reply = self._send(call)
        return self._checked(reply)

    def call(self, call: Call) -> Any:
        return self._json(self.response(call))

    def _send(self, call: Call) -> httpx.Response:
        try:
            return transport.send(self._http, call, self.endpoint.retry)
        except httpx.TransportError as error:
            raise errors.SupersetUnreachableError(f"{self.endpoint.base_url} gave no reply: {error!r}") from error

    def _checked(self, reply: httpx.Response) -> httpx.Response:
        if not reply.is_success:
            where = f"{reply.request.method} {reply.request.url.path}"
            raise errors.of_status(reply.status_code, _refusal(reply), where)
        return reply

    def _json(self, reply: httpx.Response) -> Any:
        try:
            return self._checked(reply).json()
        except ValueError:
            raise errors.SupersetRequestError(reply.status_code, "the reply is no JSON", where=str(reply.url)) from None

    # Collections: database, dataset, chart, dashboard, rowlevelsecurity, security/roles, security/users ...

    def items(self, kind: str, columns: Sequence[str] = ()) -> Iterator[Item]:
        """Every object of a kind that the user may see; `columns` limits what is told of each."""
        page, asked = 0, f",columns:!({','.join(columns)})" if columns else ""
        order = ORDER.get(kind, "id")
        while True:
            query = f"(page:{page},page_size:{PAGE},order_column:{order},order_direction:asc{asked})"
            found = self.call(Call("GET", f"{V1}/{kind}/", params={"q": query}))
            yield from found["result"]
            page += 1
            if page * PAGE >= found["count"]:
                return

    def item(self, kind: str, key: int | str) -> Item:
        found: Item = self.call(Call("GET", f"{V1}/{kind}/{key}"))["result"]
        return found

    def create(self, kind: str, body: Mapping[str, Any]) -> int:
        """Gives the new object's id."""
        return int(self.call(Call("POST", f"{V1}/{kind}/", json=dict(body), idempotent=False))["id"])

    def update(self, kind: str, key: int, body: Mapping[str, Any]) -> None:
        self.call(Call("PUT", f"{V1}/{kind}/{key}", json=dict(body)))

    def delete(self, kind: str, key: int) -> None:
        try:
            self.call(Call("DELETE", f"{V1}/{kind}/{key}"))
        except errors.SupersetNotFoundError:
            return

    # Roles

    def permissions(self) -> dict[tuple[str, str], int]:
        """Every permission and what it is on, with the id of the pair."""
        found = self.items("security/permissions-resources")
        return {(one["permission"]["name"], one["view_menu"]["name"]): int(one["id"]) for one in found}

    def role_permissions(self, role_id: int) -> set[tuple[str, str]]:
        found = self.call(Call("GET", f"{SECURITY}/roles/{role_id}/permissions/"))["result"]
        return {(one["permission_name"], one["view_menu_name"]) for one in found}

    def set_role_permissions(self, role_id: int, pairs: Sequence[int]) -> None:
        """Replaces them all."""
        body = {"permission_view_menu_ids": list(pairs)}
        self.response(Call("POST", f"{SECURITY}/roles/{role_id}/permissions", json=body))

    # Assets

    def export_assets(self) -> dict[str, str]:
        """Every database, dataset, chart, dashboard and saved query as YAML, by path; passwords are masked."""
        archive = self.response(Call("GET", f"{V1}/assets/export/")).content
        with zipfile.ZipFile(io.BytesIO(archive)) as bundle:
            return {name.split("/", 1)[1]: bundle.read(name).decode() for name in bundle.namelist() if "/" in name}

    def import_assets(self, files: Mapping[str, str], passwords: Mapping[str, str]) -> None:
        """Creates or overwrites all of these objects in one transaction; what they refer to may be there already.

        `files`: YAML by path, with metadata.yaml; `passwords`: of databases, by path. Raises SupersetRequestError.
        """
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as bundle:
            for name, text in files.items():
                bundle.writestr(f"assets/{name}", text)
        self.call(
            Call(
                "POST",
                f"{V1}/assets/import/",
                files={"bundle": ("assets.zip", archive.getvalue(), "application/zip")},
                data={"passwords": json.dumps(dict(passwords)), "sparse": "true"},
            )
        )

    # Data

    def schemas(self, database_id: int) -> list[str]:
        """Asks the database itself, not the cache: so its address and password are known to be good."""
        found = self.call(Call("GET", f"{V1}/database/{database_id}/schemas/", params={"q": "(force:!t)"}))
        return list(found["result"])

    def invalidate(self, dataset_ids: Sequence[int]) -> None:
        """Forgets every cached answer of these datasets."""
        uids = [f"{number}__table" for number in dataset_ids]
        self.response(Call("POST", f"{V1}/cachekey/invalidate", json={"datasource_uids": uids}))

    def warm(self, chart_id: int) -> None:
        """Runs the chart's query and replaces what the cache holds of it. Raises SupersetQueryError."""
        answer = self.call(Call("PUT", f"{V1}/chart/warm_up_cache", json={"chart_id": chart_id}))
        for result in answer["result"]:
            if result.get("viz_error"):
                raise errors.SupersetQueryError(f"chart {chart_id}: {result['viz_error']}")

    def chart_data(self, query_context: Mapping[str, Any], *, force: bool = False) -> list[ChartData]:
        """What a browser asks for when it shows a chart. Raises SupersetQueryError when its query fails."""
        body = {**query_context, "force": force}
        try:
            found = self.call(Call("POST", f"{V1}/chart/data", json=body))["result"]
        except errors.SupersetRequestError as error:
            raise errors.SupersetQueryError(error.message) from error
        return [ChartData(bool(one["is_cached"]), one["data"] or [], one.get("query") or "") for one in found]


def _refusal(reply: httpx.Response) -> str:
    """Superset's words: `message` (text or an object) or a list of `errors`; empty for a good reply."""
    if reply.is_success:
        return ""
    try:
        body = reply.json()
    except ValueError:
        return reply.text[:300]
    if not isinstance(body, Mapping):
        return str(body)[:300]
    listed = body.get("errors")
    told = [_told(one) for one in listed] if isinstance(listed, list) else []
    return "; ".join(told) or str(body.get("message") or body.get("msg") or "")


def _told(error: Any) -> str:
    """An import's refusal names the file and field in `extra`."""
    if not isinstance(error, Mapping):
        return str(error)
    extra = {key: value for key, value in (error.get("extra") or {}).items() if key != "issue_codes"}
    return f"{error.get('message', '')}{f' {json.dumps(extra)}' if extra else ''}"
