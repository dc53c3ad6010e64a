"""Keeps a process beside the job that speaks for it when it no longer can: killed, crashed, out of memory.

This is the job's side; `protocol` says what the process is told, and `process` what it does.

What ends a whole container or control group at once ends the watchdog with it: a container that is killed or whose
first process dies, a batch system that kills a step, an OOM killer that is told to take the group.
"""

from __future__ import annotations

# All imports stand here, none runs on the thread: a child that is forked meanwhile would have half a module.
import contextlib
import itertools
import logging
import os
import signal
import sys
import threading
import time
import weakref
from queue import Empty
from typing import TYPE_CHECKING, Any

from ..._fork import children
from ..._inbox import Inbox
from ...errors import InvalidRequest
from .line import BLOCKED_SECONDS, Line, QueuedFrame
from .protocol import MAX_ENTRIES, Timing, encode

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

logger = logging.getLogger("activitysmith_track")


class _Farewell:
    """Tells the thread to say bye to the process and to end."""

    def __init__(self, until: float) -> None:
        self.until, self.heard = until, False
        self.done = threading.Event()

    def wait(self, timeout: float) -> bool:
        """Wait at most so many seconds, and return whether the process has been told everything."""
        self.done.wait(timeout)
        return self.heard


class Watchdog:
    """Keeps a small process beside the job that speaks for it when it cannot.

    No method raises, and only `start`, `tell` and `close` wait, for as long as they are told. A daemon thread starts
    the process when there is something to guard, feeds it, starts it anew once if somebody ended it, and lets it go
    when there has been nothing to guard for a while. A forked child has none until it guards something of its own.

    Args:
        timing: how long it takes.
        interpreter: the path of the Python to run; by default this one.
        outbox: the directory where it keeps what it cannot deliver at once; True for one in the user's state
            directory, False for none.
        now: seconds of a clock that never goes back.

    Raises:
        InvalidRequest: where the platform has no such processes (Windows).
    """

    def __init__(
        self,
        timing: Timing | None = None,
        interpreter: str | None = None,
        outbox: str | bool = False,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        if os.name != "posix":
            raise InvalidRequest("watchdog", True, "False on this platform, which is not POSIX")
        self._timing, self._interpreter, self._outbox = timing or Timing(), interpreter, outbox
        self._now = now
        self._fresh()
        _watchdogs.add(self)

    def _fresh(self) -> None:
        self._inbox: Inbox[QueuedFrame | _Farewell | threading.Event] = Inbox()
        self._accounts: dict[tuple[str, str], int] = {}
        self._numbers = itertools.count(1)
        self._lock = threading.RLock()  # short bookkeeping; reentrant for signal handlers
        self._thread: threading.Thread | None = None
        self._farewell: _Farewell | None = None
        self._waiting: list[threading.Event] = []  # for the process to be ready, or to be given up
        self._line: Line | None = None
        self._live: dict[tuple[str, int], bytes] = {}
        self._asked = False
        self._over = False  # nothing is taken in any more
        self._restarts = 1
        self._busy_at = 0.0
        self._told: set[str] = set()

    # -- what the job says

    def arm(
        self,
        card: int,
        api_key: str,
        base_url: str,
        stream_key: str,
        *,
        end: Mapping[str, Any],
        push: Mapping[str, Any] | None,
        began_at: float,
    ) -> None:
        """Say how a card ends, and what is pushed, if the job dies now; the newest call counts.

        Args:
            card: a number of the caller's own.
            api_key: the account's key.
            base_url: the service's address.
            stream_key: the card's stream.
            end: the body that ends the stream.
            push: the body of a push, or `None` for a card that alarms nobody.
            began_at: seconds since the epoch, when the run began.
        """
        account = self._account(api_key, base_url)
        words = {"end": dict(end), "push": None if push is None else dict(push), "began_at": began_at}
        self._feed(("card", card), True, "card", id=card, account=account, stream_key=stream_key, **words)

    def disarm(self, card: int) -> None:
        """Say that a card was ended, or is left up on purpose: the process need not end it any more."""
        self._feed(("card", card), False, "disarm", id=card)

    def entrust(
        self,
        owed: int,
        api_key: str,
        base_url: str,
        method: str,
        body: Mapping[str, Any],
        *,
        stream_key: str | None = None,
        at_least_once: bool = False,
        occurred_at: float,
        began_at: float = 0.0,
    ) -> None:
        """Have a request delivered once the job is gone, in whatever way, unless `ack` takes it back.

        Args:
            owed: a number of the caller's own.
            api_key: the account's key.
            base_url: the service's address.
            method: `end` of a stream, `keep` for the last state of a card that stays up, or `push`.
            body: the request's body.
            stream_key: the stream, for `end` and `keep`.
            at_least_once: True where a push may be repeated although it may have arrived.
            occurred_at: seconds since the epoch; a request that is late names this time.
            began_at: seconds since the epoch, when the run began whose end it is; see `Entry`.
        """
        self._feed(
            ("owed", owed),
            True,
            "owed",
            id=owed,
            account=self._account(api_key, base_url),
            method=method,
            stream_key=stream_key,
            body=dict(body),
            at_least_once=at_least_once,
            occurred_at=occurred_at,
            began_at=began_at,
        )

    def ack(self, owed: int) -> None:
        """Say that the job has itself delivered what it had entrusted."""
        self._feed(("owed", owed), False, "ack", id=owed)

    def leases(self, api_key: str, base_url: str, owner: str) -> None:
        """Say that something of an account is in the outbox, under a lease of this job's.

        It is taken over there when the job is gone. No process is started for that alone.

        Args:
            api_key: the account's key.
            base_url: the service's address.
            owner: the job's name in the outbox.
        """
        account = self._account(api_key, base_url)
        self._feed(("leases", account), True, "leases", id=account, account=account, owner=owner)

    def returned(self, api_key: str, base_url: str) -> None:
        """Say that nothing of an account is in the outbox under a lease of this job's any more."""
        account = self._account(api_key, base_url)
        self._feed(("leases", account), False, "returned", id=account)

    def start(self, timeout: float = 20.0) -> bool:
        """Start the process before there is anything to guard, and wait until it is ready.

        Args:
            timeout: seconds to wait at most.

        Returns:
            Whether there is a process now.
        """
        decided = threading.Event()
        self._asked = True
        self._inbox.put(decided)
        return not self._over and self._run() and decided.wait(timeout) and self.alive

    def close(self, timeout: float) -> bool:
        """Say bye: the job leaves in order, and the process delivers what it was entrusted with, then exits.

        Cards that it is still armed for are ended as their crash state says, without a push.

        Args:
            timeout: seconds to wait at most until the process has been told everything.

        Returns:
            True when it has, or when there was nothing to tell. False leaves it with what it has heard so far, and it
            takes the end of the job for a sudden one.
        """
        return self.begin_close(timeout)(timeout)

    def begin_close(self, timeout: float) -> Callable[[float], bool]:
        """Begin what `close` does, and return what waits for it: so several can be closed within one deadline."""
        if self._over or (self._thread is None and self._inbox.empty()):
            self._inbox.put(_Farewell(0.0))  # which ends the thread of a watchdog that was given up
            heard = not self._calls
            return lambda _: heard
        farewell = _Farewell(self._now() + timeout)
        self._inbox.put(farewell)
        if not self._run():
            self._serve()  # the interpreter is leaving, where no thread can start any more
        return farewell.wait

    def tell(self, timeout: float) -> bool:
        """Wait until the process has been told all that was said so far: the job may be about to end.

        Args:
            timeout: seconds to wait at most.

        Returns:
            Whether it has.
        """
        return self.begin_tell()(timeout)

    def begin_tell(self) -> Callable[[float], bool]:
        """Begin what `tell` does, and return what waits for it."""
        told = threading.Event()
        self._inbox.put(told)
        running = not self._over and self._run()
        return lambda timeout: running and told.wait(timeout) and self.alive

    def after_fork(self) -> None:
        """In a forked child: drop the parent's pipe, and forget everything. It happens by itself."""
        line = self._line
        self._fresh()
        if line is not None:
            line.drop()

    @property
    def alive(self) -> bool:
        """True while there is a process, as far as is known."""
        return self.pid is not None

    @property
    def starts(self) -> bool:
        """True while there is no process yet, but there will be one."""
        return not self._over and not self.alive

    @property
    def pid(self) -> int | None:
        """The pid of the process, or `None`."""
        line = self._line  # which the thread may let go of at any moment
        return None if line is None else line.pid

    def _account(self, api_key: str, base_url: str) -> int:
        account = api_key, base_url
        with self._lock:
            if account not in self._accounts:
                self._accounts[account] = number = next(self._numbers)
                self._feed(("account", number), True, "account", id=number, api_key=api_key, base_url=base_url)
            return self._accounts[account]

    def _feed(self, key: tuple[str, int], lives: bool, kind: str, **fields: Any) -> None:
        if self._over:
            return
        try:
            self._inbox.put(QueuedFrame(key, encode(kind, **fields), lives))
        except (TypeError, ValueError) as error:
            self._tell(f"activitysmith_track: the watchdog cannot take this in: {error}")
            return
        self._run()

    def _run(self) -> bool:
        """See to it that the thread runs; False where the interpreter no longer lets one start."""
        with self._lock:
            if self._thread is None:
                thread = threading.Thread(target=self._serve, name="activitysmith-watchdog", daemon=True)
                try:
                    thread.start()
                except RuntimeError:
                    return False
                self._thread = thread
        return True

    # -- the thread

    def _serve(self) -> None:
        _hold_broken_pipes()
        while True:
            received = self._receive()
            if isinstance(received, _Farewell):
                break
            try:
                self._look_after()
            except Exception as error:  # whatever it is, the job goes on
                self._give_up(f"activitysmith_track: the watchdog is off: {type(error).__name__}: {error}")
            while self._waiting and not (self._line is not None and self._line.blocked):
                self._waiting.pop().set()
        with contextlib.suppress(Exception):
            received.heard = self._part(received.until)
        self._over = True
        received.done.set()

    def _receive(self, *, wait: bool = True) -> _Farewell | None:
        """Take in all that was said, or what is said within the time after which to look around."""
        with contextlib.suppress(Empty):
            received = self._inbox.get(self._pause() if wait and self._farewell is None else 0.0)
            while not isinstance(received, _Farewell):
                if isinstance(received, QueuedFrame):
                    self._note(received)
                else:
                    self._waiting.append(received)
                received = self._inbox.get_nowait()
            self._farewell = received
        return self._farewell

    def _pause(self) -> float | None:
        if self._line is None:
            return None
        if self._line.blocked:
            return BLOCKED_SECONDS
        return self._timing.check if self._guards else min(self._timing.check, self._timing.idle)

    @property
    def _guards(self) -> bool:
        return any(kind != "account" for kind, _ in self._live)

    @property
    def _calls(self) -> bool:
        """True where there is something for which a process is started; what is on disk needs none."""
        return any(kind not in ("account", "leases") for kind, _ in list(self._live))  # `begin_close`: on any thread

    def _note(self, queued: QueuedFrame) -> None:
        if not queued.lives:
            self._live.pop(queued.key, None)
        elif queued.key not in self._live and len(self._live) >= MAX_ENTRIES:
            self._tell(f"activitysmith_track: the watchdog guards {MAX_ENTRIES} things and takes in no more")
            return
        else:
            self._live[queued.key] = queued.frame
        if self._line is not None:
            self._line.put(queued)
        self._busy_at = self._now()

    def _look_after(self, until: float | None = None) -> None:
        """Start the process, feed it, start it anew or let it go: whatever is due."""
        if self._line is None:
            if self._calls or self._asked:
                self._begin(until)
        elif not self._line.flush():
            self._line.close()
            self._line = None
            self._lost(until)
        elif not (self._guards or self._line.blocked) and self._now() - self._busy_at >= self._timing.idle:
            line, self._line, self._asked = self._line, None, False
            line.say_bye()  # the next card starts another
            line.close()

    def _begin(self, until: float | None) -> None:
        seconds = self._timing.start if until is None else min(self._timing.start, until - self._now())
        if self._over or seconds <= 0:
            return
        self._busy_at = self._now()
        self._line = line = Line(self._outbox, self._now)
        try:
            line.start(self._interpreter or interpreter(), self._timing, seconds)
        except Exception as error:  # no shell, no more processes, or whatever: the job goes on without
            self._give_up(f"activitysmith_track: the watchdog could not be started: {error}")
            return
        self._busy_at = self._now()
        for key, frame in self._live.items():
            line.put(QueuedFrame(key, frame, True))
        # What was said meanwhile may take back frames that are not written yet. And if the job leaves now, no card is
        # written without the bye: the interpreter may stop this thread between two writes.
        if self._receive(wait=False) is None:
            line.flush()

    def _lost(self, until: float | None) -> None:
        if not self._calls:
            self._asked = False
        elif self._restarts:
            self._restarts -= 1
            self._begin(until)
        else:
            self._give_up("activitysmith_track: the watchdog was ended by somebody; the job goes on without")

    def _part(self, until: float) -> bool:
        """Tell the process all that it has not been told, and bye; False where that cannot be by then."""
        told = None
        while True:
            if self._line is told:
                self._look_after(until)
            line = self._line
            if line is None:
                return not self._calls
            if line is not told:
                told = line
                line.say_bye()
            if not line.blocked:
                line.close()
                self._line = None
                self._live.clear()
                return True
            if self._now() >= until:
                return False
            line.wait(min(BLOCKED_SECONDS, max(0.0, until - self._now())))

    def _give_up(self, message: str) -> None:
        line, self._line, self._over = self._line, None, True
        if line is not None:
            line.close()
        self._tell(message)

    def _tell(self, message: str) -> None:
        """Log a warning, once."""
        if message not in self._told:
            self._told.add(message)
            logger.warning("%s", message)


def interpreter() -> str:
    """Return the path of a Python to run.

    Raises:
        OSError: where this program is none that takes Python's options, such as a frozen one or a server's.
    """
    candidates = (
        sys.executable,
        getattr(sys, "_base_executable", None),
        os.path.join(sys.exec_prefix, "bin/python3"),
    )
    for path in candidates if not hasattr(sys, "frozen") else ():
        if path and os.path.basename(path).lower().startswith(("python", "pypy")) and os.access(path, os.X_OK):
            return path
    raise OSError("this program has no Python interpreter beside it")


def _hold_broken_pipes() -> None:
    """Block SIGPIPE on this thread: its default action, which the job may have restored, would end the job."""
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGPIPE,))


def _forget_in_child() -> None:
    for each in list(_watchdogs):
        each.after_fork()


_watchdogs: weakref.WeakSet[Watchdog] = weakref.WeakSet()

children.append(_forget_in_child)
