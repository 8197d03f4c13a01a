{# Folders are what a model's config says, never glued to the profile's: lake.silver.x, lakehouse.bronze.x. #}
{% macro generate_schema_name(custom_schema_name, node) -%}
  {%- if is_datalake_node(node) -%}
    {{ (node.config.root_path or target.root_path) | trim }}
  {%- else -%}
    {{ (custom_schema_name or target.schema) | trim }}
  {%- endif -%}
{%- endmacro %}
