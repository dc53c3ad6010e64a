"""Every constraint of the service, said before anything is sent."""

from __future__ import annotations

import json
import math
from datetime import datetime, timezone
from typing import Any

import pytest

from activitysmith_track import Action, ActivitySmith, Badge, Icon, InvalidRequest, Metric, Push
from activitysmith_track.payloads import (
    MAX_METADATA_BYTES,
    check_body,
    check_metadata,
    check_metric_key,
    check_stream_key,
    refuse_unused,
)
from activitysmith_track.simulator import Simulator

TITLE = {"title": "T"}
HOOK = {"title": "Stop", "type": "webhook", "url": "https://a.example/stop"}
LINK = {"title": "Open", "type": "open_url", "url": "https://a.example/x"}
GRID = [{"label": "CPU", "value": 9}]


def state(**fields: Any) -> dict[str, Any]:
    """Build a stream PUT with these content-state fields."""
    return {"content_state": {**TITLE, **fields}}


def push(**fields: Any) -> dict[str, Any]:
    """Build a push with these fields."""
    return {**TITLE, **fields}


def activity(**fields: Any) -> dict[str, Any]:
    """Build an update with these fields beside a content state."""
    return {"activity_id": "act_1", **state(), **fields}


BAD: list[tuple[str, dict[str, Any], str]] = [
    # content state, any type
    ("stream", {}, "content_state"),
    ("stream", {"content_state": {}}, "content_state.title"),
    ("end", {"activity_id": "a", "content_state": {"percentage": 3}}, "content_state.title"),
    ("stream", state(title=3), "content_state.title"),
    ("stream", state(title="\ud800"), "content_state.title"),
    ("stream", state(subtitle=3), "content_state.subtitle"),
    ("stream", state(type="bar"), "content_state.type"),
    ("start", state(), "content_state.type"),
    ("stream", state(percent=3), "content_state.percent"),
    ("stream", state(color="pink"), "content_state.color"),
    ("stream", state(color=3), "content_state.color"),
    ("stream", state(icon={"symbol": ""}), "content_state.icon.symbol"),
    ("stream", state(icon={}), "content_state.icon.symbol"),
    ("stream", state(icon="bolt"), "content_state.icon"),
    ("stream", state(icon={"symbol": "bolt", "size": 3}), "content_state.icon.size"),
    ("stream", state(icon={"symbol": "bolt", "color": "pink"}), "content_state.icon.color"),
    ("stream", state(badge={"title": ""}), "content_state.badge.title"),
    ("stream", state(badge={"title": "b", "color": "pink"}), "content_state.badge.color"),
    # segmented_progress
    ("stream", state(number_of_steps=0), "content_state.number_of_steps"),
    ("stream", state(number_of_steps=2.0), "content_state.number_of_steps"),
    ("stream", state(number_of_steps=True), "content_state.number_of_steps"),
    ("stream", state(current_step=-1), "content_state.current_step"),
    ("stream", state(number_of_steps=2, current_step=3), "content_state.current_step"),
    ("stream", state(step_color="pink"), "content_state.step_color"),
    ("stream", state(step_colors=["green", "pink"]), "content_state.step_colors[1]"),
    ("stream", state(step_colors="green"), "content_state.step_colors"),
    ("start", state(type="segmented_progress", number_of_steps=3), "content_state.current_step"),
    # progress
    ("stream", state(percentage=-1), "content_state.percentage"),
    ("stream", state(percentage=100.5), "content_state.percentage"),
    ("stream", state(percentage=math.nan), "content_state.percentage"),
    ("stream", state(percentage=math.inf), "content_state.percentage"),
    ("stream", state(percentage="3"), "content_state.percentage"),
    ("stream", state(percentage=True), "content_state.percentage"),
    ("stream", state(percentage=10**400), "content_state.percentage"),
    ("stream", state(upper_limit=3), "content_state.value"),
    ("stream", state(type="progress", value=3), "content_state.upper_limit"),
    ("stream", state(value=3, upper_limit=0), "content_state.upper_limit"),
    ("stream", state(value=3, upper_limit=math.inf), "content_state.upper_limit"),
    ("stream", state(value="3", upper_limit=5), "content_state.value"),
    # value
    ("stream", state(type="value"), "content_state.value"),
    ("stream", state(type="value", value=math.nan), "content_state.value"),
    ("stream", state(type="value", value=True), "content_state.value"),
    # metrics, stats
    ("start", state(type="metrics"), "content_state.metrics"),
    ("start", state(type="stats"), "content_state.metrics"),
    ("stream", state(metrics=[]), "content_state.metrics"),
    ("stream", state(metrics=GRID * 9), "content_state.metrics"),
    ("stream", state(metrics=[{"value": 3}]), "content_state.metrics[0].label"),
    ("stream", state(metrics=[{"label": "", "value": 3}]), "content_state.metrics[0].label"),
    ("stream", state(metrics=[*GRID, {"label": "x", "value": -1}]), "content_state.metrics[1].value"),
    ("stream", state(metrics=[{"label": "x", "value": math.nan}]), "content_state.metrics[0].value"),
    ("stream", state(metrics=[{"label": "x", "value": ""}]), "content_state.metrics[0].value"),
    ("stream", state(metrics=[{"label": "x", "value": "v" * 65}]), "content_state.metrics[0].value"),
    ("stream", state(metrics=[{"label": "x", "value": 1, "unit": 3}]), "content_state.metrics[0].unit"),
    ("stream", state(metrics=[{"label": "x", "value": 1, "color": "pink"}]), "content_state.metrics[0].color"),
    # alert
    ("stream", state(type="alert"), "content_state.message"),
    ("stream", state(type="alert", message=""), "content_state.message"),
    # timer
    ("stream", state(duration_seconds=0), "content_state.duration_seconds"),
    ("stream", state(duration_seconds=-3), "content_state.duration_seconds"),
    ("stream", state(counts_down="no"), "content_state.counts_down"),
    ("stream", state(is_running=1), "content_state.is_running"),
    ("start", state(type="timer"), "content_state.duration_seconds"),
    # dismissal
    ("end_stream", state(auto_dismiss_seconds=-1), "content_state.auto_dismiss_seconds"),
    ("end_stream", state(auto_dismiss_minutes=1.5), "content_state.auto_dismiss_minutes"),
    ("end", {"activity_id": "a", **state(auto_dismiss_seconds=3)}, "content_state.auto_dismiss_seconds"),
    ("update", activity(content_state={**TITLE, "auto_dismiss_minutes": 3}), "content_state.auto_dismiss_minutes"),
    ("start", state(type="progress", auto_dismiss_minutes=3), "content_state.auto_dismiss_minutes"),
    # beside the content state
    ("update", {**state()}, "activity_id"),
    ("update", {"activity_id": "", **state()}, "activity_id"),
    ("stream", {**state(), "extra": 1}, "extra"),
    ("stream", {**state(type="timer"), "secondary_action": LINK}, "secondary_action"),
    ("stream", {**state(type="stats", metrics=GRID), "secondary_action": LINK}, "secondary_action"),
    ("stream", {**state(type="metrics", metrics=GRID), "secondary_action": LINK}, "secondary_action"),
    ("stream", {**state(), "alert": {"title": 3}}, "alert.title"),
    ("update", activity(alert={"title": "x"}), "alert"),
    ("end", activity(alert={"title": "x"}), "alert"),
    ("stream", {**state(), "tags": "a"}, "tags"),
    ("stream", {**state(), "tags": ["a"] * 21}, "tags"),
    ("stream", {**state(), "tags": ["", "b"]}, "tags[0]"),
    ("stream", {**state(), "tags": ["t" * 65]}, "tags[0]"),
    ("stream", {**state(), "metadata": []}, "metadata"),
    ("stream", {**state(), "metadata": {str(n): n for n in range(51)}}, "metadata"),
    ("stream", {**state(), "metadata": {str(n): "v" * 3_000 for n in range(6)}}, "metadata"),
    ("stream", {**state(), "metadata": {"k" * 101: 1}}, "metadata key"),
    ("stream", {**state(), "metadata": {3: 1}}, "metadata key"),
    ("stream", {**state(), "metadata": {"k": "v" * 4_001}}, "metadata.k"),
    ("stream", {**state(), "metadata": {"k": math.inf}}, "metadata.k"),
    ("stream", {**state(), "metadata": {"k": None}}, "metadata.k"),
    ("stream", {**state(), "metadata": {"k": [1]}}, "metadata.k"),
    # buttons
    ("stream", {**state(), "action": "Open"}, "action"),
    ("stream", {**state(), "action": {"title": "", "type": "open_url", "url": "https://a.example"}}, "action.title"),
    ("stream", {**state(), "action": {**LINK, "type": "open"}}, "action.type"),
    ("stream", {**state(), "action": {"title": "x", "type": "open_url"}}, "action.url"),
    ("stream", {**state(), "action": {**LINK, "icon": "x"}}, "action.icon"),
    ("stream", {**state(), "action": {**LINK, "url": "spotify:track:1"}}, "action.url"),
    ("stream", {**state(), "action": {**LINK, "url": "shortcuts://create"}}, "action.url"),
    ("stream", {**state(), "action": {**LINK, "url": "shortcuts://run-shortcut"}}, "action.url"),
    ("stream", {**state(), "action": {**LINK, "url": "javascript:alert(1)"}}, "action.url"),
    ("stream", {**state(), "action": {**HOOK, "url": "http://a.example"}}, "action.url"),
    ("stream", {**state(), "action": {**HOOK, "method": "PUT"}}, "action.method"),
    ("stream", {**state(), "action": {**HOOK, "body": [1]}}, "action.body"),
    ("stream", {**state(), "action": {**HOOK, "body": {"x": {1, 2}}}}, "action.body"),
    ("stream", {**state(), "action": {**HOOK, "body": {"x": math.nan}}}, "action.body"),
    # channels
    ("stream", {**state(), "target": {"channels": []}}, "target.channels"),
    ("stream", {**state(), "target": {}}, "target.channels"),
    ("stream", {**state(), "target": {"channels": [3]}}, "target.channels[0]"),
    ("stream", {**state(), "target": {"channels": ["a"]}, "channels": ["b"]}, "channels"),
    ("update", activity(target={"channels": ["a"]}), "target"),
    ("end", activity(channels=["a"]), "channels"),
    ("end_stream", {**state(), "target": {"channels": ["a"]}}, "target"),
    # pushes
    ("send", {}, "title"),
    ("send", push(message=3), "message"),
    ("send", push(icon="http://a.example/i.png"), "icon"),
    ("send", push(icon="https://u:p@a.example/i.png"), "icon"),
    ("send", push(media="http://a.example/m.png"), "media"),
    ("send", push(media="https://"), "media"),
    ("send", push(media="https://a.example/m.png", actions=[LINK]), "media"),
    ("send", push(redirection="no scheme"), "redirection"),
    ("send", push(redirection="javascript:alert(1)"), "redirection"),
    ("send", push(redirection="view-source:https://a.example"), "redirection"),
    ("send", push(redirection="filesystem:https://a.example/x"), "redirection"),
    ("send", push(redirection="wss://a.example"), "redirection"),
    ("send", push(redirection="https://a b"), "redirection"),
    ("send", push(redirection="https://a.example/" + "x" * 2_048), "redirection"),
    ("send", push(actions=[LINK] * 5), "actions"),
    ("send", push(actions=[{**HOOK, "url": "http://a.example"}]), "actions[0].url"),
    ("send", push(interruption_level="critical"), "interruption_level"),
    ("send", push(payload=[1]), "payload"),
    ("send", push(badge=-1), "badge"),
    ("send", push(badge=True), "badge"),
    ("send", push(sound=3), "sound"),
    ("replace", {"message": "m"}, "title"),
    ("replace", push(sound="x"), "sound"),
    ("replace", push(target={"channels": ["a"]}), "target"),
    ("replace", push(interruption_level="active"), "interruption_level"),
    # metrics and the badge
    ("metric", {}, "value"),
    ("metric", {"value": math.nan}, "value"),
    ("metric", {"value": ""}, "value"),
    ("metric", {"value": "v" * 65}, "value"),
    ("metric", {"value": True}, "value"),
    ("metric", {"value": 1, "timestamp": "yesterday"}, "timestamp"),
    ("metric", {"value": 1, "timestamp": datetime(2026, 7, 1)}, "timestamp"),
    ("badge", {"badge": -1}, "badge"),
    ("badge", {"badge": 2_147_483_648}, "badge"),
    ("badge", {"badge": 1.0}, "badge"),
]


