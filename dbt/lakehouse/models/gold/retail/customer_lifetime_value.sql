{{ config(materialized='lake_replace', unique_key=['household_id']) }}

with newest as (
    select max(order_date) as business_date from {{ ref('sales_lines') }}
),

households as (
    select
        household_id,
        min(order_date) as first_order_date,
        max(order_date) as last_order_date,
        count(distinct order_id) as orders,
        count(distinct order_month) as active_months,
        count(distinct product_id) as products,
        cast(sum(units) as bigint) as units,
        cast(sum(list_value - sales_value) as decimal(18, 2)) as discount,
        cast(sum(sales_value) as decimal(18, 2)) as revenue
    from {{ ref('sales_lines') }}
    group by household_id
),

{# Scores 1 to 5, 5 is best. The household breaks ties, so that the same data always gives the same fifths. #}
scored as (
    select
        h.*,
        cast(timestampdiff(day, h.last_order_date, n.business_date) as integer) as recency_days,
        ntile(5) over (order by h.last_order_date, h.household_id) as recency_score,
        ntile(5) over (order by h.orders, h.household_id) as frequency_score,
        ntile(5) over (order by h.revenue, h.household_id) as monetary_score
    from households as h
    cross join newest as n
)

select
    s.household_id,
    s.first_order_date,
    s.last_order_date,
    s.recency_days,
    s.orders,
    s.active_months,
    s.products,
    s.units,
    s.discount,
    s.revenue,
    cast(cast(s.revenue as double) / s.orders as decimal(18, 2)) as average_basket,
    cast(cast(s.revenue as double) / s.active_months as decimal(18, 2)) as revenue_per_active_month,
    cast(s.recency_score as integer) as recency_score,
    cast(s.frequency_score as integer) as frequency_score,
    cast(s.monetary_score as integer) as monetary_score,
    case
        when s.recency_score >= 4 and s.frequency_score >= 4 and s.monetary_score >= 4 then 'CHAMPION'
        when s.frequency_score >= 4 and s.recency_score >= 3 then 'LOYAL'
        when s.recency_score >= 4 and s.frequency_score <= 2 then 'PROMISING'
        when s.recency_score <= 2 and s.frequency_score >= 4 then 'AT RISK'
        when s.recency_score <= 2 and s.frequency_score <= 2 then 'HIBERNATING'
        else 'REGULAR'
    end as segment,
    case
        when s.revenue >= 1000 then 'PLATINUM'
        when s.revenue >= 500 then 'GOLD'
        when s.revenue >= 100 then 'SILVER'
        else 'BRONZE'
    end as tier,
    case
        when s.recency_days <= 30 then 'ACTIVE'
        when s.recency_days <= 90 then 'AT RISK'
        else 'CHURNED'
    end as activity,
    h.age_range,
    h.income_range,
    h.household_size,
    h.has_demographics
from scored as s
left join {{ ref('households') }} as h on s.household_id = h.household_id and h._quarantine_reason is null
