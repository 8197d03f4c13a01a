"""Airbyte: what the official provider lacks for long, restartable syncs."""
