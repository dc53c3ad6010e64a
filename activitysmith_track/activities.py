"""The handles that users hold: what a block is doing, counted without I/O, and how it ended.

Every `live_*` function returns a handle that works as `with`, as `async with` and as a decorator, which makes a fresh
handle for every call. Making one raises for a programmer's mistake; using one never raises.
"""

from __future__ import annotations

import logging
import math
import os
import re
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NoReturn, TypedDict

from . import _failure
from ._failure import LONGEST_PUSH, LONGEST_TEXT, WITHOUT_GOODBYE
from ._lazy import Lazy
from .errors import InvalidRequest

if TYPE_CHECKING:
    from types import TracebackType
    from typing import TypeVar

    from typing_extensions import Self, Unpack

    from . import _tracker as trackers
    from . import payloads, settings
    from ._signals import Signals
    from ._tracker import CoreTracker as Tracker
    from .delivery import bodies
    from .delivery import state as states
    from .delivery.account import Account
    from .delivery.activity import Activity
    from .delivery.persistence import CrashState
    from .delivery.state import ActivityState, EndState, Mark
    from .payloads import Action, Badge, Icon, Metric, Push

    F = TypeVar("F", bound=Callable[..., Any])
    Told = bool | str | Push | Mapping[str, Any] | Callable[..., Any] | None
else:
    states, bodies = Lazy("delivery.state"), Lazy("delivery.bodies")
    payloads, settings, trackers = Lazy("payloads"), Lazy("settings"), Lazy("_tracker")

__all__ = [
    "Alert",
    "Handle",
    "Metrics",
    "Options",
    "Outcome",
    "Progress",
    "Stats",
    "Steps",
    "Timer",
    "Value",
    "current",
    "live_alert",
    "live_metrics",
    "live_progress",
    "live_stats",
    "live_steps",
    "live_timer",
    "live_value",
    "step",
]

logger = logging.getLogger("activitysmith_track")

DISMISS_DONE, DISMISS_FAILED, DISMISS_STOPPED = 300, 4 * 3600, 60  # seconds that an ended card stays
STALL_LOOKS = 10  # looks at what may have stalled, in the time after which it has
LATE_SECONDS = 5.0  # after which a clock that appears late says so
ETA_AFTER = 2.0  # seconds before the first estimate
WAIT_SECONDS = 10.0  # what wait=True waits at most

Kind = Literal["done", "failed", "stopped"]
LOOKS: dict[str, tuple[str, str]] = {
    "done": ("green", "checkmark.circle.fill"),
    "failed": ("red", "xmark.circle.fill"),
    "stopped": ("gray", "stop.circle.fill"),
    "stalled": ("orange", "pause.circle.fill"),
}
RUNNING_STEP = "cyan"  # tells the running step from the finished ones


class Options(TypedDict, total=False):
    """What every handle, `track` and `track_steps` take; `None` means the default.

    Attributes:
        title: the card's title; the name by default.
        subtitle: a line of the user's own; while there is one, no estimate is shown.
        key: the stream's key, `{name}` and `{host}` are filled in; a slug of the name by default. Giving one asks for
            a card of one's own also inside another tracked block.
        color: one of the service's ten colours, while running.
        icon: an `Icon`, or the name of an SF Symbol.
        badge: a `Badge` or its words (alert, progress, steps and value).
        action: a button, an `Action`.
        secondary_action: a second button (alert, progress, steps and value).
        alert: `{"title": ..., "body": ...}`, announced when the card appears.
        channels: slugs, a list or a comma-separated string, of the card and its pushes.
        tags: up to 20 strings of 1 to 64 characters.
        metadata: up to 50 entries, 16 KB of JSON.
        on_failure: the push of a failure: True (default), False, its message, a `Push`, or a callable that takes the
            `Outcome` and the exception and returns one of these.
        on_success: the same for a good end; False by default. The callable takes the `Outcome` and the result.
        cancelled: `"stopped"` (default: grey, no push) or `"failure"`, for KeyboardInterrupt, cancellation and other
            exceptions that are no `Exception`.
        ignore: exception types that end a block as stopped.
        delay: seconds to hold the card back; a block that ends well before that sends nothing.
        keep: True leaves the card up when the block ends well, for a next run to come back to.
        disable: True turns this one off.
        eta: `"remaining"` (default), `"clock"` or `None`: the estimate in the subtitle.
        wait: True, or seconds, to wait for the delivery when the block is left.
        stall_after: seconds, more than 0, without any progress after which the card turns orange and a push says so,
            once; it recovers by itself.
        watchdog: True to have this card ended red, and a push sent, when the process is killed or crashes; by default
            as `configure(watchdog=...)` says.
        tracker: the `Tracker` to use instead of the process's own.
    """

    title: str | None
    subtitle: str | None
    key: str | None
    color: str | None
    icon: Icon | str | Mapping[str, Any] | None
    badge: Badge | str | Mapping[str, Any] | None
    action: Action | Mapping[str, Any] | None
    secondary_action: Action | Mapping[str, Any] | None
    alert: Mapping[str, str] | str | None
    channels: Sequence[str] | str | None
    tags: Sequence[str] | None
    metadata: Mapping[str, Any] | None
    on_failure: Told
    on_success: Told
    cancelled: Literal["stopped", "failure"]
    ignore: type[BaseException] | tuple[type[BaseException], ...]
    delay: float
    keep: bool
    disable: bool | None
    eta: Literal["remaining", "clock"] | None
    wait: bool | float
    stall_after: float
    watchdog: bool | None
    tracker: Tracker | None


@dataclass(frozen=True)
class Outcome:
    """How a block ended.

    Attributes:
        kind: `"done"`, `"failed"` or `"stopped"`.
        name: the block's name.
        title: the card's title.
        elapsed: seconds.
        reason: what failed or stopped it, in words and scrubbed; empty when done.
        where: the place of the user's code that raised, such as `load() in etl.py:42`; may be empty.
        percentage: the whole percentage on the card at the end, or `None`.
        completed: how many were counted, or `None`.
        total: out of how many, or `None`.
        step: the step that was running, or `None`.
    """

    kind: Kind
    name: str
    title: str
    elapsed: float
    reason: str = ""
    where: str = ""
    percentage: int | None = None
    completed: float | None = None
    total: float | None = None
    step: str | None = None


# ------------------------------------------------------------------------------------------ the checks of set-up


