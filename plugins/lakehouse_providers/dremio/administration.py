"""Notes on entities (wiki, tags), and who may do what (users, roles, grants: Enterprise and Cloud). No Airflow.

A note or grant that somebody else changed since it was read is read once more and written again; a second conflict is
the caller's. Contract: api/v3 catalog/{id}/collaboration, catalog/{id}/grants, user, role of Dremio 24 to 26.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar
from urllib.parse import quote

from lakehouse_providers.dremio import calls, errors
from lakehouse_providers.dremio.calls import V3, Path
from lakehouse_providers.dremio.client import DremioClient, Entity
from lakehouse_providers.transport import Call

T = TypeVar("T")
GranteeKind = Literal["USER", "ROLE"]


@dataclass(frozen=True)
class Member:
    """A user or role inside a role."""

    kind: GranteeKind
    id: str
    name: str


@dataclass(frozen=True)
class Grantee:
    kind: GranteeKind
    name: str


def again(write: Callable[[], T]) -> T:
    """`write` reads and writes; once more if somebody wrote between the two. Raises DremioConflictError."""
    try:
        return write()
    except errors.DremioConflictError:
        return write()


class Administration:
    def __init__(self, client: DremioClient) -> None:
        self._client = client

    def _read(self, path: str) -> Entity | None:
        try:
            found: Entity = self._client.call(Call("GET", path))
        except errors.DremioNotFoundError:
            return None
        return found

    # Notes

    def wiki(self, entity_id: str) -> str:
        """Empty where there is none."""
        return str((self._note(entity_id, "wiki") or {}).get("text") or "")

    def tags(self, entity_id: str) -> list[str]:
        return list((self._note(entity_id, "tag") or {}).get("tags") or [])

    def _note(self, entity_id: str, kind: str) -> Entity | None:
        return self._read(calls.entity(entity_id, f"/collaboration/{kind}").path)

    def set_wiki(self, entity_id: str, text: str | Callable[[str], str]) -> None:
        """`text` may be made from the present text."""

        def write() -> None:
            there = self._note(entity_id, "wiki") or {}
            self._write(entity_id, "wiki", {"text": text(there.get("text") or "") if callable(text) else text}, there)

        again(write)

    def set_tags(self, entity_id: str, tags: Sequence[str]) -> None:
        again(lambda: self._write(entity_id, "tag", {"tags": list(tags)}, self._note(entity_id, "tag") or {}))

    def _write(self, entity_id: str, kind: str, body: Entity, there: Mapping[str, Any]) -> None:
        version = {"version": there["version"]} if there.get("version") is not None else {}
        place = calls.entity(entity_id, f"/collaboration/{kind}").path
        self._client.call(Call("POST", place, json={**body, **version}, idempotent=False))

    def rewrite(self, path: Path, change: Callable[[Entity], Mapping[str, Any]]) -> Entity:
        """Replaces an entity by what `change` makes of it."""

        def write() -> Entity:
            there = self._client.by_path(path)
            return self._client.update_catalog(there["id"], {**change(there), "tag": there.get("tag")})

        return again(write)

    # Users and roles

    def user(self, name: str) -> Entity | None:
        return self._read(f"{V3}/user/by-name/{quote(name, safe='')}")

    def create_user(self, body: Mapping[str, Any]) -> Entity:
        """`body`: name, and firstName, lastName, email, password where the user signs in here."""
        made: Entity = self._client.call(Call("POST", f"{V3}/user", json=dict(body), idempotent=False))
        return made

    def update_user(self, name: str, changes: Mapping[str, Any]) -> None:
        def write() -> None:
            there = self._known(self.user(name), "user", name)
            place = f"{V3}/user/{quote(there['id'], safe='')}"
            self._client.call(Call("PUT", place, json={**there, **changes}, idempotent=False))

        again(write)

    def role(self, name: str) -> Entity | None:
        return self._read(f"{V3}/role/by-name/{quote(name, safe='')}")

    def roles(self) -> list[Entity]:
        """Those that Dremio lists. [] where the edition has none."""
        return list((self._read(f"{V3}/role") or {}).get("data") or [])

    def create_role(self, name: str, description: str = "") -> Entity:
        body = {"name": name, "description": description}
        made: Entity = self._client.call(Call("POST", f"{V3}/role", json=body, idempotent=False))
        return made

    def update_role(self, name: str, description: str) -> None:
        there = self._known(self.role(name), "role", name)
        body = {**there, "description": description}
        self._client.call(Call("PUT", f"{V3}/role/{quote(there['id'], safe='')}", json=body, idempotent=False))

    def delete_role(self, name: str) -> None:
        there = self.role(name)
        if there is not None:
            self._client.call(Call("DELETE", f"{V3}/role/{quote(there['id'], safe='')}"))

    def members(self, role: str) -> list[Member]:
        there = self._known(self.role(role), "role", role)
        found = self._client.call(Call("GET", f"{V3}/role/{quote(there['id'], safe='')}/member"))
        return [Member(item["type"], item["id"], item["name"]) for item in found["data"]]

    def change_members(self, role: str, add: Sequence[Grantee], remove: Sequence[Member] = ()) -> None:
        there = self._known(self.role(role), "role", role)
        changes = [{"op": "add", "type": one.kind, "id": self.id_of(one)} for one in add]
        changes += [{"op": "remove", "type": one.kind, "id": one.id} for one in remove]
        place = f"{V3}/role/{quote(there['id'], safe='')}/member"
        self._client.call(Call("PATCH", place, json=changes))

    def id_of(self, grantee: Grantee) -> str:
        """Raises DremioConfigurationError for a user or role that is not there."""
        there = self.user(grantee.name) if grantee.kind == "USER" else self.role(grantee.name)
        return str(self._known(there, grantee.kind.lower(), grantee.name)["id"])

    @staticmethod
    def _known(there: Entity | None, kind: str, name: str) -> Entity:
        if there is None:
            raise errors.DremioConfigurationError(
                f"Dremio knows no {kind} {name!r}; users and roles need Dremio Enterprise or Cloud"
            )
        return there

    # Grants

    def grants(self, entity_id: str) -> dict[Grantee, frozenset[str]]:
        """The privileges given on an entity itself. Raises DremioConfigurationError where the edition has none."""
        return {grantee: privileges for grantee, (_, privileges) in self._grants(entity_id).items()}

    def _grants(self, entity_id: str) -> dict[Grantee, tuple[str, frozenset[str]]]:
        shown = self._read(calls.entity(entity_id, "/grants").path)
        if shown is None:
            raise errors.DremioConfigurationError("This Dremio has no grants; they need Dremio Enterprise or Cloud")
        return {
            Grantee(item["granteeType"], item["name"]): (item["id"], frozenset(item["privileges"]))
            for item in shown.get("grants") or []
        }

    def change_grants(self, entity_id: str, wanted: Mapping[Grantee, frozenset[str]]) -> None:
        """Gives exactly these privileges to these grantees (none: takes all), and leaves other grantees alone."""
        there = self._grants(entity_id)
        kept = {grantee: entry for grantee, entry in there.items() if grantee not in wanted}
        for grantee, privileges in wanted.items():
            if privileges:
                identity = there[grantee][0] if grantee in there else self.id_of(grantee)
                kept[grantee] = (identity, privileges)
        entries = [
            {"granteeType": grantee.kind, "id": identity, "privileges": sorted(privileges)}
            for grantee, (identity, privileges) in kept.items()
        ]
        self._client.call(Call("PUT", calls.entity(entity_id, "/grants").path, json={"grants": entries}))
