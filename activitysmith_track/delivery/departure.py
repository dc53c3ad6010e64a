"""How a dispatcher leaves, at the exit, by a signal or when it is closed; `shutdown` leads all of them.

The open cards are ended as stopped, what is owed is sent without any delay, and what has not arrived by the deadline
is left to the outbox and the watchdog.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._fork import importing
from .end_delivery import EndDelivery
from .parting import Parting, part

if TYPE_CHECKING:
    from collections.abc import Callable

    from .deliveries import Delivery
    from .ledger import Ledger
    from .messages import Message
    from .open_activities import OpenActivities
    from .persistence import Persistence
    from .runtime import Runtime
    from .scheduler import Scheduler
    from .signals import Signals

LANDING_SECONDS = 0.1  # by which a request at the exit ends before the exit's deadline


class Departure:
    """What one dispatcher does when it leaves.

    Args:
        runtime: the world outside.
        scheduler: runs what is owed.
        ledger: what is owed.
        opened: the open activities.
        persistence: keeps what was not delivered.
        stop: called with words that name a signal which tells the process to leave.

    Attributes:
        draining: True once it leaves: from then on nothing is delayed, by pacing or otherwise.
    """

    def __init__(
        self,
        runtime: Runtime,
        scheduler: Scheduler,
        ledger: Ledger,
        opened: OpenActivities,
        persistence: Persistence,
        stop: Callable[[str], None],
    ) -> None:
        self._runtime, self._scheduler, self._ledger = runtime, scheduler, ledger
        self._opened, self._persistence, self._stop = opened, persistence, stop
        self.draining = False
        self._deadline: float | None = None
        self._left: set[Delivery] = set()  # what the exit has left undelivered
        self._parted: set[Delivery] | None = None  # what `part` has left to others
        self._signals: Signals | None = None
        self._lock = runtime.lock()  # while `signals` are made

    # -- a signal

    @property
    def signals(self) -> Signals:
        """The handlers that end the activities when a signal tells the process to leave."""
        if self._signals is None:
            with importing():
                from .signals import Signals
            made = Signals(self._stop)
            with self._lock:
                self._signals = self._signals or made
        return self._signals

    @property
    def heeds_signals(self) -> bool:
        """True while a signal would end the activities."""
        return self._signals is not None and self._signals.tracks

    # -- the deadline

    def start_draining(self, seconds: float) -> None:
        """From now on nothing is delayed, by pacing or otherwise, and all requests together have so many seconds."""
        self.draining = True
        self._deadline = self._runtime.now() + seconds

    @property
    def seconds_left(self) -> float:
        """The seconds that the exit may still wait for what is owed here, 0 or more."""
        return max(0.0, (self._deadline or 0.0) - self._runtime.now())

    def attempt_seconds(self) -> float:
        """Return how long one request may take: less when the interpreter is leaving.

        At the exit it ends a little before the deadline. So its outcome is known in time, and no thread wakes while
        the interpreter is taken down.
        """
        if self._deadline is None:
            return self._runtime.attempt_seconds
        return min(self._runtime.attempt_seconds, max(0.1, self._deadline - self._runtime.now() - LANDING_SECONDS))

    # -- what is sent

    def end_open(self, words: str | None = None) -> None:
        """End all open activities as stopped; if a signal is the reason, the words name it."""
        for activity in self._opened.all_begun():
            if activity.end_delivery is None:
                activity.source.abandon(words)
            elif not activity.has_ended:  # its own thread may not have handed the end in yet
                self._ledger.owe(activity.end_delivery)
                self._scheduler.wake(activity.end_delivery)

    def send_owed(self) -> None:
        """Have all ends and pushes sent at once, and owe nothing else any more."""
        for delivery in self._ledger.keep_deliveries():
            self._scheduler.wake(delivery)

    def drain_here(self, seconds: float) -> None:
        """Deliver what is owed on the calling thread, within so many seconds, where no thread can start any more."""
        self._scheduler.drain(self._runtime.now() + seconds, lambda: self._ledger.is_awaited)

    # -- what is left

    def part(self, timeout: float, *, stays: bool = False) -> Parting:
        """Begin to leave to others what was not delivered; see `parting.part`."""
        for delivery in self._ledger.deliveries:
            if isinstance(delivery, EndDelivery) and delivery.activity.succession.has_newer:
                self._persistence.guard.disarm(delivery.activity.number)  # a newer run has the card
        return part(self._persistence, self._all_owed, timeout, stays=stays)

    def _all_owed(self) -> list[Message]:
        """Return what `part` leaves to others, and note it, for `come_late`."""
        deliveries = self._ledger.deliveries
        self._parted = set(deliveries)
        return [each.message for each in deliveries]

    def come_late(self) -> list[Delivery]:
        """Return what other threads have handed in since `part`, and what is not in flight of that."""
        if self._parted is None:
            return []
        own = self._ledger.own_deliveries
        return [each for each in own if each not in self._parted and not each.is_in_flight]

    def count_left(self) -> int:
        """Return how many deliveries the exit leaves undelivered, except those that it has counted before.

        A push that may have arrived, and is better lost than sent twice, is left to nobody and not counted. Nor is an
        end that has arrived, and is only to go once more.
        """
        left = {each for each in self._ledger.deliveries if not (each.message.may_have_arrived or each.is_safe)}
        new, self._left = left - self._left, left
        return len(new)
