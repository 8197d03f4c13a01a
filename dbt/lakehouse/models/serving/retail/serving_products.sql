{{ serving_unified('products') }}
