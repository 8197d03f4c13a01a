{#
  A table made of periods (days or months), each a pure function of the same period of its lines. Recomputed are the
  periods whose fingerprint in the lines differs from the one that the table keeps, whichever way: new, late, corrected,
  quarantined or vanished lines, a changed model, a run that died between DELETE and INSERT. A backfill recomputes its
  interval besides, fingerprint or not.
  Config: period (DATE column of the lines and of the table: the day, or the first of the month), period_unit (day or
  month), lines (model with the period, _sync_ids and the amount). The model reads its lines where in_periods() and
  gives _fingerprint: the period's period_fingerprint(), the same in each of its rows.
#}
{% materialization lake_partitions, adapter='dremio' %}
  {%- set target_relation = this.incorporate(type='table') -%}
  {%- set existing = load_cached_relation(this) -%}
  {{ run_hooks(pre_hooks) }}

  {%- if existing is none -%}
    {%- do lake_create(target_relation, sql) -%}
    {%- set message = 'CREATED' -%}
  {%- else -%}
    {%- set periods = lake_stale_periods(target_relation) -%}
    {%- if periods -%}
      {%- set chosen = config.meta_require('period') ~ " in (date '" ~ periods | join("', date '") ~ "')" -%}
      {%- set tmp = lake_tmp(target_relation) -%}
      {%- do lake_stage(tmp, sql | replace(in_periods(), '(' ~ chosen ~ ')')) -%}
      {%- set columns = lake_columns(target_relation, tmp) -%}
      {% call statement('delete') -%}
        delete from {{ target_relation }} where {{ chosen }}
      {%- endcall %}
      {% call statement('insert') -%}
        insert into {{ target_relation }} ({{ columns | join(', ') }})
        select {{ columns | join(', ') }} from {{ tmp }}
      {%- endcall %}
      {%- do adapter.drop_relation(tmp) -%}
    {%- endif -%}
    {%- set message = 'PERIODS ' ~ periods | length -%}
  {%- endif -%}

  {%- do lake_done(target_relation, message, sql) -%}
  {{ return({'relations': [target_relation]}) }}
{% endmaterialization %}

{# The periods to recompute, oldest first, as text YYYY-MM-DD. #}
{% macro lake_stale_periods(target_relation) -%}
  {%- set period = config.meta_require('period') -%}
  {%- set lines = ref(config.meta_require('lines')) -%}
  {%- set query -%}
    select cast(coalesce(l.{{ period }}, g.{{ period }}) as varchar) as stale
    from (
        select {{ period }}, {{ period_fingerprint() }} as _fingerprint
        from {{ lines }}
        group by {{ period }}
    ) as l
    full outer join (
        select {{ period }}, min(_fingerprint) as _fingerprint, max(_fingerprint) as _other
        from {{ target_relation }}
        group by {{ period }}
    ) as g on l.{{ period }} = g.{{ period }}
    where
        l._fingerprint is distinct from g._fingerprint
        or l._fingerprint is distinct from g._other
        {%- if is_full_rebuild() %}
        or 1 = 1
        {%- elif is_backfill() %}
        or {{ lake_period_in_interval('coalesce(l.' ~ period ~ ', g.' ~ period ~ ')') }}
        {%- endif %}
    order by 1
  {%- endset -%}
  {%- set periods = [] -%}
  {%- for row in run_query(query).rows -%}
    {%- do periods.append((row[0] | string)[:10]) -%}
  {%- endfor -%}
  {{ return(periods) }}
{%- endmacro %}

{# A period counts when any part of it lies in the interval. #}
{% macro lake_period_in_interval(expression) -%}
  {%- set span = interval() -%}
  {%- set first = span.start.date() -%}
  {%- if config.meta_require('period_unit') == 'month' -%}
    {%- set first = first.replace(day=1) -%}
  {%- endif -%}
  {%- set last = (span.end - modules.datetime.timedelta(microseconds=1)).date() -%}
  {{ expression }} between date '{{ first }}' and date '{{ last }}'
{%- endmacro %}
