{{ bronze_view(
    stream='promotions',
    connection='retail_promotions',
    columns=[
        'promotion_id', 'product_id', 'store_id', 'week', 'week_start', 'display_location',
        'mailer_location', 'created_at', 'updated_at'
    ]
) }}
