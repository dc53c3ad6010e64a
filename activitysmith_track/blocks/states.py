"""What a card shows: its states, built from what a handle has counted. Nothing here changes what is counted.

Each kind of handle has one builder, which has no state of its own: each method is given the handle.
"""

from __future__ import annotations

import logging
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from .. import _text
from .._lazy import Lazy
from .._text import CRASH_REASON
from .outcome import LOOKS, Outcome, done_words, stood
from .pushes import push_body, shared
from .values import fit

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import ClassVar, Protocol

    from .. import payloads
    from ..delivery import bodies
    from ..delivery import state as states
    from ..delivery.state import ActivityState, CrashState, Digest, EndState
    from .display import Display
    from .outcome import Kind
    from .pushes import Telling

    class Shown(Telling, Protocol):
        """What a builder reads of a handle."""

        type: ClassVar[str]
        _title: str
        _began: float
        _custom: Mapping[str, Any]
        _display: Display
        _transitions: int
        _resting: bool

        @property
        def is_open(self) -> bool:
            """True between entering and the end, in the process that entered."""

        @property
        def elapsed(self) -> float:
            """Seconds since the block was entered, or that it took."""
else:
    payloads, states, bodies = Lazy("payloads"), Lazy("delivery.state"), Lazy("delivery.bodies")

logger = logging.getLogger("activitysmith_track")

DISMISS_DONE, DISMISS_FAILED, DISMISS_STOPPED = 300, 4 * 3600, 60  # seconds that an ended card stays

H = TypeVar("H", bound="Shown")


