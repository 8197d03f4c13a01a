{# Money is conserved: the model's column sums, to the cent, to the sales value of silver's good lines. #}
{% test sums_to_sales(model, column) %}
select
    counted.there,
    counted.silver
from (
    select
        (select coalesce(sum({{ column }}), 0) from {{ model }}) as there,
        (select coalesce(sum(sales_value), 0) from {{ ref('order_items') }} where _quarantine_reason is null) as silver
) as counted
where counted.there <> counted.silver
{% endtest %}