def _check_text(path: str, value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise InvalidRequest(path, value, "a string that is not blank")
    return fit(value)


def _check_subtitle(path: str, value: Any) -> str:
    if not isinstance(value, str):
        raise InvalidRequest(path, value, "a string")
    return fit(value)


def _check_icon(path: str, value: Any) -> Any:
    return payloads.CONTENT_STATE["icon"][0](path, {"symbol": value} if isinstance(value, str) else value)


def _check_badge(path: str, value: Any) -> Any:
    return payloads.CONTENT_STATE["badge"][0](path, {"title": value} if isinstance(value, str) else value)


def _check_alert(path: str, value: Any) -> Any:
    alert = {"title": value} if isinstance(value, str) else value
    return payloads.BODIES["stream"][0]["alert"](path, alert)


def _check_told(path: str, value: Any) -> Any:
    if isinstance(value, Mapping):
        wrong = settings.unknown_option("Push", value, payloads.Push.__dataclass_fields__)
        if wrong:
            raise wrong
        try:
            return payloads.Push(**value)
        except InvalidRequest as problem:
            raise InvalidRequest(f"{path}.{problem.field}", problem.value, problem.allowed) from None
    if isinstance(value, bool) or (isinstance(value, str) and value) or callable(value):
        return value
    if isinstance(value, payloads.Push):
        return value
    raise InvalidRequest(path, value, "True, False, a text, a Push or a callable")


def _check_cancelled(path: str, value: Any) -> Any:
    if value not in ("stopped", "failure"):
        raise InvalidRequest(path, value, "'stopped' or 'failure'")
    return value


def _check_ignore(path: str, value: Any) -> tuple[type[BaseException], ...]:
    types = value if isinstance(value, tuple) else (value,)
    if not all(isinstance(each, type) and issubclass(each, BaseException) for each in types):
        raise InvalidRequest(path, value, "an exception type, or a tuple of them")
    return types


def _check_flag(path: str, value: Any) -> bool:
    if not isinstance(value, (bool, int)):
        raise InvalidRequest(path, value, "True or False")
    return bool(value)


def _check_eta(path: str, value: Any) -> Any:
    if value not in ("remaining", "clock"):
        raise InvalidRequest(path, value, "'remaining', 'clock' or None")
    return value


def _check_wait(path: str, value: Any) -> float:
    if isinstance(value, bool):
        return WAIT_SECONDS if value else 0.0
    return settings.check_seconds(path, value)


def _check_period(path: str, value: Any) -> float:
    seconds = settings.check_seconds(path, value)
    if not seconds > 0:
        raise InvalidRequest(path, value, "seconds, more than 0")
    return seconds


def _check_tracker(path: str, value: Any) -> Tracker:
    if not isinstance(value, trackers.CoreTracker):
        raise InvalidRequest(path, value, "a Tracker")
    return value


_KEY_FIELD = r"\{(name|host)\}"


def _check_key(path: str, value: Any) -> str:
    if not isinstance(value, str):
        raise InvalidRequest(path, value, "a string")
    rest = re.sub(_KEY_FIELD, "x", value)
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,200}", rest):
        raise InvalidRequest(path, value, "1 to 200 letters, digits, underscores, hyphens, {name} and {host}")
    return value


def _of(module: Any, name: str) -> Callable[[str, Any], Any]:
    """Return a check of a module that need not be imported before there is something to check."""
    return lambda path, value: getattr(module, name)(path, value)


CHECKS: dict[str, Callable[[str, Any], Any]] = {
    "title": _check_text,
    "subtitle": _check_subtitle,
    "key": _check_key,
    "color": _of(payloads, "check_color"),
    "icon": _check_icon,
    "badge": _check_badge,
    "action": _of(payloads, "check_action"),
    "secondary_action": _of(payloads, "check_action"),
    "alert": _check_alert,
    "channels": _of(payloads, "check_channels"),
    "tags": _of(payloads, "check_tags"),
    "metadata": _of(payloads, "check_metadata"),
    "on_failure": _check_told,
    "on_success": _check_told,
    "cancelled": _check_cancelled,
    "ignore": _check_ignore,
    "delay": _of(settings, "check_seconds"),
    "keep": _check_flag,
    "disable": _check_flag,
    "eta": _check_eta,
    "wait": _check_wait,
    "stall_after": _check_period,
    "watchdog": _check_flag,
    "tracker": _check_tracker,
}
"""How each of the shared options is checked; the names are those of `Options`."""


def check_options(
    function: str, given: Mapping[str, Any], kind: str | None = None, own: Sequence[str] = ()
) -> dict[str, Any]:
    """Check shared options and return those that were given, as the service takes them.

    Args:
        function: how an error names the caller.
        given: the options.
        kind: the activity type, to refuse what it cannot show.
        own: the caller's own parameters, which a misspelt option may have meant.

    Raises:
        TypeError: for an unknown option, naming the nearest one.
        InvalidRequest: for an unusable value.
    """
    wrong = settings.unknown_option(function, given, (*CHECKS, *own)) if given else None
    if wrong:
        raise wrong
    checked = {name: CHECKS[name](name, value) for name, value in given.items() if value is not None}
    for name in checked:
        if kind is not None and not shows(kind, name):
            raise InvalidRequest(name, given[name], f"none: {_card_of(kind)} cannot show it")
    if "eta" in given:
        checked["eta"] = checked.get("eta")
    return checked


def shows(kind: str, name: str) -> bool:
    """Tell whether an activity of a type shows an option."""
    if name in _COUNTED:
        return kind == "progress"
    if name == "secondary_action":
        return kind in payloads.BADGED
    if name == "stall_after":
        return kind != "timer"
    return name not in payloads.CONTENT_STATE or kind in payloads.CONTENT_STATE[name][1]


def _card_of(kind: str) -> str:
    return f"{'an' if kind == 'alert' else 'a'} {kind} card"


# -------------------------------------------------------------------------------------------------- small words


def fit(value: object, longest: int = LONGEST_TEXT) -> str:
    """Turn anything into a text that the phone can show: no lone surrogates, not too long; never raises."""
    try:
        text = value if isinstance(value, str) else str(value)
        text = text[: longest * 8].encode("utf-8", "replace").decode()
    except Exception:
        return "?"
    return _failure.shorten(text, longest)


def slug(text: str) -> str:
    """Make a stream key of a name; where that loses characters, a short hash tells it from others.

    Spaces, dots, slashes and capitals count as kept; accents and symbols do not.
    """
    kept = re.sub(r"[\s./:-]+", "-", text.lower()).strip("-")
    made = re.sub(r"[^a-z0-9_-]+", "", kept)[:200].strip("-")
    if made == kept:
        return made or "job"
    import zlib

    digest = f"{zlib.crc32(text.encode('utf-8', 'surrogatepass')):08x}"
    return f"{made}-{digest}" if made else f"job-{digest}"


def _stream_key(name: str, key: str | None) -> str:
    if key is None:
        return slug(name)
    fields = {"name": slug(name)}
    if "{host}" in key:
        fields["host"] = slug(_host())
    return re.sub(_KEY_FIELD, lambda found: fields[found[1]], key)[:250]


def _host() -> str:
    return os.uname().nodename if hasattr(os, "uname") else os.environ.get("COMPUTERNAME", "host")


def _plain(number: float) -> str:
    """Write a count: `1,234`, or `0.5`."""
    return f"{number:,}" if isinstance(number, int) else f"{number:,.1f}".removesuffix(".0")


def _finite(value: Any) -> float | None:
    """Read a number that came at run time; `None` where it is none, whatever its `__float__` does."""
    try:
        number = float(value)
    except Exception:
        return None
    return number if math.isfinite(number) else None


# ------------------------------------------------------------------------------------------- the blocks of a context

_stack: ContextVar[tuple[Watch, ...]] = ContextVar("activitysmith_track_blocks", default=())


def enter(watch: Watch) -> None:
    """Make a block the innermost one of this context."""
    _stack.set((*_stack.get(), watch))


