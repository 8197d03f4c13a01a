"""Retention: rules as data, a stored plan that a person can read, guards, approval, deletion in two steps, a report."""
