{# Every row satisfies every one of the rules (SQL conditions); a condition that is null counts as broken. #}
{% test holds(model, rules) %}
select *
from {{ model }}
where
    {% for rule in rules -%}
    not coalesce({{ rule }}, false){{ ' or' if not loop.last }}
    {% endfor -%}
{% endtest %}
