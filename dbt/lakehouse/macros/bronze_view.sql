{#
  Rows of one stream that count: of syncs that the ledger calls succeeded, and, for a full refresh, of the newest
  generation among those. A promoted folder shows every file, also those of failed, cancelled and running syncs.
  `connection` is the Airbyte connection's name, as the ledger and include/pipelines have it; `pipeline` the source's.
#}
{% macro bronze_view(stream, connection, columns, full_refresh=false, pipeline='retail') -%}
{%- set counted -%}
    select sync.job_id
    from {{ source('ledger', 'sync_ledger') }} as sync
    where sync.connection = '{{ connection }}' and sync.status = 'succeeded'
{%- endset -%}
select
    {% for column in columns -%}
    b."{{ column }}",
    {% endfor -%}
    b."_airbyte_raw_id",
    b."_airbyte_extracted_at",
    b."_airbyte_generation_id",
    b."_airbyte_meta"['sync_id'] as "_sync_id",
    cast(null as bigint) as "_ab_cdc_commit_lsn"
from {{ source(pipeline, stream) }} as b
where
    b."_airbyte_meta"['sync_id'] in (
    {{ counted }}
    )
    {%- if full_refresh %}
    and b."_airbyte_generation_id" = (
        select max(g."_airbyte_generation_id")
        from {{ source(pipeline, stream) }} as g
        where g."_airbyte_meta"['sync_id'] in (
    {{ counted }}
        )
    )
    {%- endif %}
{%- endmacro %}
