"""Something that is owed, as its persistence sees it."""

from __future__ import annotations

import contextlib
import sqlite3
from typing import Any

from activitysmith_track.delivery.entries import Entry
from activitysmith_track.delivery.outbox import Outbox
from activitysmith_track.delivery.parting import leave_all, part
from activitysmith_track.delivery.persistence import Persistence
from activitysmith_track.delivery.runtime import Runtime
from activitysmith_track.delivery.state import CopyOwner


class Owed:
    """Stands in for a delivery."""

    may_have_arrived = is_in_flight = may_come_late = False

    def __init__(self, account: Any, entry: Entry, owner: CopyOwner = CopyOwner.NOBODY) -> None:
        self.account_key, self.entry, self.copy_owner = account.key, entry, owner
        self.kind = entry.kind

    def copy(self, *, failed: bool = False) -> Entry | None:
        return self.entry

    def has_copy(self, entry: Entry, owner: CopyOwner) -> None:
        self.entry, self.copy_owner = entry, owner


def leave(persistence: Persistence, *owed: Any) -> bool:
    """Leave something to a next process; returns whether it is in safe hands."""
    (safe,) = leave_all([part(persistence, lambda: owed, 0.1)], 0.1, Runtime())
    return safe


def is_drained(box: Outbox) -> bool:
    """Tell whether nothing is owed in a file, though what became of it may still be known there."""
    if not box.exists():
        return True
    with contextlib.closing(sqlite3.connect(box.path())) as base:
        return "entries" not in [name for (name,) in base.execute("SELECT name FROM sqlite_master")]
