{{ bronze_view(
    stream='households',
    connection='retail_masters',
    columns=[
        'household_id', 'age_range', 'income_range', 'home_ownership', 'marital_status',
        'household_size', 'household_composition', 'kids_count', 'created_at', 'updated_at'
    ]
) }}
