"""Dremio: client, hook, operators, triggers, and the dbt profile of its connection."""
