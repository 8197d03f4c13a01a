{{ config(
    materialized='lake_merge',
    unique_key=['order_item_id'],
    partition_by=['month(ordered_at)'],
    meta={'changes': 'order_items', 'business_time': 'ordered_at'}
) }}

{% set nothing_sold = 'quantity = 0 and sales_value = 0' %}
{% set discounted = '(retail_disc > 0 or coupon_disc > 0 or coupon_match_disc > 0)' %}
{% set rules = [
    {'code': 'negative_amount', 'when': 'sales_value < 0 or retail_disc < 0 or coupon_disc < 0 or coupon_match_disc < 0',
        'points': 15, 'quarantine': true},
    {'code': 'implausible_quantity', 'when': 'quantity < 0 or quantity > 100000', 'points': 20, 'quarantine': true},
    {'code': 'orphan_order', 'when': 'known_order_id is null', 'points': 20, 'quarantine': true},
    {'code': 'value_without_quantity', 'when': 'quantity = 0 and sales_value > 0', 'points': 20, 'quarantine': true},
    {'code': 'empty_line', 'when': nothing_sold ~ ' and not ' ~ discounted, 'points': 20, 'quarantine': true},
    {'code': 'future_time', 'when': 'ordered_at > _airbyte_extracted_at', 'points': 15, 'quarantine': true},
    {'code': 'discount_without_sale', 'when': nothing_sold ~ ' and ' ~ discounted, 'points': 20},
    {'code': 'unknown_product', 'when': 'known_product_id is null', 'points': 20},
    {'code': 'match_exceeds_coupon', 'when': 'coupon_match_disc > coupon_disc', 'points': 15},
    {'code': 'unexplained_free_item', 'when': 'quantity > 0 and sales_value = 0 and not ' ~ discounted, 'points': 10},
] %}

with newest as (
    {{ newest_versions(
        ref('retail_order_items'), key=['order_item_id'], cursor='updated_at', business_time='ordered_at',
        recheck="_quality_issues like '%orphan_order%' or _quality_issues like '%unknown_product%' or order_id in (
            select o.order_id from " ~ ref('orders') ~ " as o where o._quarantine_reason is not null)",
        stream='order_items'
    ) }}
),

typed as (
    select
        {{- typed_list('order_items') }}
        {{- extra_columns('order_items') }}
        _airbyte_extracted_at,
        _sync_id,
        _ab_cdc_commit_lsn
    from newest
),

judged as (
    select
        i.*,
        o.order_id as known_order_id,
        p.product_id as known_product_id
    from typed as i
    left join {{ ref('orders') }} as o on i.order_id = o.order_id and o._quarantine_reason is null
    left join {{ ref('products') }} as p on i.product_id = p.product_id and p._quarantine_reason is null
)

select
    order_item_id,
    order_id,
    line_number,
    product_id,
    quantity,
    quantity > 100 as is_measured,
    case when quantity > 100 then 1 else quantity end as units,
    sales_value,
    retail_disc,
    coupon_disc,
    coupon_match_disc,
    cast(sales_value + retail_disc + coupon_match_disc as decimal(12, 2)) as list_value,
    sales_week,
    ordered_at,
    created_at,
    updated_at,
    {{- extra_columns('order_items') }}
    {{ quality(rules) }},
    _sync_id,
    _ab_cdc_commit_lsn as _commit_lsn
from judged
