{{ bronze_view(
    stream='coupons',
    connection='retail_masters',
    columns=[
        'coupon_upc', 'product_id', 'campaign_id', 'created_at', 'updated_at'
    ]
) }}
