{{ bronze_view(
    stream='order_items',
    connection='retail_sales',
    columns=[
        'order_item_id', 'order_id', 'line_number', 'product_id', 'quantity', 'sales_value',
        'retail_disc', 'coupon_disc', 'coupon_match_disc', 'week', 'ordered_at', 'created_at',
        'updated_at'
    ]
) }}
