"""What the server and its worker processes agree on."""

from __future__ import annotations

OPTIONS = "LAKEHOUSE_REPLICATION_WORKER"
DATABASE = "LAKEHOUSE_REPLICATION_DATABASE_URL"

# Exit codes of a worker. What happened is in the database; OVERTAKEN: the attempt was not the running one any more.
DONE, FAILED, OVERTAKEN = 0, 3, 4

# Names of sessions at a source begin with this; a job's sessions end with its id.
APPLICATION = "lakehouse-replication"


def session_name(job_id: int) -> str:
    return f"{APPLICATION} job {job_id}"
