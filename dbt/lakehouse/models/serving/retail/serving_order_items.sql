{{ serving_unified('order_items') }}
