"""The interpreter's exit: once for all couriers of a process, and inside one deadline.

There is one exit handler of ours, whatever the number of couriers. It ends what is open as stopped, waits until all
ends and pushes have arrived, and has what is left kept for a next process. All couriers deliver at the same time, so
that the exit takes as long as the most patient one may take, and not the sum of all.

Python calls exit handlers one after the other, and those that were registered before ours come after it. Nothing
waits any more for a block that ends in one of them, so its end waits for itself, with what is left of the time. The
same holds where our handler was registered when Python called exit handlers already: it never calls that one. No lock
is held between two of these handlers: what must not happen while the interpreter is taken down is kept out by the
gates of `_forks`.
"""

from __future__ import annotations

import atexit
import contextlib
import itertools
import logging
import signal
import sys
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any

from ._forks import certificates, children, imports
from ._keeping import leave_all

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import FrameType

    from ._courier import Courier

logger = logging.getLogger("activitysmith_track")

FAREWELL_SECONDS = 0.5  # that the exit waits at least for a watchdog to hear that it is one; it takes a few ms
DEAF_SECONDS = 2.0  # for which Ctrl-C does not cut short what is kept on disk at the exit
MAKING_SECONDS = 1.0  # that the exit waits at most for a client that is being made; it takes some 30 ms


class Shutdown:
    """The exit of a process.

    Args:
        clock: seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._couriers: weakref.WeakValueDictionary[int, Courier] = weakref.WeakValueDictionary()
        self._numbers = itertools.count()
        self._is_registered = False
        self.has_left = False  # the exit has been through here, and nothing waits any more for what comes later
        self.after_in_child()

    def after_in_child(self) -> None:
        """Begin anew in a forked child; where the exit had been through its parent, it has been through the child."""
        self._finalizes = False
        self._spent = 0.0  # seconds that the exit has waited by now
        self._has_told = False  # of something that came after the exit, and was not delivered
        self._stopped = float("-inf")  # when a signal last ended the cards
        self._turn = threading.RLock()
        self._leaving: int | None = None  # the thread that is in `leave`
        self._exit_thread: int | None = None  # the one that runs the exit handlers, as soon as that is known

    # -- who takes part

    def add(self, courier: Courier) -> None:
        """Have a courier take part in the exit."""
        self._couriers[next(self._numbers)] = courier
        if not self._is_registered:
            self._is_registered = True
            self.has_left = _has_begun()
            atexit.register(self.at_exit)

    @property
    def couriers(self) -> list[Courier]:
        """Those that take part."""
        return [courier for each in self._couriers.valuerefs() if (courier := each()) is not None]

    def watch_children(self) -> None:
        """See to it that a child of multiprocessing, which leaves without atexit, delivers what is owed."""
        if self._finalizes:
            return
        self._finalizes = True
        util = sys.modules.get("multiprocessing.util")
        process = sys.modules.get("multiprocessing.process")
        if util is None or process is None or process.parent_process() is None:
            return
        if util.is_exiting():  # its finalizers are called already, and no new ones any more
            self.has_left = True
        util.Finalize(None, self.at_exit, exitpriority=0)

    # -- the exit

    def at_exit(self) -> None:
        """Be the exit handler: end what is open, and leave."""
        self._exit_thread = threading.get_ident()
        self.leave(ends_open=True)
        self.has_left = True
        _keep_interrupt()

    def leave(self, *, ends_open: bool = False) -> None:
        """Deliver what all couriers owe, each within its `exit_timeout`, and keep what is left.

        Called again, it goes on with the time that is left: nothing else waits for what comes that late.

        Args:
            ends_open: True to end what is open as stopped.
        """
        if self._leaving == threading.get_ident() or not self._turn.acquire(timeout=self._longest()):
            return
        try:
            self._leaving = threading.get_ident()
            begun = self._clock()
            with self._open_gates():
                leaving = {each: self.seconds_for(each) for each in self.couriers}
                try:
                    if leave(leaving, ends_open=ends_open, tells=not self.has_left or not self._has_told):
                        self._has_told = self.has_left
                except KeyboardInterrupt:
                    pass  # it has ended the wait
                except Exception:
                    logger.exception("activitysmith_track: internal error at the exit")
            self._spent += self._clock() - begun
        finally:
            self._leaving = None
            self._turn.release()

    @contextlib.contextmanager
    def _open_gates(self) -> Iterator[None]:
        """Let the exit's own thread have clients made; then nobody makes one while the interpreter is taken down."""
        own = self._exit_thread in (None, threading.get_ident())
        if own:
            imports.open()
            certificates.open()
        try:
            yield
        finally:
            if own:
                with contextlib.suppress(KeyboardInterrupt):
                    certificates.shut(MAKING_SECONDS)
                    if _dies_of_interrupt():
                        imports.shut(MAKING_SECONDS)

    def close(self, courier: Courier, timeout: float | None = None) -> bool:
        """Have one courier leave by itself, and stop its threads.

        Args:
            courier: the courier.
            timeout: seconds to wait at most; `None` for what it has at an exit, of which exit handlers share one.

        Returns:
            True when everything was delivered, and nothing was refused since the last flush.
        """
        courier.refuse()
        begun, seconds = self._clock(), self.seconds_for(courier) if timeout is None else timeout
        spent = seconds
        try:
            with self._open_gates() if self.has_left else contextlib.nullcontext():
                leave({courier: seconds})
            delivered = courier.is_idle and not courier.lost
            spent = self._clock() - begun
        finally:
            courier.close(max(0.0, seconds - spent))
        if self.has_left or _has_begun():
            self._spent += spent
        return delivered

    def _longest(self) -> float:
        return max((self.seconds_for(courier) for courier in self.couriers), default=0.0)

    def seconds_for(self, courier: Courier) -> float:
        """Return the seconds that a courier may still wait."""
        seconds = courier.exit_timeout()
        stopped = self._clock() - self._stopped
        return max(0.0, seconds - self._spent - (stopped if stopped <= 2 * seconds else 0.0))

    # -- a signal

    def stop(self, words: str, first: Courier) -> None:
        """End all cards that a signal ends, and see to it that this is delivered or kept: it may end the process.

        Where the user's own handler then leaves in order, the exit has waited already, and has what is left of that.

        Args:
            words: name the signal.
            first: the courier whose handler was called; those of the others find nothing left to do.
        """
        couriers = [first, *(each for each in self.couriers if each.heeds_signals and each is not first)]
        now, longest = self._clock(), max(each.exit_timeout() for each in couriers)
        until = now + max(self.seconds_for(each) for each in couriers)
        if now - self._stopped > 2 * longest:  # else it is the handler of another courier that the signal calls
            self._stopped = now
        for each in couriers:
            each.end_open(words)
        for each in couriers:
            each.wait(until - self._clock())
        leave_all([each.part(FAREWELL_SECONDS, stays=True) for each in couriers], FAREWELL_SECONDS)


