"""Mixed load on one SQL server that is killed again and again, and a model that knows what must be in its tables.

Every change writes rows in pairs +n and -n, in one commit: a reader that sees a sum other than 0 saw half of one. A
change whose reply was lost may or may not have happened; anything else must be exactly as the model says.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.embedded.sql.process import FINAL, Client, SqlProcess

State = dict[int, int]  # id of a pair -> its amount


class LostError(Exception):
    """The server died, or had died, before it said how the statement ended."""


@dataclass
class Tally:
    commits: int = 0
    unknown: int = 0
    kept: int = 0  # unknown changes that turned out to have happened
    reads: int = 0
    refreshes: int = 0
    vacuums: int = 0
    kills: int = 0

    def __str__(self) -> str:
        return ", ".join(f"{name} {value}" for name, value in vars(self).items())


@dataclass
class Table:
    """One table with one writer; `maybe` is what it holds too if the change without a reply happened."""

    name: str
    rows: State = field(default_factory=dict)
    maybe: State | None = None
    exists: bool = False
    dropping: bool = False  # between the DROP and the CREATE there may be no table
    made: int = 0  # how often it was begun to be made anew

    def expected(self, found: State) -> bool:
        return found == self.rows or (self.maybe is not None and found == self.maybe)


class Soak:
    def __init__(self, server: SqlProcess, lake: str, *, tables: int, seed: int) -> None:
        self.server = server
        self.tables = [Table(f"{lake}.soak{number}") for number in range(tables)]
        self.tally = Tally()
        self.wrong: list[str] = []
        self._random = random.Random(seed)
        self._next = 0
        self._stop = threading.Event()
        self._up = threading.Event()
        self._up.set()
        self._local = threading.local()

    # Speaking to a server that comes and goes ----------------------------------------------------------------------

    def _client(self) -> Client:
        """This thread's client, logged in anew after every kill."""
        self._up.wait()
        known: Client | None = getattr(self._local, "client", None)
        if known is None:
            known = self._local.client = self.server.client()
        return known

    def run(self, sql: str) -> list[dict[str, Any]]:
        """Rows of a statement. Raises LostError when its end is unknown, RuntimeError when it failed."""
        try:
            client = self._client()
            job_id = client.submit(sql)
            while (job := client.job(job_id))["jobState"] not in FINAL:
                time.sleep(0.02)
            if job["jobState"] == "COMPLETED":
                answer = client.http.get(f"/api/v3/job/{job_id}/results", params={"limit": 500})
                return list(answer.json()["rows"]) if answer.status_code == 200 else []
        except (httpx.HTTPError, AssertionError, KeyError, ValueError) as error:
            raise LostError(str(error)) from error
        if "The server stopped" in job["errorMessage"] or "shutting down" in job.get("cancellationReason", ""):
            raise LostError(job["errorMessage"])
        raise RuntimeError(f"{sql[:120]}: {job['errorMessage']}")

    # Load ----------------------------------------------------------------------------------------------------------

    def _change(self, table: Table, dice: random.Random) -> None:
        """One change: its statement, and the state that it leads to."""
        rows = dict(table.rows)
        self._next += 1
        pair, amount = self._next, dice.randint(1, 1_000_000)
        if not table.exists or dice.random() < 0.05:
            self._recreate(table, {pair: amount})
            return
        values = f"(values ({pair}, {amount}), ({pair}, {-amount})) v(id, amount)"
        kind = dice.choice(["insert", "merge", "merge", "delete", "update"]) if rows else "insert"
        old = dice.choice(sorted(rows)) if rows else 0
        if kind == "insert":
            sql = f"insert into {table.name} select * from {values}"
            rows[pair] = amount
        elif kind == "merge":
            values = f"(values ({old}, {amount}, 1), ({old}, {-amount}, -1)) v(id, amount, side)"
            sql = (
                f"merge into {table.name} as t using (select * from {values}) as s"
                " on (t.id = s.id and sign(t.amount) = s.side) when matched then update set amount = s.amount"
            )
            rows[old] = amount
        elif kind == "delete":
            sql = f"delete from {table.name} where id = {old}"
            del rows[old]
        else:
            new = f"case when amount > 0 then {amount} else {-amount} end"
            sql = f"update {table.name} set amount = {new} where id = {old}"
            rows[old] = amount
        self._commit(table, sql, rows)

    def _recreate(self, table: Table, rows: State) -> None:
        """DROP and CTAS are two commits; a loss between them leaves no table, or the new one."""
        table.dropping = True
        table.made += 1
        self.run(f"drop table if exists {table.name}")
        table.exists, table.rows = False, {}
        ((pair, amount),) = rows.items()
        values = f"(values ({pair}, {amount}), ({pair}, {-amount})) v(id, amount)"
        self._commit(table, f"create table {table.name} as select * from {values}", rows)
        table.exists, table.dropping = True, False

    def _commit(self, table: Table, sql: str, rows: State) -> None:
        table.maybe = rows
        self.run(sql)
        table.rows, table.maybe = rows, None
        self.tally.commits += 1

    def _settle(self, table: Table) -> None:
        """After a loss: see which of the two it is."""
        while not self._stop.is_set() or self._up.is_set():
            try:
                found = self.read(table)
            except LostError:
                self._local.client = None
                continue
            except RuntimeError as error:
                if "not found" not in str(error).lower():
                    raise
                if not table.dropping:
                    self.wrong.append(f"{table.name} is gone")
                table.exists, table.rows, table.maybe = False, {}, None
                return
            if table.maybe is not None and found == table.maybe and found != table.rows:
                self.tally.kept += 1
            elif found != table.rows:
                self.wrong.append(f"{table.name} holds {found}, expected {table.rows} or {table.maybe}")
            table.rows, table.maybe, table.exists, table.dropping = found, None, True, False
            return

    def read(self, table: Table) -> State:
        """The table as pairs. Records a torn one."""
        rows = self.run(
            f"select id, max(amount) as amount, min(amount) as low, count(*) as n from {table.name} group by id"
        )
        for row in rows:
            if row["n"] != 2 or row["amount"] + row["low"] != 0:
                self.wrong.append(f"{table.name} has half a commit: {row}")
        return {int(row["id"]): int(row["amount"]) for row in rows}

    def _writer(self, table: Table) -> None:
        dice = random.Random(self._random.random())
        while not self._stop.is_set():
            try:
                self._change(table, dice)
            except LostError:
                self.tally.unknown += 1
                self._local.client = None
                self._settle(table)

    def _reader(self) -> None:
        dice = random.Random(self._random.random())
        while not self._stop.is_set():
            table = dice.choice(self.tables)
            (row,) = self.run(f"select sum(amount) as total, count(*) as n from {table.name}")
            if (row["total"] or 0) != 0 or row["n"] % 2:
                self.wrong.append(f"{table.name} was read torn: {row}")
            self.tally.reads += 1
            time.sleep(0.05)

    def _upkeep(self) -> None:
        dice = random.Random(self._random.random())
        while not self._stop.wait(1.0):
            table = dice.choice(self.tables)
            if dice.random() < 0.4:
                self._refresh(table)
                continue
            made = table.made
            try:
                self.run(f"optimize table {table.name}")
                self.run(f"vacuum table {table.name} expire snapshots older_than '{_now()}' retain_last 2")
            except RuntimeError as error:
                # Of a table that is dropped meanwhile files vanish.
                if table.made == made or "failed to read file" not in str(error).lower():
                    raise
            self.tally.vacuums += 1

    def _refresh(self, table: Table) -> None:
        client = self._client()
        answer = client.http.get("/api/v3/catalog/by-path/" + table.name.replace(".", "/"))
        if answer.status_code != 200:
            return
        dataset = answer.json()["id"]
        known = client.http.get(f"/api/v3/dataset/{dataset}/reflection").json().get("data", [])
        if not known:
            self.run(
                f"alter table {table.name} create aggregate reflection r using dimensions (id)"
                " measures (amount (sum, count))"
            )
        client.http.post(f"/api/v3/catalog/{dataset}/refresh")
        self.tally.refreshes += 1

    def _careless(self, work: Callable[[], None]) -> None:
        """Readers and upkeep may lose anything and may meet a table that is being made anew."""
        while not self._stop.is_set():
            try:
                work()
            except (LostError, httpx.HTTPError):
                self._local.client = None
            except RuntimeError as error:
                if not any(
                    word in str(error).lower()
                    for word in ("not found", "concurrent", "conflict", "does not exist", "unable to find dataset")
                ):
                    self.wrong.append(str(error))

    # The whole -----------------------------------------------------------------------------------------------------

    def go(self, seconds: float, kill_every: float) -> None:
        work = [threading.Thread(target=self._writer, args=(table,), daemon=True) for table in self.tables]
        work += [
            threading.Thread(target=self._careless, args=(job,), daemon=True) for job in (self._reader, self._upkeep)
        ]
        for thread in work:
            thread.start()
        end = time.monotonic() + seconds
        while time.monotonic() < end and not self.wrong:
            time.sleep(min(self._random.uniform(0.5, 1.5) * kill_every, max(0.0, end - time.monotonic())))
            self._kill()
        self._stop.set()
        for thread in work:
            thread.join(timeout=120)
            assert not thread.is_alive(), "a worker of the soak hangs"

    def _kill(self) -> None:
        self._up.clear()
        self.server.kill()
        self.server.start()
        self.tally.kills += 1
        self._up.set()

    def check(self) -> None:
        """Afterwards, at rest: every table is exactly what was acknowledged."""
        self._local.client = None
        for table in self.tables:
            if table.exists:
                found = self.read(table)
                if not table.expected(found):
                    self.wrong.append(f"{table.name} ends with {found}, expected {table.rows} or {table.maybe}")
        assert not self.wrong, "\n".join(self.wrong)


def _now() -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S.000", time.gmtime())