class StateBuilder(Generic[H]):
    """Builds the states of one kind of card.

    Attributes:
        keeps_readings: True where `keep=True` leaves the card with its readings as they were.
        standing: fields that `keep=True` adds to the last state, so that the card stands still.
    """

    keeps_readings = False
    standing: Mapping[str, Any] = MappingProxyType({})

    # -- what each kind answers for itself

    def running(self, handle: H) -> dict[str, Any] | None:
        """Return the fields of this type of card while it runs, or `None` where there is nothing to show yet."""
        raise NotImplementedError

    def last(self, handle: H, outcome: Outcome) -> dict[str, Any] | None:
        """Return the fields of this type of card at the end."""
        return self.running(handle)

    def fraction(self, handle: H) -> float | None:
        """Return the part done, 0 to 1, or `None` where this kind has none."""
        return None

    def numbers(self, handle: H) -> Mapping[str, float]:
        """Return the numbers on the card by their labels, where it shows readings."""
        return {}

    def brief(self, handle: H) -> str:
        """Say in a few words how far the block is."""
        return ""

    def subtitle(self, handle: H) -> str | None:
        """Return the subtitle where neither the user nor an inner block gives one."""
        return None

    def figures(self, handle: H, kind: Kind) -> dict[str, Any]:
        """Return the fields of an `Outcome` that tell how far it came."""
        return {}

    def look(self, handle: H, kind: str) -> dict[str, Any]:
        """Return the fields that colour a card that has ended or stalled."""
        return {"color": LOOKS[kind][0]}

    def place(self, handle: H, outcome: Outcome) -> str:
        """Say where the block failed or was stopped."""
        return f"after {_text.format_duration(outcome.elapsed)}"

    def opening(self, handle: H) -> None:
        """Note that the card is about to appear."""

    def holds(self, handle: H, inner: Shown) -> bool:
        """True where an inner block that starts now is shown as a line on this handle's card."""
        return handle._account is not None and handle._account is inner._account and self.running(handle) is not None

    # -- while it runs

    def detail(self, handle: H) -> object:
        """Return what is worth an update of its own when it changes, besides the fraction and the numbers."""
        custom = {name: value for name, value in handle._custom.items() if name != "subtitle"}
        return custom, self._line_of_inner_blocks(handle)

    def digest(self, handle: H) -> Digest:
        """Return what tells this state from the next."""
        fraction, transitions = self.fraction(handle), self.transitions(handle)
        return states.Digest(fraction, transitions, self.detail(handle), self.numbers(handle))

    def transitions(self, handle: H) -> int:
        """Return how many transitions there have been: those of the user, and of a stall."""
        stall = handle._display.stall
        return handle._transitions + (stall.turns if stall is not None else 0)

    def snapshot(self, handle: H) -> ActivityState | None:
        """Return the state to show, or `None` where there is nothing to show yet."""
        digest = self.digest(handle)  # first: a change after this is noticed as a new one
        state = self.running(handle)
        if state is None:
            return None
        body = self._body(handle, state, "running")
        stall = handle._display.stall
        if stall is not None and stall.words:
            body["content_state"].update(self.look(handle, "stalled"), subtitle=stall.words)
        return states.ActivityState(body, digest)

    def rest(self, handle: H, looked: Digest | None) -> float | None:
        """Let the next change after a look wake the activity; returns in how many seconds to look without one."""
        handle._resting = True
        waits = [inner._builder.rest(inner, None) for inner in handle._display.lines()]
        again = min((wait for wait in waits if wait is not None), default=None)
        if looked is None or looked == self.digest(handle):
            return again  # a change after this wakes the activity
        return 0.0

    def _line_of_inner_blocks(self, handle: H) -> str | None:
        running = handle._display.lines()
        if len(running) > 1:
            return f"{len(running)} running"
        if not running:
            return None
        inner = running[0]
        brief = inner._builder._line_of_inner_blocks(inner) or inner._builder.brief(inner)
        return fit(f"{inner.title} · {brief}" if brief else inner.title)

    def _body(self, handle: H, state: dict[str, Any], look: str, **final: Any) -> dict[str, Any]:
        """Build the body of a request from the fields of the type and those that all types share."""
        options = {**handle._options, **handle._custom}
        line = self._line_of_inner_blocks(handle) if look == "running" else None
        subtitle = line or options.get("subtitle") or self.subtitle(handle)
        content = {"title": options.get("title") or handle._title, "type": handle.type, "subtitle": subtitle, **state}
        for name in ("color", "icon", "badge"):
            content.setdefault(name, options.get(name))
        content.update(final)
        body: dict[str, Any] = {"content_state": {n: v for n, v in content.items() if v is not None}}
        for name in ("action", "secondary_action", "alert"):
            if options.get(name) is not None:
                body[name] = options[name]
        return {**body, **shared(handle)}

    # -- the end

    def end(self, handle: H, outcome: Outcome, not_before: float = 0.0) -> EndState:
        """Build the last state; where that fails, end the card as it stands rather than leave it running."""
        try:
            return self.final(handle, outcome, not_before)
        except Exception:
            logger.exception("activitysmith_track: internal error in the last state of %r", handle.name)
            return states.EndState({}, None, show=False)

    def final(self, handle: H, outcome: Outcome, not_before: float = 0.0) -> EndState:
        """Build the last state.

        Args:
            handle: what has ended.
            outcome: how.
            not_before: until when it is held back, since a better one may take its place.
        """
        state = self.last(handle, outcome)
        if state is None:
            return states.EndState({}, None, show=False, not_before=not_before)
        if handle._options.get("keep") and outcome.kind == "done":
            closing = {} if self.keeps_readings else self._conclusion(handle, outcome)
            kept = self._body(handle, {**state, **self.standing}, "done", **closing)
            return states.EndState(kept, self._opening_of(handle, kept), keep=True, not_before=not_before)
        look = self._body(handle, state, outcome.kind, **self._conclusion(handle, outcome))
        seconds = {"done": DISMISS_DONE, "failed": DISMISS_FAILED, "stopped": DISMISS_STOPPED}[outcome.kind]
        body = bodies.as_end(look)
        body["content_state"] = {**look["content_state"], "auto_dismiss_seconds": seconds}
        held = handle._tracker.dispatcher.clock() - handle._began < handle._options.get("delay", 0.0)
        is_worth_showing = outcome.kind == "failed" or not held
        return states.EndState(body, self._opening_of(handle, look), show=is_worth_showing, not_before=not_before)

    def _opening_of(self, handle: H, last: dict[str, Any]) -> dict[str, Any]:
        """Return the last state as a body that starts the activity, which takes more fields than an update."""
        return {**last, "content_state": {**(self.running(handle) or {}), **last["content_state"]}}

    def _conclusion(self, handle: H, outcome: Outcome) -> dict[str, Any]:
        return {"subtitle": self._closing_words(handle, outcome), **self.look(handle, outcome.kind)}

    def _closing_words(self, handle: H, outcome: Outcome) -> str:
        if "final" in handle._custom:
            return str(handle._custom["final"])
        if outcome.kind == "done":
            return done_words(outcome)
        verb = "Failed" if outcome.kind == "failed" else "Stopped"
        reason = f": {outcome.reason}" if outcome.reason and outcome.kind == "failed" else ""
        return fit(f"{verb} {self.place(handle, outcome)}{reason}")

    def crash_state(self, handle: H) -> CrashState | None:
        """Return how the card ends, and the push, if the process dies now; `None` where no watchdog was asked for."""
        asked = handle._options.get("watchdog")
        if not (handle._tracker.watches if asked is None else asked):
            return None
        figures = self.figures(handle, "failed")
        outcome = Outcome("failed", handle.name, handle.title, handle.elapsed, CRASH_REASON, **figures)
        body = dict(self.end(handle, outcome).body)
        if "content_state" in body:
            body["content_state"] = {**body["content_state"], "subtitle": CRASH_REASON}
        wanted = handle._options.get("on_failure", True)
        message = f"{CRASH_REASON}\nLast seen {stood(outcome) or 'running'} on {_text.host()}"
        is_said = isinstance(wanted, (str, payloads.Push)) or not wanted
        return body, push_body(handle, outcome, wanted if is_said else message)
