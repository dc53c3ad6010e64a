"""What must not be lost, kept on disk until it is delivered: the ends of cards, and pushes.

An `Outbox` is one SQLite file in the user's state directory. Nothing is imported, opened or written before the first
entry is put in, and a process that finds no entries learns so from one `os.stat`. Every call opens the file, does one
transaction and closes it again, so that nothing is held across a fork or between two calls. No call raises, whatever
the disk does: what goes wrong is logged once a kind, and the call returns something false.

The journal is a rollback journal, since homes may lie on NFS, where a write-ahead log does not work. A drained file
is not removed but cut to its first page: unlinking a database that another process is about to write to would lose
what it writes.

When the end of a card is taken out, a mark without its body stays for a few minutes. It says that nobody is to send
this end any more, and when it was last sent. So a process that still has the end in memory learns what became of it,
and a newer run learns whether its card may have been ended.
"""

from __future__ import annotations

import hashlib  # noqa: F401  # `key_fingerprint` needs it where anything is kept, and late imports can fail
import json
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any

from ..client.answers import refuse_constant
from .entries import MAX_KEPT_BYTES, Entry, checked, load_checks
from .outbox_file import MARKS, OutboxFile, has_marks
from .state import Hold

if TYPE_CHECKING:
    import sqlite3

KEPT_SECONDS = 24 * 3600.0  # older entries are dropped: they are no news any more
KEPT_ENTRIES = 1_000
ATTEMPT_SECONDS = 7.0  # after which another process's attempt is over, even if it could not note so
MARK_SECONDS = 300.0  # for which a mark tells what became of an end
LONGEST_LEASE = 300.0  # seconds; a lease that seems longer was made by a clock that has been set back since

_ROUNDS = 20  # queries of one claim at most: odd entries are dropped, and others are taken in their place


