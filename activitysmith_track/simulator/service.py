"""What the simulated service does with a request: pure, but for a lock and the clock that it is given.

`Service.handle` takes a request apart from HTTP and returns a status and a JSON object. The rules have rooms of their
own: `endpoints` checks what comes in, `limits` whether the account may; `live_activities` and `pushes` carry it out
on what `memory` remembers and `device` shows.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterable
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from .. import payloads
from .device import Device
from .endpoints import Accepted, Reply, accept, channels_of, find_endpoint
from .limits import Limits
from .live_activities import ActivityRules
from .memory import Memory, Received, Tap, why
from .pushes import PushRules
from .wire import MAX_BODY_BYTES, Refusal, as_json, read_object

if TYPE_CHECKING:
    from .faults import Fault

__all__ = ["Received", "Refusal", "Service", "Tap"]


class Service:
    """The service and the phone behind it.

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

    Attributes:
        changed: held while a request is handled, told after each; who reads what is remembered holds it.
        listeners: called, with that lock held, whenever something has changed.
        version: counts the changes.
        limits: those of the account.
        memory: what is remembered; its requests, cards, activities, pushes, metrics and taps are attributes too.

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
        self.limits = Limits(
            slots=slots,
            when_full=when_full,
            requests_per_minute=requests_per_minute,
            metric_requests_per_minute=metric_requests_per_minute,
            metrics=metrics,
            channels=channels,
            scope=scope,
            billing=billing,
            devices=devices,
        )
        self.memory = memory = Memory(self.device)
        self.requests, self.cards, self.activities = memory.requests, memory.cards, memory.activities
        self.pushes, self.metrics, self.taps = memory.pushes, memory.metrics, memory.taps
        self._live_activities = ActivityRules(memory, self.limits)
        pushes = PushRules(memory, self.limits)
        self._operations: dict[str, Callable[[Accepted], Reply]] = {
            "send": pushes.send,
            "replace": pushes.replace,
            "metric": pushes.set_metric,
            "badge": pushes.set_badge,
            "stream": self._live_activities.put_stream,
            "end_stream": self._live_activities.end_stream,
            "start": self._live_activities.start,
            "update": self._live_activities.update,
            "end": self._live_activities.end,
        }
        self.version = 0
        self.listeners: list[Callable[[], None]] = []
        self.changed = threading.Condition()

    def clear(self) -> None:
        """Forget everything that was received."""
        with self.changed:
            self.memory.clear()
            self.limits.clear()
            self._live_activities.clear()
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
            self._expire(self.clock())
            self._tell()

    def look(self) -> float:
        """Look at what the clock has brought: activities whose life is over.

        Returns:
            The clock's seconds at which it has looked.
        """
        with self.changed:
            now = self.clock()
            if self._expire(now):
                self._tell()
        return now

    def _expire(self, now: float) -> bool:
        return bool([card for card in self.activities.values() if card.expire(now)])

    @property
    def slots(self) -> int:
        """How many Live Activities may run at once."""
        return self.limits.slots

    @slots.setter
    def slots(self, slots: int) -> None:
        self.limits.slots = slots

    @property
    def devices(self) -> int:
        """How many phones a request reaches."""
        return self.limits.devices

    @devices.setter
    def devices(self, devices: int) -> None:
        self.limits.devices = devices

    @property
    def badge(self) -> int | None:
        """The app icon's badge, or `None` where none was set."""
        return self.memory.badge

    @property
    def forgotten(self) -> int:
        """The number of the last request that is no longer remembered; 0 where all are."""
        return self.memory.forgotten

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
            at = self.clock()
            self._expire(at)
            status, answer, verdict = 200, dict[str, Any](), "fault"
            if fault is None or fault.handled:
                status, answer, verdict = self._carry_out(method, path, authorization, content, at)
            kept = content if len(content) <= MAX_BODY_BYTES else b""
            seen, kind = status, None
            if fault is not None:
                status, answer = fault.spoil(status, answer)
                seen, kind = 0 if fault.loses_answer else status, fault.kind
            said = why(seen, answer, verdict, kind)
            self.memory.add_request(
                Received(method, path, kept, seen, as_json(answer), at, verdict=verdict, fault=kind, why=said)
            )
            self._tell()
        return status, answer

    def _carry_out(
        self, method: str, path: str, authorization: str | None, content: bytes, at: float
    ) -> tuple[int, dict[str, Any], str]:
        try:
            body, verdict = self._answer(method, path, authorization, read_object(content), at)
        except Refusal as refusal:
            return refusal.status, refusal.body, "refused"
        return 200, {"success": True, **body}, verdict

    def _answer(
        self, method: str, path: str, authorization: str | None, body: dict[str, Any] | None, at: float
    ) -> Reply:
        if authorization != f"Bearer {self.api_key}":
            raise Refusal(401, "Unauthorized", "Missing or invalid API key")
        endpoint, key = find_endpoint(method, path)
        self.limits.count(endpoint.rate, at)
        checked = accept(endpoint.operation, key, body)
        self.limits.check(endpoint.operation, checked, channels_of(checked), self.badge)
        return self._operations[endpoint.operation](Accepted(key, checked, at, self._timestamp()))

    def _timestamp(self) -> str:
        date = getattr(self.clock, "date", lambda: datetime.now(timezone.utc))()
        return str(date.isoformat())

    # -- what somebody does with the phone, or in the app

    def pause(self, stream_key: str) -> None:
        """Pause a stream: its activity ends, and PUTs answer `paused`.

        Raises:
            InvalidRequest: for what is no stream key, or when 1,000 streams are paused already.
        """
        payloads.check_stream_key("stream_key", stream_key)
        with self.changed:
            self._live_activities.pause(stream_key, self.clock())
            self._tell()

    def resume(self, stream_key: str) -> None:
        """Let a paused stream run again; its next PUT starts it.

        Raises:
            InvalidRequest: for what is no stream key.
        """
        payloads.check_stream_key("stream_key", stream_key)
        with self.changed:
            self._live_activities.resume(stream_key)
            self._tell()

    @property
    def paused(self) -> list[str]:
        """The streams that are paused."""
        with self.changed:
            return self._live_activities.paused

    def button(self, identifier: str, name: str) -> dict[str, Any] | None:
        """Return a button that is on the screen.

        Args:
            identifier: an activity's or a notification's.
            name: `action` or `secondary_action` of an activity, the index of a push's button, or `redirection`.
        """
        with self.changed:
            card, push = self.memory.seen(identifier, self.look())
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
            card, push = self.memory.seen(identifier, self.look())
            found = card or push
            if found is not None:
                found.swiped = True
            self._tell()
        return found is not None

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
