"""The two connectors: their configuration as Airbyte's specs define it, what of it is secret, what is not available."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, TypeVar
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

MASK = "**********"

# Field names that carry "airbyte_secret": true in the specs of source-postgres and destination-s3.
SECRET_FIELDS = frozenset(
    {
        "password", "access_key_id", "secret_access_key", "ca_certificate", "client_certificate", "client_key",
        "client_key_password", "tunnel_user_password", "ssh_key",
    }
)  # fmt: skip

# The SDK's closed enum: a reply with any other region would break listing for every client.
_REGIONS = (
    " af-south-1 ap-east-1 ap-northeast-1 ap-northeast-2 ap-northeast-3 ap-south-1 ap-south-2 ap-southeast-1"
    " ap-southeast-2 ap-southeast-3 ap-southeast-4 ca-central-1 ca-west-1 cn-north-1 cn-northwest-1 eu-central-1"
    " eu-central-2 eu-north-1 eu-south-1 eu-south-2 eu-west-1 eu-west-2 eu-west-3 il-central-1 me-central-1"
    " me-south-1 sa-east-1 us-east-1 us-east-2 us-gov-east-1 us-gov-west-1 us-west-1 us-west-2"
).split(" ")


class _Model(BaseModel):
    model_config = ConfigDict(extra="allow", protected_namespaces=())


class SslMode(_Model):
    mode: Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"] = "prefer"
    ca_certificate: str | None = Field(default=None, repr=False)
    client_certificate: str | None = Field(default=None, repr=False)
    client_key: str | None = Field(default=None, repr=False)
    client_key_password: str | None = Field(default=None, repr=False)


class Standard(_Model):
    method: Literal["Standard"] = "Standard"


class ChangeDataCapture(_Model):
    """Read Changes using Write-Ahead Log. Slot and publication are made by the source's owner, as Airbyte asks.

    Only the behaviour that loses nothing can be chosen: the log is acknowledged after loading, and a position that the
    slot no longer has fails the sync. heartbeat_action_query: run before each sync, beside our own logical message.
    """

    method: Literal["CDC"]
    plugin: Literal["pgoutput"] = "pgoutput"
    replication_slot: str = Field(pattern=r"^[a-z0-9_]{1,63}$")
    publication: str = Field(min_length=1, max_length=63)
    lsn_commit_behaviour: Literal["After loading Data in the destination"] = "After loading Data in the destination"
    invalid_cdc_cursor_position_behavior: Literal["Fail sync"] = "Fail sync"
    heartbeat_action_query: str = ""
    # Ours: so much of a table lies between two checkpoints of a snapshot.
    snapshot_range_mb: int = Field(default=64, ge=1, le=65_536)
    initial_waiting_seconds: int = Field(default=1200, ge=1, le=86_400)


ReplicationMethod = Annotated[Standard | ChangeDataCapture, Field(discriminator="method")]


class TunnelMethod(_Model):
    tunnel_method: Literal["NO_TUNNEL"] = "NO_TUNNEL"


class PostgresSource(_Model):
    """source-postgres; only what this server can honour validates."""

    TYPE: ClassVar[str] = "postgres"
    TYPE_FIELD: ClassVar[str] = "sourceType"
    DEFINITION_ID: ClassVar[UUID] = UUID("decd338e-5647-4c0b-adf4-da0e75f5a750")

    host: str = Field(min_length=1)
    port: int = Field(default=5432, ge=1, le=65535)
    database: str = Field(min_length=1)
    username: str = Field(min_length=1)
    password: str = Field(default="", repr=False)
    schemas: list[str] = Field(default_factory=lambda: ["public"])
    ssl_mode: SslMode = Field(default_factory=SslMode)
    replication_method: ReplicationMethod = Field(default_factory=Standard)
    tunnel_method: TunnelMethod = Field(default_factory=TunnelMethod)

    @field_validator("schemas")
    @classmethod
    def _some_schema(cls, value: list[str]) -> list[str]:
        return value or ["public"]

    @property
    def cdc(self) -> ChangeDataCapture | None:
        """The options of change data capture, None when tables are read by query."""
        return self.replication_method if isinstance(self.replication_method, ChangeDataCapture) else None


class ParquetFormat(_Model):
    """Parquet options with Airbyte's defaults. `decimalAsDouble` is ours: numeric(p,s) as DOUBLE, as Airbyte does."""

    format_type: Literal["Parquet"] = "Parquet"
    compression_codec: Literal["UNCOMPRESSED", "SNAPPY", "GZIP", "BROTLI", "LZ4", "ZSTD"] = "UNCOMPRESSED"
    block_size_mb: int = Field(default=128, ge=1, le=1024)
    page_size_kb: int = Field(default=1024, ge=8, le=65536)
    dictionary_page_size_kb: int = Field(default=1024, ge=8, le=65536)
    dictionary_encoding: bool = True
    decimalAsDouble: bool = False


