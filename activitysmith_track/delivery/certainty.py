"""Whether a card is still what was sent: what others have on its way may end it, or show an older state on it."""

from __future__ import annotations

MOST_REVIVED = 3  # times in a row that a card is made sure of that somebody else goes on to end


class Certainty:
    """What is known to come behind the card's last state, and when the card is shown once more to make sure of it.

    Attributes:
        check_at: when that is, on the runtime's clock; infinite for never.
        may_have_ended: whether something may have ended the card, so that it has to begin anew.
        hit_until: until when something of an older run may come that was given up there.
    """

    __slots__ = ("_revived", "check_at", "hit_until", "may_have_ended")

    def __init__(self) -> None:
        self.check_at = float("inf")
        self.may_have_ended = False
        self.hit_until = 0.0
        self._revived = 0  # how many times in a row somebody else had ended the card

    def check(self, when: float) -> None:
        """Have the card shown once more then, after all that may change it."""
        self.check_at = when if self.check_at == float("inf") else max(when, self.check_at)

    def settle(self) -> None:
        """Note that there is nothing to make sure of."""
        self.check_at, self.may_have_ended = float("inf"), False

    def is_due(self, now: float) -> bool:
        """Tell whether it is time to make sure of the card."""
        return now >= self.check_at

    def revives(self, *, is_revived: bool) -> bool:
        """Note whether the card had been ended by somebody else; False where that has gone on for too long."""
        self._revived = self._revived + 1 if is_revived else 0
        return self._revived <= MOST_REVIVED
