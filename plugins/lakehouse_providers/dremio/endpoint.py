"""Where a Dremio is, Software or a project of Cloud, and how to get in. No Airflow."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from urllib.parse import quote, urlsplit, urlunsplit

import httpx

from lakehouse_providers import transport
from lakehouse_providers.dremio import auth, errors
from lakehouse_providers.dremio.calls import V3, parsed
from lakehouse_providers.transport import Call, RetryPolicy

CLOUD_HOST = "api.dremio.cloud"
# What Cloud keeps for the whole organization, not under a project.
_ORGANIZATION = (f"{V3}/user", f"{V3}/role")


@dataclass(frozen=True)
class FlightPlace:
    """Where Arrow Flight SQL listens. `verify`: True, False, or the path of a CA bundle. `headers`: of every call."""

    host: str
    port: int
    encrypted: bool
    verify: bool | str
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def uri(self) -> str:
        name = f"[{self.host}]" if ":" in self.host else self.host
        return f"grpc{'+tls' if self.encrypted else ''}://{name}:{self.port}"


class Endpoint:
    """One Dremio. Give `token` (personal access token), or `user` and `password`, or another `credential`.

    `verify` is what httpx takes: True, False or a path to a CA bundle. `timeout`: seconds for one reply.
    `ui_url`: the address people use, when it differs from the one tasks use. `project`: the id of a Cloud project.
    `engine`: where statements run, on Cloud and Enterprise. `flight`: None where only REST is used.
    """

    def __init__(
        self,
        base_url: str,
        *,
        user: str = "",
        password: str = "",
        token: str = "",
        credential: httpx.Auth | None = None,
        verify: bool | str = True,
        timeout: float = 60.0,
        retry: RetryPolicy | None = None,
        ui_url: str = "",
        project: str = "",
        engine: str = "",
        flight: FlightPlace | None = None,
    ) -> None:
        self.base_url = base_url.rstrip("/")
        self.project = project
        self.engine = engine
        self.flight = flight
        self.retry = retry or RetryPolicy()
        self.timeout = timeout
        self.user, self.password = user, password
        self.ui_url = (ui_url or self._ui_url()).rstrip("/")
        self.credential = credential or (
            auth.TokenAuth(token) if token else auth.PasswordAuth(self.base_url, user, password)
        )
        # Loading certificates takes 20 ms, which would stall the triggerer's loop for nothing on plain HTTP.
        self._verify = verify if self.base_url.startswith("https:") else False

    def _ui_url(self) -> str:
        if not self.project:
            return self.base_url
        parts = urlsplit(self.base_url)
        host = parts.netloc.replace("api.", "app.", 1) if parts.netloc.startswith("api.") else parts.netloc
        return urlunsplit((parts.scheme, host, f"/sonar/{quote(self.project, safe='')}", "", ""))

    def http(self) -> httpx.Client:
        return httpx.Client(base_url=self.base_url, auth=self.credential, timeout=self._timeout(), verify=self._verify)

    def async_http(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            base_url=self.base_url, auth=self.credential, timeout=self._timeout(), verify=self._verify
        )

    def _timeout(self) -> httpx.Timeout:
        return httpx.Timeout(self.timeout, connect=min(self.timeout, 10.0))

    def place(self, call: Call) -> Call:
        """The same call where Cloud has it: under /v0, all but users and roles inside the project."""
        if not self.project or not call.path.startswith(V3):
            return call
        root = "/v0" if call.path.startswith(_ORGANIZATION) else f"/v0/projects/{quote(self.project, safe='')}"
        return replace(call, path=root + call.path.removeprefix(V3))

    @property
    def system(self) -> str:
        """The schema of the system tables."""
        return "sys.project" if self.project else "sys"

    def job_url(self, job_id: str) -> str:
        return f"{self.ui_url}/job/{job_id}"

    def bearer(self) -> str | None:
        """A bearer token for Flight; None where login and password go there themselves.

        Raises DremioAuthenticationError when the token server refuses, DremioUnreachableError when it is silent.
        """
        if isinstance(self.credential, auth.TokenAuth):
            return self.credential.bearer
        if not isinstance(self.credential, auth.OAuth):
            return None
        with httpx.Client(timeout=self._timeout(), verify=self._verify) as http:
            try:
                return self.credential.token(http.send)
            except transport.LoginReply as refusal:
                parsed(refusal.response)
                raise errors.DremioAuthenticationError(401, "no access token in the reply", where="login") from None
            except httpx.TransportError as error:
                raise errors.DremioUnreachableError(f"{self.credential.url} gave no reply: {error!r}") from error
