{{ bronze_view(
    stream='coupon_redemptions',
    connection='retail_sales',
    columns=[
        'redemption_id', 'household_id', 'coupon_upc', 'campaign_id', 'redeemed_on', 'created_at',
        'updated_at'
    ]
) }}