def leave(seconds: Mapping[Courier, float], *, ends_open: bool = True, tells: bool = True) -> bool:
    """Deliver what couriers owe, all at the same time, and have what is left of it kept.

    Args:
        seconds: how long each courier may take.
        ends_open: True to end what is open as stopped.
        tells: True to log what was not delivered.

    Returns:
        Whether something was logged.

    Raises:
        BaseException: what a signal handler, Ctrl-C's among them, raises meanwhile. It ends the wait; what is owed is
            kept all the same, and what goes wrong with one courier keeps no other one from leaving.
    """
    couriers = list(seconds)
    for each in couriers:
        each.hurry(seconds[each])
    errors = _settle(couriers, ends_open=ends_open) or _deliver(couriers)
    with _interrupts_later():
        if errors:
            for each in couriers:
                each.hurry(0.0)
            _settle(couriers, ends_open=ends_open)
        has_told = _keep(couriers, tells=tells)
    if errors:
        raise errors[0]
    return has_told


def _keep(couriers: list[Courier], *, tells: bool) -> bool:
    """Have kept what was not delivered; returns whether something was logged."""
    counts = [each.count_left() for each in couriers]
    timeout = max([FAREWELL_SECONDS, *(each.seconds_left for each in couriers)])
    kept = leave_all([each.part(timeout) for each in couriers], timeout)
    left = dict.fromkeys(("they are kept for the next run", "they are lost"), 0)
    for count, is_kept in zip(counts, kept, strict=True):
        left["they are kept for the next run" if is_kept else "they are lost"] += count
    for fate, count in left.items():
        if count and tells:
            logger.warning("activitysmith_track: %d ends and pushes were not delivered: %s", count, fate)
    if all(_is_ours(thread) for thread in threading.enumerate()):  # else another one may yet have something sent
        for each in couriers:
            if each.is_idle:
                each.close_connections()
    return tells and any(left.values())


def _is_ours(thread: threading.Thread) -> bool:
    return thread is threading.current_thread() or thread.name.startswith("activitysmith-")


