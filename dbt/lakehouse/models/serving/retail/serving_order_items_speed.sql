{{ serving_speed('order_items') }}
