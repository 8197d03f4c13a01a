"""Declared platform state against the actual one: plan what differs, apply it in order, delete nothing."""
