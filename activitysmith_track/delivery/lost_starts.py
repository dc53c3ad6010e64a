"""Starts that may or may not have been carried out: the connection broke, or no answer came."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .bodies import opens_anew

if TYPE_CHECKING:
    from .state import ActivityState

AS_IT_WAS_SECONDS = 30.0  # in which a start without an answer is sent once more unchanged


class LostStarts:
    """The starts of one card that got no answer, until one is answered.

    Attributes:
        count: how many there were.
        begun_at: when the card may have appeared by the first of them, on the runtime's clock; `None` for not at all.
        is_own: whether a card on the screen can only be this run's own.
    """

    __slots__ = ("_first", "begun_at", "count", "is_own")

    def __init__(self) -> None:
        self.count = 0
        self.begun_at: float | None = None
        self.is_own = False
        self._first: ActivityState | None = None

    def note(self, state: ActivityState, begun_at: float, *, is_first: bool) -> None:
        """Note one more start without an answer.

        Args:
            state: what it shows.
            begun_at: when the card may have appeared by it.
            is_first: True where the card cannot have been there before.
        """
        self.count += 1
        if is_first:
            self._first, self.begun_at = state, begun_at

    def lapse(self) -> None:
        """Note that none of them was carried out, nor can be any more."""
        self.count, self._first = 0, None

    def forget(self) -> None:
        """Forget them, since it is known what is on the screen: from now on it may be another run's card, too."""
        self.lapse()
        self.is_own = False

    def again(self, now: float) -> ActivityState | None:
        """Return the state of the first start, to be sent once more unchanged; `None` for nothing.

        The answer tells whether that start has had the card appear; the current state follows at once. A state that
        changes the card each time it is sent is not repeated.
        """
        if self.begun_at is None or self._first is None or opens_anew(self._first.body):
            return None
        return self._first if now < self.begun_at + AS_IT_WAS_SECONDS else None
