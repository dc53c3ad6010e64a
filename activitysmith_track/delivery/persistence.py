"""Who delivers what the job cannot: the outbox on disk, for a next process, and the watchdog beside this one.

While all goes well nothing is written, and only a look at the outbox's file is taken, unless the watchdog was asked
for. What touches the disk is called on a worker's thread, or at the exit; what feeds the watchdog waits for nothing.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
from typing import TYPE_CHECKING, NamedTuple

from .._endpoint import key_fingerprint
from .._forks import module
from .state import CopyOwner, Hold
from .unanswered import through_by

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

    from .._outbox import Entry, Outbox
    from .._watchdog import Watchdog
    from .account import Account
    from .deliveries import Delivery
    from .runtime import Runtime

    CrashState = tuple[Mapping[str, Any], Mapping[str, Any] | None]  # how an activity ends, and the push

logger = logging.getLogger("activitysmith_track")

_OUTBOX = "activitysmith_track._outbox"
RETRY_SECONDS = 1.0  # within which what could not be left in an outbox is tried once more
CLAIMED = 10  # entries at most that are taken over at once: soon delivered, long before the lease runs out
LEASE_SECONDS = 180.0  # for which nobody else takes what this process tries to deliver


class Claimed(NamedTuple):
    """What was taken over of what earlier processes owe.

    Attributes:
        entries: the first of it.
        is_part: True where there is more.
        again_in: seconds after which more may be to be had, from a process that may be gone by then; or `None`.
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
        self._closed = False  # nobody could say goodbye to a watchdog that is told of a card from now on
        self._numbers = itertools.count(1)
        self._handed: dict[str, int] = {}  # the watchdog's numbers of what it has, by the entries' ids
        self._owner = f"{os.getpid()}-{runtime.token()}"
        self._left: set[str] = set()  # the ids of what was left to a next process
        self._leased: set[str] = set()  # the ids of what this process has under a lease
        # Of these, what older runs owe a card that is to begin; each with when it may come at the latest.
        self._held: dict[tuple[Account, str], dict[str, float]] = {}
        self._leaving = runtime.lock()  # lest an attempt takes a lease on what is left, and nobody gives it back

    @property
    def outbox(self) -> Outbox | None:
        """The outbox, or `None` where it was turned off."""
        if self.directory is False:
            return None
        if self._outbox is None:
            made = self.runtime.outbox(None if self.directory is True else self.directory)
            made.exists()  # which imports what it takes to tell
            self._outbox = self._outbox or made  # else another thread was faster
        return self._outbox

    @property
    def place(self) -> str | bool:
        """The outbox's directory, as the watchdog takes it."""
        return self.directory if isinstance(self.directory, bool) else os.path.abspath(self.directory)

    # -- what is owed

    def entry(self, account: Account, kind: str, body: Mapping[str, Any], occurred_at: float, **more: Any) -> Entry:
        """Make an entry of something that is owed to an account; see `Entry`."""
        made: Entry = module(_OUTBOX).Entry(kind, *_address(account), body, occurred_at, run=self._owner, **more)
        return made

    def keep(self, delivery: Delivery, entry: Entry) -> bool:
        """Keep a copy of what this process still tries to deliver itself."""
        if self.hand_over(delivery, entry):
            return True
        outbox = self.outbox
        if outbox is None:
            return False
        with self._leaving:
            if entry.id not in self._left:
                owner = None if self._closed else self._owner  # nobody would give a lease back any more
                if not outbox.put([entry], owner, LEASE_SECONDS):
                    return False
                if owner is not None:
                    self._leased.add(entry.id)
        delivery.has_copy(entry, CopyOwner.OUTBOX)
        return True

    def begin(self, delivery: Delivery) -> Hold:
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
                return Hold.OTHERS  # whom it is left to
            hold = outbox.begin(entry.id, self._owner, LEASE_SECONDS)
            (self._leased.add if hold is Hold.MINE else self._leased.discard)(entry.id)
        return hold

    def over(self, delivery: Delivery) -> None:
        """Note that an attempt has failed for certain, and that another one follows: from now on there is a copy."""
        if delivery.copy_owner is CopyOwner.WATCHDOG:
            return
        entry = delivery.entry or delivery.copy(failed=True)
        if entry is None:
            return
        if delivery.copy_owner is CopyOwner.OUTBOX:
            outbox = self.outbox
            if outbox is None or outbox.over(entry.id, self._owner) or not _comes_once(entry):
                return
        self.keep(delivery, entry)

    def forget_copy(self, delivery: Delivery) -> None:
        """Have the copy of what was delivered, or will never be, forgotten."""
        entry = delivery.entry
        if entry is None:
            return
        owner, delivery.copy_owner = delivery.copy_owner, CopyOwner.NOBODY
        if owner is CopyOwner.WATCHDOG and self._watchdog is not None:
            number = self._handed.pop(entry.id, None)
            if number is not None:
                self._watchdog.settled(number)
        elif owner is CopyOwner.OUTBOX:
            self.forget([entry.id])

    # -- what earlier processes owe

    def claim(self, account: Account) -> Claimed:
        """Take over a part of what earlier processes owe an account."""
        outbox, address, now = self._used_outbox(), _address(account), self.runtime.wall()
        if outbox is None:
            return Claimed()
        with self._leaving:
            if self._closed:
                return Claimed()
            entries = outbox.claim(*address, self._owner, now, LEASE_SECONDS, most=CLAIMED)
            self._leased.update(entry.id for entry in entries)
        is_part = len(entries) == CLAIMED
        until = None if is_part else outbox.next_lease_end(*address, self._owner)
        return Claimed(tuple(entries), is_part, None if until is None else max(0.0, until - now) + 1.0)

    def hold_ends(self, account: Account, stream_key: str) -> float | None:
        """Have nobody send the end that an older run owes a card, while a newer one begins under the same key.

        Call `forget_held` when that has begun, or `let_go` when it will not.

        Returns:
            Until when something of the older run may come that was on its way by now, on the runtime's clock, 0 where
            there is nothing; `None` where it has to wait until another process has sent it.
        """
        outbox, now = self._used_outbox(), self.runtime.now()
        if outbox is None:
            return 0.0
        with self._leaving:
            if self._closed:  # it would take away what the exit has just left there of that very card
                return 0.0
            held = outbox.hold_ends(*_address(account), stream_key, self._owner, LEASE_SECONDS)
            if held:
                self._leased.update(held)
                known = self._held.get((account, stream_key), {})
                gone_at = through_by(now, self.runtime.attempt_seconds)
                self._held[account, stream_key] = {key: known.get(key, gone_at - idle) for key, idle in held.items()}
        if held is None:
            return None
        return max(self._held[account, stream_key].values()) if held else 0.0

    def holds_for(self, account: Account, stream_key: str) -> bool:
        """Tell whether something is held back for a card that is to begin."""
        return (account, stream_key) in self._held

    def forget_held(self, account: Account, stream_key: str) -> None:
        """Forget what was held back for a card that is shown by now, and has made it untrue."""
        self.forget(list(self._held.pop((account, stream_key), ())))

    def let_go(self, account: Account, stream_key: str) -> bool:
        """Let others send again what was held back for a card; returns whether there was anything."""
        held = list(self._held.pop((account, stream_key), ()))
        self.give_back(held)
        return bool(held)

    def forget(self, ids: list[str]) -> None:
        """Forget what was delivered, or what a newer run's card has made untrue."""
        outbox = self.outbox if ids else None
        if outbox is not None:
            outbox.delivered(ids)
            self._leased.difference_update(ids)

    def give_back(self, ids: list[str]) -> None:
        """Let others send again what was held back."""
        outbox = self.outbox if ids else None
        if outbox is not None:
            outbox.release(ids, self._owner)
            self._leased.difference_update(ids)

    def _used_outbox(self) -> Outbox | None:
        outbox = self.outbox
        return outbox if outbox is not None and outbox.exists() else None

    def adopt(self, entries: list[Entry]) -> set[str]:
        """Keep what another process owed and this one delivers; returns the ids of what is on disk."""
        outbox = self.outbox
        if outbox is None or not entries:
            return set()
        with self._leaving:
            if outbox.put(entries, self._owner, LEASE_SECONDS):
                ids = {entry.id for entry in entries}
            else:  # what does not fit keeps the rest from nothing
                ids = {entry.id for entry in entries if outbox.put([entry], self._owner, LEASE_SECONDS)}
            self._leased |= ids
        return ids

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

    def part(self, owed: Callable[[], Iterable[Delivery]], timeout: float, *, stays: bool = False) -> Parting:
        """Begin to leave to others what this process could not deliver, for it exits; `leave_all` does the rest.

        Args:
            owed: returns what is owed; asked when nothing more is taken over.
            timeout: seconds that the watchdog has at most to hear all of it.
            stays: True where the process may yet stay, so that the watchdog is not told that it leaves in order.
        """
        with self._leaving:
            self._closed = not stays
        kept, new, ambiguous = [], [], set[str]()
        for delivery in owed():
            if delivery.copy_owner is CopyOwner.NOBODY:
                entry = delivery.copy()
                if entry is not None:
                    new.append(delivery)
                    if not self.hand_over(delivery, entry):
                        delivery.has_copy(entry, CopyOwner.OUTBOX)
            elif not delivery.may_have_arrived:
                kept.append(delivery)
            elif delivery.entry is not None:
                ambiguous.add(delivery.entry.id)
        watchdog = self._watchdog
        if watchdog is None:
            return Parting(self, new, kept, ambiguous)
        return Parting(self, new, kept, ambiguous, watchdog.begin_tell() if stays else watchdog.begin_close(timeout))

    def stop(self) -> None:
        """Let the watchdog go, where there is one, and wait for nothing."""
        if self._watchdog is not None:
            self._watchdog.begin_close(0.0)

    # -- the watchdog

    @property
    def watched(self) -> bool:
        """True while a watchdog stands guard."""
        return self._watchdog is not None and self._watchdog.alive

    @property
    def prepares(self) -> bool:
        """True while a watchdog is being started."""
        return self._watchdog is not None and self._watchdog.starts

    def hand_over(self, delivery: Delivery, entry: Entry) -> bool:
        """Have the watchdog deliver something if the process is gone before it has; False where there is none."""
        watchdog, account = self._watchdog, delivery.account
        if watchdog is None or not watchdog.alive:
            return False
        number = self._handed.setdefault(entry.id, next(self._numbers))
        watchdog.hand_over(
            number,
            account.secret,
            account.base_url,
            entry.kind,
            entry.body,
            stream_key=entry.stream_key,
            at_least_once=entry.at_least_once,
            happened=entry.happened,
            began=entry.began,
        )
        delivery.has_copy(entry, CopyOwner.WATCHDOG)
        return True

    def guard(self, number: int, account: Account, stream_key: str, crash_state: CrashState, began_at: float) -> None:
        """Have the watchdog end a card if the job dies; starts it with the first one."""
        watchdog = self._watchdog
        if watchdog is None:
            try:
                self._watchdog = watchdog = self.runtime.watchdog(self.place)
            except Exception as error:
                logger.warning("activitysmith_track: no watchdog here: %s", error)
                return
        if self._closed:
            return
        end, push = crash_state
        watchdog.guard(number, account.secret, account.base_url, stream_key, end=end, push=push, began=began_at)

    def goodbye(self, number: int) -> None:
        """Tell the watchdog that a card was ended."""
        if self._watchdog is not None:
            self._watchdog.goodbye(number)


