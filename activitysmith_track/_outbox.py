"""What must not be lost, kept on disk until it is delivered: the ends of cards, and pushes.

An `Outbox` is one SQLite file in the user's state directory. Nothing is imported, opened or written before the first
entry is put in, and a process that finds no entries learns so from one `os.stat`. Every call opens the file, does one
transaction and closes it again, so that nothing is held across a fork or between two calls. No call raises, whatever
the disk does: what goes wrong is logged once a kind, and the call returns something false.

The journal is a rollback journal, since homes may lie on NFS, where a write-ahead log does not work. A drained file
is not removed but cut to its first page: unlinking a database that another process is about to write to would lose
what it writes.

Of the end of a card that is gone from there a mark stays for a few minutes, without its body: that nobody is to send
it any more, and when it was last sent. So who still has it in memory learns what became of it, and a newer run learns
whether its card may have been ended.
"""

from __future__ import annotations

import contextlib
import hashlib  # noqa: F401  # `key_fingerprint` needs it where anything is kept, and late imports can fail
import json
import logging
import math
import os
import random
import stat
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ._forks import children, importing, storing
from .delivery.state import Hold

if TYPE_CHECKING:
    import sqlite3

logger = logging.getLogger("activitysmith_track")

KEPT_SECONDS = 24 * 3600.0  # what is older is no news any more
KEPT_ENTRIES = 1_000
ATTEMPT_SECONDS = 7.0  # after which an attempt of another process is over, even where that could not say so
TURN_SECONDS = 5.0  # that one thread waits for another one's call: for a disk that is slow, which is not locked
MARK_SECONDS = 300.0  # for which it is known what became of an end
LONGEST_LEASE = 300.0  # seconds; a lease that seems longer was made by a clock that has been set back since
MAX_BODY_BYTES = 64 * 1024  # of JSON; the service takes 4 KB of a push and 16 KB of metadata

_FILE = "outbox-2.sqlite"  # the figure is the table's: another table gets another file
_PAGE = 4096  # bytes: the size of a drained file, which is one page
_STEPS, _MOST_STEPS = 10_000, 2_000_000  # of SQLite's machine; a thousand entries take a tenth of that
_TABLE = """CREATE TABLE entries (
    seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, kind TEXT NOT NULL, hint TEXT NOT NULL, base_url TEXT NOT NULL,
    stream_key TEXT, body TEXT NOT NULL, at_least_once INTEGER NOT NULL, happened REAL NOT NULL, run TEXT NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0, owner TEXT, leased_until REAL NOT NULL DEFAULT 0,
    begun INTEGER NOT NULL DEFAULT 0, began REAL NOT NULL DEFAULT 0)"""
_MARKS = """CREATE TABLE marks (
    id TEXT PRIMARY KEY, hint TEXT NOT NULL, base_url TEXT NOT NULL, stream_key TEXT, run TEXT NOT NULL,
    sent REAL, before REAL, answered REAL, settled INTEGER NOT NULL, until REAL NOT NULL)"""
_ENTRIES = frozenset({("table", "entries", _TABLE), ("index", "sqlite_autoindex_entries_1", None)})
_MARKED = frozenset({("table", "marks", _MARKS), ("index", "sqlite_autoindex_marks_1", None)})
_SCHEMAS = (frozenset[object](), _ENTRIES, _MARKED, _ENTRIES | _MARKED)  # marks are there while there are any
_LOCKED = "database is locked"
_READ_ONLY = "attempt to write a readonly database"  # a file that says so itself, or lies in a place that does
_PASSING = frozenset(  # SQLite's own words, the only ones that Python 3.10 passes on
    {
        "access permission denied",
        _READ_ONLY,
        _LOCKED,
        "database or disk is full",
        "database table is locked",
        "disk I/O error",
        "locking protocol",
        "unable to open database file",
    }
)
_PRAGMAS = (
    "trusted_schema = OFF",
    "cell_size_check = ON",
    "secure_delete = ON",
    "synchronous = FULL",
    "journal_mode = DELETE",
    "cache_spill = OFF",  # only the commit needs the file for itself
)
_ROUNDS = 20  # of a claim in which odd entries are dropped and others take their place
_OPERATIONS = {"end": "end_stream", "keep": "stream", "push": "send"}
_LONGEST_NAME = 300  # characters of an id or a run

_busy: set[int] = set()  # the thread that is in a call

T = TypeVar("T")


