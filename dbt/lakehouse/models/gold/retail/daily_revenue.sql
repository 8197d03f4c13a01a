{{ config(
    materialized='lake_partitions',
    unique_key=['order_date', 'department'],
    meta={'period': 'order_date', 'period_unit': 'day', 'lines': 'sales_lines'}
) }}

with lines as (
    select * from {{ ref('sales_lines') }}
    where {{ in_periods() }}
),

periods as (
    select
        order_date,
        {{ period_fingerprint() }} as _fingerprint
    from lines
    group by order_date
),

departments as (
    select
        order_date,
        department,
        count(distinct order_id) as orders,
        count(distinct household_id) as households,
        count(distinct store_id) as stores,
        count(*) as order_lines,
        cast(sum(units) as bigint) as units,
        cast(sum(list_value) as decimal(18, 2)) as list_value,
        cast(sum(retail_disc) as decimal(18, 2)) as retail_discount,
        cast(sum(coupon_disc) as decimal(18, 2)) as coupon_discount,
        cast(sum(coupon_match_disc) as decimal(18, 2)) as coupon_match_discount,
        cast(sum(sales_value) as decimal(18, 2)) as revenue
    from lines
    group by order_date, department
)

select
    d.order_date,
    d.department,
    d.orders,
    d.households,
    d.stores,
    d.order_lines,
    d.units,
    d.list_value,
    d.retail_discount,
    d.coupon_discount,
    d.coupon_match_discount,
    d.revenue,
    p._fingerprint
from departments as d
inner join periods as p on d.order_date = p.order_date
