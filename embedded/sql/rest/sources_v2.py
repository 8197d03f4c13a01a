"""The v2 source endpoints that dbt-dremio's own test-suite sets its sources up with."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict
from starlette.responses import JSONResponse, Response

from embedded.sql import clock
from embedded.sql.access import Access
from embedded.sql.catalog import sources
from embedded.sql.catalog.entities import Entity
from embedded.sql.catalog.service import CatalogService
from embedded.sql.errors import NotFound, ValidationError
from embedded.sql.rest.app import Endpoint
from embedded.sql.rest.calls import Call, empty

# v2 name -> v3 name, inside metadataPolicy.
_POLICY = {
    "datasetDefinitionRefreshAfterMillis": "datasetRefreshAfterMs",
    "datasetDefinitionExpireAfterMillis": "datasetExpireAfterMs",
    "namesRefreshMillis": "namesRefreshMs",
    "authTTLMillis": "authTTLMs",
    "updateMode": "datasetUpdateMode",
    "deleteUnavailableDatasets": "deleteUnavailableDatasets",
    "autoPromoteDatasets": "autoPromoteDatasets",
}


class SourceBody(BaseModel):
    """Unlike v3 this internal form is not documented: unknown fields are let through."""

    model_config = ConfigDict(extra="ignore")

    type: str
    config: dict[str, Any]
    metadataPolicy: dict[str, Any] | None = None
    accelerationGracePeriod: int | None = None
    accelerationRefreshPeriod: int | None = None
    accelerationNeverExpire: bool | None = None
    accelerationNeverRefresh: bool | None = None
    tag: str | None = None


class SourceV2Handlers:
    def __init__(self, service: CatalogService, access: Access) -> None:
        self._access = access
        self._service = service

    def endpoints(self) -> list[Endpoint]:
        base = "/apiv2/source/{name}"
        return [
            Endpoint("PUT", base, self.put, partial="what dbt-dremio sends"),
            Endpoint("GET", base, self.get),
            Endpoint("DELETE", base, self.delete),
            Endpoint("PUT", f"{base}/folder_format/{{tail:path}}", self.format),
            Endpoint("GET", f"{base}/folder_format/{{tail:path}}", self.get_format),
            Endpoint("DELETE", f"{base}/folder_format/{{tail:path}}", self.unformat),
            Endpoint("PUT", f"{base}/file_format/{{tail:path}}", self.format),
            Endpoint("GET", f"{base}/file_format/{{tail:path}}", self.get_format),
            Endpoint("DELETE", f"{base}/file_format/{{tail:path}}", self.unformat),
        ]

    def _source(self, call: Call, privilege: str = "") -> Entity:
        entity = self._service.entities.find((call.parameters["name"],))
        if entity is None or entity.kind != "source":
            raise NotFound(f"Source [{call.parameters['name']}] not found")
        self._access.need_visible(entity.path)
        if privilege:
            self._access.need(privilege, entity.path)
        return entity

    def put(self, call: Call) -> Response:
        body = call.body(SourceBody)
        options: dict[str, Any] = {}
        if body.metadataPolicy:
            policy = {_POLICY[name]: value for name, value in body.metadataPolicy.items() if name in _POLICY}
            options["metadataPolicy"] = policy
        renamed: dict[str, Any] = {
            "accelerationGracePeriodMs": body.accelerationGracePeriod,
            "accelerationRefreshPeriodMs": body.accelerationRefreshPeriod,
            "accelerationNeverExpire": body.accelerationNeverExpire,
            "accelerationNeverRefresh": body.accelerationNeverRefresh,
        }
        options |= {name: value for name, value in renamed.items() if value is not None}
        name = call.parameters["name"]
        known = self._service.entities.find((name,))
        self._access.need("CREATE SOURCE", ()) if known is None else self._access.need("MODIFY", known.path)
        if known is None:
            entity = self._service.create_source(name, body.type, body.config, options)
        else:
            entity = self._service.update_source(known, body.tag, body.type, body.config, options)
        return JSONResponse(_shown(entity))

    def get(self, call: Call) -> Response:
        return JSONResponse(_shown(self._source(call)))

    def delete(self, call: Call) -> Response:
        self._service.delete(self._source(call, "MODIFY"), call.query.get("version"))
        return empty()

    def format(self, call: Call) -> Response:
        """Promote, or promote again with another format."""
        root, wanted = self._source(call, "ALTER"), call.json()
        if not isinstance(wanted, dict):
            raise ValidationError("Invalid value found at: the body")
        path = (root.name, *call.tail)
        known = self._service.entities.find(path)
        if known is None:
            known = self._service.promote(path, wanted)
        else:
            self._service.refresh(known)
        return JSONResponse(self._format(known))

    def _table(self, call: Call) -> Entity:
        entity = self._service.entities.find((self._source(call).name, *call.tail))
        if entity is None or entity.kind != "table":
            raise NotFound(f"Dataset [{'.'.join(call.tail)}] not found")
        return entity

    def get_format(self, call: Call) -> Response:
        return JSONResponse(self._format(self._table(call)))

    def unformat(self, call: Call) -> Response:
        self._source(call, "ALTER")
        self._service.delete(self._table(call), None)
        return empty()

    def _format(self, entity: Entity) -> dict[str, Any]:
        return {
            "fileFormat": {
                **entity.body["format"],
                "name": entity.name,
                "fullPath": list(entity.path),
                "version": entity.tag,
                "isFolder": True,
            },
            "id": entity.id,
        }


def _shown(entity: Entity) -> dict[str, Any]:
    return {
        "name": entity.name,
        "id": entity.id,
        "tag": entity.tag,
        "type": entity.body["type"],
        "ctime": clock.epoch_ms(entity.created_at),
        "config": sources.shown(entity.body["config"], entity.secrets),
    }
