"""Request bodies. Unknown fields are refused, as Dremio refuses them."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, RootModel, field_validator, model_validator

from embedded.sql.errors import ValidationError
from embedded.sql.reflections.rules import parse_schedule


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Login(Body):
    userName: str
    password: str


class FirstUser(Body):
    userName: str
    firstName: str = ""
    lastName: str = ""
    email: str = ""
    createdAt: int | None = None
    password: str


class Sql(Body):
    sql: str
    context: list[str] | None = None
    references: dict[str, Any] | None = None
    engineName: str | None = None


class NewToken(Body):
    label: str
    millisecondsToExpire: int


class RefreshPolicy(Body):
    """When the reflections on a dataset refresh and expire."""

    activePolicyType: Literal["NEVER", "PERIOD", "SCHEDULE", "REFRESH_ON_DATA_CHANGES"] = "PERIOD"
    refreshPeriodMs: int | None = Field(None, ge=1)
    refreshSchedule: str | None = None
    gracePeriodMs: int | None = Field(None, ge=1)
    method: Literal["FULL", "INCREMENTAL", "AUTO"] | None = None
    refreshField: str | None = None
    neverExpire: bool | None = None
    neverRefresh: bool | None = None
    sourceRefreshOnDataChanges: bool | None = None

    @field_validator("refreshSchedule")
    @classmethod
    def _known_schedule(cls, text: str | None) -> str | None:
        return _schedule(text)

    @model_validator(mode="after")
    def _schedule_is_there(self) -> Self:
        if self.activePolicyType == "SCHEDULE" and not self.refreshSchedule:
            raise ValueError("activePolicyType SCHEDULE needs refreshSchedule")
        return self

    def stored(self) -> dict[str, Any]:
        return self.model_dump(exclude_none=True)


def _schedule(text: str | None) -> str | None:
    if text:
        try:
            parse_schedule(text)
        except ValidationError as error:
            raise ValueError(error.message) from None
    return text


class Entity(Body):
    """Any catalog entity as clients send it: what the server itself sets may come back and is ignored."""

    entityType: Literal["space", "folder", "source", "dataset", "home", "file", "function"]
    id: str | None = None
    tag: str | None = None
    name: str | None = None
    path: list[str] | None = None
    type: str | None = None
    sql: str | None = None
    sqlContext: list[str] | None = None
    format: dict[str, Any] | None = None
    config: dict[str, Any] | None = None
    metadataPolicy: dict[str, Any] | None = None
    accelerationRefreshPolicy: RefreshPolicy | None = None
    accelerationGracePeriodMs: int | None = None
    accelerationRefreshPeriodMs: int | None = None
    accelerationRefreshSchedule: str | None = None
    accelerationActivePolicyType: str | None = None
    accelerationRefreshOnDataChanges: bool | None = None
    accelerationNeverExpire: bool | None = None
    accelerationNeverRefresh: bool | None = None
    allowCrossSourceSelection: bool | None = None
    disableMetadataValidityCheck: bool | None = None
    description: str | None = None

    @field_validator("accelerationRefreshSchedule")
    @classmethod
    def _known_schedule(cls, text: str | None) -> str | None:
        return _schedule(text)

    # Set by the server.
    createdAt: Any = None
    state: Any = None
    children: Any = None
    fields: Any = None
    owner: Any = None
    permissions: Any = None
    accessControlList: Any = None
    isMetadataExpired: Any = None
    lastMetadataRefreshAt: Any = None
    approximateStatisticsAllowed: Any = None
    checkTableAuthorizer: Any = None
    sourceChangeState: Any = None


SOURCE_OPTIONS = (
    "metadataPolicy",
    "accelerationGracePeriodMs",
    "accelerationRefreshPeriodMs",
    "accelerationRefreshSchedule",
    "accelerationActivePolicyType",
    "accelerationRefreshOnDataChanges",
    "accelerationNeverExpire",
    "accelerationNeverRefresh",
    "allowCrossSourceSelection",
    "disableMetadataValidityCheck",
)


class Wiki(Body):
    text: str
    version: int | None = None


class Tags(Body):
    tags: list[str]
    version: str | int | None = None


class Reflection(Body):
    type: str | None = None
    name: str | None = None
    datasetId: str | None = None
    enabled: bool
    tag: str | None = None
    displayFields: list[dict[str, Any]] | None = None
    dimensionFields: list[dict[str, Any]] | None = None
    dateFields: list[dict[str, Any]] | None = None  # what dbt-dremio sends
    measureFields: list[dict[str, Any]] | None = None
    partitionFields: list[dict[str, Any]] | None = None
    distributionFields: list[dict[str, Any]] | None = None
    sortFields: list[dict[str, Any]] | None = None
    partitionDistributionStrategy: str | None = None
    arrowCachingEnabled: bool | None = None
    entityType: str | None = None
    # Set by the server.
    id: str | None = None
    createdAt: Any = None
    updatedAt: Any = None
    currentSizeBytes: Any = None
    totalSizeBytes: Any = None
    status: Any = None
    canView: Any = None
    canAlter: Any = None
    datasetName: Any = None
    datasetType: Any = None
    reflectionMode: Any = None
    recordCount: Any = None
    consideredCount: Any = None
    matchedCount: Any = None
    acceleratedCount: Any = None


class ByPaths(Body):
    paths: list[list[str]] = Field(max_length=50)
    maxChildren: int = Field(0, ge=0, le=20)


class ByIds(Body):
    ids: list[str] = Field(max_length=50)
    maxChildren: int = Field(0, ge=0, le=20)


class RoleReference(BaseModel):
    """A role by id or by name; what else clients send back of it is ignored."""

    model_config = ConfigDict(extra="ignore")

    id: str = ""
    name: str = ""


class User(BaseModel):
    """What the server itself sets may come back and is ignored."""

    model_config = ConfigDict(extra="ignore")

    name: str
    firstName: str = ""
    lastName: str = ""
    email: str = ""
    password: str | None = None
    tag: str | None = None
    roles: list[RoleReference] = []
    identityType: Literal["REGULAR_USER", "SERVICE_USER"] = "REGULAR_USER"


class Role(BaseModel):
    model_config = ConfigDict(extra="ignore")

    name: str
    description: str | None = None
    roles: list[RoleReference] = []


class MemberChange(Body):
    op: Literal["add", "remove"]
    type: Literal["USER", "ROLE"]
    id: str | None = None
    name: str | None = None


class MemberChanges(RootModel[list[MemberChange]]):
    pass


class GrantEntry(BaseModel):
    model_config = ConfigDict(extra="ignore")

    privileges: list[str]
    granteeType: Literal["USER", "ROLE"]
    id: str | None = None
    name: str | None = None


class Grants(BaseModel):
    model_config = ConfigDict(extra="ignore")

    grants: list[GrantEntry]


class SecretConfig(Body):
    expiresInDays: float = 90


class Credential(Body):
    name: str
    credentialType: str = "CLIENT_SECRET"
    clientSecretConfig: SecretConfig = SecretConfig()
