"""Published views: pinned to a snapshot, quoted, without internal columns."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from include.publication import Dataset, PublicationError, datasets, quote, views


def manifest(folder: Path, **model: object) -> Path:
    node = {
        "resource_type": "model",
        "name": "orders",
        "alias": "orders",
        "config": {"meta": {"publish": True}, "tags": ["retail", "silver"]},
        "columns": {"order_id": {}, "_quality_score": {}, "_sync_id": {}, "_quarantine_reason": {}},
        **model,
    }
    file = folder / "manifest.json"
    file.write_text(json.dumps({"nodes": {"model.lakehouse.orders": node}}))
    return file


def test_a_silver_model_shows_good_rows_and_its_quarantine(tmp_path: Path) -> None:
    (orders,) = datasets("retail", manifest(tmp_path))
    (good_path, good), (bad_path, bad) = views(orders, 42)
    assert good_path == ("lakehouse", "silver", "orders")
    assert good == (
        'SELECT "order_id", "_quality_score" FROM "lake"."silver"."orders" AT SNAPSHOT \'42\' '
        'WHERE "_quarantine_reason" IS NULL'
    )
    assert bad_path == ("lakehouse", "silver", "orders_quarantine")
    assert bad.endswith('WHERE "_quarantine_reason" IS NOT NULL')


def test_models_of_other_pipelines_and_unpublished_ones_are_left_out(tmp_path: Path) -> None:
    assert datasets("marketing", manifest(tmp_path)) == ()
    unpublished = tmp_path / "other"
    unpublished.mkdir()
    assert datasets("retail", manifest(unpublished, config={"meta": {}, "tags": ["retail", "silver"]})) == ()


def test_a_published_model_without_documented_columns_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PublicationError, match=r"model orders: .* documented columns"):
        datasets("retail", manifest(tmp_path, columns={}))


def test_a_missing_manifest_names_the_fix(tmp_path: Path) -> None:
    with pytest.raises(PublicationError, match="make setup"):
        datasets("retail", tmp_path / "manifest.json")


def test_hostile_names_stay_inside_their_quotes() -> None:
    hostile = Dataset(layer="gold", name='x" ; drop', columns=('a"b',), quarantine=False)
    ((_, select),) = views(hostile, 7)
    assert select == 'SELECT "a""b" FROM "lake"."gold"."x"" ; drop" AT SNAPSHOT \'7\''
    assert quote(("a.b", 'c"')) == '"a.b"."c"""'
