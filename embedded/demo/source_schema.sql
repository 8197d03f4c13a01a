-- The retailer's operational schema. Created empty, filled by COPY, then keyed by source_keys.sql, in one transaction.
-- Every table carries created_at and updated_at; updated_at is the cursor of incremental replication.

create table retail.households (
    household_id          bigint      not null,
    age_range             text,
    income_range          text,
    home_ownership        text,
    marital_status        text,
    household_size        text,
    household_composition text,
    kids_count            text,
    created_at            timestamptz not null,
    updated_at            timestamptz not null
);

create table retail.stores (
    store_id   bigint      not null,
    created_at timestamptz not null,
    updated_at timestamptz not null
);

create table retail.products (
    product_id       bigint      not null,
    manufacturer_id  bigint      not null,
    department       text        not null,
    brand            text        not null,
    product_category text,
    product_type     text,
    package_size     text,
    created_at       timestamptz not null,
    updated_at       timestamptz not null
);

create table retail.orders (
    order_id     bigint      not null,
    household_id bigint      not null,
    store_id     bigint      not null,
    ordered_at   timestamptz not null,
    created_at   timestamptz not null,
    updated_at   timestamptz not null
);

create table retail.order_items (
    order_item_id     bigint         not null,
    order_id          bigint         not null,
    line_number       integer        not null,
    product_id        bigint         not null,
    quantity          integer        not null,
    sales_value       numeric(12, 2) not null,
    retail_disc       numeric(12, 2) not null,
    coupon_disc       numeric(12, 2) not null,
    coupon_match_disc numeric(12, 2) not null,
    week              smallint       not null,
    ordered_at        timestamptz    not null,
    created_at        timestamptz    not null,
    updated_at        timestamptz    not null
);

create table retail.campaigns (
    campaign_id   bigint      not null,
    campaign_type text        not null,
    start_date    date        not null,
    end_date      date        not null,
    created_at    timestamptz not null,
    updated_at    timestamptz not null
);

create table retail.campaign_households (
    campaign_id  bigint      not null,
    household_id bigint      not null,
    created_at   timestamptz not null,
    updated_at   timestamptz not null
);

create table retail.coupons (
    coupon_upc  bigint      not null,
    product_id  bigint      not null,
    campaign_id bigint      not null,
    created_at  timestamptz not null,
    updated_at  timestamptz not null
);

create table retail.coupon_redemptions (
    redemption_id bigint      not null,
    household_id  bigint      not null,
    coupon_upc    bigint      not null,
    campaign_id   bigint      not null,
    redeemed_on   date        not null,
    created_at    timestamptz not null,
    updated_at    timestamptz not null
);

create table retail.promotions (
    promotion_id     bigint      not null,
    product_id       bigint      not null,
    store_id         bigint      not null,
    week             smallint    not null,
    week_start       date        not null,
    display_location text        not null,
    mailer_location  text        not null,
    created_at       timestamptz not null,
    updated_at       timestamptz not null
);
