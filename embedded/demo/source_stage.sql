-- What of The Complete Journey goes into which table, as DuckDB views `stage_<table>` over the package's Parquet files.
-- Variables: data (its folder), scale (tiny, default, full), live (false: the history; true: the last four weeks, which
-- are held back as live traffic). Masters, coupons and promotions are never held back, so with live they are empty.
-- Column types are exactly those of source_schema.sql: they travel in PostgreSQL's binary COPY format.
-- Times in the package are UTC (its weeks turn at 05:00 in winter, 04:00 in summer: midnight in New York).

create temp macro parquet(name) as getvariable('data') || '/' || name || '.parquet';
create temp macro all_rows() as getvariable('scale') <> 'tiny';
-- Masters start with the year, promotions with their week, each row at its own moment of that day: a cursor that meets a
-- table of equal times would read all of it again in every sync.
create temp macro moment(day, n) as (day::timestamp at time zone 'UTC') + to_milliseconds(n % 86400000);
create temp macro master_time(n) as moment(date '2017-01-01', n);
create temp macro live_week() as 50;
create temp macro live_day() as date '2017-12-04';
-- Week 1 is the one Sunday before the first whole week.
create temp macro week_start(w) as
    case when w = 1 then date '2017-01-01' else date '2017-01-02' + (7 * (w - 2))::integer end;

create temp view chosen_purchases as
select * from read_parquet(parquet('transactions')) where all_rows() or household_id % 25 = 7;

create temp view redemptions as
select
    row_number() over (order by redemption_date, household_id, coupon_upc, campaign_id) as redemption_id,
    *
from read_parquet(parquet('coupon_redemptions'));

-- Products and stores that the sample refers to: bought, or (one for each redeemed coupon) promised by a coupon.
create temp table chosen_products as
select distinct product_id from chosen_purchases
union
select min(product_id) from read_parquet(parquet('coupons'))
where (coupon_upc, campaign_id) in (select (coupon_upc, campaign_id) from redemptions where household_id % 25 = 7)
group by coupon_upc, campaign_id;

create temp table chosen_stores as
select distinct store_id from chosen_purchases;

create temp view stage_households as
select
    household_id, age as age_range, income as income_range, home_ownership, marital_status, household_size,
    household_comp as household_composition, kids_count,
    master_time(household_id) as created_at, master_time(household_id) as updated_at
from (select distinct household_id from chosen_purchases)
left join read_parquet(parquet('demographics')) using (household_id)
where not getvariable('live')
order by household_id;

create temp view stage_stores as
select store_id, master_time(store_id) as created_at, master_time(store_id) as updated_at
from chosen_stores
where not getvariable('live')
order by store_id;

create temp view stage_products as
select
    product_id, manufacturer_id, department, brand, product_category, product_type, package_size,
    master_time(product_id) as created_at, master_time(product_id) as updated_at
from read_parquet(parquet('products'))
where not getvariable('live') and (all_rows() or product_id in (from chosen_products))
order by product_id;

create temp view stage_orders as
with baskets as (
    select distinct basket_id, household_id, store_id, transaction_timestamp at time zone 'UTC' as ordered_at
    from chosen_purchases
    where (week >= live_week()) = getvariable('live')
)
select
    basket_id as order_id, household_id, store_id, ordered_at, ordered_at as created_at, ordered_at as updated_at
from baskets
order by ordered_at, order_id;

-- A basket holds a product once, so the product orders the lines; no basket has 1,000 lines.
create temp view stage_order_items as
with lines as (
    select *, row_number() over (partition by basket_id order by product_id) as line_number
    from chosen_purchases
    where (week >= live_week()) = getvariable('live')
)
select
    basket_id * 1000 + line_number as order_item_id,
    basket_id as order_id,
    line_number::integer as line_number,
    product_id,
    quantity::integer as quantity,
    round(sales_value, 2)::decimal(12, 2) as sales_value,
    round(retail_disc, 2)::decimal(12, 2) as retail_disc,
    round(coupon_disc, 2)::decimal(12, 2) as coupon_disc,
    round(coupon_match_disc, 2)::decimal(12, 2) as coupon_match_disc,
    week::smallint as week,
    transaction_timestamp at time zone 'UTC' as ordered_at,
    transaction_timestamp at time zone 'UTC' as created_at,
    transaction_timestamp at time zone 'UTC' as updated_at
from lines
order by ordered_at, order_item_id;

create temp view stage_campaigns as
select
    campaign_id, campaign_type, start_date::date as start_date, end_date::date as end_date,
    master_time(campaign_id) as created_at, master_time(campaign_id) as updated_at
from read_parquet(parquet('campaign_descriptions'))
where not getvariable('live')
order by campaign_id;

create temp view stage_campaign_households as
select
    campaign_id, household_id,
    master_time(campaign_id * 10000 + household_id) as created_at,
    master_time(campaign_id * 10000 + household_id) as updated_at
from read_parquet(parquet('campaigns'))
where not getvariable('live') and (all_rows() or household_id % 25 = 7)
order by campaign_id, household_id;

-- The package repeats 4,872 rows exactly; a key holds one of each.
create temp view stage_coupons as
select distinct
    coupon_upc, product_id, campaign_id,
    master_time(coupon_upc * 31 + product_id * 7 + campaign_id) as created_at,
    master_time(coupon_upc * 31 + product_id * 7 + campaign_id) as updated_at
from read_parquet(parquet('coupons'))
where not getvariable('live') and (all_rows() or product_id in (from chosen_products))
order by coupon_upc, product_id, campaign_id;

create temp view stage_coupon_redemptions as
select
    redemption_id, household_id, coupon_upc, campaign_id, redemption_date::date as redeemed_on,
    moment(redemption_date::date, redemption_id) as created_at, moment(redemption_date::date, redemption_id) as updated_at
from redemptions
where (redemption_date::date >= live_day()) = getvariable('live') and (all_rows() or household_id % 25 = 7)
order by redemption_id;

-- One product may be promoted twice in a store and week, in two places: the key packs all five columns, week first.
create temp view stage_promotions as
select
    (week << 49) | (product_id << 24) | (store_id << 8)
    | ((strpos('0123456789A', display_location) - 1) << 4) | (strpos('0ACDFHJLPXZ', mailer_location) - 1) as promotion_id,
    product_id, store_id, week::smallint as week,
    week_start(week) as week_start,
    display_location, mailer_location,
    moment(week_start(week), product_id * 131 + store_id) as created_at,
    moment(week_start(week), product_id * 131 + store_id) as updated_at
from read_parquet(parquet('promotions'))
where
    not getvariable('live')
    and case getvariable('scale')
        when 'full' then true
        when 'default' then product_id % 17 = 3
        else
            week in (2, 26, 48) and product_id % 8 = 3
            and product_id in (from chosen_products) and store_id in (from chosen_stores)
    end;
