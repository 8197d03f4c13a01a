{# Row conservation: the model has every key of its bronze, quarantined ones included, exactly once, and no other. #}
{% test conserves(model, bronze, key) %}
select
    counted.silver_rows,
    counted.bronze_keys
from (
    select
        (select count(*) from {{ model }}) as silver_rows,
        (select count(*) from (select distinct {{ key | join(', ') }} from {{ bronze }}) as k) as bronze_keys
) as counted
where counted.silver_rows <> counted.bronze_keys
{% endtest %}
