"""Every kind of target, by the name that `include/retention.yaml` uses."""

from __future__ import annotations

from include.retention.model import Target
from include.retention.targets.airflow import Logs, Metadata
from include.retention.targets.backups import BackupLog, BackupSets
from include.retention.targets.bronze import Bronze
from include.retention.targets.change_log import ChangeLog
from include.retention.targets.elasticsearch import Indices
from include.retention.targets.iceberg import Orphans, Snapshots
from include.retention.targets.ledger_rows import LedgerRows
from include.retention.targets.query_jobs import QueryJobs
from include.retention.targets.stored import Prefix, Uploads

_ALL: tuple[type[Target], ...] = (
    BackupSets,
    BackupLog,
    Bronze,
    Snapshots,
    Orphans,
    ChangeLog,
    LedgerRows,
    Metadata,
    Logs,
    QueryJobs,
    Uploads,
    Prefix,
    Indices,
)
KINDS: dict[str, type[Target]] = {target.kind: target for target in _ALL}
