"""The dbt models of a new pipeline: bronze views, silver tables, and what happened per day as gold."""

from __future__ import annotations

from collections.abc import Iterator

import yaml

from embedded.scaffold.catalog import Column, Stream

_JUDGED = {
    "_quality_score": "100 minus the points of every broken rule; there are no rules yet.",
    "_quality_issues": "Codes of all broken rules; always null without rules.",
    "_quarantine_reason": "The rule that keeps a row from readers; always null without rules.",
    "_sync_id": "Airbyte job that delivered this version.",
}
_DELIVERED = {
    "_airbyte_raw_id": "Airbyte's id of the row as delivered.",
    "_airbyte_extracted_at": "When Airbyte read it (UTC).",
    "_airbyte_generation_id": "Generation; rises with each full refresh.",
    "_sync_id": "Airbyte job that delivered it.",
    "_ab_cdc_commit_lsn": "Null: only changes of a log have a position.",
}


def files(pipeline: str, connection: str, streams: list[Stream]) -> Iterator[tuple[str, str]]:
    """Path below dbt/lakehouse/models, and text."""
    yield f"bronze/{pipeline}/_{pipeline}_sources.yml", _sources(pipeline, streams)
    yield f"bronze/{pipeline}/_{pipeline}_bronze.yml", _documented(_bronze_docs(pipeline, streams))
    yield f"silver/{pipeline}/_{pipeline}_silver.yml", _documented(_silver_docs(pipeline, streams))
    yield f"gold/{pipeline}/_{pipeline}_gold.yml", _documented([_gold_docs(pipeline)])
    yield f"gold/{pipeline}/{pipeline}_activity.sql", _gold(pipeline, streams)
    for stream in streams:
        yield f"bronze/{pipeline}/{pipeline}_{stream.name}.sql", _bronze(pipeline, connection, stream)
        yield f"silver/{pipeline}/{silver(pipeline, stream)}.sql", _silver(pipeline, stream)


def silver(pipeline: str, stream: Stream) -> str:
    """The model's name, and its table's: bronze's view has the plain one."""
    return f"{pipeline}__{stream.name}"


def _dump(content: object) -> str:
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=115)


def _sources(pipeline: str, streams: list[Stream]) -> str:
    source = {
        "name": pipeline,
        "description": "What Airbyte wrote: Parquet folders, append-only, every version of every sync.",
        "database": "bronze",
        "schema": pipeline,
        "config": {"tags": [pipeline], "loaded_at_field": '"_airbyte_extracted_at"'},
        "tables": [{"name": one.name, "description": f"Stream {one.name} as delivered."} for one in streams],
    }
    return _dump({"version": 2, "sources": [source]})


def _documented(models: list[dict[str, object]]) -> str:
    return _dump({"version": 2, "models": models})


def _columns(named: dict[str, str]) -> list[dict[str, str]]:
    return [{"name": name, "description": text} for name, text in named.items()]


def _kept(stream: Stream) -> list[Column]:
    return [column for column in stream.columns if column.type]


def _bronze_docs(pipeline: str, streams: list[Stream]) -> list[dict[str, object]]:
    return [
        {
            "name": f"{pipeline}_{one.name}",
            "description": f"Rows of stream {one.name} that succeeded syncs wrote, every version.",
            "columns": _columns({c.name: f"{c.name} as delivered." for c in one.columns} | _DELIVERED),
        }
        for one in streams
    ]


def _silver_docs(pipeline: str, streams: list[Stream]) -> list[dict[str, object]]:
    return [
        {
            "name": silver(pipeline, one),
            "description": f"Every row of {one.name} once, its newest version, typed.",
            "columns": _columns({c.name: f"{c.name}, {c.type}." for c in _kept(one)} | _JUDGED),
            "data_tests": [
                {"is_key": {"arguments": {"columns": list(one.key)}}},
                {"conserves": {"arguments": {"bronze": f"ref('{pipeline}_{one.name}')", "key": list(one.key)}}},
            ],
        }
        for one in streams
    ]


def _gold_docs(pipeline: str) -> dict[str, object]:
    named = {
        "activity_date": "Day of the row's newest version (UTC).",
        "stream_name": "Stream.",
        "stored_rows": "Rows whose newest version is of that day.",
    }
    return {
        "name": f"{pipeline}_activity",
        "description": "Rows per stream and day of their newest version.",
        "columns": _columns(named),
        "data_tests": [{"is_key": {"arguments": {"columns": ["activity_date", "stream_name"]}}}],
    }


def _bronze(pipeline: str, connection: str, stream: Stream) -> str:
    names = ",\n        ".join(f"'{column.name}'" for column in stream.columns)
    whole = "" if stream.incremental else ",\n    full_refresh=true"
    return (
        f"{{{{ config(tags=['{pipeline}']) }}}}\n\n"
        f"{{{{ bronze_view(\n    pipeline='{pipeline}',\n    stream='{stream.name}',\n    connection='{connection}',\n"
        f"    columns=[\n        {names}\n    ]{whole}\n) }}}}\n"
    )


def _silver(pipeline: str, stream: Stream) -> str:
    key = "[" + ", ".join(f"'{name}'" for name in stream.key) + "]"
    kind = "lake_merge" if stream.incremental else "lake_replace"
    whole = "" if stream.incremental else ", whole=true"
    typed = ",\n    ".join(f'cast("{column.name}" as {column.type}) as "{column.name}"' for column in _kept(stream))
    return (
        f"{{{{ config(\n    materialized='{kind}',\n    unique_key={key},\n"
        f"    tags=['{pipeline}']\n) }}}}\n\n"
        "with newest as (\n"
        "    {{ newest_versions(\n"
        f"        ref('{pipeline}_{stream.name}'), key={key}, cursor='{stream.cursor}'{whole}\n"
        "    ) }}\n)\n\n"
        f"select\n    {typed},\n    {{{{ quality([]) }}}},\n    _sync_id\nfrom newest\n"
    )


def _gold(pipeline: str, streams: list[Stream]) -> str:
    parts = "\n    union all\n".join(
        f"    select\n        cast(\"{one.cursor}\" as date) as activity_date,\n        '{one.name}' as stream_name\n"
        f"    from {{{{ ref('{silver(pipeline, one)}') }}}}\n    where _quarantine_reason is null"
        for one in streams
    )
    return (
        f"{{{{ config(\n    materialized='lake_replace',\n    unique_key=['activity_date', 'stream_name'],\n"
        f"    tags=['{pipeline}']\n) }}}}\n\nwith versions as (\n{parts}\n)\n\n"
        "select\n    activity_date,\n    stream_name,\n    count(*) as stored_rows\nfrom versions\n"
        "group by activity_date, stream_name\n"
    )
