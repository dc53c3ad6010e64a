"""What this process has under a lease in the outbox, so that nobody else takes it; the exit gives all of it back."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .._endpoint import AccountKey
    from .guard import Guard
    from .runtime import Runtime


class Leases:
    """The leases of a process. The watchdog knows for which accounts there are any.

    Args:
        runtime: the world outside.
        owner: the name of this process in the outbox.
        guard: tells the watchdog.

    Attributes:
        leaving: held while a lease is taken and noted, and while the exit gives them back, so that no attempt takes
            one on what was left to others.
        is_closed: True when the exit has taken stock of what this process owes: from then on nobody would give a
            lease back, or disarm a card.
        left: the ids of what was left to a next process.
        ids: the ids of what is under a lease.
        unsettled: of these, what nobody is to send any more, although the disk has not taken that yet.
    """

    seconds = 180.0  # for which nobody else takes what this process tries to deliver

    def __init__(self, runtime: Runtime, owner: str, guard: Guard) -> None:
        self.owner, self._guard = owner, guard
        self.leaving = runtime.lock()
        self.is_closed = False
        self.left: set[str] = set()
        self.ids: set[str] = set()
        self.unsettled: set[str] = set()

    def note(self, account: AccountKey, ids: Iterable[str]) -> None:
        """Note what this process has under a lease, and tell the watchdog that there are leases."""
        noted = set(ids)
        self.ids |= noted
        if noted:
            self.note_copy(account)

    def note_copy(self, account: AccountKey) -> None:
        """Tell the watchdog that something is in the outbox."""
        with self.leaving:
            self._guard.look_into_outbox(account)

    def forget(self, ids: Iterable[str]) -> None:
        """Note what this process has no lease of any more; if that was the last, tell the watchdog."""
        with self.leaving:
            gone = set(ids)
            self.ids -= gone
            self.unsettled -= gone
            if not self.ids:
                self._guard.leave_outbox()