@pytest.mark.parametrize(("operation", "body", "field"), BAD)
def test_bad_input_is_named(operation: str, body: dict[str, Any], field: str) -> None:
    """What the service would refuse is refused here, naming the field, the value and what is allowed."""
    with pytest.raises(InvalidRequest) as caught:
        check_body(operation, body)
    problem = caught.value
    assert problem.field == field
    assert isinstance(problem, ValueError)
    assert str(problem).startswith(f"{field}: ")
    assert problem.allowed in str(problem)
    assert len(str(problem)) < 700


@pytest.mark.parametrize("key", ["", "a b", "a/b", "ä", "k" * 256, None, "a\n"])
def test_stream_keys(key: Any) -> None:
    """A stream key has 1 to 255 letters, digits, underscores and hyphens."""
    with pytest.raises(InvalidRequest, match="stream_key"):
        check_stream_key("stream_key", key)
    assert check_stream_key("stream_key", "A-z_9" * 51) == "A-z_9" * 51


@pytest.mark.parametrize("key", ["", "A", ".a", "-a", "a" * 65, "a b", 3])
def test_metric_keys(key: Any) -> None:
    """A metric's key has up to 64 of a-z, 0-9 and a few signs, the first a letter or digit."""
    with pytest.raises(InvalidRequest):
        check_metric_key("key", key)
    assert check_metric_key("key", "9a.b_c-d") == "9a.b_c-d"