@dataclass(frozen=True)
class Entry:
    """Something that is owed.

    Attributes:
        kind: `end` (the DELETE of a stream), `keep` (the last PUT of a card that stays up) or `push`.
        hint: which API key it goes out with; see `key_fingerprint`.
        base_url: the service's address.
        body: the body of the request.
        happened: seconds since the epoch, when the block ended.
        stream_key: the card, for `end` and `keep`; `None` for a push.
        at_least_once: True where a duplicate is better than nothing. A push without it is dropped where nobody can
            tell whether an attempt succeeded.
        run: names the process and the block that it comes from.
        id: putting the same id twice keeps it once.
        attempts: how often it was released after a failure.
        began: seconds since the epoch, when the run began whose end it is; 0 for a push.
    """

    kind: str
    hint: str
    base_url: str
    body: Mapping[str, Any]
    happened: float
    stream_key: str | None = None
    at_least_once: bool = True
    run: str = ""
    id: str = field(default_factory=lambda: os.urandom(12).hex())
    attempts: int = 0
    began: float = 0.0


class _Refused(OSError):
    """The file or its directory could be somebody else's."""


class _Alien(Exception):
    """The file is a database of something else, or was tampered with."""


class Outbox:
    """What is owed, on disk. Making one does nothing; no method raises.

    Args:
        directory: where the file lies; `None` is `activitysmith-track` in the user's state directory. It is made with
            mode 0700 if it is not there, and refused if others own it or may write to it.
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
        self.patience = patience
        self._directory, self._clock, self._now = directory, clock, now
        self._path: Path | None = None
        self._told: dict[object, object] = {}  # by whom, since two threads may be about to tell the same

    def path(self) -> Path:
        """Return where the file is, or would be.

        Raises:
            OSError: where the user has no home, so that no absolute path can be told.
        """
        if self._path is None:
            path = Path(_state_directory() if self._directory is None else self._directory, _FILE)
            if not path.is_absolute() and self._directory is None:
                raise _Refused("there is no home directory to keep it in")
            self._path = path.absolute()
        return self._path

    def exists(self) -> bool:
        """Tell whether there may be entries; costs one `os.stat`."""
        try:
            return os.stat(self.path()).st_size > _PAGE
        except FileNotFoundError:
            return False
        except Exception as error:
            self._tell(error)
            return False

    def put(
        self, entries: Iterable[Entry], owner: str | None = None, lease_seconds: float = 0.0, *, sent: bool = False
    ) -> bool:
        """Keep entries, all in one transaction.

        Args:
            entries: what is owed.
            owner: who goes on trying to deliver them, so that nobody else claims them meanwhile; see `claim`.
            lease_seconds: how long from now, at most five minutes; `begin` renews it.
            sent: True where they may have been carried out by now.

        An `end` or `keep` takes the place of one of the same stream whose run began before its own, or has happened
        before it in the same run: when a job was killed is known a moment later only, and a next run may be over by
        then. So it does of one that is yet to happen, since the clock was set back.

        What is older than 24 hours is dropped, and of more than 1,000 the oldest.

        Returns:
            True when every one of them is safely on disk.
        """
        rows, whole = self._rows(entries)
        if not rows:
            return whole
        until = self._clock() + min(lease_seconds, LONGEST_LEASE)
        leases = [(owner, until, row[0]) for row in rows] if owner is not None else []

        def work(base: sqlite3.Connection) -> bool:
            self._insert(base, rows, sent=sent)
            base.executemany("UPDATE entries SET owner = ?, leased_until = ? WHERE id = ?", leases)
            return True

        return self._transact(work, False, create=True) and whole

    def leave(
        self, entries: Iterable[Entry], leases: Iterable[tuple[str, str]], in_flight: Collection[str] = ()
    ) -> bool:
        """Leave entries to whoever claims them next, all in one transaction, since the process is about to exit.

        Args:
            entries: what nobody has kept yet; see `put`.
            leases: ids of what is kept or put in now, each with the owner who gives its lease back; see `release`.
            in_flight: ids of what may still arrive, so that `hold_ends` waits for it.

        Returns:
            True when all of it is safely on disk.
        """
        rows, whole = self._rows(entries)
        released = [(self._clock(), each, owner, owner) for each, owner in leases]
        begun = [(int(self._clock()), each) for each in in_flight]

        def work(base: sqlite3.Connection) -> bool:
            if rows:
                self._insert(base, rows)
            base.executemany(_RELEASE, released)
            base.executemany("UPDATE entries SET begun = ? WHERE id = ? AND kind != 'push'", begun)
            for each in in_flight:
                self._note(base, each, sent=True)
            return True

        return ((not rows and not released) or self._transact(work, False, create=bool(rows))) and whole

    def claim(
        self, hint: str, base_url: str, owner: str, now: float, lease_seconds: float, *, most: int = 50
    ) -> list[Entry]:
        """Take entries under a lease, so that nobody else delivers them meanwhile.

        What is on the screen comes before pushes, and the newest first: nothing old delays what has just happened.

        Call `begin` right before each attempt, and `delivered` or `release` after it.

        Args:
            hint: the API key at hand; see `key_fingerprint`.
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

        def work(base: sqlite3.Connection) -> list[Entry]:
            self._prune(base, now)
            self._drop_ambiguous(base, now)
            return self._take(base, (hint, base_url), owner, now, until, most)

        return self._transact(work, [])

    def inherit(self, hint: str, base_url: str, gone: str, owner: str, lease_seconds: float) -> list[Entry]:
        """Take under a lease what a process that is gone had under one, or has left to whoever comes next.

        What it was sending when it went is still on its way, and what of that may not come twice is dropped.

        Args:
            hint: the API key at hand; see `key_fingerprint`.
            base_url: the service's address.
            gone: the owner that the process was; of what it has given back, what came from it.
            owner: who takes it over.
            lease_seconds: how long from now nobody else may claim it; at most five minutes.

        Returns:
            What was taken over.
        """
        if not self.exists():
            return []
        now = self._clock()
        until = now + min(lease_seconds, LONGEST_LEASE)

        def work(base: sqlite3.Connection) -> list[Entry]:
            left = f"hint = ? AND base_url = ? AND (owner = ? OR (run = ? AND {_FREE}))"
            values = hint, base_url, gone, gone, now, now + LONGEST_LEASE
            base.execute(f"DELETE FROM entries WHERE {left} AND {_AMBIGUOUS}", values)
            taken: list[Entry] = []
            rows = f"SELECT {_COLUMNS} FROM entries WHERE {left} ORDER BY kind = 'push', seq DESC"
            for seq, *found in base.execute(rows, (MAX_BODY_BYTES, *values)).fetchall():
                entry = self._read(found)
                if entry is not None:  # else who claims it drops it
                    base.execute("UPDATE entries SET owner = ?, leased_until = ? WHERE seq = ?", (owner, until, seq))
                    taken.append(entry)
            return taken

        return self._transact(work, [])

    def begin(self, entry_id: str, owner: str, lease_seconds: float) -> Hold:
        """Note that an attempt at a claimed entry begins, and renew its lease.

        Args:
            entry_id: the entry.
            owner: who claimed it.
            lease_seconds: how long from now nobody else may claim it; at most five minutes.

        Returns:
            Who has it now, or what became of it. What nobody holds any more is taken again.
        """
        until = self._clock() + min(lease_seconds, LONGEST_LEASE)

        def work(base: sqlite3.Connection) -> Hold:
            noted = (
                f"UPDATE entries SET begun = ?, leased_until = ?, owner = ? WHERE id = ? AND (owner = ? OR {_FREE})"
            )
            now = self._clock()
            values = (int(now), until, owner, entry_id, owner, now, now + LONGEST_LEASE)
            if base.execute(noted, values).rowcount:
                self._note(base, entry_id, sent=True)
                return Hold.MINE
            if base.execute("SELECT 1 FROM entries WHERE id = ?", (entry_id,)).fetchone():
                return Hold.OTHERS
            if not _has_marks(base):
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

        def work(base: sqlite3.Connection) -> bool:
            base.execute("UPDATE entries SET leased_until = ? WHERE owner = ?", (until, owner))
            return True

        return self._transact(work, False)

    def next_lease_end(self, hint: str, base_url: str, owner: str) -> float | None:
        """Return when the first lease of others runs out, in seconds since the epoch; `None` where there is none.

        Args:
            hint: the API key at hand; see `key_fingerprint`.
            base_url: the service's address.
            owner: whose leases do not count.
        """
        if not self.exists():
            return None

        def work(base: sqlite3.Connection) -> float | None:
            others = "hint = ? AND base_url = ? AND owner != ? AND leased_until BETWEEN ? AND ?"
            now = self._clock()
            values = hint, base_url, owner, now, now + LONGEST_LEASE
            found: float | None
            (found,) = base.execute(f"SELECT min(leased_until) FROM entries WHERE {others}", values).fetchone()
            return found

        return self._transact(work, None)

    def over(self, entry_id: str, owner: str, *, sent: bool = True) -> bool:
        """Note that an attempt is over, and that the owner will try again.

        Args:
            entry_id: what was attempted.
            owner: who has it.
            sent: False where the attempt has failed for certain.

        Returns:
            True when that is on disk.
        """
        own = "id = ? AND owner = ?"

        def work(base: sqlite3.Connection) -> bool:
            if not sent and _has_marks(base):
                tried = f"SELECT id FROM entries WHERE {own} AND begun != 0"
                base.execute(f"UPDATE marks SET sent = before, before = NULL WHERE id = ({tried})", (entry_id, owner))
            return base.execute(f"UPDATE entries SET begun = 0 WHERE {own}", (entry_id, owner)).rowcount > 0

        return self._transact(work, False)

    def delivered(self, ids: Iterable[str]) -> bool:
        """Forget entries that have arrived, or that nobody may send again; True when that is on disk."""
        keys = list(ids)

        def work(base: sqlite3.Connection) -> bool:
            for each in keys:
                self._settle(base, each, answered=True)
            return True

        return not keys or self._transact(work, False)

    def release(self, ids: Iterable[str], owner: str | None = None) -> bool:
        """Give leases back after attempts that surely failed, or where a duplicate does no harm.

        Args:
            ids: the entries.
            owner: whose leases; those that somebody else has claimed since are left alone. `None` takes any.

        Returns:
            True when that is on disk.
        """
        keys = [(self._clock(), each, owner, owner) for each in ids]

        def work(base: sqlite3.Connection) -> bool:
            base.executemany(_RELEASE, keys)
            return True

        return not keys or self._transact(work, False)

    def hold_ends(
        self,
        hint: str,
        base_url: str,
        stream_key: str,
        owner: str,
        lease_seconds: float,
        began_by: float = float("inf"),
    ) -> dict[str, float] | None:
        """Take under a lease what an older run owes its card, while a newer run begins under the same key.

        Nobody else sends it meanwhile, and it is still there should the newer run not come to be shown. Call
        `delivered` when that is, and `release` when it will not be.

        Args:
            hint: the API key at hand; see `key_fingerprint`.
            base_url: the service's address.
            stream_key: the card.
            owner: who begins the newer run; what it owes itself is another matter.
            lease_seconds: how long from now; at most five minutes.
            began_by: seconds since the epoch, by when an older run has begun.

        Returns:
            The ids of what that is, and for how many seconds at least nobody has sent any of it; `None` where another
            process is sending it at this moment, or has left while it did, so that it may yet end the newer run's
            card: ask again when that is over.
        """
        if not self.exists():
            return {}
        now, seconds = self._clock(), min(lease_seconds, LONGEST_LEASE)

        def work(base: sqlite3.Connection) -> dict[str, float] | None:
            same = "kind != 'push' AND hint = ? AND base_url = ? AND stream_key = ? AND run != ? AND began <= ?"
            values = hint, base_url, stream_key, owner, began_by
            if _is_under_way(base, same, values, owner, now):
                return None
            begun = f"SELECT id, leased_until - ? * (owner IS NOT NULL) FROM entries WHERE {same}"
            idle = {key: max(0.0, now - since) for key, since in base.execute(begun, (seconds, *values))}
            for key in idle:
                self._note(base, key, lives=self._lives(base, key))
            held = f"UPDATE entries SET owner = ?, leased_until = ?, begun = 0 WHERE {same}"
            base.execute(held, (owner, now + seconds, *values))
            return idle

        nothing: dict[str, float] | None = {}
        return self._transact(work, nothing)

    def look_back(
        self, hint: str, base_url: str, stream_key: str, owner: str, began: float, since: float, late: float = 0.0
    ) -> float | None:
        """Tell when an older run's end was last sent that may have been carried out since a newer run has the card.

        What older runs owe the card by now is forgotten, for the newer run has made it untrue.

        Args:
            hint: the API key at hand; see `key_fingerprint`.
            base_url: the service's address.
            stream_key: the card.
            owner: whose the newer run is; what it owes itself is another matter.
            began: seconds since the epoch, when the newer run began.
            since: the same, since when it has the card.
            late: seconds for which what was sent before that, and never answered, may come.

        Returns:
            Seconds since the epoch, 0 for not at all, or where the clock was set back behind it; `None` where another
            process is sending one at this moment: ask again when that is over.
        """
        if not self.exists():
            return 0.0
        now = self._clock()

        def work(base: sqlite3.Connection) -> float | None:
            card, values = (
                "hint = ? AND base_url = ? AND stream_key = ? AND run != ?",
                (hint, base_url, stream_key, owner),
            )
            same = f"kind != 'push' AND {card}"
            if _is_under_way(base, same, values, owner, now):
                return None
            older = f"SELECT id FROM entries WHERE {same} AND began <= ?"
            for (key,) in base.execute(older, (*values, began)).fetchall():
                self._settle(base, key, lives=self._lives(base, key))
            if not _has_marks(base):
                return 0.0
            found = f"SELECT sent, answered FROM marks WHERE {card}"
            known = base.execute(found, values).fetchall()
            unanswered = [sent for sent, _ in known if isinstance(sent, float) and since - late <= sent <= now]
            answered = [at for _, at in known if isinstance(at, float) and since <= at <= now]
            return max([0.0, *unanswered, *answered])

        nothing: float | None = 0.0
        return self._transact(work, nothing)

    # -- what became of it

    def _note(
        self,
        base: sqlite3.Connection,
        key: str,
        *,
        sent: bool = False,
        settled: bool = False,
        answered: bool = False,
        lives: bool = False,
    ) -> None:
        """Note what is known of an entry.

        Args:
            base: the file.
            key: the entry's id.
            sent: True where it is being sent.
            settled: True where nobody is to send it any more. Of a push that is noted where somebody else may ask.
            answered: True where the attempt that is under way, if any, was answered, so that it comes no later.
            lives: True where its own process may ask, which may do so much later, when its next attempt is due.
        """
        now = self._clock()
        found = base.execute("SELECT kind, owner = run, begun FROM entries WHERE id = ?", (key,)).fetchone()
        if found is None or (found[0] == "push" and (found[1] or not settled)):
            return
        if not _has_marks(base):
            base.execute(_MARKS)
        until = now + (KEPT_SECONDS if lives else MARK_SECONDS)
        base.execute(_MARK, (int(settled), until, key))
        if sent:
            base.execute("UPDATE marks SET before = sent, sent = ?, answered = NULL WHERE id = ?", (now, key))
        elif answered and found[2]:
            base.execute("UPDATE marks SET sent = before, before = NULL, answered = ? WHERE id = ?", (now, key))

    def _settle(self, base: sqlite3.Connection, key: str, *, answered: bool = False, lives: bool = False) -> None:
        """Take an entry out that nobody is to send any more; see `_note`."""
        self._note(base, key, settled=True, answered=answered, lives=lives)
        base.execute("DELETE FROM entries WHERE id = ?", (key,))

    def _lives(self, base: sqlite3.Connection, key: str) -> bool:
        """Tell whether an entry is under a lease of the process that it comes from."""
        now = self._clock()
        own = f"SELECT 1 FROM entries WHERE id = ? AND owner = run AND NOT {_FREE}"
        return base.execute(own, (key, now, now + LONGEST_LEASE)).fetchone() is not None

    # -- what goes in and comes out

    def _rows(self, entries: Iterable[Entry]) -> tuple[list[tuple[Any, ...]], bool]:
        """Return the rows of entries that can be kept, and whether that is all of them."""
        _load_checks()
        rows = [self._row(entry) for entry in entries]
        return [row for row in rows if row is not None], None not in rows

    def _row(self, entry: Entry) -> tuple[Any, ...] | None:
        try:
            text = json.dumps(_checked(entry).body, allow_nan=False)
            if len(text) > MAX_BODY_BYTES:
                raise ValueError(f"{len(text)} bytes of JSON")
        except Exception as error:
            self._tell_once("unfit", "activitysmith_track cannot keep an entry (told once): %s", error)
            return None
        account = entry.hint, entry.base_url, entry.stream_key
        happened = float(entry.happened)
        began = min(float(entry.began), happened)  # the clock may have been set back meanwhile
        details = int(entry.at_least_once), happened, entry.run, entry.attempts, began
        return entry.id, entry.kind, *account, text, *details

    def _insert(self, base: sqlite3.Connection, rows: list[tuple[Any, ...]], *, sent: bool = False) -> bool:
        now = self._clock()
        self._prune(base, now)
        known = {key for (key,) in base.execute("SELECT id FROM entries")}
        of_streams = "SELECT hint, base_url, stream_key, began, happened, id FROM entries WHERE kind != 'push'"
        ends = {tuple(found[:3]): (found[3:5], found[5]) for found in base.execute(of_streams)}
        for row in rows:
            if row[0] in known:
                continue
            known.add(row[0])
            is_newest = self._supersedes(base, ends, row, now)
            base.execute(_INSERT, (*row, now))
            if sent:
                self._note(base, row[0], sent=True)
            if not is_newest:  # of which whoever has it hears when it asks
                self._settle(base, row[0], lives=True)
        newest = "SELECT seq FROM entries ORDER BY seq DESC LIMIT ?"
        dropped = base.execute(f"DELETE FROM entries WHERE seq NOT IN ({newest})", (KEPT_ENTRIES,)).rowcount
        if dropped:
            self._tell_once("full", "activitysmith_track keeps %d entries: the oldest were dropped", KEPT_ENTRIES)
        return True

    def _supersedes(
        self, base: sqlite3.Connection, ends: dict[Any, tuple[Any, str]], row: tuple[Any, ...], now: float
    ) -> bool:
        """Let an end take the place of an older one of its stream; False where there is a newer one already.

        What has yet to happen is from before the clock was set back.
        """
        key, kind, stream, times = row[0], row[1], row[2:5], (row[10], row[7])
        if kind == "push":
            return True
        before, older = ends.get(stream, (times, ""))
        if all(isinstance(each, float) for each in before) and before > times and before[1] <= now:
            return False
        self._settle(base, older, lives=self._lives(base, older))
        ends[stream] = times, key
        return True

    def _prune(self, base: sqlite3.Connection, now: float) -> None:
        span = (now - KEPT_SECONDS, now + KEPT_SECONDS)
        old = base.execute("DELETE FROM entries WHERE coalesce(happened, 0) NOT BETWEEN ? AND ?", span).rowcount
        if old:
            self._tell_once("old", "activitysmith_track dropped what could not be delivered within 24 hours")
        if _has_marks(base):
            newest = "SELECT rowid FROM marks ORDER BY rowid DESC LIMIT ?"
            over = f"DELETE FROM marks WHERE until NOT BETWEEN ? AND ? OR rowid NOT IN ({newest})"
            base.execute(over, (now, now + KEPT_SECONDS, KEPT_ENTRIES))

    def _drop_ambiguous(self, base: sqlite3.Connection, now: float) -> None:
        """Drop pushes that may have been delivered by a process that died before it could say so."""
        if base.execute(f"DELETE FROM entries WHERE {_AMBIGUOUS} AND {_FREE}", (now, now + LONGEST_LEASE)).rowcount:
            self._tell_once("ambiguous", "activitysmith_track dropped a push that may have been delivered already")

    def _take(
        self, base: sqlite3.Connection, account: tuple[str, str], owner: str, now: float, until: float, most: int
    ) -> list[Entry]:
        taken: list[Entry] = []
        for _ in range(_ROUNDS):  # pragma: no branch  # only in a damaged file do they not suffice
            found = base.execute(
                f"SELECT {_COLUMNS} FROM entries WHERE hint = ? AND base_url = ? AND {_FREE}"
                " ORDER BY kind = 'push', seq DESC LIMIT ?",
                (MAX_BODY_BYTES, *account, now, now + LONGEST_LEASE, most - len(taken)),
            ).fetchall()
            for seq, *values in found:
                entry = self._read(values)
                if entry is None:
                    base.execute("DELETE FROM entries WHERE seq = ?", (seq,))
                    continue
                change = "UPDATE entries SET owner = ?, leased_until = ?, begun = 0 WHERE seq = ?"
                base.execute(change, (owner, until, seq))
                taken.append(entry)
            if not found or len(taken) >= most:
                break
        return taken

    def _read(self, values: list[Any]) -> Entry | None:
        kind, hint, base_url, text, happened, stream_key, once, *rest = values
        try:
            body = json.loads(text, parse_constant=_no_constant)
            return _checked(Entry(kind, hint, base_url, body, happened, stream_key, bool(once), *rest))
        except Exception as error:
            self._tell_once(
                "odd", "activitysmith_track dropped an odd entry of %s: %s", self._path, type(error).__name__
            )
            return None

    # -- the file

    def _transact(self, work: Callable[[sqlite3.Connection], T], nothing: T, *, create: bool = False) -> T:
        """Do something in one transaction; where that fails, say so once and return `nothing`."""
        try:
            _load()
            path = self.path()
            with _alone():
                until = self._now() + self.patience
                is_late: Callable[[], bool] = lambda: self._now() >= until  # noqa: E731
                found = self._prepare(path, create)
                if found is None:
                    return nothing
                try:
                    return _transaction(path, work, is_late)
                except Exception as error:
                    if not _broken(error, path):
                        raise
                    self._set_aside(path, found, error)
                    return _transaction(path, work, is_late) if self._prepare(path, create) else nothing
        except Exception as error:
            self._tell(error)
            return nothing

    def _prepare(self, path: Path, create: bool) -> os.stat_result | None:
        """See to it that the file is there and nobody else's; returns what it is, or `None` if there is none."""
        if create:
            os.makedirs(path.parent, mode=0o700, exist_ok=True)
            with contextlib.suppress(FileExistsError):
                os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        try:
            _refuse_foreign(path.parent, stat.S_ISDIR)
            return _refuse_foreign(path, stat.S_ISREG)
        except FileNotFoundError:
            return None

    def _set_aside(self, path: Path, found: os.stat_result, error: Exception) -> None:
        """Move a damaged file out of the way, unless another process has done so already."""
        with _healing(path.parent):
            if not _still(path, found):
                return
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{path}-journal")
            os.replace(path, f"{path}.corrupt")
        message = "activitysmith_track moved a damaged outbox aside, to %s.corrupt (told once): %s"
        self._tell_once("damaged", message, path, error)

    def _tell(self, error: Exception) -> None:
        kind = type(error), getattr(error, "errno", None) or str(error)
        where = self._path or self._directory or "the user's state directory"
        self._tell_once(kind, "activitysmith_track cannot use its outbox in %s (told once): %s", where, error)

    def _tell_once(self, kind: object, message: str, *details: object) -> None:
        mine = object()
        if len(self._told) < 100 and self._told.setdefault(kind, mine) is mine:
            logger.warning(message, *details)


