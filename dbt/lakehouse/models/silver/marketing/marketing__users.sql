{{ config(
    materialized='lake_merge',
    unique_key=['id'],
    tags=['marketing']
) }}

with newest as (
    {{ newest_versions(
        ref('marketing_users'), key=['id'], cursor='updated_at'
    ) }}
)

select
    cast("id" as bigint) as "id",
    cast("created_at" as timestamp) as "created_at",
    cast("updated_at" as timestamp) as "updated_at",
    cast("name" as varchar) as "name",
    cast("title" as varchar) as "title",
    cast("age" as bigint) as "age",
    cast("email" as varchar) as "email",
    cast("telephone" as varchar) as "telephone",
    cast("gender" as varchar) as "gender",
    cast("language" as varchar) as "language",
    cast("academic_degree" as varchar) as "academic_degree",
    cast("nationality" as varchar) as "nationality",
    cast("occupation" as varchar) as "occupation",
    cast("height" as varchar) as "height",
    cast("blood_type" as varchar) as "blood_type",
    cast("weight" as bigint) as "weight",
    {{ quality([]) }},
    _sync_id
from newest
