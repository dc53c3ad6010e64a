"""Keeps copies of ends and pushes for others to deliver: in the outbox on disk, and with the watchdog.

While all goes well nothing is written, but for a short run on a card that was there before, and only a look at the
outbox's file is taken, unless the watchdog was asked for. What touches the disk is called on a worker's thread, or at
the exit; what feeds the watchdog waits for nothing.

The end of a card always has its copy in the outbox, if there is one: only there can a newer run in another process
find an end that would end its card, and take it away. The watchdog is told only that there is something, and takes it
over from the outbox when the job is gone.
"""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from .._fork import module
from .guard import Guard
from .held_ends import HeldEnds
from .leases import Leases
from .outbox_place import OutboxPlace, address
from .state import CopyOwner, Hold

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Protocol

    from .._endpoint import AccountKey
    from .entries import Entry
    from .runtime import Runtime
    from .state import CrashState

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
        def may_come_late(self) -> bool:
            """True while the service may still carry out an earlier request for the same card."""

        @property
        def may_have_arrived(self) -> bool:
            """True while an attempt is in flight, and what it sends is better lost than sent twice."""

        def copy(self, *, failed: bool = False) -> Entry | None:
            """Return the entry that others are to deliver in its place, if anything."""

        def has_copy(self, entry: Entry, owner: CopyOwner) -> None:
            """Note that somebody has a copy."""


