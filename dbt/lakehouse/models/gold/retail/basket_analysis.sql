{{ config(
    materialized='lake_partitions',
    unique_key=['order_month', 'category_a', 'category_b'],
    meta={'period': 'order_month', 'period_unit': 'month', 'lines': 'sales_lines'}
) }}

with lines as (
    select * from {{ ref('sales_lines') }}
    where {{ in_periods() }}
),

periods as (
    select
        order_month,
        count(distinct order_id) as baskets,
        {{ period_fingerprint() }} as _fingerprint
    from lines
    group by order_month
),

basket_categories as (
    select distinct
        order_month,
        order_id,
        product_category
    from lines
    where product_category <> 'UNKNOWN' and department <> 'COUPON' and product_category <> 'COUPON/MISC ITEMS'
),

categories as (
    select
        order_month,
        product_category,
        count(*) as baskets
    from basket_categories
    group by order_month, product_category
),

{# A pair is no more frequent than its rarer half: leaving rare categories out first loses no pair that counts. #}
frequent as (
    select
        b.order_month,
        b.order_id,
        b.product_category
    from basket_categories as b
    inner join categories as c on b.order_month = c.order_month and b.product_category = c.product_category
    inner join periods as p on b.order_month = p.order_month
    where
        c.baskets >= {{ var('basket_min_baskets') }}
        and c.baskets >= {{ var('basket_min_support') }} * p.baskets
),

pairs as (
    select
        a.order_month,
        a.product_category as category_a,
        b.product_category as category_b,
        count(*) as baskets_both
    from frequent as a
    inner join frequent as b
        on
            a.order_month = b.order_month
            and a.order_id = b.order_id
            and a.product_category < b.product_category
    group by a.order_month, a.product_category, b.product_category
)

select
    x.order_month,
    x.category_a,
    x.category_b,
    p.baskets as baskets_total,
    a.baskets as baskets_a,
    b.baskets as baskets_b,
    x.baskets_both,
    cast(cast(x.baskets_both as double) / p.baskets as decimal(9, 6)) as support,
    cast(cast(x.baskets_both as double) / a.baskets as decimal(9, 6)) as confidence_a_to_b,
    cast(cast(x.baskets_both as double) / b.baskets as decimal(9, 6)) as confidence_b_to_a,
    cast(cast(x.baskets_both as double) * p.baskets / (cast(a.baskets as double) * b.baskets) as decimal(12, 6))
        as lift,
    p._fingerprint
from pairs as x
inner join periods as p on x.order_month = p.order_month
inner join categories as a on x.order_month = a.order_month and x.category_a = a.product_category
inner join categories as b on x.order_month = b.order_month and x.category_b = b.product_category
where
    x.baskets_both >= {{ var('basket_min_baskets') }}
    and x.baskets_both >= {{ var('basket_min_support') }} * p.baskets
