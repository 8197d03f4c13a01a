"""No statement is forgotten: each has its privileges, only reads, or is checked where it is carried out."""

from __future__ import annotations

from typing import get_args

from embedded.sql.catalog.permits import ELSEWHERE, NEEDS, READS
from embedded.sql.engine.statements import Statement


def test_every_statement_is_accounted_for() -> None:
    assert set(get_args(Statement)) == {*NEEDS, *READS, *ELSEWHERE}
    assert len(NEEDS) + len(READS) + len(ELSEWHERE) == len(get_args(Statement))