_INSERT = (
    "INSERT INTO entries (id, kind, hint, base_url, stream_key, body, at_least_once, happened, run, attempts, began,"
    " leased_until) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_MARK = (
    "INSERT OR REPLACE INTO marks SELECT e.id, e.hint, e.base_url, e.stream_key, e.run, m.sent, m.before, m.answered,"
    " ?, max(?, coalesce(m.until, 0)) FROM entries e LEFT JOIN marks m ON m.id = e.id WHERE e.id = ?"
)
_RELEASE = (
    "UPDATE entries SET owner = NULL, leased_until = ?, begun = 0, attempts = attempts + 1"
    " WHERE id = ? AND (? IS NULL OR owner = ?)"
)
_COLUMNS = (
    "seq, kind, hint, base_url, CASE WHEN length(body) <= ? THEN body END, happened, stream_key, at_least_once, run,"
    " id, attempts, began"
)
_AMBIGUOUS = "kind = 'push' AND at_least_once = 0 AND begun != 0"
_FREE = "(owner IS NULL OR coalesce(leased_until, 0) NOT BETWEEN ? AND ?)"  # now, now + LONGEST_LEASE


def _load_checks() -> None:
    with importing():
        from . import payloads  # noqa: F401


def _load() -> None:
    """Import what a transaction needs, before it begins and while nothing is forked."""
    with importing():
        import sqlite3  # noqa: F401
        import urllib.parse  # noqa: F401  # which a path imports when it is asked for its address

        with contextlib.suppress(ImportError):  # Windows
            import fcntl  # noqa: F401
    _load_checks()


