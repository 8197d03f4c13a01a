"""docs/sql-server.md says what the code does."""

from __future__ import annotations

from docs import sql_server


def test_the_page_is_what_the_code_would_write() -> None:
    assert sql_server.PAGE.read_text(encoding="utf-8") == sql_server.render(), "run make docs"
