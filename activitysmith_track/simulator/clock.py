"""The time that the simulator lives in: the machine's, an accelerated one, or one that is moved by hand."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone

from ..payloads import check_number

__all__ = ["Clock", "ManualClock"]

FASTEST = 1_000_000.0
FURTHEST = 366 * 86_400.0  # seconds that one step may take


def check_speed(speed: object) -> float:
    """Check simulated seconds in a second: 0 to 1,000,000."""
    return check_number("speed", speed, at_least=0, at_most=FASTEST)


def check_advance(seconds: object) -> float:
    """Check seconds that a clock is moved ahead: 0 to 366 days."""
    return check_number("advance", seconds, at_least=0, at_most=FURTHEST)


class Clock:
    """Seconds that run at a speed, and that can be moved ahead; called, it tells them.

    Args:
        speed: simulated seconds in a second, from 0 (it stands until it is moved) to 1,000,000.
        source: the machine's own seconds, monotonic.

    Raises:
        InvalidRequest: for a speed outside that range.
    """

    def __init__(self, speed: float = 1.0, *, source: Callable[[], float] = time.monotonic) -> None:
        self._source, self._speed = source, check_speed(speed)
        self._lock = threading.Lock()
        self._since, self._then = source(), 0.0
        self._began = datetime.now(timezone.utc)

    def __call__(self) -> float:
        """Return the simulated seconds since the start."""
        with self._lock:
            return self._now()

    def _now(self) -> float:
        return self._then + (self._source() - self._since) * self._speed

    @property
    def speed(self) -> float:
        """Simulated seconds in a second; 0 where the clock stands until it is moved."""
        return self._speed

    @speed.setter
    def speed(self, speed: float) -> None:
        """Let it run at another speed from now on."""
        checked = check_speed(speed)
        with self._lock:
            self._then, self._since, self._speed = self._now(), self._source(), checked

    def advance(self, seconds: float) -> None:
        """Move the clock ahead.

        Args:
            seconds: from 0 to 366 days.

        Raises:
            InvalidRequest: for anything else; a clock never goes back.
        """
        checked = check_advance(seconds)
        with self._lock:
            self._then += checked

    def date(self) -> datetime:
        """Return the date and time that a clock on the wall would show, in UTC."""
        return self._began + timedelta(seconds=min(self(), 86_400 * 365_000.0))


class ManualClock(Clock):
    """A clock that stands until `advance` moves it."""

    def __init__(self) -> None:
        super().__init__(0.0)
