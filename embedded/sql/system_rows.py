"""What stands in the sys tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from embedded.sql import acting, clock
from embedded.sql.access import Access
from embedded.sql.catalog import names
from embedded.sql.catalog.service import CatalogService
from embedded.sql.catalog.system_tables import Rows
from embedded.sql.identity import Identity
from embedded.sql.jobs.model import Job
from embedded.sql.jobs.service import Jobs
from embedded.sql.reflections.model import Reflection, Refresh
from embedded.sql.reflections.service import Reflections
from embedded.sql.settings import Settings

MATERIALIZATION_MEMORY = timedelta(days=7)
VERSION = "26.0.0-lakehouse"


class SystemRows:
    def __init__(
        self,
        reflections: Reflections,
        catalog: CatalogService,
        jobs: Jobs,
        settings: Settings,
        access: Access,
        identity: Identity,
    ) -> None:
        self._access = access
        self._identity = identity
        self._reflections = reflections
        self._catalog = catalog
        self._jobs = jobs
        self._settings = settings

    def by_name(self) -> Mapping[str, Callable[[], Rows]]:
        return {
            "reflections": self.reflections,
            "materializations": self.materializations,
            "refreshes": self.refreshes,
            "reflection_dependencies": self.dependencies,
            "jobs_recent": self.jobs_recent,
            "version": self.version,
            "options": self.options,
            "privileges": self.privileges,
            "roles": self.roles,
            "membership": self.membership,
            "users": self.users,
        }

    def reflections(self) -> Rows:
        return [self._reflection(reflection) for reflection in self._visible()]

    def _visible(self) -> list[Reflection]:
        found = [(reflection, self._reflections.dataset(reflection)) for reflection in self._reflections.all()]
        return [reflection for reflection, dataset in found if dataset is None or self._access.visible(dataset.path)]

    def _reflection(self, reflection: Reflection) -> dict[str, Any]:
        status = self._reflections.status(reflection)
        done = self._reflections.usable(reflection)
        dataset = self._reflections.dataset(reflection)
        fields = reflection.definition
        used = self._reflections.usage(reflection)
        return {
            "reflection_id": reflection.id,
            "reflection_name": reflection.name,
            "type": reflection.type,
            "created_at": reflection.created_at,
            "updated_at": reflection.updated_at,
            "status": status.combined,
            "dataset_id": reflection.dataset_id,
            "dataset_name": names.quoted(dataset.path) if dataset else "",
            "dataset_type": "VIRTUAL_DATASET" if dataset and dataset.kind == "view" else "PHYSICAL_DATASET",
            "sort_columns": _names(fields, "sortFields"),
            "partition_columns": _names(fields, "partitionFields"),
            "distribution_columns": _names(fields, "distributionFields"),
            "dimensions": _names(fields, "dimensionFields"),
            "measures": _names(fields, "measureFields"),
            "display_columns": _names(fields, "displayFields"),
            "external_reflection": "",
            "num_failures": reflection.failure_count,
            "last_failure_message": reflection.last_failure_message or "",
            "last_failure_stack": "",
            "arrow_cache": bool(fields.get("arrowCachingEnabled")),
            "refresh_status": status.refresh,
            "acceleration_status": status.availability,
            "record_count": done.row_count if done else -1,
            "current_footprint_bytes": done.size_bytes if done else 0,
            "total_footprint_bytes": done.size_bytes if done else 0,
            "last_refresh_duration_millis": done.duration_ms if done else -1,
            "last_refresh_from_table": status.last_data_fetch,
            "refresh_method": done.refresh_method if done else "",
            "available_until": _near(status.expires_at),
            "considered_count": used.considered,
            "matched_count": used.matched,
            "accelerated_count": used.chosen,
            "last_refresh_finished": done.finished_at if done else None,
        }

    def materializations(self) -> Rows:
        return [
            {
                "reflection_id": refresh.reflection_id,
                "materialization_id": refresh.id,
                "created": refresh.created_at,
                "expires": _near(refresh.expires_at),
                "size_bytes": refresh.size_bytes,
                "series_id": refresh.series_id,
                "init_refresh_job_id": refresh.job_id,
                "series_ordinal": refresh.series_ordinal,
                "state": refresh.state,
                "failure_msg": refresh.failure_message or "",
                "data_partitions": "",
                "last_refresh_from_pds": refresh.last_refresh_from_pds,
                "last_refresh_finished": refresh.finished_at,
                "last_refresh_duration_millis": refresh.duration_ms,
            }
            for refresh in self._reflections.store.refreshes()
        ]

    def refreshes(self) -> Rows:
        done = [refresh for refresh in self._reflections.store.refreshes() if refresh.finished_at]
        return [self._refresh(refresh) for refresh in done]

    def _refresh(self, refresh: Refresh) -> dict[str, Any]:
        return {
            "id": refresh.id,
            "reflection_id": refresh.reflection_id,
            "series_id": refresh.series_id,
            "created_at": refresh.created_at,
            "modified_at": refresh.finished_at,
            "path": refresh.folder,
            "job_id": refresh.job_id,
            "series_ordinal": refresh.series_ordinal,
            "output_records": refresh.row_count,
            "output_bytes": refresh.size_bytes,
        }

    def dependencies(self) -> Rows:
        return [
            {
                "reflection_id": reflection_id,
                "dependency_id": dependency.entity_id or "",
                "dependency_type": dependency.kind,
                "dependency_path": names.quoted(dependency.path),
            }
            for reflection_id, found in list(self._reflections.store.dependencies.items())
            for dependency in found
        ]

    def jobs_recent(self) -> Rows:
        """A user sees own jobs; those of others need VIEW JOB HISTORY."""
        everyone = self._access.allowed("VIEW JOB HISTORY", ())
        return [_job(job) for job in self._jobs.recent() if everyone or job.user == acting.user()]

    def privileges(self) -> Rows:
        """Only what the user may know of: grants on visible objects."""
        return [
            {
                "grantee_id": name,
                "grantee_type": grant.kind.lower(),
                "privilege": grant.privilege,
                "object_id": names.dotted(grant.path),
                "object_type": grant.object_type,
            }
            for grant, name in self._access.all_grants()
            if self._access.visible(grant.path)
        ]

    def roles(self) -> Rows:
        return [
            {
                "role_id": role.id,
                "role_name": role.name,
                "role_type": "LOCAL",
                "owner_id": acting.SYSTEM,
                "owner_type": "user",
                "created_by": "LOCAL",
            }
            for role in self._access.roles()
        ]

    def membership(self) -> Rows:
        return [
            {"role_name": role.name, "member_name": name, "member_type": kind}
            for role in self._access.roles()
            for kind, _, name in self._access.members(role)
        ]

    def users(self) -> Rows:
        return [
            {
                "user_id": user.id,
                "user_name": user.name,
                "user_type": "LOCAL",
                "owner_id": acting.SYSTEM,
                "owner_type": "user",
                "created_by": "LOCAL",
            }
            for user in self._identity.users()
        ]

    def version(self) -> Rows:
        return [{"version": VERSION, "commit_id": "", "commit_message": "", "build_email": "", "build_time": ""}]

    def options(self) -> Rows:
        values = {
            "lakehouse.edition": self._settings.edition,
            "lakehouse.memory_limit": self._settings.memory_limit,
            "lakehouse.query_timeout_seconds": str(self._settings.query_timeout),
        }
        return [
            {"name": name, "kind": "TEXT", "type": "SYSTEM", "status": "DEFAULT", "value": value}
            for name, value in values.items()
        ]


def _names(fields: Mapping[str, Any], key: str) -> str:
    return ", ".join(item["name"] for item in fields.get(key, ()))


def _near(moment: datetime | None) -> datetime | None:
    """A date that fits every client's calendar: "never" is a thousand years away."""
    return min(moment, clock.now() + timedelta(days=36_500)) if moment is not None else None


def _job(job: Job) -> dict[str, Any]:
    reflections = job.details.get("reflections", ())
    ended = job.ended_at if job.final else None
    return {
        "job_id": job.id,
        "status": job.state,
        "query_type": job.query_type,
        "user_name": job.user,
        "queried_datasets": ", ".join(names.dotted(tuple(path)) for path in job.details.get("scanned", ())),
        "scanned_datasets": ", ".join(names.dotted(tuple(path)) for path in job.details.get("scanned", ())),
        "submitted_ts": job.submitted_at,
        "execution_start_ts": job.started_at,
        "final_state_ts": ended,
        "submitted_epoch": clock.epoch_ms(job.submitted_at),
        "final_state_epoch": clock.epoch_ms(ended) if ended else None,
        "rows_returned": job.row_count,
        "accelerated": any(item["relationship"] == "CHOSEN" for item in reflections),
        "error_msg": job.error,
        "query": job.sql,
    }
