"""The examples run as they stand, against the simulator and without a key."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from patience import PATIENCE

from activitysmith_track.simulator import Simulator

pytestmark = [pytest.mark.once, pytest.mark.real]

FOLDER = Path(__file__).resolve().parent.parent / "examples"
EXAMPLES = sorted(path for path in FOLDER.glob("*.py") if not path.stem.startswith("test_"))
CARDS = {
    "async_loop": {"fetch-pages", "store-rows"},
    "failure_buttons": set(),
    "loop": {"hash-the-examples"},
    "method": {"import"},  # and import-2, where the two calls overlap
    "steps": {"nightly-backup"},
}


AS_A_SCRIPT = """\
import runpy, sys
import activitysmith_track
activitysmith_track.configure(exit_timeout=60)  # a busy machine may need longer than the usual two seconds
runpy.run_path(sys.argv[1], run_name="__main__")
"""


def run_example(path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run an example as a script."""
    return run("-c", AS_A_SCRIPT, path, **environment)


def run(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python as a user would."""
    return subprocess.run(
        [sys.executable, "-W", "error", *map(str, arguments)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_example(sim: Simulator, example: Path) -> None:
    """It exits well, nothing is refused, and its cards end as they should."""
    done = run_example(example, ACTIVITYSMITH_API_KEY=sim.api_key, ACTIVITYSMITH_BASE_URL=sim.base_url)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip()
    assert sim.requests
    refused = [(request.method, request.status, request.answer) for request in sim.requests if request.status >= 400]
    # an end that overtakes a slow start finds nothing, and is sent again
    assert [each for each in refused if each[:2] != ("DELETE", 404)] == []
    if example.stem in CARDS:
        assert set(sim.cards) >= CARDS[example.stem]
        assert {card.color for card in sim.cards.values()} <= {"green"}
        assert all(card.ended for card in sim.cards.values())


@pytest.mark.parametrize("example", [each for each in EXAMPLES if each.stem != "client"], ids=lambda path: path.stem)
def test_example_without_a_key(example: Path) -> None:
    """Without a key the job is done all the same."""
    done = run_example(example, ACTIVITYSMITH_TRACK="off")
    assert (done.returncode, done.stderr) == (0, "")


def test_failure_with_buttons(sim: Simulator) -> None:
    """The push of the failing job has its buttons and its urgency."""
    path = next(each for each in EXAMPLES if each.stem == "failure_buttons")
    run_example(path, ACTIVITYSMITH_API_KEY=sim.api_key, ACTIVITYSMITH_BASE_URL=sim.base_url)
    (push,) = sim.pushes
    assert (push.interruption_level, [action["type"] for action in push.actions]) == (
        "time-sensitive",
        ["open_url", "webhook"],
    )
    assert "row 4711 has no price (nightly() in failure_buttons.py:" in push.message


def test_cron_keeps_its_card(sim: Simulator) -> None:
    """The measuring job comes back to the card that it left."""
    path = next(each for each in EXAMPLES if each.stem == "metrics_cron")
    for _ in range(2):
        run_example(path, ACTIVITYSMITH_API_KEY=sim.api_key, ACTIVITYSMITH_BASE_URL=sim.base_url)
    (card,) = sim.cards.values()
    metrics: list[dict[str, Any]] = card.metrics
    assert not card.ended
    assert [each["label"] for each in metrics] == ["Disk", "Load"]
    assert len(sim.activities) == 1


def test_the_client_example_makes_every_call(sim: Simulator) -> None:
    """Each kind of request of the service is in it."""
    path = next(each for each in EXAMPLES if each.stem == "client")
    run_example(path, ACTIVITYSMITH_API_KEY=sim.api_key, ACTIVITYSMITH_BASE_URL=sim.base_url)
    made = {
        (request.method, request.path.strip("/").split("/")[0], request.path.rpartition("/")[2])
        for request in sim.requests
    }
    assert {(method, first) for method, first, _ in made} == {
        ("POST", "push-notification"),
        ("PUT", "push-notification"),
        ("PUT", "live-activity"),
        ("DELETE", "live-activity"),
        ("POST", "live-activity"),
        ("POST", "metrics"),
        ("POST", "badge"),
    }
    assert {last for _, _, last in made} >= {"start", "update", "end"}
    assert {card.type for card in sim.activities.values()} == {
        *("segmented_progress", "progress", "metrics", "stats", "alert", "timer", "value")
    }


def test_the_example_of_a_test() -> None:
    """Its tests pass with nothing but the installed plugin, far from this project's own configuration."""
    done = run("-m", "pytest", "-q", "-c", os.devnull, "--rootdir", FOLDER, "-p", "no:cacheprovider", FOLDER)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert "4 passed" in done.stdout
