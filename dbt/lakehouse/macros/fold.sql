{#
  The fold: what the change log knows, merged into silver. Which positions, Airflow has decided (include/fold.py) and
  gives as LAKEHOUSE_FOLD, one entry a stream; without it, or in mode batch, a model knows cursor rows only.

  Mode unified: silver becomes what the source was at LSN `before`. Since the snapshot that began the epoch, the log in
  bronze has every version and every delete, so it alone decides; docs/adr/0009-serving-rule.md says why cursor rows
  add nothing to it, and tests/model proves it.
#}
{% macro fold_of(stream) -%}
  {%- if stream is none or not execute -%}
    {{ return(none) }}
  {%- endif -%}
  {%- set given = env_var('LAKEHOUSE_FOLD', '') -%}
  {{ return((fromjson(given) or {}).get(stream) if given else none) }}
{%- endmacro %}

{% macro is_unified(stream) -%}
  {%- set fold = fold_of(stream) -%}
  {{ return(fold is not none and fold.mode == 'unified') }}
{%- endmacro %}

{# The log has been folded before, and now it cannot be: cursor rows are merged into what it knew. #}
{% macro is_fallen_back(stream) -%}
  {%- set fold = fold_of(stream) -%}
  {{ return(fold is not none and fold.mode == 'batch' and fold.watermark > 0) }}
{%- endmacro %}

{# Columns of the source that no model declares yet: they pass through, after the declared ones. #}
{% macro extra_columns(stream) -%}
  {%- set fold = fold_of(stream) -%}
  {%- if fold is not none and fold.mode == 'unified' -%}
    {%- for column in fold.extra %}
    {{ adapter.quote(column) }},
    {%- endfor -%}
  {%- endif -%}
{%- endmacro %}

{% macro changes_of(stream) -%}
{{ source('changes', stream ~ '__changes') }}
{%- endmacro %}

{# Rows of the log in bronze that count: of this epoch; for a fold, which is exact there, at or below the position. #}
{% macro counted_change(fold, alias='c') -%}
{{ alias }}._epoch = {{ fold.epoch }}
{%- if fold.mode == 'unified' %} and {{ alias }}._ab_cdc_commit_lsn <= {{ fold.before }}{% endif %}
{%- endmacro %}

{# Of the last truncation there; every epoch begins with one. #}
{% macro last_truncation(stream, key, fold) -%}
  {%- set query -%}
    select c._ab_cdc_commit_lsn, c._ab_cdc_lsn from {{ changes_of(stream) }} as c
    where {{ counted_change(fold) }} and c.{{ key[0] }} is null
    order by 1 desc, 2 desc limit 1
  {%- endset -%}
  {%- set rows = run_query(query).rows -%}
  {{ return({'commit': rows[0][0] | int, 'change': rows[0][1] | int} if rows else {'commit': -1, 'change': -1}) }}
{%- endmacro %}

{# How many keys the fold touches, so that an idle model costs nothing. #}
{% macro fold_is_idle(stream, key, fold, recheck) -%}
  {%- set query -%}
    select
      (select count(*) from (
        select 1 as one from {{ changes_of(stream) }} as c
        where {{ counted_change(fold) }} and c._ab_cdc_commit_lsn > {{ fold.watermark }} limit 1
      ) as fresh) as fresh_rows,
      {% if recheck is none -%} 0 {%- else -%} (select count(*) from {{ this }} where {{ recheck }}) {%- endif %} as rechecks,
      (select count(*) from information_schema.columns
        where table_schema = '{{ this.database }}.{{ this.schema }}' and table_name = '{{ this.identifier }}'
          and column_name in ('{{ (model.columns | list + fold.extra | list) | join("', '") }}')) as column_count
  {%- endset -%}
  {%- set row = run_query(query).rows[0] -%}
  {{ return(row[0] | int == 0 and row[1] | int == 0 and row[2] | int == model.columns | length + fold.extra | length) }}
{%- endmacro %}

{# The newest version of each affected key at the position, tombstones left out: lake_merge deletes what is missing. #}
{% macro folded_versions(stream, key, business_time, recheck) -%}
  {%- set fold = fold_of(stream) -%}
  {%- set cut = last_truncation(stream, key, fold) -%}
  {%- set built = is_lake_built() -%}
  {%- set interval = business_time is not none and is_backfill() -%}
  {%- if built and not interval and fold_is_idle(stream, key, fold, recheck) -%}
    /* idle */
  {% endif -%}
    select v.*
    from (
        select
            c.*,
            row_number() over (
                partition by {% for k in key %}c.{{ k }}{{ ', ' if not loop.last }}{% endfor %}
                order by c._ab_cdc_commit_lsn desc, c._ab_cdc_lsn desc
            ) as _version
        from {{ changes_of(stream) }} as c
        {%- if built %}
        inner join (
            select {{ key | join(', ') }} from {{ changes_of(stream) }} as c
            where {{ counted_change(fold) }} and c._ab_cdc_commit_lsn > {{ fold.watermark }}
            {%- if recheck is not none %}
            union
            select {{ key | join(', ') }} from {{ this }} where {{ recheck }}
            {%- endif %}
            {%- if interval %}
            union
            select {{ key | join(', ') }} from {{ changes_of(stream) }} as c
            where {{ counted_change(fold) }} and {{ in_interval(business_time) }}
            {%- endif %}
        ) as affected on {{ lake_key_matches(key, 'c', 'affected') }}
        {%- endif %}
        where
            {{ counted_change(fold) }} and c.{{ key[0] }} is not null
            and (c._ab_cdc_commit_lsn > {{ cut.commit }}
                or (c._ab_cdc_commit_lsn = {{ cut.commit }} and c._ab_cdc_lsn > {{ cut.change }}))
    ) as v
    where v._version = 1 and v._ab_cdc_deleted_at is null
{%- endmacro %}

{# Deletes the keys of silver that a change after the watermark, or a truncation, has left without a row. #}
{% macro lake_delete_folded(target_relation, tmp, key, stream) -%}
  {%- set fold = fold_of(stream) -%}
  {%- set cut = last_truncation(stream, key, fold) -%}
  {%- set gone -%}
    not exists (select 1 from {{ tmp }} as s where {{ lake_key_matches(key, 's', 'd') }})
    {%- if cut.commit <= fold.watermark %}
    and exists (
        select 1 from {{ changes_of(stream) }} as c
        where {{ counted_change(fold) }} and c._ab_cdc_commit_lsn > {{ fold.watermark }}
            and {{ lake_key_matches(key, 'c', 'd') }}
    )
    {%- endif %}
  {%- endset -%}
  {%- set count = lake_count('select d.' ~ key[0] ~ ' from ' ~ target_relation ~ ' as d where ' ~ gone) -%}
  {%- if count > 0 -%}
    {% call statement('delete_folded') -%}
      delete from {{ target_relation }} as d where {{ gone }}
    {%- endcall %}
  {%- endif -%}
  {{ return(count) }}
{%- endmacro %}

{# Keys that are alive after the rows that count. `above`: only those that changed after that position. #}
{% macro keys_in_log(stream, key, above=-1) -%}
  {%- set fold = fold_of(stream) -%}
  {%- set cut = last_truncation(stream, key, fold) -%}
            select {{ key | join(', ') }}
            from (
                select
                    c.*,
                    row_number() over (
                        partition by {% for k in key %}c.{{ k }}{{ ', ' if not loop.last }}{% endfor %}
                        order by c._ab_cdc_commit_lsn desc, c._ab_cdc_lsn desc
                    ) as _version
                from {{ changes_of(stream) }} as c
                where
                    {{ counted_change(fold) }} and c.{{ key[0] }} is not null
                    and c._ab_cdc_commit_lsn > {{ above }}
                    and (c._ab_cdc_commit_lsn > {{ cut.commit }}
                        or (c._ab_cdc_commit_lsn = {{ cut.commit }} and c._ab_cdc_lsn > {{ cut.change }}))
            ) as v
            where v._version = 1 and v._ab_cdc_deleted_at is null
{%- endmacro %}
