"""The interpreter's exit: once for all dispatchers of a process, and inside one deadline.

There is one exit handler of ours, whatever the number of dispatchers. It ends what is open as stopped, waits until
all ends and pushes have arrived, and has what is left kept for a next process. All dispatchers deliver at the same
time, so that the exit takes as long as the most patient one may take, and not the sum of all.

Python calls exit handlers one after the other, and those that were registered before ours come after it. Nothing
waits any more for a block that ends in one of them, so such a block waits for its own delivery, with what is left of
the time. The same holds where our handler was registered after Python had begun to call exit handlers: Python never
calls it then. No lock is held between two of these handlers: what must not happen while the interpreter is taken down
is kept out by the gates of `_fork`.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import weakref
from typing import TYPE_CHECKING

from .._fork import children
from .parting import RETRY_SECONDS, leave_all
from .runtime import Runtime

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from .dispatcher import Dispatcher

logger = logging.getLogger("activitysmith_track")

FAREWELL_SECONDS = 0.5  # seconds that the exit waits at least until a watchdog is told of it, which takes a few ms


class Shutdown:
    """The exit of a process."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime, self._interpreter = runtime, runtime.interpreter
        self._dispatchers: weakref.WeakValueDictionary[int, Dispatcher] = weakref.WeakValueDictionary()
        self._numbers = itertools.count()
        self._is_registered = False
        self.has_left = False  # the exit is over, and nothing waits for what comes later
        self.after_in_child()

    def after_in_child(self) -> None:
        """Begin anew in a forked child, except for `has_left`: if the parent's exit was over, so is the child's."""
        self._finalizes = False
        self._spent = 0.0  # seconds that the exit has waited so far
        self._has_told = False  # it was logged that something came after the exit and was not delivered
        self._stopped = float("-inf")  # when a signal last ended the cards
        self._turn = self._runtime.lock()
        self._leaving: int | None = None  # the thread that is in `leave`
        self._exit_thread: int | None = None  # the thread that runs the exit handlers, once that is known

    # -- who takes part

    def add(self, dispatcher: Dispatcher) -> None:
        """Have a dispatcher take part in the exit."""
        self._dispatchers[next(self._numbers)] = dispatcher
        if not self._is_registered:
            self._is_registered = True
            self.has_left = self._interpreter.call_at_exit(self.at_exit)

    @property
    def dispatchers(self) -> list[Dispatcher]:
        """The dispatchers that take part."""
        return [dispatcher for each in self._dispatchers.valuerefs() if (dispatcher := each()) is not None]

    def watch_children(self) -> None:
        """See to it that a child of multiprocessing, which leaves without atexit, delivers what is owed."""
        if self._finalizes:
            return
        self._finalizes = True
        self.has_left = self._interpreter.call_in_worker_process(self.at_exit) or self.has_left

    # -- the exit

    @property
    def stays_here(self) -> bool:
        """True unless another thread runs the exit handlers, so that the process may be gone at any moment."""
        return self._exit_thread in (None, self._interpreter.thread())

    def at_exit(self) -> None:
        """Be the exit handler: end what is open, and leave."""
        self._exit_thread = self._interpreter.thread()
        self.leave(ends_open=True)
        self.has_left = True
        self._interpreter.keep_interrupt()

    def leave(self, *, ends_open: bool = False) -> None:
        """Deliver what all dispatchers owe, each within its `exit_timeout`, and keep what is left.

        A second call has the time that is left: nothing else waits for what is handed in that late.

        Args:
            ends_open: True to end what is open as stopped.
        """
        longest = self._longest() + RETRY_SECONDS  # another thread may use that, to store what is left
        if self._leaving == self._interpreter.thread() or not self._turn.acquire(timeout=longest):
            return
        try:
            self._leaving = self._interpreter.thread()
            begun = self._runtime.now()
            with self._open_gates():
                leaving = {each: self.seconds_for(each) for each in self.dispatchers}
                try:
                    if self._leave(leaving, ends_open=ends_open, tells=not self.has_left or not self._has_told):
                        self._has_told = self.has_left
                except KeyboardInterrupt:
                    pass  # Ctrl-C has ended the wait
                except Exception:
                    logger.exception("activitysmith_track: internal error at the exit")
            self._spent += self._runtime.now() - begun
        finally:
            self._leaving = None
            self._turn.release()

    @contextlib.contextmanager
    def _open_gates(self) -> Iterator[None]:
        """Let the exit's own thread have clients made; then nobody makes one while the interpreter is taken down."""
        own = self.stays_here
        if own:
            self._interpreter.open_gates()
        try:
            yield
        finally:
            if own:
                self._interpreter.shut_gates()

    def close(self, dispatcher: Dispatcher, timeout: float | None = None) -> bool:
        """Have one dispatcher leave by itself, and stop its threads.

        Args:
            dispatcher: the dispatcher.
            timeout: seconds to wait at most; `None` for its `exit_timeout`, which all calls in exit handlers share.

        Returns:
            True when everything was delivered, and nothing was refused since the last flush.
        """
        dispatcher.opened.refuse()
        begun, seconds = self._runtime.now(), self.seconds_for(dispatcher) if timeout is None else timeout
        spent = seconds
        try:
            with self._open_gates() if self.has_left else contextlib.nullcontext():
                self._leave({dispatcher: seconds})
            delivered = dispatcher.has_delivered and not dispatcher.ledger.lost
            spent = self._runtime.now() - begun
        finally:
            dispatcher.close(max(0.0, seconds - spent))
        if self.has_left or self._interpreter.is_exiting():
            self._spent += spent
        return delivered

    def _longest(self) -> float:
        return max((self.seconds_for(dispatcher) for dispatcher in self.dispatchers), default=0.0)

    def seconds_for(self, dispatcher: Dispatcher) -> float:
        """Return the seconds that a dispatcher may still wait."""
        seconds = dispatcher.exit_timeout()
        stopped = self._runtime.now() - self._stopped
        return max(0.0, seconds - self._spent - (stopped if stopped <= 2 * seconds else 0.0))

    # -- a signal

    def stop(self, words: str, first: Dispatcher) -> None:
        """End all cards that a signal ends, and see to it that this is delivered or kept: it may end the process.

        If the user's own handler then exits in order, this wait counts as a part of the exit's time.

        Args:
            words: name the signal.
            first: the dispatcher whose handler was called; those of the others find nothing left to do.
        """
        others = [each for each in self.dispatchers if each is not first]
        dispatchers = [first, *(each for each in others if each.departure.heeds_signals)]
        now, longest = self._runtime.now(), max(each.exit_timeout() for each in dispatchers)
        until = now + max(self.seconds_for(each) for each in dispatchers)
        if now - self._stopped > 2 * longest:  # else this signal has called another dispatcher's handler before
            self._stopped = now
        for each in dispatchers:
            each.departure.end_open(words)
        for each in dispatchers:
            each.wait(until - self._runtime.now())
        for each in dispatchers:
            each.departure.end_open(words)  # what other threads have opened meanwhile: the signal may end them too
        partings = [each.departure.part(FAREWELL_SECONDS, stays=True) for each in dispatchers]
        leave_all(partings, FAREWELL_SECONDS, self._runtime)

    # -- what all of these do

    def _leave(self, seconds: Mapping[Dispatcher, float], *, ends_open: bool = True, tells: bool = True) -> bool:
        """Deliver what dispatchers owe, all at the same time, and have what is left of it kept.

        Args:
            seconds: how long each dispatcher may take.
            ends_open: True to end what is open as stopped.
            tells: True to log what was not delivered.

        Returns:
            Whether something was logged.

        Raises:
            BaseException: what a signal handler, Ctrl-C's among them, raises meanwhile. It ends the wait; what is
                owed is kept all the same, and what goes wrong with one dispatcher keeps no other one from leaving.
        """
        dispatchers = list(seconds)
        for each in dispatchers:
            each.departure.start_draining(seconds[each])
        errors = _send_owed(dispatchers, ends_open=ends_open) or _deliver(dispatchers)
        with self._interpreter.interrupts_later():
            if errors:
                for each in dispatchers:
                    each.departure.start_draining(0.0)
                _send_owed(dispatchers, ends_open=ends_open)
            has_told = self._keep(dispatchers, tells=tells)
        if errors:
            raise errors[0]
        return has_told

    def _keep(self, dispatchers: list[Dispatcher], *, tells: bool) -> bool:
        """Leave to others what was not delivered; returns whether something was logged."""
        counts = [each.departure.count_left() for each in dispatchers]
        timeout = max([FAREWELL_SECONDS, *(each.departure.seconds_left for each in dispatchers)])
        kept = leave_all([each.departure.part(timeout) for each in dispatchers], timeout, self._runtime)
        left = dict.fromkeys(("kept for the next run", "lost"), 0)
        for count, is_kept in zip(counts, kept, strict=True):
            left["kept for the next run" if is_kept else "lost"] += count
        for fate, count in left.items():
            if count and tells:
                what = "1 end or push was" if count == 1 else f"{count} ends and pushes were"
                logger.warning("activitysmith_track: %s not delivered in time: %s", what, fate)
        self._close_connections(dispatchers)
        return tells and any(left.values())

    def _close_connections(self, dispatchers: list[Dispatcher]) -> None:
        """Close the connections that nobody uses, unless another thread may still have something sent."""
        if self._interpreter.has_other_threads():
            return
        for each in dispatchers:
            if each.is_idle:
                each.accounts.close()


