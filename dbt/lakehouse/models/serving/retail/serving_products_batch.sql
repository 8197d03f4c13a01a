{{ serving_batch('products') }}
