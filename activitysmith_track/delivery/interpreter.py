"""What an exit needs to know of the Python interpreter, and what it asks of it."""

from __future__ import annotations

import atexit
import contextlib
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from .._fork import certificates, imports

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

DEAF_SECONDS = 2.0  # seconds in which Ctrl-C cannot cut short what the exit puts on disk
MAKING_SECONDS = 1.0  # seconds that the exit waits at most for a client that is being made, which takes some 30 ms


class Interpreter:
    """The interpreter of this process, as its exit sees it."""

    def call_at_exit(self, handler: Callable[[], None]) -> bool:
        """Register an exit handler; returns whether it comes too late, since Python calls such handlers already."""
        begun = self.is_exiting()
        atexit.register(handler)
        return begun

    def call_in_worker_process(self, handler: Callable[[], None]) -> bool:
        """Register a handler for the end of a child of multiprocessing, which leaves without exit handlers.

        Returns:
            Whether this is one that is leaving already.
        """
        util = sys.modules.get("multiprocessing.util")
        process = sys.modules.get("multiprocessing.process")
        if util is None or process is None or process.parent_process() is None:
            return False
        begun = bool(util.is_exiting())  # its finalizers run already, and a new one would never be called
        util.Finalize(None, handler, exitpriority=0)
        return begun

    def is_exiting(self) -> bool:
        """Tell whether Python calls exit handlers already, and so never calls one that is registered now.

        By then `threading` reports the main thread as ended. It does so earlier, too, while Python waits for other
        threads, which the main thread's frames tell. If an exit handler was the first to import `threading`, the main
        thread is still reported as alive, but the outermost frame is that handler's. In doubt the answer is no: at
        worst an end that nobody waits for is kept on disk.
        """
        main = threading.main_thread()
        if not main.is_alive():
            waits: Any = getattr(threading, "_shutdown", None)
            main_frame = sys._current_frames().get(main.ident or 0)
            return not any(each.f_code is waits.__code__ for each in _frames(main_frame))
        *_, outermost = _frames(sys._getframe())
        return threading.current_thread() is main and outermost.f_code in [_code(each) for each in _exit_handlers()]

    def thread(self) -> int:
        """Return the number of the running thread."""
        return threading.get_ident()

    def has_other_threads(self) -> bool:
        """Tell whether there are threads beside the running one and the library's own."""
        return not all(_is_ours(thread) for thread in threading.enumerate())

    def open_gates(self) -> None:
        """Let clients be made."""
        imports.open()
        certificates.open()

    def shut_gates(self) -> None:
        """Keep this library's own threads from making clients while the interpreter is taken down."""
        with contextlib.suppress(KeyboardInterrupt):
            certificates.shut(MAKING_SECONDS)
            if _dies_of_interrupt():
                imports.shut(MAKING_SECONDS)

    @contextlib.contextmanager
    def interrupts_later(self) -> Iterator[None]:
        """Keep Ctrl-C from cutting the `with` block short: it counts afterwards, or after `DEAF_SECONDS` at once."""
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

    def keep_interrupt(self) -> None:
        """Have a program that Ctrl-C ended still die of SIGINT, as shells want it.

        CPython keeps that in a flag. Every later `exec` of a string clears the flag, and so does the import of a
        module with a dataclass or a named tuple, as the exit may have needed. An `exec` that raises KeyboardInterrupt
        sets it again.
        """
        if _dies_of_interrupt():
            with contextlib.suppress(KeyboardInterrupt):
                exec("raise KeyboardInterrupt")


def _is_ours(thread: threading.Thread) -> bool:
    return thread is threading.current_thread() or thread.name.startswith("activitysmith-")


def _exit_handlers() -> list[Any]:
    """Return the exit handlers that are registered: `atexit` shows them only to what is compared with them."""
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


def _dies_of_interrupt() -> bool:
    """Tell whether Ctrl-C has ended the program.

    In an interactive session it cannot be told, since the last traceback may be an old one.
    """
    trace = getattr(sys, "last_traceback", None)
    if trace is None or _is_interactive() or getattr(sys, "last_type", None) is not KeyboardInterrupt:
        return False
    return trace.tb_frame.f_back is None  # nothing has caught it, not even the outermost frame
