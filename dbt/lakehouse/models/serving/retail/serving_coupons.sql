{{ serving_unified('coupons') }}
