"""Who calls: users, login tokens that survive a restart, personal access tokens."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import threading
import time
import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import psycopg

from embedded.sql import clock
from embedded.sql.database import Database
from embedded.sql.errors import ConcurrentModification, NotFound, PermissionDenied, SqlError, ValidationError

TOKEN_LIFETIME = timedelta(hours=30)  # Dremio's, not configurable there either
MAX_PAT_LIFETIME = timedelta(days=180)
_SCRYPT = {"n": 2**14, "r": 8, "p": 1}


class LoginFailed(SqlError):
    """Dremio's words for a bad name or password; 401 with a body."""

    status, kind = 401, "PERMISSION"

    def __init__(self) -> None:
        super().__init__("Login failed: Invalid username or password")


class TokenRefused(Exception):
    """A missing, unknown, revoked or expired token: 401 without a body."""


@dataclass(frozen=True)
class User:
    id: str
    name: str
    first_name: str
    last_name: str
    email: str
    admin: bool
    created_at: datetime
    identity_type: str = "REGULAR_USER"  # or SERVICE_USER, who logs in by client id and secret only
    oauth_client_id: str | None = None
    tag: str = ""


class Identity:
    """Users and tokens in PostgreSQL, with a copy of what every request needs in memory."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._guard = threading.RLock()
        self._users: dict[str, User] = {}
        self._hashes: dict[str, str] = {}
        self._tokens: dict[bytes, tuple[str, datetime]] = {}  # personal: hash -> user id, expiry
        self._revoked: set[str] = set()
        self._key = b""
        self._admin_name = ""
        # scrypt costs 50 ms by design, and dbt logs in once per connection: remember what was proven, keyed by a
        # secret that dies with the process.
        self._proof_key = secrets.token_bytes(32)
        self._proven: dict[str, bytes] = {}
        self._not_before = 0.0  # fault injection: refuse every token issued earlier

    def load(self, admin_user: str, admin_password: str) -> None:
        """Read everything; make the administrator exist with this password."""
        self._key = self._secret("token_key")
        self._admin_name = admin_user
        with self._guard:
            for row in self._database.rows("select * from users"):
                self._remember(row)
            for row in self._database.rows("select * from personal_access_tokens"):
                self._tokens[bytes(row["token_hash"])] = (str(row["user_id"]), row["expires_at"])
            self._database.execute("delete from revoked_tokens where expires_at < now()")
            self._revoked = {row["id"] for row in self._database.rows("select id from revoked_tokens")}
            self._ensure_admin(admin_user, admin_password)

    def _secret(self, name: str) -> bytes:
        self._database.execute(
            "insert into server_secrets (name, value) values (%s, %s) on conflict do nothing",
            (name, secrets.token_bytes(32)),
        )
        row = self._database.row("select value from server_secrets where name = %s", (name,))
        assert row is not None
        return bytes(row["value"])

    def _remember(self, row: dict[str, Any]) -> User:
        names = ("name", "first_name", "last_name", "email", "admin", "created_at")
        user = User(
            id=str(row["id"]),
            **{name: row[name] for name in names},
            identity_type=row["identity_type"],
            oauth_client_id=str(row["oauth_client_id"]) if row["oauth_client_id"] else None,
            tag=str(row["tag"]),
        )
        self._users[user.id] = user
        self._hashes[user.id] = row["password_hash"]
        self._proven.pop(user.id, None)
        return user

    def _ensure_admin(self, name: str, password: str) -> None:
        user = self._by_name(name)
        if user is None:
            self.create_user(name, password, admin=True)
        elif not _matches(password, self._hashes[user.id]):
            self._set_password(user, password)

    def _by_name(self, name: str) -> User | None:
        lowered = name.lower()
        return next((user for user in self._users.values() if user.name.lower() == lowered), None)

    # Users ----------------------------------------------------------------------------------------------------

    def create_user(
        self, name: str, password: str, *, admin: bool = False, first: str = "", last: str = "", email: str = ""
    ) -> User:
        """Raises ValidationError when the name is taken or the password too weak."""
        _check_password(password)
        return self._insert_user(name, _hash(password), admin=admin, first=first, last=last, email=email)

    def create_service_user(self, name: str) -> User:
        """A user without a password, who gets tokens for a client id and a client secret."""
        return self._insert_user(name, "", admin=False, identity_type="SERVICE_USER", client_id=uuid.uuid4())

    def _insert_user(
        self,
        name: str,
        password_hash: str,
        *,
        admin: bool,
        first: str = "",
        last: str = "",
        email: str = "",
        identity_type: str = "REGULAR_USER",
        client_id: uuid.UUID | None = None,
    ) -> User:
        if not name or not name.isprintable() or len(name) > 255:
            raise ValidationError("User name must not be empty, at most 255 printable characters")
        try:
            row = self._database.row(
                "insert into users (id, name, password_hash, first_name, last_name, email, admin, identity_type,"
                " oauth_client_id) values (%s, %s, %s, %s, %s, %s, %s, %s, %s) returning *",
                (uuid.uuid4(), name, password_hash, first, last, email, admin, identity_type, client_id),
            )
        except psycopg.errors.UniqueViolation:
            raise ValidationError(f"User '{name}' already exists") from None
        assert row is not None
        with self._guard:
            return self._remember(row)

    def update_user(
        self, user: User, tag: str | None, *, first: str, last: str, email: str, password: str | None = None
    ) -> User:
        """Raises ConcurrentModification for a stale tag, ValidationError for a weak password."""
        if tag is not None and tag != user.tag:
            raise ConcurrentModification(f"User [{user.name}] has been modified since tag [{tag}]: read it again")
        if password is not None:
            _check_password(password)
        row = self._database.row(
            "update users set first_name = %s, last_name = %s, email = %s, tag = gen_random_uuid(),"
            " password_hash = coalesce(%s, password_hash) where id = %s returning *",
            (first, last, email, _hash(password) if password is not None else None, user.id),
        )
        if row is None:
            raise NotFound(f"Could not find user with id [{user.id}]")
        with self._guard:
            return self._remember(row)

    def delete_user(self, user: User) -> None:
        """Delete a user; all tokens of the user stop working at once."""
        if user.name.lower() == self._admin_name.lower():
            raise ValidationError(f"User [{user.name}] is the server's administrator and cannot be deleted")
        with self._guard:
            self._database.execute("delete from users where id = %s", (user.id,))
            self._users.pop(user.id, None)
            self._hashes.pop(user.id, None)
            self._proven.pop(user.id, None)
            self._tokens = {digest: found for digest, found in self._tokens.items() if found[0] != user.id}

    def _set_password(self, user: User, password: str) -> None:
        row = self._database.row(
            "update users set password_hash = %s, admin = true where id = %s returning *", (_hash(password), user.id)
        )
        assert row is not None
        self._remember(row)

    @property
    def cluster_id(self) -> str:
        """Stable over restarts, and tells nothing of the key it is made from."""
        return str(uuid.uuid5(uuid.NAMESPACE_OID, hashlib.sha256(b"cluster" + self._key).hexdigest()))

    @property
    def has_users(self) -> bool:
        return bool(self._users)

    def user(self, user_id: str) -> User:
        user = self._users.get(user_id)
        if user is None:
            raise NotFound(f"Could not find user with id [{user_id}]")
        return user

    def user_named(self, name: str) -> User | None:
        return self._by_name(name)

    def users(self) -> list[User]:
        return sorted(self._users.values(), key=lambda user: user.name)

    # Login tokens ---------------------------------------------------------------------------------------------

    def login(self, name: str, password: str) -> tuple[str, datetime, User]:
        """A token, its expiry and the user. Raises LoginFailed, saying no more than that."""
        user = self._by_name(name)
        if user is None or user.identity_type != "REGULAR_USER":
            _matches(password, _DUMMY)  # the same work, so that time does not tell which names exist
            raise LoginFailed
        proof = hmac.digest(self._proof_key, password.encode(), "sha256")
        known = self._proven.get(user.id)
        if known is None or not hmac.compare_digest(known, proof):
            if not _matches(password, self._hashes[user.id]):
                raise LoginFailed
            self._proven[user.id] = proof
        return *self.issue(user, TOKEN_LIFETIME), user

    def issue(self, user: User, lifetime: timedelta) -> tuple[str, datetime]:
        """A signed token that needs no row, and its expiry."""
        expires = clock.now() + lifetime
        return self._sign(user, expires), expires

    def _sign(self, user: User, expires: datetime) -> str:
        claims = {"u": user.id, "i": time.time(), "e": expires.timestamp(), "t": secrets.token_hex(8)}
        payload = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=")
        return f"{payload.decode()}.{self._mac(payload)}"

    def _mac(self, payload: bytes) -> str:
        return base64.urlsafe_b64encode(hmac.digest(self._key, payload, "sha256")).rstrip(b"=").decode()

    def _claims(self, token: str) -> dict[str, Any]:
        payload, dot, mac = token.partition(".")
        if not dot or not hmac.compare_digest(self._mac(payload.encode()).encode(), mac.encode()):
            raise TokenRefused("bad signature")
        claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        if claims["e"] < time.time() or claims["i"] < self._not_before or claims["t"] in self._revoked:
            raise TokenRefused("expired")
        return claims

    def authenticate(self, header: str) -> User:
        """The user of an Authorization header: `_dremio<token>` or `Bearer <token>`. Raises TokenRefused."""
        token = _token(header)
        if hashlib.sha256(token.encode()).digest() in self._tokens:
            return self.user_of_personal_token(token)
        return self._known(self._claims(token)["u"])

    def user_of_personal_token(self, token: str) -> User:
        """Raises TokenRefused for an unknown or expired one."""
        found = self._tokens.get(hashlib.sha256(token.encode()).digest())
        if found is None or found[1] < clock.now():
            raise TokenRefused("expired")
        return self._known(found[0])

    def _known(self, user_id: str) -> User:
        user = self._users.get(user_id)
        if user is None:
            raise TokenRefused("unknown user")
        return user

    def logout(self, header: str) -> None:
        """Revoke a login token for good; a personal access token is left alone."""
        token = _token(header)
        if "." not in token:
            return
        claims = self._claims(token)
        expires = datetime.fromtimestamp(claims["e"], tz=clock.now().tzinfo)
        self._database.execute(
            "insert into revoked_tokens (id, expires_at) values (%s, %s) on conflict do nothing", (claims["t"], expires)
        )
        self._revoked.add(claims["t"])

    def expire_login_tokens(self) -> None:
        """Fault injection: every login token issued until now stops working (in this process)."""
        self._not_before = time.time()

    # Personal access tokens -----------------------------------------------------------------------------------

    def create_personal_token(self, caller: User, user_id: str, label: str, lifetime: timedelta) -> str:
        """The token's text, which is shown this once. Only for oneself, as in Dremio."""
        if caller.id != user_id:
            raise PermissionDenied("Personal access tokens can be created only for the current user")
        if not timedelta(0) < lifetime <= MAX_PAT_LIFETIME:
            raise ValidationError(f"millisecondsToExpire must be above 0 and at most {MAX_PAT_LIFETIME.days} days")
        token = base64.b64encode(secrets.token_bytes(42)).decode()
        digest = hashlib.sha256(token.encode()).digest()
        expires = clock.now() + lifetime
        self._database.execute(
            "insert into personal_access_tokens (id, user_id, label, token_hash, expires_at)"
            " values (%s, %s, %s, %s, %s)",
            (uuid.uuid4(), user_id, label, digest, expires),
        )
        self._tokens[digest] = (user_id, expires)
        return token

    def personal_tokens(self, caller: User, user_id: str) -> list[dict[str, Any]]:
        _own_or_admin(caller, user_id)
        rows = self._database.rows(
            "select * from personal_access_tokens where user_id = %s order by created_at", (_uuid(user_id),)
        )
        return [
            {
                "tid": str(row["id"]),
                "uid": str(row["user_id"]),
                "label": row["label"],
                "createdAt": clock.iso(row["created_at"]),
                "expiresAt": clock.iso(row["expires_at"]),
            }
            for row in rows
        ]

    def delete_personal_tokens(self, caller: User, user_id: str, token_id: str | None) -> None:
        """One token, or all of a user when `token_id` is None."""
        _own_or_admin(caller, user_id)
        with self._database.transaction() as connection:
            rows = connection.execute(
                "delete from personal_access_tokens where user_id = %s and (%s::uuid is null or id = %s)"
                " returning token_hash",
                (_uuid(user_id), token_id and _uuid(token_id), token_id and _uuid(token_id)),
            ).fetchall()
        if token_id and not rows:
            raise NotFound(f"Could not find personal access token with id [{token_id}]")
        for row in rows:
            self._tokens.pop(bytes(row["token_hash"]), None)


