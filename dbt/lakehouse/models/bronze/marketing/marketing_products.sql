{{ config(tags=['marketing']) }}

{{ bronze_view(
    pipeline='marketing',
    stream='products',
    connection='marketing_all',
    columns=[
        'id',
        'make',
        'model',
        'year',
        'price',
        'created_at',
        'updated_at'
    ]
) }}
