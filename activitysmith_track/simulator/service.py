"""What the simulated service does with a request: pure, but for a lock and the clock that it is given.

`Service.handle` takes a request apart from HTTP and returns a status and a JSON object. What no source states about
the real service is assumed here as follows: a request's content state replaces the shown one, except for the type and
a timer's duration, which stay where they are left out; so do buttons, tags and metadata.
"""

from __future__ import annotations

import itertools
import json
import math
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, NamedTuple

from .. import payloads
from ..errors import InvalidRequest

__all__ = ["Card", "Received", "ReceivedPush", "Refusal", "Service"]

MAX_BODY_BYTES = 1024 * 1024
FREE_UPDATES, SECONDS_PER_UPDATE = 12, 120
DEVICES = 1  # phones that a simulated request reaches


@dataclass(frozen=True)
class Received:
    """One request, as it came and as it was answered; `path` is without the `/api` in front, `at` in seconds."""

    method: str
    path: str
    body: dict[str, Any] | None
    status: int
    answer: dict[str, Any]
    at: float


@dataclass
class ReceivedPush:
    """A push as the phone has it; every field of a push is an attribute, `None` where it was not sent."""

    notification_id: str
    body: dict[str, Any]
    at: float
    replaced: int = 0

    def __getattr__(self, name: str) -> Any:
        if name in payloads.BODIES["send"][0]:
            return self.body.get(name)
        raise AttributeError(name)


@dataclass
class Card:
    """A Live Activity; every field of a content state is an attribute, `None` where the phone shows none.

    Attributes:
        stream_key: the stream's key, or `None` for one that was started by `start`.
        state: the content state on the screen.
        ended: True after its end; the card stays until it is dismissed.
        updates: how many updates it received; its start and its end are none.
        over_budget: True once an update exceeded the budget of iOS.
        history: each state that it received, start and end included, with its time in seconds.
        dismiss_after: seconds after the end at which it leaves the screen.
    """

    activity_id: str
    stream_key: str | None
    state: dict[str, Any]
    started_at: float
    action: dict[str, Any] | None = None
    secondary_action: dict[str, Any] | None = None
    alert: dict[str, Any] | None = None
    tags: list[str] = field(default_factory=list)
    metadata: dict[str, Any] = field(default_factory=dict)
    channels: list[str] | None = None
    ended: bool = False
    paused: bool = False
    ended_at: float | None = None
    dismiss_after: float | None = None
    updates: int = 0
    over_budget: bool = False
    history: list[tuple[float, dict[str, Any]]] = field(default_factory=list)

    def __getattr__(self, name: str) -> Any:
        if name in payloads.CONTENT_STATE:
            return self.state.get(name)
        raise AttributeError(name)

    def copied(self) -> Card:
        """Return a snapshot that later requests do not change."""
        values = {**self.__dict__, "state": dict(self.state), "history": list(self.history)}
        return Card(**values)

    def within_budget(self, now: float) -> bool:
        """Tell whether the updates so far are within the budget of iOS."""
        return self.updates <= FREE_UPDATES or self.updates <= (now - self.started_at) / SECONDS_PER_UPDATE

    def show(self, request: Mapping[str, Any], now: float) -> None:
        """Take over what a request says; what it leaves out and the service keeps stays."""
        given = request.get("content_state")
        if given is not None:
            kept = {
                name: self.state[name] for name in _KEPT.get(str(self.state.get("type")), ()) if name in self.state
            }
            self.state = {**kept, **{n: v for n, v in given.items() if not n.startswith("auto_dismiss")}}
        for name in ("action", "secondary_action", "alert", "tags", "metadata"):
            if name in request:
                setattr(self, name, request[name])
        self.history.append((now, dict(self.state)))


_KEPT: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(payloads.ACTIVITY_TYPES, ("type",)),
    "timer": ("type", "duration_seconds"),
}


class Refusal(Exception):  # it is an answer, not a fault
    """A request that the service turns down: a status and a body."""

    def __init__(self, status: int, error: str, message: str | None = None, **more: Any) -> None:
        self.status = status
        self.body = {"error": error, **({"message": message} if message is not None else {}), **more}
        super().__init__(error)


class _Route(NamedTuple):
    method: str
    path: re.Pattern[str]
    name: str
    rate: str


_ROUTES = [
    _Route(method, re.compile(path), name, rate)
    for method, path, name, rate in (
        ("POST", "/push-notification", "send", "account"),
        ("PUT", "/push-notification/(?P<key>[^/]+)", "replace", "account"),
        ("PUT", "/live-activity/stream/(?P<key>[^/]*)", "stream", "account"),
        ("DELETE", "/live-activity/stream/(?P<key>[^/]*)", "end_stream", "account"),
        ("POST", "/live-activity/start", "start", "account"),
        ("POST", "/live-activity/update", "update", "account"),
        ("POST", "/live-activity/end", "end", "account"),
        ("POST", "/metrics/(?P<key>[^/]*)/value", "metric", "metrics"),
        ("POST", "/badge", "badge", "account"),
    )
]


