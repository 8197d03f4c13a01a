{#
  Where a lake_partitions model reads its lines. Always true in the model's own text, which is the whole function; when
  the table stands, the materialization puts the periods to recompute in its place, so that only those are read.
#}
{% macro in_periods() -%}
(1 = 1 /* periods */)
{%- endmacro %}

{#
  What a period of gold was made from, as one text: lines, versions (sync ids only grow), money, and the model's code.
  Gold keeps it beside the numbers; a period whose text differs is stale.
#}
{% macro period_fingerprint(amount='sales_value') -%}
cast(count(*) as varchar) || '/' || cast(sum(_sync_ids) as varchar) || '/' || cast(sum({{ amount }}) as varchar) || '/{{ local_md5(model.raw_code) }}'
{%- endmacro %}