def _state_directory() -> str:
    with importing():  # as `_load`
        from platformdirs import user_state_dir

    return user_state_dir("activitysmith-track", appauthor=False)


def _checked(entry: Entry) -> Entry:
    """Return an entry that can be sent, or raise what is wrong with it."""
    from .payloads import check_body, check_stream_key

    body = check_body(_OPERATIONS[entry.kind], entry.body)
    if entry.kind == "push":
        if entry.stream_key is not None:
            raise ValueError("a push with a stream key")
    else:
        check_stream_key("stream_key", entry.stream_key)
    texts = (entry.hint, entry.base_url, entry.run, entry.id)
    if not all(isinstance(text, str) and len(text) <= _LONGEST_NAME for text in texts):
        raise ValueError("a name that is no text, or too long")
    if not isinstance(entry.happened, (int, float)) or not math.isfinite(entry.happened):
        raise ValueError("no time at which it happened")
    attempts = entry.attempts if isinstance(entry.attempts, int) else 0
    began = float(entry.began) if isinstance(entry.began, (int, float)) and math.isfinite(entry.began) else 0.0
    return Entry(
        entry.kind,
        entry.hint,
        entry.base_url,
        body,
        float(entry.happened),
        entry.stream_key,
        bool(entry.at_least_once),
        entry.run,
        entry.id,
        attempts,
        began,
    )


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _refuse_foreign(path: Path, is_kind: Callable[[int], bool]) -> os.stat_result:
    """Return what is there; refuse a link, another kind of file, and what others own or may write to."""
    found = os.lstat(path)
    if not is_kind(found.st_mode):
        raise _Refused(f"{path.name} is a link, or no {'directory' if is_kind is stat.S_ISDIR else 'file'}")
    if os.name == "posix" and (found.st_uid != os.geteuid() or found.st_mode & 0o022):
        raise _Refused(f"{path.name} belongs to another user, or others may write to it")
    return found


