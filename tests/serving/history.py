"""Seeded random histories of the source, in real transactions that overlap."""

from __future__ import annotations

import datetime as dt
import random
from typing import Any

import psycopg
from psycopg import sql

from include import source, speed
from tests.serving.lanes import EPOCH, Change, Lanes

KEYS = 6
TEXTS = ("19-24", " 25-34", "65+ ", None, "homeowner", "")


class History:
    """Statements on the source; after each commit the source's tables are kept with their LSN."""

    def __init__(self, lanes: Lanes, seed: int) -> None:
        self.lanes = lanes
        self.random = random.Random(seed)
        self.moment = EPOCH
        self.extra: list[str] = []

    def begin(self) -> None:
        """Masters that never change, and the first rows."""
        with self.lanes.source() as conn:
            conn.execute("insert into retail.stores select n, now(), now() from generate_series(1, 2) as n")
            conn.execute(
                "insert into retail.campaigns select n, 'TypeA', '2017-01-01', '2017-12-31', now(), now() "
                "from generate_series(1, 3) as n"
            )
            conn.execute(
                "insert into retail.households (household_id, created_at, updated_at) values (1, %(at)s, %(at)s)",
                {"at": self.moment + dt.timedelta(seconds=1)},
            )
            row = self._row(conn, "households", (1,))
            lsn = self.lanes.remember(conn)
        self.lanes.wal.append(Change("households", lsn, 1, (1,), row))
        self.lanes.build_bronze()

    def transact(self) -> None:
        """One transaction of a few statements; sometimes a second one begins inside it and commits first."""
        with self.lanes.source() as outer, self.lanes.source() as inner, self.lanes.source() as watch:
            first: list[Change] = []
            self.truncated = False
            outer.execute("begin")
            self._statements(outer, watch, first, half=0)
            # Not beside a truncation, whose lock the second transaction would wait for.
            if self.random.random() < 0.3 and not self.truncated:
                second: list[Change] = []
                inner.execute("begin")
                self._statements(inner, watch, second, half=1)
                self._commit(inner, watch, second)
            self._statements(outer, watch, first, half=0)
            if self.random.random() < 0.1:
                outer.execute("rollback")
            else:
                self._commit(outer, watch, first)

    def write(self, table: str, key: tuple[int, ...]) -> None:
        """One row, in a transaction of its own."""
        with self.lanes.source() as conn:
            self._write(conn, self._stream(table), key)
            self._commit(conn, conn, [Change(table, 0, self._lsn(conn), key, self._row(conn, table, key))])

    def delete(self, table: str, key: tuple[int, ...]) -> None:
        with self.lanes.source() as conn:
            conn.execute(*self._where("delete from {} where {}", self._stream(table), key))
            self._commit(conn, conn, [Change(table, 0, self._lsn(conn), key, None)])

    def truncate(self, table: str) -> None:
        with self.lanes.source() as conn:
            conn.execute(sql.SQL("truncate {}").format(sql.Identifier("retail", table)))
            self._commit(conn, conn, [Change(table, 0, self._lsn(conn), None, None)])

    def _commit(self, conn: Any, watch: Any, changes: list[Change]) -> None:
        conn.execute("commit")
        lsn = self.lanes.remember(watch)
        for change in changes:
            change.commit = lsn
        self.lanes.wal += changes

    def _statements(self, conn: Any, watch: Any, changes: list[Change], half: int) -> None:
        """`half`: which keys, so that two open transactions do not wait for each other."""
        for _ in range(self.random.randint(1, 3)):
            stream = self.random.choice(self.lanes.streams)
            if half == 0 and self.random.random() < 0.04:
                if self._truncate(conn, stream.name):
                    changes.append(Change(stream.name, 0, self._lsn(watch), None, None))
                continue
            key = self._key(stream.name, half)
            kind = self.random.random()
            if kind < 0.3:
                if conn.execute(*self._where("delete from {} where {}", stream, key)).rowcount:
                    changes.append(Change(stream.name, 0, self._lsn(watch), key, None))
            elif kind < 0.4:
                self._change_key(conn, watch, stream, key, self._key(stream.name, half), changes)
            else:
                self._write(conn, stream, key)
                changes.append(Change(stream.name, 0, self._lsn(watch), key, self._row(conn, stream.name, key)))

    def _truncate(self, conn: Any, table: str) -> bool:
        try:
            conn.execute("savepoint before_truncate")
            conn.execute("set local lock_timeout = '200ms'")
            conn.execute(f"truncate retail.{table}".encode())
        except psycopg.errors.LockNotAvailable:
            conn.execute("rollback to savepoint before_truncate")
            return False
        self.truncated = True
        return True

    def _key(self, stream: str, half: int) -> tuple[int, ...]:
        number = 2 * self.random.randint(1, KEYS // 2) + half
        return (self.random.randint(1, 3), number) if stream == "campaign_households" else (number,)

    @staticmethod
    def _where(text: str, stream: Any, key: tuple[int, ...]) -> tuple[sql.Composed, list[int]]:
        match = sql.SQL(" and ").join(sql.SQL("{} = %s").format(sql.Identifier(column)) for column in stream.key)
        return sql.SQL(text).format(sql.Identifier("retail", stream.name), match), list(key)

    def _row(self, conn: Any, table: str, key: tuple[int, ...]) -> dict[str, Any]:
        row = conn.execute(*self._where("select * from {} where {}", self._stream(table), key)).fetchone()
        return dict(row)

    def _stream(self, table: str) -> Any:
        return next(s for s in self.lanes.streams if s.name == table)

    def _change_key(
        self, conn: Any, watch: Any, stream: Any, old: tuple[int, ...], new: tuple[int, ...], changes: list[Change]
    ) -> None:
        """An update of the key: in the log a delete of the old one, then the new one."""
        if old == new or conn.execute(*self._where("select 1 from {} where {}", stream, new)).fetchone():
            return
        sets = sql.SQL(", ").join(
            sql.SQL("{} = {}").format(sql.Identifier(c), sql.Literal(v)) for c, v in zip(stream.key, new, strict=True)
        )
        text, values = self._where("update {} set $ where {}", stream, old)
        statement = sql.SQL(text.as_string(conn).replace("$", sets.as_string(conn)))  # type: ignore[arg-type]
        if conn.execute(statement, values).rowcount:
            changes.append(Change(stream.name, 0, self._lsn(watch), old, None))
            changes.append(Change(stream.name, 0, self._lsn(watch), new, self._row(conn, stream.name, new)))

    def _write(self, conn: Any, stream: Any, key: tuple[int, ...]) -> None:
        self.moment += dt.timedelta(seconds=37, microseconds=1234)
        values: dict[str, Any] = dict(zip(stream.key, key, strict=True))
        if stream.name == "orders":
            values |= {"household_id": self.random.randint(1, 3), "store_id": 1, "ordered_at": self.moment}
        if stream.name == "households":
            values |= {"age_range": self.random.choice(TEXTS), "kids_count": self.random.choice(("1", "3+", None))}
        values |= {name: f"x{self.random.randint(0, 9)}" for name in self.extra if stream.name == "households"}
        values |= {"created_at": self.moment, "updated_at": self.moment}
        names = sql.SQL(", ").join(map(sql.Identifier, values))
        marks = sql.SQL(", ").join(map(sql.Placeholder, values))
        rest = [name for name in values if name not in stream.key]
        sets = sql.SQL(", ").join(sql.SQL("{0} = excluded.{0}").format(sql.Identifier(name)) for name in rest)
        conflict = sql.SQL(", ").join(map(sql.Identifier, stream.key))
        conn.execute(
            sql.SQL("insert into {} ({}) values ({}) on conflict ({}) do update set {}").format(
                sql.Identifier("retail", stream.name), names, marks, conflict, sets
            ),
            values,
        )

    def _lsn(self, watch: Any) -> int:
        """Of a change inside a transaction: only its order counts, so each asks the log anew and makes it grow."""
        lsn = speed.lsn_number(source.position_after(watch))
        return lsn