_OUTBOX = "activitysmith_track.delivery.outbox"
CLAIMED = 10  # entries that are claimed at once at most: few, so that all are delivered before the lease runs out


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

    Attributes:
        place: where the outbox is.
        guard: tells the watchdog.
        leases: what this process has under a lease in the outbox.
        held: the older runs' ends that it holds back there.
    """

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        owner = f"{os.getpid()}-{runtime.token()}"
        self.place, self.guard = OutboxPlace(runtime), Guard(runtime, owner)
        self.leases = Leases(runtime, owner, self.guard)
        self.held = HeldEnds(runtime, self.place, self.leases)

    # -- what is owed

    def entry(
        self, account: AccountKey, kind: str, body: Mapping[str, Any], occurred_at: float, **more: Any
    ) -> Entry:
        """Make an entry of something that is owed to an account; see `Entry`."""
        run = self.leases.owner
        made: Entry = module(_OUTBOX).Entry(kind, *address(account), body, occurred_at, run=run, **more)
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
        outbox, leases = self.place.outbox, self.leases
        if outbox is None:
            return False
        with leases.leaving:
            if entry.id not in leases.left:
                owner = None if leases.is_closed else leases.owner  # nobody would give a lease back any more
                if not outbox.put([entry], owner, leases.seconds, sent=sent):
                    return False
                if owner is not None:
                    leases.note(delivery.account_key, [entry.id])
        self.stored(delivery, entry)
        return True

    def stored(self, delivery: Kept, entry: Entry) -> None:
        """Note that there is a copy in the outbox; the watchdog is told so, and drops a copy of its own."""
        self.leases.note_copy(delivery.account_key)
        delivery.has_copy(entry, CopyOwner.OUTBOX)
        self.guard.take_back(entry)

    def has_row(self, delivery: Kept) -> bool:
        """Tell whether there is a copy in its place: of a push anywhere, of an end in the outbox, if there is one."""
        if delivery.copy_owner is CopyOwner.WATCHDOG:
            return delivery.kind == "push" or self.place.directory is False
        return delivery.copy_owner is CopyOwner.OUTBOX

    def begin(self, delivery: Kept, *, goes_on: bool = False, has_begun: bool = False) -> Hold:
        """Note that an attempt at what is kept begins; returns who has the copy.

        Args:
            delivery: what is attempted.
            goes_on: True for the next request of an attempt for which this was called before.
            has_begun: True in the middle of an attempt, which the exit does not take away.
        """
        entry, leases = delivery.entry, self.leases
        if entry is None or delivery.copy_owner is CopyOwner.NOBODY:
            return Hold.MINE
        if delivery.copy_owner is CopyOwner.WATCHDOG:
            if comes_once(entry):
                self.forget_copy(delivery)  # from here on it may have arrived, and nobody else is to send it
            return Hold.MINE
        outbox = self.place.outbox
        if outbox is None:
            return Hold.UNKNOWN
        with leases.leaving:
            if leases.is_closed:  # the exit has left it to others, but for what it has begun
                return Hold.MINE if has_begun else Hold.OTHERS
            hold = outbox.begin(entry.id, leases.owner, leases.seconds, goes_on=goes_on)
            if hold is Hold.MINE:
                leases.note(delivery.account_key, [entry.id])
            elif hold is not Hold.UNKNOWN:
                leases.forget([entry.id])
        is_gone = hold is Hold.GONE or (hold is Hold.UNKNOWN and not outbox.exists())
        return self._without_copy(delivery, entry) if is_gone else hold

    def _without_copy(self, delivery: Kept, entry: Entry) -> Hold:
        """Return what is to be done with something whose copy has gone, and nobody knows how."""
        if comes_once(entry):
            return Hold.SETTLED  # it may have been delivered long ago
        delivery.copy_owner = CopyOwner.NOBODY  # somebody has deleted the file: a failure makes a new copy
        return Hold.GONE

    def over(self, delivery: Kept, *, sent: bool = True, shown: bool = False) -> None:
        """Note that an attempt is over and another one will follow; a copy is made if there is none.

        Args:
            delivery: what was attempted.
            sent: True where the attempt has succeeded, or may have done so.
            shown: True for the last state of a card that stays up, where the service has shown it.
        """
        if delivery.copy_owner is CopyOwner.WATCHDOG and self.has_row(delivery):
            return
        entry = delivery.entry or delivery.copy(failed=True)
        if entry is None:
            return
        if delivery.copy_owner is CopyOwner.OUTBOX:
            outbox, owner = self.place.outbox, self.leases.owner
            if outbox is None or outbox.over(entry.id, owner, sent=sent, shown=shown) or not comes_once(entry):
                return
        if self.keep(delivery, entry, sent=sent) and shown and (outbox := self.place.outbox) is not None:
            outbox.over(entry.id, self.leases.owner, shown=True)

    def forget_copy(self, delivery: Kept) -> None:
        """Have the copy of what was delivered, or will never be, forgotten."""
        entry = delivery.entry
        if entry is None:
            return
        owner, delivery.copy_owner = delivery.copy_owner, CopyOwner.NOBODY
        if owner is CopyOwner.WATCHDOG:
            self.guard.take_back(entry)
        elif owner is CopyOwner.OUTBOX:
            self.held.settle([entry.id])

    # -- what earlier processes owe

    def claim(self, account: AccountKey) -> Claimed:
        """Take over a part of what earlier processes owe an account."""
        outbox, now, leases = self.place.used_outbox, self.runtime.wall(), self.leases
        if outbox is None:
            return Claimed()
        with leases.leaving:
            if leases.is_closed:
                return Claimed()
            entries = outbox.claim(*address(account), leases.owner, now, leases.seconds, most=CLAIMED)
            leases.note(account, [entry.id for entry in entries])
        is_part = len(entries) == CLAIMED
        until = None if is_part else outbox.next_lease_end(*address(account), leases.owner)
        return Claimed(tuple(entries), is_part, None if until is None else max(0.0, until - now) + 1.0)

    def adopt(self, entries: list[Entry], *, is_recent: bool) -> set[str]:
        """Store what another process owed and this one delivers; returns the ids of what is on disk.

        Args:
            entries: what it owed.
            is_recent: True where it may still have requests in flight, which others are to hear of.
        """
        outbox, leases = self.place.outbox, self.leases
        if outbox is None or not entries:
            return set()
        put = partial(outbox.put, owner=leases.owner, lease_seconds=leases.seconds, sent=is_recent)
        with leases.leaving:
            # Else one by one: an entry that cannot be stored must not keep the others out.
            ids = {entry.id for entry in (entries if put(entries) else [each for each in entries if put([each])])}
            leases.ids |= ids
        return ids

    def inherit(self, account: AccountKey, owner: str) -> list[Entry]:
        """Take over what a process that is gone had in the outbox, or has left there.

        Args:
            account: whose.
            owner: the name of that process there.
        """
        outbox, leases = self.place.used_outbox, self.leases
        if outbox is None:
            return []
        with leases.leaving:
            entries = outbox.inherit(*address(account), owner, leases.owner, leases.seconds)
            leases.note(account, [entry.id for entry in entries])
        return entries

    def renew(self) -> None:
        """Renew the leases of what this process still tries to deliver."""
        outbox, leases = self.place.outbox, self.leases
        if outbox is None:
            return
        with leases.leaving:
            if leases.is_closed:
                return
            self.held.settle_again()
            outbox.renew(leases.owner, leases.seconds)

    # -- the watchdog

    def entrust(self, delivery: Kept, entry: Entry) -> bool:
        """Have the watchdog deliver something if this process dies before it has; False if there is no watchdog."""
        is_entrusted = self.guard.entrust(delivery.account_key, entry)
        if is_entrusted:
            delivery.has_copy(entry, CopyOwner.WATCHDOG)
        return is_entrusted

    def arm(
        self, number: int, account: AccountKey, stream_key: str, crash_state: CrashState, began_at: float
    ) -> None:
        """Have the watchdog end a card if the job dies; starts it with the first one."""
        if self.guard.start(self.place.path) and not self.leases.is_closed:
            self.guard.arm(number, account, stream_key, crash_state, began_at)


def comes_once(entry: Entry) -> bool:
    """Tell whether it is better lost than delivered twice."""
    return entry.kind == "push" and not entry.at_least_once
