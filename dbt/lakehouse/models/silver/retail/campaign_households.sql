{{ config(materialized='lake_merge', unique_key=['campaign_id', 'household_id'],
          meta={'changes': 'campaign_households'}) }}

{% set rules = [
    {'code': 'unknown_campaign', 'when': 'known_campaign_id is null', 'points': 20, 'quarantine': true},
    {'code': 'unknown_household', 'when': 'known_household_id is null', 'points': 20, 'quarantine': true},
] %}

with newest as (
    {{ newest_versions(
        ref('retail_campaign_households'), key=['campaign_id', 'household_id'], cursor='updated_at',
        recheck="_quality_issues like '%unknown_%'",
        stream='campaign_households'
    ) }}
),

typed as (
    select
        {{- typed_list('campaign_households') }}
        {{- extra_columns('campaign_households') }}
        _sync_id,
        _ab_cdc_commit_lsn
    from newest
),

judged as (
    select
        n.*,
        c.campaign_id as known_campaign_id,
        h.household_id as known_household_id
    from typed as n
    left join {{ ref('campaigns') }} as c on n.campaign_id = c.campaign_id and c._quarantine_reason is null
    left join {{ ref('households') }} as h on n.household_id = h.household_id and h._quarantine_reason is null
)

select
    campaign_id,
    household_id,
    created_at,
    updated_at,
    {{- extra_columns('campaign_households') }}
    {{ quality(rules) }},
    _sync_id,
    _ab_cdc_commit_lsn as _commit_lsn
from judged
