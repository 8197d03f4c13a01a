{{ serving_batch('order_items') }}
