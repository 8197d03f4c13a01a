{# The columns identify a row: none is null, no combination repeats. One query instead of one per column. #}
{% test is_key(model, columns) %}
select
    {{ columns | join(',\n    ') }},
    count(*) as row_count
from {{ model }}
group by {{ columns | join(', ') }}
having
    count(*) > 1
    {% for column in columns -%}
    or {{ column }} is null
    {% endfor -%}
{% endtest %}
