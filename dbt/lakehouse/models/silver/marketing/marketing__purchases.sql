{{ config(
    materialized='lake_merge',
    unique_key=['id'],
    tags=['marketing']
) }}

with newest as (
    {{ newest_versions(
        ref('marketing_purchases'), key=['id'], cursor='updated_at'
    ) }}
)

select
    cast("id" as bigint) as "id",
    cast("user_id" as bigint) as "user_id",
    cast("product_id" as bigint) as "product_id",
    cast("created_at" as timestamp) as "created_at",
    cast("updated_at" as timestamp) as "updated_at",
    cast("added_to_cart_at" as timestamp) as "added_to_cart_at",
    cast("purchased_at" as timestamp) as "purchased_at",
    cast("returned_at" as timestamp) as "returned_at",
    {{ quality([]) }},
    _sync_id
from newest
