"""A clock that the phone moves on its own."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

from .. import _text
from ..errors import InvalidRequest
from .handle import Handle
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
        handle._missed = handle._elapsed_clock()

    def running(self, handle: Timer) -> dict[str, Any]:
        """Return which way the clock runs, and from where."""
        state: dict[str, Any] = {"counts_down": handle._duration is not None}
        if handle._duration is not None:
            late = handle._missed if handle._missed >= NOTICEABLE_SECONDS else 0.0
            state["duration_seconds"] = max(1.0, handle._duration - late)
        return state if handle._paused is None else {**state, "is_running": not handle._paused}

    def subtitle(self, handle: Timer) -> str | None:
        """Say how much time had passed when the card appeared, if the clock counts up."""
        late = handle._duration is None and handle._missed >= NOTICEABLE_SECONDS
        return f"plus {_text.format_duration(handle._missed)}" if late else None

    def last(self, handle: Timer, outcome: Outcome) -> dict[str, Any]:
        """Return which way the clock ran."""
        return {"counts_down": handle._duration is not None}


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
        self._paused: bool | None = None
        self._ran = self._since = 0.0  # seconds that the clock had run when it was last paused or resumed
        self._missed = 0.0  # seconds that it had run when its card appeared

    def pause(self) -> None:
        """Stop the clock on the phone."""
        self._set_paused(True)

    def resume(self) -> None:
        """Let the clock on the phone run on."""
        self._set_paused(False)

    def _set_paused(self, paused: bool) -> None:
        if bool(self._paused) != paused:
            self._ran, self._since = self._elapsed_clock(), self.elapsed
            self._paused = paused
            self._transitions += 1
            self._touch(transition=True)

    def _elapsed_clock(self) -> float:
        """Return the seconds that the clock has run."""
        return self._ran if self._paused else self._ran + self.elapsed - self._since