# ------------------------------------------------------------------------------------------------------- SQLite


def _transaction(path: Path, work: Callable[[sqlite3.Connection], T], is_late: Callable[[], bool]) -> T:
    """Open the file, do something in one transaction, and close it again."""
    base = _connect(path, is_late)
    try:
        _patiently(base, "BEGIN IMMEDIATE", is_late)
        schema = frozenset(base.execute("SELECT type, name, sql FROM sqlite_master"))
        if schema not in _SCHEMAS:
            raise _Alien("it holds other tables")
        if not _ENTRIES & schema:
            base.execute(_TABLE)
        result = work(base)
        for table in ("entries", "marks") if _has_marks(base) else ("entries",):
            if not base.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchone():
                base.execute(f"DROP TABLE {table}")  # without any, the file is cut to its first page
        _patiently(base, "COMMIT", is_late)
        return result
    finally:
        base.close()  # which rolls back what was not committed


def _has_marks(base: sqlite3.Connection) -> bool:
    return base.execute("SELECT 1 FROM sqlite_master WHERE name = 'marks'").fetchone() is not None


def _is_under_way(base: sqlite3.Connection, same: str, values: tuple[object, ...], owner: str, now: float) -> bool:
    """Tell whether somebody else is sending one of those entries at this moment."""
    under_way = f"SELECT 1 FROM entries WHERE {same} AND coalesce(owner, '') != ? AND begun BETWEEN ? AND ?"
    found = base.execute(under_way, (*values, owner, now - ATTEMPT_SECONDS, now + 1.0)).fetchone()
    return found is not None


