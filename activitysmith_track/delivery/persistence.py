"""Keeps copies of ends and pushes for others to deliver: in the outbox on disk, and with the watchdog.

While all goes well nothing is written, and only a look at the outbox's file is taken, unless the watchdog was asked
for. What touches the disk is called on a worker's thread, or at the exit; what feeds the watchdog waits for nothing.

The end of a card always has its copy in the outbox, if there is one: only there can a newer run in another process
find an end that would hit its card, and take it away. The watchdog is told only that there is something, and takes it
over from the outbox when the job is gone.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from .._endpoint import key_fingerprint
from .._fork import module
from .state import CopyOwner, Hold
from .unanswered import through_by

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any, Protocol

    from .._endpoint import AccountKey
    from .entries import Entry
    from .outbox import Outbox
    from .runtime import Runtime
    from .state import CrashState
    from .watchdog.supervisor import Watchdog

    class Kept(Protocol):
        """Something that must not be lost, as far as its copy goes; see `Message`."""

        copy_owner: CopyOwner

        @property
        def account_key(self) -> AccountKey:
            """The account that it goes to."""

        @property
        def kind(self) -> str:
            """The kind of its entry in the outbox; see `Entry`."""

        @property
        def entry(self) -> Entry | None:
            """The copy, as soon as there is one."""

        @property
        def is_in_flight(self) -> bool:
            """True while an attempt is in flight, so that nobody can tell whether it has arrived."""

        @property
        def may_have_arrived(self) -> bool:
            """True while an attempt is in flight, and what it sends is better lost than sent twice."""

        def copy(self, *, failed: bool = False) -> Entry | None:
            """Return the entry that others are to deliver in its place, if anything."""

        def has_copy(self, entry: Entry, owner: CopyOwner) -> None:
            """Note that somebody has a copy."""

    OwedCopy = tuple[Kept, Entry]  # something that is owed, and its copy

logger = logging.getLogger("activitysmith_track")

_OUTBOX = "activitysmith_track.delivery.outbox"
RETRY_SECONDS = 1.0  # seconds within which an outbox that did not take what was left is tried once more
CLAIMED = 10  # entries that are claimed at once at most: few, so that all are delivered before the lease runs out
LEASE_SECONDS = 180.0  # seconds for which nobody else takes what this process tries to deliver


class Claimed(NamedTuple):
    """What was claimed of that which earlier processes owe.

    Attributes:
        entries: the first of it.
        is_part: True where there is more.
        again_in: seconds until another process's lease runs out, so that more may be claimed; or `None`.
    """

    entries: tuple[Entry, ...] = ()
    is_part: bool = False
    again_in: float | None = None


class Persistence:
    """Keeps copies of what is owed, for when the process is gone before it is delivered.

    Args:
        runtime: the world outside.
    """

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.directory: str | os.PathLike[str] | bool = True  # the outbox's; True for the user's own, False for none
        self._outbox: Outbox | None = None
        self._watchdog: Watchdog | None = None
        self._closed = False  # the exit has taken stock: nobody could disarm a card that is armed from now on
        self._numbers = itertools.count(1)
        self._entrusted: dict[str, int] = {}  # the watchdog's numbers of what it has, by the entries' ids
        self._owner = f"{os.getpid()}-{runtime.token()}"
        self._left: set[str] = set()  # the ids of what was left to a next process
        self._leased: set[str] = set()  # the ids of what this process has under a lease
        self._lessees: dict[AccountKey, None] = {}  # the accounts of these, as the watchdog was told
        # Of these, older runs' ends that are held back for a card; each with the latest time at which it may arrive.
        self._held: dict[tuple[AccountKey, str], dict[str, float]] = {}
        self._leaving = runtime.lock()  # so that no attempt takes a lease on what was left to others

    @property
    def outbox(self) -> Outbox | None:
        """The outbox, or `None` where it was turned off."""
        if self.directory is False:
            return None
        if self._outbox is None:
            made = self.runtime.outbox(None if self.directory is True else self.directory)
            made.exists()  # which imports what finding the file needs
            self._outbox = self._outbox or made  # else another thread was faster
        return self._outbox

    @property
    def place(self) -> str | bool:
        """The outbox's directory, as the watchdog takes it."""
        return self.directory if isinstance(self.directory, bool) else os.path.abspath(self.directory)

    # -- what is owed

    def entry(
        self, account: AccountKey, kind: str, body: Mapping[str, Any], occurred_at: float, **more: Any
    ) -> Entry:
        """Make an entry of something that is owed to an account; see `Entry`."""
        made: Entry = module(_OUTBOX).Entry(kind, *_address(account), body, occurred_at, run=self._owner, **more)
        return made

    def keep(self, delivery: Kept, entry: Entry, *, sent: bool = False) -> bool:
        """Keep a copy of what this process still tries to deliver itself.

        Args:
            delivery: what it is.
            entry: the copy.
            sent: True where the service may have carried it out already.

        Returns:
            True where somebody has a copy then.
        """
        if entry.kind == "push":
            return self.entrust(delivery, entry) or self._store(delivery, entry, sent)
        return self._store(delivery, entry, sent) or self.entrust(delivery, entry)

    def _store(self, delivery: Kept, entry: Entry, sent: bool) -> bool:
        """Put a copy into the outbox, and take back the one that the watchdog had."""
        outbox = self.outbox
        if outbox is None:
            return False
        with self._leaving:
            if entry.id not in self._left:
                owner = None if self._closed else self._owner  # nobody would give a lease back any more
                if not outbox.put([entry], owner, LEASE_SECONDS, sent=sent):
                    return False
                if owner is not None:
                    self._note_leases(delivery.account_key, [entry.id])
        self.stored(delivery, entry)
        return True

    def stored(self, delivery: Kept, entry: Entry) -> None:
        """Note that there is a copy in the outbox; the watchdog is told so, and drops a copy of its own."""
        self._tell_of_rows(delivery.account_key)
        delivery.has_copy(entry, CopyOwner.OUTBOX)
        self._take_back(entry)

    def has_row(self, delivery: Kept) -> bool:
        """Tell whether there is a copy, and where it belongs: an end's in the outbox, unless there is none."""
        if delivery.copy_owner is CopyOwner.WATCHDOG:
            return delivery.kind == "push" or self.directory is False
        return delivery.copy_owner is CopyOwner.OUTBOX

    def begin(self, delivery: Kept) -> Hold:
        """Note that an attempt at what is kept begins; returns who has the copy."""
        entry = delivery.entry
        if entry is None or delivery.copy_owner is CopyOwner.NOBODY:
            return Hold.MINE
        if delivery.copy_owner is CopyOwner.WATCHDOG:
            if _comes_once(entry):
                self.forget_copy(delivery)  # from here on it may have arrived, and nobody else is to send it
            return Hold.MINE
        outbox = self.outbox
        if outbox is None:
            return Hold.UNKNOWN
        with self._leaving:
            if self._closed:
                return Hold.OTHERS  # the exit has left it to them
            hold = outbox.begin(entry.id, self._owner, LEASE_SECONDS)
            if hold is Hold.MINE:
                self._note_leases(delivery.account_key, [entry.id])
            elif hold is not Hold.UNKNOWN:
                self._forget_leases([entry.id])
        if hold is Hold.GONE and _comes_once(entry):
            return Hold.SETTLED  # it may have been delivered long ago
        return hold

    def over(self, delivery: Kept, *, sent: bool = True) -> None:
        """Note that an attempt is over and another one will follow; a copy is made if there is none.

        Args:
            delivery: what was attempted.
            sent: True where the attempt has succeeded, or may have done so.
        """
        if delivery.copy_owner is CopyOwner.WATCHDOG and self.has_row(delivery):
            return
        entry = delivery.entry or delivery.copy(failed=True)
        if entry is None:
            return
        if delivery.copy_owner is CopyOwner.OUTBOX:
            outbox = self.outbox
            if outbox is None or outbox.over(entry.id, self._owner, sent=sent) or not _comes_once(entry):
                return
        self.keep(delivery, entry, sent=sent)

    def forget_copy(self, delivery: Kept) -> None:
        """Have the copy of what was delivered, or will never be, forgotten."""
        entry = delivery.entry
        if entry is None:
            return
        owner, delivery.copy_owner = delivery.copy_owner, CopyOwner.NOBODY
        if owner is CopyOwner.WATCHDOG:
            self._take_back(entry)
        elif owner is CopyOwner.OUTBOX:
            self.forget([entry.id])

    def _take_back(self, entry: Entry) -> None:
        """Tell the watchdog that it need not deliver something any more."""
        number = self._entrusted.pop(entry.id, None)
        if number is not None and self._watchdog is not None:
            self._watchdog.ack(number)

    # -- what is under a lease of this process

    def _note_leases(self, account: AccountKey, ids: Iterable[str]) -> None:
        """Note what this process has under a lease, and tell the watchdog that there are leases."""
        noted = set(ids)
        self._leased |= noted
        if noted:
            self._tell_of_rows(account)

    def _tell_of_rows(self, account: AccountKey) -> None:
        with self._leaving:
            if account not in self._lessees:
                self._lessees[account] = None
                if self._watchdog is not None:
                    self._watchdog.leases(*account, self._owner)

    def _forget_leases(self, ids: Iterable[str]) -> None:
        """Note what this process has no lease of any more; if that was the last, tell the watchdog."""
        with self._leaving:
            self._leased.difference_update(ids)
            if not self._leased:
                for account in list(self._lessees):
                    del self._lessees[account]
                    if self._watchdog is not None:
                        self._watchdog.returned(*account)

    # -- what earlier processes owe

    def claim(self, account: AccountKey) -> Claimed:
        """Take over a part of what earlier processes owe an account."""
        outbox, address, now = self._used_outbox(), _address(account), self.runtime.wall()
        if outbox is None:
            return Claimed()
        with self._leaving:
            if self._closed:
                return Claimed()
            entries = outbox.claim(*address, self._owner, now, LEASE_SECONDS, most=CLAIMED)
            self._note_leases(account, [entry.id for entry in entries])
        is_part = len(entries) == CLAIMED
        until = None if is_part else outbox.next_lease_end(*address, self._owner)
        return Claimed(tuple(entries), is_part, None if until is None else max(0.0, until - now) + 1.0)

    def hold_ends(self, account: AccountKey, stream_key: str, began_by: float = float("inf")) -> float | None:
        """Have nobody send the end that an older run owes a card, while a newer one begins under the same key.

        Call `forget_held` when that has begun, or `let_go` when it will not.

        Args:
            account: whose card it is.
            stream_key: the card.
            began_by: seconds since the epoch; a run that began later is not an older one.

        Returns:
            Until when an end may arrive that the older run has in flight now, on the runtime's clock; 0 where there
            is none. `None` where another process is sending it: ask again when that is over.
        """
        outbox, now = self._used_outbox(), self.runtime.now()
        if outbox is None:
            return 0.0
        with self._leaving:
            if self._closed:  # it would take away the end of this very card that the exit has just left
                return 0.0
            held = outbox.hold_ends(*_address(account), stream_key, self._owner, LEASE_SECONDS, began_by)
            if held:
                self._note_leases(account, held)
                known = self._held.get((account, stream_key), {})
                gone_at = through_by(now, self.runtime.attempt_seconds)
                self._held[account, stream_key] = {key: known.get(key, gone_at - idle) for key, idle in held.items()}
        if held is None:
            return None
        return max(self._held[account, stream_key].values()) if held else 0.0

    def holds_for(self, account: AccountKey, stream_key: str) -> bool:
        """Tell whether something is held back for a card that is to begin."""
        return (account, stream_key) in self._held

    def forget_held(self, account: AccountKey, stream_key: str) -> None:
        """Forget the ends that were held back for a card: it has appeared, and replaces the older run's."""
        self.forget(list(self._held.pop((account, stream_key), ())))

    def let_go(self, account: AccountKey, stream_key: str) -> bool:
        """Let others send again what was held back for a card; returns whether there was anything."""
        held = list(self._held.pop((account, stream_key), ()))
        self.give_back(held)
        return bool(held)

    def look_back(
        self, account: AccountKey, stream_key: str, began_at: float, since: float, late: float = 0.0
    ) -> float | None:
        """Look whether an older run has sent an end since a card appeared; forget the ends that it still owes.

        Args:
            account: whose card it is.
            stream_key: the card.
            began_at: seconds since the epoch, when its run began.
            since: when the card appeared, on the runtime's clock.
            late: an end that was sent up to so many seconds before that, and never answered, counts as well.

        Returns:
            Until when such an end may arrive, on the runtime's clock; 0 where none was sent, `None` where another
            process is sending one at this moment.
        """
        outbox, now = self._used_outbox(), self.runtime.now()
        if outbox is None or self._closed:
            return 0.0
        wall = self.runtime.wall()
        sent = outbox.look_back(*_address(account), stream_key, self._owner, began_at, wall - (now - since), late)
        return sent and through_by(now - (wall - sent), self.runtime.attempt_seconds)

    def forget(self, ids: list[str]) -> None:
        """Forget what was delivered, or what a newer run's card has replaced."""
        outbox = self.outbox if ids else None
        if outbox is not None:
            outbox.delivered(ids)
            self._forget_leases(ids)

    def give_back(self, ids: list[str]) -> None:
        """Let others send again what was held back."""
        outbox = self.outbox if ids else None
        if outbox is not None:
            outbox.release(ids, self._owner)
            self._forget_leases(ids)

    def _used_outbox(self) -> Outbox | None:
        outbox = self.outbox
        return outbox if outbox is not None and outbox.exists() else None

    def adopt(self, entries: list[Entry]) -> set[str]:
        """Store what another process owed and this one delivers; returns the ids of what is on disk."""
        outbox = self.outbox
        if outbox is None or not entries:
            return set()
        with self._leaving:
            if outbox.put(entries, self._owner, LEASE_SECONDS):
                ids = {entry.id for entry in entries}
            else:  # one by one: an entry that cannot be stored must not keep the others out
                ids = {entry.id for entry in entries if outbox.put([entry], self._owner, LEASE_SECONDS)}
            self._leased |= ids
        return ids

    def inherit(self, account: AccountKey, owner: str) -> list[Entry]:
        """Take over what a process that is gone had in the outbox, or has left there.

        Args:
            account: whose.
            owner: the name of that process there.
        """
        outbox = self._used_outbox()
        if outbox is None:
            return []
        with self._leaving:
            entries = outbox.inherit(*_address(account), owner, self._owner, LEASE_SECONDS)
            self._note_leases(account, [entry.id for entry in entries])
        return entries

    @property
    def is_closed(self) -> bool:
        """True when the exit has taken stock of what this process owes."""
        return self._closed

    @property
    def has_leases(self) -> bool:
        """True while something on disk is under a lease of this process."""
        return bool(self._leased)

    def renew(self) -> None:
        """Renew the leases of what this process still tries to deliver."""
        outbox = self.outbox
        if outbox is None:
            return
        with self._leaving:
            if not self._closed:
                outbox.renew(self._owner, LEASE_SECONDS)

    # -- leaving

    def part(self, owed: Callable[[], Iterable[Kept]], timeout: float, *, stays: bool = False) -> Parting:
        """Begin to leave to others what this process could not deliver, for it exits; `leave_all` does the rest.

        Args:
            owed: returns what is owed; asked when nothing more is taken over.
            timeout: seconds that the watchdog has at most to hear all of it.
            stays: True where the process may yet stay, so that the watchdog is not told that it leaves in order.
        """
        with self._leaving:
            self._closed = not stays
        kept, new, left, ambiguous = list["Kept"](), list["OwedCopy"](), list["OwedCopy"](), set[str]()
        for delivery in owed():
            if not self.has_row(delivery):
                entry = delivery.copy()
                if entry is not None:
                    new.append((delivery, entry))
                    if entry.kind != "push" or not self.entrust(delivery, entry):
                        left.append((delivery, entry))
            elif not delivery.may_have_arrived:
                kept.append(delivery)
            elif delivery.entry is not None:
                ambiguous.add(delivery.entry.id)
        return Parting(self, new, left, kept, ambiguous, partial(self._begin_farewell, timeout, stays=stays))

    def _begin_farewell(self, timeout: float, *, stays: bool) -> Callable[[float], bool]:
        watchdog = self._watchdog
        if watchdog is None:
            return lambda _: True
        return watchdog.begin_tell() if stays else watchdog.begin_close(timeout)

    def stop(self) -> None:
        """Let the watchdog go, where there is one, and wait for nothing."""
        if self._watchdog is not None:
            self._watchdog.begin_close(0.0)

    # -- the watchdog

    @property
    def watched(self) -> bool:
        """True while there is a watchdog process."""
        return self._watchdog is not None and self._watchdog.alive

    @property
    def prepares(self) -> bool:
        """True while a watchdog is being started."""
        return self._watchdog is not None and self._watchdog.starts

    def entrust(self, delivery: Kept, entry: Entry) -> bool:
        """Have the watchdog deliver something if this process dies before it has; False if there is no watchdog."""
        watchdog = self._watchdog
        if watchdog is None or not watchdog.alive:
            return False
        number = self._entrusted.setdefault(entry.id, next(self._numbers))
        watchdog.entrust(
            number,
            *delivery.account_key,
            entry.kind,
            entry.body,
            stream_key=entry.stream_key,
            at_least_once=entry.at_least_once,
            occurred_at=entry.occurred_at,
            began_at=entry.began_at,
        )
        delivery.has_copy(entry, CopyOwner.WATCHDOG)
        return True

    def arm(
        self, number: int, account: AccountKey, stream_key: str, crash_state: CrashState, began_at: float
    ) -> None:
        """Have the watchdog end a card if the job dies; starts it with the first one."""
        watchdog = self._watchdog
        if watchdog is None:
            try:
                self._watchdog = watchdog = self.runtime.watchdog(self.place)
            except Exception as error:
                logger.warning("activitysmith_track: no watchdog here: %s", error)
                return
            for each in list(self._lessees):
                watchdog.leases(*each, self._owner)
        if self._closed:
            return
        end, push = crash_state
        watchdog.arm(number, *account, stream_key, end=end, push=push, began_at=began_at)

    def disarm(self, number: int) -> None:
        """Tell the watchdog that a card was ended."""
        if self._watchdog is not None:
            self._watchdog.disarm(number)


