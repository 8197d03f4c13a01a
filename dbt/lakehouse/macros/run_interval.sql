{# Settings of a run come as --vars or, so that dbt need not parse the project anew each time, as LAKEHOUSE_<NAME>. #}
{% macro run_setting(name) -%}
  {%- set given = var(name) -%}
  {%- if execute -%}
    {%- set given = env_var('LAKEHOUSE_' ~ name | upper, '') or given -%}
  {%- endif -%}
  {{ return(given) }}
{%- endmacro %}

{% macro is_full_rebuild() -%}
  {{ return((run_setting('full_rebuild') | string | lower) in ['true', '1', 'yes'] or flags.FULL_REFRESH) }}
{%- endmacro %}

{% macro is_backfill() -%}
  {%- set mode = run_setting('run_mode') -%}
  {%- if mode not in ['scheduled', 'backfill'] -%}
    {{ exceptions.raise_compiler_error("run_mode must be 'scheduled' or 'backfill', not '" ~ mode ~ "'") }}
  {%- endif -%}
  {{ return(mode == 'backfill') }}
{%- endmacro %}

{# One end of the data interval as a UTC datetime without zone. #}
{% macro interval_end_point(name) -%}
  {%- set given = run_setting(name) -%}
  {%- if not given -%}
    {{ exceptions.raise_compiler_error("run_mode backfill needs " ~ name ~ ", an ISO 8601 time with a zone") }}
  {%- endif -%}
  {%- set point = modules.datetime.datetime.fromisoformat(given | string) -%}
  {%- if point.tzinfo is none -%}
    {{ exceptions.raise_compiler_error(name ~ " '" ~ given ~ "' has no zone; write e.g. 2017-03-01T00:00:00+00:00") }}
  {%- endif -%}
  {{ return(point.astimezone(modules.pytz.utc).replace(tzinfo=none)) }}
{%- endmacro %}

{% macro interval() -%}
  {%- set start = interval_end_point('interval_start') -%}
  {%- set end = interval_end_point('interval_end') -%}
  {%- if end <= start -%}
    {{ exceptions.raise_compiler_error("interval_end " ~ end ~ " is not after interval_start " ~ start) }}
  {%- endif -%}
  {{ return({'start': start, 'end': end}) }}
{%- endmacro %}

{# `expression` lies in [interval_start, interval_end). #}
{% macro in_interval(expression) -%}
  {%- set span = interval() -%}
  (
    cast({{ expression }} as timestamp) >= timestamp '{{ span.start.strftime('%Y-%m-%d %H:%M:%S.%f')[:-3] }}'
    and cast({{ expression }} as timestamp) < timestamp '{{ span.end.strftime('%Y-%m-%d %H:%M:%S.%f')[:-3] }}'
  )
{%- endmacro %}
