"""Sources of other people: connectors from PyPI that speak the Airbyte protocol, each in its own venv and process."""
