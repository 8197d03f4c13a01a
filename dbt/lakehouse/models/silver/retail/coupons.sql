{{ config(materialized='lake_merge', unique_key=['coupon_upc', 'product_id', 'campaign_id']) }}

{% set rules = [
    {'code': 'unknown_campaign', 'when': 'known_campaign_id is null', 'points': 20, 'quarantine': true},
    {'code': 'unknown_product', 'when': 'known_product_id is null', 'points': 20},
] %}

with newest as (
    {{ newest_versions(
        ref('retail_coupons'), key=['coupon_upc', 'product_id', 'campaign_id'], cursor='updated_at',
        recheck="_quality_issues like '%unknown_%'"
    ) }}
),

judged as (
    select
        cast(n.coupon_upc as bigint) as coupon_upc,
        cast(n.product_id as bigint) as product_id,
        cast(n.campaign_id as bigint) as campaign_id,
        n.created_at,
        n.updated_at,
        n._sync_id,
        c.campaign_id as known_campaign_id,
        p.product_id as known_product_id
    from newest as n
    left join {{ ref('campaigns') }} as c on n.campaign_id = c.campaign_id and c._quarantine_reason is null
    left join {{ ref('products') }} as p on n.product_id = p.product_id and p._quarantine_reason is null
)

select
    coupon_upc,
    product_id,
    campaign_id,
    created_at,
    updated_at,
    {{ quality(rules) }},
    _sync_id
from judged