def leave(watch: Watch) -> None:
    """Take a block out of this context, wherever it stands there."""
    _stack.set(tuple(each for each in _stack.get() if each is not watch))


def _handles() -> list[Handle]:
    """Return the open handles of this context, innermost first."""
    return [each for each in reversed(_stack.get()) if isinstance(each, Handle) and each.is_open]


def current() -> Handle:
    """Return the innermost handle of this context, or a silent stand-in that takes every call.

    The handle is of the kind that the block around has. A call that only another kind shows (`advance`, `step`,
    `set`, `pause`, `update(completed=...)`) is left out, and the job goes on. A loop of `track` is never the current
    handle. Threads of a pool do not inherit the context: start each of their tasks with
    `contextvars.copy_context().run`.
    """
    return next((handle for handle in _handles() if not handle.is_loop), _SILENT)


def step(name: str) -> StepBlock:
    """Begin a step of the innermost steps handle: as a call, or as a `with` block that finishes it.

    The step before it is finished. Without a steps handle around it does nothing.
    """
    found = next((handle for handle in _handles() if isinstance(handle, Steps)), None)
    return found.step(name) if found is not None else StepBlock()


left_loops: deque[Any] = deque(maxlen=64)  # weak references to loops that were left and not exhausted


def explain_loops(error: BaseException) -> None:
    """Tell the loops that were just left of an exception, which may be why."""
    for reference in list(left_loops):
        loop = reference()
        if loop is not None and loop.outcome.kind == "stopped":
            try:
                loop.explain(error)
            except Exception:
                logger.exception("activitysmith_track: internal error at the end of %r", loop.name)


# ------------------------------------------------------------------------------------------------ watching a block


def _is_cancellation(error: BaseException) -> bool:
    """Tell what stopped a block from what failed in it."""
    if not isinstance(error, Exception):
        return True
    futures = sys.modules.get("concurrent.futures._base")
    return futures is not None and isinstance(error, futures.CancelledError)


