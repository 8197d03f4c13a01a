{{ bronze_view(
    stream='orders',
    connection='retail_sales',
    columns=[
        'order_id', 'household_id', 'store_id', 'ordered_at', 'created_at', 'updated_at'
    ]
) }}
