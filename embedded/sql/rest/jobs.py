"""POST /sql and what follows: the job's state, its results, its end by request."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from starlette.responses import JSONResponse, Response

from embedded.sql import clock
from embedded.sql.access import Access
from embedded.sql.datasets import Outcome, Path
from embedded.sql.engine.results import encode_results
from embedded.sql.errors import NotFound, UnsupportedError, ValidationError
from embedded.sql.jobs.model import COMPLETED, Job
from embedded.sql.jobs.results import Results
from embedded.sql.jobs.service import Jobs
from embedded.sql.rest import bodies
from embedded.sql.rest.app import Endpoint
from embedded.sql.rest.calls import Call, empty

MAX_ROWS = 500
YOUNG = 0.1  # seconds


class JobHandlers:
    """`run` carries out a job's statement in a worker; `dataset_id` gives the id of a dataset's path, if it has one."""

    def __init__(
        self,
        jobs: Jobs,
        results: Results,
        run: Callable[[Job], Outcome],
        dataset_id: Callable[[Path], str | None],
        access: Access,
    ) -> None:
        self._access = access
        self._jobs = jobs
        self._results = results
        self._run = run
        self._dataset_id = dataset_id

    def endpoints(self) -> list[Endpoint]:
        return [
            Endpoint("POST", "/api/v3/sql", self.submit, partial="no references to branches, tags or commits"),
            Endpoint("GET", "/api/v3/job/{id}", self.get),
            Endpoint("GET", "/api/v3/job/{id}/results", self.results),
            Endpoint("POST", "/api/v3/job/{id}/cancel", self.cancel),
            Endpoint("GET", "/api/v3/job/{id}/reflection/{reflection}", self.reflection_job),
            Endpoint("POST", "/api/v3/job/{id}/reflection/{reflection}/cancel", self.cancel_reflection_job),
        ]

    def submit(self, call: Call) -> Response:
        """Accepts anything: what is wrong with the statement shows in the job."""
        body = call.body(bodies.Sql)
        if body.references:
            raise UnsupportedError(
                "References (branches, tags, commits) need a versioned catalog, which is not supported"
            )
        job = Job(sql=body.sql, user=call.caller.name, context=tuple(body.context or ()), run=self._run)
        self._jobs.submit(job)
        return JSONResponse({"id": job.id})

    def _job(self, call: Call) -> Job:
        """A user's own jobs are open to that user, those of others to holders of VIEW JOB HISTORY."""
        job = self._jobs.get(call.parameters["id"])
        if job.user != call.caller.name:
            self._access.need("VIEW JOB HISTORY", ())
        return job

    def get(self, call: Call) -> Response:
        """A young job is waited for: clients ask at once, and dbt-dremio sleeps 0.2 s before it asks again."""
        job = self._job(call)
        age = (clock.now() - job.submitted_at).total_seconds()
        if not job.final and 0 <= age < YOUNG:
            job.done.wait(YOUNG - age)
        return JSONResponse(self._shown(job))

    def reflection_job(self, call: Call) -> Response:
        """The refresh job of one reflection; 404 for a job of another or of none."""
        job = self._job(call)
        self._of_reflection(job, call)
        return JSONResponse(self._shown(job))

    def _of_reflection(self, job: Job, call: Call) -> None:
        if job.details.get("reflectionId") != call.parameters["reflection"]:
            raise NotFound(f"Could not find a job with id [{job.id}] for reflection [{call.parameters['reflection']}]")

    def cancel_reflection_job(self, call: Call) -> Response:
        self._of_reflection(self._jobs.get(call.parameters["id"]), call)
        return self.cancel(call)

    def _shown(self, job: Job) -> dict[str, Any]:
        shown: dict[str, Any] = {"jobState": job.state}
        if job.row_count is not None and job.final:
            shown["rowCount"] = job.row_count
        shown |= {
            "errorMessage": job.error if job.final else "",
            "startedAt": clock.iso(job.started_at or job.submitted_at),
        }
        if job.ended_at is not None and job.final:
            shown["endedAt"] = clock.iso(job.ended_at)
        acceleration = self._acceleration(job)
        if acceleration:
            shown["acceleration"] = {"reflectionRelationships": acceleration}
        queue = "REFLECTION" if job.query_type.startswith("ACCELERATOR") else "SMALL"
        queue = job.details.get("routing", {}).get("queue", queue)
        shown |= {
            "queryType": job.query_type,
            "queueName": queue,
            "queueId": queue,
            "resourceSchedulingStartedAt": clock.iso(job.submitted_at),
            "resourceSchedulingEndedAt": clock.iso(job.started_at or job.submitted_at),
            "cancellationReason": job.cancellation_reason if job.final else "",
        }
        return shown

    def _acceleration(self, job: Job) -> list[dict[str, Any]]:
        return [
            {
                "datasetId": self._dataset_id(tuple(item["datasetPath"])) or "",
                "reflectionId": item["reflectionId"],
                "relationship": item["relationship"],
            }
            for item in job.details.get("reflections", ())
        ]

    def results(self, call: Call) -> Response:
        job = self._job(call)
        if job.state != COMPLETED:
            raise ValidationError(f"Can not fetch details for a job that is in [{job.state}] state.")
        offset, limit = call.integer("offset", 0), call.integer("limit", 100)
        if limit > MAX_ROWS:
            raise ValidationError(f"limit can not exceed {MAX_ROWS} rows")
        as_string = call.headers.get("x-dremio-job-data-number-format", "") == "number-as-string"
        content = encode_results(self._results.get(job.id), offset, limit, number_as_string=as_string)
        return Response(content, media_type="application/json")

    def cancel(self, call: Call) -> Response:
        job = self._jobs.get(call.parameters["id"])
        if job.user != call.caller.name:
            self._access.need("MONITOR", ())
        self._jobs.cancel(job.id, call.caller.name)
        return empty()
