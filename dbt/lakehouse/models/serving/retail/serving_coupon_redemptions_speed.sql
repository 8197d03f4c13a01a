{{ serving_speed('coupon_redemptions') }}
