{{ config(materialized='lake_replace', unique_key=['department', 'promotion_kind', 'placement']) }}

{# A selling week: a product in a store in a week in which it sold there. Weeks without a sale are in no source. #}
with promoted as (
    select
        product_id,
        store_id,
        week_start,
        max(case when is_on_display then display_name end) as display_name,
        max(case when is_in_mailer then mailer_name end) as mailer_name
    from {{ ref('promotions') }}
    where _quarantine_reason is null
    group by product_id, store_id, week_start
),

calendar as (
    select distinct week_start from promoted
),

selling_weeks as (
    select
        l.department,
        l.product_id,
        l.store_id,
        w.week_start,
        sum(l.units) as units,
        sum(l.sales_value) as revenue
    from {{ ref('sales_lines') }} as l
    inner join calendar as w on timestampdiff(day, w.week_start, l.order_date) between 0 and 6
    group by l.department, l.product_id, l.store_id, w.week_start
),

placed as (
    select
        s.department,
        s.units,
        s.revenue,
        p.display_name,
        p.mailer_name
    from selling_weeks as s
    left join promoted as p
        on s.product_id = p.product_id and s.store_id = p.store_id and s.week_start = p.week_start
),

plain as (
    select
        department,
        count(*) as plain_weeks,
        sum(units) as plain_units,
        sum(revenue) as plain_revenue
    from placed
    where display_name is null and mailer_name is null
    group by department
),

kinds as (
    select
        department,
        'DISPLAY' as promotion_kind,
        display_name as placement,
        units,
        revenue
    from placed
    where display_name is not null
    union all
    select
        department,
        'MAILER' as promotion_kind,
        mailer_name as placement,
        units,
        revenue
    from placed
    where mailer_name is not null
),

lifted as (
    select
        department,
        promotion_kind,
        placement,
        count(*) as promoted_weeks,
        sum(units) as promoted_units,
        sum(revenue) as promoted_revenue
    from kinds
    group by department, promotion_kind, placement
)

select
    l.department,
    l.promotion_kind,
    l.placement,
    l.promoted_weeks,
    cast(l.promoted_units as bigint) as promoted_units,
    cast(l.promoted_revenue as decimal(18, 2)) as promoted_revenue,
    p.plain_weeks,
    cast(p.plain_units as bigint) as plain_units,
    cast(p.plain_revenue as decimal(18, 2)) as plain_revenue,
    cast(
        (cast(l.promoted_units as double) / l.promoted_weeks) / (cast(p.plain_units as double) / p.plain_weeks)
        as decimal(12, 6)
    ) as unit_lift
from lifted as l
inner join plain as p on l.department = p.department
where p.plain_units > 0
