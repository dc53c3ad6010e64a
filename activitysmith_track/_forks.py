"""What a fork waits for, and what begins anew in a forked child.

A child has one thread and a copy of everything, in the state that the other threads left it in: modules that are
imported by half, with nobody to finish them, and locks inside SQLite that nobody releases. Whoever does such a thing
does it under a `Guard`, so that no fork happens meanwhile; the wait is for a fraction of a second.
"""

from __future__ import annotations

import os
import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


class Guard:
    """A lock that a fork waits for.

    Args:
        make: the kind of lock.
        fork_seconds: a fork waits no longer than this.

    Attributes:
        lock: of this process; a forked child gets another one.
    """

    def __init__(self, make: Callable[[], Any], fork_seconds: float) -> None:
        self._make = make
        self.fork_seconds = fork_seconds
        self.lock = make()
        self._forking: set[int] = set()  # the threads that hold the lock for a fork of theirs

    def before_fork(self) -> None:
        """Wait until nobody holds the lock."""
        if self.lock.acquire(timeout=self.fork_seconds):
            self._forking.add(threading.get_ident())

    def after_in_parent(self) -> None:
        """Let the other threads go on."""
        thread = threading.get_ident()
        if thread in self._forking:
            self._forking.remove(thread)
            self.lock.release()

    def after_in_child(self) -> None:
        """Begin with nothing."""
        self.lock = self._make()
        self._forking = set()


loading = Guard(threading.RLock, fork_seconds=5.0)  # for imports; reentrant for signal handlers
storing = Guard(threading.Lock, fork_seconds=1.0)  # for SQLite; who holds it never waits for `loading`
children: list[Callable[[], None]] = []  # called in a forked child


def _before() -> None:
    loading.before_fork()
    storing.before_fork()


def _after_in_parent() -> None:
    storing.after_in_parent()
    loading.after_in_parent()


def _after_in_child() -> None:
    loading.after_in_child()
    storing.after_in_child()
    for begin_anew in children:
        begin_anew()


if hasattr(os, "register_at_fork"):  # pragma: no branch  # Windows has no fork
    # All at once and first of all: a hook that is registered while a fork waits already comes too late for that fork.
    os.register_at_fork(before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
