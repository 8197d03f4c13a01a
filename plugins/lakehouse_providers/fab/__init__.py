"""Airflow's own roles and users, where its auth manager is FAB's."""
