{{ config(
    materialized='lake_replace',
    unique_key=['activity_date', 'stream_name'],
    tags=['marketing']
) }}

with versions as (
    select
        cast("updated_at" as date) as activity_date,
        'products' as stream_name
    from {{ ref('marketing__products') }}
    where _quarantine_reason is null
    union all
    select
        cast("updated_at" as date) as activity_date,
        'users' as stream_name
    from {{ ref('marketing__users') }}
    where _quarantine_reason is null
    union all
    select
        cast("updated_at" as date) as activity_date,
        'purchases' as stream_name
    from {{ ref('marketing__purchases') }}
    where _quarantine_reason is null
)

select
    activity_date,
    stream_name,
    count(*) as stored_rows
from versions
group by activity_date, stream_name
