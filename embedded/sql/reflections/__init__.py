"""Reflections: definitions, the manager that refreshes them by Dremio's rules, and what may answer queries."""
