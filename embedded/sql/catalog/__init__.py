"""What exists: spaces, folders, views, sources and the tables in them."""
