{{ serving_speed('products') }}
