{{ bronze_view(
    stream='campaign_households',
    connection='retail_masters',
    columns=[
        'campaign_id', 'household_id', 'created_at', 'updated_at'
    ]
) }}
