"""Reading a PostgreSQL source."""