class Parting:
    """What a process that leaves has to see to for one persistence.

    Args:
        persistence: who keeps it.
        new: what nobody else knew of before.
        kept: what was kept already.
        ambiguous: the ids of what may have arrived and is not to come twice, so that nobody is given it.
        heard: waits until the watchdog has been told everything, and returns whether it has; `None` for no watchdog.

    Attributes:
        told: whether the watchdog, where there is one, has been told everything.
        left: what goes into the outbox.
    """

    def __init__(
        self,
        persistence: Persistence,
        new: list[Delivery],
        kept: list[Delivery],
        ambiguous: set[str],
        heard: Callable[[float], bool] | None = None,
    ) -> None:
        self.persistence, self._new, self._kept, self._heard = persistence, new, kept, heard
        self._ambiguous = ambiguous
        self.told = True
        self.left = _entries(each for each in new if each.copy_owner is CopyOwner.OUTBOX)

    def wait(self, timeout: float) -> None:
        """Wait at most so many seconds until the watchdog has been told; what it has not been, the outbox keeps."""
        self.told = self._heard is None or self._heard(timeout)
        if not self.told:  # what it has of them may come twice, or not at all
            handed = _entries(each for each in self._kept if each.copy_owner is CopyOwner.WATCHDOG)
            again = [each for each in handed if not (self.persistence.watched and _comes_once(each))]
            self.left = [*again, *_entries(self._new)]

    @property
    def leases(self) -> list[tuple[str, str]]:
        """What is given back to the outbox, each with its owner."""
        kept = _entries(each for each in self._kept if each.copy_owner is CopyOwner.OUTBOX)
        ids = {*self.persistence._leased, *(each.id for each in [*kept, *self.left])} - self._ambiguous
        return [(each, self.persistence._owner) for each in sorted(ids)]

    @property
    def in_flight(self) -> set[str]:
        """The ids of what may still arrive."""
        return {each.id for each in [*self._kept, *self._new] if each.is_in_flight}

    def note(self) -> None:
        """Note what goes into the outbox, lest an attempt that fails by now keeps it once more."""
        self.persistence._left.update(entry.id for entry in self.left)