class Watch:
    """A block whose end is told: what handles and `notify` have in common.

    Args:
        name: what the block is called.
        options: checked options.
    """

    _first: Outcome | None = None  # how it ended: the first end stands

    def __init__(self, name: str, options: Mapping[str, Any]) -> None:
        self.name = name
        self._options = options
        self._given_tracker: Tracker | None = options.get("tracker")
        self._title: str = options.get("title") or fit(name)
        self._account: Account | None = None
        self._began = 0.0
        self._opened = -1
        self._epoch = -1
        self._pushed_failure = False
        self._signals: Signals | None = None
        self.result: object = None  # of a decorated function, for on_success

    def __enter__(self) -> Self:
        if self.is_open:
            raise RuntimeError(f"{self.name!r} is open already; make a handle for each block, or use the decorator")
        self.begin()
        enter(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        leave(self)
        self.settle(error)
        if self._waits():
            self._tracker.flush(self._waits())

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        leave(self)
        self.settle(error)
        if self._waits():
            import asyncio

            await asyncio.get_running_loop().run_in_executor(None, self._tracker.flush, self._waits())

    def _waits(self) -> float:
        """Return the seconds to wait for the delivery, where that was asked for."""
        return float(self._options.get("wait", 0.0)) if self._account is not None else 0.0

    @property
    def _tracker(self) -> Tracker:
        return self._given_tracker or trackers.default_tracker()

    @property
    def title(self) -> str:
        """The title as the card shows it."""
        return self._title

    @property
    def is_open(self) -> bool:
        """True between entering and the end, in the process that entered."""
        return self._opened >= 0 and self._first is None and self._epoch == self._tracker.dispatcher.epoch

    @property
    def outcome(self) -> Outcome | None:
        """How the block ended, or `None` while it has not."""
        return self._first

    @property
    def elapsed(self) -> float:
        """Seconds since the block was entered, or that it took."""
        if self._opened < 0:
            return 0.0
        first = self._first
        return self._tracker.dispatcher.clock() - self._began if first is None else first.elapsed

    def begin(self) -> None:
        """Open the block; never blocks and never raises for what the network does."""
        dispatcher = self._tracker.dispatcher
        if self._first is not None:
            del self._first
        self._pushed_failure = False
        self._epoch = dispatcher.epoch
        self._began = dispatcher.clock()
        self._account = None if self._options.get("disable") else self._tracker.account()
        if self._account is not None and self._tracker.settings.signals:
            self._signals = dispatcher.signals
            self._signals.acquire()
        self._opened = next(dispatcher.order)  # from here on other threads and signals may end it

    def settle(self, error: BaseException | None) -> None:
        """End the block as an exception, or its absence, says; an outcome that was decided before stands."""
        if self._opened < 0 or self._epoch != self._tracker.dispatcher.epoch:
            return
        if sys.is_finalizing():  # a generator that nobody finished: told at the exit, and nothing can be sent now
            return
        try:
            if error is not None:
                explain_loops(error)
            kind = self._judge(error)
            if not self._decide(kind, error) and kind == "failed" and error is not None:
                self._tell_late(error)
        except Exception:
            logger.exception("activitysmith_track: internal error at the end of %r", self.name)
        finally:
            self.result = None

    def _judge(self, error: BaseException | None) -> Kind:
        if error is None:
            return "done"
        if isinstance(error, self._options.get("ignore", ())):
            return "stopped"
        if isinstance(error, SystemExit):
            return "done" if error.code is None or error.code == 0 else "failed"
        if _is_cancellation(error) and self._options.get("cancelled") != "failure":
            return "stopped"
        return "failed"

    def _decide(self, kind: Kind, error: BaseException | None = None, *, reason: str | None = None) -> bool:
        """Decide the outcome; False where it was decided before."""
        outcome = self._outcome(kind, error, reason, self._tracker.dispatcher.clock() - self._began)
        if vars(self).setdefault("_first", outcome) is not outcome:  # atomic: threads and signals may race here
            return False
        self._end_card(outcome)
        if self._signals is not None:
            self._signals.release()
            self._signals = None
        self._tell(outcome, error)
        return True

    def _outcome(self, kind: Kind, error: BaseException | None, reason: str | None, elapsed: float) -> Outcome:
        if reason is None:
            reason = "" if error is None or kind == "done" else self._words(error)
        where = _failure.place(error) if error is not None and kind == "failed" else ""
        return Outcome(kind, self.name, self.title, elapsed, reason, where, **self._figures(kind))

    def _words(self, error: BaseException) -> str:
        said = _failure.exit_words(error) if isinstance(error, SystemExit) else _failure.words(error)
        return self._scrub(said)

    def _scrub(self, text: str) -> str:
        secret = self._account.secret if self._account is not None else None
        return fit(_failure.scrub(text, (secret,), self._tracker.settings.redact), _failure.LONGEST_MESSAGE)

    def _figures(self, kind: Kind) -> dict[str, Any]:
        return {}

    def _end_card(self, outcome: Outcome) -> None:
        return

    # -- pushes

    def _tell(self, outcome: Outcome, error: BaseException | None) -> None:
        """Send the push that belongs to an outcome, if any."""
        if outcome.kind == "stopped":
            return
        failed = outcome.kind == "failed"
        wanted = self._options.get("on_failure", True) if failed else self._options.get("on_success", False)
        body = self._push_body(outcome, self._asked(wanted, outcome, error if failed else self.result, failed))
        if body is None or self._account is None:
            return
        dispatcher = self._tracker.dispatcher
        marks = _marks(error) if failed and error is not None else None
        if marks is not None:
            dispatcher.take_over(marks, self._opened)
        self._pushed_failure = failed
        dispatcher.push(self._account, body, at_least_once=failed, failure=marks)

    def _tell_late(self, error: BaseException) -> None:
        """Push an exception that came after the outcome had been decided."""
        if not self._pushed_failure:
            self._tell(self._outcome("failed", error, None, self.elapsed), error)

    def _asked(self, wanted: Any, outcome: Outcome, subject: object, failed: bool) -> Any:
        """Call a callable for what to push; where it fails, the job does not, and a failure is still told."""
        if not callable(wanted):
            return wanted
        try:
            answer = wanted(outcome, subject)
            return None if answer is None else _check_told("on_failure" if failed else "on_success", answer)
        except Exception as problem:
            self._tracker.dispatcher.runtime.warn_once(
                ("callable", self.name),
                "on_%s of %r failed: %r",
                "failure" if failed else "success",
                self.name,
                problem,
            )
            return failed

    def _push_body(self, outcome: Outcome, wanted: Any) -> dict[str, Any] | None:
        if wanted is None or wanted is False:
            return None
        body: dict[str, Any] = {
            "title": fit(f"{self.title} {'failed' if outcome.kind == 'failed' else 'finished'}"),
            "message": wanted if isinstance(wanted, str) else _message(outcome),
            "interruption_level": "active",
            **self._shared(),
        }
        if isinstance(wanted, payloads.Push):
            body.update(payloads.with_target(wanted.given()))
        for name in ("title", "message", "subtitle"):
            if name in body:
                body[name] = fit(body[name], LONGEST_PUSH)
        return body

    def _shared(self) -> dict[str, Any]:
        """Return what a card and a push carry alike: channels, tags and metadata."""
        settings = self._tracker.settings
        shared: dict[str, Any] = {}
        channels = self._options.get("channels") or payloads.split_channels(settings.channels)
        if channels:
            shared["target"] = {"channels": channels}
        for name in ("tags", "metadata"):
            value = self._options.get(name, getattr(settings, name))
            if value is not None:
                shared[name] = value
        return shared


def _message(outcome: Outcome) -> str:
    """Say what failed, where and after how long; or how long a good end took."""
    if outcome.kind == "done":
        return _done_words(outcome)
    after = " ".join(each for each in (_failure.span(outcome.elapsed), _stood(outcome)) if each)
    return f"{outcome.reason or 'Failed'}\nAfter {after}" + (f", {outcome.where}" if outcome.where else "")


def _stood(outcome: Outcome) -> str:
    """Say in which step or at which percentage it was; empty where neither is known."""
    if outcome.step:
        return f"in {outcome.step}"
    return f"at {outcome.percentage} %" if outcome.percentage else ""


def _done_words(outcome: Outcome) -> str:
    took = f"Done in {_failure.span(outcome.elapsed)}"
    short = outcome.total is not None and outcome.completed is not None and outcome.completed < outcome.total
    if not short:
        return took
    of = f"{_plain(outcome.completed or 0)} of {_plain(outcome.total or 0)}"
    return f"Done, {of} steps" if outcome.step is not None else f"Done, {of}"


def _marks(error: BaseException) -> object:
    """Know an exception again without holding it: holding it would keep the failed frames' objects alive."""
    last = trace = error.__traceback__
    while trace is not None:
        last, trace = trace, trace.tb_next
    return (id(error), type(error), last and (id(last.tb_frame.f_code), last.tb_lasti))


# ------------------------------------------------------------------------------------------------------ the handles


_NOTHING_YET: Mapping[str, Any] = MappingProxyType({})


class Handle(Watch):
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
        self._stall: _Stall | None = None

    # -- entering and leaving

    @property
    def title(self) -> str:
        """The title as the card shows it."""
        return str(self._custom.get("title", self._title))

    def __call__(self, function: F) -> F:
        """Decorate a function of any kind: each call runs in a fresh handle."""
        from .decorators import wrap

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
            self._stall = _Stall(self, self._options["stall_after"])
            self._tracker.dispatcher.look_after(self._stall)
        around = next((each for each in _handles() if each.holds(self)), None)
        if around is not None and "key" not in self._options:
            self._parent = around
            around._adopt(self)
        else:
            self._card = self._tracker.dispatcher.open(
                self._account,
                _stream_key(self.name, self._options.get("key")),
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
        message = f"{WITHOUT_GOODBYE}\nLast seen {_stood(outcome) or 'running'} on {_failure.host()}"
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
        wrong = settings.unknown_option("update", shown, (*_SHOWN, *_COUNTED, "important"))
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
                raise InvalidRequest(name, value, f"none: {_card_of(self.type)} cannot show it")
            checked = fit(value) if name in ("title", "subtitle") else CHECKS[name](name, value)
        except Exception as problem:
            self._note(name, "%s", problem)
        else:
            self._custom = {**self._custom, name: checked}

    def _refuses(self, labelled: Mapping[str, Any]) -> bool:
        """Tell whether there are readings with labels, which only a grid can show."""
        if labelled:
            self._note("labels", "labelled readings are skipped: %s shows none", _card_of(self.type))
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
            return _done_words(outcome)
        verb = "Failed" if outcome.kind == "failed" else "Stopped"
        reason = f": {outcome.reason}" if outcome.reason and outcome.kind == "failed" else ""
        return fit(f"{verb} {self._place(outcome)}{reason}")

    def _place(self, outcome: Outcome) -> str:
        return f"after {_failure.span(outcome.elapsed)}"


class _Stall:
    """The task that tells a job which makes no progress.

    Args:
        handle: the job's.
        after: seconds without progress.
    """

    __slots__ = ("_after", "_handle", "_mark", "_moved", "_opened", "_said", "_told", "turns", "words")

    def __init__(self, handle: Handle, after: float) -> None:
        self._handle, self._after, self._opened = handle, after, handle._opened
        self._mark: object = None
        self._moved = handle._began
        self._said = after
        self._told = False
        self.turns = 0  # how often it stalled or recovered: each is a transition
        self.words = ""  # what the card says while it stands still

    def give_up(self) -> None:
        """Look no more."""

    def run(self, now: float) -> float | None:
        """Look whether there was progress; see `Task.run`."""
        handle = self._handle
        if not handle.is_open or handle._opened != self._opened:
            return None
        mark = handle._progress_made()
        if mark != self._mark:
            self._mark, self._moved = mark, now
        stood = now - self._moved
        if stood >= self._said * 2 if self.words else stood >= self._after:
            self._said = stood  # said again when it has doubled
            self._say(f"No progress for {_failure.span(stood)}")
        elif self.words and stood < self._after:
            self._say("")
        return now + self._after / STALL_LOOKS

    def _say(self, words: str) -> None:
        self.words = words
        self.turns += 1
        self._handle._touch(transition=True)
        self._push()

    def _push(self) -> None:
        if self.words and not self._told:
            self._told = True
            self._handle._push_stall(self.words)


_SHOWN = ("title", "subtitle", "color", "icon", "badge", "action", "secondary_action")
_COUNTED = ("percentage", "completed", "total")  # what `update` of a percentage takes as well


_ONE = 1  # the default of `advance`, told from others by identity: the cheapest check that there is


class Progress(Handle):
    """A percentage: `live_progress`."""

    type = "progress"
    _own = ("total",)

    def __init__(
        self, name: str, *, total: float | None = None, initial: float = 0, unit: str = "", options: Mapping[str, Any]
    ) -> None:
        super().__init__(name, options)
        self._first_total = _check_count("total", total) if total is not None else None
        self._initial = _check_count("initial", initial)
        self._unit = _check_subtitle("unit", unit)
        self._reset()

    def _arguments(self) -> dict[str, Any]:
        return {"total": self._first_total, "initial": self._initial, "unit": self._unit}

    def _reset(self) -> None:
        self._count: float = self._initial
        self._total = self._first_total
        self._percentage: float | None = None

    # -- the user's side

    def advance(self, n: float = 1) -> None:
        """Count `n` more; past the total the card stays at 99 % until the end."""
        if n is not _ONE:
            n = n if type(n) is int else self._readable("advance", n) or 0
        self._count += n
        if self._resting:
            self._touch()

    def update(
        self,
        *given: NoReturn,
        percentage: float | None = None,
        completed: float | None = None,
        total: float | None = None,
        important: bool = False,
        **shown: Any,
    ) -> None:
        """Change the percentage, the count, the total, or what else the card shows.

        Args:
            *given: nothing: a number needs a name, and tqdm's `update(1)` is `advance(1)` here.
            percentage: 0 to 100; what is beyond is clamped, NaN is skipped. It stands until `completed` is given.
            completed: how many are done by now.
            total: out of how many, more than 0.
            important: True for a transition: it goes at once while the budget allows.
            **shown: `title`, `subtitle`, `color`, `icon`, `badge`, `action`, `secondary_action`.

        Raises:
            TypeError: for an unknown option, naming the nearest one, or for a number without a name.
        """
        if given:
            raise TypeError("update() takes no number without a name: use advance(1), or update(completed=...)")
        if completed is not None and (count := self._readable("completed", completed)) is not None:
            self._count, self._percentage = count, None
        if total is not None and (number := self._readable("total", total)) is not None and number > 0:
            self._total = number
        if percentage is not None and (number := self._readable("percentage", percentage)) is not None:
            if not 0 <= number <= 100:
                self._note("percentage", "a percentage of %r is kept within 0 to 100", percentage)
            self._percentage = min(max(number, 0.0), 100.0)
        super().update(important=important, **shown)

    def _readable(self, what: str, value: Any) -> float | None:
        number = _finite(value)
        if number is None:
            self._note(what, "%s is not a finite number and is skipped", what)
        return number

    if not getattr(sys, "_is_gil_enabled", lambda: True)():  # pragma: no cover  # a free-threaded interpreter
        _count_alone = advance
        _counting = threading.Lock()

        def advance(self, n: float = 1) -> None:
            """Count `n` more; past the total the card stays at 99 % until the end."""
            with self._counting:
                self._count_alone(n)

    @property
    def completed(self) -> float:
        """How many were counted."""
        return self._count

    @property
    def total(self) -> float | None:
        """Out of how many, or `None`."""
        return self._total

    @property
    def percentage(self) -> int:
        """The whole percentage that a running card shows: 0 to 99."""
        return self._percent(self._fraction())

    # -- what is shown

    def _fraction(self) -> float:
        if self._percentage is not None:
            return self._percentage / 100
        if not self._total:
            return 0.0
        if self._count > self._total:
            self._note("past", "the count is past the total of %s", _plain(self._total))
            return 1.0
        return self._count / self._total if self._count > 0 else 0.0

    @staticmethod
    def _percent(fraction: float) -> int:
        return min(99, math.floor(fraction * 100 + 0.5))

    def _running(self) -> dict[str, Any]:
        return {"percentage": self._percent(self._fraction())}

    def _detail(self) -> object:
        counted = self._count if self._total is None and self._percentage is None else None
        return super()._detail(), counted

    def _brief(self) -> str:
        if self._total is None and self._percentage is None:
            return self._counted() or ""
        return f"{self.percentage} %"

    def _counted(self) -> str | None:
        return fit(f"{_plain(self._count)} {self._unit}".rstrip()) if self._count != self._initial else None

    def _subtitle(self) -> str | None:
        if self._total is None and self._percentage is None:
            return self._counted()
        eta = self._options.get("eta", "remaining")
        return self._estimate(eta) if eta is not None else None

    def _estimate(self, eta: str) -> str | None:
        """Say how long it still takes, from the speed so far."""
        begun = self._initial / self._total if self._total and self._percentage is None else 0.0
        fraction, elapsed = self._fraction(), self.elapsed
        if fraction <= begun or fraction >= 1 or elapsed < ETA_AFTER:
            return None
        left = elapsed * (1 - fraction) / (fraction - begun)
        if eta == "clock":
            return time.strftime(
                "ends about %H:%M", time.localtime(self._tracker.dispatcher.runtime.wall() + min(left, 1e9))
            )
        return f"{_failure.span(left)} left"

    # -- the end

    def _figures(self, kind: Kind) -> dict[str, Any]:
        counts = self._percentage is None
        figures: dict[str, Any] = {"percentage": self._percent(self._fraction())}
        if counts:
            figures.update(completed=max(self._count, 0), total=self._total)
        if kind == "done" and not (counts and self._total and self._count < self._total):
            figures["percentage"] = 100
        return figures

    def _last(self, outcome: Outcome) -> dict[str, Any]:
        return {"percentage": outcome.percentage}

    def _place(self, outcome: Outcome) -> str:
        if self._total is None and self._percentage is None:
            counted = self._counted()
            return f"after {counted}" if counted else super()._place(outcome)
        return f"at {outcome.percentage} %"


def _check_count(path: str, value: Any) -> float:
    number = _finite(value)
    if number is None or number < 0 or isinstance(value, (str, bytes, bool)):
        raise InvalidRequest(path, value, "a finite number, 0 or more")
    return int(value) if number == int(number) else number


class _Plan(tuple[Any, ...]):
    """The steps of a handle: their names, the current one (-1: none yet), and whether it is running.

    It is never changed: another one follows it. Of two threads that would each have one follow, the second finds the
    first one's there, and begins again with that; see `Layers`.
    """

    _followers: dict[str, _Plan]

    def __new__(cls, names: tuple[str | None, ...], at: int, running: bool) -> _Plan:
        made = super().__new__(cls, (names, at, running))
        made._followers = {}
        return made

    names = property(lambda self: self[0])
    at = property(lambda self: self[1])
    running = property(lambda self: self[2])

    def follow(self, made: _Plan) -> bool:
        """Have another one follow, in one step; False where one does already."""
        return self._followers.setdefault("next", made) is made

    def newest(self) -> _Plan:
        """Return the one that nothing follows yet."""
        plan = self
        while plan._followers:
            plan = plan._followers["next"]
        return plan


class Steps(Handle):
    """Segments: `live_steps`, and the handle of `track_steps`."""

    type = "segmented_progress"
    _own = ("steps",)

    def __init__(self, name: str, *, steps: Sequence[str] | int | None = None, options: Mapping[str, Any]) -> None:
        super().__init__(name, options)
        self._given = _check_steps(steps)
        self._reset()

    def _arguments(self) -> dict[str, Any]:
        return {"steps": self._given}

    def _reset(self) -> None:
        given = self._given
        listed = isinstance(given, tuple)
        names: tuple[str | None, ...] = given if isinstance(given, tuple) else (None,) * (given or 0)
        self._known = _Plan(names, 0 if listed else -1, listed)
        self._implied = listed  # the first listed step runs without having been named

    # -- the user's side

    def step(self, name: str) -> StepBlock:
        """Begin a step: as a call, or as a `with` block that finishes it; the step before it is finished.

        Args:
            name: a listed step to come, or a new one, which is added after the current one.
        """
        text = fit(name)

        def go(names: tuple[str | None, ...], at: int) -> _Plan:
            if not (self._implied and at == 0 and names[0] == text):
                names, at = self._place_of(names, at, text)
            return _Plan(names, at, True)

        return self._go(go)

    def advance(self, n: float = 1) -> StepBlock:
        """Go to the next step, or `n` steps on; after the last one there is nothing left to run."""
        skipped = max(int(_finite(n) or 1), 1) - 1

        def go(names: tuple[str | None, ...], at: int) -> _Plan:
            at = min(at + skipped, max(at, len(names) - 1))
            if self._given is None:
                names = (*names[: at + 1], f"Step {at + 2}")
            is_last = at + 1 >= len(names)
            return _Plan(names, at if is_last else at + 1, not is_last)

        return self._go(go)

    def _place_of(self, names: tuple[str | None, ...], at: int, text: str) -> tuple[tuple[str | None, ...], int]:
        """Find where a name belongs: listed ahead, in the next place that has no name, or after the current step."""
        if text in names[at + 1 :]:
            return names, names.index(text, at + 1)
        if at + 1 < len(names) and names[at + 1] is None:
            return (*names[: at + 1], text, *names[at + 2 :]), at + 1
        if self._given is not None:
            self._note("steps", "step %r is not among the steps announced; it is added", text)
        return (*names[: at + 1], text, *names[at + 1 :]), at + 1

    @property
    def _plan(self) -> _Plan:
        self._known = plan = self._known.newest()
        return plan

    def _go(self, go: Callable[[tuple[str | None, ...], int], _Plan]) -> StepBlock:
        """Go to another step; every thread that does so at the same time goes on from where the others are."""
        plan = self._plan
        while not plan.follow(made := go(plan.names, plan.at)):
            plan = plan.newest()
        self._has_moved()
        if not made.running:
            return StepBlock()
        self._implied = False
        return StepBlock(self, made)

    def _has_moved(self) -> None:
        self._transitions += 1
        self._touch(transition=True)

    def _finish_step(self, plan: _Plan) -> None:
        """Finish the step that began with this plan, unless another has begun."""
        if plan.follow(_Plan(plan.names, plan.at, False)):
            self._has_moved()

    @property
    def current_step(self) -> int:
        """The number of the step that runs or ran last, from 1; 0 before the first."""
        return int(self._plan.at) + 1

    @property
    def number_of_steps(self) -> int:
        """How many steps there are: one more than the running one where that was not said."""
        names, at, running = self._plan
        return int(max(1, len(names) + (1 if running and self._given is None else 0), at + 1))

    # -- what is shown

    def _name_of_step(self) -> str | None:
        names, at, _ = self._plan
        if at < 0:
            return None
        return str(names[at] or f"Step {at + 1}")

    def _running(self) -> dict[str, Any]:
        state = {"current_step": self.current_step, "number_of_steps": self.number_of_steps}
        return {**state, "step_color": RUNNING_STEP} if self._plan.running else state

    def _brief(self) -> str:
        return self._name_of_step() or ""

    def _subtitle(self) -> str | None:
        return self._name_of_step()

    # -- the end

    def _figures(self, kind: Kind) -> dict[str, Any]:
        names, at, running = self._plan
        done = at + 1 if kind == "done" or not running else at
        total = max(len(names), at + 1) if kind == "done" else self.number_of_steps
        return {"completed": done, "total": max(total, 1 if self._given is not None else 0), "step": self._brief()}

    def _last(self, outcome: Outcome) -> dict[str, Any]:
        color = LOOKS[outcome.kind][0]
        at = self.current_step
        total = max(int(outcome.total or 0), at, 1)
        if outcome.kind == "done" and not outcome.total:
            at = total  # a block without steps that ended well is one finished step
        state: dict[str, Any] = {"current_step": at, "number_of_steps": total}
        if outcome.kind != "done" and at:
            finished = int(outcome.completed or 0)
            state["step_color"] = color
            state["step_colors"] = ["green"] * finished + [color] * (at - finished)
        return state

    def _place(self, outcome: Outcome) -> str:
        return f"in {outcome.step}" if outcome.step and self._plan.running else super()._place(outcome)


def _check_steps(steps: Any) -> tuple[str, ...] | int | None:
    if steps is None:
        return None
    if isinstance(steps, int) and not isinstance(steps, bool):
        if steps < 1:
            raise InvalidRequest("steps", steps, "at least 1 step")
        return steps
    if isinstance(steps, (str, bytes)) or not isinstance(steps, Sequence) or not steps:
        raise InvalidRequest("steps", steps, "a list of names, or a number of at least 1")
    return tuple(_check_text(f"steps[{index}]", each) for index, each in enumerate(steps))


class StepBlock:
    """What `step()` returns: as a `with` block it finishes the step that the call began."""

    def __init__(self, handle: Steps | None = None, plan: _Plan | None = None) -> None:
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


class Timer(Handle):
    """A clock that the phone moves on its own: `live_timer`."""

    type = "timer"
    _own = ("duration",)

    def __init__(self, name: str, *, duration: float | None = None, options: Mapping[str, Any]) -> None:
        super().__init__(name, options)
        if duration is not None and (isinstance(duration, bool) or not (_finite(duration) or 0) > 0):
            raise InvalidRequest("duration", duration, "seconds, more than 0")
        self._duration = duration
        self._reset()

    def _arguments(self) -> dict[str, Any]:
        return {"duration": self._duration}

    def _reset(self) -> None:
        self._paused: bool | None = None
        self._ran = self._since = 0.0  # seconds that the clock had run when it was last paused or resumed
        self._missed = 0.0  # seconds that it had run when its card appeared

    def pause(self) -> None:
        """Stop the clock on the phone."""
        self._set_paused(True)

    def resume(self) -> None:
        """Let the clock on the phone run on."""
        self._set_paused(False)

    def _set_paused(self, paused: bool) -> None:
        if bool(self._paused) != paused:
            self._ran, self._since = self._elapsed_clock(), self.elapsed
            self._paused = paused
            self._transitions += 1
            self._touch(transition=True)

    def _elapsed_clock(self) -> float:
        """Return the seconds that the clock has run."""
        return self._ran if self._paused else self._ran + self.elapsed - self._since

    def opening(self) -> None:
        """Note how late the card appears: what is left is counted down from, what passed stands in words."""
        self._missed = self._elapsed_clock()

    def _running(self) -> dict[str, Any]:
        state: dict[str, Any] = {"counts_down": self._duration is not None}
        if self._duration is not None:
            late = self._missed if self._missed >= LATE_SECONDS else 0.0
            state["duration_seconds"] = max(1.0, self._duration - late)
        return state if self._paused is None else {**state, "is_running": not self._paused}

    def _subtitle(self) -> str | None:
        late = self._duration is None and self._missed >= LATE_SECONDS
        return f"plus {_failure.span(self._missed)}" if late else None

    def _last(self, outcome: Outcome) -> dict[str, Any]:
        return {"counts_down": self._duration is not None}


class _Sampled(Handle):
    """A handle that may be fed by a callable, on the one thread that all of them share."""

    _own: ClassVar[tuple[str, ...]] = ("sample", "every")

    def __init__(self, name: str, sample: Any, every: Any, options: Mapping[str, Any]) -> None:
        super().__init__(name, options)
        if sample is not None and not callable(sample):
            raise InvalidRequest("sample", sample, "a callable without arguments")
        _check_period("every", every)
        self._sample, self._every = sample, every
        self._sampling: _Sampling | None = None

    def _arguments(self) -> dict[str, Any]:
        return {"sample": self._sample, "every": self._every}

    def begin(self) -> None:
        super().begin()
        self._sampling = None
        if self._sample is not None and self._account is not None:
            self._sampling = _Sampling(self)
            self._tracker.dispatcher.sample(self._sampling)

    def _end_card(self, outcome: Outcome) -> None:
        super()._end_card(outcome)
        if self._sampling is not None:
            self._tracker.dispatcher.sample(self._sampling)  # which samples no more, and lets go of this handle


class _Sampling:
    """The task of the sampling thread for one handle."""

    def __init__(self, handle: _Sampled) -> None:
        self._handle, self._opened = handle, handle._opened

    def give_up(self) -> None:
        return

    def run(self, now: float) -> float | None:
        handle = self._handle
        if not handle.is_open or handle._opened != self._opened:
            return None
        try:
            handle.set(handle._sample())
        except Exception as problem:
            handle._note("sample", "its sample callable failed: %r", problem)
        return now + float(handle._every) if handle.is_open else None


class Metrics(_Sampled):
    """Up to eight readings: `live_metrics`."""

    type = "metrics"
    _own = ("values", "sample", "every")
    _reads = True

    def __init__(
        self,
        name: str,
        values: Mapping[str, Any] | Sequence[Any] | None = None,
        *,
        sample: Callable[[], Mapping[str, Any]] | None = None,
        every: float = 60.0,
        options: Mapping[str, Any],
    ) -> None:
        super().__init__(name, sample, every, options)
        self._declared = _check_readings(values)
        self._reset()

    def _arguments(self) -> dict[str, Any]:
        return {**super()._arguments(), "values": self._declared}

    def _reset(self) -> None:
        self._readings: dict[str, dict[str, Any]] = {each["label"]: each for each in self._declared}

    def set(self, values: Mapping[str, Any] | None = None, /, **more: Any) -> None:
        """Show readings by their labels; labels that were not declared are added, up to eight in all.

        Args:
            values: readings whose labels are no Python names.
            **more: readings by label: a number, or a text of up to 64 characters; NaN is skipped. The service takes
                a number below 0 as text only, so it travels as one.
        """
        changed: dict[str, dict[str, Any]] = {}
        try:
            for label, value in {**(values or {}), **more}.items():
                self._put(changed, fit(label), value)
        except Exception as problem:
            self._note("set", "readings that cannot be read are skipped: %r", problem)
        self._readings = {**self._readings, **changed}  # at the end: other threads set other labels meanwhile
        self._touch()

    def _put(self, changed: dict[str, dict[str, Any]], label: str, value: Any) -> None:
        reading, readings = _reading(value), {**self._readings, **changed}
        if reading is None or not label:
            self._note("value", "the value of %r cannot be shown and is skipped", label)
        elif label not in readings and len(readings) >= payloads.MAX_METRICS:
            self._note("many", "only %d readings can be shown; %r is left out", payloads.MAX_METRICS, label)
        else:
            changed[label] = {**readings.get(label, {"label": label}), **reading}

    def _running(self) -> dict[str, Any] | None:
        readings = [each for each in self._readings.values() if "value" in each]
        return {"metrics": readings[: payloads.MAX_METRICS]} if readings else None  # threads may have added more

    def _detail(self) -> object:
        numbers, readings = self._numbers(), self._readings
        texts = {label: {**each, "value": None} if label in numbers else each for label, each in readings.items()}
        return super()._detail(), texts

    def _numbers(self) -> Mapping[str, float]:
        values = {label: each.get("value") for label, each in self._readings.items()}
        return {label: value for label, value in values.items() if isinstance(value, (int, float))}

    def _brief(self) -> str:
        first = next((each for each in self._readings.values() if "value" in each), None)
        return f"{first['label']} {first['value']}" if first else ""


class Stats(Metrics):
    """Up to eight readings in a grid: `live_stats`. It has no colour, so the icon tells how it ended."""

    type = "stats"

    def _look(self, kind: str) -> dict[str, Any]:
        color, symbol = LOOKS[kind]
        icon = self._custom.get("icon") or self._options.get("icon") or {"symbol": symbol}
        return {"icon": {**icon, "color": color}}


def _check_readings(values: Any) -> list[dict[str, Any]]:
    """Check declared readings: a mapping of labels to values, or a list of `Metric`."""
    if values is None:
        return []
    check = payloads.CONTENT_STATE["metrics"][0]
    if isinstance(values, Mapping):
        values = [_declared(label, value) for label, value in values.items()]
    elif isinstance(values, (list, tuple)):
        values = [_as_set(each) for each in values]
    checked: list[dict[str, Any]] = check("metrics", values) if values else []
    return checked


def _declared(label: Any, value: Any) -> Any:
    if isinstance(value, payloads.Metric):
        return {**value.given(), "label": label}
    return _as_set({**(value if isinstance(value, Mapping) else {"value": value}), "label": label})


def _as_set(metric: Any) -> Any:
    """Give a declared number the form that `set` gives it; what is none is left to the check."""
    value = metric.get("value") if isinstance(metric, Mapping) else None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return metric
    return {**metric, **(_reading(value) or {})}


def _reading(value: Any) -> dict[str, Any] | None:
    """Turn a run-time value into what a grid can show; `None` where that is nothing."""
    if isinstance(value, payloads.Metric):
        return {name: each for name, each in value.given().items() if name != "label"}
    if isinstance(value, str) or (value is not None and not hasattr(value, "__float__")):
        text = fit(value, payloads.MAX_VALUE_TEXT)
        return {"value": text} if text else None
    number = _number(value)
    if number is None:
        return None
    return {"value": number if number >= 0 else _written(number)}


def _written(number: float) -> str:
    """Write a number that can only travel as a text: a grid takes no negative one."""
    return str(number) if isinstance(number, int) else f"{number:.15g}"


def _number(value: Any) -> int | float | None:
    """Read a finite number, keeping whole ones whole; of others the 15 digits that a float is sure of."""
    if isinstance(value, int) and abs(value) < 10**15:
        return int(value)
    number = _finite(value)
    rounded = None if number is None else _finite(f"{number:.15g}")
    return number if rounded is None else rounded  # the largest floats have no neighbour of 15 digits


class Value(_Sampled):
    """One prominent readout: `live_value`. The card appears with the first `set`."""

    type = "value"
    _reads = True

    def __init__(
        self,
        name: str,
        *,
        sample: Callable[[], Any] | None = None,
        every: float = 60.0,
        options: Mapping[str, Any],
    ) -> None:
        super().__init__(name, sample, every, options)
        self._reset()

    def _reset(self) -> None:
        self._value: str | int | float | None = None

    def set(self, value: Any = None, **labelled: Any) -> None:
        """Show a number, or a text that keeps its formatting; NaN, infinities and labelled readings are skipped."""
        if self._refuses(labelled):
            return
        if isinstance(value, str) or (value is not None and not hasattr(value, "__float__")):
            shown: str | int | float | None = fit(value)
        else:
            shown = _number(value)
        if shown is None or shown == "":
            self._note("value", "%s cannot be shown and is skipped", fit(repr(type(value))))
            return
        self._value = shown
        self._touch()

    def _running(self) -> dict[str, Any] | None:
        return None if self._value is None else {"value": self._value}

    def _detail(self) -> object:
        return super()._detail(), self._value if isinstance(self._value, str) else None

    def _numbers(self) -> Mapping[str, float]:
        return {"value": self._value} if isinstance(self._value, (int, float)) else {}

    def _brief(self) -> str:
        return "" if self._value is None else str(self._value)


class Alert(Handle):
    """A message: `live_alert`. The card appears with the first `set`."""

    type = "alert"
    _reads = True

    def __init__(self, name: str, *, options: Mapping[str, Any]) -> None:
        super().__init__(name, options)
        self._reset()

    def _reset(self) -> None:
        self._message = ""

    def set(self, message: Any = "", **labelled: Any) -> None:
        """Show a message; an empty one and labelled readings are skipped."""
        if self._refuses(labelled):
            return
        text = fit(message, LONGEST_PUSH)
        if not text.strip():
            self._note("message", "an empty message is skipped")
            return
        self._message = text
        self._touch()

    def _running(self) -> dict[str, Any] | None:
        return {"message": self._message} if self._message else None

    def _detail(self) -> object:
        return super()._detail(), self._message

    def _brief(self) -> str:
        return self._message

    def _look(self, kind: str) -> dict[str, Any]:
        color, symbol = LOOKS[kind]
        icon = self._custom.get("icon") or self._options.get("icon") or {"symbol": symbol}
        return {"color": color, "icon": {**icon, "color": color}}


class _Silent(Handle):
    """What `current()` returns outside any block: it takes every call and does nothing."""

    type = "progress"
    completed = percentage = current_step = number_of_steps = 0
    total = None

    def __init__(self) -> None:
        super().__init__("nothing", {})

    def __call__(self, function: F) -> F:
        return function

    def again(self) -> Self:
        return self

    def begin(self) -> None:
        """Open nothing: as a block it does nothing either."""

    def update(self, **shown: Any) -> None:
        return

    def _tell_unopened(self) -> None:
        return

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return _nothing

    def __repr__(self) -> str:
        return "<no current handle>"


def _nothing(*args: Any, **options: Any) -> None:  # noqa: ARG001  # it takes every call
    return


_SILENT = _Silent()


# ---------------------------------------------------------------------------------------------------- the functions


def live_progress(name: str, *, total: float | None = None, **options: Unpack[Options]) -> Progress:
    """Show a percentage.

    Args:
        name: what the job is called; the same name is the same card in every run.
        total: what `advance` counts towards; without one, or with `update(percentage=...)`, the count is shown.
        **options: see `Options`.

    Raises:
        TypeError: for an unknown option, naming the nearest one.
        InvalidRequest: for an unusable value.

    Example::

        with live_progress("reindex", total=len(docs)) as p:
            for doc in docs:
                index(doc)
                p.advance()
    """
    return Progress(name, total=total, options=options)


def live_steps(name: str, *, steps: Sequence[str] | int | None = None, **options: Unpack[Options]) -> Steps:
    """Show segments, one for each step.

    Args:
        name: what the job is called; the same name is the same card in every run.
        steps: the names in their order (the first one runs from the start), their number, or nothing.
        **options: see `Options`.

    Raises:
        TypeError: for an unknown option, naming the nearest one.
        InvalidRequest: for an unusable value.
    """
    return Steps(name, steps=steps, options=options)


def live_timer(name: str, *, duration: float | None = None, **options: Unpack[Options]) -> Timer:
    """Show a clock, which the phone moves on its own.

    Args:
        name: what the job is called; the same name is the same card in every run.
        duration: seconds to count down from, more than 0; without it the clock counts up.
        **options: see `Options`.

    Raises:
        TypeError: for an unknown option, naming the nearest one.
        InvalidRequest: for an unusable value.
    """
    return Timer(name, duration=duration, options=options)


def live_metrics(
    name: str,
    values: Mapping[str, Any] | Sequence[Metric | Mapping[str, Any]] | None = None,
    *,
    sample: Callable[[], Mapping[str, Any]] | None = None,
    every: float = 60.0,
    **options: Unpack[Options],
) -> Metrics:
    """Show up to eight readings.

    Args:
        name: what is measured; the same name is the same card in every run.
        values: labels and values, or a list of `Metric` with units and colours.
        sample: called without arguments, on a thread of its own, for labels and values.
        every: seconds between two samples, more than 0.
        **options: see `Options`.

    Raises:
        TypeError: for an unknown option, naming the nearest one.
        InvalidRequest: for an unusable value.
    """
    return Metrics(name, values, sample=sample, every=every, options=options)


def live_stats(
    name: str,
    values: Mapping[str, Any] | Sequence[Metric | Mapping[str, Any]] | None = None,
    *,
    sample: Callable[[], Mapping[str, Any]] | None = None,
    every: float = 60.0,
    **options: Unpack[Options],
) -> Stats:
    """Show up to eight readings as a grid; arguments and errors are those of `live_metrics`."""
    return Stats(name, values, sample=sample, every=every, options=options)


def live_value(
    name: str,
    *,
    sample: Callable[[], Any] | None = None,
    every: float = 60.0,
    **options: Unpack[Options],
) -> Value:
    """Show one prominent readout; the card appears with the first `set`.

    Args:
        name: what is measured; the same name is the same card in every run.
        sample: called without arguments, on a thread of its own, for the value.
        every: seconds between two samples, more than 0.
        **options: see `Options`.

    Raises:
        TypeError: for an unknown option, naming the nearest one.
        InvalidRequest: for an unusable value.
    """
    return Value(name, sample=sample, every=every, options=options)


def live_alert(name: str, **options: Unpack[Options]) -> Alert:
    """Show a message; the card appears with the first `set`.

    Args:
        name: what it is about; the same name is the same card in every run.
        **options: see `Options`.

    Raises:
        TypeError: for an unknown option, naming the nearest one.
        InvalidRequest: for an unusable value.
    """
    return Alert(name, options=options)
