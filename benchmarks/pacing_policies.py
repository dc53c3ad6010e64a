"""The policies that the rule is compared with; each looks at every second and returns its updates."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Sent = list[tuple[int, float]]

FREE, EACH = 12, 120


class Now(NamedTuple):
    """What a policy knows at second `t`: the fraction done and on the screen, and the history in brief."""

    t: int
    p: float
    shown: float
    used: int
    last: int
    area: float
    changes: int


def _legal(now: Now) -> bool:
    return now.used < FREE or (now.used + 1) * EACH <= now.t


def _run(wants: Callable[[Now], bool], p: Array) -> Sent:
    values = p.tolist()
    sent: Sent = []
    shown, last, area, changes = values[0], 0, 0.0, 0
    for t in range(1, len(values)):
        area += values[t - 1] - shown
        changes += values[t] != values[t - 1]
        if values[t] != shown and wants(Now(t, values[t], shown, len(sent), last, area, changes)):
            sent.append((t, values[t]))
            shown, last, area = values[t], t, 0.0
    return sent


def every_120_s(p: Array) -> Sent:
    """One every two minutes."""
    return _run(lambda now: now.t % EACH == 0, p)


def each_percent(p: Array) -> Sent:
    """Each change of 1 % while allowed."""
    return _run(lambda now: _legal(now) and now.p - now.shown >= 0.01, p)


def bucket_taken_literally(p: Array) -> Sent:
    """A token bucket of 12 that refills every 120 s, which is not the budget."""
    return _bucket(p, within=False)


def bucket_within(p: Array) -> Sent:
    """The same, held within the budget."""
    return _bucket(p, within=True)


def _bucket(p: Array, *, within: bool) -> Sent:
    return _run(lambda now: now.used + 1 <= FREE + now.t / EACH and (_legal(now) or not within), p)


def _left(now: Now) -> tuple[float, int]:
    """Return the expected seconds left, drawn in where they are long, and the updates left."""
    even = now.t * (1 - now.p) / now.p
    left = even if even <= now.t else now.t * (even / now.t) ** 0.7
    return left, max(FREE, math.floor((now.t + left) / EACH)) - now.used


def spread(p: Array) -> Sent:
    """What is left, spread evenly over the expected time."""

    def wants(now: Now) -> bool:
        left, updates = _left(now)
        return _legal(now) and updates > 0 and now.t - now.last >= (left + now.t - now.last) / (updates + 1)

    return _run(wants, p)


def threshold(p: Array) -> Sent:
    """When the change reaches what remains over the updates left and one."""

    def wants(now: Now) -> bool:
        return _legal(now) and now.p - now.shown >= (1 - now.shown) / (max(1, _left(now)[1]) + 1)

    return _run(wants, p)


def threshold_and_area(p: Array) -> Sent:
    """The threshold, the error-area rule and "all remaining changes fit", together."""

    def wants(now: Now) -> bool:
        left, updates = _left(now)
        if not _legal(now) or updates <= 0:
            return False
        rest = 1 - now.shown
        hold = 1.8 if updates == 1 else 1.0
        area = 2 * (max(left, 0.2 * now.t) + now.t - now.last) * rest / (2 * (updates + 1) ** 2)
        fits = now.changes * (1 - now.p) / now.p <= updates
        return fits or now.p - now.shown >= hold * rest / (updates + 1) or now.area >= area

    return _run(wants, p)


def area_told_the_duration(p: Array) -> Sent:
    """The plain error-area rule when told how long the job takes, which nobody is."""

    def wants(now: Now) -> bool:
        updates = max(FREE, len(p) // EACH) - now.used
        limit = (len(p) - now.last) * (1 - now.shown) / (2 * (updates + 1) ** 2)
        fits = now.changes * (1 - now.p) / now.p <= updates
        return _legal(now) and updates > 0 and (now.area >= limit or fits)

    return _run(wants, p)


POLICIES: dict[str, Callable[[Array], Sent]] = {
    "every 120 s": every_120_s,
    "each change of 1 % while allowed": each_percent,
    "token bucket 12 + 1/120 s, taken literally": bucket_taken_literally,
    "the same, held within the budget": bucket_within,
    "spread evenly over the expected time": spread,
    "threshold": threshold,
    "threshold + area + all fit": threshold_and_area,
    "area rule told the true duration (nobody is)": area_told_the_duration,
}
