"""Whether a card still shows what was sent: a request that arrives late may end it, or show an older state on it.

A card is confirmed by sending its state once more, when everything late has arrived or can arrive no more.
"""

from __future__ import annotations

MOST_REVIVALS = 3  # times in a row that a card is confirmed that somebody else keeps ending


class Certainty:
    """What may still reach a card behind its last state, and when the card is confirmed.

    Attributes:
        check_at: when it is confirmed, on the runtime's clock; infinite for never.
        may_have_ended: whether something may have ended the card, so that it has to begin anew.
        older_until: until when a request may arrive that an older run has sent, and may have given up.
    """

    __slots__ = ("_revivals", "check_at", "may_have_ended", "older_until")

    def __init__(self) -> None:
        self.check_at = float("inf")
        self.may_have_ended = False
        self.older_until = 0.0
        self._revivals = 0

    def check(self, when: float, *, may_have_ended: bool = False) -> None:
        """Have the card confirmed at a time, or at a later one that was asked for before.

        Args:
            when: on the runtime's clock.
            may_have_ended: whether the card may have been ended, so that it may have to begin anew.
        """
        self.check_at = when if self.check_at == float("inf") else max(when, self.check_at)
        self.may_have_ended |= may_have_ended

    def expect(self, until: float) -> None:
        """Note until when a request may arrive that an older run has sent, and may have given up."""
        self.older_until = max(self.older_until, until)

    def miss(self, now: float) -> None:
        """Note that the card is not there: it begins anew at once, whatever it is confirmed for later."""
        self.check_at, self.may_have_ended = now, True

    def clear(self) -> None:
        """Note that there is nothing to confirm."""
        self.check_at, self.may_have_ended = float("inf"), False

    def is_due(self, now: float) -> bool:
        """Tell whether it is time to confirm the card."""
        return now >= self.check_at

    def count_revival(self, *, is_revival: bool) -> None:
        """Count how often in a row the card had to begin anew, since somebody else had ended it.

        Args:
            is_revival: whether the last request has had it begin anew; if not, the row is over.
        """
        self._revivals = self._revivals + 1 if is_revival else 0

    @property
    def is_contested(self) -> bool:
        """True where somebody else keeps ending the card: to confirm it after each time would never end."""
        return self._revivals > MOST_REVIVALS
