"""What must not be lost, kept on disk until it is delivered: the ends of cards, and pushes.

An `Outbox` is one SQLite file in the user's state directory. Nothing is imported, opened or written before the first
entry is put in, and a process that finds no entries learns so from one `os.stat`. Every call opens the file, does one
transaction and closes it again, so that nothing is held across a fork or between two calls. No call raises, whatever
the disk does: what goes wrong is logged once a kind, and the call returns something false.

The journal is a rollback journal, since homes may lie on NFS, where a write-ahead log does not work. A drained file
is not removed but cut to its first page: unlinking a database that another process is about to write to would lose
what it writes.
"""

from __future__ import annotations

import hashlib  # noqa: F401  # `key_fingerprint` needs it where anything is kept, and late imports can fail
import time
from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING, NamedTuple

from .entries import Entry, load_checks  # `persistence` takes `Entry` from here, with all that an outbox needs
from .newer_card import AHEAD_SECONDS
from .outbox_file import OutboxFile, has_marks
from .outbox_tables import FREE, LONGEST_LEASE, MARK_SECONDS, OLDER, Tables, rows_of
from .state import Hold

if TYPE_CHECKING:
    import os
    import sqlite3
    from pathlib import Path

    from .newer_card import NewerCard
    from .outbox_file import Result

NOBODY = "-"  # has the lease of what is not to be claimed yet
_RELEASE = (
    "UPDATE entries SET owner = ?, leased_until = ?, begun = 0, attempts = attempts + 1"
    " WHERE id = ? AND (? IS NULL OR owner = ?)"
)


class Idle(NamedTuple):
    """An older run's end that is held back.

    Attributes:
        seconds: for which at least nobody has sent it.
        is_held: whether a third process had it, which may have begun a card in the place of the older run's.
    """

    seconds: float
    is_held: bool