class S3Destination(_Model):
    """destination-s3 with Parquet output."""

    TYPE: ClassVar[str] = "s3"
    TYPE_FIELD: ClassVar[str] = "destinationType"
    DEFINITION_ID: ClassVar[UUID] = UUID("4816b78f-1489-44c1-9060-4b19d5fa9362")

    s3_bucket_name: str = Field(min_length=3, max_length=63)
    s3_bucket_path: str = Field(min_length=1)
    s3_bucket_region: str = ""
    access_key_id: str | None = Field(default=None, repr=False)
    secret_access_key: str | None = Field(default=None, repr=False)
    s3_endpoint: str | None = None
    s3_path_format: str | None = None
    file_name_pattern: str | None = None
    format: Annotated[ParquetFormat, Field(default_factory=ParquetFormat)]

    @field_validator("s3_bucket_region")
    @classmethod
    def _known_region(cls, value: str) -> str:
        if value not in _REGIONS:
            raise ValueError(f"unknown region {value!r}; one of {', '.join(filter(None, _REGIONS))}, or empty")
        return value


class PostgresDestination(_Model):
    """destination-postgres 3.x: typed tables, no raw ones.

    applied_lsn_table: ours. `schema.table` in the same database that gets one row per connection, moved in the same
    transaction as the last rows of a sync from a CDC source; the table must exist.
    """

    TYPE: ClassVar[str] = "postgres"
    TYPE_FIELD: ClassVar[str] = "destinationType"
    DEFINITION_ID: ClassVar[UUID] = UUID("25c5221d-dce2-4163-ade9-739ef790f503")

    model_config = ConfigDict(extra="allow", protected_namespaces=(), populate_by_name=True)

    host: str = Field(min_length=1)
    port: int = Field(default=5432, ge=1, le=65535)
    database: str = Field(min_length=1)
    schema_: str = Field(default="public", alias="schema", min_length=1, max_length=63)
    username: str = Field(min_length=1)
    password: str = Field(default="", repr=False)
    ssl_mode: SslMode = Field(default_factory=SslMode)
    tunnel_method: TunnelMethod = Field(default_factory=TunnelMethod)
    cdc_deletion_mode: Literal["Hard delete", "Soft delete"] = "Hard delete"
    disable_type_dedupe: Literal[False] = False
    drop_cascade: bool = False
    applied_lsn_table: str | None = Field(default=None, pattern=r"^[A-Za-z_][A-Za-z0-9_]*\.[A-Za-z_][A-Za-z0-9_]*$")


Connector = type[PostgresSource] | type[S3Destination] | type[PostgresDestination]
AVAILABLE: dict[str, dict[str, Connector]] = {
    "source": {PostgresSource.TYPE: PostgresSource},
    "destination": {S3Destination.TYPE: S3Destination, PostgresDestination.TYPE: PostgresDestination},
}

_M = TypeVar("_M", bound=BaseModel)


class ConfigurationError(Exception):
    """A configuration does not fit its connector; the message names the fields."""


def parse(model: type[_M], values: Any) -> _M:
    """Check `values` against a model; raises ConfigurationError with one clause for each wrong field."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise ConfigurationError(explain(error)) from None


def explain(error: ValidationError) -> str:
    """One line for a person: field, and what it should be. Never the value: it may be a secret."""
    clauses = []
    for item in error.errors(include_input=False, include_url=False):
        where = ".".join(str(part) for part in item["loc"]) or "body"
        clauses.append(f"{where}: {item['msg']}")
    return "; ".join(clauses)
