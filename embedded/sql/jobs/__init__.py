"""Jobs: one SQL statement each, always asynchronous."""
