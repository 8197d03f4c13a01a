{{ config(materialized='lake_merge', unique_key=['order_id'],
          meta={'changes': 'orders', 'business_time': 'ordered_at'}) }}

{% set rules = [
    {'code': 'missing_household', 'when': 'household_id is null', 'points': 20, 'quarantine': true},
    {'code': 'unknown_household', 'when': 'household_id is not null and known_household_id is null', 'points': 20,
        'quarantine': true},
    {'code': 'missing_time', 'when': 'ordered_at is null', 'points': 15, 'quarantine': true},
    {'code': 'future_time', 'when': 'ordered_at > _airbyte_extracted_at', 'points': 15, 'quarantine': true},
    {'code': 'missing_store', 'when': 'store_id is null', 'points': 15},
    {'code': 'unknown_store', 'when': 'store_id is not null and known_store_id is null', 'points': 15},
] %}

with newest as (
    {{ newest_versions(
        ref('retail_orders'), key=['order_id'], cursor='updated_at', business_time='ordered_at',
        recheck="_quality_issues like '%unknown_%'",
        stream='orders'
    ) }}
),

typed as (
    select
        {{- typed_list('orders') }}
        {{- extra_columns('orders') }}
        _airbyte_extracted_at,
        _sync_id,
        _ab_cdc_commit_lsn
    from newest
),

judged as (
    select
        o.*,
        h.household_id as known_household_id,
        s.store_id as known_store_id
    from typed as o
    left join {{ ref('households') }} as h on o.household_id = h.household_id and h._quarantine_reason is null
    left join {{ ref('stores') }} as s on o.store_id = s.store_id and s._quarantine_reason is null
)

select
    order_id,
    household_id,
    store_id,
    ordered_at,
    cast(ordered_at as date) as order_date,
    created_at,
    updated_at,
    {{- extra_columns('orders') }}
    {{ quality(rules) }},
    _sync_id,
    _ab_cdc_commit_lsn as _commit_lsn
from judged
