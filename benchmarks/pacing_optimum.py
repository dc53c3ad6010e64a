"""The exact offline optimum of a job: the least error that any schedule within the budget could have.

The dynamic programme is the one of the definition: with `best[a]` the least summed error up to second `a` with the
last update there, one more update at `b` makes it `best[a] + P[b] - P[a] - (b - a) p[a]`, `P` the running sum of `p`.
For progress that never falls that cost is a Monge array, as its cross difference `(b' - b)(p[a] - p[a'])` is never
above 0, so the best `a` never moves back as `b` grows, and the minima of one layer are found in `O(T log T)` instead
of `O(T^2)` by halving: the middle `b` first, each half then only between its neighbours' best `a`. numpy does a level
at a time.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

FREE_UPDATES, SECONDS_PER_UPDATE = 12, 120
VISIBLE_ERROR = 0.25  # percentage points: the mean error of a whole-number percentage


def optimum(p: Array) -> float:
    """Return the least mean error in percentage points, or a figure below `VISIBLE_ERROR` where it is below that.

    Args:
        p: the fraction done at each second, never falling.

    The start state is on the screen at second 0, the end replaces it at `len(p)`; update `n` may go at second `t`
    when `n <= 12 or n * 120 <= t`. More updates are not tried once the error is too small to be seen.
    """
    total = len(p)
    seconds = np.arange(total, dtype=np.float64)
    prefix = np.concatenate([[0.0], np.cumsum(p)])
    tail = prefix[total] - prefix[:total] - (total - seconds) * p  # the error after a last update at each second
    best = np.where(seconds == 0, 0.0, np.inf)
    answer = float(tail[0])
    since = 0  # the first second at which the update before may have gone
    for n in range(1, max(FREE_UPDATES, (total - 1) // SECONDS_PER_UPDATE) + 1):
        if answer / total * 100 < VISIBLE_ERROR:
            break
        heights = best - prefix[:total] + seconds * p
        until = 1 if n == 1 else total  # only second 0 can precede the first update
        earliest = 1 if n <= FREE_UPDATES else n * SECONDS_PER_UPDATE
        best = np.full(total, np.inf)
        best[earliest:] = _lowest(p[since:until], heights[since:until], seconds[earliest:]) + prefix[earliest:total]
        answer = min(answer, float(np.min(best + tail)))
        since = earliest
    return answer / total * 100


def _lowest(slopes: Array, heights: Array, at: Array) -> Array:
    """Return the minimum over the lines `heights - b * slopes` at each `b` of `at`; slopes never fall, `at` rises.

    A line may be one of a later second than `b`: it never wins, for its update could as well have gone at `b`.
    """
    number, last = len(at), len(slopes) - 1
    values, where = np.empty(number), np.zeros(number, dtype=np.int64)
    stride = 1 << number.bit_length()
    while stride := stride // 2:
        middle = np.arange(stride - 1, number, 2 * stride)
        if len(middle):
            before, after = middle - stride, middle + stride
            lows = np.where(before >= 0, where[before], 0)
            highs = np.where(after < number, where[np.minimum(after, number - 1)], last)
            values[middle], where[middle] = _minima(slopes, heights, at[middle], lows, np.maximum(lows, highs))
    return values


def _minima(
    slopes: Array, heights: Array, at: Array, lows: npt.NDArray[np.int64], highs: npt.NDArray[np.int64]
) -> tuple[Array, npt.NDArray[np.int64]]:
    """Return the least value and its line for each `b`, among its own range of lines."""
    lengths = highs - lows + 1
    ends = np.cumsum(lengths)
    begins = ends - lengths
    line = np.arange(ends[-1]) - np.repeat(begins - lows, lengths)
    found = heights[line] - np.repeat(at, lengths) * slopes[line]
    least = np.minimum.reduceat(found, begins)
    hits = np.flatnonzero(found == np.repeat(least, lengths))
    return least, line[hits[np.searchsorted(hits, begins)]]


def schedule(p: Array) -> list[tuple[int, float]]:
    """Return the updates of a best schedule for a job short enough for the plain quadratic programme."""
    total = len(p)
    prefix = np.concatenate([[0.0], np.cumsum(p)])
    ends = np.arange(total)
    best = np.where(ends == 0, 0.0, np.inf)
    layers, parents = [best], [np.zeros(total, dtype=np.int64)]
    for n in range(1, max(FREE_UPDATES, (total - 1) // SECONDS_PER_UPDATE) + 1):
        following, parent = np.full(total, np.inf), np.zeros(total, dtype=np.int64)
        for b in range(1 if n <= FREE_UPDATES else n * SECONDS_PER_UPDATE, total):
            costs = best[:b] + prefix[b] - prefix[:b] - (b - ends[:b]) * p[:b]
            parent[b] = int(np.argmin(costs))
            following[b] = costs[parent[b]]
        best = following
        layers.append(best)
        parents.append(parent)
    tail = prefix[total] - prefix[:total] - (total - ends) * p
    n = int(np.argmin([np.min(each + tail) for each in layers]))
    at, sent = int(np.argmin(layers[n] + tail)), []
    while n:
        sent.append((at, float(p[at])))
        at, n = int(parents[n][at]), n - 1
    return sent[::-1]
