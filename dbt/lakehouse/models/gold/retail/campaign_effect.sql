{{ config(materialized='lake_replace', unique_key=['campaign_id']) }}

with household_days as (
    select
        household_id,
        order_date,
        count(distinct order_id) as orders,
        sum(sales_value) as revenue
    from {{ ref('sales_lines') }}
    group by household_id, order_date
),

observed as (
    select
        min(order_date) as first_date,
        max(order_date) as last_date
    from household_days
),

targeted as (
    select
        c.campaign_id,
        c.campaign_type,
        c.start_date,
        c.end_date,
        c.duration_days,
        t.household_id
    from {{ ref('campaigns') }} as c
    left join {{ ref('campaign_households') }} as t on c.campaign_id = t.campaign_id and t._quarantine_reason is null
    where c._quarantine_reason is null
),

{# Days from the campaign's start: 0 to duration - 1 lie in it, -duration to -1 in the window before it. #}
spending as (
    select
        t.campaign_id,
        t.household_id,
        d.orders,
        d.revenue,
        timestampdiff(day, t.start_date, d.order_date) as campaign_day,
        t.duration_days
    from targeted as t
    inner join household_days as d on t.household_id = d.household_id
),

windows as (
    select
        campaign_id,
        sum(case when campaign_day >= 0 and campaign_day < duration_days then revenue else 0 end) as revenue_during,
        sum(case when campaign_day < 0 and campaign_day >= -duration_days then revenue else 0 end) as revenue_before,
        sum(case when campaign_day >= 0 and campaign_day < duration_days then orders else 0 end) as orders_during,
        sum(case when campaign_day < 0 and campaign_day >= -duration_days then orders else 0 end) as orders_before
    from spending
    group by campaign_id
),

campaigns as (
    select
        campaign_id,
        campaign_type,
        start_date,
        end_date,
        duration_days,
        count(household_id) as targeted_households
    from targeted
    group by campaign_id, campaign_type, start_date, end_date, duration_days
),

redemptions as (
    select
        campaign_id,
        count(*) as redemptions,
        count(distinct household_id) as redeeming_households,
        count(distinct coupon_upc) as redeemed_coupons
    from {{ ref('coupon_redemptions') }}
    where _quarantine_reason is null
    group by campaign_id
)

select
    c.campaign_id,
    c.campaign_type,
    c.start_date,
    c.end_date,
    c.duration_days,
    c.targeted_households,
    coalesce(r.redemptions, 0) as redemptions,
    coalesce(r.redeemed_coupons, 0) as redeemed_coupons,
    coalesce(r.redeeming_households, 0) as redeeming_households,
    cast(
        cast(coalesce(r.redeeming_households, 0) as double) / nullif(c.targeted_households, 0) as decimal(9, 6)
    ) as redemption_rate,
    cast(coalesce(w.orders_before, 0) as bigint) as orders_before,
    cast(coalesce(w.orders_during, 0) as bigint) as orders_during,
    cast(coalesce(w.revenue_before, 0) as decimal(18, 2)) as revenue_before,
    cast(coalesce(w.revenue_during, 0) as decimal(18, 2)) as revenue_during,
    cast(
        cast(w.revenue_during as double) / nullif(cast(w.revenue_before as double), 0) - 1 as decimal(12, 6)
    ) as revenue_uplift,
    timestampdiff(day, o.first_date, c.start_date) >= c.duration_days and c.end_date <= o.last_date as is_observed
from campaigns as c
cross join observed as o
left join windows as w on c.campaign_id = w.campaign_id
left join redemptions as r on c.campaign_id = r.campaign_id