def _connect(path: Path, is_late: Callable[[], bool]) -> sqlite3.Connection:
    import sqlite3

    base = sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True, timeout=0.0, isolation_level=None)
    try:
        base.text_factory = _text
        base.set_progress_handler(_Steps(), _STEPS)
        new = (f"page_size = {_PAGE}", "auto_vacuum = FULL") if os.path.getsize(path) == 0 else ()
        for pragma in (*_PRAGMAS, *new):
            _patiently(base, f"PRAGMA {pragma}", is_late)
    except BaseException:
        base.close()
        raise
    return base


def _patiently(base: sqlite3.Connection, statement: str, is_late: Callable[[], bool]) -> None:
    """Execute what may find the file locked, again and again until it is late; SQLite waits longer each time."""
    import sqlite3

    while True:
        try:
            base.execute(statement)
        except sqlite3.OperationalError as error:
            if str(error) != _LOCKED or is_late():
                raise
            time.sleep(random.uniform(0.001, 0.01))
        else:
            return


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")


class _Steps:
    """Interrupts SQLite in a damaged file through which it would walk for hours."""

    def __init__(self) -> None:
        self._left = _MOST_STEPS // _STEPS

    def __call__(self) -> bool:
        self._left -= 1
        return self._left < 0


def _broken(error: Exception, path: Path) -> bool:
    """Tell damage, which stays, from a file that is locked, full or out of reach."""
    import sqlite3

    if isinstance(error, sqlite3.DatabaseError):
        marked = str(error) == _READ_ONLY and os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)
        return marked or str(error) not in _PASSING
    return isinstance(error, (_Alien, UnicodeDecodeError))  # SQLite repeats damaged text in its messages


