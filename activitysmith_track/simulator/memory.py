"""What the service and the phone remember: requests, cards, pushes, metrics, the badge and presses, within bounds.

A long life of a simulator must not fill the machine's memory. So everything has a greatest number, and all of it
together a greatest size, past which the oldest goes first; what still runs on the phone stays.
"""

from __future__ import annotations

import itertools
import json
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from .device import Card, Device, ReceivedPush, on_screen, weight
from .wire import Refusal, read_object

__all__ = ["Memory", "Received", "Tap", "why"]

MAX_BYTES = 32 * 1024 * 1024  # of memory for all that is remembered
MAX_REQUESTS, MAX_ACTIVITIES, MAX_PUSHES, MAX_WIDGETS, MAX_TAPS = 10_000, 200, 200, 100, 200  # remembered
RECORD_BYTES = 1_000  # of memory for a request beside its texts


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
        why: in a few words what became of it.
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


class Memory:
    """All that is remembered. It has no lock: the service holds its own around every use.

    Args:
        device: the phone that the cards are on.

    Attributes:
        requests: the latest ones, in the order of their answers.
        forgotten: the number of the last request that is no longer remembered.
        cards: the latest card of each stream by its key.
        activities: every Live Activity by its id.
        pushes: by their ids, as they stand.
        metrics: the last value of each widget's metric.
        badge: the app icon's, or `None` where none was set.
        taps: the presses of buttons.
    """

    def __init__(self, device: Device) -> None:
        self.device = device
        self.requests: deque[Received] = deque()
        self.forgotten = 0
        self.cards: dict[str, Card] = {}
        self.activities: dict[str, Card] = {}
        self.pushes: dict[str, ReceivedPush] = {}
        self.metrics: dict[str, Any] = {}
        self.badge: int | None = None
        self.taps: deque[Tap] = deque(maxlen=MAX_TAPS)
        self._streams: dict[str, None] = {}  # every key that was ever started, the latest ones
        self._request_bytes = 0
        self._numbers, self._counts = itertools.count(1), itertools.count(1)

    def clear(self) -> None:
        """Forget everything; numbers and ids go on where they were."""
        self.forgotten = self.requests[-1].number if self.requests else self.forgotten
        self._request_bytes, self.badge = 0, None
        for each in (self.requests, self.cards, self.activities, self.pushes, self.metrics, self.taps, self._streams):
            each.clear()

    def new_id(self, kind: str) -> str:
        """Return an id that nothing has had."""
        return f"{kind}_{next(self._numbers)}"

    # -- what is put in

    def add_request(self, request: Received) -> None:
        """Remember a request, under the next number."""
        self.requests.append(replace(request, number=next(self._counts)))
        self._request_bytes += request.size
        while len(self.requests) > MAX_REQUESTS:
            self._forget_request()
        self._shrink()

    def add_card(self, card: Card) -> None:
        """Remember an activity that was started, as that of its stream where it has one."""
        self.activities[card.activity_id] = card
        if card.stream_key is not None:
            self.cards.pop(card.stream_key, None)
            self.cards[card.stream_key] = card
            self._streams[card.stream_key] = None
            _keep_last(self._streams, 10 * MAX_ACTIVITIES)
        surplus = len(self.activities) - MAX_ACTIVITIES
        for each in [each for each in self.activities.values() if each.ended][: max(0, surplus)]:
            self._forget_card(each)

    def add_push(self, push: ReceivedPush) -> None:
        """Remember a push."""
        self.pushes[push.notification_id] = push
        _keep_last(self.pushes, MAX_PUSHES)

    def set_metric(self, key: str, value: Any) -> None:
        """Remember a metric's value."""
        self.metrics.pop(key, None)
        self.metrics[key] = value
        _keep_last(self.metrics, MAX_WIDGETS)

    # -- what is looked up

    def knows_stream(self, key: str) -> bool:
        """Tell whether a stream of that key was ever started."""
        return key in self._streams

    def on_screen(self, now: float) -> list[Card]:
        """Return the cards that are on the Lock Screen at a time, in their order there."""
        return on_screen(self.activities.values(), now, self.device)

    def seen(self, identifier: str, now: float) -> tuple[Card | None, ReceivedPush | None]:
        """Return the card or the push of an id, where it is on the screen."""
        card, push = self.activities.get(identifier), self.pushes.get(identifier)
        is_seen = any(each is card for each in self.on_screen(now))
        return card if is_seen else None, None if push is None or push.swiped else push

    # -- what is forgotten

    @property
    def size(self) -> int:
        """About how many bytes of memory the requests, pushes, taps and cards take."""
        others: Iterable[ReceivedPush | Tap | Card]
        others = itertools.chain(self.pushes.values(), self.taps, self.activities.values())
        return self._request_bytes + sum(each.size for each in others)

    def _shrink(self) -> None:
        """Forget the oldest of all that may be forgotten, until the rest fits."""
        surplus = self.size - MAX_BYTES
        while surplus > 0 and (oldest := self._oldest()) is not None:
            size, forget = oldest
            forget()
            surplus -= size

    def _oldest(self) -> tuple[int, Callable[[], object]] | None:
        """Return the size of the oldest of all that does not run, and what forgets it."""
        push = next(iter(self.pushes.values()), None)
        card = next((card for card in self.activities.values() if card.ended_at is not None), None)
        found: list[tuple[float, int, Callable[[], object]]] = []
        if self.requests:
            found.append((self.requests[0].at, self.requests[0].size, self._forget_request))
        if self.taps:
            found.append((self.taps[0].at, self.taps[0].size, self.taps.popleft))
        if push is not None:
            found.append((push.at, push.size, lambda: self.pushes.pop(push.notification_id)))
        if card is not None and card.ended_at is not None:
            found.append((card.ended_at, card.size, lambda: self._forget_card(card)))
        return min(found, key=lambda each: each[0])[1:] if found else None

    def _forget_request(self) -> None:
        oldest = self.requests.popleft()
        self.forgotten, self._request_bytes = oldest.number, self._request_bytes - oldest.size

    def _forget_card(self, card: Card) -> None:
        del self.activities[card.activity_id]
        if card.stream_key is not None and self.cards.get(card.stream_key) is card:
            del self.cards[card.stream_key]


def why(status: int, answer: Mapping[str, Any], verdict: str, fault: str | None) -> str:
    """Say in a few words what became of a request.

    Args:
        status: that the client saw; 0 for none.
        answer: the body of the answer.
        verdict: as in `Received`.
        fault: the kind of the fault that struck it, or `None`.
    """
    if fault is not None and verdict == "fault":
        return f"fault: {fault}"
    if status >= 400:
        return ": ".join(str(answer[name]) for name in ("error", "message") if answer.get(name))
    said = answer.get("operation") or ("ignored" if answer.get("ignored") else "ok")
    return f"{said}: {answer['warning']}" if answer.get("warning") else str(said)


def _keep_last(entries: dict[str, Any], most: int) -> None:
    while len(entries) > most:
        del entries[next(iter(entries))]
