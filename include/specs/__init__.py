"""Frozen dataclasses that load and check the declared YAML."""
