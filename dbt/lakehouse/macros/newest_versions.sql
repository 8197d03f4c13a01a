{# The table stands and is to be changed, not rebuilt. Unit tests override it. #}
{% macro is_lake_built() -%}
  {{ return(execute and load_cached_relation(this) is not none and not is_full_rebuild()) }}
{%- endmacro %}

{#
  One row per key: the newest version in bronze, by cursor, then sync, then time of extraction. Delivery is at least
  once, so a version may stand there twice; whichever is taken, the row is the same.

  All keys when `whole` (a lake_replace model) or when the table is built for the first time. Later only the affected
  ones, each recomputed from all of its versions, so an older one that arrives late never wins. Affected are the keys
  - of rows of syncs above the newest that silver has seen,
  - in a backfill also those whose business time lies in the interval, in any version,
  - and those for which `recheck` holds in silver: their judgement hangs on other entities.
#}
{% macro newest_versions(bronze, key, cursor, business_time=none, recheck=none, whole=false) -%}
select *
from (
    select
        b.*,
        row_number() over (
            partition by {% for k in key %}b.{{ k }}{{ ', ' if not loop.last }}{% endfor %}
            order by b.{{ cursor }} desc, b._sync_id desc, b._airbyte_extracted_at desc, b._airbyte_raw_id desc
        ) as _version
    from {{ bronze }} as b
    {%- if is_lake_built() and not whole %}
    inner join (
        select {{ key | join(', ') }} from {{ bronze }}
        where _sync_id > (select coalesce(max(_sync_id), 0) from {{ this }})
        {%- if business_time is not none and is_backfill() %}
        union
        select {{ key | join(', ') }} from {{ bronze }} where {{ in_interval(business_time) }}
        {%- endif %}
        {%- if recheck is not none %}
        union
        select {{ key | join(', ') }} from {{ this }} where {{ recheck }}
        {%- endif %}
    ) as affected
        on {% for k in key %}b.{{ k }} = affected.{{ k }}{{ ' and ' if not loop.last }}{% endfor %}
    {%- endif %}
) as versions
where _version = 1
{%- endmacro %}
