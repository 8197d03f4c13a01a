"""The wire: Dremio's REST v3 and the parts of v2 that clients use."""
