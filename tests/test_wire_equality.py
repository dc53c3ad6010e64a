"""What we send equals what the official SDK sends, operation by operation and field by field."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import activitysmith
import pytest
from activitysmith_openapi.models.content_state_start import ContentStateStart
from activitysmith_openapi.models.live_activity_stream_request import LiveActivityStreamRequest
from hypothesis import given, settings
from hypothesis import strategies as st

from activitysmith_track import Action, ActivitySmith, AsyncActivitySmith, Badge, Icon, Metric
from activitysmith_track.payloads import BODIES, COLORS, CONTENT_STATE, check_body
from activitysmith_track.simulator import Simulator

pytestmark = pytest.mark.once

HOOK = {"title": "Stop", "type": "webhook", "url": "https://a.example/stop", "method": "GET", "body": {"id": 1}}
LINK = {"title": "Open", "type": "open_url", "url": "https://a.example/x"}
RUN = {"title": "Run", "type": "open_url", "url": "shortcuts://run-shortcut?name=Lights"}
POST = {"title": "Again", "type": "webhook", "url": "https://a.example/again", "method": "POST"}
DETAILS = {"tags": ["nightly", "db"], "metadata": {"host": "web-1", "cpu": 0.5, "runs": 3, "dry": False}}
ALERT = {"title": "Backup", "body": "has begun"}

STATES: dict[str, dict[str, Any]] = {
    "progress": {
        "type": "progress",
        "percentage": 42,
        "color": "green",
        "subtitle": "half",
        "icon": {"symbol": "bolt"},
    },
    "fraction": {"type": "progress", "value": 3, "upper_limit": 8.5, "badge": {"title": "new", "color": "red"}},
    "steps": {
        "type": "segmented_progress",
        "number_of_steps": 3,
        "current_step": 2,
        "step_color": "cyan",
        "step_colors": ["green", "red"],
    },
    "metrics": {"type": "metrics", "metrics": [{"label": "CPU", "value": 9, "unit": "%", "color": "lime"}]},
    "stats": {"type": "stats", "metrics": [{"label": "Users", "value": "1.2k"}, {"label": "Load", "value": 0.5}]},
    "alert": {"type": "alert", "message": "Somebody rang", "icon": {"symbol": "bell.fill", "color": "orange"}},
    "timer": {"type": "timer", "duration_seconds": 90, "counts_down": False, "is_running": False},
    "value": {"type": "value", "value": "$4,210.00"},
    "number": {"type": "value", "value": 21.5},
}
ACTIVITY = {"action": HOOK, "secondary_action": LINK, **DETAILS}

Case = tuple[str, str | None, dict[str, Any]]
CASES: dict[str, Case] = {
    "send": ("send", None, {"title": "Hi", "message": "there", "subtitle": "you", "channels": ["a", "b"], **DETAILS}),
    "send, rest": (
        "send",
        None,
        {
            "title": "Hi",
            "icon": "https://a.example/i.png",
            "media": "https://a.example/m.mp4",
            "redirection": "spotify:track:1",
            "interruption_level": "time-sensitive",
            "payload": {"a": [1, None]},
            "badge": 3,
            "sound": "ping.aiff",
            "target": {"channels": ["ops"]},
        },
    ),
    "send, actions": ("send", None, {"title": "Hi", "actions": [HOOK, LINK, POST], "channels": " a , b "}),
    "replace": (
        "replace",
        "ntf_1",
        {"title": "Hi", "message": "m", "subtitle": "s", "icon": "https://a.example/i.png", "badge": 0, **DETAILS},
    ),
    "replace, rest": (
        "replace",
        "ntf_1",
        {"title": "Hi", "redirection": "https://a.example", "payload": {}, "actions": [LINK]},
    ),
    "replace, media": ("replace", "ntf_1", {"title": "Hi", "media": "https://a.example/m.png"}),
    "end_stream, bare": ("end_stream", "key", {}),
    "end_stream, seconds": (
        "end_stream",
        "key",
        {
            "title": "End",
            "type": "progress",
            "percentage": 100,
            "auto_dismiss_seconds": 0,
            "alert": ALERT,
            **ACTIVITY,
        },
    ),
    "end_stream, minutes": ("end_stream", "key", {"title": "End", "auto_dismiss_minutes": 5}),
    "end": ("end", None, {"activity_id": "act_1", "title": "End", "auto_dismiss_minutes": 0, **ACTIVITY}),
    "end, default": ("end", None, {"activity_id": "act_1", "title": "End", "type": "progress", "percentage": 100}),
    "stream, alert and channels": (
        "stream",
        "key",
        {"title": "S", **STATES["progress"], "alert": ALERT, "channels": ["a"], **ACTIVITY},
    ),
    "stream, dismissal": (
        "stream",
        "key",
        {"title": "S", **STATES["value"], "auto_dismiss_seconds": 9, "auto_dismiss_minutes": 1},
    ),
    "stream, cleared": ("stream", "key", {"title": "S", **STATES["value"], "tags": [], "metadata": {}}),
    "stream, top level": ("stream", "key", {"title": "S", **STATES["value"], "target": {"channels": ["a"]}}),
    "start, all": (
        "start",
        None,
        {"title": "S", **STATES["progress"], "alert": ALERT, "channels": "a,b", **ACTIVITY},
    ),
    "start, shortcut": ("start", None, {"title": "S", **STATES["timer"], "action": RUN}),
    "metric": ("metric", "deploys.today", {"value": 7, "timestamp": "2026-07-01T12:00:00+00:00"}),
    "metric, text": ("metric", "deploys.today", {"value": "ok"}),
    "badge": ("badge", None, {"badge": 5, "channels": ["a"]}),
    **{f"stream, {name}": ("stream", "key", {"title": name, **state}) for name, state in STATES.items()},
    **{f"start, {name}": ("start", None, {"title": name, **state}) for name, state in STATES.items()},
    **{
        f"update, {name}": ("update", None, {"activity_id": "act_1", "title": name, **state, **DETAILS})
        for name, state in STATES.items()
    },
    "update, buttons": (
        "update",
        None,
        {"activity_id": "act_1", "title": "U", "action": HOOK, "secondary_action": LINK},
    ),
}


def call(client: Any, operation: str, key: str | None, fields: dict[str, Any]) -> Any:
    """Make one call on our client or on the official one: their method names are the same."""
    cards, notes = client.live_activities, client.notifications
    if operation == "metric":
        return client.metrics.update(key, fields["value"], fields.get("timestamp"))
    if operation == "badge":
        return client.badge_count(fields["badge"], channels=fields.get("channels"))
    method = getattr(notes if operation in ("send", "replace") else cards, operation)
    return method(key, fields) if key is not None else method(fields)


def as_request(operation: str, fields: dict[str, Any]) -> dict[str, Any]:
    """Put content-state fields where the official SDK's request has them."""
    if operation in ("send", "replace", "metric", "badge"):
        return fields
    state = {name: value for name, value in fields.items() if name in CONTENT_STATE}
    rest = {name: value for name, value in fields.items() if name not in CONTENT_STATE}
    return {**rest, "content_state": state} if state else rest


