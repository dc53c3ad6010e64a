"""The official SDK drives the simulator, and reads its answers."""

from __future__ import annotations

import ast
import importlib.metadata
import json
import re
from collections.abc import Iterator
from typing import Any

import activitysmith
import pytest
from activitysmith_openapi.exceptions import (
    ApiException,
    BadRequestException,
    ForbiddenException,
    NotFoundException,
    ServiceException,
    UnauthorizedException,
)
from sdk_errors import ERRORS, PYTHON_ONLY, Provoked

from activitysmith_track.simulator import Simulator

pytestmark = pytest.mark.once

STATE = {"title": "Deploy", "type": "progress", "percentage": 10}


@pytest.fixture
def official(sim: Simulator) -> Iterator[Any]:
    """The official client, pointed at the simulator."""
    client = pointed_at(sim)
    yield client
    client.notifications._api.api_client.rest_client.pool_manager.clear()  # noqa: SLF001


def pointed_at(sim: Simulator) -> Any:
    """Make the official client of a simulator."""
    client = activitysmith.ActivitySmith(sim.api_key)
    client.notifications._api.api_client.configuration.host = sim.base_url  # noqa: SLF001
    return client


def test_pushes(official: Any, sim: Simulator) -> None:
    """A push is sent and replaced; both answers are typed."""
    sent = official.notifications.send(title="Hi", message="there", channels=["ops"])
    assert (sent.success, sent.effective_channel_slugs) == (True, ["ops"])
    replaced = official.notifications.replace(sent.notification_id, title="Ho")
    assert replaced.notification_id == sent.notification_id
    assert [(push.title, push.replaced) for push in sim.pushes] == [("Ho", 1)]
    assert official.notifications.send_push_notification({"title": "old way"}).success


def test_streams(official: Any, sim: Simulator) -> None:
    """A stream is started, updated, left alone, rotated and ended; each answer says so."""
    stream = official.live_activities.stream
    operations = [
        stream("deploy", content_state=STATE).operation,
        stream("deploy", content_state={**STATE, "percentage": 20}).operation,
        stream("deploy", content_state={**STATE, "percentage": 20}).operation,
        stream("deploy", content_state={"title": "Deploy", "type": "value", "value": "ok"}).operation,
        official.live_activities.end_stream("deploy").operation,
        official.live_activities.reconcile_live_activity_stream("deploy", {"content_state": STATE}).operation,
        official.live_activities.end_live_activity_stream("deploy", {"content_state": STATE}).operation,
    ]
    assert operations == ["started", "updated", "noop", "rotated", "ended", "started", "ended"]
    assert sim.cards["deploy"].ended


def test_lifecycle(official: Any, sim: Simulator) -> None:
    """An activity is started, updated and ended by its id."""
    cards = official.live_activities
    for start, update, end in (
        (cards.start, cards.update, cards.end),
        (cards.start_live_activity, cards.update_live_activity, cards.end_live_activity),
    ):
        begun = start({"content_state": STATE})
        update({"activity_id": begun.activity_id, "content_state": {**STATE, "percentage": 50}})
        done = end({"activity_id": begun.activity_id, "content_state": {**STATE, "percentage": 100}})
        assert done.activity_id == begun.activity_id
        card = sim.activities[begun.activity_id]
        assert (card.ended, card.percentage, card.updates, card.dismiss_after) == (True, 100, 1, 180)


def test_metrics_and_badge(official: Any, sim: Simulator) -> None:
    """A widget's metric and the app icon's badge are set."""
    assert official.metrics.update("deploys.today", 7).success
    assert official.metrics.update_metric_value("deploys.text", {"value": "ok"}).success
    badge = official.badge_count(5)
    assert (badge.badge, badge.devices_updated) == (5, 1)
    assert (sim.metrics, sim.badge) == ({"deploys.today": 7, "deploys.text": "ok"}, 5)


CALLS = {
    "push": lambda sdk: sdk.notifications.send,
    "replace": lambda sdk: sdk.notifications.replace,
    "stream": lambda sdk: sdk.live_activities.stream,
    "end_stream": lambda sdk: sdk.live_activities.end_stream,
    "start": lambda sdk: sdk.live_activities.start,
    "update": lambda sdk: sdk.live_activities.update,
    "end": lambda sdk: sdk.live_activities.end,
    "metric": lambda sdk: sdk.metrics.update,
    "badge": lambda sdk: sdk.badge_count,
}
RAISED = {
    400: BadRequestException,
    401: UnauthorizedException,
    403: ForbiddenException,
    404: NotFoundException,
    500: ServiceException,
    502: ServiceException,
}


@pytest.mark.parametrize("provoked", [*ERRORS, *PYTHON_ONLY], ids=lambda each: each.name)
def test_every_error_reaches_it(provoked: Provoked) -> None:
    """It raises its own exception for each error of the service, with its status and its body."""
    with provoked.simulator() as sim:
        client = pointed_at(sim)
        for number in range(provoked.before):
            client.live_activities.stream(f"s{number}", content_state=STATE)
        if provoked.before < 0:
            client.metrics.update("m", 1)
        if provoked.fault is not None:
            sim.fault(**provoked.fault)
        if provoked.api_key is not None:
            client.notifications._api.api_client.configuration.access_token = provoked.api_key  # noqa: SLF001
        with pytest.raises(ApiException) as caught:
            CALLS[provoked.call](client)(*provoked.arguments)
    assert type(caught.value) is RAISED.get(provoked.status, ApiException)
    assert caught.value.status == provoked.status
    assert provoked.matches(json.loads(caught.value.body)), caught.value.body


README = importlib.metadata.metadata("activitysmith").get_payload()
BLOCKS = [
    block
    for block in re.findall(r"```python\n(.*?)```", str(README), re.DOTALL)
    if re.search(r"^(sent = )?activitysmith\.", block, re.MULTILINE)
]


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: " ".join(block.split())[:60])
def test_its_own_readme(official: Any, sim: Simulator, block: str) -> None:
    """Each call of its README succeeds against the simulator, and it can parse each answer."""
    begun = official.live_activities.start(content_state=STATE)
    tree = ast.parse(block.replace("YOUR_ACTIVITY_ID", begun.activity_id))
    if "end_stream(" in block:
        official.live_activities.stream("prod-web-1", content_state=STATE)
    names = {
        name: getattr(activitysmith, name)
        for name in ("action", "alert_badge", "alert_icon", "content_state", "metric")
    }
    before, calls = len(sim.requests), 0
    for statement in tree.body:
        assert isinstance(statement, (ast.Expr, ast.Assign))
        answer = eval(
            compile(ast.Expression(statement.value), "README", "eval"), {**names, "activitysmith": official, **names}
        )
        if isinstance(statement, ast.Assign):
            names["sent"] = answer
        assert answer.success
        calls += 1
    assert calls == block.count("\nactivitysmith.") + block.startswith("activitysmith.") + block.startswith("sent = ")
    assert [request.status for request in sim.requests[before:]] == [200] * calls


def test_the_readme_was_found() -> None:
    """There are blocks to run: those of version 1.14.0 at least."""
    assert len(BLOCKS) >= 30
