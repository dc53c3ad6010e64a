"""What no policy can do better: jobs whose steps take exponential times, against one that knows all but those.

    python benchmarks/pacing_bound.py

Exponential times have no memory: however long a step has lasted, it is expected to last as long again as any. So
waiting tells nothing, and the best that a policy can do without seeing the future follows from a small exact
programme over the steps to come, the steps not shown and the updates left, even for one that knows the number of
steps and their mean time. The optimum in hindsight is lower, for it knows which steps will be short and skips those.
"""

from __future__ import annotations

import functools
import random

import numpy as np
from pacing_drive import drive, error
from pacing_optimum import FREE_UPDATES, optimum

SECONDS = 600


@functools.cache
def causal(steps: int, unseen: int, updates: int) -> float:
    """Return the least expected error, in steps times their mean time, with so many steps still to begin."""
    if steps == 0:
        return 0.0
    hold = unseen + causal(steps - 1, unseen + 1, updates)
    return hold if not (updates and unseen) else min(hold, causal(steps - 1, 1, updates - 1))


def main(seeds: int = 40) -> None:
    """Print the bound, the optimum in hindsight and our rule, as means over jobs of each number of steps."""
    print("| steps | best without the future | optimum in hindsight | ratio of the means | ours | its ratio |")
    print("| --- | --- | --- | --- | --- | --- |")
    for steps in (15, 20, 30, 50, 100):
        best, ours = [], []
        for seed in range(seeds):
            rng = random.Random(f"bound/{steps}/{seed}")
            lengths = np.array([rng.expovariate(1) for _ in range(steps)])
            x = np.arange(SECONDS) / SECONDS
            p = np.searchsorted(np.cumsum(lengths) / lengths.sum(), x, side="right") / steps
            best.append(optimum(p))
            ours.append(error(p, drive(p).sent))
        bound = 100 * causal(steps, 0, FREE_UPDATES) / steps**2
        top, mean = np.mean(best), np.mean(ours)
        print(f"| {steps} | {bound:.2f} | {top:.2f} | {bound / top:.2f} | {mean:.2f} | {mean / top:.2f} |")


if __name__ == "__main__":
    main()
