{{ config(materialized='lake_merge', unique_key=['household_id'], meta={'changes': 'households'}) }}

{% set known = [
    'age_range', 'income_range', 'home_ownership', 'marital_status', 'household_size', 'household_composition',
    'kids_count'
] %}
{% set none_known = 'coalesce(' ~ known | join(', ') ~ ') is null' %}
{% set some_unknown = '(' ~ known | join(' is null or ') ~ ' is null)' %}
{% set rules = [
    {'code': 'no_demographics', 'when': none_known, 'points': 20},
    {'code': 'partial_demographics', 'when': some_unknown ~ ' and not (' ~ none_known ~ ')', 'points': 5},
] %}

with newest as (
    {{ newest_versions(ref('retail_households'), key=['household_id'], cursor='updated_at', stream='households') }}
),

typed as (
    select
        {{- typed_list('households') }}
        {{- extra_columns('households') }}
        _sync_id,
        _ab_cdc_commit_lsn
    from newest
)

select
    household_id,
    age_range,
    case age_range
        when '19-24' then 1 when '25-34' then 2 when '35-44' then 3
        when '45-54' then 4 when '55-64' then 5 when '65+' then 6
    end as age_rank,
    income_range,
    case income_range
        when 'UNDER 15K' then 1 when '15-24K' then 2 when '25-34K' then 3 when '35-49K' then 4
        when '50-74K' then 5 when '75-99K' then 6 when '100-124K' then 7 when '125-149K' then 8
        when '150-174K' then 9 when '175-199K' then 10 when '200-249K' then 11 when '250K+' then 12
    end as income_rank,
    home_ownership,
    marital_status,
    household_size,
    household_composition,
    kids_count,
    kids_count in ('1', '2', '3+') as has_kids,
    coalesce({{ known | join(', ') }}) is not null as has_demographics,
    created_at,
    updated_at,
    {{- extra_columns('households') }}
    {{ quality(rules) }},
    _sync_id,
    _ab_cdc_commit_lsn as _commit_lsn
from typed
