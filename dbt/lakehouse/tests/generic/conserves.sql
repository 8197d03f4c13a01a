{#
  Row conservation: the model has every key of its bronze, quarantined ones included, exactly once, and no other. Where
  the change log decides, those are the keys whose newest change at the position is no tombstone and no older than the
  last truncation.
#}
{% test conserves(model, bronze, key, stream=none) %}
select
    counted.silver_rows,
    counted.bronze_keys
from (
    select
        (select count(*) from {{ model }}) as silver_rows,
        (select count(*) from (
            {%- if is_unified(stream) %}
            {{ keys_in_log(stream, key) }}
            {%- else %}
            select distinct {{ key | join(', ') }} from {{ bronze }}
            {%- endif %}
        ) as k) as bronze_keys
) as counted
where counted.silver_rows <> counted.bronze_keys
{%- if is_fallen_back(stream) %}
    and 1 = 0  -- cursor rows do not know which keys the log has deleted
{%- endif %}
{% endtest %}