def _send_owed(dispatchers: list[Dispatcher], *, ends_open: bool) -> list[BaseException]:
    def send(dispatcher: Dispatcher) -> None:
        if ends_open:
            dispatcher.departure.end_open()
        dispatcher.departure.send_owed()

    return _with_each(dispatchers, send)


def _deliver(dispatchers: list[Dispatcher]) -> list[BaseException]:
    threadless = [each for each in dispatchers if each.ledger.is_awaited and not each.scheduler.runs]
    shares = {each: len(threadless) - number for number, each in enumerate(threadless)}

    def drain(dispatcher: Dispatcher) -> None:
        dispatcher.departure.drain_here(dispatcher.departure.seconds_left / shares[dispatcher])

    def wait(dispatcher: Dispatcher) -> None:
        dispatcher.wait(dispatcher.departure.seconds_left)

    return _with_each(threadless, drain) or _with_each(dispatchers, wait, at_once=True)


def _with_each(
    dispatchers: list[Dispatcher], act: Callable[[Dispatcher], None], *, at_once: bool = False
) -> list[BaseException]:
    """Do something with each dispatcher; returns the errors of all of them or, with `at_once`, the first."""
    errors: list[BaseException] = []
    for each in dispatchers:
        try:
            act(each)
        except BaseException as error:
            errors.append(error)
        if errors and at_once:
            break
    return errors


shutdown = Shutdown(Runtime())
children.append(shutdown.after_in_child)
