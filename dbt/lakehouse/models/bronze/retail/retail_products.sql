{{ bronze_view(
    stream='products',
    connection='retail_masters',
    columns=[
        'product_id', 'manufacturer_id', 'department', 'brand', 'product_category', 'product_type',
        'package_size', 'created_at', 'updated_at'
    ]
) }}
