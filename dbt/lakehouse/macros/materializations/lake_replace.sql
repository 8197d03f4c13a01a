{#
  A table that the model gives whole each time (full-refresh entities, small marts). Only what differs is written: one
  MERGE for new and changed keys, then one DELETE for keys that are gone; a re-run that changes nothing commits nothing.
  Between the two commits both versions of the key set stand there, never an empty table; dying in between heals by the
  next run. Config: unique_key (list).
#}
{% materialization lake_replace, adapter='dremio' %}
  {%- set target_relation = this.incorporate(type='table') -%}
  {%- set existing = load_cached_relation(this) -%}
  {%- set key = lake_key() -%}
  {{ run_hooks(pre_hooks) }}

  {%- if existing is none -%}
    {%- do lake_create(target_relation, sql) -%}
    {%- set message = 'CREATED' -%}
  {%- else -%}
    {%- set tmp = lake_tmp(target_relation) -%}
    {%- do lake_stage(tmp, sql) -%}
    {%- set columns = lake_columns(target_relation, tmp) -%}
    {%- set merged = lake_merge_rows(target_relation, tmp, key, columns) -%}
    {%- set deleted = lake_delete_vanished(target_relation, tmp, key) -%}
    {%- do adapter.drop_relation(tmp) -%}
    {%- set message = 'MERGE ' ~ merged ~ ', DELETE ' ~ deleted -%}
  {%- endif -%}

  {%- do lake_done(target_relation, message, sql) -%}
  {{ return({'relations': [target_relation]}) }}
{% endmaterialization %}
