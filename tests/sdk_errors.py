"""Every error of the service, as something that provokes it: for the official SDKs to meet."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from activitysmith_track.simulator import Simulator

STATE = {"title": "T", "type": "progress", "percentage": 1}


@dataclass(frozen=True)
class Provoked:
    """An error of the service.

    Attributes:
        name: what the test is called.
        call: a name of `CALLS`.
        arguments: of that call.
        status: of the answer.
        body: what the answer holds; a value of `...` stands for any text.
        rules: those of the simulator.
        fault: one to set, where no rule leads to the error.
        before: calls that come first and succeed.
        api_key: another key than the right one.
    """

    name: str
    call: str
    arguments: tuple[Any, ...]
    status: int
    body: dict[str, Any]
    rules: dict[str, Any] = field(default_factory=dict)
    fault: dict[str, Any] | None = None
    before: int = 0
    api_key: str | None = None

    def matches(self, body: dict[str, Any]) -> bool:
        """Tell whether an answer's body is the one that is expected."""
        return all(
            name in body and (bool(body[name]) if wanted is ... else body[name] == wanted)
            for name, wanted in self.body.items()
        )

    def simulator(self) -> Simulator:
        """Make the simulator that it takes."""
        return Simulator(**self.rules)


def _state(**changes: Any) -> dict[str, Any]:
    return {"content_state": {**STATE, **changes}}


RATE = {"error": "Rate limit exceeded", "message": "Too many requests, please try again later."}
SCOPE_WORDS = (
    "This API key can only target assigned channels. Requested channels include channels outside this key scope."
)
BADGE_WORDS = "badge must be a non-negative integer between 0 and 2147483647. Use 0 to clear the badge."
KEY_WORDS = "stream_key must contain only letters, numbers, underscores, and hyphens"
GONE_WORDS = "No Live Activity stream found for stream_key: prod-web-1"
LIMIT = {
    "error": "Live Activity limit reached",
    "message": "Only 4 concurrent Live Activities are allowed per account",
    "limit": 4,
    "active": 4,
}

