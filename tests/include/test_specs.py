"""Declared pipelines: the shipped ones load, and every mistake is named with file, field and fix."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from include.paths import PIPELINES
from include.specs import pipeline
from include.specs.reader import SpecError

RETAIL = yaml.safe_load((PIPELINES / "retail.yaml").read_text())


def written(folder: Path, **changes: object) -> Path:
    (folder / "retail.yaml").write_text(yaml.safe_dump({**RETAIL, **changes}))
    return folder


@pytest.mark.parametrize("file", sorted(PIPELINES.glob("*.yaml")), ids=lambda f: f.stem)
def test_every_shipped_pipeline_loads(file: Path) -> None:
    loaded = pipeline.load(file.stem)
    assert loaded.name == file.stem
    assert loaded.streams


def test_streams_of_all_groups_are_listed_once() -> None:
    retail = pipeline.load("retail")
    assert len({stream.name for stream in retail.streams}) == len(retail.streams) == 10


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": "other"}, ["'name'", "must equal the file's name 'retail'"]),
        ({"schedule": 5}, ["'schedule'", "must be a str", "found 5"]),
        ({"deadline_minutes": "two hours"}, ["'deadline_minutes'", "must be a int"]),
        ({"shedule": "0 2 * * *"}, ["'shedule'", "is not known here"]),
        ({"source": {"airbyte": "retail", "connection": "retail_source"}}, ["'source.schema'", "is missing"]),
        (
            {"source": {**RETAIL["source"], "schema": 'x"; drop schema retail; --'}},
            ["'source.schema'", "must match"],
        ),
        (
            {
                "groups": {
                    "sales": {"connection": "c", "streams": {"orders": {"key": [], "cursor": "u", "created": "c"}}}
                }
            },
            ["'groups.sales.streams.orders.key'", "is empty"],
        ),
        (
            {
                "groups": {
                    "a": {"connection": "c", "streams": {"o": {"key": ["k"], "cursor": "u", "created": "c"}}},
                    "b": {"connection": "d", "streams": {"o": {"key": ["k"], "cursor": "u", "created": "c"}}},
                }
            },
            ["names a stream twice"],
        ),
        (
            {
                "groups": {
                    "a": {
                        "connection": "c",
                        "streams": {"o": {"key": ["k"], "cursor": "u", "created": "c", "mode": "append"}},
                    }
                }
            },
            ["'groups.a.streams.o.mode'", "must be one of incremental_append, full_refresh_append"],
        ),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, changes: dict[str, object], words: list[str]) -> None:
    with pytest.raises(SpecError) as caught:
        pipeline.load("retail", written(tmp_path, **changes))
    assert all(word in str(caught.value) for word in ["retail.yaml", *words])


def test_a_missing_file_and_broken_yaml_are_named(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"nothing\.yaml does not exist"):
        pipeline.load("nothing", tmp_path)
    (tmp_path / "broken.yaml").write_text("name: [")
    with pytest.raises(SpecError, match=r"broken\.yaml is not valid YAML"):
        pipeline.load("broken", tmp_path)
