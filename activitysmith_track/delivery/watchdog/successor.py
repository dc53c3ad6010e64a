"""Delivers what a job owes that is gone; this runs in the watchdog's process.

It stores everything in the outbox first: there a newer run of the job finds an end that would end its card, and a
next process finds what cannot be delivered in time. It also takes over what the job itself has put there. From then
on it delivers as every other process does.
"""

from __future__ import annotations

import contextlib
import tempfile
from typing import TYPE_CHECKING

from ...client import retry
from ..dispatcher import Dispatcher
from ..interpreter import Interpreter
from ..parting import leave_all
from ..recovery import RecoveredDelivery
from ..runtime import Runtime
from ..shutdown import Shutdown
from ..state import CopyOwner
from ..transport import load
from .job_record import Owed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ..account import Account
    from ..entries import Entry

LOOK_SECONDS = 1.0  # seconds between two looks at the time that is left, which a signal may shorten


class _Unheard(Interpreter):
    """An interpreter whose exit nobody waits for: the process ends when all is delivered."""

    def call_at_exit(self, handler: Callable[[], None]) -> bool:
        return False


class PacedRuntime(Runtime):
    """The world outside of the watchdog's process, with its own waits between attempts.

    Args:
        attempt: seconds that one request may take.
        first_wait: seconds before the second attempt at a request, from which the further ones grow.
        longest_wait: seconds between two attempts.
    """

    def __init__(self, attempt: float, first_wait: float, longest_wait: float) -> None:
        super().__init__()
        self.interpreter = _Unheard()
        self.attempt_seconds = attempt
        self._first_wait, self._longest_wait = first_wait, longest_wait

    def backoff(self, failures: int) -> float:
        """Return the seconds before the next attempt."""
        first, longest = self._first_wait, self._longest_wait
        return retry.backoff(failures, self.uniform, first=first, steady=2 * first, longest=longest)


class Successor:
    """Delivers what a job owes that is gone.

    Args:
        runtime: the world outside.
        outbox: the directory of the outbox; True for the user's own, False for a temporary one.
    """

    def __init__(self, runtime: Runtime, outbox: str | bool) -> None:
        self._runtime = runtime
        self._dispatcher = Dispatcher(lambda: 0.0, runtime, Shutdown(runtime))
        self._temporary = contextlib.ExitStack()
        self._is_shared = outbox is not False  # so that a newer run can take an end away
        if outbox is False:
            outbox = self._temporary.enter_context(tempfile.TemporaryDirectory(prefix="activitysmith-track-"))
        self._dispatcher.persistence.place.directory = outbox

    def deliver(
        self, owed: Iterable[Owed], until: Callable[[], float], leases: Iterable[tuple[tuple[str, str], str]] = ()
    ) -> None:
        """Store what is owed, and deliver it.

        Args:
            owed: the requests.
            until: returns the runtime's time until which to try.
            leases: where the job has something in the outbox: API key and address, and the job's name there.
        """
        dispatcher = self._dispatcher
        with self._temporary:
            deliveries = [*self._store(owed), *self._inherit(leases)]
            if _can_send():
                for each in deliveries:
                    dispatcher.deliver(each)
                while dispatcher.ledger.owes and (left := until() - self._runtime.now()) > 0:
                    if dispatcher.scheduler.runs:
                        dispatcher.wait(min(LOOK_SECONDS, left))
                    else:  # no threads left on this machine
                        dispatcher.departure.drain_here(min(LOOK_SECONDS, left))
            leave_all([dispatcher.departure.part(0.0)], 0.0, self._runtime)
            dispatcher.close()

    def _store(self, owed: Iterable[Owed]) -> list[RecoveredDelivery]:
        """Put everything into the outbox, under a lease of this process."""
        dispatcher, made = self._dispatcher, list[tuple["Account", "Entry"]]()
        for each in owed:
            account = dispatcher.account(*each.account)
            key = None if each.method == "push" else each.stream_key
            entry = dispatcher.persistence.entry(
                account.key,
                each.method,
                each.body,
                each.occurred_at,
                stream_key=key,
                at_least_once=each.at_least_once,
                began_at=each.began_at,
            )
            made.append((account, entry))
        entries = [entry for _, entry in made]
        stored = dispatcher.persistence.adopt(entries, is_recent=self._is_shared)
        deliveries = []
        for account, entry in made:
            delivery = self._delivery(account, entry, is_recent=self._is_shared)
            delivery.message.copy_owner = CopyOwner.OUTBOX if entry.id in stored else CopyOwner.NOBODY
            deliveries.append(delivery)
        return deliveries

    def _inherit(self, leases: Iterable[tuple[tuple[str, str], str]]) -> list[RecoveredDelivery]:
        """Take over what the job has in the outbox: its own, and what it had taken over from others."""
        deliveries = []
        for key, owner in leases:
            account = self._dispatcher.account(*key)
            for entry in self._dispatcher.persistence.inherit(account.key, owner):
                deliveries.append(self._delivery(account, entry, is_recent=entry.run == owner))
        return deliveries

    def _delivery(self, account: Account, entry: Entry, *, is_recent: bool) -> RecoveredDelivery:
        delivery = RecoveredDelivery(self._dispatcher, account, entry, is_recent=is_recent)
        if entry.stream_key is not None:
            account.recovered[entry.stream_key] = delivery
        return delivery


def _can_send() -> bool:
    with contextlib.suppress(Exception):
        load()
        return True
    return False
