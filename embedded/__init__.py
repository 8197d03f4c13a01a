"""The embedded platform: real PostgreSQL and S3 plus two compatible servers, on one machine without Docker."""
