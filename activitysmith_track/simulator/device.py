"""What an iPhone does with what the service sends it: pure, so that sent and shown can be told apart.

The service answers 200 for every update that Apple's push service took; whether the phone shows it is another matter.
What is modelled here, with the figures of `Device`:

- The budget. An activity that has received more than 12 updates and has averaged more than one every two minutes is
  throttled: for an hour its updates are dropped, with their alerts, not kept for later. Then it has a fresh budget.
  Ends always show.
- Life. A running activity is ended by iOS after 8 hours. An ended one stays until it is dismissed, 4 hours at most.
- Room. Five cards at most are on the Lock Screen: running ones come before ended ones, older before newer among
  the running, newer before older among the ended.
- Timers run on the phone, without updates. `duration_seconds` restarts the window, `is_running` pauses and resumes
  it, and an end without a duration freezes it.
- Pushes. `passive` ones neither ring nor light the screen; in a Focus only `time-sensitive` ones do. A replacement
  takes the old one's place in silence, and is not seen where that one was swiped away.

The hour and the limit of five are what Apple and the service describe in words; that dropped updates are not shown
later, that the budget is fresh after the hour, and what is said of swiped pushes, is assumed.
"""

from __future__ import annotations

import copy
import sys
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

from .. import payloads
from ..errors import InvalidRequest

__all__ = ["Card", "Device", "Face", "Moment", "ReceivedPush", "Window", "on_screen"]

MAX_MOMENTS = 1_000  # states that a card remembers
MAX_HISTORY_BYTES = 1024 * 1024  # of those states
LARGEST_PARAMETER = 10_000_000_000  # of any parameter


@dataclass(frozen=True)
class Device:
    """The phone's parameters.

    Attributes:
        free_updates: updates of an activity that need no waiting.
        seconds_per_update: the average distance that the budget asks for beyond those.
        refill_seconds: how long a throttled activity shows no updates.
        cards: how many cards are on the Lock Screen at most.
        life_seconds: after which iOS ends an activity.
        stay_seconds: how long an ended card stays at most.
        focus: True while a Focus holds back what is not time-sensitive.

    Raises:
        InvalidRequest: for a number that is negative, not finite or above 10,000,000,000; there is room for one card
            at least.
    """

    free_updates: int = 12
    seconds_per_update: float = 120.0
    refill_seconds: float = 3_600.0
    cards: int = 5
    life_seconds: float = 8 * 3_600.0
    stay_seconds: float = 4 * 3_600.0
    focus: bool = False

    def __post_init__(self) -> None:
        payloads.check_integer("free_updates", self.free_updates, at_most=LARGEST_PARAMETER)
        payloads.check_integer("cards", self.cards, at_least=1, at_most=LARGEST_PARAMETER)
        for name in ("seconds_per_update", "refill_seconds", "life_seconds", "stay_seconds"):
            payloads.check_number(name, getattr(self, name), at_least=0, at_most=LARGEST_PARAMETER)
        if not isinstance(self.focus, bool):
            raise InvalidRequest("focus", self.focus, "True or False")

    def within_budget(self, updates: int, seconds: float) -> bool:
        """Tell whether so many updates in so many seconds are shown."""
        return updates <= self.free_updates or updates * self.seconds_per_update <= seconds


def weight(*values: Any) -> int:
    """Return about how many bytes of memory JSON values take."""
    total, left = 0, list(values)
    while left:
        value = left.pop()
        total += sys.getsizeof(value)
        if isinstance(value, Mapping):
            left += [*value, *value.values()]
        elif isinstance(value, (list, tuple)):
            left += value
    return total


class Moment(NamedTuple):
    """A state as it was received: its time in seconds, its fields, and whether the phone showed it."""

    at: float
    state: dict[str, Any]
    shown: bool


@dataclass(frozen=True)
class Window:
    """A timer as the phone runs it.

    Attributes:
        duration: seconds, or `None` for an open-ended timer.
        counts_down: whether it shows what is left.
        running: whether it moves.
        elapsed: seconds that it had run at `since`.
        since: when it was last touched.
    """

    duration: float | None = None
    counts_down: bool = False
    running: bool = True
    elapsed: float = 0.0
    since: float = 0.0

    def elapsed_at(self, now: float) -> float:
        """Return the seconds that it has run."""
        ran = self.elapsed + (max(0.0, now - self.since) if self.running else 0.0)
        return ran if self.duration is None else min(ran, self.duration)

    def reading(self, now: float) -> float:
        """Return the seconds that it shows."""
        elapsed = self.elapsed_at(now)
        return self.duration - elapsed if self.counts_down and self.duration is not None else elapsed

    def take(self, given: Mapping[str, Any], now: float, *, ends: bool) -> Window:
        """Return the window after a state was received."""
        restarts = "duration_seconds" in given
        duration = given.get("duration_seconds", self.duration)
        return Window(
            duration=duration,
            counts_down=duration is not None and given.get("counts_down", self.counts_down or self.duration is None),
            running=given.get("is_running", self.running) and (restarts or not ends),
            elapsed=0.0 if restarts else self.elapsed_at(now),
            since=now,
        )


