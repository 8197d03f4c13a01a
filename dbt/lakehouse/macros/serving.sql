{#
  The serving views. They are templates: publication puts the pinned snapshot, the watermark and columns that no model
  declares in place of the marks, and replaces the view in one statement (include/serving.py). Never run by dbt.

  serving_unified: silver as of W, less the keys that changed since, plus the newest change of each such key that is no
  tombstone. The change log is scanned exactly once: two scans would see two values of S.
#}
{% macro serving_unified(stream) -%}
{%- set key = stream_key(stream) -%}
{%- set columns = typed_columns(stream) -%}
select
    {% for name, expression in columns -%}
    {{ name }}{{ ',' if not loop.last }}
    {% endfor -%}
    /*extra*/
from (
    select
        {% for name, expression in columns -%}
        case when v._is_change then v.{{ name }} else s.{{ name }} end as {{ name }},
        {% endfor -%}
        /*extra_chosen*/
        v._is_change,
        v._is_deleted,
        max(v._truncated_lsn) over () as _truncated_lsn,
        s.{{ key[0] }} is not null as _is_silver
    from (select * from {{ ref(stream) }} at snapshot '__SNAPSHOT__') as s
    full outer join (
        {{ speed_rows(stream) }}
    ) as v on {% for k in key %}s.{{ k }} = v.{{ k }}{{ ' and ' if not loop.last }}{% endfor %}
) as united
where
    (_is_change and not _is_deleted)
    or (_is_change is null and _is_silver and coalesce(_truncated_lsn, 0) <= __WATERMARK__)
{%- endmacro %}

{# Changes above W and the marker row, typed as silver is. #}
{% macro speed_rows(stream) -%}
select
            {{- typed_list(stream) }}
        /*extra_columns*/
        not _is_marker as _is_change,
        _ab_cdc_deleted_at is not null as _is_deleted,
        -- Another epoch begins with a truncation, wherever its positions lie.
        case when _lane_epoch = __EPOCH__ then _lane_truncated_lsn else 9223372036854775807 end as _truncated_lsn
        from {{ source('speed', stream ~ '_latest') }}
        where _is_marker or _lane_epoch <> __EPOCH__ or _ab_cdc_commit_lsn > __WATERMARK__
{%- endmacro %}

{# Silver at the pinned snapshot alone: what the batch lane knows. #}
{% macro serving_batch(stream) -%}
select
    {% for name, expression in typed_columns(stream) -%}
    {{ name }}{{ ',' if not loop.last }}
    {% endfor -%}
    /*extra*/
from {{ ref(stream) }} at snapshot '__SNAPSHOT__'
{%- endmacro %}

{# The newest change of each key since W, tombstones included and marked. #}
{% macro serving_speed(stream) -%}
select
    {% for name, expression in typed_columns(stream) -%}
    {{ name }},
    {% endfor -%}
    _is_deleted
    /*extra*/
from (
        {{ speed_rows(stream) }}
) as v
where _is_change
{%- endmacro %}

{% materialization serving_view, adapter='dremio' %}
  {{ exceptions.raise_compiler_error(model.name ~ ': serving views pin what a run has built; the DAG publishes them') }}
{% endmaterialization %}
