"""How long a test waits: nothing is asserted about speed, and a busy machine may take its time."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from internals import default_dispatcher

from activitysmith_track.delivery.watchdog import pids
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
    return pids.is_gone(pid, pids.start_time(pid)) if pids.start_time(pid) else not exists(pid)


def exists(pid: int) -> bool:
    """Tell whether a number belongs to a process that has not ended, where there is no /proc to ask."""
    return not os.path.exists("/proc/self") and not pids.is_gone(pid, None)


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


class Clock:
    """The default tracker's clock in the tests: real time, but for as long as a test holds it. It never goes back."""

    def __init__(self) -> None:
        self._ahead = 0.0
        self._stands: float | None = None

    def __call__(self) -> float:
        """Return the seconds."""
        stands = self._stands
        return time.monotonic() + self._ahead if stands is None else stands

    def advance(self, seconds: float) -> None:
        """Let time pass at once, while the clock stands."""
        assert self._stands is not None
        self._stands += seconds
        for lane in default_dispatcher().schedulers:
            lane.wake(_Look())

    @contextlib.contextmanager
    def held(self) -> Iterator[Clock]:
        """Let it stand until the block ends, and then go on from there."""
        assert default_dispatcher().runtime.now is self
        self._stands = self()
        try:
            yield self
        finally:
            self._ahead = self._stands - time.monotonic()
            self._stands = None


class _Look:
    """A task that does nothing: a lane that it wakes looks at its clock."""

    def run(self, now: float) -> None:
        return

    def give_up(self) -> None:
        return


CLOCK = Clock()
standing_clock = CLOCK.held  # no time passes for the library: what it holds back for a moment is still held back
