"""The serving rule as an executable model: two lanes, their crashes, and readers that read in several instants.

Checked on every read in mode unified: what the reader got is the source's table at the LSN `S` that it read. Checked on
every publication in that mode: the published silver is the source's table at `W`; in mode batch: it lacks no version
that cursor syncs delivered, but what the log knows to be gone. A *mutant* leaves out or swaps one step of the rule;
tests show that each of them is caught, and so that the histories can find such mistakes.

What runs is chosen from outside (`Choices`): a seeded random generator, or Hypothesis, which shrinks what it finds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

Key = int
Row = tuple[int, int | None]  # (value, which is also the cursor: the LSN at which it was written; added column)
Table = dict[Key, Row]

READ_STEPS = 10  # a reader waits at most so many clock ticks before each of its instants
GRACE = 3 * READ_STEPS + 2  # longer than the longest reader

# The batch lane's steps in their order. `record` and the prune queue are one transaction, so nothing lies between them.
STEPS = ("read_before", "sync", "read_after", "wait", "slice", "fold", "publish", "record")


class Choices(Protocol):
    """Where a history's decisions come from."""

    def below(self, n: int) -> int:
        """A whole number from 0 to n - 1."""


class Change(NamedTuple):
    """One row of the change log. `key` None is a truncation, `row` None a tombstone."""

    commit: int
    lsn: int
    entity: str
    key: Key | None
    row: Row | None
    epoch: int

    @property
    def order(self) -> tuple[int, int]:
        return (self.commit, self.lsn)


class ViolationError(AssertionError):
    """A reader or a publication saw something that never was."""


@dataclass
class Transaction:
    writes: list[tuple[int, str, Key | None, Row | None]] = field(default_factory=list)
    locks: set[tuple[str, Key | None]] = field(default_factory=set)


@dataclass
class Job:
    """A running CDC sync: what it has still to append, and what its success publishes."""

    rows: list[Change]
    applied: int
    epoch: int


class View(NamedTuple):
    """What one atomic replacement publishes of an entity. `watermark` is a position of `epoch`.

    `read`: where the source stood after the newest sync; in mode batch its rows are in the snapshot.
    """

    mode: str
    snapshot: int
    watermark: int
    epoch: int = 0
    read: int = 0


@dataclass
class Run:
    """A batch run between its steps. `backfill` names the keys of its interval; it syncs and waits for nothing."""

    steps: list[str]
    backfill: frozenset[Key] | None = None
    before: int = 0
    after: int = 0
    read: tuple[int, int] = (0, 0)  # before and after, as they were read
    job: int = 0
    epoch: int = 0
    timed_out: bool = False
    entities: list[str] = field(default_factory=list)  # still to be published, one by one
    folded: dict[str, View] = field(default_factory=dict)


@dataclass
class Reader:
    entity: str
    at: int
    view: View | None = None
    applied: int | None = None
    epoch: int = 0
    first_scan: set[Key | None] | None = None


