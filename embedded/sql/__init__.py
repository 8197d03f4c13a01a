"""A Dremio-compatible SQL server: REST v3 over DuckDB and Iceberg."""
