"""The official SDK drives the simulator, and reads its answers."""

from __future__ import annotations

from typing import Any

import activitysmith
import pytest
from activitysmith_openapi.exceptions import ApiException

from activitysmith_track.simulator import Simulator

STATE = {"title": "Deploy", "type": "progress", "percentage": 10}


@pytest.fixture
def official(sim: Simulator) -> Any:
    """The official client, pointed at the simulator."""
    client = activitysmith.ActivitySmith(sim.api_key)
    client.notifications._api.api_client.configuration.host = sim.base_url
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


def test_errors_reach_it(official: Any, sim: Simulator) -> None:
    """It raises its own exceptions for the simulator's errors, with status and body."""
    with pytest.raises(ApiException) as missing:
        official.live_activities.end_stream("never")
    assert missing.value.status == 404
    assert "No Live Activity stream found for stream_key: never" in missing.value.body
    for number in range(4):
        official.live_activities.stream(f"s{number}", content_state=STATE)
    with pytest.raises(ApiException) as full:
        official.live_activities.stream("s4", content_state=STATE)
    assert full.value.status == 429
    official.notifications._api.api_client.configuration.access_token = "wrong"
    with pytest.raises(ApiException) as stranger:
        official.notifications.send(title="Hi")
    assert stranger.value.status == 401
