"""One run over one bucket: list, compare with the ledger, copy what is new, quarantine what is gone, read back a share.

The listing goes through a temporary table, so a bucket of millions of objects takes no more memory than a small one.
Whatever order things die in: a copy is written down after it was checked, so an unwritten one is made again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from include import failpoints, upkeep
from include.ledger import Connection
from include.mirror.copying import Copied, Copier, Source
from include.mirror.errors import DamagedCopyError, MirrorError, TooManyDeletesError, naming
from include.mirror.spec import Mirror
from include.objects import ListingError, Object, listing

LEASE = "mirror"
BATCH = 200
# What Iceberg writes last: a mirror that has it must have what it names.
_POINTER = "%/metadata/%.metadata.json"
_READ_BACK_NEW = 200

Connect = Callable[[], Connection]


@dataclass
class Counts:
    """What a run did; written into `mirror_runs`."""

    listed: int = 0
    copied: int = 0
    copied_bytes: int = 0
    quarantined: int = 0
    verified: int = 0
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Sites:
    """`lake`, `offsite`: boto3 clients; the off-site one signs without hashing each body a second time."""

    ledger: Connect
    lake: Any
    offsite: Any


def sync(
    sites: Sites, mirror: Mirror, who: str, turn: upkeep.Turn, *, max_deletes: int | None = None
) -> dict[str, Counts]:
    """Mirrors every declared bucket. The caller holds the lease.

    max_deletes: allows so many quarantined objects a bucket, whatever the limits say. Raises MirrorError after all
    buckets were tried, with the first reason.
    """
    done, problems = {}, []
    for bucket in mirror.sources:
        counts = Counts()
        run = _begin(sites, bucket, who)
        try:
            _Run(sites, mirror, bucket, counts, turn).all(max_deletes)
        except (MirrorError, ListingError) as error:
            counts.problems.insert(0, str(error))
        _end(sites, run, counts)
        done[bucket] = counts
        problems += [f"{bucket}: {problem}" for problem in counts.problems]
    if problems:
        raise MirrorError(problems[0] if len(problems) == 1 else f"{problems[0]} (and {len(problems) - 1} more)")
    return done


def _begin(sites: Sites, bucket: str, who: str) -> int:
    with sites.ledger() as conn:
        conn.execute(
            "update lakehouse.mirror_runs set status = 'failed', ended_at = clock_timestamp(), "
            "reason = 'it was killed' where bucket = %s and status = 'running'",
            [bucket],
        )
        row = conn.execute(
            "insert into lakehouse.mirror_runs (bucket, started_by) values (%s, %s) returning run_id", [bucket, who]
        ).fetchone()
    assert row is not None
    return int(row["run_id"])


def _end(sites: Sites, run: int, counts: Counts) -> None:
    with sites.ledger() as conn:
        conn.execute(
            "update lakehouse.mirror_runs set ended_at = clock_timestamp(), status = %s, reason = %s, listed = %s, "
            "copied = %s, copied_bytes = %s, quarantined = %s, verified = %s where run_id = %s",
            [
                "failed" if counts.problems else "ok",
                "; ".join(counts.problems)[:2000],
                counts.listed,
                counts.copied,
                counts.copied_bytes,
                counts.quarantined,
                counts.verified,
                run,
            ],
        )


class _Run:
    def __init__(self, sites: Sites, mirror: Mirror, bucket: str, counts: Counts, turn: upkeep.Turn) -> None:
        self._sites, self._mirror, self._bucket, self._counts, self._turn = sites, mirror, bucket, counts, turn
        self._copier = Copier(sites.lake, bucket, sites.offsite, mirror.bucket)

    def all(self, max_deletes: int | None) -> None:
        with self._sites.ledger() as conn:
            self._list(conn)
            self._copy(conn)
            self._delete(conn, max_deletes)
            self._read_back(conn)

    def _list(self, conn: Connection) -> None:
        conn.execute(
            "create temporary table if not exists listed "
            "(key text primary key, size bigint not null, etag text not null) on commit preserve rows"
        )
        conn.execute("truncate listed")
        self._counts.listed = self._load(conn, self._listing(""))
        self._list_tables_again(conn)
        conn.execute("analyze listed")
        conn.commit()

    def _listing(self, prefix: str) -> Iterator[Object]:
        with naming("lake's", self._sites.lake, f"listing s3://{self._bucket}/{prefix}"):
            yield from listing(self._sites.lake, self._bucket, prefix)

    @staticmethod
    def _load(conn: Connection, found: Iterator[Object]) -> int:
        count = 0
        with conn.cursor() as cursor, cursor.copy("copy listed (key, size, etag) from stdin") as copy:
            for one in found:
                copy.write_row((one.key, one.size, one.etag))
                count += 1
        return count

    def _list_tables_again(self, conn: Connection) -> None:
        """A listing takes time: a table's new metadata may name files written after their folder was passed. What is
        listed now includes them; metadata that is newer still waits for the next run.
        """
        fresh = conn.execute(
            "select distinct split_part(l.key, '/metadata/', 1) || '/' as folder from listed as l "
            "left join lakehouse.mirror_objects as m on m.bucket = %s and m.key = l.key "
            "where l.key like %s and m.key is null",
            [self._bucket, _POINTER],
        ).fetchall()
        conn.execute("create temporary table if not exists again (like listed) on commit preserve rows")
        for row in fresh:
            conn.execute("truncate again")
            with conn.cursor() as cursor, cursor.copy("copy again (key, size, etag) from stdin") as copy:
                for one in self._listing(row["folder"]):
                    copy.write_row((one.key, one.size, one.etag))
            conn.execute(
                "insert into listed select * from again where key not like %s on conflict (key) do nothing", [_POINTER]
            )

    def _new(self, conn: Connection) -> list[tuple[Source, bool]]:
        """The next batch to copy, and whether each replaces a copy. Pointers come last, in a batch of their own."""
        rows = conn.execute(
            "select l.key, l.size, l.etag, m.key is not null as replaces, l.key like %(pointer)s as last "
            "from listed as l left join lakehouse.mirror_objects as m on m.bucket = %(bucket)s and m.key = l.key "
            "where m.key is null or m.etag <> l.etag or m.size <> l.size "
            "order by last, l.key limit %(limit)s",
            {"bucket": self._bucket, "pointer": _POINTER, "limit": BATCH},
        ).fetchall()
        first = [row for row in rows if not row["last"]] or rows
        return [(Source(self._bucket, row["key"], row["size"], row["etag"]), row["replaces"]) for row in first]

    def _copy(self, conn: Connection) -> None:
        day = self._day(conn)
        with ThreadPoolExecutor(self._mirror.threads) as pool:
            while batch := self._new(conn):
                self._turn.check()
                failpoints.reach("mirror.before_batch")
                copied, problem = self._copy_batch(pool, batch, day)
                failpoints.reach("mirror.after_copy")
                self._record(conn, [source for source, _ in batch], copied)
                failpoints.reach("mirror.after_record")
                if problem is not None:
                    raise problem

    def _copy_batch(
        self, pool: ThreadPoolExecutor, batch: Sequence[tuple[Source, bool]], day: str
    ) -> tuple[list[Copied], MirrorError | None]:
        """All that could be copied, and the first reason why something could not. A damaged object stops no other."""

        def one(source: Source, replaces: bool) -> Copied | None:
            if replaces:
                self._copier.put_aside(source, day)
            return self._copier.copy(source)

        futures = [pool.submit(one, source, replaces) for source, replaces in batch]
        copied, problem = [], None
        for future in futures:
            try:
                if problem is not None and future.cancel():
                    continue
                made = future.result()
                copied += [made] if made else []
            except DamagedCopyError as error:
                self._counts.problems.append(str(error))
            except MirrorError as error:
                problem = problem or error
        return copied, problem

    def _record(self, conn: Connection, tried: Sequence[Source], copied: Sequence[Copied]) -> None:
        with conn.cursor() as cursor:
            cursor.executemany(
                "insert into lakehouse.mirror_objects as m (bucket, key, size, etag, sha256) "
                "values (%s, %s, %s, %s, %s) on conflict (bucket, key) do update set "
                "size = excluded.size, etag = excluded.etag, "
                "sha256 = excluded.sha256, copied_at = clock_timestamp(), verified_at = null",
                [(c.source.bucket, c.source.key, c.source.size, c.source.etag, c.sha256) for c in copied],
            )
        # What was tried is done with in this run, copied or not: the loop must end.
        conn.execute("delete from listed where key = any(%s)", [[source.key for source in tried]])
        conn.execute("create temporary table if not exists tried (key text) on commit preserve rows")
        conn.execute("insert into tried select unnest(%s::text[])", [[source.key for source in tried]])
        conn.commit()
        self._counts.copied += len(copied)
        self._counts.copied_bytes += sum(one.source.size for one in copied)

    @staticmethod
    def _day(conn: Connection) -> str:
        row = conn.execute("select to_char(clock_timestamp() at time zone 'utc', 'YYYY-MM-DD') as day").fetchone()
        assert row is not None
        return str(row["day"])

    def _delete(self, conn: Connection, max_deletes: int | None) -> None:
        conn.execute("create temporary table if not exists tried (key text) on commit preserve rows")
        missing = (
            "from lakehouse.mirror_objects as m where m.bucket = %s "
            "and not exists (select from listed as l where l.key = m.key) "
            "and not exists (select from tried as t where t.key = m.key)"
        )
        counted = conn.execute(
            f"select count(*) as missing, (select count(*) from lakehouse.mirror_objects where bucket = %s) as total "
            f"{missing}".encode(),
            [self._bucket, self._bucket],
        ).fetchone()
        assert counted is not None
        if not counted["missing"]:
            return
        allowed = max(self._mirror.delete_count, int(self._mirror.delete_fraction * counted["total"]))
        if counted["missing"] > (allowed if max_deletes is None else max_deletes):
            raise TooManyDeletesError(
                f"{counted['missing']} of {counted['total']} copied objects are gone from s3://{self._bucket}, more "
                f"than {allowed}: nothing was moved to quarantine. If they are meant to be gone: "
                f"`python -m include.mirror sync --max-deletes {counted['missing']}`"
            )
        rows = conn.execute(
            f"select m.key, m.size, m.etag {missing} order by m.key".encode(), [self._bucket]
        ).fetchall()
        self._quarantine(conn, [Source(self._bucket, row["key"], row["size"], row["etag"]) for row in rows])

    def _quarantine(self, conn: Connection, missing: Sequence[Source]) -> None:
        day, waiting = self._day(conn), iter(missing)
        with ThreadPoolExecutor(self._mirror.threads) as pool:
            while batch := list(islice(waiting, BATCH)):
                self._turn.check()
                gone = [
                    source
                    for source, is_gone in zip(batch, pool.map(self._copier.is_gone, batch), strict=True)
                    if is_gone
                ]
                if len(gone) < len(batch):
                    self._counts.problems.append(
                        f"the listing of s3://{self._bucket} lacks {len(batch) - len(gone)} objects that are there: "
                        "their copies stay; look for a key that is another key's folder"
                    )
                list(pool.map(lambda source: self._copier.quarantine(source, day), gone))
                failpoints.reach("mirror.after_quarantine")
                conn.execute(
                    "delete from lakehouse.mirror_objects where bucket = %s and key = any(%s)",
                    [self._bucket, [source.key for source in gone]],
                )
                conn.commit()
                self._counts.quarantined += len(gone)

    def _read_back(self, conn: Connection) -> None:
        """New copies first, then the oldest proofs: all of them once in `read_back`."""
        runs = max(1, self._mirror.read_back // self._mirror.every)
        row = conn.execute(
            "select count(*) as n from lakehouse.mirror_objects where bucket = %s", [self._bucket]
        ).fetchone()
        assert row is not None
        rows = conn.execute(
            "select key, size, etag, sha256 from lakehouse.mirror_objects where bucket = %s "
            "and (verified_at is null or verified_at < clock_timestamp() - make_interval(secs => %s)) "
            "order by verified_at nulls first limit %s",
            # Half of the time, so that each is read again before its proof is too old.
            [self._bucket, self._mirror.read_back.total_seconds() / 2, _READ_BACK_NEW + math.ceil(2 * row["n"] / runs)],
        ).fetchall()
        conn.commit()
        copies = [(Source(self._bucket, r["key"], r["size"], r["etag"]), r["sha256"]) for r in rows]
        with ThreadPoolExecutor(self._mirror.threads) as pool:
            for start in range(0, len(copies), BATCH):
                self._turn.check()
                self._prove(conn, pool, copies[start : start + BATCH])

    def _prove(self, conn: Connection, pool: ThreadPoolExecutor, copies: Sequence[tuple[Source, str]]) -> None:
        futures = [pool.submit(self._copier.read_back, *copy) for copy in copies]
        good, bad = [], []
        problem: MirrorError | None = None
        for (source, _), future in zip(copies, futures, strict=True):
            try:
                future.result()
                good.append(source.key)
            except DamagedCopyError as error:
                bad.append(source.key)
                self._counts.problems.append(str(error))
            except MirrorError as error:
                problem = problem or error
        conn.execute(
            "update lakehouse.mirror_objects set verified_at = clock_timestamp() where bucket = %s and key = any(%s)",
            [self._bucket, good],
        )
        # Forgotten, so that the next run copies them again; the damaged copy is put aside then.
        conn.execute(
            "update lakehouse.mirror_objects set etag = '', verified_at = null where bucket = %s and key = any(%s)",
            [self._bucket, bad],
        )
        conn.commit()
        self._counts.verified += len(good)
        if problem is not None:
            raise problem
