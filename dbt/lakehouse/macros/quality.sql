{#
  Judges rows by rules, most serious first. A rule: {code, when (SQL condition), points, quarantine (default false)}.
  _quality_score       100 minus the points of every rule that holds, at least 0
  _quality_issues      codes of all rules that hold, joined by commas; null when none
  _quarantine_reason   the first rule that quarantines, or low_score below 50; null means the row is good
#}
{% macro quality(rules) -%}
  {%- if not rules -%}
    cast(100 as integer) as _quality_score,
    cast(null as varchar) as _quality_issues,
    cast(null as varchar) as _quarantine_reason
  {%- else -%}
    {%- set points -%}
    100{% for rule in rules %} - case when {{ rule.when }} then {{ rule.points }} else 0 end{% endfor %}
    {%- endset -%}
    {#- Most rows break no rule: they do not pay for the text. -#}
    {%- set broken -%}
    ({{ rules | map(attribute='when') | join(') or (') }})
    {%- endset -%}
    cast(case when {{ broken }} then greatest(0, {{ points }}) else 100 end as integer) as _quality_score,
    case when {{ broken }} then substr(
        {% for rule in rules -%}
        case when {{ rule.when }} then ',{{ rule.code }}' else '' end{{ ' ||' if not loop.last }}
        {% endfor -%}
    , 2) end as _quality_issues,
    case
        {% for rule in rules if rule.quarantine -%}
        when {{ rule.when }} then '{{ rule.code }}'
        {% endfor -%}
        when {{ points }} < 50 then 'low_score'
    end as _quarantine_reason
  {%- endif -%}
{%- endmacro %}

{# Text as silver keeps it: trimmed, upper case, never empty. #}
{% macro standard_text(expression) -%}
nullif(upper(trim({{ expression }})), '')
{%- endmacro %}
