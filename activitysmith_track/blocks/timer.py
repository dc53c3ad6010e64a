"""A clock that the phone moves on its own."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

from .. import _text
from ..errors import InvalidRequest
from .handle import Handle, touch
from .states import StateBuilder
from .values import finite

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .outcome import Outcome

NOTICEABLE_SECONDS = 5.0  # that a card may appear late before its clock makes up for it


class TimerBuilder(StateBuilder["Timer"]):
    """Builds the states of a clock."""

    standing = MappingProxyType({"is_running": False})  # an end stops the clock anyway

    def opening(self, handle: Timer) -> None:
        """Note how late the card appears: a countdown begins with less, a count up names the missing time."""
        handle._missed = handle._stopwatch.ran(handle.elapsed)

    def running(self, handle: Timer) -> dict[str, Any]:
        """Return which way the clock runs, and from where."""
        state: dict[str, Any] = {"counts_down": handle._duration is not None}
        if handle._duration is not None:
            late = handle._missed if handle._missed >= NOTICEABLE_SECONDS else 0.0
            state["duration_seconds"] = max(1.0, handle._duration - late)
        is_paused = handle._stopwatch.is_paused
        return state if is_paused is None else {**state, "is_running": not is_paused}

    def subtitle(self, handle: Timer) -> str | None:
        """Say how much time had passed when the card appeared, if the clock counts up."""
        late = handle._duration is None and handle._missed >= NOTICEABLE_SECONDS
        return f"plus {_text.format_duration(handle._missed)}" if late else None

    def last(self, handle: Timer, outcome: Outcome) -> dict[str, Any]:
        """Return which way the clock ran."""
        return {"counts_down": handle._duration is not None}


class _Stopwatch:
    """The clock of a card, which may be paused. All times are the block's `elapsed`, in seconds.

    Attributes:
        is_paused: `None` until it is paused for the first time.
    """

    def __init__(self) -> None:
        self.is_paused: bool | None = None
        self._ran = self._since = 0.0  # what it had run when it was last paused or resumed, and when that was

    def ran(self, elapsed: float) -> float:
        """Return the seconds that it has run."""
        return self._ran if self.is_paused else self._ran + elapsed - self._since

    def switch(self, paused: bool, elapsed: float) -> bool:
        """Pause it or let it run on; False where that changes nothing."""
        if bool(self.is_paused) == paused:
            return False
        self._ran, self._since = self.ran(elapsed), elapsed
        self.is_paused = paused
        return True


class Timer(Handle):
    """A clock that the phone moves on its own: `live_timer`."""

    type: ClassVar[str] = "timer"
    _own = ("duration",)
    _made_with = MappingProxyType({"duration": "_duration"})
    _builder: ClassVar[StateBuilder[Any]] = TimerBuilder()

    def __init__(self, name: str, *, duration: float | None = None, options: Mapping[str, Any]) -> None:
        super().__init__(name, options)
        if duration is not None and (isinstance(duration, bool) or not (finite(duration) or 0) > 0):
            raise InvalidRequest("duration", duration, "seconds, more than 0")
        self._duration = duration
        self._reset()

    def _reset(self) -> None:
        self._stopwatch = _Stopwatch()
        self._missed = 0.0  # seconds that it had run when its card appeared

    def pause(self) -> None:
        """Stop the clock on the phone."""
        _set_paused(self, True)

    def resume(self) -> None:
        """Let the clock on the phone run on."""
        _set_paused(self, False)


def _set_paused(handle: Timer, paused: bool) -> None:
    """Pause a clock or let it run on, at once."""
    if handle._stopwatch.switch(paused, handle.elapsed):
        handle._transitions += 1
        touch(handle, transition=True)