def _still(path: Path, found: os.stat_result) -> bool:
    try:
        now = os.lstat(path)
    except FileNotFoundError:
        return False
    return (now.st_dev, now.st_ino) == (found.st_dev, found.st_ino)


@contextlib.contextmanager
def _healing(directory: Path) -> Iterator[None]:
    """Let one process at a time set a file aside, where the system can lock a directory."""
    try:
        import fcntl
    except ImportError:  # pragma: no cover  # Windows, where a file that is open cannot be moved anyway
        yield
        return
    handle = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        with contextlib.suppress(OSError):  # NFS locks only what is open for writing
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(handle)


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Keep two threads from using a file at once, and a fork from happening meanwhile.

    Closing any descriptor of a file drops all of a process's POSIX locks on it, those of another thread too; and a
    child that is forked in the middle of a call inherits SQLite's own locks, with nobody to release them.

    Raises:
        TimeoutError: where it does not come to its turn; at once in a signal handler that has interrupted a call.
    """
    lock, thread = storing.lock, threading.get_ident()
    if thread in _busy or not lock.acquire(timeout=TURN_SECONDS):
        raise TimeoutError("another thread is using it")
    _busy.add(thread)
    try:
        yield
    finally:
        _busy.discard(thread)
        lock.release()


children.append(_busy.clear)