def _own_or_admin(caller: User, user_id: str) -> None:
    if caller.id != user_id and not caller.admin:
        raise PermissionDenied("You do not have permission to see another user's tokens")


def _uuid(text: str) -> uuid.UUID:
    try:
        return uuid.UUID(text)
    except ValueError:
        raise NotFound(f"Could not find user or token with id [{text}]") from None


def _token(header: str) -> str:
    scheme, _, rest = header.strip().partition(" ")
    if header.startswith("_dremio"):
        return header.removeprefix("_dremio").strip()
    if scheme.lower() == "bearer" and rest.strip():
        return rest.strip().removeprefix("_dremio")
    raise TokenRefused("no token")


def _check_password(password: str) -> None:
    strong = len(password) >= 8 and any(c.isdigit() for c in password) and any(c.isalpha() for c in password)
    if not strong:
        raise ValidationError("Invalid password: must be at least 8 letters long, must contain a number and a letter")


def _hash(password: str) -> str:
    salt = secrets.token_bytes(16)
    digest = hashlib.scrypt(password.encode(), salt=salt, **_SCRYPT)
    return f"scrypt${salt.hex()}${digest.hex()}"


def _matches(password: str, stored: str) -> bool:
    _, salt, digest = stored.split("$")
    found = hashlib.scrypt(password.encode(), salt=bytes.fromhex(salt), **_SCRYPT)
    return hmac.compare_digest(found, bytes.fromhex(digest))


_DUMMY = f"scrypt${'00' * 16}${'00' * 64}"