GOOD: list[tuple[str, dict[str, Any]]] = [
    ("stream", {**state(type="timer"), "action": {**LINK, "url": "shortcuts://run-shortcut?name=Lights%20on"}}),
    ("stream", {**state(percentage=0), "tags": [], "metadata": {}}),
    ("stream", {**state(), "target": {"channels": ["a"]}, "channels": ["a"]}),
    ("send", push(redirection="spotify:track:1", actions=[{**LINK, "url": "spotify://x"}])),
    ("metric", {"value": -3.5, "timestamp": "2026-07-01T12:00:00.123Z"}),
    ("metric", {"value": 1, "timestamp": "2026-07-01"}),
    ("start", state(type="timer", counts_down=False)),
    ("start", state(type="timer", duration_seconds=0.5)),
    ("badge", {"badge": 0}),
]


@pytest.mark.parametrize(("operation", "body"), GOOD)
def test_what_is_allowed_passes_unchanged(operation: str, body: dict[str, Any]) -> None:
    """What the service accepts goes through as it was given."""
    assert check_body(operation, body) == body


def test_none_is_not_given() -> None:
    """Fields that are `None` are left out, at the top and inside."""
    body = check_body("stream", {**state(subtitle=None, icon=Icon("bolt")), "action": None})
    assert body == {"content_state": {"title": "T", "icon": {"symbol": "bolt"}}}


