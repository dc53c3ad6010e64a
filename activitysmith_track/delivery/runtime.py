"""What the delivery needs from outside: time, chance, threads, the network, the disk, the interpreter.

Everything that delivers takes a `Runtime` and nothing wider. This is the real one; a simulated world gives another,
whose time passes when it says so.
"""

from __future__ import annotations

import logging
import os
import random
import threading
import time
from typing import TYPE_CHECKING, Any

from .._fork import importing
from .._inbox import Inbox
from ..client import retry
from .interpreter import Interpreter
from .scheduler import Scheduler, WorkerPool
from .transport import HttpTransport

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from typing import Protocol

    from ..client.requests import Request
    from .outbox import Outbox
    from .scheduler import Job
    from .watchdog.supervisor import Watchdog

    class Transport(Protocol):
        """What turns a request into an answer."""

        def perform(self, request: Request[Any], seconds: float | None = None) -> Any:
            """Make one attempt at a request, and return its answer or raise why there is none."""

        def close(self) -> None:
            """Close the connections; a next request opens new ones."""

    class Lock(AbstractContextManager[bool], Protocol):
        """A lock that its holder may take again."""

        def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
            """Take it, waiting at most so long; returns whether it was taken."""

        def release(self) -> None:
            """Give it back."""


logger = logging.getLogger("activitysmith_track")


class Runtime:
    """The world outside the delivery.

    Args:
        now: seconds of a clock that never goes back.
        wall: seconds since the epoch.

    Attributes:
        attempt_seconds: how long one request may take.
    """

    attempt_seconds = 5.0

    def __init__(self, now: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time) -> None:
        self.now, self.wall = now, wall
        self.interpreter: Interpreter = Interpreter()
        self._warned: dict[object, object] = {}

    def uniform(self, low: float, high: float) -> float:
        """Return a number by chance."""
        return random.uniform(low, high)

    def backoff(self, failures: int) -> float:
        """Return the seconds before the next attempt; see `retry.backoff`."""
        return retry.backoff(failures, self.uniform)

    def token(self) -> str:
        """Return a text that nothing else is called by, in this process or another."""
        return os.urandom(12).hex()

    # -- threads

    def scheduler(self, name: str) -> Scheduler:
        """Return what runs short tasks when they are due."""
        return Scheduler(name, self.now)

    def workers(self, name: str, most: int, report: Callable[[Job], None]) -> WorkerPool:
        """Return what does work that may take long; see `WorkerPool`."""
        return WorkerPool(name, most, report)

    def lock(self) -> Lock:
        """Return a lock for short bookkeeping; a signal handler may take it again."""
        return threading.RLock()

    def inbox(self) -> Inbox[None]:
        """Return an inbox: a thread waits at it until another one puts something in."""
        return Inbox()

    # -- the network and the disk

    def transport(self, api_key: str, base_url: str, seconds: float) -> Transport:
        """Return what carries the requests of one account, each in at most so many seconds unless it is told."""
        return HttpTransport(api_key, base_url, seconds)

    def outbox(self, directory: str | os.PathLike[str] | None) -> Outbox:
        """Return what is kept on disk; `None` means the user's own state directory."""
        with importing():
            from .outbox import Outbox

            return Outbox(directory, clock=self.wall, now=self.now)

    def watchdog(self, outbox: str | bool) -> Watchdog:
        """Return the watchdog, which speaks for the job when that is gone.

        Raises:
            InvalidRequest: where the platform has no such processes.
        """
        with importing():
            from .outbox import Outbox  # noqa: F401  # what is owed then need not wait until httpx is imported
            from .watchdog.supervisor import Watchdog

        return Watchdog(outbox=outbox, now=self.now)

    # -- the log

    def warn_once(self, kind: object, message: str, *details: object) -> None:
        """Log a warning, once for each kind."""
        mine = object()
        if self._warned.setdefault(kind, mine) is mine:
            logger.warning(message, *details)

    def tell_failure(self, what: str, error: Exception) -> None:
        """Log a failed delivery, once for each kind; as text, for a log record would keep its frames alive."""
        kind = (what, type(error), getattr(error, "status", None))
        self.warn_once(kind, "activitysmith_track could not deliver %s (told once): %s", what, str(error))

    def forget_warnings(self) -> None:
        """Log everything anew."""
        self._warned.clear()
