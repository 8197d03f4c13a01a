{{ config(
    materialized='lake_merge',
    unique_key=['promotion_id'],
    partition_by=['month(week_start)'],
    meta={'business_time': 'week_start'}
) }}

{% set displays = {
    '0': 'NOT ON DISPLAY', '1': 'STORE FRONT', '2': 'STORE REAR', '3': 'FRONT END CAP', '4': 'MID-AISLE END CAP',
    '5': 'REAR END CAP', '6': 'SIDE-AISLE END CAP', '7': 'IN-AISLE', '9': 'SECONDARY LOCATION', 'A': 'IN-SHELF'
} %}
{% set mailers = {
    '0': 'NOT IN MAILER', 'A': 'INTERIOR PAGE FEATURE', 'C': 'INTERIOR PAGE LINE ITEM', 'D': 'FRONT PAGE FEATURE',
    'F': 'BACK PAGE FEATURE', 'H': 'WRAP FRONT FEATURE', 'J': 'WRAP INTERIOR COUPON', 'L': 'WRAP BACK FEATURE',
    'P': 'INTERIOR PAGE COUPON', 'X': 'FREE ON INTERIOR PAGE', 'Z': 'FREE ON FRONT PAGE, BACK PAGE OR WRAP'
} %}
{% set rules = [
    {'code': 'unknown_display', 'when': 'display_name is null', 'points': 20, 'quarantine': true},
    {'code': 'unknown_mailer', 'when': 'mailer_name is null', 'points': 20, 'quarantine': true},
    {'code': 'implausible_week', 'when': 'sales_week < 1 or sales_week > 53', 'points': 15, 'quarantine': true},
    {'code': 'unknown_product', 'when': 'known_product_id is null', 'points': 20},
    {'code': 'unknown_store', 'when': 'known_store_id is null', 'points': 20},
] %}

with newest as (
    {{ newest_versions(
        ref('retail_promotions'), key=['promotion_id'], cursor='updated_at', business_time='week_start',
        recheck="_quality_issues like '%unknown_product%' or _quality_issues like '%unknown_store%'"
    ) }}
),

typed as (
    select
        cast(promotion_id as bigint) as promotion_id,
        cast(product_id as bigint) as product_id,
        cast(store_id as bigint) as store_id,
        cast("week" as integer) as sales_week,
        cast(week_start as date) as week_start,
        {{ standard_text('display_location') }} as display_location,
        {{ standard_text('mailer_location') }} as mailer_location,
        created_at,
        updated_at,
        _sync_id
    from newest
),

named as (
    select
        t.*,
        case t.display_location
            {% for code, name in displays.items() -%}
            when '{{ code }}' then '{{ name }}'
            {% endfor %}
        end as display_name,
        case t.mailer_location
            {% for code, name in mailers.items() -%}
            when '{{ code }}' then '{{ name }}'
            {% endfor %}
        end as mailer_name
    from typed as t
),

judged as (
    select
        n.*,
        p.product_id as known_product_id,
        s.store_id as known_store_id
    from named as n
    left join {{ ref('products') }} as p on n.product_id = p.product_id and p._quarantine_reason is null
    left join {{ ref('stores') }} as s on n.store_id = s.store_id and s._quarantine_reason is null
)

select
    promotion_id,
    product_id,
    store_id,
    sales_week,
    week_start,
    display_location,
    display_name,
    display_location <> '0' as is_on_display,
    mailer_location,
    mailer_name,
    mailer_location <> '0' as is_in_mailer,
    created_at,
    updated_at,
    {{ quality(rules) }},
    _sync_id
from judged
