"""Whether a card still shows what was sent: a request that arrives late may end it, or show an older state on it.

A card is confirmed by sending its state once more, when everything late has arrived or can arrive no more.
"""

from __future__ import annotations

MOST_REVIVED = 3  # times in a row that a card is confirmed that somebody else keeps ending


class Certainty:
    """What may still reach a card behind its last state, and when the card is confirmed.

    Attributes:
        check_at: when it is confirmed, on the runtime's clock; infinite for never.
        may_have_ended: whether something may have ended the card, so that it has to begin anew.
        hit_until: until when a request may arrive that an older run has sent, and may have given up.
    """

    __slots__ = ("_revived", "check_at", "hit_until", "may_have_ended")

    def __init__(self) -> None:
        self.check_at = float("inf")
        self.may_have_ended = False
        self.hit_until = 0.0
        self._revived = 0  # times in a row that somebody else had ended the card

    def check(self, when: float) -> None:
        """Have the card confirmed at a time, or at a later one that was asked for before."""
        self.check_at = when if self.check_at == float("inf") else max(when, self.check_at)

    def miss(self, now: float) -> None:
        """Note that the card is not there: it begins anew at once, whatever it is confirmed for later."""
        self.check_at, self.may_have_ended = now, True

    def settle(self) -> None:
        """Note that there is nothing to confirm."""
        self.check_at, self.may_have_ended = float("inf"), False

    def is_due(self, now: float) -> bool:
        """Tell whether it is time to confirm the card."""
        return now >= self.check_at

    def revives(self, *, is_revived: bool) -> bool:
        """Note whether somebody else had ended the card; returns False after too many times in a row."""
        self._revived = self._revived + 1 if is_revived else 0
        return self._revived <= MOST_REVIVED
