{{ serving_speed('coupons') }}
