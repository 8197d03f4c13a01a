"""What the person on call sees first: a page inside Airflow that tells from the ledger how every dataset stands."""