def _entries(deliveries: Iterable[Delivery]) -> list[Entry]:
    return [each.entry for each in deliveries if each.entry is not None]


def leave_all(partings: list[Parting], timeout: float, runtime: Runtime) -> list[bool]:
    """Have watchdogs and outboxes take over what is left, side by side and each file in one transaction.

    Args:
        partings: of each persistence one.
        timeout: seconds to wait at most until all the watchdogs have been told.
        runtime: tells the time.

    Returns:
        Of each whether all of it is in safe hands.
    """
    until = runtime.now() + timeout
    files: dict[object, list[Parting]] = {}
    for each in partings:
        each.wait(max(0.0, until - runtime.now()))
        if each.left or each.leases:
            files.setdefault(each.persistence.place, []).append(each)
    until = runtime.now() + RETRY_SECONDS
    stored = {place: _store(group, until, runtime) for place, group in files.items()}
    return [stored[each.persistence.place] if each.left or each.leases else each.told for each in partings]


def _store(partings: list[Parting], until: float, runtime: Runtime) -> bool:
    """Leave everything in one outbox; tried twice where the file is busy, unless it is late."""
    outbox = partings[0].persistence.outbox
    if outbox is None:
        return not any(each.left for each in partings)
    entries = [entry for each in partings for entry in each.left]
    leases = [lease for each in partings for lease in each.leases]
    in_flight = {each for parting in partings for each in parting.in_flight}
    with contextlib.ExitStack() as stack:
        for each in partings:
            stack.enter_context(each.persistence._leaving)
        for each in partings:
            each.note()
        kept_all = outbox.leave(entries, leases, in_flight)
        if not kept_all and runtime.now() < until:
            kept_all = outbox.leave(entries, leases, in_flight)  # the file may have been busy for once
        return kept_all


def _comes_once(entry: Entry) -> bool:
    """Tell whether it is better lost than delivered twice."""
    return entry.kind == "push" and not entry.at_least_once


def _address(account: Account) -> tuple[str, str]:
    """Return how the outbox knows an account: by its key's fingerprint, and by its address."""
    return key_fingerprint(account.secret), account.base_url
