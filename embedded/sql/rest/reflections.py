"""/reflection: definitions and their status."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from starlette.responses import JSONResponse, Response

from embedded.sql import clock
from embedded.sql.access import Access
from embedded.sql.catalog.service import CatalogService
from embedded.sql.errors import ValidationError
from embedded.sql.reflections.model import Reflection
from embedded.sql.reflections.service import Reflections
from embedded.sql.rest import bodies
from embedded.sql.rest.app import Endpoint
from embedded.sql.rest.calls import Call


class ReflectionHandlers:
    def __init__(self, reflections: Reflections, catalog: CatalogService, access: Access) -> None:
        self._access = access
        self._reflections = reflections
        self._catalog = catalog

    def endpoints(self) -> list[Endpoint]:
        enterprise = self._reflections.edition == "enterprise"
        found = [
            Endpoint("POST", "/api/v3/reflection", self.create),
            Endpoint("GET", "/api/v3/reflection/{id}", self.get),
            Endpoint("PUT", "/api/v3/reflection/{id}", self.replace),
            Endpoint("DELETE", "/api/v3/reflection/{id}", self.delete),
            Endpoint("GET", "/api/v3/dataset/{id}/reflection", self.of_dataset),
            Endpoint("GET", "/api/v3/reflection", self.everything),
        ]
        if enterprise:
            found += [
                Endpoint("POST", "/api/v3/reflection/{id}/refresh", self.refresh),
                Endpoint("GET", "/api/v3/reflection-summary", self.summary),
            ]
        return found

    def create(self, call: Call) -> Response:
        body = call.body(bodies.Reflection)
        if not body.datasetId:
            raise ValidationError("Invalid value found at: datasetId")
        dataset = self._catalog.dataset(body.datasetId)
        self._access.need("ALTER REFLECTION", dataset.path)
        if body.type not in ("RAW", "AGGREGATION"):
            raise ValidationError("Invalid value found at: type")
        fields = body.model_dump(exclude_none=True)
        created = self._reflections.create(dataset, body.type, body.name or "", fields, enabled=body.enabled)
        return JSONResponse(self.shown(created))

    def get(self, call: Call) -> Response:
        return JSONResponse(self.shown(self._get(call, "VIEW REFLECTION")))

    def _get(self, call: Call, privilege: str) -> Reflection:
        """The reflection of the path, for a user who has the privilege on its dataset."""
        reflection = self._reflections.get(call.parameters["id"])
        dataset = self._reflections.dataset(reflection)
        path = dataset.path if dataset else ()
        if privilege != "VIEW REFLECTION" or not self._access.allowed("ALTER REFLECTION", path):
            self._access.need(privilege, path)
        return reflection

    def replace(self, call: Call) -> Response:
        body = call.body(bodies.Reflection)
        reflection = self._get(call, "ALTER REFLECTION")
        changed = self._reflections.update(reflection, body.tag, body.model_dump(exclude_none=True))
        return JSONResponse(self.shown(changed))

    def delete(self, call: Call) -> Response:
        self._reflections.delete(self._get(call, "ALTER REFLECTION"))
        return Response(status_code=200)

    def of_dataset(self, call: Call) -> Response:
        dataset = self._catalog.dataset(call.parameters["id"])
        alter = self._access.allowed("ALTER REFLECTION", dataset.path)
        if not alter:
            self._access.need("VIEW REFLECTION", dataset.path)
        found = [self.shown(reflection) for reflection in self._reflections.of_dataset(dataset.id)]
        return JSONResponse({"data": found, "canAlterReflections": alter})

    def everything(self, call: Call) -> Response:
        return JSONResponse({"data": [self.shown(reflection) for reflection in self._visible()]})

    def _visible(self) -> Sequence[Reflection]:
        found = [(reflection, self._reflections.dataset(reflection)) for reflection in self._reflections.all()]
        return [reflection for reflection, dataset in found if dataset is None or self._access.visible(dataset.path)]

    def refresh(self, call: Call) -> Response:
        self._reflections.request_reflection(self._get(call, "ALTER REFLECTION"))
        return Response(status_code=200)

    def shown(self, reflection: Reflection) -> dict[str, Any]:
        """The Reflection object of the REST API."""
        status = self._reflections.status(reflection)
        done = self._reflections.usable(reflection)
        dataset = self._reflections.dataset(reflection)
        used = self._reflections.usage(reflection)
        shown_status: dict[str, Any] = {
            "config": status.config,
            "refresh": status.refresh,
            "availability": status.availability,
            "combinedStatus": status.combined,
            "failureCount": reflection.failure_count,
            "lastDataFetch": clock.iso(status.last_data_fetch),
            "expiresAt": clock.iso(status.expires_at),
            "refreshMethod": done.refresh_method if done else "NONE",
        }
        message = reflection.config_error or reflection.last_failure_message
        if message:
            shown_status["lastFailureMessage"] = message
        if done is not None:
            shown_status["lastRefreshDurationMillis"] = done.duration_ms
            shown_status["lastRefreshFinished"] = clock.iso(done.finished_at)
        return {
            "id": reflection.id,
            "type": reflection.type,
            "name": reflection.name,
            "tag": reflection.tag,
            "createdAt": clock.iso(reflection.created_at),
            "updatedAt": clock.iso(reflection.updated_at),
            "datasetId": reflection.dataset_id,
            "datasetName": dataset.name if dataset else "",
            "datasetType": "VIRTUAL_DATASET" if dataset and dataset.kind == "view" else "PHYSICAL_DATASET",
            "currentSizeBytes": done.size_bytes if done else 0,
            "totalSizeBytes": done.size_bytes if done else 0,
            "recordCount": done.row_count if done else 0,
            "enabled": reflection.enabled,
            "status": shown_status,
            **reflection.definition,
            "consideredCount": used.considered,
            "matchedCount": used.matched,
            "acceleratedCount": used.chosen,
            "canView": True,
            "canAlter": self._access.allowed("ALTER REFLECTION", dataset.path if dataset else ()),
            "entityType": "reflection",
        }

    def summary(self, call: Call) -> Response:
        """Many at once, with key names of its own."""
        most = call.integer("maxResults", 50, least=1)
        if most > 100:
            raise ValidationError("Invalid value found at: maxResults (at most 100)")
        found = self._filtered(call.query.get("filter"))
        first = call.integer("pageToken", 0)
        answer: dict[str, Any] = {"data": [self._line(reflection) for reflection in found[first : first + most]]}
        if first + most < len(found):
            answer["nextPageToken"] = str(first + most)
        return JSONResponse(answer)

    def _filtered(self, text: str | None) -> Sequence[Reflection]:
        found = self._visible()
        if not text:
            return found
        try:
            wanted = json.loads(text)
            ids = {str(i) for i in wanted.pop("reflectionIds", [])}
            kinds = {str(k) for k in wanted.pop("reflectionType", [])}
            enabled = wanted.pop("enabledFlag", None)
            name = str(wanted.pop("reflectionNameOrDatasetPath", "")).lower()
        except (ValueError, AttributeError):
            raise ValidationError("Invalid value found at: filter") from None
        if wanted:
            raise ValidationError(f"Invalid value found at: filter.{next(iter(wanted))}")
        return [
            r
            for r in found
            if (not ids or r.id in ids)
            and (not kinds or r.type in kinds)
            and (enabled is None or r.enabled == enabled)
            and name in self._search_text(r)
        ]

    def _search_text(self, reflection: Reflection) -> str:
        dataset = self._reflections.dataset(reflection)
        return f"{reflection.name} {'.'.join(dataset.path) if dataset else ''}".lower()

    def _line(self, reflection: Reflection) -> dict[str, Any]:
        shown = self.shown(reflection)
        status = shown["status"]
        dataset = self._reflections.dataset(reflection)
        line_status = {
            "configStatus": status["config"],
            "refreshStatus": status["refresh"],
            "availabilityStatus": status["availability"],
            "combinedStatus": status["combinedStatus"],
            "refreshMethod": status["refreshMethod"],
            "failureCount": status["failureCount"],
            "lastDataFetchAt": status["lastDataFetch"],
            "expiresAt": status["expiresAt"],
            "lastRefreshDurationMillis": status.get("lastRefreshDurationMillis", 0),
        }
        if "lastFailureMessage" in status:
            line_status["lastFailureMessage"] = status["lastFailureMessage"]
        same = (
            "id",
            "name",
            "createdAt",
            "updatedAt",
            "datasetId",
            "datasetType",
            "currentSizeBytes",
            "totalSizeBytes",
        )
        return {
            **{name: shown[name] for name in same},
            "reflectionType": reflection.type,
            "datasetPath": list(dataset.path) if dataset else [],
            "outputRecords": shown["recordCount"],
            "isEnabled": reflection.enabled,
            "isArrowCachingEnabled": reflection.definition.get("arrowCachingEnabled", False),
            "status": line_status,
            "consideredCount": shown["consideredCount"],
            "matchedCount": shown["matchedCount"],
            "chosenCount": shown["acceleratedCount"],
        }
