{# Before anything runs: the folders exist, and what killed runs left behind is gone. Other runs' is younger. #}
{% macro prepare_lake() -%}
  {%- if execute and flags.WHICH in ['run', 'build'] -%}
    {%- for folder in ['silver', 'gold'] -%}
      {%- do run_query('create folder if not exists "' ~ target.datalake ~ '"."' ~ folder ~ '"') -%}
    {%- endfor -%}
    {%- set left_over -%}
      select table_schema as folder, table_name as left_over
      from information_schema."tables"
      where table_schema in ('{{ target.datalake }}.silver', '{{ target.datalake }}.gold')
        and table_name like '%__tmp_%'
    {%- endset -%}
    {%- set oldest = run_started_at - modules.datetime.timedelta(hours=var('tmp_keep_hours') | int) -%}
    {%- for row in run_query(left_over).rows -%}
      {%- set made = row[1].split('__tmp_')[-1].split('_')[0] -%}
      {%- if made < oldest.strftime('%Y%m%d%H%M%S') -%}
        {%- set folder = row[0].split('.')[-1] -%}
        {%- do log('dropping left-over ' ~ row[0] ~ '.' ~ row[1], info=true) -%}
        {%- do run_query('drop table if exists "' ~ target.datalake ~ '"."' ~ folder ~ '"."' ~ row[1] ~ '"') -%}
      {%- endif -%}
    {%- endfor -%}
  {%- endif -%}
{%- endmacro %}
