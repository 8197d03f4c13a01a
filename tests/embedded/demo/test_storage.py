"""Sizes come from what really lies there: the objects of bronze, the snapshots of the tables."""

from __future__ import annotations

import uuid

import pyarrow as pa

from embedded.demo.storage import bronze_sizes, catalog, table_sizes
from embedded.object_store import BUCKETS, ObjectStore


def test_bronze_is_counted_by_stream_over_all_pages_of_a_listing(object_store: ObjectStore) -> None:
    s3 = object_store.client("s3")
    prefix = f"bronze/{uuid.uuid4().hex}/"
    for number in range(3):
        s3.put_object(Bucket=BUCKETS[0], Key=f"{prefix}orders/{number}.parquet", Body=b"x" * 10)
    s3.put_object(Bucket=BUCKETS[0], Key=f"{prefix}stores/0.parquet", Body=b"x" * 7)
    assert bronze_sizes(object_store, prefix) == {"orders": 30, "stores": 7}
    assert bronze_sizes(object_store, f"bronze/{uuid.uuid4().hex}/") == {}


def test_a_table_weighs_what_its_newest_snapshot_holds(object_store: ObjectStore) -> None:
    layer = f"layer_{uuid.uuid4().hex[:8]}"
    tables = catalog(object_store)
    tables.create_namespace(layer)
    rows = pa.table({"n": [1, 2, 3]})
    tables.create_table(f"{layer}.empty", rows.schema)
    filled = tables.create_table(f"{layer}.filled", rows.schema)
    filled.append(rows)
    files = filled.inspect.files()
    assert table_sizes(object_store, layer) == {"filled": sum(files["file_size_in_bytes"].to_pylist())}
