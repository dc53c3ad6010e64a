"""A clock that the phone moves on its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .. import _failure
from ..errors import InvalidRequest
from .handle import Handle
from .values import finite

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .outcome import Outcome

LATE_SECONDS = 5.0  # after which a clock that appears late says so


class Timer(Handle):
    """A clock that the phone moves on its own: `live_timer`."""

    type = "timer"
    _own = ("duration",)

    def __init__(self, name: str, *, duration: float | None = None, options: Mapping[str, Any]) -> None:
        super().__init__(name, options)
        if duration is not None and (isinstance(duration, bool) or not (finite(duration) or 0) > 0):
            raise InvalidRequest("duration", duration, "seconds, more than 0")
        self._duration = duration
        self._reset()

    def _arguments(self) -> dict[str, Any]:
        return {"duration": self._duration}

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

    def opening(self) -> None:
        """Note how late the card appears: what is left is counted down from, what passed stands in words."""
        self._missed = self._elapsed_clock()

    def _running(self) -> dict[str, Any]:
        state: dict[str, Any] = {"counts_down": self._duration is not None}
        if self._duration is not None:
            late = self._missed if self._missed >= LATE_SECONDS else 0.0
            state["duration_seconds"] = max(1.0, self._duration - late)
        return state if self._paused is None else {**state, "is_running": not self._paused}

    def _subtitle(self) -> str | None:
        late = self._duration is None and self._missed >= LATE_SECONDS
        return f"plus {_failure.span(self._missed)}" if late else None

    def _last(self, outcome: Outcome) -> dict[str, Any]:
        return {"counts_down": self._duration is not None}
