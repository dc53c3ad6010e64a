"""The rules of Live Activities: what a start, an update, an end, or a request of a stream does.

What no source states about the real service is assumed here as follows. A request's content state replaces the shown
one, except for the type and a timer's fields, which stay where they are left out; so do buttons, tags and metadata,
and over a rotation tags, metadata and channels. A PUT that carries a timer's duration or an alert is never a `noop`:
the one restarts the timer, the other rings. A PUT that changes tags or metadata alone is one: they are kept, and
nothing is sent to the phone. The first PUT of a stream, and one that rotates it, needs what a start needs. What the
phone makes of all that is in `device`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import InvalidRequest
from .device import Card, Device, Face
from .endpoints import Accepted, Reply, check_start
from .limits import Limits
from .memory import Memory
from .wire import Refusal

__all__ = ["ActivityRules", "within_service_budget"]

MAX_PAUSED = 1_000
STREAM_STAYS_SECONDS, LIFECYCLE_STAYS_SECONDS = 120.0, 180.0  # that an ended card stays if the request does not say
NOTHING_NEW, OVER_BUDGET = "nothing new", "over budget"


class ActivityRules:
    """The operations on Live Activities; each takes an accepted request and returns its reply.

    Args:
        memory: where the cards are.
        limits: how many may run, and whom a request reaches.
    """

    def __init__(self, memory: Memory, limits: Limits) -> None:
        self._memory, self._limits = memory, limits
        self._paused: set[str] = set()

    def clear(self) -> None:
        """Let every paused stream run again."""
        self._paused.clear()

    # -- streams

    def put_stream(self, request: Accepted) -> Reply:
        """Start, update or rotate a stream's activity."""
        key, body = request.key, request.body
        card = self._memory.cards.get(key)
        runs = card is not None and not card.ended
        given = request.channels
        channels = card.channels if given is None and card is not None and runs else given
        answer = {"stream_key": key, "activity_id": None, **self._limits.reached(channels, request.timestamp)}
        if "tags" in body:
            answer["tags"] = body["tags"]
        if key in self._paused:
            return Reply({**answer, "operation": "paused", "devices_notified": 0}, NOTHING_NEW)
        if card is None or not runs:
            new, made_room = self._begin(key, body, channels, request.at)
            return Reply({**answer, "operation": "started", "activity_id": new.activity_id, **made_room})
        if self._rotates(card, body, given):
            return Reply({**answer, "operation": "rotated", **self._rotate(card, body, channels, request.at)})
        after = card.sent.take(body, request.at)
        answer["activity_id"] = card.activity_id
        if not _changes(card.sent, after, body):
            card.keep(body)
            return Reply({**answer, "operation": "noop", "devices_notified": 0}, NOTHING_NEW)
        return self._update_card({**answer, "operation": "updated"}, card, request, after)

    def _rotates(self, card: Card, body: Mapping[str, Any], channels: list[str] | None) -> bool:
        before = card.sent.state.get("type")
        is_retargeted = channels is not None and set(channels) != set(self._limits.effective(card.channels))
        return bool(is_retargeted or body["content_state"].get("type", before) != before)

    def _rotate(self, card: Card, body: dict[str, Any], channels: list[str] | None, now: float) -> dict[str, Any]:
        """End a stream's activity and begin another one; what a start needs is looked at first."""
        check_start(body)
        _finish(card, {}, 0, now, by="request")
        kept = {"tags": card.tags, "metadata": card.metadata}
        new, _ = self._begin(str(card.stream_key), {**kept, **body}, channels, now)
        return {"activity_id": new.activity_id, "previous_activity_id": card.activity_id}

    def end_stream(self, request: Accepted) -> Reply:
        """End a stream's activity."""
        key = request.key
        if not self._memory.knows_stream(key):
            message = f"No Live Activity stream found for stream_key: {key}"
            raise Refusal(404, "Live Activity stream not found", message)
        answer = {"operation": "ended", "stream_key": key, "timestamp": request.timestamp}
        card = self._memory.cards.get(key)
        if card is None or card.ended:
            return Reply({**answer, "activity_id": None, "ignored": True, "devices_notified": 0}, NOTHING_NEW)
        _finish(card, request.body, STREAM_STAYS_SECONDS, request.at, by="request")
        return Reply({**answer, "activity_id": card.activity_id, "devices_notified": self._limits.devices})

    # -- the lifecycle

    def start(self, request: Accepted) -> Reply:
        """Start an activity."""
        channels = request.channels
        card, made_room = self._begin(None, request.body, channels, request.at)
        reached = self._limits.reached(channels, request.timestamp)
        return Reply({"activity_id": card.activity_id, **reached, **made_room})

    def update(self, request: Accepted) -> Reply:
        """Update an activity by its id."""
        card = self._known(request, "update")
        answer = {"activity_id": card.activity_id, **self._limits.reached(card.channels, request.timestamp)}
        if card.ended:
            return Reply({**answer, "devices_notified": 0}, NOTHING_NEW)
        return self._update_card(answer, card, request, card.sent.take(request.body, request.at))

    def end(self, request: Accepted) -> Reply:
        """End an activity by its id."""
        card = self._known(request, "end")
        answer = {"activity_id": card.activity_id, "timestamp": request.timestamp}
        if card.ended:
            reason = {"end_reason": card.ended_by} if card.ended_by != "request" else {}
            return Reply({**answer, "devices_notified": 0, "ignored": True, **reason}, NOTHING_NEW)
        _finish(card, request.body, LIFECYCLE_STAYS_SECONDS, request.at, by="request")
        return Reply({**answer, "devices_notified": self._limits.devices})

    def _known(self, request: Accepted, verb: str) -> Card:
        card = self._memory.activities.get(request.body["activity_id"])
        if card is None:
            raise Refusal(403, "Forbidden", f"This API key cannot {verb} this Live Activity")
        return card

    # -- what both have in common

    def _update_card(self, answer: dict[str, Any], card: Card, request: Accepted, after: Face) -> Reply:
        is_shown = card.update(request.body, request.at, after)
        if not within_service_budget(card.updates, request.at - card.started_at):
            warning = f"{card.updates} updates are more than iOS shows; send at most one every two minutes."
            answer = {**answer, "warning": warning}
        return Reply(answer, "sent" if is_shown else OVER_BUDGET)

    def _begin(
        self, key: str | None, body: dict[str, Any], channels: list[str] | None, now: float
    ) -> tuple[Card, dict[str, Any]]:
        """Start an activity; returns it, and what the answer says of an older one that made room."""
        check_start(body)
        made_room = self._make_room(now)
        card = Card(self._memory.new_id("act"), key, now, self._memory.device, channels=channels)
        card.start(body, now)
        self._memory.add_card(card)
        return card, made_room

    def _make_room(self, now: float) -> dict[str, Any]:
        running = [card for card in self._memory.activities.values() if not card.ended]
        slots = self._limits.slots
        if len(running) < slots:
            return {}
        if not self._limits.makes_room:
            message = f"Only {slots} concurrent Live Activities are allowed per account"
            raise Refusal(429, "Live Activity limit reached", message, limit=slots, active=len(running))
        _finish(running[0], {}, 0, now, by="room")
        return {"ended_activity_id": running[0].activity_id}

    # -- what the stream's owner does in the app

    @property
    def paused(self) -> list[str]:
        """The streams that are paused."""
        return sorted(self._paused)

    def pause(self, stream_key: str, now: float) -> None:
        """Pause a stream: its activity ends, and PUTs answer `paused`.

        Raises:
            InvalidRequest: when 1,000 streams are paused already.
        """
        if len(self._paused) >= MAX_PAUSED and stream_key not in self._paused:
            raise InvalidRequest("stream_key", stream_key, f"at most {MAX_PAUSED} paused streams")
        self._paused.add(stream_key)
        card = self._memory.cards.get(stream_key)
        if card is not None and not card.ended:
            card.end({}, now, by="pause", dismiss_after=0)

    def resume(self, stream_key: str) -> None:
        """Let a paused stream run again; its next PUT starts it."""
        self._paused.discard(stream_key)


def within_service_budget(updates: int, seconds: float) -> bool:
    """Tell whether the service answers an update without a warning: its own rule, whatever the phone shows."""
    return _SERVICE.within_budget(updates, seconds)


_SERVICE = Device()


def _finish(card: Card, body: Mapping[str, Any], default: float, now: float, *, by: str) -> None:
    """End a card; it stays for as long as the body says, and else for so many seconds."""
    state = body.get("content_state", {})
    minutes = state.get("auto_dismiss_minutes")
    stays = state.get("auto_dismiss_seconds", default if minutes is None else minutes * 60)
    card.end(body, now, by=by, dismiss_after=stays)


def _changes(before: Face, after: Face, body: Mapping[str, Any]) -> bool:
    """Tell whether a request has something for the phone; a timer's duration restarts it, an alert rings."""
    faces = [(face.state, face.action, face.secondary_action) for face in (after, before)]
    restarts = after.state.get("type") == "timer" and "duration_seconds" in body["content_state"]
    return faces[0] != faces[1] or restarts or "alert" in body
