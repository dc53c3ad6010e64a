"""Fifty random jobs, faults and kills: what `benchmarks/chaos.py` does a thousand times.

CI runs the same fifty each time, and everybody else runs others; `CHAOS_SEED` chooses.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from patience import PATIENCE

if not hasattr(os, "fork"):
    pytest.skip("the jobs fork and kill, as POSIX has it", allow_module_level=True)

pytestmark = [pytest.mark.once, pytest.mark.real, pytest.mark.first]

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
RUNS, WORKERS = 50, 4
PINNED = "2026"


def test_nothing_lies_whatever_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    """Result, exit code and traceback are the job's own, the phone shows the truth, and no secret leaves."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import chaos

    for name in ("TRUTH_SECONDS", "LONGEST"):  # which a busy machine may exceed
        monkeypatch.setattr(chaos, name, PATIENCE)
    monkeypatch.setattr(chaos, "FLUSH_SECONDS", PATIENCE / 3)  # it waits for what a dead process has under a lease
    drawn = int.from_bytes(os.urandom(4), "big")
    seed = int(os.environ.get("CHAOS_SEED") or (PINNED if os.environ.get("CI") else drawn))
    print(f"CHAOS_SEED={seed}")  # noqa: T201  # pytest shows it with a failure
    verdicts = list(chaos.all_of(seed, list(range(RUNS)), WORKERS, timed=False))
    wrong = [chaos.describe(verdict) for verdict in verdicts if verdict.wrong]
    assert not wrong, f"CHAOS_SEED={seed}\n" + "\n".join(wrong)
