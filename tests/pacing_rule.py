"""The rule of `docs/pacing.md` for percentages, worked out at each look from all that was seen.

`Pacer` keeps a handful of sums in the place of this history. The letters are those of the page.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import NamedTuple

from activitysmith_track._pacing import Pacer


class Change(NamedTuple):
    """A step forward, which happened at some time between two ages of the job."""

    since: float
    until: float
    size: float

    def weight(self) -> float:
        """Return the mean of the cube of the job's age over the time in which it happened (Simpson's rule)."""
        middle = (self.since + self.until) / 2
        return (self.since**3 + 4 * middle**3 + self.until**3) / 6


@dataclass
class Rule:
    """What was seen of a job, and whether an update is due by the page's rule.

    The updates that went are those of the pace, which is only asked for what it counts, never for what it decides.
    """

    pace: Pacer
    begun: float
    origin: float
    changes: list[Change] = field(default_factory=list)
    area: float = 0.0

    def __post_init__(self) -> None:
        self.seen, self.seen_at = self.origin, self.begun

    def look(self, now: float, fraction: float, *, woken: bool) -> None:
        """See a fraction; `woken` where the look came with the change and not some time after it."""
        shown = self.pace.shown or 0.0
        passed = max(0.0, now - self.seen_at)
        errors = [abs(self.seen - shown), abs((self.seen if woken else fraction) - shown)]
        self.area += passed * sum(errors) / 2
        before, self.seen, self.seen_at = self.seen, fraction, max(now, self.seen_at)
        if fraction < before and fraction > self.origin:  # the whole has grown, and each part is less of it
            part = (fraction - self.origin) / (before - self.origin)
            self.changes = [each._replace(size=each.size * part) for each in self.changes]
        elif fraction < before:
            self.begun, self.origin, self.changes = self.seen_at, fraction, []
        elif fraction > before and self.seen_at - self.begun > self.last_change + 1e-6:
            self.changes.append(Change(self.last_change, self.seen_at - self.begun, fraction - before))

    @property
    def last_change(self) -> float:
        """The job's age when it last moved."""
        return self.changes[-1].until if self.changes else 0.0

    def usual(self) -> tuple[float, float]:
        """Return `d` and `g`: the usual size of a change, and the usual seconds between two."""
        count = sum(each.weight() for each in self.changes)
        if not count:
            return 0.0, 0.0
        return self.moment() / count, self.last_change**4 / 4 / count

    def moment(self) -> float:
        """Return `M`."""
        return sum(each.weight() * each.size for each in self.changes)

    def time_left(self, now: float) -> float:
        """Return `S`: how long the job still takes at its recent speed, drawn in towards the time passed."""
        age, done = self.last_change, self.seen - self.origin
        if not self.changes or done <= 1e-12:
            return max(0.0, now - self.begun)
        speed = max(4 * self.moment() / age**4, done / age / 1000)
        times = (1 - self.seen) / speed / age
        return float(age * times ** (0.7 if times > 1 else 0.6))

    def spans(self, now: float) -> list[tuple[float, int]]:
        """Return for how many seconds how many updates must last."""
        pace, left, age = self.pace, self.time_left(now), max(0.0, now - self.pace.started)
        kept = pace.reserve
        if pace.transitions:
            wanted = round(pace.transitions * left / max(age, 1.0))
            kept += min(wanted, max(0, self.legal(age + left) - pace.updates - pace.reserve) // 2)
        used = pace.updates + kept
        end = min(left, max(7.75 * 3600 - age, 0.0))
        spans = [(end, max(1, self.legal(age + end) - used))]
        free = pace.budget.free
        again = (free + 1) * pace.budget.seconds_per_update - age
        if used < free and 0 < again < left:
            spans.append((again, free - used))
        return spans

    def legal(self, seconds: float) -> int:
        """Return how many updates are legal so many seconds after the start."""
        return max(self.pace.budget.free, math.floor(seconds / self.pace.budget.seconds_per_update))

    def excess(self, now: float) -> float:
        """Return by how much an update is due at a time, if nothing moves until then: from 0 on it goes."""
        e = abs(self.seen - (self.pace.shown or 0.0))
        if not e:
            return -math.inf
        (d, g), left = self.usual(), self.time_left(now)
        s = now - self.begun - self.last_change
        area = self.area + e * (max(0.0, now - self.seen_at) + abs(g - s) - g / 2)
        w = e / (e + 4 * d)
        excess = math.inf
        for seconds, k in self.spans(now):
            rest = (1 - self.seen) * (min(1.0, seconds / left) if left else 1.0)
            worth = (seconds + max(0.0, now - self.pace.last)) * (e + rest) / (2 * (k + 1) ** 2)
            even = _log(area) - _log(worth)
            if w == 1:  # no step was seen: the area decides alone
                excess = min(excess, even)
            elif rest:  # else there is nothing more to save an update for
                share, lasts = (k - 0.5) * (e + d / 2), max(s, g) / g
                steps = 2 * (_log(share) - _log(rest)) + _log(lasts)
                excess = min(excess, w * even + (1 - w) * steps)
        return excess


def _log(value: float) -> float:
    return math.log(value) if value > 0 else -1e9