class Outbox(OutboxFile):
    """What is owed, on disk. Making an instance does nothing; no method raises."""

    def load(self) -> None:
        """Import what a transaction needs, before it begins and while nothing is forked."""
        super().load()
        load_checks()

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
        rows, whole = self._rows(entries)
        if not rows:
            return whole
        until = self._clock() + min(lease_seconds, LONGEST_LEASE)
        leases = [(owner, until, row[0]) for row in rows] if owner is not None else []

        def work(base: sqlite3.Connection) -> bool:
            self._insert(base, rows, {row[0] for row in rows} if sent else ())
            base.executemany("UPDATE entries SET owner = ?, leased_until = ? WHERE id = ?", leases)
            return True

        return self.transact(work, False, create=True) and whole

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
            in_flight: ids of what may still arrive, so that `hold_ends` waits for it.
            late: ids of ends of cards that an earlier request may yet bring back; see `look_back`.

        Returns:
            True when all of it is safely on disk.
        """
        rows, whole = self._rows(entries)
        released = [(self._clock(), each, owner, owner) for each, owner in leases]
        begun = [(int(self._clock()), each) for each in in_flight]
        sent = {*in_flight, *late}

        def work(base: sqlite3.Connection) -> bool:
            if rows:
                self._insert(base, rows, sent)
            base.executemany(_RELEASE, released)
            base.executemany("UPDATE entries SET begun = ? WHERE id = ? AND kind != 'push'", begun)
            for each in sorted(sent - {row[0] for row in rows}):
                self._note(base, each, sent=True)
            return True

        return ((not rows and not released) or self.transact(work, False, create=bool(rows))) and whole

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

        def work(base: sqlite3.Connection) -> list[Entry]:
            self._prune(base, now)
            self._drop_ambiguous(base, now)
            return self._take(base, (key_fingerprint, base_url), owner, now, until, most)

        return self.transact(work, [])

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

        def work(base: sqlite3.Connection) -> list[Entry]:
            left = f"key_fingerprint = ? AND base_url = ? AND (owner = ? OR (run = ? AND {_FREE}))"
            values = key_fingerprint, base_url, gone, gone, now, now + LONGEST_LEASE
            base.execute(f"DELETE FROM entries WHERE {left} AND {_AMBIGUOUS}", values)
            taken: list[Entry] = []
            rows = f"SELECT {_COLUMNS} FROM entries WHERE {left} ORDER BY kind = 'push', seq DESC"
            for seq, *found in base.execute(rows, (MAX_KEPT_BYTES, *values)).fetchall():
                entry = self._read(found)
                if entry is not None:  # else the next `claim` drops it
                    base.execute("UPDATE entries SET owner = ?, leased_until = ? WHERE seq = ?", (owner, until, seq))
                    taken.append(entry)
            return taken

        return self.transact(work, [])

    def begin(self, entry_id: str, owner: str, lease_seconds: float) -> Hold:
        """Note that an attempt at a claimed entry begins, and renew its lease.

        Args:
            entry_id: the entry.
            owner: who claimed it.
            lease_seconds: how long from now nobody else may claim it; at most five minutes.

        Returns:
            Who has it now, or what became of it. If its lease has run out, the owner takes it again.
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
            if not has_marks(base):
                return Hold.GONE
            asked = "UPDATE marks SET until = min(until, ?) WHERE id = ? AND settled = 1"
            is_settled = base.execute(asked, (now + MARK_SECONDS, entry_id)).rowcount
            return Hold.SETTLED if is_settled else Hold.GONE

        return self.transact(work, Hold.UNKNOWN)

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

        return self.transact(work, False)

    def next_lease_end(self, key_fingerprint: str, base_url: str, owner: str) -> float | None:
        """Return when the first lease of others runs out, in seconds since the epoch; `None` where there is none.

        Args:
            key_fingerprint: of the API key at hand; see `_endpoint`.
            base_url: the service's address.
            owner: whose leases do not count.
        """
        if not self.exists():
            return None

        def work(base: sqlite3.Connection) -> float | None:
            others = "key_fingerprint = ? AND base_url = ? AND owner != ? AND leased_until BETWEEN ? AND ?"
            now = self._clock()
            values = key_fingerprint, base_url, owner, now, now + LONGEST_LEASE
            found: float | None
            (found,) = base.execute(f"SELECT min(leased_until) FROM entries WHERE {others}", values).fetchone()
            return found

        return self.transact(work, None)

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
            if not sent and has_marks(base):
                tried = f"SELECT id FROM entries WHERE {own} AND begun != 0"
                base.execute(f"UPDATE marks SET sent = before, before = NULL WHERE id = ({tried})", (entry_id, owner))
            return base.execute(f"UPDATE entries SET begun = 0 WHERE {own}", (entry_id, owner)).rowcount > 0

        return self.transact(work, False)

    def delivered(self, ids: Iterable[str]) -> bool:
        """Forget entries that have arrived, or that nobody may send again; True when that is on disk."""
        keys = list(ids)

        def work(base: sqlite3.Connection) -> bool:
            for each in keys:
                self._settle(base, each, answered=True)
            return True

        return not keys or self.transact(work, False)

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

        return not keys or self.transact(work, False)

    def hold_ends(
        self,
        key_fingerprint: str,
        base_url: str,
        stream_key: str,
        owner: str,
        lease_seconds: float,
        began_by: float = float("inf"),
    ) -> dict[str, float] | None:
        """Take under a lease what an older run owes its card, while a newer run begins under the same key.

        Nobody else sends it meanwhile, and it is still there if the newer run's card never appears. Call `delivered`
        when that card has appeared, and `release` when it will not.

        Args:
            key_fingerprint: of the API key at hand; see `_endpoint`.
            base_url: the service's address.
            stream_key: the card.
            owner: the process of the newer run, whose own entries are left out.
            lease_seconds: how long from now; at most five minutes.
            began_by: seconds since the epoch; a run that began later is not an older one.

        Returns:
            The ids of these entries, each with the seconds for which at least nobody has sent it. `None` where
            another process is sending one of them at this moment, or was when it left, so that it may yet end the
            newer run's card: ask again when that is over.
        """
        if not self.exists():
            return {}
        now, seconds = self._clock(), min(lease_seconds, LONGEST_LEASE)

        def work(base: sqlite3.Connection) -> dict[str, float] | None:
            same = (
                "kind != 'push' AND key_fingerprint = ? AND base_url = ? AND stream_key = ?"
                " AND run != ? AND began_at <= ?"
            )
            values = key_fingerprint, base_url, stream_key, owner, began_by
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
        return self.transact(work, nothing)

    def look_back(
        self,
        key_fingerprint: str,
        base_url: str,
        stream_key: str,
        owner: str,
        began_at: float,
        since: float,
        late: float = 0.0,
        end: Entry | None = None,
    ) -> float | None:
        """Tell when an older run has last sent an end that may have ended a newer run's card.

        The ends that older runs still owe the card are forgotten, since the newer run's card has replaced theirs.

        Args:
            key_fingerprint: of the API key at hand; see `_endpoint`.
            base_url: the service's address.
            stream_key: the card.
            owner: the process that asks; unless `end` is given, its own entries are left out.
            began_at: seconds since the epoch, when the newer run began.
            since: seconds since the epoch, when it got the card.
            late: an end that was sent up to so many seconds before that, and never answered, counts as well.
            end: the end of the newer run, where the process that asks sends it for one that is gone. What that had
                sent before counts as well, since it may bring the card back.

        Returns:
            Seconds since the epoch; 0 where none was sent, or where the clock was set back to before that. `None`
            where another process is sending one at this moment: ask again when that is over.
        """
        if not self.exists():
            return 0.0
        now = self._clock()

        def work(base: sqlite3.Connection) -> float | None:
            card = "key_fingerprint = ? AND base_url = ? AND stream_key = ? AND run != ?"
            values = key_fingerprint, base_url, stream_key, owner if end is None else end.run
            same = f"kind != 'push' AND {card}"
            if _is_under_way(base, same, values, owner, now):
                return None
            older = f"SELECT id FROM entries WHERE {same} AND began_at <= ?"
            for (key,) in base.execute(older, (*values, began_at)).fetchall():
                self._settle(base, key, lives=self._lives(base, key))
            if not has_marks(base):
                return 0.0
            found = f"SELECT sent, answered FROM marks WHERE {card}"
            known = base.execute(found, values).fetchall()
            unanswered = [sent for sent, _ in known if isinstance(sent, float) and since - late <= sent <= now]
            answered = [at for _, at in known if isinstance(at, float) and since <= at <= now]
            if end is not None:
                own = base.execute("SELECT before FROM marks WHERE id = ?", (end.id,))
                unanswered += [at for (at,) in own if isinstance(at, float) and since - late <= at <= now]
            return max([0.0, *unanswered, *answered])

        nothing: float | None = 0.0
        return self.transact(work, nothing)

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
            settled: True where nobody is to send it any more. For a push only this is noted, and only if a process
                other than its own has it, so that its own may ask.
            answered: True where the attempt in flight, if any, was answered, so that it cannot arrive later.
            lives: True where its own process still lives. It may ask much later, when its next attempt is due.
        """
        now = self._clock()
        found = base.execute("SELECT kind, owner = run, begun FROM entries WHERE id = ?", (key,)).fetchone()
        if found is None or (found[0] == "push" and (found[1] or not settled)):
            return
        if not has_marks(base):
            base.execute(MARKS)
        until = now + (KEPT_SECONDS if lives else MARK_SECONDS)
        base.execute(_MARK, (int(settled), until, key))
        if sent:
            base.execute("UPDATE marks SET before = sent, sent = ?, answered = NULL WHERE id = ?", (now, key))
        elif answered and found[2]:
            base.execute("UPDATE marks SET sent = before, before = NULL, answered = ? WHERE id = ?", (now, key))

    def _settle(self, base: sqlite3.Connection, key: str, *, answered: bool = False, lives: bool = False) -> None:
        """Take out an entry that nobody is to send any more; see `_note`."""
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
        load_checks()
        rows = [self._row(entry) for entry in entries]
        return [row for row in rows if row is not None], None not in rows

    def _row(self, entry: Entry) -> tuple[Any, ...] | None:
        try:
            text = json.dumps(checked(entry).body, allow_nan=False)
            if len(text) > MAX_KEPT_BYTES:
                raise ValueError(f"{len(text)} bytes of JSON")
        except Exception as error:
            self.warn_once("unfit", "activitysmith_track cannot keep an entry (told once): %s", error)
            return None
        account = entry.key_fingerprint, entry.base_url, entry.stream_key
        occurred_at = float(entry.occurred_at)
        began_at = min(float(entry.began_at), occurred_at)  # the clock may have been set back meanwhile
        details = int(entry.at_least_once), occurred_at, entry.run, entry.attempts, began_at
        return entry.id, entry.kind, *account, text, *details

    def _insert(self, base: sqlite3.Connection, rows: list[tuple[Any, ...]], sent: Collection[str] = ()) -> bool:
        now = self._clock()
        self._prune(base, now)
        known = {key for (key,) in base.execute("SELECT id FROM entries")}
        of_streams = (
            "SELECT key_fingerprint, base_url, stream_key, began_at, occurred_at, id"
            " FROM entries WHERE kind != 'push'"
        )
        ends = {tuple(found[:3]): (found[3:5], found[5]) for found in base.execute(of_streams)}
        for row in rows:
            if row[0] in known:
                if row[0] in sent:
                    self._note(base, row[0], sent=True)
                continue
            known.add(row[0])
            is_newest = self._supersedes(base, ends, row, now)
            base.execute(_INSERT, (*row, now))
            if row[0] in sent:
                self._note(base, row[0], sent=True)
            if not is_newest:  # its process learns that from the mark
                self._settle(base, row[0], lives=True)
        newest = "SELECT seq FROM entries ORDER BY seq DESC LIMIT ?"
        dropped = base.execute(f"DELETE FROM entries WHERE seq NOT IN ({newest})", (KEPT_ENTRIES,)).rowcount
        if dropped:
            self.warn_once("full", "activitysmith_track keeps %d entries: the oldest were dropped", KEPT_ENTRIES)
        return True

    def _supersedes(
        self, base: sqlite3.Connection, ends: dict[Any, tuple[Any, str]], row: tuple[Any, ...], now: float
    ) -> bool:
        """Let an end take the place of an older one of its stream; False where there is a newer one already.

        One that lies in the future was noted before the clock was set back, and counts as older.
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
        old = base.execute("DELETE FROM entries WHERE coalesce(occurred_at, 0) NOT BETWEEN ? AND ?", span).rowcount
        if old:
            self.warn_once("old", "activitysmith_track dropped what could not be delivered within 24 hours")
        if has_marks(base):
            newest = "SELECT rowid FROM marks ORDER BY rowid DESC LIMIT ?"
            over = f"DELETE FROM marks WHERE until NOT BETWEEN ? AND ? OR rowid NOT IN ({newest})"
            base.execute(over, (now, now + KEPT_SECONDS, KEPT_ENTRIES))

    def _drop_ambiguous(self, base: sqlite3.Connection, now: float) -> None:
        """Drop pushes that may have been delivered by a process that died before it could say so."""
        if base.execute(f"DELETE FROM entries WHERE {_AMBIGUOUS} AND {_FREE}", (now, now + LONGEST_LEASE)).rowcount:
            self.warn_once("ambiguous", "activitysmith_track dropped a push that may have been delivered already")

    def _take(
        self, base: sqlite3.Connection, account: tuple[str, str], owner: str, now: float, until: float, most: int
    ) -> list[Entry]:
        taken: list[Entry] = []
        for _ in range(_ROUNDS):  # pragma: no branch  # only in a damaged file do they not suffice
            found = base.execute(
                f"SELECT {_COLUMNS} FROM entries WHERE key_fingerprint = ? AND base_url = ? AND {_FREE}"
                " ORDER BY kind = 'push', seq DESC LIMIT ?",
                (MAX_KEPT_BYTES, *account, now, now + LONGEST_LEASE, most - len(taken)),
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
        kind, key_fingerprint, base_url, text, occurred_at, stream_key, once, *rest = values
        try:
            body = json.loads(text, parse_constant=refuse_constant)
            return checked(Entry(kind, key_fingerprint, base_url, body, occurred_at, stream_key, bool(once), *rest))
        except Exception as error:
            self.warn_once(
                "odd", "activitysmith_track dropped an odd entry of %s: %s", self._path, type(error).__name__
            )
            return None


_INSERT = (
    "INSERT INTO entries (id, kind, key_fingerprint, base_url, stream_key, body, at_least_once, occurred_at, run,"
    " attempts, began_at, leased_until) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_MARK = (
    "INSERT OR REPLACE INTO marks SELECT e.id, e.key_fingerprint, e.base_url, e.stream_key, e.run, m.sent, m.before,"
    " m.answered, ?, max(?, coalesce(m.until, 0)) FROM entries e LEFT JOIN marks m ON m.id = e.id WHERE e.id = ?"
)
_RELEASE = (
    "UPDATE entries SET owner = NULL, leased_until = ?, begun = 0, attempts = attempts + 1"
    " WHERE id = ? AND (? IS NULL OR owner = ?)"
)
_COLUMNS = (
    "seq, kind, key_fingerprint, base_url, CASE WHEN length(body) <= ? THEN body END, occurred_at, stream_key,"
    " at_least_once, run, id, attempts, began_at"
)
_AMBIGUOUS = "kind = 'push' AND at_least_once = 0 AND begun != 0"
_FREE = "(owner IS NULL OR coalesce(leased_until, 0) NOT BETWEEN ? AND ?)"  # now, now + LONGEST_LEASE


def _is_under_way(base: sqlite3.Connection, same: str, values: tuple[object, ...], owner: str, now: float) -> bool:
    """Tell whether somebody else is sending one of those entries at this moment."""
    under_way = f"SELECT 1 FROM entries WHERE {same} AND coalesce(owner, '') != ? AND begun BETWEEN ? AND ?"
    found = base.execute(under_way, (*values, owner, now - ATTEMPT_SECONDS, now + 1.0)).fetchone()
    return found is not None