def size(metadata: dict[str, Any]) -> int:
    """Return how many bytes of JSON metadata is."""
    return len(json.dumps(metadata, ensure_ascii=False, separators=(",", ":")).encode())


@pytest.mark.parametrize("character", ["v", '"', "é", "\x01", "🚀"])
def test_metadata_fills_its_bytes(character: str) -> None:
    """So many bytes of JSON pass and one more does not, whatever characters they are."""
    metadata: dict[str, Any] = {"of it": character * 400, "n": 10**300, "x": 0.1, "is": True}
    padding = {f"padding {number}": "" for number in range(5)}
    for name in padding:
        padding[name] = "v" * min(MAX_METADATA_BYTES - size({**metadata, **padding}), 4_000)
    assert check_metadata("metadata", {**metadata, **padding}) == {**metadata, **padding}
    metadata["is"] = False
    with pytest.raises(InvalidRequest, match=f"{MAX_METADATA_BYTES + 1} bytes"):
        check_metadata("metadata", {**metadata, **padding})


@pytest.mark.parametrize("key", ["\x01" * 5, "a longer key than some"], ids=["control", "plain"])
@pytest.mark.parametrize(
    "value", [-int(1.7976931348623157e308), "\x01" * 60, "🚀" * 100], ids=["number", "control", "wide"]
)
def test_metadata_is_measured_where_it_may_be_too_long(key: str, value: Any) -> None:
    """The most entries that fit pass and one more does not, with characters and numbers as long as there are."""
    metadata: dict[str, Any] = {}
    while size(metadata) <= MAX_METADATA_BYTES and len(metadata) < 50:
        assert check_metadata("metadata", metadata) == metadata
        metadata[f"{key}{len(metadata)}"] = value
    assert size(metadata) > MAX_METADATA_BYTES
    with pytest.raises(InvalidRequest, match="bytes"):
        check_metadata("metadata", metadata)


