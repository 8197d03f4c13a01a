{{ serving_batch('coupons') }}
