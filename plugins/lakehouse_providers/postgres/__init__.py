"""PostgreSQL: waiting for a condition in the triggerer."""
