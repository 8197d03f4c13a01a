"""What the layers weigh on S3: bronze by its objects, silver and gold by the data files of their tables' snapshots."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from pyiceberg.catalog.rest import RestCatalog

from embedded.object_store import BUCKETS, REGION, ObjectStore

LAYERS = ("silver", "gold")


@dataclass(frozen=True)
class Sizes:
    """Bytes by stream or table name."""

    bronze: Mapping[str, int] = field(default_factory=dict)
    silver: Mapping[str, int] = field(default_factory=dict)
    gold: Mapping[str, int] = field(default_factory=dict)


def bronze_sizes(store: ObjectStore, prefix: str) -> dict[str, int]:
    """Bytes by stream; a key is `<prefix><stream>/<file>`."""
    found: Counter[str] = Counter()
    pages = store.client("s3").get_paginator("list_objects_v2").paginate(Bucket=BUCKETS[0], Prefix=prefix)
    for page in pages:
        for item in page.get("Contents", ()):
            found[item["Key"].removeprefix(prefix).split("/")[0]] += int(item["Size"])
    return dict(found)


def catalog(store: ObjectStore) -> RestCatalog:
    return RestCatalog(
        "lake",
        **{
            "uri": store.iceberg_uri,
            "warehouse": store.warehouse,
            "credential": f"{store.access_key}:{store.secret_key}",
            "oauth2-server-uri": f"{store.iceberg_uri}/v1/oauth/tokens",
            "s3.endpoint": store.endpoint_url,
            "s3.access-key-id": store.access_key,
            "s3.secret-access-key": store.secret_key,
            "s3.region": REGION,
        },
    )


def table_sizes(store: ObjectStore, layer: str) -> dict[str, int]:
    """Bytes by table, of each one's newest snapshot; older snapshots keep files of their own beside these."""
    found = {}
    tables = catalog(store)
    for identifier in tables.list_tables(layer):
        snapshot = tables.load_table(identifier).current_snapshot()
        summary = snapshot.summary if snapshot else None
        if summary is not None:
            found[identifier[-1]] = int(summary["total-files-size"] or 0)
    return found


def sizes(store: ObjectStore, bronze_prefix: str) -> Sizes:
    silver, gold = (table_sizes(store, layer) for layer in LAYERS)
    return Sizes(bronze_sizes(store, bronze_prefix), silver, gold)
