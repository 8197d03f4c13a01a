{{ config(materialized='lake_replace', unique_key=['store_id']) }}

with newest as (
    {{ newest_versions(ref('retail_stores'), key=['store_id'], cursor='updated_at', whole=true) }}
)

select
    cast(store_id as bigint) as store_id,
    created_at,
    updated_at,
    {{ quality([]) }},
    _sync_id
from newest
