"""What the simulated service does with a request: pure, but for a lock and the clock that it is given.

`Service.handle` takes a request apart from HTTP and returns a status and a JSON object. What no source states about
the real service is assumed here as follows: a request's content state replaces the shown one, except for the type and
a timer's fields, which stay where they are left out; so do buttons, tags and metadata, and over a rotation tags,
metadata and channels. A PUT that carries a timer's duration or an alert is never a `noop`: the one restarts the
timer, the other rings. A PUT that changes tags or metadata alone is one: they are kept, and nothing is sent to the
phone. The first PUT of a stream, and one that rotates it, needs what a start needs. What the phone makes of all that
is in `device`.
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
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote

from .. import payloads
from ..errors import InvalidRequest
from .device import Card, Device, ReceivedPush, is_loud, on_screen, weight

if TYPE_CHECKING:
    from .faults import Fault

__all__ = ["Received", "Refusal", "Service"]

MAX_BODY_BYTES = 1024 * 1024
MAX_DEPTH = 64  # of objects and lists within each other
MAX_BYTES = 32 * 1024 * 1024  # of memory for all that is remembered
MAX_REQUESTS, MAX_ACTIVITIES, MAX_PUSHES, MAX_WIDGETS, MAX_TAPS = 10_000, 200, 200, 100, 200  # remembered
MAX_PAUSED = 1_000
RECORD_BYTES = 1_000  # of memory for a request beside its texts
_SENDS = ("send", "replace", "stream", "start", "badge")
BILLING = ("trial_expired", "trial_exhausted", "billing_overage_cap_reached")


@dataclass(frozen=True)
class Received:
    """One request, as it came and as it was answered.

    Attributes:
        method: the HTTP method.
        path: without the `/api` in front, as it was sent: with its escapes.
        content: the bytes of the body.
        answered: the bytes of the answer.
        status: of the answer; 0 where a fault left the request without one.
        at: when it came, in seconds of the clock.
        number: counts the requests, from 1.
        verdict: `"sent"`, `"nothing new"` (the service sent nothing), `"over budget"` (the phone does not show it),
            `"refused"`, or `"fault"`.
        fault: the kind of the fault that struck it, or `None`.
    """

    method: str
    path: str
    content: bytes
    status: int
    answered: bytes
    at: float
    number: int = 0
    verdict: str = "sent"
    fault: str | None = None
    why: str = ""

    @property
    def body(self) -> dict[str, Any] | None:
        """What it carried; `None` for nothing, and for what the service could not read."""
        try:
            return read_object(self.content)
        except Refusal:
            return None

    @property
    def answer(self) -> dict[str, Any]:
        """What was answered."""
        return json.loads(self.answered)  # type: ignore[no-any-return]  # the service wrote it

    @property
    def size(self) -> int:
        """About how many bytes of memory it takes."""
        return RECORD_BYTES + len(self.path) + len(self.content) + len(self.answered)


def _why(status: int, answer: Mapping[str, Any], verdict: str, fault: str | None) -> str:
    """Say in a few words what became of a request."""
    if fault is not None and verdict == "fault":
        return f"fault: {fault}"
    if status >= 400:
        return ": ".join(str(answer[name]) for name in ("error", "message") if answer.get(name))
    said = answer.get("operation") or ("ignored" if answer.get("ignored") else "ok")
    return f"{said}: {answer['warning']}" if answer.get("warning") else str(said)


@dataclass(frozen=True)
class Tap:
    """A button that somebody pressed on the page, and what came of it."""

    at: float
    title: str
    type: str
    url: str
    method: str | None = None
    body: dict[str, Any] | None = None
    outcome: str = "recorded"

    @property
    def size(self) -> int:
        """About how many bytes of memory it takes."""
        return weight(self.title, self.url, self.body)


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
        when_full: what a start does when they are taken: `"refuse"` it with 429, or `"end_oldest"` to make room.
        requests_per_minute: the account's rate; metrics have their own.
        metric_requests_per_minute: the rate of widgets' metrics.
        metrics: the keys of the metrics that exist, a list or comma-separated; `None` for any.
        channels: the channel slugs that exist, likewise; `None` for any.
        scope: the channel slugs that the key is limited to, likewise; `None` for no limit.
        billing: `"trial_expired"`, `"trial_exhausted"` or `"billing_overage_cap_reached"` for an account that may not
            send (402); `None` for one that may.
        devices: how many phones a request reaches; with 0 of them nobody receives anything (422).
        device: the phone's parameters.
        clock: seconds, monotonic.

    Raises:
        InvalidRequest: for a rule that cannot be.
    """

    def __init__(
        self,
        *,
        api_key: str = "simulator-key",
        slots: int = 4,
        when_full: str = "refuse",
        requests_per_minute: int = 60,
        metric_requests_per_minute: int = 300,
        metrics: Iterable[str] | str | None = None,
        channels: Iterable[str] | str | None = None,
        scope: Iterable[str] | str | None = None,
        billing: str | None = None,
        devices: int = 1,
        device: Device | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.api_key, self.clock, self.device = api_key, clock, device or Device()
        self.slots = payloads.check_integer("slots", slots, at_least=1)
        self.devices = payloads.check_integer("devices", devices)
        if when_full not in ("refuse", "end_oldest"):
            raise InvalidRequest("when_full", when_full, "refuse or end_oldest")
        if billing not in (None, *BILLING):
            raise InvalidRequest("billing", billing, "one of " + ", ".join(BILLING))
        self._when_full, self._billing = when_full, billing
        self._rates = {
            "account": payloads.check_integer("requests_per_minute", requests_per_minute, at_least=1),
            "metrics": payloads.check_integer("metric_requests_per_minute", metric_requests_per_minute, at_least=1),
        }
        self._known_metrics = names("metrics", metrics)
        self._known_channels = names("channels", channels)
        self._scope = names("scope", scope)
        self._numbers, self._counts = itertools.count(1), itertools.count(1)
        self.version = 0
        self.requests: deque[Received] = deque()
        self.forgotten = 0  # the number of the last request that is no longer remembered
        self.listeners: list[Callable[[], None]] = []
        self.changed = threading.Condition()  # held while a request is handled; told after each
        self.clear()

    def clear(self) -> None:
        """Forget everything that was received."""
        with self.changed:
            self.forgotten = self.requests[-1].number if self.requests else self.forgotten
            self.requests.clear()
            self._request_bytes = 0
            self.cards: dict[str, Card] = {}
            self.activities: dict[str, Card] = {}
            self.pushes: dict[str, ReceivedPush] = {}
            self.metrics: dict[str, Any] = {}
            self.badge: int | None = None
            self.taps: deque[Tap] = deque(maxlen=MAX_TAPS)
            self._streams_known: dict[str, None] = {}
            self._paused: set[str] = set()
            self._recent: dict[str, deque[float]] = {name: deque() for name in self._rates}
            self._tell()

    def _tell(self) -> None:
        """Let those who wait look again; called with the lock held."""
        self.version += 1
        self.changed.notify_all()
        for listener in list(self.listeners):
            listener()

    def touch(self) -> None:
        """Let those who wait look again, after the clock was moved."""
        with self.changed:
            self._expire()
            self._tell()

    def look(self) -> None:
        """Look at what the clock has brought: activities whose life is over."""
        with self.changed:
            if self._expire():
                self._tell()

    def _expire(self) -> bool:
        now = self.clock()
        return bool([card for card in self.activities.values() if card.expire(now)])

    # -- the way in

    def handle(
        self, method: str, path: str, authorization: str | None, content: bytes, *, fault: Fault | None = None
    ) -> tuple[int, dict[str, Any]]:
        """Answer one request.

        Args:
            method: the HTTP method.
            path: the path behind `/api`, as it was sent: with its escapes.
            authorization: the Authorization header.
            content: the body's bytes.
            fault: the one that strikes the request; it may keep it from being carried out.

        Returns:
            The status and the body of the answer.
        """
        with self.changed:
            self._expire()
            self._verdict = "sent" if fault is None or fault.handled else "fault"
            status, answer = 200, dict[str, Any]()
            if self._verdict != "fault":
                status, answer = self._carry_out(method, path, authorization, content)
            kept = content if len(content) <= MAX_BODY_BYTES else b""
            seen, kind = status, None
            if fault is not None:
                status, answer = fault.spoil(status, answer)
                seen, kind = 0 if fault.loses_answer else status, fault.kind
            why = _why(seen, answer, self._verdict, kind)
            self._record(
                Received(method, path, kept, seen, as_json(answer), self.clock(), 0, self._verdict, kind, why)
            )
        return status, answer

    def _carry_out(
        self, method: str, path: str, authorization: str | None, content: bytes
    ) -> tuple[int, dict[str, Any]]:
        try:
            return 200, self._answer(method, path, authorization, read_object(content))
        except Refusal as refusal:
            self._verdict = "refused"
            return refusal.status, refusal.body

    def _record(self, request: Received) -> None:
        self.requests.append(replace(request, number=next(self._counts)))
        self._request_bytes += request.size
        while len(self.requests) > MAX_REQUESTS:
            self._forget_request()
        while self.remembered_bytes > MAX_BYTES and (oldest := self._oldest()) is not None:
            oldest()
        self._tell()

    @property
    def remembered_bytes(self) -> int:
        """About how many bytes of memory the requests, pushes, taps and cards take."""
        others: Iterable[ReceivedPush | Tap | Card]
        others = itertools.chain(self.pushes.values(), self.taps, self.activities.values())
        return self._request_bytes + sum(each.size for each in others)

    def _oldest(self) -> Callable[[], object] | None:
        """Return what forgets the oldest of all that may be forgotten: everything but what runs."""
        push = next(iter(self.pushes.values()), None)
        card = next((card for card in self.activities.values() if card.ended), None)
        found: list[tuple[float | None, Callable[[], object]]] = [
            (self.requests[0].at if self.requests else None, self._forget_request),
            (self.taps[0].at if self.taps else None, self.taps.popleft),
            (push.at if push else None, lambda: self.pushes.pop(push.notification_id) if push else None),
            (card.ended_at if card else None, lambda: self._forget_card(card) if card else None),
        ]
        return min(
            ((at, forget) for at, forget in found if at is not None), default=(0, None), key=lambda each: each[0]
        )[1]

    def _forget_request(self) -> None:
        oldest = self.requests.popleft()
        self.forgotten, self._request_bytes = oldest.number, self._request_bytes - oldest.size

    def _forget_card(self, card: Card) -> None:
        del self.activities[card.activity_id]
        if card.stream_key is not None and self.cards.get(card.stream_key) is card:
            del self.cards[card.stream_key]

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
        if self._billing is not None and route.name in _SENDS:
            raise Refusal(402, self._billing, _BILLING_WORDS, upgrade_url=_UPGRADE_URL)
        if "target" in checked or "channels" in checked:
            self._check_channels(_channels_of(checked) or [], pushes=route.name in ("send", "badge"))
        if not self.devices and route.name in _SENDS:
            self._nobody(route.name, _channels_of(checked))
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
            raise _no_recipients(channels, pushes=pushes)

    def _nobody(self, name: str, channels: list[str] | None) -> None:
        if name == "badge":
            more = {"code": "badge_device_disconnected", "badge": self.badge or 0, "devices_updated": 0}
            raise Refusal(422, "Badge update failed", "The device is disconnected.", **more)
        raise _no_recipients(self._effective(channels), pushes=name in ("send", "replace"))

    def _effective(self, channels: list[str] | None) -> list[str]:
        return channels if channels is not None else sorted(self._scope or ())

    def _reached(self, channels: list[str] | None) -> dict[str, Any]:
        return {
            "devices_notified": self.devices,
            "users_notified": 1,
            "effective_channel_slugs": self._effective(channels),
            "timestamp": self._timestamp(),
        }

    def _timestamp(self) -> str:
        date = getattr(self.clock, "date", lambda: datetime.now(timezone.utc))()
        return str(date.isoformat())

    def _name(self, kind: str) -> str:
        return f"{kind}_{next(self._numbers)}"

    # -- pushes, metrics, the badge

    def _send(self, _: str, body: dict[str, Any]) -> dict[str, Any]:
        push = ReceivedPush(self._name("ntf"), body, self.clock(), is_loud(body, self.device))
        self.pushes[push.notification_id] = push
        _keep_last(self.pushes, MAX_PUSHES)
        self.badge = body.get("badge", self.badge)
        answer = {"notification_id": push.notification_id, **self._reached(_channels_of(body))}
        return {**answer, "tags": body["tags"]} if "tags" in body else answer

    def _replace(self, key: str, body: dict[str, Any]) -> dict[str, Any]:
        push = self.pushes.get(key)
        if push is None:
            raise Refusal(404, "Notification not found", f"No notification found for notification_id: {key}")
        push.replace(body)
        self.badge = body.get("badge", self.badge)
        return {"notification_id": key, **self._reached(_channels_of(push.body))}

    def _metric(self, key: str, body: dict[str, Any]) -> dict[str, Any]:
        if not _is_valid(payloads.check_metric_key, key):
            raise Refusal(400, "Invalid metric key")
        if self._known_metrics is not None and key not in self._known_metrics:
            raise Refusal(404, "Metric not found")
        self.metrics.pop(key, None)
        self.metrics[key] = body["value"]
        _keep_last(self.metrics, MAX_WIDGETS)
        return {}

    def _badge(self, _: str, body: dict[str, Any]) -> dict[str, Any]:
        self.badge = body["badge"]
        updated = {"badge": self.badge, "devices_updated": self.devices, "users_updated": 1}
        return {**updated, **self._reached(_channels_of(body))}

    # -- streams

    def _stream(self, key: str, body: dict[str, Any]) -> dict[str, Any]:
        card = self.cards.get(key)
        runs = card is not None and not card.ended
        channels = _channels_of(body)
        if channels is None and card is not None and runs:
            channels = card.channels
        answer = {"stream_key": key, "activity_id": None, **self._reached(channels)}
        if "tags" in body:
            answer["tags"] = body["tags"]
        if key in self._paused:
            self._verdict = "nothing new"
            return {**answer, "operation": "paused", "devices_notified": 0}
        if card is None or not runs:
            new, made_room = self._begin(key, body, channels)
            return {**answer, "operation": "started", "activity_id": new.activity_id, **made_room}
        if self._rotates(card, body):
            return {**answer, "operation": "rotated", **self._rotate(card, body, channels)}
        return {**answer, "activity_id": card.activity_id, **self._update_stream(card, body)}

    def _rotates(self, card: Card, body: Mapping[str, Any]) -> bool:
        before, channels = card.sent.state.get("type"), _channels_of(body)
        is_retargeted = channels is not None and set(channels) != set(self._effective(card.channels))
        return bool(is_retargeted or body["content_state"].get("type", before) != before)

    def _rotate(self, card: Card, body: dict[str, Any], channels: list[str] | None) -> dict[str, Any]:
        """End a stream's activity and begin another one; what a start needs is looked at first."""
        _check_start(body)
        self._finish(card, {}, 0, by="request")
        new, _ = self._begin(str(card.stream_key), {"tags": card.tags, "metadata": card.metadata, **body}, channels)
        return {"activity_id": new.activity_id, "previous_activity_id": card.activity_id}

    def _update_stream(self, card: Card, body: dict[str, Any]) -> dict[str, Any]:
        if _changes(card, body):
            return {"operation": "updated", **self._update_card(card, body)}
        card.keep(body)
        self._verdict = "nothing new"
        return {"operation": "noop", "devices_notified": 0}

    def _update_card(self, card: Card, body: dict[str, Any]) -> dict[str, Any]:
        now = self.clock()
        if not card.update(body, now):
            self._verdict = "over budget"
        if within_service_budget(card.updates, now - card.started_at):
            return {}
        return {"warning": f"{card.updates} updates are more than iOS shows; send at most one every two minutes."}

    def _begin(
        self, key: str | None, body: dict[str, Any], channels: list[str] | None
    ) -> tuple[Card, dict[str, Any]]:
        """Start an activity; returns it, and what the answer says of an older one that made room."""
        _check_start(body)
        made_room = self._make_room()
        now = self.clock()
        card = Card(self._name("act"), key, now, self.device, channels=channels)
        card.start(body, now)
        self.activities[card.activity_id] = card
        if key is not None:
            self.cards.pop(key, None)
            self.cards[key] = card
            self._streams_known[key] = None
            _keep_last(self._streams_known, 10 * MAX_ACTIVITIES)
        self._forget_old()
        return card, made_room

    def _make_room(self) -> dict[str, Any]:
        running = [card for card in self.activities.values() if not card.ended]
        if len(running) < self.slots:
            return {}
        if self._when_full == "refuse":
            message = f"Only {self.slots} concurrent Live Activities are allowed per account"
            raise Refusal(429, "Live Activity limit reached", message, limit=self.slots, active=len(running))
        self._finish(running[0], {}, 0, by="room")
        return {"ended_activity_id": running[0].activity_id}

    def _forget_old(self) -> None:
        """Drop the oldest ended activities, so that a long life does not fill the memory."""
        surplus = len(self.activities) - MAX_ACTIVITIES
        for card in [each for each in self.activities.values() if each.ended][: max(0, surplus)]:
            self._forget_card(card)

    def _finish(self, card: Card, body: Mapping[str, Any], default: float, *, by: str) -> None:
        state = body.get("content_state", {})
        minutes = state.get("auto_dismiss_minutes")
        stays = state.get("auto_dismiss_seconds", default if minutes is None else minutes * 60)
        card.end(body, self.clock(), by=by, dismiss_after=stays)

    def _end_stream(self, key: str, body: dict[str, Any]) -> dict[str, Any]:
        if key not in self._streams_known:
            message = f"No Live Activity stream found for stream_key: {key}"
            raise Refusal(404, "Live Activity stream not found", message)
        answer = {"operation": "ended", "stream_key": key, "timestamp": self._timestamp()}
        card = self.cards.get(key)
        if card is None or card.ended:
            self._verdict = "nothing new"
            return {**answer, "activity_id": None, "ignored": True, "devices_notified": 0}
        self._finish(card, body, 120, by="request")
        return {**answer, "activity_id": card.activity_id, "devices_notified": self.devices}

    # -- the lifecycle

    def _start(self, _: str, body: dict[str, Any]) -> dict[str, Any]:
        card, made_room = self._begin(None, body, _channels_of(body))
        return {"activity_id": card.activity_id, **self._reached(_channels_of(body)), **made_room}

    def _running(self, body: Mapping[str, Any], verb: str) -> Card:
        card = self.activities.get(body["activity_id"])
        if card is None:
            raise Refusal(403, "Forbidden", f"This API key cannot {verb} this Live Activity")
        return card

    def _update(self, _: str, body: dict[str, Any]) -> dict[str, Any]:
        card = self._running(body, "update")
        answer = {"activity_id": card.activity_id, **self._reached(card.channels)}
        if card.ended:
            self._verdict = "nothing new"
            return {**answer, "devices_notified": 0}
        return {**answer, **self._update_card(card, body)}

    def _end(self, _: str, body: dict[str, Any]) -> dict[str, Any]:
        card = self._running(body, "end")
        answer = {"activity_id": card.activity_id, "timestamp": self._timestamp()}
        if card.ended:
            self._verdict = "nothing new"
            reason = {"end_reason": card.ended_by} if card.ended_by != "request" else {}
            return {**answer, "devices_notified": 0, "ignored": True, **reason}
        self._finish(card, body, 180, by="request")
        return {**answer, "devices_notified": self.devices}

    # -- what somebody does with the phone, or in the app

    def pause(self, stream_key: str) -> None:
        """Pause a stream: its activity ends, and PUTs answer `paused`.

        Raises:
            InvalidRequest: for what is no stream key, or when 1,000 streams are paused already.
        """
        payloads.check_stream_key("stream_key", stream_key)
        with self.changed:
            if len(self._paused) >= MAX_PAUSED and stream_key not in self._paused:
                raise InvalidRequest("stream_key", stream_key, f"at most {MAX_PAUSED} paused streams")
            self._paused.add(stream_key)
            card = self.cards.get(stream_key)
            if card is not None and not card.ended:
                card.end({}, self.clock(), by="pause", dismiss_after=0)
            self._tell()

    def resume(self, stream_key: str) -> None:
        """Let a paused stream run again; its next PUT starts it.

        Raises:
            InvalidRequest: for what is no stream key.
        """
        payloads.check_stream_key("stream_key", stream_key)
        with self.changed:
            self._paused.discard(stream_key)
            self._tell()

    @property
    def paused(self) -> list[str]:
        """The streams that are paused."""
        with self.changed:
            return sorted(self._paused)

    def button(self, identifier: str, name: str) -> dict[str, Any] | None:
        """Return a button that is on the screen.

        Args:
            identifier: an activity's or a notification's.
            name: `action` or `secondary_action` of an activity, the index of a push's button, or `redirection`.
        """
        with self.changed:
            card, push = self._seen(identifier)
            if card is not None and name in ("action", "secondary_action"):
                return getattr(card.shown, name)  # type: ignore[no-any-return]
            if push is None:
                return None
            if name == "redirection":
                link = push.redirection
                return None if link is None else {"title": push.title, "type": "open_url", "url": link}
            buttons = push.actions or []
            return buttons[int(name)] if re.fullmatch("[0-3]", name) and int(name) < len(buttons) else None

    def tap(self, tap: Tap) -> None:
        """Remember that a button was pressed."""
        with self.changed:
            self.taps.append(tap)
            self._tell()

    def dismiss(self, identifier: str) -> bool:
        """Swipe a card or a push off the screen; a running card goes on without being seen, as on the phone.

        Returns:
            Whether one of that id was on the screen.
        """
        with self.changed:
            found = next((each for each in self._seen(identifier) if each is not None), None)
            if found is not None:
                found.swiped = True
            self._tell()
        return found is not None

    def _seen(self, identifier: str) -> tuple[Card | None, ReceivedPush | None]:
        """Return the card or the push of an id, where it is on the screen."""
        self.look()
        card, push = self.activities.get(identifier), self.pushes.get(identifier)
        seen = on_screen(self.activities.values(), self.clock(), self.device)
        return card if card in seen else None, None if push is None or push.swiped else push

    def tell_truth(self, stream_key: str, percentage: float) -> bool:
        """Note how far the job itself says it is, for the chart of true against shown.

        Args:
            stream_key: of the card.
            percentage: 0 to 100.

        Returns:
            Whether there is such a card.

        Raises:
            InvalidRequest: for a percentage outside that range.
        """
        payloads.check_number("percentage", percentage, at_least=0, at_most=100)
        with self.changed:
            card = self.cards.get(stream_key)
            if card is not None:
                card.truth.append((self.clock(), percentage))
                self._tell()
        return card is not None


_STREAM_KEY_WORDS = "stream_key must contain only letters, numbers, underscores, and hyphens"
_SCOPE_WORDS = (
    "This API key can only target assigned channels. Requested channels include channels outside this key scope."
)
_BADGE_WORDS = "badge must be a non-negative integer between 0 and 2147483647. Use 0 to clear the badge."


_BILLING_WORDS = "Sending is not included in this account's plan any more."
_UPGRADE_URL = "https://activitysmith.com/app/billing"


def within_service_budget(updates: int, seconds: float) -> bool:
    """Tell whether the service answers an update without a warning: its own rule, whatever the phone shows."""
    return _SERVICE.within_budget(updates, seconds)


_SERVICE = Device()


def _no_recipients(channels: list[str], *, pushes: bool) -> Refusal:
    what = "devices" if pushes else "Live Activity devices"
    message = f"No {what} matched the effective channel target"
    return Refusal(422, "No recipients found", message, effective_channel_slugs=channels)


def _keep_last(entries: dict[str, Any], most: int) -> None:
    while len(entries) > most:
        del entries[next(iter(entries))]


def as_json(content: Any) -> bytes:
    """Write a value as compact JSON in ASCII."""
    return json.dumps(content, separators=(",", ":"), allow_nan=False).encode()


def read_object(content: bytes) -> dict[str, Any] | None:
    """Read a body: an object, or `None` where it is empty.

    Raises:
        Refusal: with 413 for more than 1 MiB; with 400 for what is not JSON in UTF-8, for anything but an object, and
            for more than 64 objects and lists within each other.
    """
    if len(content) > MAX_BODY_BYTES:
        raise Refusal(413, "Payload too large", f"a body has at most {MAX_BODY_BYTES} bytes")
    if not content.strip():
        return None
    try:
        body = json.loads(content.decode(), parse_constant=_no_constant, parse_float=_finite)
    except (ValueError, RecursionError):
        raise Refusal(400, "Invalid JSON", "the body is not JSON in UTF-8") from None
    if not isinstance(body, dict):
        raise Refusal(400, "Invalid request", "the body must be an object")
    if _is_deep(body):
        raise Refusal(400, "Invalid request", f"the body nests more than {MAX_DEPTH} objects and lists")
    return body


def _is_deep(body: dict[str, Any]) -> bool:
    level: list[Any] = [body]
    depth = 0
    while level and depth < MAX_DEPTH:
        members = (member for each in level for member in (each.values() if isinstance(each, dict) else each))
        level = [member for member in members if isinstance(member, (dict, list))]
        depth += 1
    return bool(level)


def names(path: str, given: Iterable[str] | str | None) -> frozenset[str] | None:
    """Read a list of names, or a comma-separated one; `None` stays `None`.

    Raises:
        InvalidRequest: for what is neither, and for an empty name.
    """
    split = payloads.split_channels(given)
    if split is None:
        return None
    if not isinstance(split, Iterable):
        raise InvalidRequest(path, given, "a list of names, or a comma-separated one")
    return frozenset(payloads.check_text(path, each, shortest=1) for each in split)


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"{text} is too large a number")
    return number