class Outbox:
    """What is owed, on disk. Making an instance does nothing; no method raises, but for `path`.

    Args:
        directory: where the file lies; see `OutboxFile`.
        patience: seconds that one call waits for a file that another process has locked.
        clock: seconds since the epoch.
        now: seconds of a clock that never goes back.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str] | None = None,
        *,
        patience: float = 0.5,
        clock: Callable[[], float] = time.time,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.file = OutboxFile(directory, patience=patience, now=now, load_more=load_checks)
        self._clock = clock

    def path(self) -> Path:
        """Return where the file is, or would be.

        Raises:
            OSError: where the user has no home, so that no absolute path can be told.
        """
        return self.file.path()

    def exists(self) -> bool:
        """Tell whether there may be entries; costs one `os.stat`."""
        return self.file.exists()

    def _transact(
        self, work: Callable[[Tables], Result], nothing: Result, *, create: bool = False, now: float | None = None
    ) -> Result:
        """Do something with the tables in one transaction; where that fails, say so once and return `nothing`."""

        def on(base: sqlite3.Connection) -> Result:
            return work(Tables(base, self._clock() if now is None else now, self.file))

        return self.file.transact(on, nothing, create=create)

    def put(
        self, entries: Iterable[Entry], owner: str | None = None, lease_seconds: float = 0.0, *, sent: bool = False
    ) -> bool:
        """Keep entries, all in one transaction.

        Args:
            entries: what is owed.
            owner: who goes on trying to deliver them, so that nobody else claims them meanwhile; see `claim`.
            lease_seconds: how long from now, at most five minutes; `begin` renews it.
            sent: True where the service may have carried them out already, or may yet carry out an earlier request
                for the same cards.

        An `end` or `keep` replaces one of the same stream whose run began earlier, or that occurred earlier in the
        same run. When the runs began is compared first, since a killed job's end is noted a moment late, when the
        next run may be over already. One that lies in the future is replaced, too: the clock was set back since.

        What is older than 24 hours is dropped, and of more than 1,000 the oldest.

        Returns:
            True when every one of them is safely on disk.
        """
        rows, whole = rows_of(entries, self.file.warn_once)
        if not rows:
            return whole
        until = self._clock() + min(lease_seconds, LONGEST_LEASE)
        leases = [(owner, until, row.id) for row in rows] if owner is not None else []

        def work(tables: Tables) -> bool:
            tables.insert(rows, {row.id for row in rows} if sent else ())
            tables.base.executemany("UPDATE entries SET owner = ?, leased_until = ? WHERE id = ?", leases)
            return True

        return self._transact(work, False, create=True) and whole

    def leave(
        self,
        entries: Iterable[Entry],
        leases: Iterable[tuple[str, str]],
        in_flight: Collection[str] = (),
        late: Collection[str] = (),
    ) -> bool:
        """Leave entries to whoever claims them next, all in one transaction, since the process is about to exit.

        Args:
            entries: what nobody has kept yet; see `put`.
            leases: ids of what is kept or put in now, each with the owner who gives its lease back; see `release`.
            in_flight: ids of what may still arrive, so that `hold_back_ends` waits for it.
            late: ids of ends of cards that an earlier request may yet bring back; see `look_back`.

        Returns:
            True when all of it is safely on disk.
        """
        rows, whole = rows_of(entries, self.file.warn_once)
        released = [(None, self._clock(), each, owner, owner) for each, owner in leases]
        begun = [(int(self._clock()), each) for each in in_flight]
        sent = {*in_flight, *late}

        def work(tables: Tables) -> bool:
            if rows:
                tables.insert(rows, sent)
            tables.base.executemany(_RELEASE, released)
            tables.base.executemany("UPDATE entries SET begun = ? WHERE id = ? AND kind != 'push'", begun)
            for each in sorted(sent - {row.id for row in rows}):
                tables.note(each, sent=True)
            return True

        return ((not rows and not released) or self._transact(work, False, create=bool(rows))) and whole

    def claim(
        self, key_fingerprint: str, base_url: str, owner: str, now: float, lease_seconds: float, *, most: int = 50
    ) -> list[Entry]:
        """Take entries under a lease, so that nobody else delivers them meanwhile.

        What is on the screen comes before pushes, and the newest first: nothing old delays what has just happened.

        Call `begin` right before each attempt, and `delivered` or `release` after it.

        Args:
            key_fingerprint: of the API key at hand; see `_endpoint`.
            base_url: the service's address.
            owner: a text that is different for every process and thread.
            now: seconds since the epoch.
            lease_seconds: after so long without an answer they may be claimed again; at most five minutes.
            most: how many to take at once, so that they can all be delivered before the lease expires.

        Returns:
            What was claimed; an empty list where there is nothing, or the file cannot be used.
        """
        if not self.exists():
            return []
        until = now + min(lease_seconds, LONGEST_LEASE)

        def work(tables: Tables) -> list[Entry]:
            tables.prune()
            return tables.claim((key_fingerprint, base_url), owner, until, most)

        return self._transact(work, [], now=now)

    def inherit(
        self, key_fingerprint: str, base_url: str, gone: str, owner: str, lease_seconds: float
    ) -> list[Entry]:
        """Take under a lease what a process that is gone had under a lease, or had left without one.

        What it was sending when it went may still arrive; a push among that which must not come twice is dropped.

        Args:
            key_fingerprint: of the API key at hand; see `_endpoint`.
            base_url: the service's address.
            gone: that process's name as an owner; what has no lease is taken if it comes from that process.
            owner: who takes it over.
            lease_seconds: how long from now nobody else may claim it; at most five minutes.

        Returns:
            What was taken over.
        """
        if not self.exists():
            return []
        now = self._clock()
        until = now + min(lease_seconds, LONGEST_LEASE)

        def work(tables: Tables) -> list[Entry]:
            return tables.inherit((key_fingerprint, base_url), gone, owner, until)

        return self._transact(work, [], now=now)

    def begin(self, entry_id: str, owner: str, lease_seconds: float, *, goes_on: bool = False) -> Hold:
        """Note that an attempt at a claimed entry begins, and renew its lease.

        Args:
            entry_id: the entry.
            owner: who claimed it.
            lease_seconds: how long from now nobody else may claim it; at most five minutes.
            goes_on: True for the next request of an attempt that has begun, of which only the last one ends the card.

        Returns:
            Who has it now, or what became of it. If its lease has run out, the owner takes it again.
        """
        until = self._clock() + min(lease_seconds, LONGEST_LEASE)

        def work(tables: Tables) -> Hold:
            noted = (
                f"UPDATE entries SET begun = ?, leased_until = ?, owner = ? WHERE id = ? AND (owner = ? OR {FREE})"
            )
            now, base = tables.now, tables.base
            values = (int(now), until, owner, entry_id, owner, now, now + LONGEST_LEASE)
            if base.execute(noted, values).rowcount:
                tables.note(entry_id, sent=True, goes_on=goes_on)
                return Hold.MINE
            if base.execute("SELECT 1 FROM entries WHERE id = ?", (entry_id,)).fetchone():
                return Hold.OTHERS
            if not has_marks(base):
                return Hold.GONE
            asked = "UPDATE marks SET until = min(until, ?) WHERE id = ? AND settled = 1"
            is_settled = base.execute(asked, (now + MARK_SECONDS, entry_id)).rowcount
            return Hold.SETTLED if is_settled else Hold.GONE

        return self._transact(work, Hold.UNKNOWN)

    def renew(self, owner: str, lease_seconds: float) -> bool:
        """Renew all leases of an owner, who still tries to deliver what is under them; True when that is on disk.

        Args:
            owner: whose leases.
            lease_seconds: how long from now nobody else may claim it; at most five minutes.
        """
        until = self._clock() + min(lease_seconds, LONGEST_LEASE)

        def work(tables: Tables) -> bool:
            tables.base.execute("UPDATE entries SET leased_until = ? WHERE owner = ?", (until, owner))
            return True

        return self._transact(work, False)

    def next_lease_end(self, key_fingerprint: str, base_url: str, owner: str) -> float | None:
        """Return when the first lease of others runs out, in seconds since the epoch; `None` where there is none.

        Args:
            key_fingerprint: of the API key at hand; see `_endpoint`.
            base_url: the service's address.
            owner: whose leases do not count.
        """
        if not self.exists():
            return None

        def work(tables: Tables) -> float | None:
            others = "key_fingerprint = ? AND base_url = ? AND owner != ? AND leased_until BETWEEN ? AND ?"
            values = key_fingerprint, base_url, owner, tables.now, tables.now + LONGEST_LEASE
            found: float | None
            (found,) = tables.base.execute(f"SELECT min(leased_until) FROM entries WHERE {others}", values).fetchone()
            return found

        return self._transact(work, None)

    def over(self, entry_id: str, owner: str, *, sent: bool = True, shown: bool = False) -> bool:
        """Note that an attempt is over, and that the owner will try again.

        Args:
            entry_id: what was attempted.
            owner: who has it.
            sent: False where the attempt has failed for certain.
            shown: True for the last state of a card that stays up, where the service has shown it. It is dropped
                after five minutes if its owner is gone by then: it would bring back a card that the user has put
                away, or take the place of what is shown there since.

        Returns:
            True when that is on disk.
        """
        own = "id = ? AND owner = ?"

        def work(tables: Tables) -> bool:
            base = tables.base
            if not sent and has_marks(base):
                tried = f"SELECT id FROM entries WHERE {own} AND begun != 0"
                base.execute(f"UPDATE marks SET sent = before, before = NULL WHERE id = ({tried})", (entry_id, owner))
            if shown and has_marks(base):
                answered = f"answered = ? WHERE id = (SELECT id FROM entries WHERE {own})"
                base.execute(
                    f"UPDATE marks SET sent = before, before = NULL, {answered}", (tables.now, entry_id, owner)
                )
            return base.execute(f"UPDATE entries SET begun = 0 WHERE {own}", (entry_id, owner)).rowcount > 0

        return self._transact(work, False)

    def delivered(self, ids: Iterable[str]) -> bool:
        """Forget entries that have arrived, or that nobody may send again; True when that is on disk."""
        keys = list(ids)

        def work(tables: Tables) -> bool:
            for each in keys:
                tables.settle(each, answered=True)
            return True

        return not keys or self._transact(work, False)

    def release(self, ids: Iterable[str], owner: str | None = None, *, seconds: float = 0.0) -> bool:
        """Give leases back after attempts that surely failed, or where a duplicate does no harm.

        Args:
            ids: the entries.
            owner: whose leases; those that somebody else has claimed since are left alone. `None` takes any.
            seconds: for which nobody may claim them yet.

        Returns:
            True when that is on disk.
        """
        keys = [(NOBODY if seconds else None, self._clock() + seconds, each, owner, owner) for each in ids]

        def work(tables: Tables) -> bool:
            tables.base.executemany(_RELEASE, keys)
            return True

        return not keys or self._transact(work, False)

    def hold_back_ends(
        self,
        key_fingerprint: str,
        base_url: str,
        stream_key: str,
        owner: str,
        lease_seconds: float,
        began_by: float = float("inf"),
    ) -> dict[str, Idle] | None:
        """Take under a lease what an older run owes its card, while a newer run begins under the same key.

        Nobody else sends it meanwhile, and it is still there if the newer run's card never appears. Call `delivered`
        when that card has appeared, and `release` when it will not.

        Args:
            key_fingerprint: of the API key at hand; see `_endpoint`.
            base_url: the service's address.
            stream_key: the card.
            owner: the process of the newer run, whose own entries are left out.
            lease_seconds: how long from now; at most five minutes.
            began_by: seconds since the epoch; a run that began between that and now is no older one. One that lies
                in the future began before the clock was set back.

        Returns:
            The ids of these entries, each with how long nobody has sent it, and who had it. `None` where
            another process is sending one of them at this moment, or was when it left, so that it may yet end the
            newer run's card: ask again when that is over.
        """
        if not self.exists():
            return {}
        now, seconds = self._clock(), min(lease_seconds, LONGEST_LEASE)

        def work(tables: Tables) -> dict[str, Idle] | None:
            same = (
                f"kind != 'push' AND key_fingerprint = ? AND base_url = ? AND stream_key = ? AND run != ? AND {OLDER}"
            )
            values = key_fingerprint, base_url, stream_key, owner, began_by, tables.now + AHEAD_SECONDS
            if tables.is_under_way(same, values, owner):
                return None
            leased = f"owner != ? AND owner != run AND NOT {FREE}"
            begun = f"SELECT id, leased_until - ? * (owner IS NOT NULL), {leased} FROM entries WHERE {same}"
            asked = seconds, owner, now, now + LONGEST_LEASE, *values
            found = tables.base.execute(begun, asked).fetchall()
            idle = {key: Idle(max(0.0, now - since), bool(is_held)) for key, since, is_held in found}
            for key in idle:
                tables.note(key, awaited=tables.is_leased(key, but_for=owner))
            held = f"UPDATE entries SET owner = ?, leased_until = ?, begun = 0 WHERE {same}"
            tables.base.execute(held, (owner, now + seconds, *values))
            return idle

        nothing: dict[str, Idle] | None = {}
        return self._transact(work, nothing)

    def look_back(self, card: NewerCard) -> float | None:
        """Tell when an older run has last sent an end that may have ended a newer run's card.

        The ends that older runs still owe the card are forgotten, since the newer run's card has replaced theirs.

        Args:
            card: the newer run's card.

        Returns:
            Seconds since the epoch; 0 where none was sent, or where the clock was set back to before that. `None`
            where another process is sending one at this moment: ask again when that is over.
        """
        if not self.exists():
            return 0.0

        def work(tables: Tables) -> float | None:
            now = tables.now
            others = "key_fingerprint = ? AND base_url = ? AND stream_key = ? AND run != ?"
            values = card.key_fingerprint, card.base_url, card.stream_key, card.run
            same = f"kind != 'push' AND {others}"
            if tables.is_under_way(same, values, card.owner):
                return None
            of_older = *values, card.began_at, now + AHEAD_SECONDS
            for (key,) in tables.base.execute(
                f"SELECT id FROM entries WHERE {same} AND {OLDER}", of_older
            ).fetchall():
                tables.settle(key, awaited=tables.is_leased(key))
            if not has_marks(tables.base):
                return 0.0
            found = f"SELECT sent, answered FROM marks WHERE {others} AND {OLDER}"
            known = tables.base.execute(found, of_older).fetchall()
            own = tables.base.execute("SELECT before FROM marks WHERE id = ?", (card.end_id,)).fetchall()
            sent = [at for at, *_ in known + own if isinstance(at, float)]
            unanswered = [at for at in sent if card.since - card.late <= at <= card.until]
            answered = [at for _, at in known if isinstance(at, float) and card.since <= at <= card.until]
            return max([0.0, *unanswered, *answered])

        nothing: float | None = 0.0
        return self._transact(work, nothing)
