"""The command line: the demo, as a new user runs it."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest

from activitysmith_track import _demo, cli
from activitysmith_track.simulator import Simulator


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "activitysmith_track", *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_demo() -> None:
    """It exits 0, shows the cards as lines where there is no terminal, and sums up what was sent."""
    done = run("demo")
    assert (done.returncode, done.stderr) == (0, "")
    for words in (
        "Hash the standard library: ######################## 100 % Done",
        "Compress it: [#][#][#][#][#] Done",
        "Publish the digests: [#][#] Failed in Upload: ConnectionRefusedError",
        "PUSH Publish the digests failed",
        "0 of them refused; 1 push(es).",
        "within its budget of 12",
    ):
        assert words in done.stdout
    assert "not-for-your-lock-screen" not in done.stdout
    assert "over its budget" not in done.stdout


def test_demo_in_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """In a terminal the Lock Screen is drawn."""
    monkeypatch.setattr(_demo, "COMPRESSED_BYTES", 100_000)
    monkeypatch.setattr(_demo, "source_files", lambda: [_demo.__file__, cli.__file__])
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    assert cli.main(["demo"]) == 0
    shown = capsys.readouterr().out
    assert "Publish the digests failed" in shown
    assert "╭" in shown


def test_demo_live(sim: Simulator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """With `--live` the same goes to the service that the environment names."""
    monkeypatch.setattr(_demo, "COMPRESSED_BYTES", 100_000)
    monkeypatch.setattr(_demo, "source_files", lambda: [_demo.__file__, cli.__file__])
    assert cli.main(["demo", "--live"]) == 2
    assert "ACTIVITYSMITH_API_KEY" in capsys.readouterr().err
    monkeypatch.setenv("ACTIVITYSMITH_API_KEY", sim.api_key)
    monkeypatch.setenv("ACTIVITYSMITH_BASE_URL", sim.base_url)
    assert cli.main(["demo", "--live"]) == 0
    assert "Everything was delivered" in capsys.readouterr().out
    assert {card.ended for card in sim.cards.values()} == {True}


def test_demo_without_the_extra(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Without the simulator's libraries it says what to install."""

    def missing() -> Any:
        raise ImportError("No module named 'starlette'")

    monkeypatch.setattr(_demo, "run_simulated", missing)
    assert cli.main(["demo"]) == 2
    assert 'pip install "activitysmith-track[simulator]"' in capsys.readouterr().err


def test_demo_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C leaves with the usual status."""

    def interrupted() -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(_demo, "run_simulated", interrupted)
    assert cli.main(["demo"]) == 130


def test_unknown_command() -> None:
    """An unknown command is refused with the usage."""
    done = run("nonsense")
    assert done.returncode == 2
    assert "usage: activitysmith-track" in done.stderr
