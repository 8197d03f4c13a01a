from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse_providers.dremio import sql
from lakehouse_providers.dremio.errors import DremioConfigurationError

part = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1)


@given(st.lists(part, min_size=1, max_size=5))
def test_any_path_survives_quoting(parts: list[str]) -> None:
    assert sql.path_of(sql.identifier(parts)) == tuple(parts)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("lake.gold.t", ("lake", "gold", "t")),
        ('"bronze"."retail"."orders"', ("bronze", "retail", "orders")),
        ('src."a.b"."say ""hi"""', ("src", "a.b", 'say "hi"')),
    ],
)
def test_dotted_text(text: str, parts: tuple[str, ...]) -> None:
    assert sql.path_of(text) == parts


@pytest.mark.parametrize("bad", ["", "a..b", "a.", ".a", "a b", 'a"b', '"a', [], ["a", ""], [None], ["a\0"]])
def test_what_is_no_path_is_refused_with_an_example(bad: object) -> None:
    with pytest.raises(DremioConfigurationError, match="is no dataset path; "):
        sql.path_of(bad)  # type: ignore[arg-type]


def test_a_name_cannot_end_the_statement() -> None:
    assert sql.refresh_metadata(['t"; DROP TABLE x; --']) == 'ALTER TABLE "t""; DROP TABLE x; --" REFRESH METADATA'


def test_options_of_a_metadata_refresh() -> None:
    text = sql.refresh_metadata("a.b", auto_promotion=True, update="force", missing="delete")
    assert text == 'ALTER TABLE "a"."b" REFRESH METADATA AUTO PROMOTION FORCE UPDATE DELETE WHEN MISSING'
    assert sql.refresh_metadata("a", auto_promotion=False).endswith("AVOID PROMOTION")
    with pytest.raises(DremioConfigurationError, match="force, lazy"):
        sql.refresh_metadata("a", update="now'")  # type: ignore[arg-type]


@pytest.mark.parametrize("bad", ["x'; DROP", "", "a b"])
def test_only_ids_reach_the_system_tables(bad: str) -> None:
    with pytest.raises(DremioConfigurationError, match="is not an id"):
        sql.materializations([bad], "sys")
