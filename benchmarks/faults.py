"""How soon the phone tells the truth about a dead job, and what a hanging service costs a living one.

    python benchmarks/faults.py [--kills 10] [--items 1000000]

It prints medians and ranges: the seconds from `kill -9` to the red card and the push, where the watchdog is on; how
many cards were right before the process was gone, after an exception, `sys.exit(3)` and SIGTERM; and, while the
service hangs, the time of a loop with 20 µs of work an item, in turns with the same loop without us, and the wait at
the exit. The exit status is 1 where a card never told the truth, never because of a time.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time

from activitysmith_track.simulator import Simulator

WORK_SECONDS = 20e-6  # of each item
TURNS = 200  # blocks of the loop, each followed by one without us

DYING = """
import os, sys, time
import activitysmith_track as at
at.configure(watchdog=True)
with at.live_progress("train", total=100) as p:
    p.advance(30)
    assert at.flush(20)
    assert at._tracker.default_tracker().dispatcher.persistence.guard.watchdog.start(20)
    print("running", flush=True)
    time.sleep(60)
"""

ENDING = """
import os, signal, sys, time
import activitysmith_track as at
at.configure(signals=True)
with at.live_progress("train", total=100) as p:
    p.advance(30)
    {end}
"""
ENDS = {
    "an exception": "raise ValueError('broken')",
    "sys.exit(3)": "sys.exit(3)",
    "SIGTERM": "os.kill(os.getpid(), signal.SIGTERM); time.sleep(10)",
}

LOOP = """
import sys, time
import activitysmith_track as at
items, turns, size = map(int, sys.argv[1:])
clock = time.perf_counter


def tracked(count, p):
    for _ in range(count):
        sum(range(size))
        p.advance()


def bare(count):
    for _ in range(count):
        sum(range(size))


with at.live_progress("loop", total=items) as p:
    time.sleep(1)
    for turn in range(turns):
        began = clock()
        tracked(items // turns, p)
        between = clock()
        bare(items // turns)
        print(between - began, clock() - between, flush=True)
print("left", time.monotonic(), flush=True)
"""


def environment(sim: Simulator, state: str) -> dict[str, str]:
    """Return the environment of a job."""
    own = {"ACTIVITYSMITH_API_KEY": sim.api_key, "ACTIVITYSMITH_BASE_URL": sim.base_url, "XDG_STATE_HOME": state}
    return {**os.environ, **own}


def figures(values: list[float], unit: str = "s") -> str:
    """Write a median and a range."""
    return f"median {statistics.median(values):.3f} {unit}, {min(values):.3f} to {max(values):.3f} {unit}"


def kill(state: str) -> tuple[float, float]:
    """Kill a job; return the seconds until the card is red, and until the push."""
    with Simulator() as sim:
        process = subprocess.Popen(
            [sys.executable, "-c", DYING], env=environment(sim, state), stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        process.stdout.readline()
        began = time.monotonic()
        process.send_signal(signal.SIGKILL)
        told = sim.wait_for(lambda phone: phone.cards["train"].ended and phone.cards["train"].color == "red", 30)
        red = time.monotonic() - began if told else float("inf")
        pushed = time.monotonic() - began if sim.wait_for(lambda phone: phone.pushes, 30) else float("inf")
        process.communicate()
    return red, pushed


def end(code: str, state: str) -> bool:
    """End a job in order; return whether the phone was right when its process was gone."""
    with Simulator() as sim:
        command = [sys.executable, "-c", ENDING.format(end=code)]
        subprocess.run(command, env=environment(sim, state), stderr=subprocess.DEVNULL, timeout=60)
        return "train" in sim.cards and sim.cards["train"].ended


def work() -> int:
    """Return the size of a sum that takes 20 µs."""
    size, best = 100, 0.0
    while best < WORK_SECONDS:
        size += 20
        best = min(_timed(size) for _ in range(20))
    return size


def _timed(size: int) -> float:
    began = time.perf_counter()
    for _ in range(50):
        sum(range(size))
    return (time.perf_counter() - began) / 50


def hang(items: int, state: str) -> tuple[list[float], float, float]:
    """Run the loop while the service hangs; return the ratios, that of the sums, and the wait at the exit."""
    with Simulator() as sim, sim.fault("hang"):
        process = subprocess.Popen(
            [sys.executable, "-c", LOOP, str(items), str(TURNS), str(work())],
            env=environment(sim, state),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert process.stdout is not None
        lines = process.stdout.read().splitlines()
        process.wait()
        waited = time.monotonic() - float(lines.pop().split()[1])
    turns = [tuple(map(float, line.split())) for line in lines]
    ratios = [with_us / without for with_us, without in turns]
    return ratios, sum(each[0] for each in turns) / sum(each[1] for each in turns), waited


def main() -> int:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--items", type=int, default=1_000_000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as state:
        killed = [kill(state) for _ in range(given.kills)]
        print(f"kill -9 to the red card ({given.kills} times): {figures([red for red, _ in killed])}")
        print(f"kill -9 to the push: {figures([pushed for _, pushed in killed])}", flush=True)
        right = []
        for name, code in ENDS.items():
            right += [end(code, state) for _ in range(given.kills)]
            print(f"right before the process was gone, after {name}: {sum(right[-given.kills :])} of {given.kills}")
        ratios, ratio, waited = hang(given.items, state)
        print(f"{given.items:,} advances while the service hangs, in {TURNS} turns beside as many without us:")
        print(f"  of a pair: {figures(ratios, 'times')}; of all: {ratio:.4f} times")
        print(f"the exit waited {waited:.2f} s, with an exit_timeout of 2 s")
    return not all(red < float("inf") and pushed < float("inf") for red, pushed in killed)


if __name__ == "__main__":
    sys.exit(main())
