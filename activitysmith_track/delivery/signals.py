"""Lets cards end honestly when the process is told to leave: SIGTERM and SIGHUP, by choice of the user.

By choice, because a handler in Python runs only when the main thread is back from what it does in C.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import weakref
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

NUMBERS: tuple[int, ...] = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))


class Signals:
    """Handlers, installed while something is tracked, that end the cards and then do what the signal does otherwise.

    A handler of the user's own is called next, with the same arguments; where there was none, the signal is raised
    again with its default action, so that the exit status tells it. A signal that is ignored, or handled in C, is
    left alone. A handler that the user installs later is left alone too; if it calls ours, ours does not end the
    process, since that is for the later one to decide.

    The handlers take no lock. In a forked child, and while nothing is tracked, they only pass the signal on. They may
    still be installed then, where the last block ended in another thread: only the main thread can take them away.

    Args:
        stop: called on the main thread with words such as `Stopped: SIGTERM`; it may take its time, and a second
            signal in that time leaves at once. What it raises, but for `KeyboardInterrupt` and its like, is dropped.
        numbers: the signals.
    """

    def __init__(self, stop: Callable[[str], object], numbers: tuple[int, ...] = NUMBERS) -> None:
        self._stop, self._numbers = stop, numbers
        self._installed: dict[int, _Handler] = {}
        self.forget()
        _all.add(self)

    def forget(self) -> None:
        """Begin with nothing tracked, as a forked child does by itself; its handlers only pass on."""
        self._lock = threading.RLock()  # of `acquire` and `release`; the handlers do not take it
        self._tracked = 0
        self._pid = os.getpid()
        self.busy = False  # a handler runs: others that it calls, and those of a second signal, only pass on

    @property
    def tracks(self) -> bool:
        """True while something is tracked, in the process that this was made for."""
        return self._tracked > 0 and self._pid == os.getpid()

    def acquire(self) -> None:
        """Note that one thing more is tracked; the first one in the main thread installs the handlers."""
        with self._lock:
            self._tracked += 1
            for number in self._numbers:
                self._install(number)

    def release(self) -> None:
        """Note that one thing less is tracked; the last one takes away the handlers that are still ours."""
        with self._lock:
            self._tracked = max(0, self._tracked - 1)
            if not self.busy:  # what a handler itself ends must leave that handler where it is
                self._tidy()

    def _tidy(self) -> None:
        if not self._tracked:
            for number in list(self._installed):
                self._take_away(number)

    def _install(self, number: int) -> None:
        current: Any = signal.getsignal(number)
        ours = self._installed.get(number)
        if current in (None, signal.SIG_IGN) or (ours is not None and (current is ours or self._tracked > 1)):
            return
        made = _Handler(self, current)
        with contextlib.suppress(ValueError):  # not the main thread of the main interpreter
            signal.signal(number, made)
            self._installed[number] = made

    def _take_away(self, number: int) -> None:
        ours = self._installed[number]
        with contextlib.suppress(ValueError):  # not on the main thread, where a later call does it
            current: Any = signal.getsignal(number)
            if current is ours:
                signal.signal(number, ours.before)
            del self._installed[number]

    def tell(self, number: int) -> None:
        """Have the cards ended."""
        if self.tracks:
            with contextlib.suppress(Exception):  # not logged: logging takes locks
                self._stop(f"Stopped: {signal.Signals(number).name}")


class _Handler:
    """One installed handler, with the one before it; two of these may stand in one chain."""

    def __init__(self, signals: Signals, before: Any) -> None:
        self._signals, self.before = signals, before

    def __call__(self, number: int, frame: FrameType | None) -> None:
        signals = self._signals
        if signals.busy:
            self._pass_on(number, frame)
            return
        signals.busy = True
        try:
            signals.tell(number)
            self._pass_on(number, frame)
        finally:
            signals.busy = False
            signals._tidy()

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        if callable(self.before):
            self.before(number, frame)
        elif self._is_called_by_ours(number):  # else a later handler called this one, and decides itself
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    def _is_called_by_ours(self, number: int) -> bool:
        """Tell whether the installed handler is this one, or leads to it through our own handlers alone."""
        current: Any = signal.getsignal(number)
        while isinstance(current, _Handler) and current is not self:
            current = current.before
        return current is self


_all: weakref.WeakSet[Signals] = weakref.WeakSet()
_forking = threading.local()  # its `masks`: what was blocked before each fork that this thread is in


def _hold_before_fork() -> None:
    """Block the signals that have our handlers: Python forgets one that reaches a child before that can handle it.

    Another signal's handler may fork in the middle of a fork, so each has a mask of its own to go back to.
    """
    numbers = {number for each in list(_all) for number in each._installed}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, numbers) if numbers else None
    vars(_forking).setdefault("masks", []).append(mask)


def _let_go() -> None:
    masks = vars(_forking).get("masks")
    mask = masks.pop() if masks else None
    if mask is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _begin_anew_in_child() -> None:
    for each in list(_all):
        each.forget()
    _let_go()


if hasattr(os, "register_at_fork"):  # pragma: no branch  # Windows has no fork
    os.register_at_fork(before=_hold_before_fork, after_in_parent=_let_go, after_in_child=_begin_anew_in_child)
