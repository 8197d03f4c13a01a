"""Names of what a sync read and wrote, by OpenLineage's rules, and the page that a task links to."""

from __future__ import annotations

from typing import Any

import pytest

from lakehouse_providers.airbyte.lineage import destination_name, source_name
from lakehouse_providers.airbyte.operators import AirbyteSyncOperator

POSTGRES = {
    "sourceId": "s1", "sourceType": "postgres", "destinationType": "postgres", "name": "shop", "destinationId": "d2",
    "configuration": {"host": "db", "port": 5433, "database": "retail", "schema": "lake"},
}  # fmt: skip
LAKE = {
    "destinationId": "d1", "destinationType": "s3", "name": "lake",
    "configuration": {"s3_bucket_name": "lakehouse", "s3_bucket_path": "bronze"},
}  # fmt: skip
ORDERS = {"name": "orders", "namespace": "public"}


def test_names_at_the_source() -> None:
    assert source_name(POSTGRES, ORDERS, "h:1") == ("postgres://db:5433", "retail.public.orders")
    faker = {"sourceType": "faker", "name": "people", "configuration": {}}
    assert source_name(faker, {"name": "users"}, "h:1") == ("airbyte://h:1", "people.users")


@pytest.mark.parametrize(
    ("connection", "changes", "name"),
    [
        ({"namespaceDefinition": "source"}, {}, "bronze/public/orders"),
        ({"namespaceDefinition": "destination", "prefix": "x_"}, {}, "bronze/x_orders"),
        (
            {"namespaceDefinition": "custom_format", "namespaceFormat": "a_${SOURCE_NAMESPACE}"}, {},
            "bronze/a_public/orders",
        ),
        ({"namespaceDefinition": "source"}, {"s3_path_format": "${STREAM_NAME}/${YEAR}_"}, "bronze/orders"),
    ],
)  # fmt: skip
def test_names_in_a_lake(connection: dict[str, Any], changes: dict[str, Any], name: str) -> None:
    lake = {**LAKE, "configuration": {**LAKE["configuration"], **changes}}  # type: ignore[dict-item]
    assert destination_name(lake, connection, ORDERS, "h:1") == ("s3://lakehouse", name)


def test_names_in_postgresql_and_elsewhere() -> None:
    connection = {"namespaceDefinition": "destination"}
    assert destination_name(POSTGRES, connection, ORDERS, "h:1") == ("postgres://db:5433", "retail.lake.orders")
    other = {"destinationType": "bigquery", "name": "warehouse"}
    assert destination_name(other, connection, ORDERS, "h:1") == ("airbyte://h:1", "warehouse.orders")


def test_a_task_reports_its_datasets_and_links_to_the_jobs_page(airbyte: Any, context: Any, connection_id: str) -> None:
    airbyte.objects["sources"].append(POSTGRES)
    airbyte.objects["destinations"].append(LAKE)
    (connection,) = (item for item in airbyte.objects["connections"] if item["connectionId"] == connection_id)
    connection.update(
        sourceId="s1", destinationId="d1", namespaceDefinition="source", configurations={"streams": [ORDERS]}
    )
    counted = {"namespace": "public", "name": "orders", "records": 5, "bytes": 600}
    airbyte.reports[41] = {"url": "http://server/page?key=k", "streams": [counted]}
    airbyte.ends("succeeded")
    task = AirbyteSyncOperator(
        task_id="sync", airbyte_conn_id="airbyte", connection_id=connection_id, deferrable=False, wait_seconds=0.001
    )
    assert task.get_openlineage_facets_on_complete(None) is None
    facts = task.execute(context)
    assert facts["url"] == context["ti"].xcom["airbyte_job_url"] == "http://server/page?key=k"
    found = task.get_openlineage_facets_on_complete(None)
    assert found is not None
    assert [(item.namespace, item.name) for item in found.inputs] == [("postgres://db:5433", "retail.public.orders")]
    (written,) = found.outputs
    assert (written.namespace, written.name) == ("s3://lakehouse", "bronze/public/orders")
    statistics = written.outputFacets["outputStatistics"]
    assert (statistics.rowCount, statistics.size) == (5, 600)
    assert found.run_facets["externalQuery"].externalQueryId == "41"