def methods_of(path: str) -> list[str]:
    """Name the methods that an endpoint takes; none where there is no such endpoint."""
    return [route.method for route in _ROUTES if route.path.fullmatch(path)]


def _route(method: str, path: str) -> tuple[_Route, str]:
    for route in _ROUTES:
        match = route.path.fullmatch(path)
        if match is not None and route.method == method:
            return route, unquote(match.groupdict().get("key", ""))
    if methods := methods_of(path):
        raise Refusal(405, "Method not allowed", f"{path} takes {' and '.join(methods)}")
    raise Refusal(404, "Not found", "there is no such endpoint")


def _is_valid(check: payloads.Check, value: str) -> bool:
    try:
        check("key", value)
    except InvalidRequest:
        return False
    return True


def _checked(operation: str, body: dict[str, Any]) -> dict[str, Any]:
    """Check a body as the client does, and refuse it in the service's words where they are known."""
    target = body.get("target")
    for given in (body.get("channels"), target.get("channels") if isinstance(target, dict) else None):
        if isinstance(given, str):  # the client splits it; on the wire it is a list
            raise Refusal(400, "Invalid channel targeting", "target.channels must be an array of channel slugs")
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


def _check_start(body: Mapping[str, Any]) -> None:
    """Refuse a state from which no activity can start."""
    if "type" not in body["content_state"]:
        raise Refusal(400, "Invalid content_state", "content_state.type is required to start a Live Activity")
    try:
        payloads.check_content_state(
            body["content_state"], dismissal=("auto_dismiss_seconds", "auto_dismiss_minutes"), starts=True
        )
    except InvalidRequest as problem:
        raise Refusal(400, "Invalid request", str(problem)) from None


def _changes(card: Card, body: Mapping[str, Any]) -> bool:
    """Tell whether a request has something for the phone; a timer's duration restarts it, an alert rings."""
    after = card.sent.take(body, card.started_at)
    faces = [(face.state, face.action, face.secondary_action) for face in (after, card.sent)]
    restarts = after.state.get("type") == "timer" and "duration_seconds" in body["content_state"]
    return faces[0] != faces[1] or restarts or "alert" in body
