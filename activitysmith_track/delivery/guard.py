"""What the watchdog is told, where there is one: what it sends if the process is gone. Nothing here waits for it."""

from __future__ import annotations

import itertools
import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._endpoint import AccountKey
    from .entries import Entry
    from .runtime import Runtime
    from .state import CrashState
    from .watchdog.supervisor import Watchdog

logger = logging.getLogger("activitysmith_track")


class Guard:
    """The watchdog of a process, which is started for the first card that asks for one, and what it was told.

    Args:
        runtime: the world outside.
        owner: the name of this process in the outbox, where the watchdog looks when the process is gone.

    Attributes:
        watchdog: the watchdog, as soon as it was asked for.
    """

    def __init__(self, runtime: Runtime, owner: str) -> None:
        self._runtime, self._owner = runtime, owner
        self.watchdog: Watchdog | None = None
        self._numbers = itertools.count(1)
        self._entrusted: dict[str, int] = {}  # the watchdog's numbers of what it has, by the entries' ids
        self._in_outbox: dict[AccountKey, None] = {}  # the accounts of which it is to look into the outbox

    @property
    def watches(self) -> bool:
        """True while there is a watchdog process."""
        return self.watchdog is not None and self.watchdog.alive

    @property
    def prepares(self) -> bool:
        """True while a watchdog is being started."""
        return self.watchdog is not None and self.watchdog.starts

    def start(self, outbox: str | bool) -> bool:
        """Start a watchdog, unless there is one; False where the platform has no such processes.

        Args:
            outbox: where the outbox is; see `OutboxPlace.path`.
        """
        if self.watchdog is None:
            try:
                self.watchdog = watchdog = self._runtime.watchdog(outbox)
            except Exception as error:
                logger.warning("activitysmith_track: no watchdog here: %s", error)
                return False
            for each in list(self._in_outbox):
                watchdog.leases(*each, self._owner)
        return True

    def arm(
        self, number: int, account: AccountKey, stream_key: str, crash_state: CrashState, began_at: float
    ) -> None:
        """Have a card ended if the job dies; see `Watchdog.arm`."""
        if self.watchdog is not None:
            end, push = crash_state
            self.watchdog.arm(number, *account, stream_key, end=end, push=push, began_at=began_at)

    def disarm(self, number: int) -> None:
        """Tell that a card was ended."""
        if self.watchdog is not None:
            self.watchdog.disarm(number)

    def entrust(self, account: AccountKey, entry: Entry) -> bool:
        """Have something delivered if this process dies before it has; False if there is no watchdog."""
        watchdog = self.watchdog
        if watchdog is None or not watchdog.alive:
            return False
        number = self._entrusted.setdefault(entry.id, next(self._numbers))
        watchdog.entrust(
            number,
            *account,
            entry.kind,
            entry.body,
            stream_key=entry.stream_key,
            at_least_once=entry.at_least_once,
            occurred_at=entry.occurred_at,
            began_at=entry.began_at,
        )
        return True

    def take_back(self, entry: Entry) -> None:
        """Tell that something need not be delivered any more."""
        number = self._entrusted.pop(entry.id, None)
        if number is not None and self.watchdog is not None:
            self.watchdog.ack(number)

    def look_into_outbox(self, account: AccountKey) -> None:
        """Tell that this process has something of an account in the outbox, which is to be taken over from there."""
        if account not in self._in_outbox:
            self._in_outbox[account] = None
            if self.watchdog is not None:
                self.watchdog.leases(*account, self._owner)

    def leave_outbox(self) -> None:
        """Tell that this process has nothing in the outbox any more."""
        for account in list(self._in_outbox):
            del self._in_outbox[account]
            if self.watchdog is not None:
                self.watchdog.returned(*account)

    def begin_farewell(self, timeout: float, *, stays: bool) -> Callable[[float], bool]:
        """Begin to tell all that is not told yet, for the process leaves.

        Args:
            timeout: seconds that this may take at most.
            stays: True where the process may yet stay, so that it is not told that it leaves in order.

        Returns:
            What waits so many seconds at most until everything was told, and returns whether it was.
        """
        if self.watchdog is None:
            return lambda _: True
        return self.watchdog.begin_tell() if stays else self.watchdog.begin_close(timeout)

    def let_go(self) -> None:
        """Let the watchdog go, where there is one, and wait for nothing."""
        if self.watchdog is not None:
            self.watchdog.begin_close(0.0)
