{{ serving_speed('orders') }}
