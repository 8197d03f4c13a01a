-- Keys, references, rules and cursor indexes: after the COPY, where building them is cheapest.
-- order_items.product_id and coupons.product_id have no reference on purpose: 17 products that were sold (4,836 lines)
-- and 16 coupon rows are missing from the product master. That defect is real and silver's to judge.

alter table retail.households add primary key (household_id);
alter table retail.stores add primary key (store_id);
alter table retail.products add primary key (product_id);

alter table retail.orders
    add primary key (order_id),
    add foreign key (household_id) references retail.households,
    add foreign key (store_id) references retail.stores;

alter table retail.order_items
    add primary key (order_item_id),
    add unique (order_id, line_number),
    add foreign key (order_id) references retail.orders,
    add check (line_number > 0),
    add check (quantity >= 0),
    add check (sales_value >= 0 and retail_disc >= 0 and coupon_disc >= 0 and coupon_match_disc >= 0),
    add check (week between 1 and 53);

alter table retail.campaigns
    add primary key (campaign_id),
    add check (end_date >= start_date);

alter table retail.campaign_households
    add primary key (campaign_id, household_id),
    add foreign key (campaign_id) references retail.campaigns,
    add foreign key (household_id) references retail.households;

alter table retail.coupons
    add primary key (coupon_upc, product_id, campaign_id),
    add foreign key (campaign_id) references retail.campaigns;

alter table retail.coupon_redemptions
    add primary key (redemption_id),
    add unique (household_id, coupon_upc, campaign_id, redeemed_on),
    add foreign key (household_id) references retail.households,
    add foreign key (campaign_id, household_id) references retail.campaign_households;

-- One by one: with every promotion in the table each takes seconds.
alter table retail.promotions add primary key (promotion_id);
alter table retail.promotions add foreign key (product_id) references retail.products;
alter table retail.promotions add foreign key (store_id) references retail.stores;
alter table retail.promotions add check (week between 1 and 53);

create index on retail.households (updated_at);
create index on retail.stores (updated_at);
create index on retail.products (updated_at);
create index on retail.orders (updated_at);
create index on retail.order_items (updated_at);
create index on retail.campaigns (updated_at);
create index on retail.campaign_households (updated_at);
create index on retail.coupons (updated_at);
create index on retail.coupon_redemptions (updated_at);
create index on retail.promotions (updated_at);
