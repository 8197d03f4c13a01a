{{ serving_batch('coupon_redemptions') }}
