{#
  Each captured stream's columns as silver has them: name, and the expression over the source's columns. Silver and the
  serving views share it, so a row reads the same whichever lane it comes from.
#}
{% macro typed_columns(stream) -%}
  {%- set text = ['age_range', 'income_range', 'home_ownership', 'marital_status', 'household_size',
    'household_composition', 'kids_count'] -%}
  {%- set columns = {
    'households': [('household_id', 'cast(household_id as bigint)')],
    'products': [
        ('product_id', 'cast(product_id as bigint)'),
        ('manufacturer_id', 'cast(manufacturer_id as bigint)'),
        ('department', standard_text('department')),
        ('brand', standard_text('brand')),
        ('product_category', standard_text('product_category')),
        ('product_type', standard_text('product_type')),
        ('package_size', standard_text('package_size')),
    ],
    'campaign_households': [
        ('campaign_id', 'cast(campaign_id as bigint)'),
        ('household_id', 'cast(household_id as bigint)'),
    ],
    'coupons': [
        ('coupon_upc', 'cast(coupon_upc as bigint)'),
        ('product_id', 'cast(product_id as bigint)'),
        ('campaign_id', 'cast(campaign_id as bigint)'),
    ],
    'orders': [
        ('order_id', 'cast(order_id as bigint)'),
        ('household_id', 'cast(household_id as bigint)'),
        ('store_id', 'cast(store_id as bigint)'),
        ('ordered_at', 'ordered_at'),
    ],
    'order_items': [
        ('order_item_id', 'cast(order_item_id as bigint)'),
        ('order_id', 'cast(order_id as bigint)'),
        ('line_number', 'cast(line_number as integer)'),
        ('product_id', 'cast(product_id as bigint)'),
        ('quantity', 'cast(quantity as integer)'),
        ('sales_value', 'cast(sales_value as decimal(12, 2))'),
        ('retail_disc', 'cast(retail_disc as decimal(12, 2))'),
        ('coupon_disc', 'cast(coupon_disc as decimal(12, 2))'),
        ('coupon_match_disc', 'cast(coupon_match_disc as decimal(12, 2))'),
        ('sales_week', 'cast("week" as integer)'),
        ('ordered_at', 'ordered_at'),
    ],
    'coupon_redemptions': [
        ('redemption_id', 'cast(redemption_id as bigint)'),
        ('household_id', 'cast(household_id as bigint)'),
        ('coupon_upc', 'cast(coupon_upc as bigint)'),
        ('campaign_id', 'cast(campaign_id as bigint)'),
        ('redeemed_on', 'cast(redeemed_on as date)'),
    ],
  } -%}
  {%- if stream == 'households' -%}
    {%- for name in text -%}
      {%- do columns.households.append((name, standard_text(name))) -%}
    {%- endfor -%}
  {%- endif -%}
  {%- if stream not in columns -%}
    {{ exceptions.raise_compiler_error("typed_columns: no captured stream '" ~ stream ~ "'; add its columns here") }}
  {%- endif -%}
  {{ return(columns[stream] + [('created_at', 'created_at'), ('updated_at', 'updated_at')]) }}
{%- endmacro %}

{# The same as a select list, each with a comma after it. #}
{% macro typed_list(stream) -%}
  {%- for name, expression in typed_columns(stream) %}
        {{ expression }}{{ ' as ' ~ name if expression != name }},
  {%- endfor -%}
{%- endmacro %}

{% macro stream_key(stream) -%}
  {{ return({
    'households': ['household_id'],
    'products': ['product_id'],
    'campaign_households': ['campaign_id', 'household_id'],
    'coupons': ['coupon_upc', 'product_id', 'campaign_id'],
    'orders': ['order_id'],
    'order_items': ['order_item_id'],
    'coupon_redemptions': ['redemption_id'],
  }[stream]) }}
{%- endmacro %}
