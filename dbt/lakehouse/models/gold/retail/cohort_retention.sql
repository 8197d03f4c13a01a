{{ config(materialized='lake_replace', unique_key=['cohort_month', 'month_number']) }}

with months as (
    select
        household_id,
        order_month,
        sum(sales_value) as revenue
    from {{ ref('sales_lines') }}
    group by household_id, order_month
),

firsts as (
    select
        household_id,
        min(order_month) as cohort_month
    from months
    group by household_id
),

cohorts as (
    select
        cohort_month,
        count(*) as cohort_households
    from firsts
    group by cohort_month
),

active as (
    select
        f.cohort_month,
        m.order_month,
        count(*) as active_households,
        sum(m.revenue) as revenue
    from firsts as f
    inner join months as m on f.household_id = m.household_id
    group by f.cohort_month, m.order_month
)

select
    a.cohort_month,
    cast(timestampdiff(month, a.cohort_month, a.order_month) as integer) as month_number,
    a.order_month,
    c.cohort_households,
    a.active_households,
    cast(cast(a.active_households as double) / c.cohort_households as decimal(9, 6)) as retention,
    cast(a.revenue as decimal(18, 2)) as revenue
from active as a
inner join cohorts as c on a.cohort_month = c.cohort_month
