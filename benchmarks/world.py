"""Run many simulated worlds, and say what went wrong in which, and how fast that was.

    python benchmarks/world.py --runs 3000                # judge so many schedules
    python benchmarks/world.py --only 4711 --shrink       # the shortest one that still goes wrong, event by event

The world is that of the tests, `tests/world.py`. A failing schedule is replayed from its seed.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from world_runs import run, run_many, tell


def main() -> int:
    """Run what was asked for; fail where something went wrong."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=1_000)
    parser.add_argument("--events", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int)
    parser.add_argument("--first", action="store_true", help="stop at the first violation")
    parser.add_argument("--trace", action="store_true")
    parser.add_argument("--shrink", action="store_true")
    given = parser.parse_args()
    if given.only is not None:
        found = run(given.only, given.events, traced=True)
        print(tell(found, given.events) if found.violation and given.shrink else "\n".join(found.trace))
        print(found.violation or "nothing went wrong")
        return 1 if found.violation else 0
    begun, requests, kinds = time.perf_counter(), [], Counter[str]()
    for each in run_many(range(given.seed, given.seed + given.runs), given.events):
        requests.append(each.requests)
        if each.violation:
            kinds[each.kind] += 1
            print(f"{each.seed}: {each.violation}", flush=True)
            if given.first:
                break
    seconds, count = time.perf_counter() - begun, len(requests)
    print(f"{count} schedules of {given.events} events in {seconds:.1f} s: {count / seconds:.0f} a second,")
    print(f"{sum(requests) / seconds * 60:,.0f} requests a minute, median {sorted(requests)[count // 2]} a schedule")
    for kind, number in kinds.most_common():
        print(f"{number:6} {kind}")
    return 1 if kinds else 0


if __name__ == "__main__":
    sys.exit(main())
