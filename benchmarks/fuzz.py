"""Damage whatever reads bytes from outside, and see that nothing crashes or hangs.

    python benchmarks/fuzz.py --runs 100000 --seed 1

Each run is one damaged outbox file, one outbox with odd values in its rows, or one answer of a service gone mad. It
prints how many there were of each, how long the slowest took, and how many were still read as sound.
"""

from __future__ import annotations

import argparse
import logging
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import fuzzing

from activitysmith_track.client.answers import StreamAnswer, read_answer
from activitysmith_track.errors import ActivitySmithError


def files(rng: random.Random, directory: Path, sound: list[bytes]) -> bool:
    """Use an outbox whose file is damaged."""
    fuzzing.clean(directory)
    (directory / "outbox-2.sqlite").write_bytes(fuzzing.damage(rng, rng.choice(sound)))
    return bool(fuzzing.use(directory))


def rows(rng: random.Random, directory: Path, sound: list[bytes]) -> bool:
    """Use an outbox whose rows hold odd values."""
    fuzzing.clean(directory)
    (directory / "outbox-2.sqlite").write_bytes(sound[1])
    fuzzing.tamper(rng, directory / "outbox-2.sqlite")
    return bool(fuzzing.use(directory))


def answer(came: tuple[int, dict[str, str], bytes]) -> bool:
    """Read an answer of a service gone mad."""
    status, headers, content = came
    try:
        read_answer(StreamAnswer, status, headers, content, 1.0)
    except ActivitySmithError as error:
        str(error).encode()
        return False
    return True


def measure(name: str, runs: int, once: Callable[[], bool]) -> None:
    """Repeat something, and tell the slowest time and how often it was read as sound."""
    slowest, read = 0.0, 0
    began = time.perf_counter()
    for _ in range(runs):
        start = time.perf_counter()
        read += once()
        slowest = max(slowest, time.perf_counter() - start)
    took = time.perf_counter() - began
    print(f"{name}: {runs} runs in {took:.0f} s, the slowest {slowest * 1000:.0f} ms, {read} read as sound")


def main() -> None:
    """Run them all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10_000, help="of each kind")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    logging.getLogger("activitysmith_track").setLevel(logging.CRITICAL)
    rng = random.Random(given.seed)
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as place:
        sound = fuzzing.sound_files(Path(place, "sound"))
        work = Path(place, "work")
        work.mkdir(mode=0o700)
        measure("damaged files", given.runs, lambda: files(rng, work, sound))
        odd = fuzzing.answers(rng, given.runs)
        measure("answers", given.runs, lambda: answer(next(odd)))
        measure("tampered rows", given.runs, lambda: rows(rng, work, sound))


if __name__ == "__main__":
    main()
