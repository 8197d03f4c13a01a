"""Dashboards drawn by a browser, as the people they are for see them: declared, drawn, kept in the lake's bucket."""
