"""All state of the server, in PostgreSQL."""
