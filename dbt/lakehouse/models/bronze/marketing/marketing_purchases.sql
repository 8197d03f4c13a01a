{{ config(tags=['marketing']) }}

{{ bronze_view(
    pipeline='marketing',
    stream='purchases',
    connection='marketing_all',
    columns=[
        'id',
        'user_id',
        'product_id',
        'created_at',
        'updated_at',
        'added_to_cart_at',
        'purchased_at',
        'returned_at'
    ]
) }}
