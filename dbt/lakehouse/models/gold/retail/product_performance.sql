{{ config(
    materialized='lake_partitions',
    unique_key=['order_month', 'product_id'],
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

products as (
    select
        order_month,
        product_id,
        department,
        product_category,
        brand,
        count(distinct order_id) as orders,
        count(distinct household_id) as households,
        count(distinct store_id) as stores,
        cast(sum(units) as bigint) as units,
        cast(sum(list_value) as decimal(18, 2)) as list_value,
        cast(sum(list_value - sales_value) as decimal(18, 2)) as discount,
        cast(sum(sales_value) as decimal(18, 2)) as revenue
    from lines
    group by order_month, product_id, department, product_category, brand
)

select
    m.order_month,
    m.product_id,
    m.department,
    m.product_category,
    m.brand,
    m.orders,
    m.households,
    m.stores,
    m.units,
    m.list_value,
    m.discount,
    m.revenue,
    row_number() over (partition by m.order_month order by m.revenue desc, m.product_id asc) as revenue_rank,
    row_number() over (
        partition by m.order_month, m.department order by m.revenue desc, m.product_id asc
    ) as department_rank,
    p._fingerprint
from products as m
inner join periods as p on m.order_month = p.order_month