class Lakehouse:
    """Source, speed lane, batch lane and readers of one pipeline. Every method is one atomic action."""

    def __init__(
        self, choices: Choices, mutant: str | None = None, entities: int = 2, keys: int = 4, hardships: bool = False
    ) -> None:
        """`hardships`: the source may be restored, and runs be repeated. Only folds of the log alone bear that."""
        self.choices, self.mutant, self.hardships = choices, mutant, hardships
        self.names = [chr(ord("a") + n) for n in range(entities)]
        self.keys = keys
        self.clock = self.lsn = 0
        self.source: dict[str, Table] = {name: {} for name in self.names}
        # By LSN. A source that is restored goes on from an earlier one: each epoch knows the history that it captures.
        self.history: list[Mapping[str, Table]] = [{name: {} for name in self.names}]
        self.captured = {0: self.history}
        self.open: list[Transaction] = []
        self.has_column = False
        # Speed lane.
        self.wal: list[Change] = []
        self.slot_from: int | None = None  # None: there is no slot
        self.log: list[Change] = []
        self.applied, self.epoch, self.snapshot_at = 0, 0, 0
        self.next_epoch = 1  # attempts of one snapshot share it
        self.job: Job | None = None
        # Batch lane. Bronze outlives everything; silver is snapshots, None once expired.
        self.bronze: list[tuple[int, str, Table]] = []
        self.slices: dict[str, dict[tuple[int, int, Key | None, int], Change]] = {name: {} for name in self.names}
        self.jobs, self.cursor = 0, dict.fromkeys(self.names, -1)
        self.silver: list[Table | None] = [{}]
        self.heads = dict.fromkeys(self.names, 0)  # the newest snapshot of each entity, also of a run that died
        self.silver_has_column = False
        self.views = dict.fromkeys(self.names, View("batch", 0, 0))
        self.ledger = {name: (View("batch", 0, 0), 0) for name in self.names}  # pinned view, newest folded job
        self.run: Run | None = None
        self.reads: list[tuple[int, int, int]] = []  # before, after, job of runs that ended: they can be run again
        self.prunes: list[tuple[int, str, tuple[int, int], int | None]] = []
        self.readers: list[Reader] = []
        # The first pruned LSN of each entity, and the seen coverage: a history that never gets there proves nothing.
        self.seen: dict[str, int] = {}

    def _count(self, what: str) -> None:
        self.seen[what] = self.seen.get(what, 0) + 1

    def _pick(self, items: Sequence[Any]) -> Any:
        return items[self.choices.below(len(items))]

    def _chance(self, percent: int) -> bool:
        return self.choices.below(100) < percent

    def _tick(self) -> int:
        """The next LSN; the source's state there is the last committed one."""
        self.lsn += 1
        self.history.append(self.history[-1])
        return self.lsn

    # --- source ---------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        if len(self.open) < 3:
            self.open.append(Transaction())

    def _free(self, entity: str, key: Key | None) -> bool:
        """Row locks and the exclusive lock of TRUNCATE, held until commit."""
        taken = set().union(*(t.locks for t in self.open[:-1])) if len(self.open) > 1 else set()
        if key is None:
            return all(locked != entity for locked, _ in taken)
        return (entity, key) not in taken and (entity, None) not in taken

    def write(self) -> None:
        """One statement of some open transaction: insert or update, delete, change of a key, truncate."""
        if not self.open:
            return self.begin()
        transaction = self.open.pop(self.choices.below(len(self.open)))
        self.open.append(transaction)
        entity, key = self._pick(self.names), self.choices.below(self.keys)
        kind = self.choices.below(20)
        if kind == 0:
            if self._free(entity, None):
                transaction.writes.append((self._tick(), entity, None, None))
                transaction.locks.add((entity, None))
            return None
        targets = [key] if kind < 18 else [key, (key + 1) % self.keys]
        if not all(self._free(entity, target) for target in targets):
            return None
        transaction.locks.update((entity, target) for target in targets)
        for place, target in enumerate(targets):
            lsn = self._tick()
            gone = kind < 7 or (len(targets) == 2 and place == 0)  # a changed key is a delete of the old, then the new
            row = None if gone else (lsn, lsn % 3 if self.has_column else None)
            transaction.writes.append((lsn, entity, target, row))
        return None

    def commit(self) -> None:
        if not self.open:
            return
        transaction = self.open.pop(self.choices.below(len(self.open)))
        if self._chance(10):
            return  # rolled back
        commit = self._tick()
        after = {name: dict(table) for name, table in self.source.items()}
        for lsn, entity, key, row in transaction.writes:
            if key is None:
                after[entity] = {}
            elif row is None:
                if after[entity].pop(key, None) is None:
                    continue  # nothing was there to delete
            else:
                after[entity][key] = row
            self.wal.append(Change(commit, lsn, entity, key, row, 0))
        self.source = after
        self.history[commit] = after
        self._count("commit")

    def add_column(self) -> None:
        self.has_column = True

    def restore_source(self) -> None:
        """From a backup: what was committed since never was, and its positions will be those of other changes."""
        if not self.hardships or self._chance(70):
            return
        self.lsn -= self.choices.below(min(self.lsn + 1, 40))
        self.history = self.history[: self.lsn + 1]
        self.source = {name: dict(table) for name, table in self.history[-1].items()}
        self.wal = [c for c in self.wal if c.commit <= self.lsn]
        # A backup has no slot, so the sync that looks for it fails, and the next snapshot is another one.
        self.open, self.job, self.slot_from = [], None, None
        self.next_epoch += 1
        self._count("source restored")

    # --- speed lane -----------------------------------------------------------------------------------------------

    def lose_slot(self) -> None:
        """The log between `S` and the next snapshot can never be read."""
        if self.slot_from is not None and self.job is None:
            self.slot_from = None
            self._count("slot lost")

    def start_cdc(self) -> None:
        if self.job is not None:
            return
        if self.slot_from is None or self._chance(3):
            return self._start_snapshot()
        floor = max(self.applied, self.slot_from)
        rows = [c._replace(epoch=self.epoch) for c in self.wal if floor < c.commit <= self.lsn]
        self.job = Job(rows, self.lsn, self.epoch)
        if self.mutant == "s_before_rows":
            self.applied = self.lsn
        return None

    def _start_snapshot(self) -> None:
        """A truncation at the consistent point and every row there, under a new epoch."""
        point, epoch = self.lsn, self.next_epoch
        rows = []
        for entity in self.names:
            if self.mutant != "snapshot_without_truncation":
                rows.append(Change(point, 0, entity, None, None, epoch))
            rows += [
                Change(point, n + 1, entity, k, row, epoch) for n, (k, row) in enumerate(self.source[entity].items())
            ]
        self.job = Job(rows, point, epoch)
        self.captured[epoch] = self.history
        if self.mutant == "slot_without_snapshot" and self.slot_from is None:
            self.slot_from = point
        self._count("snapshot")

    def continue_cdc(self) -> None:
        """Appends one row, or succeeds. Delivery is at least once; the log keeps one of each."""
        if self.job is None:
            return
        if self.job.rows:
            row = self.job.rows.pop(0)
            if row not in self.log:
                self.log.append(row)
        else:
            if self.job.epoch > self.epoch:
                if self.mutant != "position_never_falls":
                    self.applied = 0
                self.snapshot_at, self.next_epoch = self.job.applied, self.job.epoch + 1
                if self.slot_from is None:
                    self.slot_from = self.job.applied  # a slot without its finished snapshot is no way to go on
            self.applied, self.epoch = max(self.applied, self.job.applied), self.job.epoch
            self.job = None
            self._count("position moved")

    def crash_cdc(self) -> None:
        """Rows stay, the position does not move, the next sync delivers them again."""
        if self.job is not None and self.mutant != "s_before_rows":
            self.job = None
            self._count("cdc crash")

    def _clock_of(self, change: Change) -> int:
        return change.lsn if self.mutant == "change_lsn_is_the_clock" and change.lsn else change.commit

    def _visible(self, entity: str, applied: int, epoch: int) -> list[Change]:
        """The log of an epoch up to `S` in order; rows of a snapshot that never succeeded belong to a later one."""
        rows = [
            c
            for c in self.log
            if c.entity == entity
            and (self._clock_of(c) <= applied or self.mutant == "read_beyond_s")
            and (c.epoch == epoch or self.mutant == "epoch_of_rows_ignored")
        ]
        return sorted(rows, key=lambda c: (self._clock_of(c), c.lsn))

    # --- batch lane -----------------------------------------------------------------------------------------------

    def start_run(self) -> None:
        if self.run is None:
            self.run = Run(list(_steps(self.mutant)))
            if self.mutant == "swap_fold":
                self.run.entities = list(self.names)  # what fold would have left to publish

    def repeat_run(self) -> None:
        """Somebody clears a run of before from its wait on: what it read stays as it was."""
        if self.hardships and self.run is None and self.reads:
            before, after, job = self._pick(self.reads[-2:])
            steps = list(STEPS[STEPS.index("wait") :])
            self.run = Run(steps, before=before, after=after, read=(before, after), job=job)
            self._count("run again")

    def start_backfill(self) -> None:
        """Rebuilds the keys of an interval from bronze while both lanes run; only unified entities have a `W`."""
        if self.run is None and all(view.mode == "unified" for view, _ in self.ledger.values()):
            chosen = frozenset(k for k in range(self.keys) if self._chance(50))
            self.run = Run(["fold", "publish", "record"], backfill=chosen)

    def crash_run(self) -> None:
        if self.run is not None:
            self._count(f"batch crash before {self.run.steps[0]}")
            self.run = None

    def continue_run(self) -> None:
        run = self.run
        if run is None:
            return
        if getattr(self, f"_{run.steps[0]}")(run):
            run.steps.pop(0)
        if not run.steps:
            self.run = None
            if run.backfill is None:
                self.reads.append((*run.read, run.job))

    def _read_before(self, run: Run) -> bool:
        run.before = self.lsn
        return True

    def _sync(self, run: Run) -> bool:
        """By cursor: what was written later than anything seen, whenever it was committed. Deletes are unknown."""
        self.jobs += 1
        run.job = self.jobs
        for entity, table in self.source.items():
            rows = {k: row for k, row in table.items() if row[0] > self.cursor[entity]}
            self.bronze.append((run.job, entity, rows))
            self.cursor[entity] = max([row[0] for row in table.values()] + [self.cursor[entity]])
        return True

    def _read_after(self, run: Run) -> bool:
        run.after = self.lsn
        run.read = (run.before, run.after)
        return True

    def _wait(self, run: Run) -> bool:
        if self._is_older(run):
            run.backfill = frozenset()  # all that it would fold is published: it publishes that again
            return True
        if self._set_back(run) and self.mutant != "set_back_unnoticed":
            self.run = None  # its log is not captured anew yet: an error that says so
            self._count("refused")
            return False
        if self.mutant == "no_wait" or (self.applied >= run.after and self.epoch > 0):
            run.epoch = self.epoch
            if self.mutant != "fold_over_gap":
                # The log may lack what lies before its newest snapshot: no position below that one can be exact.
                run.before = max(run.before, self.snapshot_at)
            if self.mutant != "fold_below_cursor_rows":
                # Nor one below what the cursor rows of a batch publication may contain.
                pins = [view for view, _ in self.ledger.values() if view.epoch == self.epoch and view.mode == "batch"]
                run.before = max([run.before, *(view.read for view in pins)])
            run.after = max(run.after, run.before)
            return True
        run.timed_out = self._chance(10)
        return run.timed_out

    def _is_older(self, run: Run) -> bool:
        """Whether it would fold nothing new: a newer run was published of the same epoch, or this one was, unified."""
        found = [(job, view.mode == "unified") for view, job in self.ledger.values() if view.epoch == self.epoch]
        return self.hardships and (run.job, False) < max(found, default=(0, False))

    def _set_back(self, run: Run) -> bool:
        """Whether the source stood further on before than it does now: it was restored."""
        if self.hardships and run.after < run.before:
            return True
        pins = [view for view, _ in self.ledger.values() if view.epoch == self.epoch]
        return any(run.before < view.watermark or run.after < view.read for view in pins)

    def _slice(self, run: Run) -> bool:
        """The log up to `lsn_after` goes to bronze; sliced again after a crash, it is the same."""
        if run.timed_out:
            return True
        if self.mutant == "swap_wait":
            run.epoch = self.epoch  # which the wait would have read
        for entity in self.names:
            # The epoch of the wait: a snapshot since then makes the rows of an earlier, failed attempt visible.
            for c in self._visible(entity, run.after, run.epoch):
                self.slices[entity][(c.commit, c.lsn, c.key, c.epoch)] = c
        return True

    def _fold(self, run: Run) -> bool:
        """Builds every entity aside, each from the snapshot that the ledger calls pinned."""
        self.silver_has_column = self.silver_has_column or self.has_column or run.backfill is None
        for entity in self.names:
            view, job = self.ledger[entity]
            base = self.heads[entity] if self.mutant == "no_roll_back" else view.snapshot
            pinned = dict(self.silver[base] or {})
            run.folded[entity] = self._fold_entity(run, entity, view, job, pinned)
        run.entities = list(self.names)
        if self.mutant == "prune_before_publish":
            for entity, view in run.folded.items():
                self._forget(entity, (view.epoch, view.watermark))
        return True

    def _fold_entity(self, run: Run, entity: str, view: View, job: int, pinned: Table) -> View:
        epoch = run.epoch if run.backfill is None and not run.timed_out else view.epoch
        rows = [c for c in self.slices[entity].values() if c.epoch == epoch or self.mutant == "epoch_of_rows_ignored"]
        changes = sorted(rows, key=lambda c: (self._clock_of(c), c.lsn))
        if run.backfill is not None:
            folded, mode, mark = self._rebuild(entity, view, pinned, changes, run.backfill), view.mode, view.watermark
            if self.mutant == "backfill_moves_w":
                mark = self.lsn
        elif run.timed_out:
            pinned = self._with_folded_sync(entity, job, view, pinned)
            folded = self._with_cursor_rows(entity, job, run.job, pinned, set())
            self._check_cursor_rows(entity, run.job, view, folded)
            mode, mark = "batch", view.watermark
        else:
            since = self._since(view, epoch)
            later = {c.key for c in changes if self._clock_of(c) > run.before}
            if self.mutant == "bronze_wins":
                later = set()
            folded = self._with_cursor_rows(entity, job, run.job, pinned, later)
            if self.mutant == "log_alone" or (self.hardships and self.mutant != "cursor_rows_too"):
                folded = pinned
            for c in changes:
                if since < self._clock_of(c) <= run.before:
                    self._apply(folded, c)
            mode, mark = "unified", run.after if self.mutant == "w_is_lsn_after" else run.before
        if self.mutant == "fold_drops_new_column":
            folded = {k: (row[0], None) for k, row in folded.items()}
        self.silver.append(folded)
        self.heads[entity] = len(self.silver) - 1
        return View(mode, len(self.silver) - 1, mark, epoch, view.read if run.backfill is not None else run.after)

    def _since(self, view: View, epoch: int) -> int:
        """From where on the log of an epoch counts: another one than the view's begins with a truncation."""
        return view.watermark if view.epoch == epoch or self.mutant == "epoch_not_pinned" else -1

    def _with_cursor_rows(self, entity: str, job: int, newest: int, pinned: Table, later: set[Key | None]) -> Table:
        """Rows of syncs up to `newest` that the pinned silver lacks, in order, for keys without a later change."""
        folded = dict(pinned)
        for number, name, rows in self.bronze:
            if name == entity and job < number <= newest and None not in later:
                folded.update({k: row for k, row in rows.items() if k not in later})
        return folded

    def _with_folded_sync(self, entity: str, job: int, view: View, pinned: Table) -> Table:
        """Rows of the newest folded sync, which read the source after `W`, of keys that the log then left alive."""
        alive: Table = {}
        for c in sorted(self.slices[entity].values(), key=lambda c: c.order):
            if c.epoch == view.epoch and c.commit > view.watermark:
                self._apply(alive, c)
        folded = dict(pinned)
        for number, name, rows in self.bronze:
            if name == entity and number == job and self.mutant != "folded_sync_left_out":
                newer = {k: r for k, r in rows.items() if k in alive and (k not in folded or folded[k][0] <= r[0])}
                folded.update(newer)
        return folded

    def _check_cursor_rows(self, entity: str, newest: int, view: View, folded: Table) -> None:
        """Mode batch lacks no version of bronze but those that the log knows to be gone."""
        if self.hardships:  # positions of a restored source are those of other rows
            return
        gone = [c for c in self.slices[entity].values() if c.epoch == view.epoch and c.row is None]
        for number, name, rows in self.bronze:
            for key, row in rows.items() if name == entity and number <= newest else ():
                deleted = max((c.commit for c in gone if c.key in (None, key)), default=-1)
                if row[0] > deleted and (key not in folded or folded[key][0] < row[0]):
                    raise ViolationError(f"mode batch lacks {entity} {key}: {row} of sync {number}")

    def _apply(self, table: Table, change: Change) -> None:
        if change.key is None:
            table.clear()
        elif change.row is None:
            if self.mutant != "no_tombstones":
                table.pop(change.key, None)
        else:
            table[change.key] = change.row

    def _rebuild(self, entity: str, view: View, pinned: Table, changes: list[Change], keys: frozenset[Key]) -> Table:
        """The interval's keys from all of bronze, as of `W`: the log in bronze knows every version and every delete."""
        if self.mutant == "backfill_from_cursor_rows":
            rest = {k: r for k, r in pinned.items() if k not in keys}
            return self._with_cursor_rows(entity, 0, self.jobs, rest, set())
        whole: Table = {}
        for c in changes:
            if self._clock_of(c) <= view.watermark:
                self._apply(whole, c)
        return {k: r for k, r in pinned.items() if k not in keys} | {k: r for k, r in whole.items() if k in keys}

    def _publish(self, run: Run) -> bool:
        """One entity at a time; each is one atomic replacement of its view."""
        if not run.entities:
            return True
        entity = run.entities.pop()
        view = run.folded.get(entity) or self._unfolded(run, self.ledger[entity][0])
        if self.mutant == "two_replacements" and self.views[entity].watermark != view.watermark:
            self.views[entity] = self.views[entity]._replace(watermark=view.watermark, mode=view.mode)
            run.entities.append(entity)
            return False
        self.views[entity] = view
        self._check_silver(entity, view)
        self._count(f"published {view.mode}")
        return not run.entities

    def _unfolded(self, run: Run, old: View) -> View:
        """What is published before it is folded: the silver of before under the new W."""
        return old if run.timed_out else View("unified", old.snapshot, run.before, run.epoch, run.after)

    def _source_at(self, epoch: int, position: int) -> Mapping[str, Table]:
        history = self.captured[epoch]
        if position >= len(history):
            raise ViolationError(f"the history of epoch {epoch} never came to {position}")
        return history[position]

    def _check_silver(self, entity: str, view: View) -> None:
        if view.mode != "unified":
            return
        expected = self._source_at(view.epoch, view.watermark)[entity]
        if self.silver[view.snapshot] != expected:
            raise ViolationError(f"silver {entity} at W={view.watermark}: {self.silver[view.snapshot]} != {expected}")

    def _record(self, run: Run) -> bool:
        """The ledger's rows and the prune queue, in one transaction, after the views."""
        for entity in self.names:
            view = run.folded.get(entity)
            if view is None:
                continue
            old, job = self.ledger[entity]
            self.ledger[entity] = (view, max(job, run.job))
            due = self.clock + (0 if self.mutant == "no_grace" else GRACE)
            self.prunes.append((due, entity, (view.epoch, view.watermark), old.snapshot or None))
            if self.mutant == "prune_at_once":
                self._forget(entity, (view.epoch, view.watermark))
        return True

    def _forget(self, entity: str, mark: tuple[int, int]) -> None:
        """Deletes log rows of earlier epochs, and of this one up to a position."""
        if self.mutant == "prune_by_position":
            self.log = [c for c in self.log if c.entity != entity or c.commit > mark[1]]
        self.log = [c for c in self.log if c.entity != entity or (c.epoch, c.commit) > mark]

    def prune(self) -> None:
        """Log rows at or below a pinned `W`, and snapshots that no view pins, once the grace is over."""
        for entry in [e for e in self.prunes if self.clock >= e[0]]:
            self.prunes.remove(entry)
            _, entity, mark, snapshot = entry
            self._forget(entity, mark)
            pinned = {self.views[entity].snapshot, self.ledger[entity][0].snapshot}
            if snapshot is not None and snapshot not in pinned:
                self.silver[snapshot] = None
            self._count("pruned")

    # --- readers --------------------------------------------------------------------------------------------------

    def start_reader(self) -> None:
        self.readers.append(Reader(self._pick(self.names), self.clock + self.choices.below(READ_STEPS)))

    def tick(self) -> None:
        """Time goes on; readers whose instant has come go on with their query."""
        self.clock += 1
        for reader in [r for r in self.readers if r.at <= self.clock]:
            self._read(reader)

    def _read(self, reader: Reader) -> None:
        if reader.view is None:  # the view's text: snapshot and watermark are pinned by it
            reader.view = self.views[reader.entity]
        elif self.mutant == "two_scans" and reader.first_scan is None:
            reader.first_scan = {c.key for c in self._newer(reader, self.applied, self.epoch)}
        elif reader.applied is None:  # the scan of the PostgreSQL view reads S
            reader.applied, reader.epoch = self.applied, self.epoch
        else:  # and its rows, which below S never change
            self.readers.remove(reader)
            self._check_read(reader)
            return
        reader.at = self.clock + self.choices.below(READ_STEPS)

    def _newer(self, reader: Reader, applied: int, epoch: int) -> list[Change]:
        assert reader.view is not None
        since = self._since(reader.view, epoch)
        return [c for c in self._visible(reader.entity, applied, epoch) if self._clock_of(c) > since]

    def _check_read(self, reader: Reader) -> None:
        view, applied = reader.view, reader.applied
        assert view is not None
        assert applied is not None
        if view.mode != "unified":
            return
        snapshot = len(self.silver) - 1 if self.mutant == "unpinned_silver" else view.snapshot
        silver = self.silver[snapshot]
        if silver is None:
            raise ViolationError(f"silver {reader.entity}: snapshot {snapshot} expired under a reader")
        got = dict(silver)
        newer = self._newer(reader, applied, reader.epoch)
        if reader.first_scan is not None:  # silver less the keys of one scan, plus the rows of another
            got = {} if None in reader.first_scan else {k: r for k, r in got.items() if k not in reader.first_scan}
            latest: Table = {}
            for c in newer:
                self._apply(latest, c)
            got.update(latest)
        else:
            for c in newer:
                self._apply(got, c)
        # The position may lag behind W only in the epoch that W is of.
        position = max(applied, view.watermark) if view.epoch == reader.epoch else applied
        expected = self._source_at(reader.epoch, position)[reader.entity]
        if got != expected:
            raise ViolationError(f"view {reader.entity} at S={applied}, W={view.watermark}: {got} != {expected}")
        self._count("read unified")


