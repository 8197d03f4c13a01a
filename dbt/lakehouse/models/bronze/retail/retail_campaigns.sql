{{ bronze_view(
    stream='campaigns',
    connection='retail_masters',
    columns=[
        'campaign_id', 'campaign_type', 'start_date', 'end_date', 'created_at', 'updated_at'
    ],
    full_refresh=true
) }}
