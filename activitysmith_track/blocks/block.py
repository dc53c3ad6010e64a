"""A block whose end is told: what handles and `notify` have in common."""

from __future__ import annotations

import logging
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

from .. import _failure
from .._failure import LONGEST_PUSH
from .._lazy import Lazy
from .context import enter, explain_loops, leave
from .options import check_told
from .outcome import Outcome, is_cancellation, message
from .values import fit

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType
    from typing import TypeVar

    from typing_extensions import Self

    from .. import _tracker as trackers
    from .. import payloads
    from .._signals import Signals
    from .._tracker import CoreTracker as Tracker
    from ..delivery.account import Account
    from .outcome import Kind

    F = TypeVar("F", bound=Callable[..., Any])
else:
    payloads, trackers = Lazy("payloads"), Lazy("_tracker")

logger = logging.getLogger("activitysmith_track")


class Block:
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
        if is_cancellation(error) and self._options.get("cancelled") != "failure":
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
            return None if answer is None else check_told("on_failure" if failed else "on_success", answer)
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
            "message": wanted if isinstance(wanted, str) else message(outcome),
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


def _marks(error: BaseException) -> object:
    """Know an exception again without holding it: holding it would keep the failed frames' objects alive."""
    last = trace = error.__traceback__
    while trace is not None:
        last, trace = trace, trace.tb_next
    return (id(error), type(error), last and (id(last.tb_frame.f_code), last.tb_lasti))


class NotifyBlock(Block):
    """A block of which only the end is told, by a push: `notify`."""

    def __init__(self, name: str | None, options: Mapping[str, Any]) -> None:
        super().__init__(name or "job", options)
        self._given = name

    def __call__(self, function: F) -> F:
        """Decorate a function of any kind: each call is told for itself."""
        from .wrap import name_of, wrap

        name = self._given or name_of(function)
        return wrap(function, partial(NotifyBlock, name, self._options))
