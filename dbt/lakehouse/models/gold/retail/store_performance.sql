{{ config(
    materialized='lake_partitions',
    unique_key=['order_month', 'store_id'],
    meta={'period': 'order_month', 'period_unit': 'month', 'lines': 'sales_lines'}
) }}

with lines as (
    select * from {{ ref('sales_lines') }}
    where {{ in_periods() }}
),

periods as (
    select
        order_month,
        {{ period_fingerprint() }} as _fingerprint
    from lines
    group by order_month
),

stores as (
    select
        order_month,
        store_id,
        count(distinct order_id) as orders,
        count(distinct household_id) as households,
        count(distinct product_id) as products,
        count(distinct order_date) as open_days,
        cast(sum(units) as bigint) as units,
        cast(sum(list_value - sales_value) as decimal(18, 2)) as discount,
        cast(sum(sales_value) as decimal(18, 2)) as revenue
    from lines
    group by order_month, store_id
)

select
    m.order_month,
    m.store_id,
    m.orders,
    m.households,
    m.products,
    m.open_days,
    m.units,
    m.discount,
    m.revenue,
    cast(cast(m.revenue as double) / m.orders as decimal(18, 2)) as average_basket,
    row_number() over (partition by m.order_month order by m.revenue desc, m.store_id asc) as revenue_rank,
    p._fingerprint
from stores as m
inner join periods as p on m.order_month = p.order_month
