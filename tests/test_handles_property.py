"""Handles driven at random: whatever is done to them, what they send is acceptable and true."""

from __future__ import annotations

from typing import Any

from activitysmith_openapi.models.live_activity_stream_delete_request import LiveActivityStreamDeleteRequest
from activitysmith_openapi.models.live_activity_stream_request import LiveActivityStreamRequest
from activitysmith_openapi.models.push_notification_request import PushNotificationRequest
from hypothesis import given, settings
from hypothesis import strategies as st
from internals import end_state

import activitysmith_track as at
from activitysmith_track import Outcome
from activitysmith_track.blocks.block import outcome_of, scrubbed
from activitysmith_track.blocks.handle import Provider
from activitysmith_track.blocks.pushes import push_body
from activitysmith_track.client.requests import end_stream_request, send_request, stream_request

anything = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=300),
    st.binary(max_size=3),
    st.just("\ud800"),
)
labels = st.text(max_size=10)
calls = st.one_of(
    st.tuples(st.just("advance"), st.tuples(anything), st.just({})),
    st.tuples(st.just("step"), st.tuples(anything), st.just({})),
    st.tuples(st.just("set"), st.tuples(anything), st.just({})),
    st.tuples(st.just("set"), st.tuples(st.dictionaries(labels, anything, max_size=10)), st.just({})),
    st.tuples(
        st.just("update"),
        st.just(()),
        st.dictionaries(
            st.sampled_from(
                ["title", "subtitle", "color", "icon", "badge", "action", "secondary_action", "important"]
            ),
            anything,
        ),
    ),
    st.tuples(
        st.just("update"),
        st.just(()),
        st.dictionaries(st.sampled_from(["percentage", "completed", "total"]), anything, min_size=1),
    ),
    st.tuples(st.sampled_from(["pause", "resume"]), st.just(()), st.just({})),
)
makers = st.sampled_from(
    [
        lambda: at.live_progress("Ünïcode job", total=100, icon="bolt", badge="new"),
        lambda: at.live_progress("count", action=at.Action.open_url("Open", "https://a.example")),
        lambda: at.live_steps("listed", steps=["a", "b", "c"], tags=["x"]),
        lambda: at.live_steps("numbered", steps=2),
        lambda: at.live_steps("open", color="purple"),
        lambda: at.live_timer("timer", duration=30),
        lambda: at.live_timer("elapsed"),
        lambda: at.live_metrics("metrics", {"CPU": 1}, metadata={"k": 1}),
        lambda: at.live_stats("stats", icon="chart.bar"),
        lambda: at.live_value("value", channels=["a"]),
        lambda: at.live_alert("alert", secondary_action=at.Action.webhook("x", "https://a.example")),
    ]
)
endings = st.sampled_from(["done", "failed", "stopped"])


def drive(handle: Any, name: str, positional: Any, named: Any) -> None:
    """Make one call, where this kind of handle has it."""
    method = getattr(handle, name, None)
    numeric = {"percentage", "completed", "total"} & set(named)
    if method is not None and not (numeric and not isinstance(handle, at.Progress)):
        method(*positional, **named)


def check_running(handle: Any) -> None:
    """Check what would be sent now, as the client and the official SDK do."""
    snapshot = Provider(handle).snapshot()
    if snapshot is None:
        return
    body = stream_request("key", None, snapshot.body).body
    assert LiveActivityStreamRequest.from_dict(dict(body or {})) is not None
    state = (body or {})["content_state"]
    percentage = state.get("percentage", 0)
    assert isinstance(percentage, int)
    assert 0 <= percentage <= 99
    assert state.get("current_step", 0) <= state.get("number_of_steps", 0)


def check_end(handle: Any, outcome: Outcome) -> None:
    """Check the requests that end the card, and the push."""
    final = end_state(handle, outcome)
    if final.opening is not None:
        assert (
            LiveActivityStreamRequest.from_dict(dict(stream_request("key", None, final.opening).body or {}))
            is not None
        )
        body = end_stream_request("key", None, final.body).body
        assert LiveActivityStreamDeleteRequest.from_dict(dict(body or {})) is not None
        if outcome.kind != "done":
            assert (body or {})["content_state"].get("percentage", 0) < 100
    push = send_request(None, push_body(handle, outcome, True)).body
    assert PushNotificationRequest.from_dict(dict(push or {})) is not None


@settings(max_examples=300, deadline=None)
@given(makers, st.lists(calls, max_size=12), endings, st.text(max_size=40))
def test_whatever_is_done_to_a_handle(make: Any, done: list[Any], kind: Any, reason: str) -> None:
    """Nothing raises, and every body is accepted by our checks and by the official SDK's models."""
    with at.override(enabled=False), make() as handle:
        check_running(handle)
        for name, positional, named in done:
            drive(handle, name, positional, named)
            check_running(handle)
        outcome = outcome_of(handle, kind, None, scrubbed(handle, reason), 1.0)
        check_end(handle, outcome)
