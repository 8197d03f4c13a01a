"""The tables behind the page of what is implemented say what the code does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from embedded.sql.engine import statements as st
from embedded.sql.engine.commands import parse_statement
from embedded.sql.engine.coverage import DOCUMENTED, FORMS, Form, function_status
from embedded.sql.engine.engine import _HANDLERS
from embedded.sql.errors import SqlError, UnsupportedError, ValidationError

if TYPE_CHECKING:
    from tests.embedded.sql.engine.conftest import Bench


@pytest.mark.parametrize("form", [f for f in FORMS if f.status != "refused"], ids=lambda f: f.example[:50])
def test_implemented_forms_have_a_handler(form: Form) -> None:
    assert type(parse_statement(form.example)) in _HANDLERS


@pytest.mark.parametrize("form", [f for f in FORMS if f.status == "refused"], ids=lambda f: f.example[:50])
def test_refused_forms_are_refused_by_name(bench: Bench, form: Form) -> None:
    with pytest.raises((UnsupportedError, ValidationError)) as refusal:
        bench.run(form.example)
    assert "Failure parsing" not in str(refusal.value)


def test_every_statement_is_on_the_page() -> None:
    shown = set()
    for form in FORMS:
        try:
            shown.add(type(parse_statement(form.example)))
        except SqlError:
            continue
    grouped = {
        st.DropColumn, st.AlterColumn, st.DropReflection, st.DropView, st.DropFolder, st.DropFunction,
        st.ShowProperties, st.DescribeFunction, st.Account,
    }  # fmt: skip
    assert set(_HANDLERS) - shown <= grouped


def test_documented_functions_are_all_decided() -> None:
    undecided = [name for name in DOCUMENTED if function_status(name) == ("refused", "unknown to this server")]
    assert not undecided
    assert len(DOCUMENTED) == len(set(DOCUMENTED)) > 270
    assert function_status("HASH")[0] == "refused"
