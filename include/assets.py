"""Stable asset URIs: they name data, not hosts, so they survive a change of environment."""

from __future__ import annotations

from airflow.sdk import Asset

from include.specs.pipeline import Pipeline


def bronze(pipeline: Pipeline, group: str) -> Asset:
    return Asset(name=f"bronze/{pipeline.name}/{group}", uri=f"s3://lakehouse/bronze/{pipeline.name}/{group}")


def published(pipeline: Pipeline, layer: str) -> Asset:
    """The published views of one layer of a pipeline."""
    return Asset(name=f"{layer}/{pipeline.name}", uri=f"dremio://lakehouse/{layer}/{pipeline.name}")
