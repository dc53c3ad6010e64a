"""How long a test waits: nothing is asserted about speed, and a busy machine may take its time."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from activitysmith_track import _last_words
from activitysmith_track.configuration import default_tracker
from activitysmith_track.errors import RequestTimedOut
from activitysmith_track.simulator import Simulator

PATIENCE = 180.0  # seconds for what has to come: only a hang takes so long


class PatientSimulator(Simulator):
    """A service whose `wait_for` has the patience of the tests.

    Its key is its own: a watchdog that an earlier test has left behind may still try to deliver to a service that is
    gone, and whose port this one has got.
    """

    def __init__(self, **rules: Any) -> None:
        super().__init__(api_key=f"simulator-key-{os.urandom(6).hex()}", **rules)

    def wait_for(self, predicate: Callable[[Simulator], object], timeout: float = PATIENCE) -> bool:
        """Wait as the simulator does, but for longer."""
        return super().wait_for(predicate, timeout)


def is_gone(pid: int) -> bool:
    """Tell whether a process has ended."""
    return _last_words.is_gone(pid, _last_words.start_time(pid)) if _last_words.start_time(pid) else not exists(pid)


def exists(pid: int) -> bool:
    """Tell whether a number belongs to a process that has not ended, where there is no /proc to ask."""
    return not os.path.exists("/proc/self") and not _last_words.is_gone(pid, None)


def end_process(pid: int) -> None:
    """Kill a process that would go on after its test."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def until(condition: Callable[[], object]) -> bool:
    """Wait until something holds that tells nobody when it does."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def times_out(attempt: Callable[[float], object], seconds: float) -> RequestTimedOut:
    """Return how an attempt timed out that had the time to send its request: on a busy machine that may take more."""
    for allowed in (seconds, 20.0, PATIENCE):
        with pytest.raises(RequestTimedOut) as caught:
            attempt(allowed)
        if caught.value.delivered is not False:
            break
    return caught.value


@contextlib.contextmanager
def standing_clock() -> Iterator[None]:
    """Let no time pass for the library: what it holds back for a moment is still held back when the block ends."""
    courier = default_tracker().courier
    clock, now = courier.clock, courier.clock()
    with contextlib.ExitStack() as stack:
        for owner, name in ((courier, "clock"), (courier.lane, "_clock"), (courier.samples, "_clock")):
            setattr(owner, name, lambda: now)
            stack.callback(setattr, owner, name, clock)
        yield