def test_datetimes_travel_as_iso_8601() -> None:
    """A datetime with a time zone becomes its ISO 8601 text."""
    moment = datetime(2026, 7, 1, 12, tzinfo=timezone.utc)
    assert check_body("metric", {"value": 1, "timestamp": moment})["timestamp"] == "2026-07-01T12:00:00+00:00"


def test_fields_that_a_type_does_not_use_are_refused_by_the_client() -> None:
    """The client says where a field would have no effect; the simulator lets it pass, as the service does."""
    unused = {"type": "stats", "color": "red"}
    with pytest.raises(InvalidRequest, match=r"content_state\.color"):
        refuse_unused(unused)
    refuse_unused({"color": "red"})
    assert check_body("stream", state(metrics=GRID, **unused))


@pytest.mark.parametrize(
    "make",
    [
        lambda: Action.open_url("", "https://a.example"),
        lambda: Action.open_url("Open", "javascript:alert(1)"),
        lambda: Action.webhook("Stop", "http://a.example"),
        lambda: Action.webhook("Stop", "https://a.example", method="PATCH"),
        lambda: Icon(""),
        lambda: Icon("bolt", color="pink"),
        lambda: Badge(""),
        lambda: Metric("CPU", -1),
        lambda: Metric("", 1),
        lambda: Push(interruption_level="loud"),
        lambda: Push(media="https://a.example/m", actions=[LINK]),
        lambda: Push(channels=[]),
    ],
)
def test_values_are_checked_when_they_are_made(make: Any) -> None:
    """A mistake in a button, an icon or a push stands out where it was made."""
    with pytest.raises(InvalidRequest):
        make()


def test_nothing_is_sent_for_a_bad_request(sim: Simulator) -> None:
    """A refused request never leaves the machine."""
    with ActivitySmith(sim.api_key, base_url=sim.base_url) as client:
        for make in (
            lambda: client.live_activities.stream("a b", title="x", type="progress"),
            lambda: client.live_activities.stream("ab", title="x", type="progress", percentage=101),
            lambda: client.live_activities.stream("ab", content_state=[1]),  # type: ignore[arg-type]
            lambda: client.live_activities.update([1], activity_id="a"),  # type: ignore[arg-type]
            lambda: client.notifications.send(message="no title"),
            lambda: client.notifications.send(title="x", channels=" , "),
            lambda: client.notifications.replace("", title="x"),
            lambda: client.metrics.update("Bad Key", 1),
            lambda: client.badge_count(-1),
        ):
            with pytest.raises(InvalidRequest):
                make()
    assert sim.requests == []
