"""The small process beside the job, from the job's side: when it is started, fed, started anew, and let go."""

from __future__ import annotations

# All imports stand here, none runs on the thread: a child that is forked meanwhile would have half a module.
import logging
import os
import sys
from typing import TYPE_CHECKING

from .line import BLOCKED_SECONDS, Line, QueuedFrame
from .protocol import MAX_ENTRIES

if TYPE_CHECKING:
    from collections.abc import Callable

    from .protocol import Timing

logger = logging.getLogger("activitysmith_track")


class Companion:
    """The process that guards what the job has said, and what is known of both; the watchdog's thread keeps it.

    Other threads may read the attributes and properties, each by itself.

    Args:
        timing: how long it takes.
        interpreter: the path of the Python to run; `None` for this one.
        outbox: the directory where it keeps what it cannot deliver at once; True for one in the user's state
            directory, False for none.
        now: seconds of a clock that never goes back.
        catch_up: has all taken in, by `note`, that was said while the process was started; returns whether the job
            leaves.

    Attributes:
        line: the pipe to the process, or `None` while there is none.
        live: what the job has said and not taken back.
        is_asked_for: True where there shall be a process although there is nothing to guard yet.
        is_over: True once nothing is taken in any more.
    """

    def __init__(
        self,
        timing: Timing,
        interpreter: str | None,
        outbox: str | bool,
        now: Callable[[], float],
        catch_up: Callable[[], bool],
    ) -> None:
        self.timing = timing
        self.line: Line | None = None
        self.live: dict[tuple[str, int], bytes] = {}
        self.is_asked_for = False
        self.is_over = False
        self._interpreter, self._outbox, self._now, self._catch_up = interpreter, outbox, now, catch_up
        self._restarts = 1
        self._busy_at = 0.0
        self._told: set[str] = set()

    @property
    def pid(self) -> int | None:
        """The pid of the process, or `None`."""
        line = self.line  # which the thread may let go of at any moment
        return None if line is None else line.pid

    @property
    def calls(self) -> bool:
        """True where there is something for which a process is started; what is on disk needs none."""
        return any(kind not in ("account", "leases") for kind, _ in list(self.live))  # a copy, for other threads

    @property
    def _guards(self) -> bool:
        """True where there is something for which a process that is there is kept."""
        return any(kind != "account" for kind, _ in self.live)

    def pause(self) -> float | None:
        """Return after how many seconds to look after it again; `None` until something is said."""
        if self.line is None:
            return None
        if self.line.blocked:
            return BLOCKED_SECONDS
        return self.timing.check if self._guards else min(self.timing.check, self.timing.idle)

    def note(self, queued: QueuedFrame) -> None:
        """Take in what the job says, for this process and for one that is started later."""
        if not queued.lives:
            self.live.pop(queued.key, None)
        elif queued.key not in self.live and len(self.live) >= MAX_ENTRIES:
            self.warn_once(f"activitysmith_track: the watchdog guards {MAX_ENTRIES} things and takes in no more")
            return
        else:
            self.live[queued.key] = queued.frame
        if self.line is not None:
            self.line.put(queued)
        self._busy_at = self._now()

    def look_after(self, until: float | None = None) -> None:
        """Start the process, feed it, start it anew or let it go: whatever is due.

        Args:
            until: by when it must have started; `None` leaves it all its time.
        """
        if self.line is None:
            if self.calls or self.is_asked_for:
                self._begin(until)
        elif not self.line.flush():
            self.line.close()
            self.line = None
            self._lost(until)
        elif not (self._guards or self.line.blocked) and self._now() - self._busy_at >= self.timing.idle:
            line, self.line, self.is_asked_for = self.line, None, False
            line.say_bye()  # the next card starts another
            line.close()

    def _begin(self, until: float | None) -> None:
        seconds = self.timing.start if until is None else min(self.timing.start, until - self._now())
        if self.is_over or seconds <= 0:
            return
        self._busy_at = self._now()
        self.line = line = Line(self._outbox, self._now)
        try:
            line.start(self._interpreter or interpreter(), self.timing, seconds)
        except Exception as error:  # no shell, no more processes, or whatever: the job goes on without
            self.give_up(f"activitysmith_track: the watchdog could not be started: {error}")
            return
        self._busy_at = self._now()
        for key, frame in self.live.items():
            line.put(QueuedFrame(key, frame, True))
        # What was said meanwhile may take back frames that are not written yet. And if the job leaves now, no card is
        # written without the bye: the interpreter may stop this thread between two writes.
        if not self._catch_up():
            line.flush()

    def _lost(self, until: float | None) -> None:
        if not self.calls:
            self.is_asked_for = False
        elif self._restarts:
            self._restarts -= 1
            self._begin(until)
        else:
            self.give_up("activitysmith_track: the watchdog was ended by somebody; the job goes on without")

    def part(self, until: float) -> bool:
        """Tell the process all that it has not been told, and bye; False where that cannot be by then."""
        told = None
        while True:
            if self.line is told:
                self.look_after(until)
            line = self.line
            if line is None:
                return not self.calls
            if line is not told:
                told = line
                line.say_bye()
            if not line.blocked:
                line.close()
                self.line = None
                self.live.clear()
                return True
            if self._now() >= until:
                return False
            line.wait(min(BLOCKED_SECONDS, max(0.0, until - self._now())))

    def give_up(self, message: str) -> None:
        """Let go of the process for good, and log why."""
        line, self.line, self.is_over = self.line, None, True
        if line is not None:
            line.close()
        self.warn_once(message)

    def warn_once(self, message: str) -> None:
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
