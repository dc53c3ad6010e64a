"""What all kinds of handles share: one tracked block, and what its card shows."""

from __future__ import annotations

import logging
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

from .. import _failure
from .._failure import WITHOUT_GOODBYE
from .._lazy import Lazy
from ..errors import InvalidRequest
from .block import Block
from .context import open_blocks
from .key import stream_key
from .options import CHECKS, COUNTED, SHOWN, card_of, check_options, shows
from .outcome import LOOKS, Outcome, done_words, stood
from .stall import Stall
from .values import fit

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType
    from typing import TypeVar

    from typing_extensions import Self

    from .. import payloads, settings
    from ..delivery import bodies
    from ..delivery import state as states
    from ..delivery.activity import Activity
    from ..delivery.persistence import CrashState
    from ..delivery.state import ActivityState, EndState, Mark
    from .outcome import Kind

    F = TypeVar("F", bound=Callable[..., Any])
else:
    states, bodies = Lazy("delivery.state"), Lazy("delivery.bodies")
    payloads, settings = Lazy("payloads"), Lazy("settings")

logger = logging.getLogger("activitysmith_track")

DISMISS_DONE, DISMISS_FAILED, DISMISS_STOPPED = 300, 4 * 3600, 60  # seconds that an ended card stays

_NOTHING_YET: Mapping[str, Any] = MappingProxyType({})


