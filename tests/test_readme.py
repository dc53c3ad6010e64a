"""The README: every block of it runs, and its commands are those that are checked."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import activitysmith_track as at
from activitysmith_track.configuration import default_tracker
from activitysmith_track.simulator import Simulator

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_block_runs(phone: Simulator, number: int) -> None:
    """A reader can paste the block, and nothing of it is refused by the service."""
    before = default_tracker()._layers
    try:
        exec(compile(BLOCKS[number], f"README block {number}", "exec"), {"__name__": "__main__"})
        assert at.flush(10)
    finally:
        default_tracker()._layers = before
    assert [request for request in phone.requests if request.status >= 400] == []


def test_there_are_blocks() -> None:
    """The README shows code, and its first screen the two commands."""
    assert len(BLOCKS) >= 8
    first_screen = "\n".join(README.splitlines()[:30])
    assert 'python -m pip install ".[simulator]" && python -m activitysmith_track demo' in first_screen
    assert 'python -m pip install ".[test]" && python -m pytest' in first_screen


def test_options_are_all_named() -> None:
    """Every option stands in the README."""
    section = README.partition("## Options")[2].partition("\n- ")[0]
    assert set(re.findall(r"`(\w+)`", section)) >= set(at.Options.__annotations__)


@pytest.mark.skipif(not (ROOT / ".ci" / "run").exists(), reason="a source distribution has no .ci")
def test_ci_runs_the_commands_of_the_readme() -> None:
    """What CI calls is what a reader is told to call."""
    run = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    for command in re.search(r"```console\n(.*?)```", README, re.DOTALL)[1].splitlines():  # type: ignore[index]
        assert command in run
