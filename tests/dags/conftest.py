from __future__ import annotations

from pathlib import Path

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk import DAG

PROJECT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture(scope="session")
def dags_folder() -> Path:
    return PROJECT / "dags"


@pytest.fixture(scope="session")
def bag(dags_folder: Path) -> DagBag:
    """The DAGs as Airflow's dag-processor finds and parses them."""
    return DagBag(dags_folder, bundle_path=dags_folder, bundle_name="dags")


@pytest.fixture(scope="session")
def dags(bag: DagBag) -> list[DAG]:
    assert not bag.import_errors, "\n".join(f"{file}: {error}" for file, error in bag.import_errors.items())
    return [bag.dags[dag_id] for dag_id in sorted(bag.dags)]
