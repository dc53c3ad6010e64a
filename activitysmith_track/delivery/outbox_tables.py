"""The two tables of an outbox, as one transaction finds them: the entries, and the marks of what became of them.

Which entry takes the place of which, what is too old or too much, and what is noted of an entry that is sent or taken
out, is decided here.

When the end of a card is taken out, a mark without its body stays for a few minutes. It says that nobody is to send
this end any more, and when it was last sent. So a process that still has the end in memory learns what became of it,
and a newer run learns whether its card may have been ended.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from ..client.answers import refuse_constant
from .entries import MAX_KEPT_BYTES, Entry, checked, load_checks
from .newer_card import AHEAD_SECONDS
from .outbox_file import MARKS, has_marks

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Collection, Iterable

    from .outbox_file import OutboxFile

KEPT_SECONDS = 24 * 3600.0  # older entries are dropped: they are no news any more
KEPT_ENTRIES = 1_000
ATTEMPT_SECONDS = 7.0  # after which another process's attempt is over, even if it could not note so
MARK_SECONDS = 300.0  # for which a mark tells what became of an end
LONGEST_LEASE = 300.0  # seconds; a lease that seems longer was made by a clock that has been set back since
OLDER = "(began_at <= ? OR began_at > ?)"  # now + AHEAD_SECONDS; else the clock was set back since
FREE = "(owner IS NULL OR coalesce(leased_until, 0) NOT BETWEEN ? AND ?)"  # now, now + LONGEST_LEASE

_ROUNDS = 20  # queries of one claim at most: odd entries are dropped, and others are taken in their place
_COLUMNS = (  # those of a `Row`; the parameter is the longest body that is read
    "id, kind, key_fingerprint, base_url, stream_key, CASE WHEN length(body) <= ? THEN body END, at_least_once,"
    " occurred_at, run, attempts, began_at"
)
_INSERT = (
    "INSERT INTO entries (id, kind, key_fingerprint, base_url, stream_key, body, at_least_once, occurred_at, run,"
    " attempts, began_at, leased_until) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_MARK = (
    "INSERT OR REPLACE INTO marks SELECT e.id, e.key_fingerprint, e.base_url, e.stream_key, e.run, e.began_at,"
    " m.sent, m.before, m.answered, ?, max(?, coalesce(m.until, 0))"
    " FROM entries e LEFT JOIN marks m ON m.id = e.id WHERE e.id = ?"
)
_SHOWN = "answered IS NOT NULL AND id IN (SELECT id FROM entries WHERE kind = 'keep')"  # of a mark
_AMBIGUOUS = "kind = 'push' AND at_least_once = 0 AND begun != 0"


class Times(NamedTuple):
    """When the run of an end began, and when the end occurred, in seconds since the epoch; compared in this order."""

    began_at: float
    occurred_at: float


class Row(NamedTuple):
    """An entry as its table has it: the columns that it brings along, in their order; see `Entry`."""

    id: str
    kind: str
    key_fingerprint: str
    base_url: str
    stream_key: str | None
    body: str
    at_least_once: int
    occurred_at: float
    run: str
    attempts: int
    began_at: float

    @property
    def stream(self) -> tuple[str, str, str | None]:
        """The card that an end is of, with its account."""
        return self.key_fingerprint, self.base_url, self.stream_key

    @property
    def times(self) -> Times:
        """By which the older one of two ends is found."""
        return Times(self.began_at, self.occurred_at)

    def entry(self) -> Entry:
        """Return the entry, or raise what is wrong with it."""
        return checked(
            Entry(
                self.kind,
                self.key_fingerprint,
                self.base_url,
                json.loads(self.body, parse_constant=refuse_constant),
                self.occurred_at,
                self.stream_key,
                bool(self.at_least_once),
                self.run,
                self.id,
                self.attempts,
                self.began_at,
            )
        )


def rows_of(entries: Iterable[Entry], warn_once: Callable[..., None]) -> tuple[list[Row], bool]:
    """Return the rows of entries that can be kept, and whether that is all of them."""
    load_checks()
    rows = [_row_of(entry, warn_once) for entry in entries]
    return [row for row in rows if row is not None], None not in rows


def _row_of(entry: Entry, warn_once: Callable[..., None]) -> Row | None:
    try:
        text = json.dumps(checked(entry).body, allow_nan=False)
        if len(text) > MAX_KEPT_BYTES:
            raise ValueError(f"{len(text)} bytes of JSON")
    except Exception as error:
        warn_once("unfit", "activitysmith_track cannot keep an entry (told once): %s", error)
        return None
    occurred_at = float(entry.occurred_at)
    return Row(
        entry.id,
        entry.kind,
        entry.key_fingerprint,
        entry.base_url,
        entry.stream_key,
        text,
        int(entry.at_least_once),
        occurred_at,
        entry.run,
        entry.attempts,
        min(float(entry.began_at), occurred_at),  # the clock may have been set back meanwhile
    )


class Tables:
    """The tables of one outbox in one transaction.

    Args:
        base: the open file.
        now: seconds since the epoch, for all of the transaction.
        file: the file, in whose name what is dropped is logged.
    """

    def __init__(self, base: sqlite3.Connection, now: float, file: OutboxFile) -> None:
        self.base, self.now, self._file = base, now, file

    # -- what goes in

    def insert(self, rows: Iterable[Row], sent: Collection[str] = ()) -> None:
        """Put rows in; those that are there already, by their ids, stay as they are.

        Args:
            rows: what is owed.
            sent: the ids of what the service may have carried out already, or for whose card it may yet carry out an
                earlier request.
        """
        self.prune()
        known = {key for (key,) in self.base.execute("SELECT id FROM entries")}
        ends = self._ends()
        for row in rows:
            if row.id in known:
                if row.id in sent:
                    self.note(row.id, sent=True)
                continue
            known.add(row.id)
            is_newest = self._supersedes(ends, row)
            self.base.execute(_INSERT, (*row, self.now))
            if row.id in sent:
                self.note(row.id, sent=True)
            if not is_newest:  # its process learns that from the mark
                self.settle(row.id, awaited=True)
        newest = "SELECT seq FROM entries ORDER BY seq DESC LIMIT ?"
        dropped = self.base.execute(f"DELETE FROM entries WHERE seq NOT IN ({newest})", (KEPT_ENTRIES,)).rowcount
        if dropped:
            self._file.warn_once(
                "full", "activitysmith_track keeps %d entries: the oldest were dropped", KEPT_ENTRIES
            )

    def _ends(self) -> dict[Any, tuple[Times, str]]:
        """Return the end that each stream has, as its times and its id."""
        columns = "key_fingerprint, base_url, stream_key, began_at, occurred_at, id"
        found = self.base.execute(f"SELECT {columns} FROM entries WHERE kind != 'push'")
        return {
            (key_fingerprint, base_url, stream_key): (Times(began_at, occurred_at), key)
            for key_fingerprint, base_url, stream_key, began_at, occurred_at, key in found
        }

    def _supersedes(self, ends: dict[Any, tuple[Times, str]], row: Row) -> bool:
        """Let an end take the place of an older one of its stream; False where there is a newer one already.

        One that lies in the future was noted before the clock was set back, and counts as older. The last state of a
        card that stays up also gives way to a newer run's end that was delivered a short time ago, for it would bring
        the card back.
        """
        if row.kind == "push":
            return True
        if row.kind == "keep" and self._was_ended_by_newer(row):
            return False
        before, older = ends.get(row.stream, (row.times, ""))
        is_read = all(isinstance(each, float) for each in before)  # which it is not in a damaged file
        if is_read and before > row.times and before.occurred_at <= self.now + AHEAD_SECONDS:
            return False
        self.settle(older, awaited=self.is_leased(older))
        ends[row.stream] = row.times, row.id
        return True

    def _was_ended_by_newer(self, row: Row) -> bool:
        """Tell whether the end of a run that began later has been answered, as far as the marks know."""
        if not has_marks(self.base):
            return False
        newer = (
            "SELECT 1 FROM marks WHERE key_fingerprint = ? AND base_url = ? AND stream_key = ? AND began_at > ?"
            " AND answered <= ?"
        )
        return self.base.execute(newer, (*row.stream, row.began_at, self.now)).fetchone() is not None

    def prune(self) -> None:
        """Drop entries that are too old, and marks that are too old or too many.

        With its mark goes the last state of a card that stays up, if that was shown and nobody has it any more.
        """
        span = (self.now - KEPT_SECONDS, self.now + KEPT_SECONDS)
        old = "DELETE FROM entries WHERE coalesce(occurred_at, 0) NOT BETWEEN ? AND ?"
        if self.base.execute(old, span).rowcount:
            self._file.warn_once("old", "activitysmith_track dropped what could not be delivered within 24 hours")
        if has_marks(self.base):
            newest = "SELECT rowid FROM marks ORDER BY rowid DESC LIMIT ?"
            over = f"FROM marks WHERE (until NOT BETWEEN ? AND ? OR rowid NOT IN ({newest}))"
            values = self.now, self.now + KEPT_SECONDS, KEPT_ENTRIES
            shown = f"DELETE FROM entries WHERE kind = 'keep' AND {FREE} AND id IN (SELECT id {over} AND {_SHOWN})"
            self.base.execute(shown, (self.now, self.now + LONGEST_LEASE, *values))
            self.base.execute(f"DELETE {over} AND NOT ({_SHOWN})", values)

    # -- what comes out

    def claim(self, account: tuple[str, str], owner: str, until: float, most: int) -> list[Entry]:
        """Take under a lease what nobody has, and drop what may not be sent again; see `Outbox.claim`."""
        self._drop_ambiguous()
        taken: list[Entry] = []
        for _ in range(_ROUNDS):  # pragma: no branch  # only in a damaged file do they not suffice
            found = self.base.execute(
                f"SELECT seq, {_COLUMNS} FROM entries WHERE key_fingerprint = ? AND base_url = ? AND {FREE}"
                " ORDER BY kind = 'push', seq DESC LIMIT ?",
                (MAX_KEPT_BYTES, *account, self.now, self.now + LONGEST_LEASE, most - len(taken)),
            ).fetchall()
            for seq, *columns in found:
                entry = self._read(columns)
                if entry is None:
                    self.base.execute("DELETE FROM entries WHERE seq = ?", (seq,))
                    continue
                change = "UPDATE entries SET owner = ?, leased_until = ?, begun = 0 WHERE seq = ?"
                self.base.execute(change, (owner, until, seq))
                taken.append(entry)
            if not found or len(taken) >= most:
                break
        return taken

    def _drop_ambiguous(self) -> None:
        """Drop pushes that may have been delivered by a process that died before it could say so."""
        values = self.now, self.now + LONGEST_LEASE
        if self.base.execute(f"DELETE FROM entries WHERE {_AMBIGUOUS} AND {FREE}", values).rowcount:
            self._file.warn_once(
                "ambiguous", "activitysmith_track dropped a push that may have been delivered already"
            )

    def inherit(self, account: tuple[str, str], gone: str, owner: str, until: float) -> list[Entry]:
        """Take under a lease what a process that is gone had or had left; see `Outbox.inherit`."""
        left = f"key_fingerprint = ? AND base_url = ? AND (owner = ? OR (run = ? AND {FREE}))"
        values = *account, gone, gone, self.now, self.now + LONGEST_LEASE
        self.base.execute(f"DELETE FROM entries WHERE {left} AND {_AMBIGUOUS}", values)
        taken: list[Entry] = []
        rows = f"SELECT seq, {_COLUMNS} FROM entries WHERE {left} ORDER BY kind = 'push', seq DESC"
        for seq, *columns in self.base.execute(rows, (MAX_KEPT_BYTES, *values)).fetchall():
            entry = self._read(columns)
            if entry is not None:  # else the next `claim` drops it
                self.base.execute("UPDATE entries SET owner = ?, leased_until = ? WHERE seq = ?", (owner, until, seq))
                taken.append(entry)
        return taken

    def _read(self, columns: list[Any]) -> Entry | None:
        try:
            return Row(*columns).entry()
        except Exception as error:
            message = "activitysmith_track dropped an odd entry of %s: %s"
            self._file.warn_once("odd", message, self._file.path(), type(error).__name__)
            return None

    # -- what becomes of an entry

    def note(
        self,
        key: str,
        *,
        sent: bool = False,
        goes_on: bool = False,
        settled: bool = False,
        answered: bool = False,
        awaited: bool = False,
    ) -> None:
        """Note what is known of an entry.

        Args:
            key: the entry's id.
            sent: True where it is being sent.
            goes_on: True where that is the next request of the same attempt.
            settled: True where nobody is to send it any more. For a push only this is noted, and only if a process
                other than its own has it, so that its own may ask.
            answered: True where the attempt in flight, if any, was answered, so that it cannot arrive later.
            awaited: True where a process has it under a lease. That may ask much later, when its next attempt is due.
        """
        found = self.base.execute("SELECT kind, owner = run, begun FROM entries WHERE id = ?", (key,)).fetchone()
        if found is None:
            return
        kind, is_its_own, begun = found
        if kind == "push" and (is_its_own or not settled):
            return
        if not has_marks(self.base):
            self.base.execute(MARKS)
        until = self.now + (KEPT_SECONDS if awaited else MARK_SECONDS)
        self.base.execute(_MARK, (int(settled), until, key))
        if sent:
            before = "" if goes_on else "before = sent, "
            change = f"UPDATE marks SET {before}sent = ?, answered = NULL WHERE id = ?"
            self.base.execute(change, (self.now, key))
        elif answered and begun:
            change = "UPDATE marks SET sent = before, before = NULL, answered = ? WHERE id = ?"
            self.base.execute(change, (self.now, key))

    def settle(self, key: str, *, answered: bool = False, awaited: bool = False) -> None:
        """Take out an entry that nobody is to send any more; see `note`."""
        self.note(key, settled=True, answered=answered, awaited=awaited)
        self.base.execute("DELETE FROM entries WHERE id = ?", (key,))

    def is_leased(self, key: str, *, but_for: str = "") -> bool:
        """Tell whether any process has an entry under a lease; `but_for` names one that does not count."""
        leased = f"SELECT 1 FROM entries WHERE id = ? AND owner != ? AND NOT {FREE}"
        return self.base.execute(leased, (key, but_for, self.now, self.now + LONGEST_LEASE)).fetchone() is not None

    def is_under_way(self, same: str, values: tuple[object, ...], owner: str) -> bool:
        """Tell whether somebody else is sending one of some entries at this moment.

        Args:
            same: the condition for these, as SQL.
            values: its parameters.
            owner: who does not count.
        """
        now = self.now
        under_way = f"SELECT 1 FROM entries WHERE {same} AND coalesce(owner, '') != ? AND begun BETWEEN ? AND ?"
        found = self.base.execute(under_way, (*values, owner, now - ATTEMPT_SECONDS, now + AHEAD_SECONDS)).fetchone()
        return found is not None
