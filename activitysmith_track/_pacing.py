"""When the budget lets an update of one card go: pure, no clock and no I/O of its own.

`delivery.screen` applies it to what the card shows. Then the update waits for the delay and the slot of its card
(`Activity.run`), for its turn among the cards (`UpdateQueue.run`) and for the account's rate (`Account.open_at`).

The service's budget: the n-th update of an activity, `t` seconds after its start, is within budget when
`n <= 12 or n <= t / 120`. It is `max(12, t / 120)`, not their sum: after 12 updates the 13th waits for minute 26. So
percentages are spread over the time that the job is expected to take, and only transitions go at once.

The protocol: ask `progress_at(now, fraction)`. If it returns a time up to `now`, send an update and call `sent`; if
it returns a later time, ask again then. If `wakes` is True afterwards, nothing moves at present: ask again at the
next change, too, if that comes first. If it is False the job is moving, and no change before that time is worth a
look. So the looks at a job are few, however often it changes: see `LOOKS_PER_AGE`.

The rule for percentages (`docs/pacing.md` has its reasons) weighs two conditions. One is for a job that moves all the
time: the error on the screen, summed over the time since the last update, reaches what an update is worth later on.
The other is for a job of few steps, whose lengths so far foretell nothing: the error reaches an even share of the
progress still to come. The more steps the screen lacks, the more the first condition counts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ._forecast import Forecast
from .errors import InvalidRequest

CARD_LIFE = 8 * 3600.0  # seconds after which iOS ends an activity
ROTATE_AFTER = CARD_LIFE - 900.0  # seconds after which a card is best replaced by a fresh one

FIRST_PENALTY = 600.0  # seconds of silence after a warning, doubled by each further one
FIRST_DETAIL, DETAIL_GROWTH = 2.0, 1.8  # seconds before the second change of detail; each next waits that much longer
MOST_GROWN = 50  # times that this wait grows at most; it is longer than any job then
LEAST_LOOK_SECONDS, MOST_LOOK_SECONDS = 0.05, 30.0  # seconds between two looks at a job that moves
LOOKS_PER_AGE = 300  # looks at a moving job are apart by at least its age divided by this

FEW_STEPS = 4.0  # steps that the screen lacks when both conditions of the rule count alike
SPARE = 0.5  # updates that are not counted on when the steps to come are shared out
LONGEST_STALL = 4.0  # ages of the job after which a percentage that stands still is sent anyway


@dataclass(frozen=True, slots=True)
class Budget:
    """How often an activity may be updated.

    Attributes:
        free: updates that may go at any time, 1 or more.
        seconds_per_update: seconds for each update on average, more than 0, once the free ones are spent.
        min_interval: seconds, 0 or more, that are at least between two updates for changes of a percentage or a
            reading; `None` spreads these over the expected time instead.
        every_change: True to send each change at once, for as long as the budget allows.

    Raises:
        InvalidRequest: for anything else.
    """

    free: int = 12
    seconds_per_update: float = 120.0
    min_interval: float | None = None
    every_change: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.free, bool) or not isinstance(self.free, int) or self.free < 1:
            raise InvalidRequest("free", self.free, "a number of updates, at least 1")
        if not _is_seconds(self.seconds_per_update) or self.seconds_per_update <= 0:
            raise InvalidRequest("seconds_per_update", self.seconds_per_update, "seconds, more than 0")
        if self.min_interval is not None and (not _is_seconds(self.min_interval) or self.min_interval < 0):
            raise InvalidRequest("min_interval", self.min_interval, "seconds, 0 or more, or None")
        if not isinstance(self.every_change, bool):
            raise InvalidRequest("every_change", self.every_change, "True or False")

    def legal_at(self, number: int) -> float:
        """Return the seconds after the start from which the update of this number, counted from 1, is legal."""
        return 0.0 if number <= self.free else number * self.seconds_per_update

    def by(self, seconds: float) -> int:
        """Return how many updates are legal so many seconds after the start."""
        return max(self.free, math.floor(max(seconds, 0.0) / self.seconds_per_update))


def _is_seconds(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


DEFAULT_BUDGET = Budget()


class Pacer:
    """The updates of one activity so far, and when the next may follow.

    Times are seconds of any one clock; one that jumps may delay updates, but never breaks the budget.

    Args:
        reserve: updates to keep in hand for a last state that must not wait.
        budget: how often the activity may be updated.

    Attributes:
        updates: how many were sent.
        shown: the fraction on the screen, or `None`.
        wakes: True where `progress_at` is to be asked again at the next change.
    """

    __slots__ = (
        "_area",
        "_flush",
        "_forecast",
        "_not_before",
        "_penalty",
        "_withheld",
        "_withheld_until",
        "budget",
        "last",
        "reserve",
        "shown",
        "started",
        "transitions",
        "updates",
        "wakes",
    )

    def __init__(self, reserve: int = 0, budget: Budget = DEFAULT_BUDGET) -> None:
        self.reserve = reserve
        self.budget = budget
        self.updates = self.transitions = 0
        self.started = self.last = 0.0
        self.shown: float | None = None
        self.wakes = False
        self._not_before = -math.inf
        self._withheld, self._withheld_until = 0, 0.0
        self._penalty = FIRST_PENALTY
        self._forecast = Forecast()
        self._area = 0.0  # error summed since the last update
        self._flush = math.inf  # when the percentage is sent if nothing moves

    # -- what happened

    def start(self, now: float, fraction: float | None, *, fresh: bool = True) -> None:
        """Note that the activity began, or was replaced by a fresh one.

        Args:
            now: seconds, any clock.
            fraction: what the phone shows, 0 to 1.
            fresh: False where the activity ran before: its free updates may be spent, and this start was an update.
        """
        self.started, self.last, self.shown = now, now, fraction
        self.updates = 0 if fresh else self.budget.free + 1
        if self._forecast.begun is None:
            self._forecast.begin(now, fraction or 0.0)
        self._area, self._flush = 0.0, math.inf

    def sent(self, now: float, fraction: float | None, *, transition: bool = False, updates: int = 1) -> None:
        """Note an update that reached the service, or may have.

        Args:
            now: seconds.
            fraction: what the phone shows, 0 to 1.
            transition: whether it was one.
            updates: how many updates iOS may count for it, 0 where it changed nothing.
        """
        self.updates += updates
        self.transitions += transition
        self.last, self.shown = now, fraction
        self._area, self._flush = 0.0, math.inf

    def warned(self, now: float) -> None:
        """Note that the service warned of the budget: others may have spent from it, so no saved updates are left."""
        self.updates = max(self.updates, self.budget.by(now - self.started) + 1)
        self.hold(now + self._penalty)
        self._penalty *= 2

    def hold(self, until: float) -> None:
        """Send nothing before a time."""
        if until > self._not_before:
            self._not_before = until

    def withhold(self, updates: int, until: float) -> None:
        """Keep updates in hand until a time, since late requests may still have to be counted."""
        self._withheld, self._withheld_until = updates, until

    # -- when may it go?

    def allowed_at(self, ahead: int) -> float:
        """Return the earliest time at which the budget allows the `ahead`-th update from now on."""
        legal = self.started + self.budget.legal_at(self.updates + ahead)
        if self._withheld:
            withheld = self.started + self.budget.legal_at(self.updates + self._withheld + ahead)
            legal = min(withheld, max(legal, self._withheld_until))
        return max(legal, self._not_before)

    def transition_at(self) -> float:
        """Return when a transition may go: at once while the budget allows."""
        return self.allowed_at(1 + self.reserve)

    def detail_at(self) -> float:
        """Return when a change of detail may go: promptly at first, ever more slowly after."""
        return self.reading_at(1.0)

    def reading_at(self, change: float) -> float:
        """Return when a reading may go, large changes sooner than small ones.

        Args:
            change: how far it is from the one shown, relative to the range seen, 0 to 1; see `Range`.
        """
        fixed = self._fixed_at()
        if fixed is not None:
            return fixed
        wait = FIRST_DETAIL * DETAIL_GROWTH ** min(self.updates - 1, MOST_GROWN) if self.updates else 0.0
        slowest = self.budget.seconds_per_update
        patience = 1.0 / min(max(change, 0.25), 1.0) if change == change else 1.0
        return max(self.transition_at(), self.last + min(wait, slowest) * patience)

    @property
    def rotate_at(self) -> float:
        """When the card is best replaced by a fresh one, with a budget of its own, before iOS ends the card."""
        return self.started + ROTATE_AFTER

    def _fixed_at(self) -> float | None:
        """Return when any change may go if the budget sets `min_interval` or `every_change`; else `None`."""
        if self.budget.every_change:
            return self.transition_at()
        if self.budget.min_interval is not None:
            return max(self.transition_at(), self.last + self.budget.min_interval)
        return None

    def progress_at(self, now: float, fraction: float) -> float:
        """Return when a percentage may go, or when to ask again; see the protocol above.

        Args:
            now: seconds.
            fraction: the true part done; NaN counts as no change.
        """
        if fraction != fraction:
            fraction = self._forecast.seen
        fraction = min(max(fraction, 0.0), 1.0)
        moved = self._look(now, fraction)
        due = self._fixed_at()
        if due is None:
            due = self._spread_at(now, fraction, moved)
        else:
            self.wakes = False
        if fraction == self.shown:
            self.wakes, due = True, math.inf
        return due

    def _spread_at(self, now: float, fraction: float, moved: bool) -> float:
        allowed = self.transition_at()
        if allowed > now:
            self.wakes = False
            return allowed
        if now >= self._flush or self._is_due(now, fraction):
            return now
        self.wakes = not moved
        if moved:
            return self.look_at(now)
        if self._flush == math.inf:
            self._flush = self._stalled_until(now, fraction)
        return self._flush

    def _look(self, now: float, fraction: float) -> bool:
        """Sum the error since the last look, and learn from this one; True where something has moved since then."""
        forecast, shown = self._forecast, self.shown or 0.0
        if forecast.begun is None:
            forecast.begin(now, shown)
        since, before = max(0.0, now - forecast.seen_at), forecast.seen
        error = abs(before - shown)
        moved = fraction != before
        if moved and not self.wakes:  # it moved at some time in between
            error = (error + abs(fraction - shown)) / 2
        self._area += error * since
        if moved:
            self._flush = math.inf
        forecast.look(now, fraction)
        return moved

    # -- is it worth an update?

    def _is_due(self, now: float, fraction: float) -> bool:
        """Tell whether the error is worth one of the updates that are left; asked at a look, or ahead of a stall.

        This is "Between the two" of `docs/pacing.md`: the weighted geometric mean of two quotients is at least 1. One
        is the error summed since the last update over what an update is worth, the other the share of progress that
        the screen lacks over an even share of it. It must be so for each period that the updates have to last for.
        """
        forecast = self._forecast
        error, ahead = abs(fraction - (self.shown or 0.0)), 1.0 - fraction
        if error == 0:
            return False
        step, gap = forecast.step_and_gap()
        left, stood = forecast.seconds_left(now, fraction), now - forecast.changed
        wait = max(0.0, now - forecast.seen_at) + abs(gap - stood) - gap / 2  # the rest of the gap, or as long again
        area = max(0.0, self._area + error * wait)
        by_area = error / (error + FEW_STEPS * step)  # how much the first quotient counts, 0 to 1
        by_steps = 1 - by_area
        for seconds, updates in self._horizons(now, left):
            rest = ahead * (min(1.0, seconds / left) if left > 0 else 1.0)
            worth = (seconds + max(0.0, now - self.last)) * (error + rest) / (2 * (updates + 1) ** 2)
            lacking = ((updates - SPARE) * (error + step / 2)) ** 2 * max(gap, stood)
            even = rest**2 * gap
            # Each quotient stands with its denominator on the other side, since that may be 0.
            if area**by_area * lacking**by_steps < worth**by_area * even**by_steps:
                return False
        return True

    def _horizons(self, now: float, left: float) -> list[tuple[float, int]]:
        """Return periods from now on, in seconds, each with the updates that must last for it.

        One ends when the job ends or its card is replaced. Another, while free updates are left, ends when more than
        these are legal.
        """
        age = max(0.0, now - self.started)
        used = self.updates + self._kept(age, left)
        end = min(left, max(ROTATE_AFTER - age, 0.0))
        horizons = [(end, max(1, self.budget.by(age + end) - used))]
        blind = self._legal_again(age)
        if used < self.budget.free and 0 < blind < left:
            horizons.append((blind, self.budget.free - used))
        return horizons

    def _legal_again(self, age: float) -> float:
        """Return the seconds until more than the free updates are legal."""
        return self.budget.legal_at(self.budget.free + 1) - age

    def _kept(self, age: float, left: float) -> int:
        """Return how many updates to keep: the reserve, and at most half of the rest for transitions as so far."""
        if not self.transitions:
            return self.reserve
        expected = round(self.transitions * left / max(age, 1.0))
        return self.reserve + min(expected, max(0, self.budget.by(age + left) - self.updates - self.reserve) // 2)

    # -- when to look again

    def look_at(self, now: float) -> float:
        """Return when to look again at a job that moves: the older it is, the less often."""
        age = 0.0 if self._forecast.begun is None else self._forecast.age(now)
        return now + min(max(LEAST_LOOK_SECONDS, age / LOOKS_PER_AGE), MOST_LOOK_SECONDS)

    def _stalled_until(self, now: float, fraction: float) -> float:
        """Return when this fraction is sent if it stays as it is."""
        early, late = now, now + LEAST_LOOK_SECONDS
        horizon = now + max(self._forecast.age(now), 60.0) * LONGEST_STALL
        while late < horizon and not self._is_due(late, fraction):
            early, late = late, late + 2 * (late - now)
        for _ in range(30):
            middle = (early + late) / 2
            early, late = (early, middle) if self._is_due(middle, fraction) else (middle, late)
        return min(late, horizon)


@dataclass(slots=True)
class Range:
    """The range of the numbers seen so far, against which a change is measured."""

    low: float = math.inf
    high: float = -math.inf

    def change(self, shown: float, value: float) -> float:
        """Take a number in, and return how far it is from the one shown, 0 to 1 of the range seen."""
        if not (math.isfinite(value) and math.isfinite(shown)):
            return 0.0 if shown == value else 1.0
        self.low, self.high = min(self.low, value, shown), max(self.high, value, shown)
        span = self.high - self.low
        return abs(value - shown) / span if span > 0 else 0.0
