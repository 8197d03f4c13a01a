"""Writing Parquet objects to S3 in the layout of Airbyte's S3 destination."""
