{{ bronze_view(
    stream='stores',
    connection='retail_masters',
    columns=[
        'store_id', 'created_at', 'updated_at'
    ],
    full_refresh=true
) }}
