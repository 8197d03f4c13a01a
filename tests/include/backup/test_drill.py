"""A set is made, verified, drilled; an increment on it, too."""

from __future__ import annotations

from typing import Any

from include.backup import create, sets
from include.backup import manifest as manifests
from include.backup.drill import Drill
from include.backup.programs import Programs
from include.backup.settings import Backup


def test_a_set_and_an_increment_of_it_are_proven_by_restoring_them(
    backup: Backup, programs: Programs, owner: Any
) -> None:
    full = create.run(backup, programs, sets.new_id())
    owner.execute("update retail.customers set name = 'changed' where id % 7 = 0")
    owner.execute("insert into retail.orders values (1, 9.99, now())")
    increment = create.run(backup, programs, sets.new_id())
    assert (full.kind, increment.kind, increment.parent) == ("full", "incremental", full.set_id)
    assert increment.bytes < full.bytes / 2
    assert manifests.complete(backup.store) == [full.set_id, increment.set_id]
    report = Drill(backup, programs).run(increment.set_id)
    assert report.passed, report.reason
    print(report)
