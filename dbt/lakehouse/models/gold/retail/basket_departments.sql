{{ config(materialized='lake_replace', unique_key=['order_id', 'department']) }}

with parts as (
    select
        order_id,
        department,
        min(household_id) as household_id,
        min(store_id) as store_id,
        min(order_date) as order_date,
        count(*) as order_lines,
        cast(sum(units) as bigint) as units,
        cast(sum(list_value - sales_value) as decimal(18, 2)) as discount,
        cast(sum(sales_value) as decimal(18, 2)) as revenue
    from {{ ref('sales_lines') }}
    group by order_id, department
)

select
    p.order_id,
    p.department,
    p.household_id,
    p.store_id,
    p.order_date,
    coalesce(c.segment, 'UNKNOWN') as segment,
    p.order_lines,
    p.units,
    p.discount,
    p.revenue
from parts as p
left join {{ ref('customer_lifetime_value') }} as c on p.household_id = c.household_id