_KEPT: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(payloads.ACTIVITY_TYPES, ("type",)),
    "timer": ("type", "duration_seconds", "counts_down", "is_running"),
}


@dataclass(frozen=True)
class Face:
    """What stands on a card: its content state, its buttons and, on a timer, its window."""

    state: dict[str, Any] = field(default_factory=dict)
    action: dict[str, Any] | None = None
    secondary_action: dict[str, Any] | None = None
    window: Window | None = None

    @cached_property
    def state_size(self) -> int:
        """About how many bytes of memory the content state takes."""
        return weight(self.state)

    @cached_property
    def size(self) -> int:
        """About how many bytes of memory the content state and the buttons take."""
        return self.state_size + weight(self.action, self.secondary_action)

    def take(self, request: Mapping[str, Any], now: float, *, ends: bool = False) -> Face:
        """Return the face after a request; what a request leaves out and the service keeps, stays."""
        buttons = {name: request[name] for name in ("action", "secondary_action") if name in request}
        given = request.get("content_state")
        state = self.state if given is None else self._state_after(given)
        is_timer = state.get("type") == "timer"
        window = (self.window or Window(since=now)).take(given or {}, now, ends=ends) if is_timer else None
        return replace(self, state=state, window=window, **buttons)

    def _state_after(self, given: Mapping[str, Any]) -> dict[str, Any]:
        kept = {name: self.state[name] for name in _KEPT.get(str(self.state.get("type")), ()) if name in self.state}
        return {**kept, **{name: value for name, value in given.items() if not name.startswith("auto_dismiss")}}


@dataclass
class Card:
    """A Live Activity; every field of a content state is an attribute, `None` where the phone shows none.

    Attributes:
        stream_key: the stream's key, or `None` for one that was started by `start`.
        sent: the face that the service sent last.
        shown: the face that is on the screen; past the budget it is an older one.
        ended: True after its end; the card stays until it is dismissed.
        ended_by: `"request"`, `"system"` (after 8 hours), `"room"` (a start made room), `"pause"` or `None`.
        updates: how many updates it received; its start and its end are none.
        dropped: how many of those the phone did not show.
        over_budget: True once an update exceeded the budget of iOS.
        throttled_until: when the phone shows updates again, in seconds of the clock, or `None`.
        swiped: True once somebody swiped it off the screen.
        history: the states that it received, start and end included, the last 1,000 of them.
        truth: what the job itself told of its percentage, if anybody did: pairs of seconds and percentage.
        size: about how many bytes of memory it takes.
    """

    activity_id: str
    stream_key: str | None
    started_at: float
    device: Device = field(default_factory=Device)
    sent: Face = field(default_factory=Face)
    shown: Face = field(default_factory=Face)
    alert: dict[str, Any] | None = None
    alert_at: float | None = None
    tags: list[str] = field(default_factory=list)
    metadata: dict[str, Any] = field(default_factory=dict)
    channels: list[str] | None = None
    ended: bool = False
    ended_by: str | None = None
    ended_at: float | None = None
    dismiss_after: float | None = None
    updates: int = 0
    dropped: int = 0
    over_budget: bool = False
    swiped: bool = False
    throttled_until: float | None = None
    history: deque[Moment] = field(default_factory=deque)
    truth: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=MAX_MOMENTS))
    size: int = 0

    def __post_init__(self) -> None:
        self._counted, self._counted_since = 0, self.started_at  # of the phone's budget
        self._sizes: deque[int] = deque()
        self._bytes = 0

    def __getattr__(self, name: str) -> Any:
        if name in payloads.CONTENT_STATE:
            return self.shown.state.get(name)
        raise AttributeError(name)

    @property
    def state(self) -> dict[str, Any]:
        """The content state on the screen."""
        return self.shown.state

    @property
    def action(self) -> dict[str, Any] | None:
        """The button on the screen."""
        return self.shown.action

    @property
    def secondary_action(self) -> dict[str, Any] | None:
        """The second button on the screen."""
        return self.shown.secondary_action

    @property
    def paused(self) -> bool:
        """True where somebody paused the stream, which ended this activity."""
        return self.ended_by == "pause"

    @property
    def stale(self) -> bool:
        """True while the screen shows something older than what was sent."""
        return self.shown != self.sent

    @property
    def leaves_at(self) -> float | None:
        """When it leaves the screen, in seconds of the clock, or `None` while it runs."""
        if self.ended_at is None:
            return None
        return self.ended_at + min(self.dismiss_after or 0.0, self.device.stay_seconds)

    def copied(self) -> Card:
        """Return a snapshot that later requests do not change."""
        copy = replace(self, history=deque(self.history), truth=deque(self.truth, maxlen=MAX_MOMENTS))
        copy._counted, copy._counted_since = self._counted, self._counted_since
        return copy

    def start(self, request: Mapping[str, Any], now: float) -> None:
        """Take over the state of a start."""
        self._keep(request)
        self.sent = self.sent.take(request, now)
        self._show(request, now)
        self._remember(now, shown=True)

    def update(self, request: Mapping[str, Any], now: float, after: Face | None = None) -> bool:
        """Take over an update.

        Args:
            request: the checked body.
            now: seconds of the clock.
            after: the face that it leads to, where the caller has reckoned it already.

        Returns:
            Whether the phone shows it.
        """
        self._keep(request)
        self.updates += 1
        self.sent = after or self.sent.take(request, now)
        self.over_budget |= not self.device.within_budget(self.updates, now - self.started_at)
        shown = self._is_shown(now)
        if shown:
            self._show(request, now)
        else:
            self.dropped += 1
        self._remember(now, shown=shown)
        return shown

    def _is_shown(self, now: float) -> bool:
        if self.throttled_until is not None:
            if now < self.throttled_until:
                return False
            self._counted, self._counted_since, self.throttled_until = 0, now, None
        self._counted += 1
        if self.device.within_budget(self._counted, now - self._counted_since):
            return True
        self.throttled_until = now + self.device.refill_seconds
        return False

    def end(self, request: Mapping[str, Any], now: float, *, by: str, dismiss_after: float) -> None:
        """End it, with a last state or the one that was sent last."""
        self._keep(request)
        self.sent = self.sent.take(request, now, ends=True)
        self._show(request, now)
        self.ended, self.ended_by, self.ended_at, self.dismiss_after = True, by, now, dismiss_after
        self.throttled_until = None
        self._remember(now, shown=True)

    def expire(self, now: float) -> bool:
        """Let iOS end it when its life is over; returns whether it did."""
        over = self.started_at + self.device.life_seconds
        if self.ended or now < over:
            return False
        self.sent, self.shown = (face.take({}, over, ends=True) for face in (self.sent, self.shown))
        self.throttled_until = None
        self.ended, self.ended_by, self.ended_at = True, "system", over
        self.dismiss_after = self.device.stay_seconds
        return True

    def keep(self, request: Mapping[str, Any]) -> None:
        """Take over what the service keeps for itself: tags and metadata."""
        self._keep(request)
        self._weigh()

    def _keep(self, request: Mapping[str, Any]) -> None:
        self.tags, self.metadata = (
            request.get(name, kept) for name, kept in (("tags", self.tags), ("metadata", self.metadata))
        )

    def _show(self, request: Mapping[str, Any], now: float) -> None:
        """Bring what was sent to the screen, with the alert that came along."""
        self.shown = self.sent
        if "alert" in request:
            self.alert, self.alert_at = request["alert"], now

    def _weigh(self) -> None:
        faces = self.sent.size if self.sent is self.shown else self.sent.size + self.shown.size
        self.size = self._bytes + faces + weight(self.alert, self.tags, self.metadata, self.channels)

    def _remember(self, now: float, *, shown: bool) -> None:
        self.history.append(Moment(now, dict(self.sent.state), shown))
        self._sizes.append(self.sent.state_size)
        self._bytes += self._sizes[-1]
        while len(self.history) > MAX_MOMENTS or (self._bytes > MAX_HISTORY_BYTES and len(self.history) > 1):
            self.history.popleft()
            self._bytes -= self._sizes.popleft()
        self._weigh()


