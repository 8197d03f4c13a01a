"""Notes with versions: a neighbour who writes at the same moment is not overwritten unread."""

from __future__ import annotations

from typing import Any

import pytest

from lakehouse_providers.dremio import errors
from lakehouse_providers.dremio.administration import Administration


@pytest.mark.parametrize("kind", ["tag", "wiki"])
def test_a_conflict_is_read_again_once(dremio: Any, kind: str) -> None:
    entity = dremio.table("lake", "t")
    with dremio.client() as client:
        admin = Administration(client)

        def write(value: str) -> None:
            if kind == "tag":
                admin.set_tags(entity["id"], [value])
            else:
                admin.set_wiki(entity["id"], lambda text: f"{text}{value}")

        write("a")
        dremio.wire.fail(409, {"errorMessage": "changed"}, path=f"/collaboration/{kind}", method="POST", count=1)
        write("b")
        assert admin.tags(entity["id"]) == (["b"] if kind == "tag" else [])
        assert admin.wiki(entity["id"]) == ("" if kind == "tag" else "ab")
        dremio.wire.fail(409, {"errorMessage": "changed"}, path=f"/collaboration/{kind}", method="POST", count=2)
        with pytest.raises(errors.DremioConflictError):
            write("c")
    reads = dremio.wire.seen("GET", f"/collaboration/{kind}")
    assert len(reads) == 1 + 2 + 1 + 2, "each write reads the version that it replaces"


def test_an_edition_without_roles_says_so(dremio: Any) -> None:
    with dremio.client() as client:
        admin = Administration(client)
        assert admin.role("analyst") is None
        assert admin.roles() == []
        for call in (lambda: admin.members("analyst"), lambda: admin.grants("x")):
            with pytest.raises(errors.DremioConfigurationError, match="Enterprise or Cloud"):
                call()
