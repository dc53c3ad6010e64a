"""How well the pacing spends the budget: the shipped rule against others, and against the best that could be known.

    python benchmarks/pacing.py                          the tables, on the 700 jobs and those kept apart
    python benchmarks/pacing.py --out DIR                the same, with a report (Markdown) and a chart (PNG) in DIR
    python benchmarks/pacing.py --ablate                 each constant of the rule taken out, one at a time
    python benchmarks/pacing.py --traces FILE --json OUT only the rule's updates for traces of one's own

Needs the extra `bench` (numpy, matplotlib). A trace is `{"id", "dt", "p": [fractions]}`, sampled every `dt` seconds;
OUT gets `{"id", "sent": [[seconds, fraction], ...]}`, without the start and the end. The optima are kept in a file of
the system's temporary directory, or `--cache FILE`.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import json
import multiprocessing
import os
import pickle
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pacing_jobs
from pacing_drive import Run, drive, error, violations
from pacing_optimum import VISIBLE_ERROR, optimum
from pacing_policies import POLICIES

from activitysmith_track import _forecast, _pacing

Key = tuple[str, int, int]

ABLATIONS: dict[str, dict[str, Any]] = {
    "all of the past counts alike (RECENCY 0)": {"RECENCY": 0.0},
    "RECENCY 2": {"RECENCY": 2.0},
    "a far end is believed (FAR 1)": {"FAR": 1.0},
    "a near end is believed (NEAR 1)": {"NEAR": 1.0},
    "one exponent (FAR, NEAR 0.6)": {"FAR": 0.6},
    "the steps alone (FEW_STEPS 1e9)": {"FEW_STEPS": 1e9},
    "the area alone (FEW_STEPS 0)": {"FEW_STEPS": 0.0},
    "FEW_STEPS 2": {"FEW_STEPS": 2.0},
    "nothing to spare (SPARE 0)": {"SPARE": 0.0},
    "the wait until minute 26 not planned for": {"Pacer._legal_again": lambda *_: 1e9},
    "a third of the looks (LOOKS_PER_AGE 100)": {"LOOKS_PER_AGE": 100},
}
TOLD = "ours, told the true duration (nobody is)"


class Result(NamedTuple):
    """One job under one policy."""

    key: Key
    ratio: float
    broken: int
    looks: int


def ratio(found: float, best: float) -> float:
    """Tell how far an error is from the optimum, both floored at what an eye can see."""
    return max(found, VISIBLE_ERROR) / max(best, VISIBLE_ERROR)


# -- running


@functools.lru_cache(maxsize=4)
def _job(key: Key) -> Any:
    return pacing_jobs.make(*key).p


def _best(key: Key) -> float:
    return optimum(_job(key))


def _measure(policy: str, change: str, task: tuple[Key, float]) -> Result:
    key, best = task
    p = _job(key)
    undo = [_patch(name, value) for name, value in ABLATIONS.get(change, {}).items()]
    if policy == TOLD:
        undo.append(_patch("Forecast.seconds_left", lambda _, now, __: max(len(p) - now, 0.0)))
    try:
        run = drive(p) if policy in ("ours", TOLD) else Run(POLICIES[policy](p), len(p))
    finally:
        for name, value in undo:
            _patch(name, value)
    return Result(key, ratio(error(p, run.sent), best), violations([float(at) for at, _ in run.sent]), run.looks)


def _patch(name: str, value: Any) -> tuple[str, Any]:
    """Change a constant or a method of the rule; returns what undoes it."""
    *owner, attribute = name.split(".")
    module = _pacing if hasattr(_pacing, name.split(".")[0]) else _forecast
    holder = getattr(module, owner[0]) if owner else module
    before = getattr(holder, attribute)
    setattr(holder, attribute, value)
    return name, before


def optima(keys: Iterable[Key], cache: Path, pool: Any) -> dict[Key, float]:
    """Return the optimum of each job, from the file or computed."""
    source = b"".join((Path(__file__).parent / name).read_bytes() for name in ("pacing_jobs.py", "pacing_optimum.py"))
    mark = hashlib.sha256(source).hexdigest()
    known: dict[Key, float] = {}
    if cache.exists():
        kept = pickle.loads(cache.read_bytes())
        known = kept["optima"] if kept["mark"] == mark else {}
    wanted = [key for key in keys if key not in known]
    known |= dict(zip(wanted, pool.map(_best, wanted, chunksize=4), strict=True))
    if wanted:
        cache.write_bytes(pickle.dumps({"mark": mark, "optima": known}))
    return known


# -- reporting


def figures(results: list[Result]) -> str:
    """Return the median, the 95th percentile and the worst ratio as cells of a table."""
    ratios = [each.ratio for each in results]
    return f"{np.median(ratios):.2f} | {np.percentile(ratios, 95):.2f} | {max(ratios):.2f}"


def row(name: str, results: list[Result]) -> str:
    """Return one line of a table: the figures, and on how many jobs the budget was broken."""
    broken = sum(each.broken > 0 for each in results)
    return f"| {name} | {figures(results)} | {broken or 'no'} |"


HEAD = "| {} | median | 95th percentile | worst | jobs outside the budget |\n| --- | --- | --- | --- | --- |"


class Bench:
    """Runs policies over the sets of jobs and collects a report."""

    def __init__(self, pool: Any, sets: Mapping[str, list[Key]], cache: Path) -> None:
        self.pool, self.sets, self.lines = pool, sets, list[str]()
        self.best = optima([key for keys in sets.values() for key in keys], cache, pool)

    def run(self, policy: str, name: str, change: str = "none") -> list[Result]:
        """Run one policy over one set."""
        tasks = [(key, self.best[key]) for key in self.sets[name]]
        found: list[Result] = self.pool.map(functools.partial(_measure, policy, change), tasks, chunksize=8)
        return found

    def say(self, line: str = "") -> None:
        """Print a line, and keep it for the report."""
        print(line, flush=True)
        self.lines.append(line)

    def policies(self) -> None:
        """Compare all policies on all sets."""
        for name in self.sets:
            self.say(f"\n## {name}: {len(self.sets[name])} jobs\n\n" + HEAD.format("policy"))
            for policy in [*POLICIES, TOLD, "ours"]:
                self.say(row(policy, self.run(policy, name)))

    def details(self) -> None:
        """Break our figures down by duration and by shape."""
        for name in self.sets:
            results = self.run("ours", name)
            looks = [each.looks for each in results]
            self.say(f"\n## ours on {name}; looks at a job: median {np.median(looks):.0f}, at most {max(looks)}\n")
            self.say(HEAD.format("jobs"))
            if name == "tuned":
                self.say(row("2 minutes and more", [each for each in results if each.key[1] >= 120]))
            for index, unit in ((0, ""), (1, " s")):
                for value in dict.fromkeys(each.key[index] for each in results):
                    self.say(row(f"{value}{unit}", [each for each in results if each.key[index] == value]))

    def ablations(self) -> None:
        """Take each constant out, one at a time."""
        sets = [name for name in self.sets if name != "unseen"]
        self.say("\n## ablations: median, 95th percentile, worst\n")
        self.say("| change | " + " | ".join(sets) + " |\n| --- |" + " --- |" * len(sets))
        for change in ["none", *ABLATIONS]:
            found = [figures(self.run("ours", name, change)).replace(" | ", " / ") for name in sets]
            self.say(f"| {change} | " + " | ".join(found) + " |")


def chart(key: Key, path: Path) -> None:
    """Draw one job: the truth, what our rule shows, and what the best schedule in hindsight shows."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from pacing_optimum import schedule

    p = _job(key)
    figure, axes = pyplot.subplots(figsize=(9, 5), layout="constrained")
    axes.plot(100 * p, color="black", linewidth=1.5, label="true")
    for label, sent, colour in (("shown", drive(p).sent, "tab:blue"), ("optimum", schedule(p), "tab:orange")):
        times, values = [0, *(at for at, _ in sent), len(p)], [p[0], *(value for _, value in sent)]
        axes.stairs(100 * np.array(values), times, baseline=None, color=colour, linewidth=1.2, label=label)
        axes.plot(times[1:-1], 100 * np.array(values[1:]), ".", color=colour)
    axes.set(xlabel="seconds", ylabel="per cent", title=f"{key[0]}, {len(p)} s, seed {key[2]}")
    axes.legend()
    figure.savefig(path, dpi=120)


