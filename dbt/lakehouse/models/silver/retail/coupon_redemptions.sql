{{ config(materialized='lake_merge', unique_key=['redemption_id'],
          meta={'changes': 'coupon_redemptions', 'business_time': 'redeemed_on'}) }}

{% set rules = [
    {'code': 'unknown_household', 'when': 'known_household_id is null', 'points': 20, 'quarantine': true},
    {'code': 'unknown_campaign', 'when': 'known_campaign_id is null', 'points': 20, 'quarantine': true},
    {'code': 'future_time', 'when': 'redeemed_on > cast(_airbyte_extracted_at as date)', 'points': 15,
        'quarantine': true},
    {'code': 'unknown_coupon', 'when': 'known_coupon_upc is null', 'points': 20},
    {'code': 'untargeted_household', 'when': 'targeted_household_id is null', 'points': 15},
    {'code': 'outside_campaign', 'when': 'redeemed_on < start_date or redeemed_on > end_date', 'points': 15},
] %}

with newest as (
    {{ newest_versions(
        ref('retail_coupon_redemptions'), key=['redemption_id'], cursor='updated_at', business_time='redeemed_on',
        recheck="_quality_issues like '%unknown_%' or _quality_issues like '%untargeted_%'",
        stream='coupon_redemptions'
    ) }}
),

typed as (
    select
        {{- typed_list('coupon_redemptions') }}
        {{- extra_columns('coupon_redemptions') }}
        _airbyte_extracted_at,
        _sync_id,
        _ab_cdc_commit_lsn
    from newest
),

known_coupons as (
    select distinct
        coupon_upc,
        campaign_id
    from {{ ref('coupons') }}
    where _quarantine_reason is null
),

judged as (
    select
        n.*,
        h.household_id as known_household_id,
        c.campaign_id as known_campaign_id,
        c.start_date,
        c.end_date,
        k.coupon_upc as known_coupon_upc,
        t.household_id as targeted_household_id
    from typed as n
    left join {{ ref('households') }} as h on n.household_id = h.household_id and h._quarantine_reason is null
    left join {{ ref('campaigns') }} as c on n.campaign_id = c.campaign_id and c._quarantine_reason is null
    left join known_coupons as k on n.coupon_upc = k.coupon_upc and n.campaign_id = k.campaign_id
    left join {{ ref('campaign_households') }} as t
        on n.campaign_id = t.campaign_id and n.household_id = t.household_id and t._quarantine_reason is null
)

select
    redemption_id,
    household_id,
    coupon_upc,
    campaign_id,
    redeemed_on,
    created_at,
    updated_at,
    {{- extra_columns('coupon_redemptions') }}
    {{ quality(rules) }},
    _sync_id,
    _ab_cdc_commit_lsn as _commit_lsn
from judged
