"""The button that leads from a task to its job in Dremio."""

from __future__ import annotations

from lakehouse_providers.deferral import XComLink

JOB_URL = "dremio_job_url"


class DremioJobLink(XComLink):
    """Opens the job's page in Dremio."""

    name = "Dremio job"
    key = JOB_URL