# -- traces of one's own


def pace_traces(source: Path, target: Path) -> None:
    """Run our rule over the traces of a file, and write what it sent."""
    found = []
    for trace in json.loads(source.read_text()):
        dt = float(trace["dt"])
        run = drive(np.array(trace["p"], dtype=np.float64), dt)
        found.append({"id": trace["id"], "sent": [[at * dt, value] for at, value in run.sent]})
    target.write_text(json.dumps(found))


def main(arguments: list[str] | None = None) -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--traces", type=Path, help="a JSON file of traces to run instead")
    parser.add_argument("--json", type=Path, help="where what was sent for them goes")
    parser.add_argument("--out", type=Path, help="a directory for the report and the chart")
    parser.add_argument("--ablate", action="store_true", help="take each constant out, one at a time")
    parser.add_argument("--unseen", action="store_true", help="also the jobs that wait until the rule is finished")
    parser.add_argument(
        "--cache", type=Path, default=Path(tempfile.gettempdir()) / "activitysmith-track-optima.pickle"
    )
    parser.add_argument("--processes", type=int, default=min(2, os.cpu_count() or 1))
    options = parser.parse_args(arguments)
    if options.traces is not None:
        if options.json is None:
            parser.error("--traces needs --json")
        return pace_traces(options.traces, options.json)
    sets = {name: keys for name, keys in pacing_jobs.SETS.items() if options.unseen or name != "unseen"}
    with multiprocessing.Pool(options.processes) as pool:
        bench = Bench(pool, sets, options.cache)
        steps: list[Callable[[], None]] = [bench.policies, bench.details]
        for step in [*steps, bench.ablations] if options.ablate else steps:
            step()
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "pacing.md").write_text("\n".join(bench.lines).strip() + "\n")
        chart(("bursts", 600, 3), options.out / "pacing.png")
    return None


if __name__ == "__main__":
    main()
