{#
  A table that grows by key (silver entities). The model gives new versions of some keys, see newest_versions(): first
  CREATE TABLE AS, from then on staged in a temporary table and merged in one commit; nothing at all when the model says
  that it is idle. Keys are deleted by the change log (meta.changes, the stream's name; macros/fold.sql), and by var
  full_rebuild, where the model gives all of them.
  Config: unique_key (list), meta.business_time (column; needed for backfills of the entity), partition_by (large ones:
  a MERGE rewrites the files that it touches).
#}
{% materialization lake_merge, adapter='dremio' %}
  {%- set target_relation = this.incorporate(type='table') -%}
  {%- set existing = load_cached_relation(this) -%}
  {%- set key = lake_key() -%}
  {{ run_hooks(pre_hooks) }}

  {%- if existing is none -%}
    {%- do lake_create(target_relation, sql) -%}
    {%- set message = 'CREATED' -%}
  {%- elif '/* idle */' in sql -%}
    {%- set message = 'MERGE 0' -%}
  {%- else -%}
    {%- set tmp = lake_tmp(target_relation) -%}
    {%- do lake_stage(tmp, sql) -%}
    {%- set columns = lake_columns(target_relation, tmp) -%}
    {%- set problem = lake_missing_in_bronze(target_relation, tmp, key) -%}
    {%- if problem -%}
      {%- do adapter.drop_relation(tmp) -%}
      {{ exceptions.raise_compiler_error(problem) }}
    {%- endif -%}
    {%- set merged = lake_merge_rows(target_relation, tmp, key, columns) -%}
    {%- set deleted = 0 -%}
    {%- if is_full_rebuild() -%}
      {%- set deleted = lake_delete_vanished(target_relation, tmp, key) -%}
    {%- elif is_unified(config.meta_get('changes')) -%}
      {%- set deleted = lake_delete_folded(target_relation, tmp, key, config.meta_get('changes')) -%}
    {%- endif -%}
    {%- do adapter.drop_relation(tmp) -%}
    {%- set message = 'MERGE ' ~ merged ~ (', DELETE ' ~ deleted if deleted else '') -%}
  {%- endif -%}

  {%- do lake_done(target_relation, message, sql) -%}
  {{ return({'relations': [target_relation]}) }}
{% endmaterialization %}

{#
  Why the staged rows may not be applied; none when they may. A backfill or rebuild is a function of all bronze: where
  retention has removed the files of keys that silver still has, it would quietly do less than it says, or lose them.
  A stream that fell back to cursor rows stages no interval and no whole, so nothing is missing there: a backfill leaves
  silver as it is, a rebuild would lose what only the log knew.
#}
{% macro lake_missing_in_bronze(target_relation, tmp, key) -%}
  {%- set business_time = config.meta_get('business_time') -%}
  {%- set whole = is_full_rebuild() -%}
  {%- set stream = config.meta_get('changes') -%}
  {%- if whole and is_fallen_back(stream) -%}
    {{ return(model.name ~ ': a full rebuild needs the change log, and this run is in mode batch: its cursor rows know '
      ~ 'neither deletes nor all versions. Silver stays as it is. Mend the speed lane (docs/runbooks/speed.md), then run '
      ~ 'the full rebuild again, not as a backfill') }}
  {%- elif is_fallen_back(stream) or (whole and is_unified(stream)) -%}
    {{ return(none) }}
  {%- endif -%}
  {%- if (whole and not var('allow_shrink')) or (not whole and is_backfill() and business_time) -%}
    {%- set missing -%}
      select t.{{ key[0] }} from {{ target_relation }} as t
      left join {{ tmp }} as s on {{ lake_key_matches(key, 't', 's') }}
      where s.{{ key[0] }} is null{% if not whole %} and {{ in_interval('t.' ~ business_time) }}{% endif %}
    {%- endset -%}
    {%- set count = lake_count(missing) -%}
    {%- if count > 0 and whole -%}
      {{ return(model.name ~ ': bronze no longer holds ' ~ count ~ ' keys that silver has; a full rebuild would delete '
        ~ 'them. Restore bronze, or pass --vars "{full_rebuild: true, allow_shrink: true}" to let them go') }}
    {%- elif count > 0 -%}
      {{ return(model.name ~ ': bronze no longer holds ' ~ count ~ ' keys with ' ~ business_time ~ ' in ['
        ~ interval().start ~ ', ' ~ interval().end ~ ') UTC: it has expired. Restore it or choose a later interval') }}
    {%- endif -%}
  {%- endif -%}
  {{ return(none) }}
{%- endmacro %}
