"""When an update may be sent: pure, no clock and no I/O of its own.

The service's budget: the n-th update of an activity, `t` seconds after its start, is within budget when
`n <= 12 or n <= t / 120`. It is `max(12, t / 120)`, not their sum: after 12 updates the 13th waits for minute 26. So
percentages are spread over what the job is expected to take, and only transitions go at once.
"""

from __future__ import annotations

import math

FREE_UPDATES = 12  # updates that need no waiting
SECONDS_PER_UPDATE = 120.0  # the average that the budget asks for beyond those
DISTRUST = 0.7  # exponent that dampens an expected time longer than what has passed
FIRST_DETAIL, DETAIL_GROWTH = (
    2.0,
    1.8,
)  # seconds before the first change of detail; each next one waits that much longer
SHORTEST_LOOK, LONGEST_LOOK = 0.05, 30.0  # seconds between two looks at a job that is not yet worth an update
FIRST_PENALTY = 600.0  # seconds of silence after a warning, doubled by each further one


class Pace:
    """The updates of one activity so far, and when the next may follow.

    Args:
        reserve: updates to keep in hand for a last state that must not wait.
    """

    def __init__(self, reserve: int = 0) -> None:
        self.reserve = reserve
        self.updates = 0
        self.started: float | None = None
        self.last = 0.0
        self.shown: float | None = None
        self._not_before = -math.inf
        self._penalty = FIRST_PENALTY

    def start(self, now: float, fraction: float | None, *, fresh: bool = True) -> None:
        """Note that the activity began.

        Args:
            now: seconds, any clock.
            fraction: what the phone shows, 0 to 1.
            fresh: False where the activity ran before, so that its free updates may be spent.
        """
        self.started, self.last, self.shown = now, now, fraction
        self.updates = 0 if fresh else FREE_UPDATES

    def sent(self, now: float, fraction: float | None) -> None:
        """Note an update that reached the service, or may have."""
        self.updates += 1
        self.last, self.shown = now, fraction

    def warned(self, now: float) -> None:
        """Note that the service warned of the budget: others have spent from it."""
        self.hold(now + self._penalty)
        self._penalty *= 2

    def hold(self, until: float) -> None:
        """Send nothing before a time."""
        self._not_before = max(self._not_before, until)

    def allowed_at(self, ahead: int = 1) -> float:
        """Return the earliest time at which the budget allows the `ahead`-th update from now on."""
        number = self.updates + ahead
        started = self.started or 0.0
        legal = started if number <= FREE_UPDATES else started + number * SECONDS_PER_UPDATE
        return max(legal, self._not_before)

    def transition_at(self) -> float:
        """Return when a transition may go: at once while the budget allows."""
        return self.allowed_at(1 + self.reserve)

    def detail_at(self) -> float:
        """Return when a change of detail may go: promptly at first, ever more slowly after."""
        wait = FIRST_DETAIL * DETAIL_GROWTH ** min(self.updates, FREE_UPDATES) if self.updates else 0.0
        slowest = min(wait, SECONDS_PER_UPDATE)
        return max(self.transition_at(), self.last + slowest)

    def progress_at(self, now: float, fraction: float) -> float:
        """Return when a percentage may go, or when to look at it again.

        It goes when it has moved by its share of what remains: what remains, over the updates that are left and one.
        """
        allowed = self.transition_at()
        if allowed > now:
            return allowed
        moved = abs(fraction - (self.shown or 0.0))
        share = self._share(now, fraction)
        if moved >= share:
            return now
        speed = moved / max(now - self.last, 1e-9)
        until = (share - moved) / speed / 2 if speed > 0 else math.inf
        return now + min(max(until, SHORTEST_LOOK), LONGEST_LOOK)

    def _share(self, now: float, fraction: float) -> float:
        passed = now - (self.started or 0.0)
        total = passed + expected_left(passed, fraction)
        legal = max(FREE_UPDATES, math.floor(min(total / SECONDS_PER_UPDATE, 1e9)))
        left = max(1, legal - self.updates - self.reserve)
        return max(0.0, 1.0 - (self.shown or 0.0)) / (left + 1)


def expected_left(passed: float, fraction: float) -> float:
    """Estimate the seconds that a job still takes from those that passed; beyond as long again it is dampened."""
    if fraction <= 0 or passed <= 0:
        return 0.0
    linear = passed * max(0.0, 1.0 - fraction) / fraction
    return linear if linear <= passed else passed * math.exp(min(DISTRUST * math.log(linear / passed), 600.0))