class Handle(Block):
    """One tracked block: what all the kinds of handles share.

    Use it as `with`, as `async with` or as a decorator. Before that it shows nothing, which the log says once. After
    `finish()`, `fail()` or `cancel()` it has ended, the first of them stands, and further calls do nothing. A handle
    that has ended may be entered again, which starts it afresh.

    Raises:
        RuntimeError: where a handle that is open is entered again.
    """

    type: ClassVar[str] = ""
    _own: ClassVar[tuple[str, ...]] = ()  # what its function takes beside a name and the shared options
    is_loop = False
    _reads = False  # True for readings, which keep=True leaves as they were

    def __init__(self, name: str, options: Mapping[str, Any]) -> None:
        function = f"live_{type(self).__name__.lower()}"
        if not isinstance(name, str) or not name.strip():
            bare = f': a decorator is called with one, @{function}("my job")' if callable(name) else ""
            raise InvalidRequest("name", name, f"a string that is not blank{bare}")
        super().__init__(name, check_options(function, options, self.type, self._own))
        self._given_options = options
        self._card: Activity | None = None
        self._parent: Handle | None = None
        self._children: dict[Handle, None] | None = None  # the open ones
        self._resting = False
        self._transitions = 0
        self._custom: Mapping[str, Any] = _NOTHING_YET
        self._stall: Stall | None = None

    # -- entering and leaving

    @property
    def title(self) -> str:
        """The title as the card shows it."""
        return str(self._custom.get("title", self._title))

    def __call__(self, function: F) -> F:
        """Decorate a function of any kind: each call runs in a fresh handle."""
        from .wrap import wrap

        return wrap(function, self.again)

    def again(self) -> Self:
        """Make a fresh handle with the same arguments."""
        make: Any = type(self)
        fresh: Self = make(self.name, **self._arguments(), options=self._given_options)
        return fresh

    def _arguments(self) -> dict[str, Any]:
        """Return what the handle was made with, beside its name and options."""
        return {}

    def begin(self) -> None:
        """Open the block: on a card of its own, or as a line of the block around it."""
        super().begin()
        self._card = self._parent = None
        self._children = None
        self._transitions = 0
        self._resting = False
        self._custom = _NOTHING_YET
        self._stall = None
        self._reset()
        if self._account is None:
            return
        if "stall_after" in self._options:
            self._stall = Stall(self, self._options["stall_after"])
            self._tracker.dispatcher.look_after(self._stall)
        around = next((each for each in open_handles() if each.holds(self)), None)
        if around is not None and "key" not in self._options:
            self._parent = around
            around._adopt(self)
        else:
            self._card = self._tracker.dispatcher.open(
                self._account,
                stream_key(self.name, self._options.get("key")),
                self,
                delay=self._options.get("delay", 0.0),
                reserve=1 if self._options.get("keep") else 0,
                budget=self._tracker.settings.pace,
            )
        if self._first is not None:
            self._end_card(self._first)  # another thread, a signal or the exit has ended the block meanwhile
        self._touch()

    def holds(self, inner: Handle) -> bool:
        """True where a block that starts now belongs on this one's card."""
        return self._account is not None and self._account is inner._account and self._running() is not None

    def _reset(self) -> None:
        """Begin the count anew."""

    # -- explicit ends

    def finish(self, subtitle: str | None = None) -> None:
        """End well, now: green, with the time it took, or with a subtitle of one's own."""
        self._conclude("done", subtitle)

    def fail(self, reason: str = "") -> None:
        """End as failed, now: red, and a push that says the reason."""
        self._conclude("failed", None, reason)

    def cancel(self) -> None:
        """End as stopped, now: grey, no push."""
        self._conclude("stopped")

    def abandon(self, words: str | None = None) -> None:
        """End as stopped: the interpreter exits, or a signal ends it, which the words name."""
        for child in self._open_children():
            child.abandon(words)
        self._pushed_failure = True  # an exception that comes of it alarms nobody
        self._conclude("stopped", words)
        if self._first is not None and self._card is not None and self._card.end_delivery is None:
            self._end_card(self._first)  # Ctrl-C came between the outcome and the card's end

    def last_words(self) -> CrashState | None:
        """Return how the card ends, and the push, if the process dies now; see `Source.last_words`."""
        asked = self._options.get("watchdog")
        if not (self._tracker.watches if asked is None else asked):
            return None
        figures = self._figures("failed")
        outcome = Outcome("failed", self.name, self.title, self.elapsed, WITHOUT_GOODBYE, **figures)
        body = dict(self._safely_final(outcome).body)
        if "content_state" in body:
            body["content_state"] = {**body["content_state"], "subtitle": WITHOUT_GOODBYE}
        wanted = self._options.get("on_failure", True)
        message = f"{WITHOUT_GOODBYE}\nLast seen {stood(outcome) or 'running'} on {_failure.host()}"
        push = self._push_body(outcome, wanted if isinstance(wanted, (str, payloads.Push)) or not wanted else message)
        return body, push

    def _conclude(self, kind: Kind, subtitle: str | None = None, reason: object = "") -> None:
        if not self.is_open:
            self._tell_unopened()
            return
        try:
            if subtitle is not None:
                self._custom = {**self._custom, "final": fit(subtitle)}
            self._decide(kind, reason=self._scrub(fit(reason, 4_000)))
        except Exception:
            logger.exception("activitysmith_track: internal error at the end of %r", self.name)

    # -- what is shown while it runs

    def advance(self, n: float = 1) -> Any:
        """Count, where this kind of handle counts; elsewhere nothing happens."""
        return StepBlock()

    def step(self, name: str) -> StepBlock:
        """Begin a step, where this kind of handle has steps; elsewhere nothing happens."""
        return StepBlock()

    def set(self, *values: Any, **more: Any) -> None:
        """Show a reading, where this kind of handle has readings; elsewhere nothing happens."""

    def pause(self) -> None:
        """Stop the clock, where this kind of handle has one; elsewhere nothing happens."""

    def resume(self) -> None:
        """Let the clock run on, where this kind of handle has one; elsewhere nothing happens."""

    def update(self, *, important: bool = False, **shown: Any) -> None:
        """Change what the card shows.

        Args:
            important: True for a transition: it goes at once while the budget allows.
            **shown: `title`, `subtitle`, `color`, `icon`, `badge`, `action`, `secondary_action`; `None` leaves one as
                it is. What cannot be shown is logged once and left out, and so are `percentage`, `completed` and
                `total` where this kind of handle counts nothing.

        Raises:
            TypeError: for an option that no kind of handle has, naming the nearest one.
        """
        wrong = settings.unknown_option("update", shown, (*SHOWN, *COUNTED, "important"))
        if wrong:
            raise wrong
        self._tell_unopened()
        for name, value in shown.items():
            if value is not None:
                self._show(name, value)
        if important:
            self._transitions += 1
        if important or self._resting or shown.keys() - {"subtitle"}:
            self._touch(transition=important)

    def _show(self, name: str, value: Any) -> None:
        try:
            if not shows(self.type, name):
                raise InvalidRequest(name, value, f"none: {card_of(self.type)} cannot show it")
            checked = fit(value) if name in ("title", "subtitle") else CHECKS[name](name, value)
        except Exception as problem:
            self._note(name, "%s", problem)
        else:
            self._custom = {**self._custom, name: checked}

    def _refuses(self, labelled: Mapping[str, Any]) -> bool:
        """Tell whether there are readings with labels, which only a grid can show."""
        if labelled:
            self._note("labels", "labelled readings are skipped: %s shows none", card_of(self.type))
        return bool(labelled)

    def _note(self, kind: str, message: str, *details: object) -> None:
        """Log what was wrong with run-time data, once for each kind and name."""
        self._tracker.dispatcher.runtime.warn_once((kind, self.name), f"{self.name!r}: {message}", *details)

    def _tell_unopened(self) -> None:
        """Say of a handle that is used but was never entered why nothing is seen of it."""
        if self._opened < 0 and not self._options.get("disable") and self._tracker.account() is not None:
            self._note("unopened", "it was never opened: use it in a with block")

    def _touch(self, *, transition: bool = False) -> None:
        """Have the dispatcher look at the card."""
        self._tell_unopened()
        self._resting = False
        top = self
        while top._parent is not None:
            top = top._parent
        if top._card is not None and top._first is None:
            top._card.wake(transition=transition and top is self)

    def _adopt(self, child: Handle) -> None:
        if self._children is None:
            self._children = {}
        self._children[child] = None

    def _open_children(self) -> list[Handle]:
        return [child for child in list(self._children) if child.is_open] if self._children else []

    # -- what the dispatcher asks, on its own threads

    def snapshot(self) -> ActivityState | None:
        """Return the state to show; see `Source.snapshot`."""
        mark = self.mark()  # first: what changes after that is seen to have changed
        state = self._running()
        if state is None:
            return None
        body = self._body(state, "running")
        if self._stall is not None and self._stall.words:
            body["content_state"].update(self._look("stalled"), subtitle=self._stall.words)
        return states.ActivityState(body, mark)

    def mark(self) -> Mark:
        """Return what tells this state from the next; see `Source.mark`."""
        return states.Mark(self._fraction(), self.transitions(), self._detail(), self._numbers())

    def transitions(self) -> int:
        """Return how many transitions there were; see `Source.transitions`."""
        return self._transitions + (self._stall.turns if self._stall is not None else 0)

    def rest(self, looked: Mark | None) -> float | None:
        """Ask to be woken by the next change; see `Source.rest`."""
        self._resting = True
        waits = [child.rest(None) for child in self._open_children()]
        again = min((wait for wait in waits if wait is not None), default=None)
        if looked is None or looked == self.mark():
            return again  # what changes after this asks for another look
        return 0.0

    def _progress_made(self) -> object:
        """Return what changes with every progress."""
        return self._fraction(), self._transitions, self._detail(), self._numbers()

    def _push_stall(self, words: str) -> None:
        """Tell that there is no progress."""
        if self._account is None or self._options.get("on_failure", True) is False:
            return
        body = {"title": fit(f"{self.title} stands still"), "message": words, **self._shared()}
        self._tracker.dispatcher.push(self._account, body, at_least_once=False)

    def _numbers(self) -> Mapping[str, float]:
        """Return the numbers on the card by their labels, where it shows readings."""
        return {}

    def opening(self) -> None:
        """Hear that the card is about to appear; see `Source.opening`."""

    def _running(self) -> dict[str, Any] | None:
        """Return the fields of the type while it runs, or `None` where there is nothing to show yet."""
        raise NotImplementedError

    def _last(self, outcome: Outcome) -> dict[str, Any] | None:
        """Return the fields of the type at the end."""
        return self._running()

    def _fraction(self) -> float | None:
        return None

    def _detail(self) -> object:
        custom = {name: value for name, value in self._custom.items() if name != "subtitle"}
        return custom, self._line_of_children()

    def _line_of_children(self) -> str | None:
        if not self._children:
            return None
        running = self._open_children()
        if len(running) > 1:
            return f"{len(running)} running"
        if not running:
            return None
        brief = running[0]._line_of_children() or running[0]._brief()
        return fit(f"{running[0].title} · {brief}" if brief else running[0].title)

    def _brief(self) -> str:
        """Say in a few words how far it is."""
        return ""

    def _subtitle(self) -> str | None:
        """Return the subtitle where neither the user nor an inner block gives one."""
        return None

    def _body(self, state: dict[str, Any], look: str, **final: Any) -> dict[str, Any]:
        """Build the body of a request from the fields of the type and what all types share."""
        options = {**self._options, **self._custom}
        line = self._line_of_children() if look == "running" else None
        subtitle = line or options.get("subtitle") or self._subtitle()
        content = {"title": options.get("title") or self._title, "type": self.type, "subtitle": subtitle, **state}
        for name in ("color", "icon", "badge"):
            content.setdefault(name, options.get(name))
        content.update(final)
        body: dict[str, Any] = {"content_state": {n: v for n, v in content.items() if v is not None}}
        for name in ("action", "secondary_action", "alert"):
            if options.get(name) is not None:
                body[name] = options[name]
        return {**body, **self._shared()}

    # -- the end

    def _figures(self, kind: Kind) -> dict[str, Any]:
        return {}

    def _end_card(self, outcome: Outcome) -> None:
        if self._stall is not None:
            self._tracker.dispatcher.look_after(self._stall)  # which looks no more, and lets go of this handle
        if self._parent is not None:
            (self._parent._children or {}).pop(self, None)
            self._touch()
        if self._card is not None:
            self._card.end(self._safely_final(outcome))

    def _safely_final(self, outcome: Outcome) -> EndState:
        """Build the last state; where that fails, end the card as it stands rather than leave it running."""
        try:
            return self._final(outcome)
        except Exception:
            logger.exception("activitysmith_track: internal error in the last state of %r", self.name)
            return states.EndState({}, None, show=False)

    def _final(self, outcome: Outcome, not_before: float = 0.0) -> EndState:
        state = self._last(outcome)
        if state is None:
            return states.EndState({}, None, show=False, not_before=not_before)
        if self._options.get("keep") and outcome.kind == "done":
            kept = self._body(state, "done", **({} if self._reads else self._conclusion(outcome)))
            return states.EndState(kept, self._opening_of(kept), keep=True, not_before=not_before)
        look = self._body(state, outcome.kind, **self._conclusion(outcome))
        seconds = {"done": DISMISS_DONE, "failed": DISMISS_FAILED, "stopped": DISMISS_STOPPED}[outcome.kind]
        body = bodies.as_end(look)
        body["content_state"] = {**look["content_state"], "auto_dismiss_seconds": seconds}
        held = self._tracker.dispatcher.clock() - self._began < self._options.get("delay", 0.0)
        is_worth_showing = outcome.kind == "failed" or not held
        return states.EndState(body, self._opening_of(look), show=is_worth_showing, not_before=not_before)

    def _opening_of(self, last: dict[str, Any]) -> dict[str, Any]:
        """Return the last state as a body that starts the activity, which needs more than an update."""
        return {**last, "content_state": {**(self._running() or {}), **last["content_state"]}}

    def _conclusion(self, outcome: Outcome) -> dict[str, Any]:
        return {"subtitle": self._last_words(outcome), **self._look(outcome.kind)}

    def _look(self, kind: str) -> dict[str, Any]:
        return {"color": LOOKS[kind][0]}

    def _last_words(self, outcome: Outcome) -> str:
        if "final" in self._custom:
            return str(self._custom["final"])
        if outcome.kind == "done":
            return done_words(outcome)
        verb = "Failed" if outcome.kind == "failed" else "Stopped"
        reason = f": {outcome.reason}" if outcome.reason and outcome.kind == "failed" else ""
        return fit(f"{verb} {self._place(outcome)}{reason}")

    def _place(self, outcome: Outcome) -> str:
        return f"after {_failure.span(outcome.elapsed)}"


def open_handles() -> list[Handle]:
    """Return the open handles of this context, innermost first."""
    return [each for each in open_blocks() if isinstance(each, Handle)]


class StepBlock:
    """What `step()` returns: as a `with` block it finishes the step that the call began."""

    def __init__(self, handle: Any = None, plan: Any = None) -> None:
        self._handle, self._plan = handle, plan

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._handle is not None and self._plan is not None and error is None:
            self._handle._finish_step(self._plan)  # else the step that failed stays the one that was running

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)
