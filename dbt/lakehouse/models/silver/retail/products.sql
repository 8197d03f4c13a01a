{{ config(materialized='lake_merge', unique_key=['product_id'], meta={'changes': 'products'}) }}

{% set rules = [
    {'code': 'missing_department', 'when': 'department is null', 'points': 20},
    {'code': 'missing_category', 'when': 'product_category is null', 'points': 15},
    {'code': 'missing_type', 'when': 'product_type is null', 'points': 10},
    {'code': 'missing_brand', 'when': 'brand is null', 'points': 10},
] %}

with newest as (
    {{ newest_versions(ref('retail_products'), key=['product_id'], cursor='updated_at', stream='products') }}
),

typed as (
    select
        {{- typed_list('products') }}
        {{- extra_columns('products') }}
        _sync_id,
        _ab_cdc_commit_lsn
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
    {{- extra_columns('products') }}
    {{ quality(rules) }},
    _sync_id,
    _ab_cdc_commit_lsn as _commit_lsn
from typed
