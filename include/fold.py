"""What a batch run folds into silver: decided once, before anything is built, from positions that were read.

Pure: no service is asked here. The rule is docs/adr/0009-serving-rule.md; its model is tests/model/serving_rule.py.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


class FoldError(Exception):
    """The log and the lake contradict each other; the message names stream and positions."""


@dataclass(frozen=True)
class Position:
    """Of a CDC connection: `applied` is S; `snapshot` its newest consistent point, which began `epoch`."""

    epoch: int
    snapshot: int
    applied: int
    job_id: int


@dataclass(frozen=True)
class Pin:
    """What the published silver of an entity contains. `mode` is unified or batch.

    read: the source's LSN after the sync `job`; in mode batch cursor rows up to there are in silver.
    """

    watermark: int
    epoch: int
    job: int
    snapshot_id: int
    mode: str
    read: int


@dataclass(frozen=True)
class Read:
    """What a run read around the sync of a stream's group: the source's LSN before and after, the newest sync."""

    before: int
    after: int
    job: int


@dataclass(frozen=True)
class Fold:
    """How one entity's silver is built. Positions are LSNs.

    mode: unified (silver becomes exact at `before`) or batch (cursor rows only; deletes are unknown).
    watermark: the log up to here is in the pinned silver. `after`: the log up to here goes to bronze.
    job: cursor syncs up to here count as folded. read: the source's LSN after them.
    extra: columns of the log that no model declares.
    """

    stream: str
    mode: str
    watermark: int
    before: int
    after: int
    epoch: int
    from_job: int
    job: int
    read: int = 0
    applied_job: int = 0
    pinned_snapshot: int | None = None
    reason: str = ""
    extra: tuple[str, ...] = field(default=())

    @property
    def published_watermark(self) -> int:
        """W once this fold is published; mode batch never moves it."""
        return self.before if self.mode == "unified" else self.watermark


def decide(stream: str, read: Read | None, log: Position | None, pin: Pin | None, waited: str) -> Fold:
    """One entity's fold. `read` None: a backfill, which moves nothing. `waited`: why S did not come, "" when it did.

    Raises FoldError when the log or the source fell behind what was published of the same epoch.
    """
    same = pin is not None and log is not None and pin.epoch == log.epoch
    if same and pin is not None and read is not None and _is_published(read, pin):
        read = None  # it moves nothing either
    base: dict[str, Any] = {
        "stream": stream,
        "from_job": pin.job if pin else 0,
        "job": max(pin.job if pin else 0, read.job if read else 0),
        "read": read.after if read else (pin.read if pin else 0),
        "pinned_snapshot": pin.snapshot_id if pin else None,
    }
    if read is None or log is None or waited:
        return _unmoved(base, read, pin, waited)
    # Below its newest snapshot the log may have a gap: no position there can be exact.
    before = max(read.before, log.snapshot)
    if same and pin is not None:
        _check_not_set_back(stream, read, pin)
        # Nor one below what the cursor rows of a publication in mode batch may contain.
        before = max(before, pin.read if pin.mode == "batch" else 0)
    after = max(read.after, before)
    # Another epoch begins with a truncation of every stream: all of it is folded.
    watermark = pin.watermark if pin is not None and same else 0
    if log.applied < after:
        raise FoldError(
            f"{stream}: the log is complete to {log.applied}, the run needs {after}, silver stands at {watermark} of "
            f"epoch {log.epoch}. If the source was restored, it needs a new CDC snapshot."
        )
    return Fold(
        mode="unified",
        watermark=watermark,
        before=before,
        after=after,
        epoch=log.epoch,
        applied_job=log.job_id,
        **base,
    )


def _is_published(read: Read, pin: Pin) -> bool:
    """Whether a run that somebody repeats would fold nothing new: a newer one was published, or it was, unified."""
    return read.job < pin.job or (read.job == pin.job and pin.mode == "unified")


def _check_not_set_back(stream: str, read: Read, pin: Pin) -> None:
    if read.after < read.before or read.before < pin.watermark or read.after < pin.read:
        raise FoldError(
            f"{stream}: the source stood at {max(pin.watermark, pin.read)} when it was published, and at {read.before} "
            f"and {read.after} in this run: it was set back, by a restore perhaps. It needs a new CDC snapshot: "
            "docs/runbooks/speed.md."
        )


def _unmoved(base: dict[str, Any], read: Read | None, pin: Pin | None, waited: str) -> Fold:
    """W stays where it is: a backfill of a unified entity as of W, or cursor rows only.

    What moves nothing of a published entity leaves its mode, and the reason that was given for it.
    """
    kept = pin if read is None else None
    unified = kept is not None and kept.mode == "unified"
    reason = "" if kept else (waited or "there is no snapshot of change data capture yet")
    watermark = pin.watermark if pin else 0
    return Fold(
        mode="unified" if unified else "batch",
        watermark=watermark,
        before=watermark,
        after=watermark,
        epoch=pin.epoch if pin else 0,
        reason=reason,
        **base,
    )


def as_environment(folds: Mapping[str, Fold]) -> str:
    """LAKEHOUSE_FOLD as the dbt project reads it."""
    return json.dumps({name: asdict(fold) for name, fold in sorted(folds.items())}, sort_keys=True)


def from_xcom(value: Mapping[str, Mapping[str, Any]] | None) -> dict[str, Fold]:
    return {name: Fold(**{**one, "extra": tuple(one["extra"])}) for name, one in (value or {}).items()}
