{{ config(materialized='lake_replace', unique_key=['campaign_id']) }}

{% set rules = [
    {'code': 'missing_dates', 'when': 'start_date is null or end_date is null', 'points': 20, 'quarantine': true},
    {'code': 'reversed_dates', 'when': 'end_date < start_date', 'points': 20, 'quarantine': true},
] %}

with newest as (
    {{ newest_versions(ref('retail_campaigns'), key=['campaign_id'], cursor='updated_at', whole=true) }}
),

typed as (
    select
        cast(campaign_id as bigint) as campaign_id,
        {{ standard_text('campaign_type') }} as campaign_type,
        cast(start_date as date) as start_date,
        cast(end_date as date) as end_date,
        created_at,
        updated_at,
        _sync_id
    from newest
)

select
    campaign_id,
    campaign_type,
    start_date,
    end_date,
    cast(timestampdiff(day, start_date, end_date) + 1 as integer) as duration_days,
    created_at,
    updated_at,
    {{ quality(rules) }},
    _sync_id
from typed
