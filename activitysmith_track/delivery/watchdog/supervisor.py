"""Keeps a process beside the job that speaks for it when it no longer can: killed, crashed, out of memory.

This is the job's side; `protocol` says what the process is told, and `process` what it does.

What ends a whole container or control group at once ends the watchdog with it: a container that is killed or whose
first process dies, a batch system that kills a step, an OOM killer that is told to take the group.
"""

from __future__ import annotations

# All imports stand here, none runs on the thread: a child that is forked meanwhile would have half a module.
import contextlib
import itertools
import os
import signal
import threading
import time
import weakref
from queue import Empty
from typing import TYPE_CHECKING, Any

from ..._fork import children
from ..._inbox import Inbox
from ...errors import InvalidRequest
from .companion import Companion
from .line import QueuedFrame
from .protocol import Timing, encode

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


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
        self._companion = Companion(self._timing, self._interpreter, self._outbox, self._now, self._catch_up)

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
        self._companion.is_asked_for = True
        self._inbox.put(decided)
        return not self._companion.is_over and self._run() and decided.wait(timeout) and self.alive

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
        if self._companion.is_over or (self._thread is None and self._inbox.empty()):
            self._inbox.put(_Farewell(0.0))  # which ends the thread of a watchdog that was given up
            heard = not self._companion.calls
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
        running = not self._companion.is_over and self._run()
        return lambda timeout: running and told.wait(timeout) and self.alive

    def after_fork(self) -> None:
        """In a forked child: drop the parent's pipe, and forget everything. It happens by itself."""
        line = self._companion.line
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
        return not self._companion.is_over and not self.alive

    @property
    def pid(self) -> int | None:
        """The pid of the process, or `None`."""
        return self._companion.pid

    def _account(self, api_key: str, base_url: str) -> int:
        account = api_key, base_url
        with self._lock:
            if account not in self._accounts:
                self._accounts[account] = number = next(self._numbers)
                self._feed(("account", number), True, "account", id=number, api_key=api_key, base_url=base_url)
            return self._accounts[account]

    def _feed(self, key: tuple[str, int], lives: bool, kind: str, **fields: Any) -> None:
        if self._companion.is_over:
            return
        try:
            self._inbox.put(QueuedFrame(key, encode(kind, **fields), lives))
        except (TypeError, ValueError) as error:
            self._companion.warn_once(f"activitysmith_track: the watchdog cannot take this in: {error}")
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
                self._companion.look_after()
            except Exception as error:  # whatever it is, the job goes on
                self._companion.give_up(f"activitysmith_track: the watchdog is off: {type(error).__name__}: {error}")
            line = self._companion.line
            while self._waiting and not (line is not None and line.blocked):
                self._waiting.pop().set()
        with contextlib.suppress(Exception):
            received.heard = self._companion.part(received.until)
        self._companion.is_over = True
        received.done.set()

    def _receive(self, *, wait: bool = True) -> _Farewell | None:
        """Take in all that was said, or what is said within the time after which to look around."""
        with contextlib.suppress(Empty):
            received = self._inbox.get(self._companion.pause() if wait and self._farewell is None else 0.0)
            while not isinstance(received, _Farewell):
                if isinstance(received, QueuedFrame):
                    self._companion.note(received)
                else:
                    self._waiting.append(received)
                received = self._inbox.get_nowait()
            self._farewell = received
        return self._farewell

    def _catch_up(self) -> bool:
        """Take in all that was said meanwhile, and return whether the job leaves."""
        return self._receive(wait=False) is not None


def _hold_broken_pipes() -> None:
    """Block SIGPIPE on this thread: its default action, which the job may have restored, would end the job."""
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGPIPE,))


def _forget_in_child() -> None:
    for each in list(_watchdogs):
        each.after_fork()


_watchdogs: weakref.WeakSet[Watchdog] = weakref.WeakSet()

children.append(_forget_in_child)