def _steps(mutant: str | None) -> tuple[str, ...]:
    if mutant is None or not mutant.startswith("swap_"):
        return STEPS
    place = STEPS.index(mutant.removeprefix("swap_"))
    return (*STEPS[:place], STEPS[place + 1], STEPS[place], *STEPS[place + 2 :])


# Action and how often it is chosen. Hypothesis takes the same actions, each as a rule.
ACTIONS = {
    "begin": 4, "write": 22, "commit": 14, "add_column": 1, "lose_slot": 1, "restore_source": 1,
    "start_cdc": 9, "continue_cdc": 26, "crash_cdc": 2,
    "start_run": 6, "repeat_run": 1, "start_backfill": 2, "continue_run": 26, "crash_run": 1,
    "prune": 4, "start_reader": 10,
}  # fmt: skip
SCHEDULE = tuple(name for name, weight in ACTIONS.items() for _ in range(weight))


class Seeded:
    """Choices of `random.Random`, drawn cheaply: a history takes thousands of them."""

    def __init__(self, seed: int) -> None:
        import random

        self._random = random.Random(seed).random

    def below(self, n: int) -> int:
        return int(self._random() * n)


def run(seed: int, mutant: str | None = None, hardships: bool = False, actions: int = 400) -> Lakehouse:
    """One random history. Raises ViolationError where the rule was broken."""
    choices = Seeded(seed)
    house = Lakehouse(choices, mutant, hardships=hardships)
    for _ in range(actions):
        getattr(house, SCHEDULE[choices.below(len(SCHEDULE))])()
        house.tick()
    return house
