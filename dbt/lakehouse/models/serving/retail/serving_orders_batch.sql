{{ serving_batch('orders') }}
