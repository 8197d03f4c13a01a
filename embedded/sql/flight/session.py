"""Who calls, and with which settings: header authentication, Dremio's session headers, the session cookie."""

from __future__ import annotations

import base64
import binascii
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from http.cookies import CookieError, SimpleCookie
from typing import Any

from pyarrow import flight

from embedded.sql.datasets import Path
from embedded.sql.engine.tokens import Cursor
from embedded.sql.errors import SqlError, ValidationError
from embedded.sql.faults import Faults
from embedded.sql.identity import Identity, LoginFailed, TokenRefused, User

COOKIE = "arrow_flight_session_id"  # Dremio's name
MIDDLEWARE = "session"
SESSION_LIFETIME = 2 * 3600.0  # seconds without a call
_MOST_SESSIONS = 10_000
_QUOTES = {"DOUBLE_QUOTE": '"', "BACK_TICK": "`", "BRACKET": "["}


@dataclass(frozen=True)
class Options:
    """What a client's headers and its session set: Dremio's DremioFlightClientProperties."""

    schema: Path = ()
    quoting: str = '"'
    routing: Mapping[str, str] = field(default_factory=dict)  # queue, tag, engine
    complex_types: bool = True  # else STRUCT, LIST and MAP go out as JSON texts


@dataclass(frozen=True)
class Caller:
    user: User
    session_id: str
    options: Options


class Sessions:
    """What USE and SetSessionOptions set, by cookie and user. Nothing is kept for clients that set nothing."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[str, str], tuple[Path, float]] = OrderedDict()
        self._guard = threading.Lock()

    def schema(self, user: User, session_id: str) -> Path:
        with self._guard:
            found = self._known.get((user.id, session_id))
            if found is None or found[1] < time.monotonic() - SESSION_LIFETIME:
                return ()
            self._known[(user.id, session_id)] = (found[0], time.monotonic())
            return found[0]

    def set_schema(self, user: User, session_id: str, schema: Path) -> None:
        with self._guard:
            self._known[(user.id, session_id)] = (schema, time.monotonic())
            self._known.move_to_end((user.id, session_id))
            while len(self._known) > _MOST_SESSIONS:
                self._known.popitem(last=False)

    def close(self, user: User, session_id: str) -> bool:
        with self._guard:
            return self._known.pop((user.id, session_id), None) is not None


class SessionMiddleware(flight.ServerMiddleware):  # type: ignore[misc]
    """One call's caller; answers with the token that it logged in for and the session's cookie."""

    def __init__(self, caller: Caller, answer: dict[str, str]) -> None:
        self.caller = caller
        self._answer = answer

    def sending_headers(self) -> dict[str, str]:
        return self._answer


class SessionMiddlewareFactory(flight.ServerMiddlewareFactory):  # type: ignore[misc]
    """Refuses calls without a valid password or token (UNAUTHENTICATED)."""

    def __init__(self, identity: Identity, sessions: Sessions, faults: Faults) -> None:
        self._identity = identity
        self._sessions = sessions
        self._faults = faults

    def start_call(self, info: Any, headers: Mapping[str, Sequence[str]]) -> SessionMiddleware:
        lowered = {name.lower(): values for name, values in headers.items()}
        self._play_fault(str(info.method))
        user, answer = self._authenticate(_first(lowered, "authorization"))
        session_id = _cookie(lowered.get("cookie", ()))
        if not session_id:
            session_id = secrets.token_urlsafe(16)
            answer["set-cookie"] = f"{COOKIE}={session_id}"
        try:
            options = _options(lowered, self._sessions.schema(user, session_id))
        except SqlError as error:
            # The API lets a middleware refuse a call by a FlightError only, and has none for a bad argument.
            raise flight.FlightInternalError(error.message) from None
        return SessionMiddleware(Caller(user, session_id, options), answer)

    def _authenticate(self, header: str) -> tuple[User, dict[str, str]]:
        scheme, _, rest = header.strip().partition(" ")
        try:
            if scheme.lower() == "basic":
                name, password = _basic(rest)
                token, _, user = self._identity.login(name, password)
                return user, {"authorization": f"Bearer {token}"}
            return self._identity.authenticate(header), {}
        except LoginFailed:
            raise flight.FlightUnauthenticatedError("Login failed: Invalid username or password") from None
        except TokenRefused:
            raise flight.FlightUnauthenticatedError("The token is missing, invalid or expired") from None

    def _play_fault(self, method: str) -> None:
        if not self._faults.enabled:
            return
        fault = self._faults.take_http("FLIGHT", f"/flight/{method.rsplit('.', 1)[-1]}")
        if fault is None:
            return
        if fault.seconds:
            time.sleep(fault.seconds)
        if fault.kind == "status" and fault.status == 401:
            raise flight.FlightUnauthenticatedError("Injected fault: unauthenticated")
        if fault.kind == "status":
            raise flight.FlightUnavailableError(f"Injected fault: HTTP {fault.status}")


class Handshake(flight.ServerAuthHandler):  # type: ignore[misc]
    """The Handshake call itself: the middleware has authenticated it and answers with the token."""

    def authenticate(self, outgoing: Any, incoming: Any) -> None:
        return

    def is_valid(self, token: bytes) -> bytes:
        return b""


def caller_of(context: Any) -> Caller:
    caller = context.get_middleware(MIDDLEWARE).caller
    assert isinstance(caller, Caller)
    return caller


def with_schema(caller: Caller, schema: Path) -> Caller:
    return replace(caller, options=replace(caller.options, schema=schema))


def parse_schema(text: str) -> Path:
    """A path such as `lake.silver` or `"a.b".c`; () for none. Raises ValidationError that shows the text."""
    if not text.strip():
        return ()
    try:
        cursor = Cursor(text)
        path = cursor.path()
        cursor.finish()
    except SqlError:
        raise ValidationError(f"The schema [{text}] is not a path; quote names with special characters") from None
    return path


def _first(headers: Mapping[str, Sequence[str]], name: str) -> str:
    values = headers.get(name) or [""]
    return str(values[0])


def _basic(encoded: str) -> tuple[str, str]:
    """Go's clients, and so ADBC's driver, leave the padding out."""
    try:
        name, _, password = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        raise LoginFailed from None
    return name, password


def _cookie(headers: Sequence[str]) -> str:
    for header in headers:
        try:
            morsel = SimpleCookie(str(header)).get(COOKIE)
        except CookieError:
            continue
        if morsel is not None:
            return morsel.value[:100]
    return ""


def _options(headers: Mapping[str, Sequence[str]], session_schema: Path) -> Options:
    quoting = _first(headers, "quoting").strip().upper()
    if quoting and quoting not in _QUOTES:
        raise ValidationError(f"The header quoting must be one of {', '.join(_QUOTES)}, not [{quoting}]")
    routing = {name: _first(headers, f"routing_{name}") for name in ("queue", "tag", "engine")}
    complex_types = _first(headers, "supports_complex_types").strip().lower()
    return Options(
        schema=parse_schema(_first(headers, "schema")) or session_schema,  # the header counts at every call
        quoting=_QUOTES.get(quoting, '"'),
        routing={name: value for name, value in routing.items() if value},
        complex_types=complex_types in ("", "true"),  # Java's parseBoolean: any other word is false
    )
