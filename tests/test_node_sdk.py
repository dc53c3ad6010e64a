"""The official Node SDK drives the simulator, and reads its answers: `npm install --prefix tests/node` brings it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from patience import PATIENCE
from sdk_errors import ERRORS, NODE_ONLY, STATE, Provoked

from activitysmith_track.simulator import Simulator

pytestmark = [pytest.mark.once, pytest.mark.real]

HERE = Path(__file__).resolve().parent / "node"
MISSING = (
    "node is not installed"
    if shutil.which("node") is None
    else None
    if (HERE / "node_modules" / "activitysmith").is_dir()
    else "the SDK is not installed: npm install --prefix tests/node"
)
CALLS = {
    "push": "notifications.send",
    "stream": "liveActivities.stream",
    "end_stream": "liveActivities.endStream",
    "start": "liveActivities.start",
    "update": "liveActivities.update",
    "end": "liveActivities.end",
    "metric": "metrics.update",
    "badge": "badgeCount",
}


@pytest.fixture(autouse=True)
def sdk() -> None:
    """The SDK: CI installs it, and may not go without."""
    if MISSING and os.environ.get("CI"):
        pytest.fail(MISSING)
    if MISSING:
        pytest.skip(MISSING)


def drive(sim: Simulator, **orders: Any) -> list[dict[str, Any]]:
    """Have the SDK do something, and return what came of it."""
    done = subprocess.run(
        ["node", str(HERE / "drive.cjs")],
        input=json.dumps({"url": sim.base_url, "key": sim.api_key, "calls": [], **orders}),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    outcomes: list[dict[str, Any]] = json.loads(done.stdout)
    return outcomes


def test_its_own_readme() -> None:
    """Each call of its README succeeds against the simulator, but for those that lack what the service requires."""
    with Simulator(slots=100) as sim:
        outcomes = drive(sim, readme=True)
        assert len(outcomes) >= 20
        for outcome in outcomes:
            assert "error" not in outcome, outcome
            assert outcome["answer"]
            assert all(answer["success"] for answer in outcome["answer"]), outcome
        assert [request.why for request in sim.requests if request.status != 200] == []
        answers = sum(len(outcome["answer"]) for outcome in outcomes)
        assert len(sim.requests) == answers


def test_every_error_reaches_it() -> None:
    """It throws its own error for each error of the service, with its status and its body."""
    for provoked in [*ERRORS, *NODE_ONLY]:
        with provoked.simulator() as sim:
            assert_thrown(provoked, sim)


def assert_thrown(provoked: Provoked, sim: Simulator) -> None:
    """Provoke one error and look at what the SDK throws."""
    first = [{"method": CALLS["stream"], "args": [f"s{n}", {"content_state": STATE}]} for n in range(provoked.before)]
    if provoked.before < 0:
        first = [{"method": CALLS["metric"], "args": ["m", 1]}]
    call = {"method": CALLS[provoked.call], "args": list(provoked.arguments), "apiKey": provoked.api_key}
    if provoked.fault is not None:
        sim.fault(**provoked.fault)
    *prepared, outcome = drive(sim, calls=[*first, call])
    assert all("answer" in each for each in prepared), prepared
    assert (outcome.get("error"), outcome.get("status")) == ("ResponseError", provoked.status), (
        provoked.name,
        outcome,
    )
    assert provoked.matches(outcome["body"]), (provoked.name, outcome)


def test_typed_answers(sim: Simulator) -> None:
    """Its models are filled from the simulator's answers."""
    state = {"content_state": STATE}
    calls = [
        {"method": "liveActivities.stream", "args": ["k", state]},
        {"method": "liveActivities.stream", "args": ["k", {"content_state": {**STATE, "percentage": 2}}]},
        {"method": "liveActivities.stream", "args": ["k", {"content_state": {**STATE, "percentage": 2}}]},
        {"method": "liveActivities.endStream", "args": ["k"]},
        {"method": "notifications.send", "args": [{"title": "x", "channels": ["ops"]}]},
        {"method": "badgeCount", "args": [3]},
        {"method": "metrics.update", "args": ["m", "ok"]},
    ]
    answers = [outcome["answer"] for outcome in drive(sim, calls=calls)]
    assert [answer["operation"] for answer in answers[:4]] == ["started", "updated", "noop", "ended"]
    assert answers[4]["success"]
    assert answers[5]["badge"] == 3
    assert sim.metrics == {"m": "ok"}
