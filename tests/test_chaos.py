"""Fifty random jobs, faults and kills, others in each run: what `benchmarks/chaos.py` does a thousand times."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from patience import PATIENCE

if not hasattr(os, "fork"):
    pytest.skip("the jobs fork and kill, as POSIX has it", allow_module_level=True)

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"
RUNS, WORKERS = 50, 4


def test_nothing_lies_whatever_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    """Result, exit code and traceback are the job's own, the phone shows the truth, and no secret leaves."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import chaos

    for name in ("TRUTH_SECONDS", "FLUSH_SECONDS", "LONGEST"):  # which a busy machine may exceed
        monkeypatch.setattr(chaos, name, PATIENCE)
    seed = int(os.environ.get("CHAOS_SEED") or int.from_bytes(os.urandom(4), "big"))
    print(f"CHAOS_SEED={seed}")  # noqa: T201  # pytest shows it with a failure
    verdicts = list(chaos.all_of(seed, list(range(RUNS)), WORKERS, timed=False))
    wrong = [chaos.describe(verdict) for verdict in verdicts if verdict.wrong]
    assert not wrong, f"CHAOS_SEED={seed}\n" + "\n".join(wrong)