class Parting:
    """What a process that leaves has to see to for one persistence, in this order.

    What is `left` goes into the outbox. Then the watchdog is told, and given the ends that the disk does not take.
    What it could not be told goes into the outbox after all.

    Args:
        persistence: who keeps it.
        new: what had no copy before, or none where it belongs.
        left: what of that the watchdog was not given.
        kept: what was kept already.
        ambiguous: the ids of pushes that may have arrived and must not come twice, so that nobody gets them.
        farewell: begins to tell the watchdog; returns what waits until it has been told everything, and returns
            whether it has.

    Attributes:
        left: what is to go into the outbox.
    """

    def __init__(
        self,
        persistence: Persistence,
        new: list[OwedCopy],
        left: list[OwedCopy],
        kept: list[Kept],
        ambiguous: set[str],
        farewell: Callable[[], Callable[[float], bool]],
    ) -> None:
        self.persistence, self._new, self.left, self._kept = persistence, new, left, kept
        self._ambiguous, self._farewell = ambiguous, farewell
        self._heard: Callable[[float], bool] = lambda _: True

    def tell(self) -> None:
        """Begin to tell the watchdog; what was left is in the outbox already, or could not be put there."""
        self.left = [each for each in self.left if not self.persistence.entrust(*each)]
        self._heard = self._farewell()

    def wait(self, timeout: float) -> None:
        """Wait at most so many seconds until the watchdog has been told; what it has not been is left once more."""
        if self._heard(timeout):
            return
        with_it = [(each, each.entry) for each in self._kept if each.copy_owner is CopyOwner.WATCHDOG and each.entry]
        again = [each for each in with_it if not (self.persistence.watched and _comes_once(each[1]))]
        self.left = [*again, *(each for each in self._new if each[0].copy_owner is not CopyOwner.OUTBOX)]

    @property
    def leases(self) -> list[tuple[str, str]]:
        """What is given back to the outbox, each with its owner."""
        kept = [each.entry.id for each in self._kept if each.copy_owner is CopyOwner.OUTBOX and each.entry]
        ids = {*self.persistence._leased, *kept, *(entry.id for _, entry in self.left)} - self._ambiguous
        return [(each, self.persistence._owner) for each in sorted(ids)]

    @property
    def in_flight(self) -> set[str]:
        """The ids of what may still arrive."""
        kept = [each.entry.id for each in self._kept if each.is_in_flight and each.entry]
        return {*kept, *(entry.id for delivery, entry in self._new if delivery.is_in_flight)}

    def note(self) -> None:
        """Note what goes into the outbox, so that an attempt that fails now does not put it there again."""
        self.persistence._left.update(entry.id for _, entry in self.left)

    def stored(self) -> None:
        """Note that what was left is in the outbox."""
        for delivery, entry in self.left:
            self.persistence.stored(delivery, entry)
        self.left = []


