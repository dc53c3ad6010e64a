"""What all kinds of handles share: one tracked block, and what its card shows."""

from __future__ import annotations

import logging
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

from .._lazy import Lazy
from ..errors import InvalidRequest
from .block import Block, decide
from .context import open_blocks
from .display import NOWHERE, Display
from .key import stream_key
from .option_table import COUNTED, OPTIONS, SHOWN, card_of, check_options, shows
from .pushes import scrubbed
from .stall import Stall
from .values import fit

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

    from typing_extensions import Self

    from .. import settings
    from ..delivery.state import ActivityState, CrashState, Digest
    from .outcome import Kind
    from .states import StateBuilder
    from .wrap import F
else:
    settings = Lazy("settings")

logger = logging.getLogger("activitysmith_track")

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
    _own: ClassVar[tuple[str, ...]] = ()  # of its `live_*` function, besides the name and the shared options
    _made_with: ClassVar[Mapping[str, str]] = MappingProxyType(
        {}
    )  # what `again` passes on, each with the attribute that keeps it
    _builder: ClassVar[StateBuilder[Any]]
    is_loop = False
    _display: Display = NOWHERE

    def __init__(self, name: str, options: Mapping[str, Any]) -> None:
        function = f"live_{type(self).__name__.lower()}"
        if not isinstance(name, str) or not name.strip():
            bare = f': a decorator is called with one, @{function}("my job")' if callable(name) else ""
            raise InvalidRequest("name", name, f"a string that is not blank{bare}")
        super().__init__(name, check_options(function, options, self.type, self._own))
        self._given_options = options
        self._resting: bool = False
        self._transitions: int = 0
        self._custom: Mapping[str, Any] = _NOTHING_YET

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
        given = {name: getattr(self, kept) for name, kept in self._made_with.items()}
        fresh: Self = make(self.name, **given, options=self._given_options)
        return fresh

    def begin(self) -> None:
        """Open the block: on a card of its own, or as a line on the card of the block around it."""
        self._display = NOWHERE  # first: another thread may end the block as soon as it is open
        super().begin()
        self._transitions = 0
        self._resting = False
        self._custom = _NOTHING_YET
        self._reset()
        if self._account is None:
            return
        self._display = Display()
        if "stall_after" in self._options:
            self._display.stall = stall = Stall(self, self._options["stall_after"])
            self._tracker.dispatcher.look_after(stall)
        around = next((each for each in open_handles() if each._builder.holds(each, self)), None)
        if around is not None and "key" not in self._options:
            self._display.show_on(around, self)
        else:
            self._display.card = self._tracker.dispatcher.open(
                self._account,
                stream_key(self.name, self._options.get("key")),
                Provider(self),
                delay=self._options.get("delay", 0.0),
                reserve=1 if self._options.get("keep") else 0,
                budget=self._tracker.settings.pace,
            )
        if self._first is not None:  # another thread, a signal or the exit has ended the block while it opened
            self._display.end(self, self._first)
        touch(self)

    def _reset(self) -> None:
        """Begin with nothing counted or shown."""

    # -- explicit ends

    def finish(self, subtitle: str | None = None) -> None:
        """End well, now: green, with the time it took, or with the given subtitle."""
        conclude(self, "done", subtitle)

    def fail(self, reason: str = "") -> None:
        """End as failed, now: red, and a push that says the reason."""
        conclude(self, "failed", None, reason)

    def cancel(self) -> None:
        """End as stopped, now: grey, no push."""
        conclude(self, "stopped")

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
            **shown: `title`, `subtitle`, `color`, `icon`, `badge`, `action`, `secondary_action`; `None` changes
                nothing. A value that cannot be shown is logged once and left out, and so are `percentage`,
                `completed` and `total` where this kind of handle counts nothing.

        Raises:
            TypeError: for an option that no kind of handle has, naming the nearest one.
        """
        wrong = settings.unknown_option("update", shown, (*SHOWN, *COUNTED, "important"))
        if wrong:
            raise wrong
        _tell_unopened(self)
        for name, value in shown.items():
            if value is not None:
                _show(self, name, value)
        if important:
            self._transitions += 1
        if important or self._resting or shown.keys() - {"subtitle"}:
            touch(self, transition=important)


def touch(handle: Handle, *, transition: bool = False) -> None:
    """Have the dispatcher look at what a handle shows.

    Args:
        handle: what has changed.
        transition: True for a change that is worth an update of its own, at once.
    """
    _tell_unopened(handle)
    handle._display.wake(handle, transition=transition)


def open_handles() -> list[Handle]:
    """Return the open handles of this context, innermost first."""
    return [each for each in open_blocks() if isinstance(each, Handle)]


def conclude(handle: Handle, kind: Kind, subtitle: str | None = None, reason: object = "") -> None:
    """End a block by a call, before it is left."""
    if not handle.is_open:
        _tell_unopened(handle)
        return
    try:
        if subtitle is not None:
            handle._custom = {**handle._custom, "final": fit(subtitle)}
        decide(handle, kind, reason=scrubbed(handle, fit(reason, 4_000)))
    except Exception:
        logger.exception("activitysmith_track: internal error at the end of %r", handle.name)


def _abandon(handle: Handle, words: str | None) -> None:
    """End as stopped: the interpreter exits, or a signal ends it, which the words name."""
    for inner in handle._display.lines():
        _abandon(inner, words)
    handle._pushed_failure = True  # an exception that follows from it pushes nothing
    conclude(handle, "stopped", words)
    card = handle._display.card
    if handle._first is not None and card is not None and card.end_delivery is None:
        handle._display.end(handle, handle._first)  # Ctrl-C came after the outcome and before the card's end


def _show(handle: Handle, name: str, value: Any) -> None:
    try:
        if not shows(handle.type, name):
            raise InvalidRequest(name, value, f"none: {card_of(handle.type)} cannot show it")
        checked = fit(value) if name in ("title", "subtitle") else OPTIONS[name].check(name, value)
    except Exception as problem:
        note(handle, name, "%s", problem)
    else:
        handle._custom = {**handle._custom, name: checked}


def refuses(handle: Handle, labelled: Mapping[str, Any]) -> bool:
    """Tell whether readings with labels were given, which only a grid can show; logs that they are skipped."""
    if labelled:
        note(handle, "labels", "labelled readings are skipped: %s shows none", card_of(handle.type))
    return bool(labelled)


def note(handle: Handle, kind: str, message: str, *details: object) -> None:
    """Log a problem with run-time data, once for each kind of problem and name of handle."""
    handle._tracker.dispatcher.runtime.warn_once((kind, handle.name), f"{handle.name!r}: {message}", *details)


def _tell_unopened(handle: Handle) -> None:
    """Log why a handle shows nothing that is used but was never entered."""
    if handle._opened < 0 and not handle._options.get("disable") and handle._tracker.account() is not None:
        note(handle, "unopened", "it shows nothing before its block has begun: use it in a with statement")


class Provider:
    """What the delivery asks of one handle, on its own threads; see `StateProvider`.

    Args:
        handle: whose card it is.
    """

    __slots__ = ("_handle",)

    def __init__(self, handle: Handle) -> None:
        self._handle = handle

    def snapshot(self) -> ActivityState | None:
        """Return the state to show, or `None` where there is nothing to show yet."""
        return self._handle._builder.snapshot(self._handle)

    def digest(self) -> Digest:
        """Return what tells this state from the next."""
        return self._handle._builder.digest(self._handle)

    def transitions(self) -> int:
        """Return how many transitions there have been so far."""
        return self._handle._builder.transitions(self._handle)

    def crash_state(self) -> CrashState | None:
        """Return what is to be sent if the process dies now, or `None` where no watchdog was asked for."""
        return self._handle._builder.crash_state(self._handle)

    def rest(self, looked: Digest | None) -> float | None:
        """Let the next change after a look wake the activity; returns in how many seconds to look without one."""
        return self._handle._builder.rest(self._handle, looked)

    def opening(self) -> None:
        """Hear that the card is about to appear on the screen."""
        self._handle._builder.opening(self._handle)

    def abandon(self, words: str | None = None) -> None:
        """End as stopped: the interpreter exits, or a signal ends it, which the words name."""
        _abandon(self._handle, words)


class StepBlock:
    """What `step()` returns: as a `with` block it finishes the step that the call began.

    Args:
        finish: finishes the step, unless another has begun; `None` where no step was begun.
    """

    def __init__(self, finish: Callable[[], None] | None = None) -> None:
        self._finish = finish

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._finish is not None and error is None:
            self._finish()  # else the failed step stays the running one

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)