def official(base_url: str) -> Any:
    """Make the official client, pointed at the simulator."""
    client = activitysmith.ActivitySmith("simulator-key")
    client.notifications._api.api_client.configuration.host = base_url  # noqa: SLF001
    return client


def plain(value: Any) -> Any:
    """Take out what the official SDK injects by itself, and the difference between 3 and 3.0."""
    if isinstance(value, dict):
        return {name: plain(each) for name, each in value.items()}
    if isinstance(value, list):
        return [plain(each) for each in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def without_injections(operation: str, fields: dict[str, Any], body: Any) -> Any:
    """Drop injected defaults, but never what the caller gave."""
    body = plain(body or {})
    state = body.get("content_state", {})
    for name, value in (("counts_down", True), ("is_running", True)):
        if name not in fields and state.get(name) is value:
            del state[name]
    if operation == "end" and "auto_dismiss_minutes" not in fields and state.get("auto_dismiss_minutes") == 3:
        del state["auto_dismiss_minutes"]
    for button in (body.get("action"), body.get("secondary_action"), *body.get("actions", ())):
        if button is not None and button["type"] == "open_url":
            button.pop("method", None)
    return body


@pytest.fixture(scope="module")
def service() -> Iterator[Simulator]:
    """A simulator with no limits, for both clients."""
    with Simulator(requests_per_minute=10_000, slots=1_000) as sim:
        yield sim


def last(sim: Simulator, make: Callable[[], Any]) -> tuple[str, str, Any]:
    """Return what a call sent; the answer does not matter here."""
    before = len(sim.requests)
    try:
        make()
    except Exception:
        if len(sim.requests) == before:
            raise
    sent = sim.requests[-1]
    assert len(sim.requests) == before + 1
    return sent.method, sent.path, sent.body


@pytest.mark.parametrize("name", CASES)
def test_same_on_the_wire(service: Simulator, name: str) -> None:
    """Method, path and body are those of the official SDK, apart from what it injects."""
    operation, key, fields = CASES[name]
    with ActivitySmith("simulator-key", base_url=service.base_url, max_attempts=1) as client:
        ours = last(service, lambda: call(client, operation, key, fields))
    theirs = last(service, lambda: call(official(service.base_url), operation, key, as_request(operation, fields)))
    assert ours[:2] == theirs[:2]
    assert plain(ours[2] or {}) == without_injections(operation, fields, theirs[2])


@pytest.mark.parametrize("name", CASES)
def test_async_sends_the_same(service: Simulator, name: str) -> None:
    """The async client sends, byte for byte as JSON, what the sync one sends."""
    operation, key, fields = CASES[name]

    async def awaited() -> None:
        async with AsyncActivitySmith("simulator-key", base_url=service.base_url, max_attempts=1) as client:
            await call(client, operation, key, fields)

    with ActivitySmith("simulator-key", base_url=service.base_url, max_attempts=1) as client:
        ours = last(service, lambda: call(client, operation, key, fields))
    assert last(service, lambda: asyncio.run(awaited())) == ours


def test_every_field_has_a_case() -> None:
    """A field that is added to the tables must be compared with the official SDK too."""
    for operation, (checks, _) in BODIES.items():
        given = {
            name for kind, _, fields in CASES.values() if kind == operation for name in as_request(operation, fields)
        }
        given |= {"target"} if "channels" in given else set()
        assert set(checks) <= given | {"channels"}, operation
    of_states = {name for _, _, fields in CASES.values() for name in fields}
    assert set(CONTENT_STATE) <= of_states


def test_keywords_dataclasses_and_objects_are_the_same(service: Simulator) -> None:
    """Fields go out alike as keywords, in `content_state=`, in one object, as dataclasses or dicts; keywords win."""
    state = {"title": "S", "type": "progress", "percentage": 4, "icon": {"symbol": "bolt"}, "badge": {"title": "b"}}
    with ActivitySmith("simulator-key", base_url=service.base_url) as client:
        stream = client.live_activities.stream
        sent = [
            last(service, lambda: stream("a", **state, action=LINK)),  # type: ignore[arg-type]
            last(service, lambda: stream("a", content_state=state, action=LINK)),
            last(service, lambda: stream("a", {"content_state": state, "action": LINK})),
            last(service, lambda: stream("a", content_state={**state, "percentage": 99}, percentage=4, action=LINK)),
            last(
                service,
                lambda: stream(
                    "a",
                    title="S",
                    type="progress",
                    percentage=4,
                    icon=Icon("bolt"),
                    badge=Badge("b"),
                    action=Action.open_url("Open", "https://a.example/x"),
                ),
            ),
        ]
        assert all(each == sent[0] for each in sent)
        grid = last(service, lambda: stream("b", title="M", type="metrics", metrics=[Metric("CPU", 9, unit="%")]))
    assert grid[2]["content_state"]["metrics"] == [{"label": "CPU", "value": 9, "unit": "%"}]


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
some = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
colors = st.sampled_from(COLORS)
numbers = st.one_of(st.integers(0, 10**9), st.floats(0, 1e9))
readings = st.fixed_dictionaries(
    {"label": some, "value": st.one_of(numbers, some)}, optional={"unit": texts, "color": colors}
)
states = st.one_of(
    st.fixed_dictionaries({"type": st.just("progress"), "percentage": st.integers(0, 100)}),
    st.fixed_dictionaries({"type": st.just("progress"), "value": numbers, "upper_limit": st.integers(1, 100)}),
    st.fixed_dictionaries(
        {
            "type": st.just("segmented_progress"),
            "number_of_steps": st.integers(5, 9),
            "current_step": st.integers(0, 5),
        },
        optional={"step_color": colors, "step_colors": st.lists(colors, max_size=5)},
    ),
    st.fixed_dictionaries(
        {"type": st.sampled_from(["metrics", "stats"]), "metrics": st.lists(readings, min_size=1, max_size=8)}
    ),
    st.fixed_dictionaries({"type": st.just("alert"), "message": some}),
    st.fixed_dictionaries({"type": st.just("timer"), "duration_seconds": st.integers(1, 10**6)}),
    st.fixed_dictionaries({"type": st.just("value"), "value": st.one_of(texts, numbers)}),
)
shared = st.fixed_dictionaries({"title": texts}, optional={"subtitle": texts, "color": colors})


@settings(max_examples=150, deadline=None)
@given(states, shared)
def test_the_official_models_accept_what_we_accept(state: dict[str, Any], common: dict[str, Any]) -> None:
    """A content state that passes our checks passes the official SDK's models too."""
    body = {"content_state": {**state, **common}}
    checked = check_body("stream", body)
    assert LiveActivityStreamRequest.from_dict(checked) is not None
    assert ContentStateStart.from_dict(check_body("start", body)["content_state"]) is not None
