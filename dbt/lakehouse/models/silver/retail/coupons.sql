{{ config(materialized='lake_merge', unique_key=['coupon_upc', 'product_id', 'campaign_id'],
          meta={'changes': 'coupons'}) }}

{% set rules = [
    {'code': 'unknown_campaign', 'when': 'known_campaign_id is null', 'points': 20, 'quarantine': true},
    {'code': 'unknown_product', 'when': 'known_product_id is null', 'points': 20},
] %}

with newest as (
    {{ newest_versions(
        ref('retail_coupons'), key=['coupon_upc', 'product_id', 'campaign_id'], cursor='updated_at',
        recheck="_quality_issues like '%unknown_%'",
        stream='coupons'
    ) }}
),

typed as (
    select
        {{- typed_list('coupons') }}
        {{- extra_columns('coupons') }}
        _sync_id,
        _ab_cdc_commit_lsn
    from newest
),

judged as (
    select
        n.*,
        c.campaign_id as known_campaign_id,
        p.product_id as known_product_id
    from typed as n
    left join {{ ref('campaigns') }} as c on n.campaign_id = c.campaign_id and c._quarantine_reason is null
    left join {{ ref('products') }} as p on n.product_id = p.product_id and p._quarantine_reason is null
)

select
    coupon_upc,
    product_id,
    campaign_id,
    created_at,
    updated_at,
    {{- extra_columns('coupons') }}
    {{ quality(rules) }},
    _sync_id,
    _ab_cdc_commit_lsn as _commit_lsn
from judged
