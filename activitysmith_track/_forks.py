"""What a fork waits for, and what begins anew in a forked child.

A child has one thread and a copy of everything, in the state that the other threads left it in: modules that are
imported by half, with nobody to finish them, and locks inside SQLite that nobody releases. Whoever does such a thing
does it under a `Guard`, so that no fork happens meanwhile; the wait is for a fraction of a second.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
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
        self._forking: dict[int, int] = {}  # how often each thread holds the lock for a fork of its own

    def before_fork(self) -> None:
        """Wait until nobody holds the lock."""
        if self.lock.acquire(timeout=self.fork_seconds):
            thread = threading.get_ident()
            self._forking[thread] = self._forking.get(thread, 0) + 1

    def after_in_parent(self) -> None:
        """Let the other threads go on."""
        thread = threading.get_ident()
        times = self._forking.pop(thread, 0)
        if times > 1:  # a signal handler has forked in the middle of a fork
            self._forking[thread] = times - 1
        if times:
            self.lock.release()

    def after_in_child(self) -> None:
        """Begin with nothing."""
        self.lock = self._make()
        self._forking = {}


loading = Guard(threading.RLock, fork_seconds=5.0)  # for imports; reentrant for signal handlers
storing = Guard(threading.Lock, fork_seconds=1.0)  # for SQLite; who holds it never waits for `loading`
children: list[Callable[[], None]] = []  # called in a forked child
PATIENCE = 30.0  # seconds that an import waits for another one
PATIENCE_OF_MAIN = 1.0  # the same on the main thread, which a signal handler may be keeping from ending the other one


@contextlib.contextmanager
def importing() -> Iterator[None]:
    """Import something while no fork happens.

    An import that another one keeps waiting for long goes on without the lock: a signal handler may have interrupted
    an import of the user's that the other one waits for.
    """
    lock = loading.lock
    on_main = threading.current_thread() is threading.main_thread()
    held = lock.acquire(timeout=PATIENCE_OF_MAIN if on_main else PATIENCE)
    try:
        yield
    finally:
        if held:
            lock.release()


def module(name: str) -> Any:
    """Return a module, imported while no fork happens; one that is there already waits for no other one's import."""
    found = sys.modules.get(name)
    if found is None or getattr(found.__spec__, "_initializing", False):
        with importing():
            __import__(name)
        found = sys.modules[name]
    return found


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
