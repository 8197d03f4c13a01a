"""The embedded replication server: Airbyte's public API over an Arrow-native PostgreSQL to S3 Parquet copier."""