class Service:
    """The service's state and rules.

    Args:
        api_key: the key that requests must carry.
        slots: how many Live Activities may run at once.
        requests_per_minute: the account's rate; metrics have their own.
        metric_requests_per_minute: the rate of widgets' metrics.
        metrics: the keys of the metrics that exist; `None` for any.
        channels: the channel slugs that exist; `None` for any.
        scope: the channel slugs that the key is limited to; `None` for no limit.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        *,
        api_key: str = "simulator-key",
        slots: int = 4,
        requests_per_minute: int = 60,
        metric_requests_per_minute: int = 300,
        metrics: Iterable[str] | None = None,
        channels: Iterable[str] | None = None,
        scope: Iterable[str] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.api_key, self.slots, self.clock = api_key, slots, clock
        self._rates = {"account": requests_per_minute, "metrics": metric_requests_per_minute}
        self._known_metrics = None if metrics is None else frozenset(metrics)
        self._known_channels = None if channels is None else frozenset(channels)
        self._scope = None if scope is None else frozenset(scope)
        self._numbers = itertools.count(1)
        self.changed = threading.Condition()  # held while a request is handled; told after each
        self.clear()

    def clear(self) -> None:
        """Forget everything that was received."""
        with self.changed:
            self.requests: list[Received] = []
            self.cards: dict[str, Card] = {}
            self.activities: dict[str, Card] = {}
            self.pushes: dict[str, ReceivedPush] = {}
            self.metrics: dict[str, Any] = {}
            self.badge: int | None = None
            self._streams_known: set[str] = set()
            self._paused: set[str] = set()
            self._recent: dict[str, deque[float]] = {name: deque() for name in self._rates}

    # -- the way in

    def handle(self, method: str, path: str, authorization: str | None, content: bytes) -> tuple[int, dict[str, Any]]:
        """Answer one request.

        Args:
            method: the HTTP method.
            path: the path behind `/api`.
            authorization: the Authorization header.
            content: the body's bytes.

        Returns:
            The status and the body of the answer.
        """
        with self.changed:
            body: dict[str, Any] | None = None
            try:
                body = _parsed(content)
                status, answer = 200, self._answer(method, path, authorization, body)
            except Refusal as refusal:
                status, answer = refusal.status, refusal.body
            self.requests.append(Received(method, path, body, status, answer, self.clock()))
            self.changed.notify_all()
        return status, answer

    def _answer(
        self, method: str, path: str, authorization: str | None, body: dict[str, Any] | None
    ) -> dict[str, Any]:
        if authorization != f"Bearer {self.api_key}":
            raise Refusal(401, "Unauthorized", "Missing or invalid API key")
        route, key = _route(method, path)
        self._count(route.rate)
        if body is None and route.name != "end_stream":
            raise Refusal(400, "Invalid request", "a JSON body is required")
        if route.name in ("stream", "end_stream") and not _is_valid(payloads.check_stream_key, key):
            raise Refusal(400, "Invalid stream_key", _STREAM_KEY_WORDS)
        checked = _checked(route.name, body or {})
        if "target" in checked or "channels" in checked:
            self._check_channels(_channels_of(checked) or [], pushes=route.name == "send")
        answer: dict[str, Any] = getattr(self, f"_{route.name}")(key, checked)
        return {"success": True, **answer}

    def _count(self, rate: str) -> None:
        now, recent = self.clock(), self._recent[rate]
        while recent and recent[0] <= now - 60:
            recent.popleft()
        if len(recent) >= self._rates[rate]:
            raise Refusal(
                429, "Rate limit exceeded", "Too many requests, please try again later.", code="rate_limited"
            )
        recent.append(now)

    def _check_channels(self, channels: list[str], *, pushes: bool) -> None:
        if self._scope is not None and not self._scope.issuperset(channels):
            raise Refusal(403, "Invalid channel targeting", _SCOPE_WORDS)
        if self._known_channels is not None and not self._known_channels.intersection(channels):
            what = "devices" if pushes else "Live Activity devices"
            message = f"No {what} matched the effective channel target"
            raise Refusal(422, "No recipients found", message, effective_channel_slugs=channels)

    def _reached(self, channels: list[str] | None) -> dict[str, Any]:
        slugs = channels if channels is not None else sorted(self._scope or ())
        return {
            "devices_notified": DEVICES,
            "users_notified": 1,
            "effective_channel_slugs": slugs,
            "timestamp": _timestamp(),
        }

    def _name(self, kind: str) -> str:
        return f"{kind}_{next(self._numbers)}"

    # -- pushes, metrics, the badge

    def _send(self, _: str, body: dict[str, Any]) -> dict[str, Any]:
        push = ReceivedPush(self._name("ntf"), body, self.clock())
        self.pushes[push.notification_id] = push
        answer = {"notification_id": push.notification_id, **self._reached(_channels_of(body))}
        return {**answer, "tags": body["tags"]} if "tags" in body else answer

    def _replace(self, key: str, body: dict[str, Any]) -> dict[str, Any]:
        push = self.pushes.get(key)
        if push is None:
            raise Refusal(404, "Notification not found", f"No notification found for notification_id: {key}")
        kept = ("tags", "metadata", "target", "sound", "interruption_level")
        push.body = {**{name: push.body[name] for name in kept if name in push.body}, **body}
        push.replaced += 1
        return {"notification_id": key, **self._reached(_channels_of(push.body))}

    def _metric(self, key: str, body: dict[str, Any]) -> dict[str, Any]:
        if not _is_valid(payloads.check_metric_key, key):
            raise Refusal(400, "Invalid metric key")
        if self._known_metrics is not None and key not in self._known_metrics:
            raise Refusal(404, "Metric not found")
        self.metrics[key] = body["value"]
        return {}

    def _badge(self, _: str, body: dict[str, Any]) -> dict[str, Any]:
        self.badge = body["badge"]
        updated = {"badge": self.badge, "devices_updated": DEVICES, "users_updated": 1}
        return {**updated, **self._reached(_channels_of(body))}

    # -- streams

    def _stream(self, key: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = {"stream_key": key, "activity_id": None, **self._reached(_channels_of(body))}
        if key in self._paused:
            return {**answer, "operation": "paused", "devices_notified": 0}
        card = self.cards.get(key)
        if card is None or card.ended:
            return {**answer, "operation": "started", "activity_id": self._begin(key, body).activity_id}
        if _rotates(card, body):
            self._finish(card, {}, 0)
            new = self._begin(key, body)
            ids = {"activity_id": new.activity_id, "previous_activity_id": card.activity_id}
            return {**answer, "operation": "rotated", **ids}
        answer["activity_id"] = card.activity_id
        if not _changes(card, body):
            return {**answer, "operation": "noop", "devices_notified": 0}
        return {**answer, "operation": "updated", **self._update_card(card, body)}

    def _update_card(self, card: Card, body: dict[str, Any]) -> dict[str, Any]:
        now = self.clock()
        card.updates += 1
        card.show(body, now)
        if card.within_budget(now):
            return {}
        card.over_budget = True
        return {"warning": f"{card.updates} updates are more than iOS shows; send at most one every two minutes."}

    def _begin(self, key: str | None, body: dict[str, Any]) -> Card:
        state = body["content_state"]
        if "type" not in state:
            raise Refusal(400, "Invalid content_state", "content_state.type is required to start a Live Activity")
        active = sum(not card.ended for card in self.activities.values())
        if active >= self.slots:
            message = f"Only {self.slots} concurrent Live Activities are allowed per account"
            raise Refusal(429, "Live Activity limit reached", message, limit=self.slots, active=active)
        card = Card(self._name("act"), key, {}, self.clock(), channels=_channels_of(body))
        card.show(body, card.started_at)
        self.activities[card.activity_id] = card
        if key is not None:
            self.cards[key] = card
            self._streams_known.add(key)
        return card

    def _finish(self, card: Card, body: Mapping[str, Any], default: float) -> None:
        card.show(body, self.clock())
        card.ended, card.ended_at = True, self.clock()
        state = body.get("content_state", {})
        minutes = state.get("auto_dismiss_minutes")
        card.dismiss_after = state.get("auto_dismiss_seconds", default if minutes is None else minutes * 60)

    def _end_stream(self, key: str, body: dict[str, Any]) -> dict[str, Any]:
        if key not in self._streams_known:
            message = f"No Live Activity stream found for stream_key: {key}"
            raise Refusal(404, "Live Activity stream not found", message)
        answer = {"operation": "ended", "stream_key": key, "timestamp": _timestamp(), "devices_notified": DEVICES}
        card = self.cards.get(key)
        if card is None or card.ended:
            return {**answer, "activity_id": None, "ignored": True, "devices_notified": 0}
        self._finish(card, body, 120)
        return {**answer, "activity_id": card.activity_id}

    # -- the lifecycle

    def _start(self, _: str, body: dict[str, Any]) -> dict[str, Any]:
        return {"activity_id": self._begin(None, body).activity_id, **self._reached(_channels_of(body))}

    def _running(self, body: Mapping[str, Any], verb: str) -> Card:
        card = self.activities.get(body["activity_id"])
        if card is None:
            raise Refusal(403, "Forbidden", f"This API key cannot {verb} this Live Activity")
        return card

    def _update(self, _: str, body: dict[str, Any]) -> dict[str, Any]:
        card = self._running(body, "update")
        more = self._update_card(card, body) if not card.ended else {}
        return {"activity_id": card.activity_id, **self._reached(card.channels), **more}

    def _end(self, _: str, body: dict[str, Any]) -> dict[str, Any]:
        card = self._running(body, "end")
        answer = {"activity_id": card.activity_id, "timestamp": _timestamp(), "devices_notified": DEVICES}
        if card.ended:
            return {**answer, "ignored": True}
        self._finish(card, body, 180)
        return answer

    # -- what somebody does in the app

    def pause(self, stream_key: str) -> None:
        """Pause a stream: its activity ends, and PUTs answer `paused`."""
        with self.changed:
            self._paused.add(stream_key)
            card = self.cards.get(stream_key)
            if card is not None and not card.ended:
                self._finish(card, {}, 0)
                card.paused = True
            self.changed.notify_all()

    def resume(self, stream_key: str) -> None:
        """Let a paused stream run again; its next PUT starts it."""
        with self.changed:
            self._paused.discard(stream_key)
            self.changed.notify_all()


_STREAM_KEY_WORDS = "stream_key must contain only letters, numbers, underscores, and hyphens"
_SCOPE_WORDS = (
    "This API key can only target assigned channels. Requested channels include channels outside this key scope."
)
_BADGE_WORDS = "badge must be a non-negative integer between 0 and 2147483647. Use 0 to clear the badge."


def _timestamp() -> str:
    return datetime.now(timezone.utc).isoformat()


def _parsed(content: bytes) -> dict[str, Any] | None:
    if len(content) > MAX_BODY_BYTES:
        raise Refusal(413, "Payload too large", f"a body has at most {MAX_BODY_BYTES} bytes")
    if not content.strip():
        return None
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        raise Refusal(400, "Invalid JSON", "the body is not JSON") from None
    if not isinstance(body, dict):
        raise Refusal(400, "Invalid request", "the body must be an object")
    return body


def _route(method: str, path: str) -> tuple[_Route, str]:
    found = [(route, match) for route in _ROUTES if (match := route.path.fullmatch(path))]
    for route, match in found:
        if route.method == method:
            return route, match.groupdict().get("key", "")
    if found:
        raise Refusal(405, "Method not allowed", f"{path} takes {' and '.join(each.method for each, _ in found)}")
    raise Refusal(404, "Not found", "there is no such endpoint")


def _is_valid(check: payloads.Check, value: str) -> bool:
    try:
        check("key", value)
    except InvalidRequest:
        return False
    return True


def _checked(operation: str, body: dict[str, Any]) -> dict[str, Any]:
    """Check a body as the client does, and refuse it in the service's words where they are known."""
    try:
        return payloads.check_body(operation, body)
    except InvalidRequest as problem:
        if operation == "metric" and problem.field == "value" and _is_no_number(problem.value):
            raise Refusal(400, "value must be a finite number") from None
        if operation == "badge" and problem.field == "badge":
            raise Refusal(400, "Invalid badge", _BADGE_WORDS) from None
        if problem.field.startswith(("channels", "target")) and "target" in payloads.BODIES[operation][0]:
            raise Refusal(400, "Invalid channel targeting", _channel_words(problem, operation)) from None
        raise Refusal(400, "Invalid request", str(problem)) from None


def _is_no_number(value: object) -> bool:
    return not isinstance(value, str) or not value


def _channel_words(problem: InvalidRequest, operation: str) -> str:
    if operation == "stream" and problem.value == "0 entries":
        return "channels must contain at least one channel"
    return "target.channels must be an array of channel slugs"


def _channels_of(body: Mapping[str, Any]) -> list[str] | None:
    channels = body.get("target", {}).get("channels", body.get("channels"))
    return None if channels is None else list(channels)


def _rotates(card: Card, body: Mapping[str, Any]) -> bool:
    kind = body["content_state"].get("type", card.type)
    channels = _channels_of(body)
    return bool(kind != card.type or (channels is not None and channels != card.channels))


def _changes(card: Card, body: Mapping[str, Any]) -> bool:
    """Tell whether a request would change what the phone shows."""
    after = card.copied()
    after.show({name: value for name, value in body.items() if name != "alert"}, math.nan)
    names = ("state", "action", "secondary_action", "tags", "metadata")
    return any(getattr(after, name) != getattr(card, name) for name in names)
