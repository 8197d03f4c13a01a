{# The table stands and is to be changed, not rebuilt. Unit tests override it. #}
{% macro is_lake_built() -%}
  {{ return(execute and load_cached_relation(this) is not none and not is_full_rebuild()) }}
{%- endmacro %}

{#
  One row per key: the newest version in bronze, by cursor, then sync, then time of extraction. Delivery is at least
  once, so a version may stand there twice; whichever is taken, the row is the same.

  All keys when `whole` (a lake_replace model) or when the table is built for the first time or anew. Later only
  - those of syncs above the newest that silver has seen; a version older than silver's own never wins,
  - those for which `recheck` holds in silver: their judgement hangs on other entities,
  - in a backfill those whose business time lies in the interval, in any version.
  The last two are recomputed from all of their versions.

  `stream`: its changes are captured. In mode unified the log decides (macros/fold.sql). In mode batch, once the log has
  been folded, only cursor rows that silver lacks are merged: recomputing from cursor rows would let versions and
  deletes that only the log knew come back. A full rebuild is refused there (lake_merge).
#}
{% macro newest_versions(bronze, key, cursor, business_time=none, recheck=none, whole=false, stream=none) -%}
  {%- if is_unified(stream) -%}
    {{ folded_versions(stream, key, business_time, recheck) }}
  {%- elif is_fallen_back(stream) -%}
    {{ newer_than_silver(unfolded_rows(bronze, key, stream), key, cursor) }}
  {%- elif whole or not is_lake_built() -%}
    {{ all_newest_versions(bronze, key, cursor) }}
  {%- else -%}
    {%- set silver = silver_state(bronze, recheck) -%}
    {%- set interval = business_time is not none and is_backfill() -%}
    {%- if silver.rechecks > 0 or interval -%}
      {{ affected_newest_versions(bronze, key, cursor, silver.newest, business_time if interval else none, recheck) }}
    {%- else -%}
      {%- if silver.is_idle -%}
    /* idle */
      {% endif -%}
      {{ newer_than_silver(rows_above(bronze, silver.newest), key, cursor) }}
    {%- endif -%}
  {%- endif -%}
{%- endmacro %}

{# In one query, while the model is compiled: the newest sync that silver has, whether bronze has newer ones, how many
   rows to judge again, and whether the table has every column that the model documents. #}
{% macro silver_state(bronze, recheck) -%}
  {%- set newest = 'select coalesce(max(_sync_id), 0) from ' ~ this -%}
  {%- set query -%}
    select
      ({{ newest }}) as newest,
      (select count(*) from (
        select 1 as one from {{ bronze }} where _sync_id > ({{ newest }}) limit 1
      ) as fresh) as fresh_rows,
      {% if recheck is none -%} 0 {%- else -%} (select count(*) from {{ this }} where {{ recheck }}) {%- endif %} as rechecks,
      (select count(*) from information_schema.columns
        where table_schema = '{{ this.database }}.{{ this.schema }}' and table_name = '{{ this.identifier }}'
          and column_name in ('{{ model.columns | join("', '") }}')) as column_count
  {%- endset -%}
  {%- set row = run_query(query).rows[0] -%}
  {{ return({
    'newest': row[0] | int,
    'rechecks': row[2] | int,
    'is_idle': row[1] | int == 0 and row[3] | int == model.columns | length
  }) }}
{%- endmacro %}

{% macro newest_first(key, cursor) -%}
        row_number() over (
            partition by {% for k in key %}b.{{ k }}{{ ', ' if not loop.last }}{% endfor %}
            order by b.{{ cursor }} desc, b._sync_id desc, b._airbyte_extracted_at desc, b._airbyte_raw_id desc
        ) as _version
{%- endmacro %}

{# Most keys have one version: only those with more go through the window. #}
{% macro all_newest_versions(bronze, key, cursor) -%}
    select *
    from (
        select
            b.*,
            1 as _version
        from {{ bronze }} as b
        left join (
            select {{ key | join(', ') }} from {{ bronze }} group by {{ key | join(', ') }} having count(*) > 1
        ) as r on {{ lake_key_matches(key, 'b', 'r') }}
        where r.{{ key[0] }} is null
        union all
        select
            b.*,
            {{ newest_first(key, cursor) }}
        from {{ bronze }} as b
        inner join (
            select {{ key | join(', ') }} from {{ bronze }} group by {{ key | join(', ') }} having count(*) > 1
        ) as r on {{ lake_key_matches(key, 'b', 'r') }}
    ) as versions
    where _version = 1
{%- endmacro %}

{% macro affected_newest_versions(bronze, key, cursor, newest, business_time, recheck) -%}
    select *
    from (
        select
            b.*,
            {{ newest_first(key, cursor) }}
        from {{ bronze }} as b
        inner join (
            select {{ key | join(', ') }} from {{ bronze }} where _sync_id > {{ newest }}
            {%- if business_time is not none %}
            union
            select {{ key | join(', ') }} from {{ bronze }} where {{ in_interval(business_time) }}
            {%- endif %}
            {%- if recheck is not none %}
            union
            select {{ key | join(', ') }} from {{ this }} where {{ recheck }}
            {%- endif %}
        ) as affected on {{ lake_key_matches(key, 'b', 'affected') }}
    ) as versions
    where _version = 1
{%- endmacro %}

{% macro rows_above(bronze, job) -%}
select * from {{ bronze }} where _sync_id > {{ job }}
{%- endmacro %}

{#
  Cursor rows that the pinned silver lacks: of the syncs above the folded one, and of that one, which read the source
  later than the watermark where silver stands, the keys that the log changed in between and left alive. No later sync
  delivers those again. None in a backfill: it moves nothing, and what it would recompute, cursor rows do not know.
#}
{% macro unfolded_rows(bronze, key, stream) -%}
  {%- set fold = fold_of(stream) -%}
  {%- if is_backfill() -%}
        select * from {{ bronze }} where 1 = 0
  {%- else -%}
        {{ rows_above(bronze, fold.from_job) }}
            union all
            select f.*
            from {{ bronze }} as f
            inner join (
            {{ keys_in_log(stream, key, above=fold.watermark) }}
            ) as alive on {{ lake_key_matches(key, 'f', 'alive') }}
            where f._sync_id = {{ fold.from_job }}
  {%- endif -%}
{%- endmacro %}

{# The newest of the given rows of each key, unless silver's own is newer. #}
{% macro newer_than_silver(rows, key, cursor) -%}
    select v.*
    from (
        select
            b.*,
            {{ newest_first(key, cursor) }}
        from (
            {{ rows }}
        ) as b
    ) as v
    left join {{ this }} as t on {{ lake_key_matches(key, 'v', 't') }}
    where v._version = 1 and (t.{{ key[0] }} is null or t.{{ cursor }} <= v.{{ cursor }})
{%- endmacro %}