@contextlib.contextmanager
def _interrupts_later() -> Iterator[None]:
    """Let no Ctrl-C cut short what takes a moment and must not be lost: it counts afterwards, or after a while."""
    begun, before, heard = time.monotonic(), signal.getsignal(signal.SIGINT), False
    is_python = callable(before) and threading.current_thread() is threading.main_thread()

    def hear(number: int, frame: FrameType | None) -> None:
        nonlocal heard
        heard = True
        if time.monotonic() - begun > DEAF_SECONDS:
            signal.default_int_handler(number, frame)

    with contextlib.suppress(ValueError):  # not the main interpreter
        if is_python:
            signal.signal(signal.SIGINT, hear)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            if is_python and signal.getsignal(signal.SIGINT) is hear:
                signal.signal(signal.SIGINT, before)
    if heard:
        signal.raise_signal(signal.SIGINT)


def _settle(couriers: list[Courier], *, ends_open: bool) -> list[BaseException]:
    def settle(courier: Courier) -> None:
        if ends_open:
            courier.end_open()
        courier.send_owed()

    return _with_each(couriers, settle)


def _deliver(couriers: list[Courier]) -> list[BaseException]:
    threadless = [each for each in couriers if each.owes and not each.lane.runs]
    shares = {each: len(threadless) - number for number, each in enumerate(threadless)}
    errors = _with_each(threadless, lambda courier: courier.drain(courier.seconds_left / shares[courier]))
    return errors or _with_each(couriers, lambda courier: courier.wait(courier.seconds_left), at_once=True)


def _with_each(
    couriers: list[Courier], act: Callable[[Courier], None], *, at_once: bool = False
) -> list[BaseException]:
    """Do something with each courier; returns what went wrong, with all of them or up to the first."""
    errors: list[BaseException] = []
    for each in couriers:
        try:
            act(each)
        except BaseException as error:
            errors.append(error)
        if errors and at_once:
            break
    return errors


def _has_begun() -> bool:
    """Tell whether Python calls exit handlers already, and so never calls one that is registered now.

    It then takes the main thread for ended, as it does while it waits for other threads before. Only where an exit
    handler was the first to import `threading` it does not; what runs then was called by that handler, and by nobody
    else. In doubt it has not begun: an end that nothing waits for is kept at worst.
    """
    main = threading.main_thread()
    if not main.is_alive():
        waits: Any = getattr(threading, "_shutdown", None)
        return not any(each.f_code is waits.__code__ for each in _frames(sys._current_frames().get(main.ident or 0)))
    *_, outermost = _frames(sys._getframe())
    return threading.current_thread() is main and outermost.f_code in [_code(each) for each in _exit_handlers()]


def _exit_handlers() -> list[Any]:
    """Return the exit handlers that are registered: `atexit` tells them only to what compares itself with them."""
    found: list[Any] = []

    class Curious:
        def __eq__(self, other: object) -> bool:
            found.append(other)
            return False

        __hash__ = object.__hash__

    with contextlib.suppress(Exception):  # a handler may be an object that compares itself in its own way
        atexit.unregister(Curious())  # type: ignore[arg-type]
    return found


def _code(handler: Any) -> object:
    """Return the code that a handler begins with, behind methods, partial functions and wrappers."""
    for _ in range(10):
        inner = next((inner for name in _INNER if (inner := getattr(handler, name, None)) is not None), None)
        if inner is None:
            break
        handler = inner
    return getattr(handler, "__code__", getattr(type(handler).__call__, "__code__", None))


_INNER = ("__func__", "func", "__wrapped__")


def _frames(frame: FrameType | None) -> Iterator[FrameType]:
    """Yield a frame and those that it was called from."""
    while frame is not None:
        yield frame
        frame = frame.f_back


def _is_interactive() -> bool:
    return hasattr(sys, "ps1") or bool(sys.flags.interactive)


def _keep_interrupt() -> None:
    """Have a program that Ctrl-C ended still die of SIGINT, as shells want it.

    CPython notes that in a flag, which every later `exec` of a string clears, and so does the import of a module with
    a dataclass or a named tuple in it, such as those that the exit has needed. An `exec` that fails so sets it again.
    """
    if _dies_of_interrupt():
        with contextlib.suppress(KeyboardInterrupt):
            exec("raise KeyboardInterrupt")


def _dies_of_interrupt() -> bool:
    """Tell whether Ctrl-C has ended the program.

    It is another matter in an interactive session, where the last traceback may be an old one.
    """
    trace = getattr(sys, "last_traceback", None)
    if trace is None or _is_interactive() or getattr(sys, "last_type", None) is not KeyboardInterrupt:
        return False
    return trace.tb_frame.f_back is None  # it has left the outermost frame


shutdown = Shutdown()
children.append(shutdown.after_in_child)