def leave_all(partings: list[Parting], timeout: float, runtime: Runtime) -> list[bool]:
    """Have outboxes and watchdogs take over what is left, side by side and each file in one transaction.

    The disk comes first, so that what the watchdog is told to take over is there already.

    Args:
        partings: of each persistence one.
        timeout: seconds to wait at most until all the watchdogs have been told.
        runtime: tells the time.

    Returns:
        For each, whether all of it is kept by somebody.
    """
    _store_all(partings, runtime)
    for each in partings:
        each.tell()
    until = runtime.now() + timeout
    for each in partings:
        each.wait(max(0.0, until - runtime.now()))
    _store_all([each for each in partings if each.left], runtime)
    return [not each.left for each in partings]


def _store_all(partings: list[Parting], runtime: Runtime) -> None:
    files: dict[object, list[Parting]] = {}
    for each in partings:
        if each.left or each.leases:
            files.setdefault(each.persistence.place, []).append(each)
    until = runtime.now() + RETRY_SECONDS
    for group in files.values():
        _store(group, until, runtime)


def _store(partings: list[Parting], until: float, runtime: Runtime) -> None:
    """Leave everything in one outbox; tried twice where the file is busy, unless it is late."""
    outbox = partings[0].persistence.outbox
    if outbox is None:
        return
    entries = [entry for _, entry in itertools.chain.from_iterable(each.left for each in partings)]
    leases = list(itertools.chain.from_iterable(each.leases for each in partings))
    in_flight = set(itertools.chain.from_iterable(each.in_flight for each in partings))
    with contextlib.ExitStack() as stack:
        for each in partings:
            stack.enter_context(each.persistence._leaving)
        for each in partings:
            each.note()
        kept_all = outbox.leave(entries, leases, in_flight)
        if not kept_all and runtime.now() < until:
            kept_all = outbox.leave(entries, leases, in_flight)  # the file may have been busy for once
        if kept_all:
            for each in partings:
                each.stored()


def _comes_once(entry: Entry) -> bool:
    """Tell whether it is better lost than delivered twice."""
    return entry.kind == "push" and not entry.at_least_once


def _address(account: AccountKey) -> tuple[str, str]:
    """Return how the outbox knows an account: by its key's fingerprint, and by its address."""
    return key_fingerprint(account.api_key), account.base_url
