"""Groups of tasks that DAG files put in order."""
