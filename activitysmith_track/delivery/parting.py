"""What a process that leaves sees to: what it could not deliver is kept by the outbox, or by the watchdog.

All dispatchers of a process leave side by side, and each file of an outbox is written in one transaction.
"""

from __future__ import annotations

import contextlib
import itertools
from functools import partial
from typing import TYPE_CHECKING

from .persistence import comes_once
from .state import CopyOwner

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .entries import Entry
    from .persistence import Kept, Persistence
    from .runtime import Runtime

    OwedCopy = tuple[Kept, Entry]  # something that is owed, and its copy

RETRY_SECONDS = 1.0  # seconds within which an outbox that did not take what was left is tried once more


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
        again = [each for each in with_it if not (self.persistence.guard.watches and comes_once(each[1]))]
        self.left = [*again, *(each for each in self._new if each[0].copy_owner is not CopyOwner.OUTBOX)]

    @property
    def leases(self) -> list[tuple[str, str]]:
        """What is given back to the outbox, each with its owner."""
        kept = [each.entry.id for each in self._kept if each.copy_owner is CopyOwner.OUTBOX and each.entry]
        leases = self.persistence.leases
        ids = {*leases.ids, *kept, *(entry.id for _, entry in self.left)} - self._ambiguous - leases.unsettled
        return [(each, leases.owner) for each in sorted(ids)]

    @property
    def in_flight(self) -> set[str]:
        """The ids of what may still arrive."""
        kept = [each.entry.id for each in self._kept if each.is_in_flight and each.entry]
        return {*kept, *(entry.id for delivery, entry in self._new if delivery.is_in_flight)}

    @property
    def late(self) -> set[str]:
        """The ids of ends of cards that an earlier request may yet bring back."""
        kept = [each.entry.id for each in self._kept if each.may_come_late and each.entry]
        return {*kept, *(entry.id for delivery, entry in self._new if delivery.may_come_late)}

    def note(self) -> None:
        """Note what goes into the outbox, so that an attempt that fails now does not put it there again."""
        self.persistence.leases.left.update(entry.id for _, entry in self.left)

    def stored(self) -> None:
        """Note that what was left is in the outbox."""
        for delivery, entry in self.left:
            self.persistence.stored(delivery, entry)
        self.left = []


def part(
    persistence: Persistence, owed: Callable[[], Iterable[Kept]], timeout: float, *, stays: bool = False
) -> Parting:
    """Begin to leave to others what this process could not deliver, for it exits; `leave_all` does the rest.

    Args:
        persistence: who keeps it.
        owed: returns what is owed; asked when nothing more is taken over.
        timeout: seconds that the watchdog has at most to hear all of it.
        stays: True where the process may yet stay, so that the watchdog is not told that it leaves in order.
    """
    with persistence.leases.leaving:
        persistence.leases.is_closed = not stays
    kept, new, left, ambiguous = list["Kept"](), list["OwedCopy"](), list["OwedCopy"](), set[str]()
    is_lost = persistence.place.used_outbox is None  # somebody has deleted the file
    for delivery in owed():
        if not persistence.has_row(delivery) or (is_lost and delivery.copy_owner is CopyOwner.OUTBOX):
            entry = delivery.copy()
            if entry is not None:
                new.append((delivery, entry))
                if entry.kind != "push" or not persistence.entrust(delivery, entry):
                    left.append((delivery, entry))
        elif not delivery.may_have_arrived:
            kept.append(delivery)
        elif delivery.entry is not None:
            ambiguous.add(delivery.entry.id)
    farewell = partial(persistence.guard.begin_farewell, timeout, stays=stays)
    return Parting(persistence, new, left, kept, ambiguous, farewell)


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
        if each.left or each.leases or each.persistence.leases.unsettled:
            files.setdefault(each.persistence.place.path, []).append(each)
    until = runtime.now() + RETRY_SECONDS
    for group in files.values():
        _store(group, until, runtime)


def _store(partings: list[Parting], until: float, runtime: Runtime) -> None:
    """Leave everything in one outbox; tried twice where the file is busy, unless it is late."""
    outbox = partings[0].persistence.place.outbox
    if outbox is None:
        return
    leave = partial(outbox.leave, *_gather(partings))
    with contextlib.ExitStack() as stack:
        for each in partings:
            stack.enter_context(each.persistence.leases.leaving)
        for each in partings:
            each.persistence.held.settle_again()
            each.note()
        kept_all = leave()
        if not kept_all and runtime.now() < until:
            kept_all = leave()  # the file may have been busy for once
        if kept_all:
            for each in partings:
                each.stored()


def _gather(partings: list[Parting]) -> tuple[list[Entry], list[tuple[str, str]], set[str], set[str]]:
    """Return what `Outbox.leave` is given: entries, leases, and the ids of what is in flight and may come late."""
    gathered = itertools.chain.from_iterable
    return (
        [entry for _, entry in gathered(each.left for each in partings)],
        list(gathered(each.leases for each in partings)),
        set(gathered(each.in_flight for each in partings)),
        set(gathered(each.late for each in partings)),
    )
