"""Synthetic jobs for the pacing benchmark, in sets that are kept apart.

`TUNED`: the 700 jobs that the rule was built on, and `SPARSE`: 120 more whose changes are few. `APART`: 240 jobs of
other shapes, whose figures were in view while the rule was chosen. `UNSEEN`: 240 of again others, by which nothing
was chosen; they were evaluated once for each form of the rule, when it was finished.

A job is an array `p`: the true fraction done at second `t`, for `t = 0 .. T-1`. Every job is named by its shape, its
nominal duration and a seed, and made from those alone.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


class Job(NamedTuple):
    """One job: where it comes from, and its true fraction done at each second."""

    shape: str
    duration: int
    seed: int
    p: Array


def make(shape: str, duration: int, seed: int) -> Job:
    """Make one job, its length within 15 % of the nominal duration in seconds."""
    rng = random.Random(f"{shape}/{duration}/{seed}")
    length = max(10, round(duration * rng.uniform(0.85, 1.15)))
    x = np.arange(length) / length
    return Job(shape, duration, seed, np.asarray(SHAPES[shape](rng, x), dtype=np.float64))


def _steps(x: Array, lengths: Array) -> Array:
    """Equal steps that take these lengths of time."""
    return np.searchsorted(np.cumsum(lengths) / lengths.sum(), x, side="right") / len(lengths)


def _lognormal(rng: random.Random, number: int, sigma: float) -> Array:
    return np.array([rng.lognormvariate(0, sigma) for _ in range(number)])


def _uniform(rng: random.Random, number: int, low: float, high: float) -> Array:
    return np.array([rng.uniform(low, high) for _ in range(number)])


def _line(spans: Array, works: Array, x: Array) -> Array:
    """Pieces of even speed: these spans of time do these shares of the work."""
    xs, ys = (np.concatenate([[0.0], np.cumsum(each) / each.sum()]) for each in (spans, works))
    return np.interp(x, xs, ys)


# -- the 700 that the rule was built on


def linear(rng: random.Random, x: Array) -> Array:
    """Even speed."""
    return x.copy()


def fast_then_slow(rng: random.Random, x: Array) -> Array:
    """A power that flattens out."""
    return 1 - (1 - x) ** rng.uniform(2, 4)


def slow_then_fast(rng: random.Random, x: Array) -> Array:
    """A power that steepens."""
    return x ** rng.uniform(2, 4)


def last_percent(rng: random.Random, x: Array) -> Array:
    """The last 1 % takes half the time."""
    split = rng.uniform(0.45, 0.55)
    return np.where(x < split, 0.99 * x / split, 0.99 + 0.01 * (x - split) / (1 - split))


def bursts(rng: random.Random, x: Array) -> Array:
    """Runs of work with idle plateaus between them."""
    n, duty = rng.randint(3, 8), rng.uniform(0.3, 0.6)
    busy, idle, work = (_uniform(rng, n, 0.3, 1) for _ in range(3))
    busy, idle, work = busy / busy.sum() * duty, idle / idle.sum() * (1 - duty), work / work.sum()
    xs, ys = [0.0], [0.0]
    for b, i, w in zip(busy, idle, work, strict=True):
        xs += [xs[-1] + b, xs[-1] + b + i]
        ys += [ys[-1] + w] * 2
    return np.interp(x, xs, ys)


def random_walk(rng: random.Random, x: Array) -> Array:
    """A speed whose logarithm wanders."""
    z, logs = 0.0, []
    for _ in range(60):
        z = 0.9 * z + rng.gauss(0, 0.5)
        logs.append(z)
    done = np.cumsum(np.exp(np.interp(x, np.linspace(0, 1, 60), logs)))
    return np.concatenate([[0], done[:-1]]) / done[-1]


def twelve_steps(rng: random.Random, x: Array) -> Array:
    """Twelve steps of log-normal length."""
    return _steps(x, _lognormal(rng, 12, rng.uniform(0.5, 1.25)))


# -- 120 more for jobs whose changes are few, of which the 700 have one kind alone


def gamma_steps(rng: random.Random, x: Array) -> Array:
    """Fifteen to sixty steps whose lengths are gamma distributed: from even to very uneven."""
    shape = 0.5 * 16 ** rng.random()
    return _steps(x, np.array([rng.gammavariate(shape, 1) for _ in range(rng.randint(15, 60))]))


def weibull_items(rng: random.Random, x: Array) -> Array:
    """Eighty to three hundred items whose lengths are Weibull distributed."""
    shape = 0.5 * 6 ** rng.random()
    return _steps(x, np.array([rng.weibullvariate(1, shape) for _ in range(rng.randint(80, 300))]))


# -- the 240 apart


def s_curve(rng: random.Random, x: Array) -> Array:
    """Slow, fast, slow."""
    middle, steep = rng.uniform(0.35, 0.65), rng.uniform(6, 14)
    low, high = (1 / (1 + np.exp(-steep * (end - middle))) for end in (0.0, 1.0))
    return (1 / (1 + np.exp(-steep * (x - middle))) - low) / (high - low)


def late_start(rng: random.Random, x: Array) -> Array:
    """Nothing for a good while, then even speed."""
    begin = rng.uniform(0.2, 0.6)
    return np.clip((x - begin) / (1 - begin), 0, None)


def two_speeds(rng: random.Random, x: Array) -> Array:
    """Two even speeds, up to ten times apart."""
    split, ratio = rng.uniform(0.2, 0.8), 10 ** rng.uniform(-1, 1)
    return _line(np.array([split, 1 - split]), np.array([split * ratio, 1 - split]), x)


def heavy_items(rng: random.Random, x: Array) -> Array:
    """Items of one size in the count whose durations have a heavy tail."""
    number = rng.randint(40, 400)
    return _steps(x, np.array([rng.paretovariate(1.3) for _ in range(number)]))


def retries(rng: random.Random, x: Array) -> Array:
    """Even work that stalls a few times, ever longer within a stall."""
    number = rng.randint(2, 6)
    spans = np.ravel(np.column_stack([_uniform(rng, number, 0.5, 1.5), 0.15 * 2.0 ** _uniform(rng, number, 0, 3.5)]))
    works = np.ravel(np.column_stack([spans[::2], np.zeros(number)]))
    return _line(np.append(spans, 1.0), np.append(works, 1.0), x)


def five_steps(rng: random.Random, x: Array) -> Array:
    """Five steps of log-normal length."""
    return _steps(x, _lognormal(rng, 5, rng.uniform(0.3, 1.2)))


def thirty_steps(rng: random.Random, x: Array) -> Array:
    """Thirty steps of log-normal length."""
    return _steps(x, _lognormal(rng, 30, rng.uniform(0.3, 1.2)))


def hundred_steps(rng: random.Random, x: Array) -> Array:
    """A hundred steps of log-normal length."""
    return _steps(x, _lognormal(rng, 100, rng.uniform(0.3, 1.2)))


# -- the 240 unseen


def plateaus_and_jumps(rng: random.Random, x: Array) -> Array:
    """Plateaus, slopes and sudden jumps in random order."""
    spans, works = [], []
    for _ in range(rng.randint(6, 14)):
        kind = rng.choice(["plateau", "slope", "jump"])
        spans.append({"plateau": rng.uniform(0.2, 2), "slope": rng.uniform(0.2, 2), "jump": 1e-4}[kind])
        works.append({"plateau": 0.0, "slope": rng.uniform(0.2, 2), "jump": rng.uniform(0.2, 1.5)}[kind])
    return _line(np.array([*spans, 0.5]), np.array([*works, 0.5]), x)


def logarithmic(rng: random.Random, x: Array) -> Array:
    """A logarithm: ever slower."""
    scale = 10 ** rng.uniform(0.5, 2.5)
    return np.log1p(scale * x) / np.log1p(scale)


def warm_up_and_tail(rng: random.Random, x: Array) -> Array:
    """A slow warm-up, an even middle, a long tail of the last few per cent."""
    spans = np.array([rng.uniform(0.05, 0.3), rng.uniform(0.3, 0.7), rng.uniform(0.1, 0.4)])
    return _line(spans, np.array([rng.uniform(0.005, 0.05), 1.0, rng.uniform(0.02, 0.1)]), x)


def checkpoints(rng: random.Random, x: Array) -> Array:
    """Even epochs with a pause for a checkpoint after each."""
    number, pause = rng.randint(3, 25), rng.uniform(0.1, 0.8)
    spans = np.tile([1.0, pause], number)
    return _line(spans, np.tile([1.0, 0.0], number), x)


def backoff(rng: random.Random, x: Array) -> Array:
    """Work in chunks with pauses that double, then start anew."""
    number, every = rng.randint(6, 16), rng.randint(3, 6)
    pauses = np.array([0.1 * 2.0 ** (i % every) for i in range(number)])
    spans = np.ravel(np.column_stack([_uniform(rng, number, 0.2, 0.6), pauses]))
    return _line(spans, np.ravel(np.column_stack([np.ones(number), np.zeros(number)])), x)


def uneven_steps(rng: random.Random, x: Array) -> Array:
    """Two to sixty steps of unequal weight and length."""
    number = round(2 * 30 ** rng.random())
    ends = np.cumsum(_lognormal(rng, number, 1.0))
    done = np.cumsum(_lognormal(rng, number, 0.8))
    return np.concatenate([[0.0], done / done[-1]])[np.searchsorted(ends / ends[-1], x, side="right")]


def noisy_line(rng: random.Random, x: Array) -> Array:
    """Even on the whole; each second does an exponential share."""
    gains = np.array([rng.expovariate(1.0) ** rng.uniform(1, 3) for _ in x])
    done = np.cumsum(gains)
    return np.concatenate([[0.0], done[:-1]]) / done[-1]


def phases(rng: random.Random, x: Array) -> Array:
    """Three to seven phases of even speed, speeds up to thirty times apart."""
    number = rng.randint(3, 7)
    spans = _uniform(rng, number, 0.2, 1)
    return _line(spans, spans * np.array([30 ** rng.random() for _ in range(number)]), x)


SHAPES: dict[str, Callable[[random.Random, Array], Any]] = {
    "linear": linear,
    "fast-then-slow": fast_then_slow,
    "slow-then-fast": slow_then_fast,
    "bursts": bursts,
    "randwalk": random_walk,
    "last1%": last_percent,
    "12 steps": twelve_steps,
    "gamma steps": gamma_steps,
    "weibull items": weibull_items,
    "S-curve": s_curve,
    "late start": late_start,
    "two speeds": two_speeds,
    "heavy items": heavy_items,
    "retries": retries,
    "5 steps": five_steps,
    "30 steps": thirty_steps,
    "100 steps": hundred_steps,
    "plateaus and jumps": plateaus_and_jumps,
    "logarithmic": logarithmic,
    "warm-up and tail": warm_up_and_tail,
    "checkpoints": checkpoints,
    "backoff": backoff,
    "uneven steps": uneven_steps,
    "noisy line": noisy_line,
    "phases": phases,
}
_NAMES = list(SHAPES)
_MEDIUM = [45, 180, 600, 1800, 3600, 7200]  # seconds
TUNED = list(itertools.product(_NAMES[:7], [30, 120, 600, 3600, 21600], range(20)))
SPARSE = list(itertools.product(_NAMES[7:9], _MEDIUM, range(10)))
APART = list(itertools.product(_NAMES[9:17], _MEDIUM, range(5)))
UNSEEN = list(itertools.product(_NAMES[17:], _MEDIUM, range(5)))
SETS = {"tuned": TUNED, "sparse": SPARSE, "apart": APART, "unseen": UNSEEN}


def jobs(name: str) -> Iterator[Job]:
    """Make the jobs of a set."""
    return (make(*each) for each in SETS[name])
