# The production image: Astronomer's runtime for Airflow 3.3 with this bundle in it.
# The base image's ONBUILD steps have, by the first line below, installed packages.txt and requirements.txt (hashes
# and all) and copied the project to /usr/local/airflow; .dockerignore says what the project is.
FROM astrocrpublic.azurecr.io/runtime:3.3-7

# Editable: the very folders that `astro dev start` mounts are the ones that Airflow imports. A plain install would leave
# a frozen copy in site-packages. This also registers the provider, without which its connection types have no form.
RUN pip install --no-cache-dir --no-deps --editable .

# dbt has its own venv, where include/settings.py looks for it. --no-deps: the file is the complete, hashed set.
RUN python -m venv .venvs/dbt \
    && .venvs/dbt/bin/pip install --no-cache-dir --no-deps --require-hashes --requirement dbt-requirements.txt \
    && .venvs/dbt/bin/dbt --quiet --no-populate-cache compile --no-introspect --select tag:serving --project-dir dbt/lakehouse --profiles-dir dbt/lakehouse >/dev/null

ENV AIRFLOW__COSMOS__ENABLE_TELEMETRY=False \
    DO_NOT_TRACK=1
