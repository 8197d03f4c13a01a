{# What gold sums up: every good line with its order and product. A view, so that gold models share one definition. #}
{{ config(materialized='view', schema='build', meta={'publish': false}) }}

select
    i.order_item_id,
    i.order_id,
    o.household_id,
    o.store_id,
    o.ordered_at,
    cast(o.ordered_at as date) as order_date,
    cast(date_trunc('MONTH', o.ordered_at) as date) as order_month,
    i.product_id,
    coalesce(p.department, 'UNKNOWN') as department,
    coalesce(p.product_category, 'UNKNOWN') as product_category,
    coalesce(p.brand, 'UNKNOWN') as brand,
    i.quantity,
    i.units,
    i.sales_value,
    i.retail_disc,
    i.coupon_disc,
    i.coupon_match_disc,
    i.list_value,
    -- Each version of a row has its own number: the log's position, or the sync where only that is known.
    coalesce(i._commit_lsn, i._sync_id) + coalesce(o._commit_lsn, o._sync_id)
    + coalesce(p._commit_lsn, p._sync_id, 0) as _sync_ids
from {{ ref('order_items') }} as i
inner join {{ ref('orders') }} as o on i.order_id = o.order_id and o._quarantine_reason is null
left join {{ ref('products') }} as p on i.product_id = p.product_id and p._quarantine_reason is null
where i._quarantine_reason is null
