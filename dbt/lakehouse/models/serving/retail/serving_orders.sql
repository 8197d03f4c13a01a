{{ serving_unified('orders') }}
