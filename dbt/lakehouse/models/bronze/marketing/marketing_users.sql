{{ config(tags=['marketing']) }}

{{ bronze_view(
    pipeline='marketing',
    stream='users',
    connection='marketing_all',
    columns=[
        'id',
        'created_at',
        'updated_at',
        'name',
        'title',
        'age',
        'email',
        'telephone',
        'gender',
        'language',
        'academic_degree',
        'nationality',
        'occupation',
        'height',
        'blood_type',
        'weight',
        'address'
    ]
) }}
