"""What the service and the phone remember, written as JSON: all of it for programs, and what the page draws."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any, NamedTuple

from .clock import Clock
from .device import Card, ReceivedPush
from .faults import Faults
from .memory import Received, Tap
from .service import Service

__all__ = ["Drawing", "Views", "request_json", "tap_json"]

ROWS = 200  # requests that a page is given at once
DRAWN_PUSHES, DRAWN_TAPS = 20, 20  # the newest
POINTS = 120  # of each line of a chart
LONGEST_DRAWN, MOST_MEMBERS = 4_096, 1_000  # characters of a text and members of a list that a page is given
_DRAWN_BUTTON = ("title", "type", "url", "method")
_DRAWN_PUSH = ("title", "subtitle", "message", "icon", "media", "redirection", "interruption_level")


class Drawing(NamedTuple):
    """What a page draws, and what decides whether it needs another drawing: `key` is equal while it does not."""

    key: object
    content: dict[str, Any]


class Views:
    """Writes the state of a service, as it stands when it is asked.

    Args:
        service: the service and its phone.
        clock: the one that they live by.
        faults: those that are set.
        delivers_webhooks: whether pressing a webhook's button really calls it; the page says so.
    """

    def __init__(self, service: Service, clock: Clock, faults: Faults, *, delivers_webhooks: bool) -> None:
        self._service, self._clock, self._faults = service, clock, faults
        self._delivers_webhooks = delivers_webhooks

    def everything(self) -> dict[str, Any]:
        """Write everything that is remembered of the phone."""
        service = self._service
        with service.changed:
            now = service.look()
            seen = {card.activity_id for card in service.memory.on_screen(now)}
            return {
                **self._desk(now),
                "cards": [card_json(card, now, seen=name in seen) for name, card in service.activities.items()],
                "pushes": [push_json(push) for push in service.pushes.values()],
                "taps": [tap_json(tap) for tap in service.taps],
                "faults": [fault.as_json() for fault in self._faults],
            }

    def drawing(self, unless: object = None) -> Drawing | None:
        """Write what a page draws: what is on the screen, as much of it as there is room for.

        Args:
            unless: the key of an earlier drawing.

        Returns:
            The drawing; `None` where it would only show what that earlier one shows.
        """
        service = self._service
        with service.changed:
            now = service.look()
            seen = service.memory.on_screen(now)
            throttled = tuple(card.throttled_until is not None and now < card.throttled_until for card in seen)
            key = service.version, tuple(card.activity_id for card in seen), throttled
            if key == unless:
                return None
            pushes = [push for push in service.pushes.values() if not push.swiped][-DRAWN_PUSHES:]
            content = {
                **self._desk(now),
                "cards": [drawn_card(card, now) for card in seen],
                "pushes": [drawn_push(push) for push in pushes],
                "taps": [clipped({**tap_json(tap), "body": None}) for tap in list(service.taps)[-DRAWN_TAPS:]],
                "faults": [{**fault.as_json(), "body": None} for fault in self._faults],
            }
        return Drawing(key, content)

    def _desk(self, now: float) -> dict[str, Any]:
        """Write what stands beside the cards and pushes."""
        service = self._service
        return {
            "now": now,
            "speed": self._clock.speed,
            "date": self._clock.date().timestamp(),
            "widgets": dict(service.metrics),
            "badge": service.badge,
            "paused": service.paused,
            "delivers_webhooks": self._delivers_webhooks,
            "forgotten": service.forgotten,
        }

    def rows(self, after: int) -> list[dict[str, Any]]:
        """Write the latest requests after a number, 200 at most."""
        with self._service.changed:
            newest = itertools.islice(reversed(self._service.requests), ROWS)
            found = [each for each in newest if each.number > after]
        return [request_json(each) for each in reversed(found)]


def clipped(value: Any) -> Any:
    """Shorten what no screen has room for."""
    if isinstance(value, str):
        return value if len(value) <= LONGEST_DRAWN else value[: LONGEST_DRAWN - 1] + "…"
    if isinstance(value, dict):
        return {name: clipped(member) for name, member in value.items()}
    return [clipped(member) for member in value[:MOST_MEMBERS]] if isinstance(value, list) else value


def _drawn_button(button: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return {name: clipped(button[name]) for name in _DRAWN_BUTTON if name in button} if button else None


def drawn_card(card: Card, now: float) -> dict[str, Any]:
    """Write what a page draws of a card."""
    window = card.shown.window
    return {
        "id": card.activity_id,
        "stream_key": card.stream_key,
        "shown": clipped(card.shown.state),
        "stale": card.stale,
        "action": _drawn_button(card.action),
        "secondary_action": _drawn_button(card.secondary_action),
        "timer": window
        and {
            "reading": window.reading(now),
            "running": window.running,
            "counts_down": window.counts_down,
            "duration": window.duration,
        },
        "alert": clipped(card.alert),
        "alert_at": card.alert_at,
        "started_at": card.started_at,
        "ended": card.ended,
        "ended_by": card.ended_by,
        "ended_at": card.ended_at,
        "leaves_at": card.leaves_at,
        "updates": card.updates,
        "dropped": card.dropped,
        "over_budget": card.over_budget,
        "throttled_until": card.throttled_until,
        "chart": _chart(card),
    }


def card_json(card: Card, now: float, *, seen: bool) -> dict[str, Any]:
    """Write all of a card: what the phone shows, what was sent, and its budget."""
    return {
        **drawn_card(card, now),
        "on_screen": seen,
        "shown": card.shown.state,
        "sent": card.sent.state,
        "action": card.action,
        "secondary_action": card.secondary_action,
        "alert": card.alert,
        "tags": card.tags,
        "metadata": card.metadata,
        "channels": card.channels,
    }


def _chart(card: Card) -> dict[str, Any] | None:
    """Write the percentages that were sent, those that were shown, and those that the job told."""
    if card.sent.state.get("type") != "progress":
        return None
    told = [(moment.at, _shown_percentage(moment.state), moment.shown) for moment in card.history]
    return {
        "sent": _thinned([(at, percentage) for at, percentage, _ in told]),
        "shown": _thinned([(at, percentage) for at, percentage, shown in told if shown]),
        "truth": _thinned(list(card.truth)),
    }


def _thinned(line: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Leave out points of a long line evenly; the first and the last one stay."""
    step = max(1, -(-(len(line) - 1) // (POINTS - 1)))
    return line[::step] if (len(line) - 1) % step == 0 else [*line[::step], line[-1]]


def _shown_percentage(state: Mapping[str, Any]) -> float:
    if "percentage" in state:
        return float(state["percentage"])
    if "upper_limit" in state:
        return min(100.0, max(0.0, 100.0 * float(state["value"]) / float(state["upper_limit"])))
    return 0.0


def drawn_push(push: ReceivedPush) -> dict[str, Any]:
    """Write what a page draws of a push."""
    return {
        "id": push.notification_id,
        "at": push.at,
        "loud": push.loud,
        "replaced": push.replaced,
        "actions": [_drawn_button(button) for button in push.actions or ()],
        **{name: clipped(push.body[name]) for name in _DRAWN_PUSH if name in push.body},
    }


def push_json(push: ReceivedPush) -> dict[str, Any]:
    """Write all of a push."""
    return {**drawn_push(push), "on_screen": not push.swiped, **push.body}


def request_json(request: Received, *, whole: bool = False) -> dict[str, Any]:
    """Write a request: a row of the log, or all of it."""
    row = {
        "number": request.number,
        "at": request.at,
        "method": request.method,
        "path": request.path,
        "status": request.status,
        "verdict": request.verdict,
        "fault": request.fault,
        "why": request.why,
    }
    return {**row, "body": request.body, "answer": request.answer} if whole else row


def tap_json(tap: Tap) -> dict[str, Any]:
    """Write a press of a button."""
    return dict(tap.__dict__)
