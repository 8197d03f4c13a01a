{{ config(
    materialized='lake_merge',
    unique_key=['id'],
    tags=['marketing']
) }}

with newest as (
    {{ newest_versions(
        ref('marketing_products'), key=['id'], cursor='updated_at'
    ) }}
)

select
    cast("id" as bigint) as "id",
    cast("make" as varchar) as "make",
    cast("model" as varchar) as "model",
    cast("year" as bigint) as "year",
    cast("price" as double) as "price",
    cast("created_at" as timestamp) as "created_at",
    cast("updated_at" as timestamp) as "updated_at",
    {{ quality([]) }},
    _sync_id
from newest
