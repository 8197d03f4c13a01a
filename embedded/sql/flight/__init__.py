"""Arrow Flight: the legacy form of Dremio's clients (a descriptor holds SQL) and Flight SQL."""
