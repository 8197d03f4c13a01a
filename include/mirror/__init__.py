"""The off-site mirror: an incremental, checksummed copy of the lake's buckets at another site."""
