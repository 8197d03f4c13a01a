{{ serving_unified('coupon_redemptions') }}
