"""destination-postgres: Airbyte's typed tables, written with binary COPY."""
