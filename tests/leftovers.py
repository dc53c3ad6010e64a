"""Check that a test leaves its process as it found it: a plugin of this project's tests.

What one test leaves behind makes another one fail that is innocent, and only in some orders. So the process is looked
at before and after each test, outside all of its own fixtures. The test fails at its teardown where the environment,
the working directory, a handler, a thread, a child or another thing of the whole process is not what it was before;
the failure names it.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import locale
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from internals import gates_are_shut

SETTLING_SECONDS = 30.0  # that threads have to end, together; a test should have waited for them itself
PROC = Path("/proc/self")
TIMER = {getattr(signal, "SIGALRM", None)}  # which pytest-timeout takes, and gives back as soon as a test fails


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """Compare the process after a test with what it was before."""
    before = look()
    yield
    left = differences(before, settled(before))
    assert not left, "the test left behind:\n" + "\n".join(left)


def look() -> dict[str, Mapping[Any, Any]]:
    """Return all that is compared, as tables of names and values."""
    return {
        "environment": {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"},
        "state": {name: read() for name, read in STATES.items()},
        "signal handler": {each: signal.getsignal(each) for each in signal.valid_signals() - TIMER},
        "log handlers": {each.name: handlers for each in loggers() if (handlers := handlers_of(each))},
        "log filters": {each.name: list(each.filters) for each in loggers() if each.filters},
        "logger": {each.name: (each.level, each.propagate, each.disabled) for each in loggers()},
        "context variable": {
            each: Known(value) for each, value in contextvars.copy_context().items() if not is_empty(value)
        },
        "thread": {each: each.name for each in threading.enumerate()},
        "child": children(),
        "descriptors": descriptors(),
    }


def is_empty(value: object) -> bool:
    """Tell what the library's own variable holds outside of any block, whether it was ever set or not."""
    return type(value) is tuple and not value


class Known:
    """A value that is compared by identity, since equality may mean anything."""

    def __init__(self, value: object) -> None:
        self._value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Known) and other._value is self._value

    def __hash__(self) -> int:
        return id(self._value)

    def __repr__(self) -> str:
        return repr(self._value)


def umask() -> str:
    """Return the umask, where it can be read without setting it."""
    if not PROC.exists():
        return ""
    return next(line for line in (PROC / "status").read_text().splitlines() if line.startswith("Umask"))


STATES: dict[str, Callable[[], Any]] = {
    "working directory": os.getcwd,
    "umask": umask,
    "time zone": lambda: time.tzname,
    "locale": lambda: locale.setlocale(locale.LC_ALL),
    "blocked signals": lambda: signal.pthread_sigmask(signal.SIG_BLOCK, []) if os.name == "posix" else None,
    "sys.path": lambda: tuple(sys.path),
    "sys.argv": lambda: tuple(sys.argv),
    "sys.excepthook": lambda: sys.excepthook,
    "sys.unraisablehook": lambda: sys.unraisablehook,
    "threading.excepthook": lambda: threading.excepthook,
    "sys.stdout": lambda: Known(sys.stdout),
    "sys.stderr": lambda: Known(sys.stderr),
    "recursion limit": sys.getrecursionlimit,
    "garbage collection": gc.isenabled,
    "switch interval": sys.getswitchinterval,
    "socket timeout": socket.getdefaulttimeout,
    "gates": gates_are_shut,
    "logging.disable": lambda: logging.root.manager.disable,
    "asyncio policy": lambda: asyncio.get_event_loop_policy() if sys.version_info < (3, 14) else None,
}


def loggers() -> list[logging.Logger]:
    """Return the root logger and all others by now."""
    return [logging.root, *(each for each in logging.root.manager.loggerDict.values() if hasattr(each, "handlers"))]  # type: ignore[list-item]


def handlers_of(logger: logging.Logger) -> tuple[logging.Handler, ...]:
    """Return a logger's handlers, without those that pytest adds to each for the length of a phase."""
    return tuple(each for each in logger.handlers if not type(each).__module__.startswith("_pytest"))


def children() -> dict[int, str]:
    """Return this process's children, the ended ones among them that nobody has waited for; only Linux tells."""
    found: dict[int, str] = {}
    for each in PROC.glob("task/*/children"):
        try:
            pids = [int(pid) for pid in each.read_text().split()]
        except OSError:  # the thread has ended
            continue
        found.update((pid, command(pid)) for pid in pids)
    return found


def command(pid: int) -> str:
    """Return what a process was called with."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return "ended"
    return b" ".join(words).decode(errors="replace").strip() or "ended"


def descriptors() -> dict[str, int]:
    """Return how many descriptors of a kind are open, where the system tells; which ones may change."""
    found: Counter[str] = Counter()
    for each in (PROC / "fd").glob("*"):
        with contextlib.suppress(OSError):  # that of the listing itself
            found[os.readlink(each).partition(":[")[0]] += 1
    return found


def settled(before: Mapping[str, Mapping[Any, Any]]) -> dict[str, Mapping[Any, Any]]:
    """Return what there is when the new threads have ended, and when what nobody refers to any more is closed."""
    until = time.monotonic() + SETTLING_SECONDS
    for thread in set(threading.enumerate()) - before["thread"].keys():
        while not thread.is_alive() and thread in threading.enumerate() and time.monotonic() < until:
            time.sleep(0.001)  # another thread is just starting it, and it cannot be joined yet
        with contextlib.suppress(RuntimeError):
            thread.join(max(0.0, until - time.monotonic()))
    found = look()
    if found["descriptors"] != before["descriptors"]:
        gc.collect()
        found = look()
    while grown(before["descriptors"], found["descriptors"]) and time.monotonic() < until:
        time.sleep(0.01)  # the thread at the other end of a connection closes its own, and tells nobody
        found = look()
    return found


def grown(before: Mapping[str, int], after: Mapping[str, int]) -> bool:
    """Tell whether there are more of any kind."""
    return any(number > before.get(kind, 0) for kind, number in after.items())


def differences(before: Mapping[str, Mapping[Any, Any]], after: Mapping[str, Mapping[Any, Any]]) -> list[str]:
    """Say what is new, gone or changed."""
    found = []
    for kind, then in before.items():
        now = after[kind]
        if kind not in GROWING:
            found += [f"{kind} {key}: {now[key]!r} is new" for key in now.keys() - then.keys()]
        if kind not in SHRINKING:
            found += [f"{kind} {key}: {then[key]!r} is gone" for key in then.keys() - now.keys()]
        changed = [key for key in then.keys() & now.keys() if then[key] != now[key]]
        if kind in SHRINKING:
            changed = [key for key in changed if not now[key] < then[key]]
        found += [f"{kind} {key}: {then[key]!r} became {now[key]!r}" for key in changed]
    return found


GROWING = {"logger"}  # an import makes loggers, which do nothing without a handler
SHRINKING = {"thread", "child", "descriptors"}  # what an earlier test's fixture for a whole module had may end
