"""What a job's percentages so far tell of the rest: how it moves, in what steps, and how long it still takes.

Pure, as `_pacing` is, which decides by it; `docs/pacing.md` has the reasons.
"""

from __future__ import annotations

INSTANT = 1e-6  # seconds; a change that follows another one sooner teaches nothing
LEAST_PROGRESS = 1e-12  # a fraction; less progress than this allows no forecast
RECENCY = 3.0  # a change at age s counts with s to this power in the speed, so that recent changes count more
FAR, NEAR = 0.7, 0.6  # exponents that draw a longer, or a shorter, forecast towards the job's age
SLOWEST = 1e-3  # of the average speed: the least that a forecast assumes, so that a stall has an end


class Forecast:
    """What was seen of one job, kept as a handful of sums. Times are seconds of any one clock, and may jump.

    Attributes:
        begun: when the job began, or began anew; `None` before anything was seen of it.
        seen: the fraction at the last look, 0 to 1.
        seen_at: when that was.
        changed: when a change was last seen.
    """

    __slots__ = ("_changes", "_origin", "_progress", "begun", "changed", "seen", "seen_at")
    begun: float | None

    def __init__(self) -> None:
        self.begin(0.0, 0.0)
        self.begun = None

    def begin(self, now: float, fraction: float) -> None:
        """Forget what was learnt: the job begins at this time, with this fraction done."""
        self.begun = now
        self._origin = self.seen = fraction
        self.seen_at = self.changed = now
        self._progress = self._changes = 0.0  # weighted sums of progress and of changes; see `RECENCY`

    def age(self, now: float) -> float:
        """Return for how many seconds the job has run; a clock that was set back makes it less than 0."""
        return now - (self.begun or 0.0)

    # -- what is learnt

    def look(self, now: float, fraction: float) -> None:
        """Learn from a look at the fraction that is done now."""
        now = max(now, self.seen_at)
        if fraction < self.seen:
            self._fall_back(now, fraction)
        elif fraction > self.seen:
            self._learn(now, fraction - self.seen)
        self.seen, self.seen_at = fraction, now

    def _learn(self, now: float, change: float) -> None:
        """Add a change to the weighted sums, spread evenly over the time since the change before."""
        early, late = self.age(self.changed), self.age(now)
        if late - early > INSTANT:
            power = RECENCY + 1
            weight = (late**power - early**power) / (power * (late - early))
            self._progress += weight * change
            self._changes += weight
            self.changed = now

    def _fall_back(self, now: float, fraction: float) -> None:
        """Take a fall as a total that grew: scale what was learnt by how much less of the whole is done now."""
        done, change = self.seen - self._origin, fraction - self.seen
        if done + change > 0:
            self._progress *= (done + change) / done
        else:
            self.begin(now, self.seen + change)

    # -- what is foretold

    def step_and_gap(self) -> tuple[float, float]:
        """Return the recent average of a change's size, and of the seconds between two; 0 before the first change."""
        if not self._changes:
            return 0.0, 0.0
        power, age = RECENCY + 1, self.age(self.changed)
        return max(self._progress / self._changes, 0.0), age**power / (power * self._changes)

    def seconds_left(self, now: float, fraction: float) -> float:
        """Forecast how long the job still takes, from its recent speed when it last moved."""
        age, done = self.age(self.changed), fraction - self._origin
        if not age or done <= LEAST_PROGRESS:
            return max(self.age(now), 0.0)
        power = RECENCY + 1
        speed = max(power * self._progress / age**power, SLOWEST * done / age)
        ratio = (1.0 - fraction) / (speed * age)
        return float(age * ratio ** (FAR if ratio > 1 else NEAR))
