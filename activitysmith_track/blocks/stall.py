"""Notices a job that makes no progress, and says so."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import _text
from .pushes import push_stall

if TYPE_CHECKING:
    from typing import Any, ClassVar, Protocol

    from .pushes import Telling

    class Watched(Telling, Protocol):
        """What is needed of a handle that may stall."""

        _builder: ClassVar[Any]
        _began: float
        _display: Any
        _transitions: int

        @property
        def is_open(self) -> bool:
            """True between entering and the end, in the process that entered."""


STALL_LOOKS = 10  # how often the progress is looked at in the time of `stall_after`


class Stall:
    """The task that says on the card, and by a push, that a job makes no progress.

    Args:
        handle: the job's handle.
        after: seconds without progress after which the job has stalled.
    """

    __slots__ = ("_after", "_handle", "_moved", "_opened", "_progress", "_said", "_told", "turns", "words")

    def __init__(self, handle: Watched, after: float) -> None:
        self._handle, self._after, self._opened = handle, after, handle._opened
        self._progress: object = None
        self._moved = handle._began
        self._said = after
        self._told = False
        self.turns = 0  # how often it stalled or recovered: each is a transition
        self.words = ""  # what the card says while it stands still

    def give_up(self) -> None:
        """Look no more."""

    def run(self, now: float) -> float | None:
        """Look whether there was progress; see `Task.run`."""
        handle = self._handle
        if not handle.is_open or handle._opened != self._opened:
            return None
        progress = _progress_of(handle)
        if progress != self._progress:
            self._progress, self._moved = progress, now
        stood = now - self._moved
        if stood >= self._said * 2 if self.words else stood >= self._after:
            self._said = stood  # the card says it again when the time has doubled
            self._say(f"No progress for {_text.format_duration(stood)}")
        elif self.words and stood < self._after:
            self._say("")
        return now + self._after / STALL_LOOKS

    def _say(self, words: str) -> None:
        self.words = words
        self.turns += 1
        self._handle._display.wake(self._handle, transition=True)
        self._push()

    def _push(self) -> None:
        if self.words and not self._told:
            self._told = True
            push_stall(self._handle, self.words)


def _progress_of(handle: Watched) -> object:
    """Return a value that changes with every progress."""
    builder = handle._builder
    return builder.fraction(handle), handle._transitions, builder.detail(handle), builder.numbers(handle)