@dataclass
class ReceivedPush:
    """A push as the phone has it; every field of a push is an attribute, `None` where it was not sent.

    Attributes:
        at: when it came, in seconds of the clock.
        replaced: how often it was replaced.
        loud: whether it rang and lit the screen when it came; a replacement never does.
        swiped: True once somebody swiped it off the screen; a replacement does not bring it back.
        size: about how many bytes of memory it takes.
    """

    notification_id: str
    body: dict[str, Any]
    at: float
    loud: bool = True
    replaced: int = 0
    swiped: bool = False
    size: int = 0

    def __post_init__(self) -> None:
        self.size = weight(self.body)

    def __getattr__(self, name: str) -> Any:
        if name in payloads.BODIES["send"][0]:
            return self.body.get(name)
        raise AttributeError(name)

    def replace(self, body: Mapping[str, Any]) -> None:
        """Overwrite what is seen, in silence; tags and metadata stay where they are left out."""
        kept = ("tags", "metadata", "target", "sound", "interruption_level")
        self.body = {**{name: self.body[name] for name in kept if name in self.body}, **body}
        self.replaced += 1
        self.size = weight(self.body)

    def copied(self) -> ReceivedPush:
        """Return a snapshot that later requests do not change."""
        return copy.copy(self)


def is_loud(push: Mapping[str, Any], device: Device) -> bool:
    """Tell whether a push rings and lights the screen."""
    level = push.get("interruption_level", "active")
    return bool(level == "time-sensitive" or (level == "active" and not device.focus))


def on_screen(cards: Iterable[Card], now: float, device: Device) -> list[Card]:
    """Return the cards that are on the Lock Screen: the running ones by age, then the ended ones, newest first."""
    here = [card for card in cards if not card.swiped and (card.leaves_at is None or now < card.leaves_at)]
    running = sorted((card for card in here if not card.ended), key=lambda card: card.started_at)
    ended = sorted((card for card in here if card.ended), key=lambda card: -(card.ended_at or 0.0))
    return [*running, *ended][: device.cards]
