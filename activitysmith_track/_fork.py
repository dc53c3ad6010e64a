"""What a fork and the interpreter's exit wait for, and what begins anew in a forked child.

A child has one thread and a copy of everything, in the state that the other threads left it in: modules that are
imported by half, with nobody to finish them, and locks inside SQLite that nobody releases. Whoever does such a thing
does it under a `ForkLock`, so that no fork happens meanwhile; the wait is for a fraction of a second.

While the interpreter is taken down, threads of this library must not begin certain things either. Each of these has
a `Gate`, which the exit shuts. It waits for who is inside, and holds no lock then: exit handlers of others follow.
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


class ForkLock:
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


class Gate:
    """What the library's own threads pass to do something that the exit must not meet; other threads always pass.

    Used as a `with` block, which may be entered again inside itself.
    """

    def __init__(self) -> None:
        self.after_in_child()

    def after_in_child(self) -> None:
        """Begin open, with nobody inside."""
        self._changed = threading.Condition()  # reentrant for signal handlers
        self._inside: dict[int, int] = {}  # how often each thread has entered
        self._is_shut = False

    def __enter__(self) -> None:
        thread = threading.get_ident()
        with self._changed:
            while self._is_shut and thread not in self._inside and on_own_thread():
                self._changed.wait()
            self._inside[thread] = self._inside.get(thread, 0) + 1

    def __exit__(self, *_: object) -> None:
        thread = threading.get_ident()
        with self._changed:
            times = self._inside.pop(thread, 1)
            if times > 1:
                self._inside[thread] = times - 1
            self._changed.notify_all()

    def shut(self, timeout: float) -> None:
        """Let nobody of ours in any more, and wait at most so many seconds until all other threads have left."""
        thread = threading.get_ident()
        with self._changed:
            self._is_shut = True
            self._changed.wait_for(lambda: not self._inside.keys() - {thread}, timeout)

    def open(self) -> None:
        """Let in who waits, and who comes."""
        with self._changed:
            self._is_shut = False
            self._changed.notify_all()


_thread = threading.local()


def is_ours() -> None:
    """Note that the running thread is one of this library's own."""
    _thread.is_ours = True


def on_own_thread() -> bool:
    """Tell whether the running thread is one of this library's own."""
    return getattr(_thread, "is_ours", False)


imports = Gate()  # an import that goes on makes CPython forget that Ctrl-C has ended the program
certificates = Gate()  # the process crashes where OpenSSL reads certificates while OpenSSL is taken down
loading = ForkLock(threading.RLock, fork_seconds=5.0)  # for imports; reentrant for signal handlers
storing = ForkLock(threading.Lock, fork_seconds=1.0)  # for SQLite; who holds it never waits for `loading`
children: list[Callable[[], None]] = []  # called in a forked child
PATIENCE = 30.0  # seconds that an import waits for another one
PATIENCE_OF_MAIN = 1.0  # the same on the main thread, which a signal handler may be keeping from ending the other one


@contextlib.contextmanager
def importing() -> Iterator[None]:
    """Import something while no fork happens.

    An import that another one keeps waiting for long goes on without the lock: a signal handler may have interrupted
    an import of the user's that the other one waits for.
    """
    with imports:
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
    for each in (loading, storing, imports, certificates):
        each.after_in_child()
    for begin_anew in children:
        begin_anew()


if hasattr(os, "register_at_fork"):  # pragma: no branch  # Windows has no fork
    # All at once and first of all: a hook that is registered while a fork waits already comes too late for that fork.
    os.register_at_fork(before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
