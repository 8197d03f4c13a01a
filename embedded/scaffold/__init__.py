"""Writes a new pipeline from what its Airbyte connector says of itself: `make new-pipeline NAME=...`."""
