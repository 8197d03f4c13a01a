{{ config(materialized='lake_merge', unique_key=['product_id']) }}

{% set rules = [
    {'code': 'missing_department', 'when': 'department is null', 'points': 20},
    {'code': 'missing_category', 'when': 'product_category is null', 'points': 15},
    {'code': 'missing_type', 'when': 'product_type is null', 'points': 10},
    {'code': 'missing_brand', 'when': 'brand is null', 'points': 10},
] %}

with newest as (
    {{ newest_versions(ref('retail_products'), key=['product_id'], cursor='updated_at') }}
),

typed as (
    select
        cast(product_id as bigint) as product_id,
        cast(manufacturer_id as bigint) as manufacturer_id,
        {{ standard_text('department') }} as department,
        {{ standard_text('brand') }} as brand,
        {{ standard_text('product_category') }} as product_category,
        {{ standard_text('product_type') }} as product_type,
        {{ standard_text('package_size') }} as package_size,
        created_at,
        updated_at,
        _sync_id
    from newest
)

select
    product_id,
    manufacturer_id,
    department,
    brand,
    brand = 'PRIVATE' as is_private_label,
    product_category,
    product_type,
    package_size,
    created_at,
    updated_at,
    {{ quality(rules) }},
    _sync_id
from typed
