"""What is owed to the service, by this process and by earlier ones, and who waits until nothing is."""

from __future__ import annotations

import contextlib
from queue import Empty
from typing import TYPE_CHECKING

from .deliveries import Delivery

if TYPE_CHECKING:
    from .._inbox import Inbox
    from .runtime import Runtime
    from .scheduler import Task


class Ledger:
    """What is owed from the time when a dispatcher begins until it closes.

    Owed are ends, pushes, cards that are to appear, and looks into the outbox for what earlier processes owe. All of
    these are tasks. Any thread adds to them; whoever looks through them does so over a copy.

    Args:
        runtime: the world outside.

    Attributes:
        lost: how many deliveries were given up since somebody last asked.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self.lost = 0
        self._owed: dict[Task, None] = {}  # by this process
        self._debts: dict[Task, None] = {}  # of earlier ones
        self._waiters: list[Inbox[None]] = []
        self._is_closed = False

    def owe(self, task: Task, *, is_debt: bool = False) -> None:
        """Note that something is owed; a debt is one of an earlier process."""
        (self._debts if is_debt else self._owed)[task] = None

    def remove(self, task: Task) -> bool:
        """Note that nothing is owed for a task any more; returns whether it was the last one of this process.

        Call `wake_waiters` then, after those that may go now were woken.
        """
        was_last = task in self._owed and len(self._owed) == 1
        self._owed.pop(task, None)
        self._debts.pop(task, None)
        return was_last

    def keep_deliveries(self) -> list[Delivery]:
        """Owe nothing but ends and pushes any more; returns these, this process's own first."""
        for owed in (self._owed, self._debts):
            for task in list(owed):
                if not isinstance(task, Delivery):
                    owed.pop(task, None)
        return self.deliveries

    @property
    def owes(self) -> bool:
        """True while something is owed."""
        return bool(self._owed or self._debts) and not self._is_closed

    @property
    def is_awaited(self) -> bool:
        """True while something is owed for which somebody who waits has to wait; see `Delivery.is_awaited`."""
        tasks = [*self.owed, *self.debts]
        return not self._is_closed and any(not isinstance(task, Delivery) or task.is_awaited for task in tasks)

    @property
    def owes_own(self) -> bool:
        """True while this process owes something of its own."""
        return bool(self._owed)

    @property
    def owed(self) -> list[Task]:
        """What this process owes."""
        return list(self._owed)

    @property
    def debts(self) -> list[Task]:
        """What earlier processes owe, and the looks for it."""
        return list(self._debts)

    @property
    def own_deliveries(self) -> list[Delivery]:
        """The deliveries of this process's own."""
        return [task for task in self.owed if isinstance(task, Delivery)]

    @property
    def deliveries(self) -> list[Delivery]:
        """The deliveries that are owed, this process's own first."""
        return [*self.own_deliveries, *(task for task in self.debts if isinstance(task, Delivery))]

    def owed_ids(self) -> set[str]:
        """Return the ids of the deliveries that have a copy."""
        return {each.message.entry.id for each in self.deliveries if each.message.entry is not None}

    def wait(self, timeout: float) -> None:
        """Wait at most so many seconds until nothing is owed that anybody waits for."""
        until, waiter = self._runtime.now() + timeout, self._runtime.inbox()
        self._waiters.append(waiter)
        try:
            while self.is_awaited and (left := until - self._runtime.now()) > 0:
                with contextlib.suppress(Empty):
                    waiter.get(left)
        finally:
            self._waiters.remove(waiter)

    def close(self) -> None:
        """Owe nothing any more, since everything has begun anew: whoever waits, or comes later, waits for nothing."""
        self._is_closed = True
        self.wake_waiters()

    def wake_waiters(self) -> None:
        """Have those that wait look again whether anything is owed."""
        for waiter in list(self._waiters):
            waiter.put(None)