ERRORS = [
    Provoked("no key", "push", ({"title": "x"},), 401, {"error": ...}, api_key="wrong"),
    Provoked("stream key", "stream", ("a b", _state()), 400, {"error": "Invalid stream_key", "message": KEY_WORDS}),
    Provoked(
        "steps",
        "stream",
        ("k", _state(type="segmented_progress", number_of_steps=2, current_step=3)),
        400,
        {"error": ..., "message": ...},
    ),
    *(
        Provoked(
            f"billing {error}",
            "push",
            ({"title": "x"},),
            402,
            {"error": error, "upgrade_url": ...},
            {"billing": error},
        )
        for error in ("trial_expired", "trial_exhausted", "billing_overage_cap_reached")
    ),
    Provoked(
        "billing stream", "stream", ("k", _state()), 402, {"error": "trial_expired"}, {"billing": "trial_expired"}
    ),
    Provoked("billing start", "start", (_state(),), 402, {"error": "trial_expired"}, {"billing": "trial_expired"}),
    Provoked("billing badge", "badge", (3,), 402, {"error": "trial_expired"}, {"billing": "trial_expired"}),
    Provoked(
        "scope",
        "push",
        ({"title": "x", "channels": ["b"]},),
        403,
        {"error": "Invalid channel targeting", "message": SCOPE_WORDS},
        {"scope": ["a"]},
    ),
    Provoked(
        "scope stream",
        "stream",
        ("k", {**_state(), "channels": ["b"]}),
        403,
        {"error": "Invalid channel targeting"},
        {"scope": ["a"]},
    ),
    Provoked(
        "update of a stranger",
        "update",
        ({"activity_id": "x", **_state()},),
        403,
        {"error": "Forbidden", "message": "This API key cannot update this Live Activity"},
    ),
    Provoked(
        "end of a stranger",
        "end",
        ({"activity_id": "x", **_state()},),
        403,
        {"error": "Forbidden", "message": "This API key cannot end this Live Activity"},
    ),
    Provoked(
        "unknown stream",
        "end_stream",
        ("prod-web-1",),
        404,
        {"error": "Live Activity stream not found", "message": GONE_WORDS},
    ),
    Provoked("unknown metric", "metric", ("m", 1), 404, {"error": "Metric not found"}, {"metrics": []}),
    Provoked(
        "nobody",
        "push",
        ({"title": "x", "channels": ["b"]},),
        422,
        {"error": "No recipients found", "effective_channel_slugs": ["b"]},
        {"channels": ["a"]},
    ),
    Provoked(
        "nobody for a stream",
        "stream",
        ("k", _state()),
        422,
        {"message": "No Live Activity devices matched the effective channel target"},
        {"devices": 0},
    ),
    Provoked(
        "nobody in an older deployment",
        "push",
        ({"title": "x"},),
        404,
        {"error": "No recipients found"},
        fault={
            "kind": "status",
            "status": 404,
            "body": {"error": "No recipients found", "message": "No devices matched the effective channel target"},
        },
    ),
    Provoked(
        "disconnected",
        "badge",
        (3,),
        422,
        {"code": "badge_device_disconnected", "badge": 0, "devices_updated": 0},
        {"devices": 0},
    ),
    Provoked(
        "badge not updated",
        "badge",
        (3,),
        502,
        {"code": "badge_update_failed", "devices_updated": 0},
        fault={"kind": "status", "status": 502},
    ),
    Provoked(
        "rate", "push", ({"title": "x"},), 429, {**RATE, "code": "rate_limited"}, {"requests_per_minute": 1}, before=1
    ),
    Provoked("rate of streams", "stream", ("k", _state()), 429, RATE, {"requests_per_minute": 1}, before=1),
    Provoked("rate of ends", "end_stream", ("k",), 429, RATE, {"requests_per_minute": 1}, before=1),
    Provoked("rate of the lifecycle", "start", (_state(),), 429, RATE, {"requests_per_minute": 1}, before=1),
    Provoked("rate of metrics", "metric", ("m", 1), 429, RATE, {"metric_requests_per_minute": 1}, before=-1),
    Provoked(
        "rate with Retry-After",
        "push",
        ({"title": "x"},),
        429,
        RATE,
        fault={"kind": "status", "status": 429, "retry_after": 5},
    ),
    Provoked("slots", "stream", ("new", _state()), 429, LIMIT, before=4),
    Provoked("slots of starts", "start", (_state(),), 429, LIMIT, before=4),
    Provoked("server error", "stream", ("k", _state()), 500, {"error": ...}, fault={"kind": "status", "status": 500}),
]
"""All of them; `before` counts streams that are started first (-1: one metric)."""

PYTHON_ONLY = [
    Provoked("replace unknown", "replace", ("never", {"title": "x"}), 404, {"error": ...}),
    Provoked(
        "replace conflict",
        "replace",
        ("n", {"title": "x"}),
        409,
        {"error": ...},
        fault={"kind": "status", "status": 409},
    ),
]
"""What the Node SDK has no call for."""

NODE_ONLY = [
    Provoked("badge", "badge", (-1,), 400, {"error": "Invalid badge", "message": BADGE_WORDS}),
    Provoked("metric", "metric", ("m", True), 400, {"error": "value must be a finite number"}),
    Provoked(
        "no channels",
        "stream",
        ("k", {**_state(), "target": {"channels": []}}),
        400,
        {"error": "Invalid channel targeting", "message": "channels must contain at least one channel"},
    ),
    Provoked(
        "channels of a push",
        "push",
        ({"title": "x", "target": {"channels": "ops"}},),
        400,
        {"error": "Invalid channel targeting", "message": "target.channels must be an array of channel slugs"},
    ),
]
"""What the Python SDK does not let out."""
