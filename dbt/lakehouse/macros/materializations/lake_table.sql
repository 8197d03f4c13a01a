{# What the three materializations share. None of them ever drops the table it builds: readers are pinned to its
   snapshots, and a run that dies leaves at worst a temporary table, which prepare_lake() removes later. #}

{# A name that no other run uses; the time in front tells prepare_lake() its age. #}
{% macro lake_tmp(target_relation) -%}
  {%- set suffix = run_started_at.strftime('%Y%m%d%H%M%S') ~ '_' ~ invocation_id.replace('-', '')[:8] -%}
  {{ return(target_relation.incorporate(path={'identifier': target_relation.identifier ~ '__tmp_' ~ suffix})) }}
{%- endmacro %}

{# The table itself, partitioned and sorted as the model's config says. #}
{% macro lake_create(relation, sql) -%}
  {% call statement('create') -%}
    {{ create_table_as(false, relation, sql) }}
  {%- endcall %}
{%- endmacro %}

{# The temporary table, plain: it is read once. #}
{% macro lake_stage(relation, sql) -%}
  {% call statement('stage') -%}
    create table {{ relation }} as (
      {{ sql }}
    )
  {%- endcall %}
{%- endmacro %}

{% macro lake_count(sql) -%}
  {%- set found = run_query('select count(*) as row_count from (' ~ sql ~ ') as counted') -%}
  {{ return(found.rows[0][0] | int) }}
{%- endmacro %}

{# Columns of the staged rows, quoted, after the target got those it lacks. A column that the model no longer gives
   stays in the table, null from now on. #}
{% macro lake_columns(target_relation, tmp) -%}
  {%- set query -%}
    select table_name, column_name, lower(data_type) as data_type, numeric_precision, numeric_scale
    from information_schema.columns
    where table_schema = '{{ target_relation.database }}.{{ target_relation.schema }}'
      and table_name in ('{{ target_relation.identifier }}', '{{ tmp.identifier }}')
    order by ordinal_position
  {%- endset -%}
  {%- set there, staged, added = [], [], [] -%}
  {%- set rows = run_query(query).rows -%}
  {%- for row in rows if row[0] == target_relation.identifier -%}
    {%- do there.append(row[1]) -%}
  {%- endfor -%}
  {%- for row in rows if row[0] == tmp.identifier -%}
    {%- do staged.append(adapter.quote(row[1])) -%}
    {%- if row[1] not in there -%}
      {%- do added.append(adapter.quote(row[1]) ~ ' ' ~ lake_type(row[2], row[3], row[4])) -%}
    {%- endif -%}
  {%- endfor -%}
  {%- if added -%}
    {%- do log(target_relation ~ ': new columns ' ~ added | join(', '), info=true) -%}
    {%- do run_query('alter table ' ~ target_relation ~ ' add columns (' ~ added | join(', ') ~ ')') -%}
  {%- endif -%}
  {{ return(staged) }}
{%- endmacro %}

{% macro lake_type(data_type, precision, scale) -%}
  {%- if data_type == 'decimal' -%}
    {{ return('decimal(' ~ precision | int ~ ', ' ~ scale | int ~ ')') }}
  {%- endif -%}
  {%- set names = {'character varying': 'varchar', 'binary varying': 'varbinary', 'integer': 'int'} -%}
  {{ return(names.get(data_type, data_type)) }}
{%- endmacro %}

{% macro lake_key(required=true) -%}
  {%- set key = config.get('unique_key') -%}
  {%- if not key and required -%}
    {{ exceptions.raise_compiler_error(model.name ~ ': ' ~ model.config.materialized ~ ' needs unique_key, a list') }}
  {%- endif -%}
  {{ return([key] if key is string else key) }}
{%- endmacro %}

{# Staged rows that the table lacks or has differently. The sync (or the commit) alone is no difference: a cursor that
   includes its last value delivers the same rows again in every sync, and that must neither write nor make gold stale. #}
{% macro lake_changed_rows(target_relation, tmp, key, columns) -%}
select s.*
from {{ tmp }} as s
left join {{ target_relation }} as t on {{ lake_key_matches(key, 's', 't') }}
where
    t.{{ key[0] }} is null
    {%- for column in columns if column | replace('"', '') not in key + ['_sync_id', '_commit_lsn'] %}
    or s.{{ column }} is distinct from t.{{ column }}
    {%- endfor %}
{%- endmacro %}

{# One MERGE, one commit; none at all when nothing differs, so that a re-run leaves the snapshot as it is. #}
{% macro lake_merge_rows(target_relation, tmp, key, columns) -%}
  {%- set changed = lake_changed_rows(target_relation, tmp, key, columns) -%}
  {%- set count = lake_count(changed) -%}
  {%- if count > 0 -%}
    {% call statement('merge') -%}
      merge into {{ target_relation }} as d
      using (
      {{ changed }}
      ) as s
      on ({{ lake_key_matches(key, 'd', 's') }})
      when matched then update set
        {% for column in columns if column | replace('"', '') not in key -%}
        {{ column }} = s.{{ column }}{{ ',' if not loop.last }}
        {% endfor -%}
      when not matched then insert ({{ columns | join(', ') }})
        values ({% for column in columns %}s.{{ column }}{{ ', ' if not loop.last }}{% endfor %})
    {%- endcall %}
  {%- endif -%}
  {{ return(count) }}
{%- endmacro %}

{# Deletes keys that are not staged. #}
{% macro lake_delete_vanished(target_relation, tmp, key) -%}
  {%- set vanished -%}
    select t.{{ key[0] }} from {{ target_relation }} as t
    left join {{ tmp }} as s on {{ lake_key_matches(key, 't', 's') }}
    where s.{{ key[0] }} is null
  {%- endset -%}
  {%- set count = lake_count(vanished) -%}
  {%- if count > 0 -%}
    {% call statement('delete') -%}
      delete from {{ target_relation }} as d
      where not exists (select 1 from {{ tmp }} as s where {{ lake_key_matches(key, 's', 'd') }})
    {%- endcall %}
  {%- endif -%}
  {{ return(count) }}
{%- endmacro %}

{# Ends a model: hooks, and the message that dbt shows and keeps in run_results.json. #}
{% macro lake_done(target_relation, message, sql) -%}
  {% call noop_statement('main', message) -%}
    {{ sql }}
  {%- endcall %}
  {%- do persist_docs(target_relation, model) -%}
  {{ run_hooks(post_hooks) }}
{%- endmacro %}
