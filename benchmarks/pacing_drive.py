"""Drives the shipped `Pacer` over a job the way the dispatcher does, and measures what the phone showed."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from activitysmith_track._pacing import DEFAULT_BUDGET, Budget, Pacer

Array = npt.NDArray[np.float64]


class Run(NamedTuple):
    """What one job got: its updates as (index of the sample, fraction), and how often it was looked at."""

    sent: list[tuple[int, float]]
    looks: int


def drive(p: Array, dt: float = 1.0, budget: Budget = DEFAULT_BUDGET) -> Run:
    """Drive a pace over a job sampled every `dt` seconds, from its first sample, which is the start, to its last.

    Looks come when the pace asks for them; an update goes at a sample, the first from the look on.
    """
    pace = Pacer(0, budget)
    values, changes = p.tolist(), _next_changes(p)
    pace.start(0.0, values[0] if values else 0.0)
    sent: list[tuple[int, float]] = []
    at, looks = 0.0, 0  # in samples; a look may fall between two, where the value is that of the first
    while at < len(values):
        sample = math.floor(at)
        looks += 1
        due = pace.progress_at(at * dt, values[sample])
        if due <= at * dt and at == sample and at > 0:
            pace.sent(at * dt, values[sample])
            sent.append((sample, values[sample]))
            due = pace.progress_at(at * dt, values[sample])
        following = max(due / dt, sample + 1.0) if due <= at * dt else due / dt
        at = min(following, changes[sample]) if pace.wakes else following
    return Run(sent, looks)


def _next_changes(p: Array) -> list[int]:
    """Return for each sample the next one that differs from it."""
    following = np.full(len(p), len(p))
    where = np.flatnonzero(np.diff(p)) + 1
    if len(where):
        places = np.searchsorted(where, np.arange(len(p)), side="right")
        inside = places < len(where)
        following[inside] = where[places[inside]]
    return [int(each) for each in following]


def error(p: Array, sent: list[tuple[int, float]]) -> float:
    """Return the mean error on the screen in percentage points, over all samples."""
    shown = np.empty(len(p))
    edges = [0, *(at for at, _ in sent), len(p)]
    for begin, end, value in zip(edges[:-1], edges[1:], [p[0], *(value for _, value in sent)], strict=True):
        shown[begin:end] = value
    return float(np.abs(p - shown).mean() * 100)


def violations(times: list[float], budget: Budget = DEFAULT_BUDGET) -> int:
    """Count the updates outside the budget."""
    return sum(number > budget.free and number * budget.seconds_per_update > t for number, t in enumerate(times, 1))
