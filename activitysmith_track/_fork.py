"""What a fork and the interpreter's exit wait for, and what is told that it is in a forked child now.

What such a child sends is decided elsewhere: `Dispatcher.after_fork` begins with nothing that the parent owes,
`Block.is_open` is False for the parent's blocks, `Interpreter.call_in_worker_process` sees to the exit of a child of
multiprocessing, and `CoreTracker.account` keeps all but the first rank of a distributed job quiet.

A child has one thread and a copy of everything, in the state that the other threads left it in: half-imported modules
that nobody finishes, and locks inside SQLite that nobody releases. So imports and uses of SQLite hold a `ForkLock`,
which keeps forks from happening meanwhile; a fork waits a fraction of a second for it.

While the interpreter is taken down, threads of this library must not begin certain things either. Each of these has
a `Gate`, which the exit shuts. The exit waits until the threads inside have left. Afterwards it holds no lock, since
the exit handlers of others follow.
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
        make: makes the lock.
        fork_seconds: how long a fork waits at most.

    Attributes:
        lock: this process's; a forked child gets another one.
    """

    def __init__(self, make: Callable[[], Any], fork_seconds: float) -> None:
        self._make = make
        self.fork_seconds = fork_seconds
        self.lock = make()
        self._forking: dict[int, int] = {}  # how often each thread has taken the lock for its forks

    def before_fork(self) -> None:
        """Take the lock before a fork, when nobody else holds it."""
        if self.lock.acquire(timeout=self.fork_seconds):
            thread = threading.get_ident()
            self._forking[thread] = self._forking.get(thread, 0) + 1

    def after_in_parent(self) -> None:
        """Give the lock back after the fork."""
        thread = threading.get_ident()
        times = self._forking.pop(thread, 0)
        if times > 1:  # a signal handler has forked in the middle of a fork
            self._forking[thread] = times - 1
        if times:
            self.lock.release()

    def after_in_child(self) -> None:
        """Begin with a new lock."""
        self.lock = self._make()
        self._forking = {}


class Gate:
    """A gate before something that the library's own threads must not do during the exit; other threads always pass.

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
        """Let none of our threads in any more, and wait at most so many seconds until all other threads have left."""
        thread = threading.get_ident()
        with self._changed:
            self._is_shut = True
            self._changed.wait_for(lambda: not self._inside.keys() - {thread}, timeout)

    def open(self) -> None:
        """Let in the threads that wait, and those that come."""
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


imports = Gate()  # an import meanwhile makes CPython forget that Ctrl-C has ended the program
certificates = Gate()  # the process crashes if certificates are read while OpenSSL is taken down
loading = ForkLock(threading.RLock, fork_seconds=5.0)  # for imports; reentrant for signal handlers
storing = ForkLock(threading.Lock, fork_seconds=1.0)  # for SQLite; its holder never waits for `loading`
children: list[Callable[[], None]] = []  # called in a forked child
PATIENCE = 30.0  # seconds that an import waits for another one
PATIENCE_OF_MAIN = 1.0  # the same on the main thread, where a signal handler may have interrupted the other import


@contextlib.contextmanager
def importing() -> Iterator[None]:
    """Import something while no fork happens.

    An import that waits long for another one's lock goes on without it: the other import may itself be waiting for
    one that a signal handler has interrupted, and that cannot go on before this one is done.
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
    """Return a module, which is imported while no fork happens; if it is there already, nothing is waited for."""
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
    # One hook for all, registered first: one that is registered while a fork waits comes too late for that fork.
    os.register_at_fork(before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
