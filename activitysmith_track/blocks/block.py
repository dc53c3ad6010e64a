"""A block whose end is told: what handles and `notify` have in common."""

from __future__ import annotations

import logging
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

from .. import _exceptions
from .._lazy import Lazy
from .context import enter, explain_loops, leave
from .outcome import Outcome, judge
from .pushes import scrubbed, tell
from .values import fit

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType
    from typing import Protocol

    from typing_extensions import Self

    from .. import _tracker as trackers
    from .._tracker import CoreTracker
    from ..delivery.account import Account
    from ..delivery.signals import Signals
    from .outcome import Kind
    from .wrap import F

    class Showing(Protocol):
        """What shows a block; see `display`."""

        def figures(self, handle: Any, kind: Kind) -> dict[str, Any]:
            """Return the fields of an `Outcome` that tell how far the block came."""

        def end(self, handle: Any, outcome: Outcome) -> None:
            """End what shows it."""
else:
    trackers = Lazy("_tracker")

logger = logging.getLogger("activitysmith_track")


class Block:
    """A block whose end is told: what handles and `notify` have in common.

    Args:
        name: what the block is called.
        options: checked options.
    """

    _first: Outcome | None = None  # how it ended; only the first end counts
    _display: Showing | None = None  # where it is shown; handles have one

    def __init__(self, name: str, options: Mapping[str, Any]) -> None:
        self.name: str = name
        self._options: Mapping[str, Any] = options
        self._given_tracker: CoreTracker | None = options.get("tracker")
        self._title: str = options.get("title") or fit(name)
        self._account: Account | None = None
        self._began: float = 0.0
        self._opened: int = -1
        self._epoch = -1
        self._pushed_failure: bool = False
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
        if _waits(self):
            self._tracker.flush(_waits(self))

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        leave(self)
        self.settle(error)
        if _waits(self):
            import asyncio

            await asyncio.get_running_loop().run_in_executor(None, self._tracker.flush, _waits(self))

    @property
    def _tracker(self) -> CoreTracker:
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
        """Seconds since the block was entered; of one that has ended, how long it took."""
        if self._opened < 0:
            return 0.0
        first = self._first
        return self._tracker.dispatcher.clock() - self._began if first is None else first.elapsed

    def begin(self) -> None:
        """Open the block. It never waits for the network, and never raises because of it."""
        dispatcher = self._tracker.dispatcher
        if self._first is not None:
            del self._first
        self._pushed_failure = False
        self._epoch = dispatcher.epoch
        self._began = dispatcher.clock()
        self._account = None if self._options.get("disable") else self._tracker.account()
        if self._account is not None and self._tracker.settings.signals:
            self._signals = dispatcher.departure.signals
            self._signals.acquire()
        self._opened = next(dispatcher.order)  # from here on another thread or a signal may end it

    def settle(self, error: BaseException | None) -> None:
        """End the block: well, or by the exception that has left it; an outcome that was decided before stays."""
        if self._opened < 0 or self._epoch != self._tracker.dispatcher.epoch:
            return
        if sys.is_finalizing():  # an unfinished generator: the exit has ended its block
            return
        try:
            if error is not None:
                explain_loops(error)
            kind = judge(error, self._options)
            if not decide(self, kind, error) and kind == "failed" and error is not None:
                _tell_late(self, error)
        except Exception:
            logger.exception("activitysmith_track: internal error at the end of %r", self.name)
        finally:
            self.result = None


def _waits(block: Block) -> float:
    """Return the seconds to wait for the delivery when the block is left, 0 for not at all."""
    return float(block._options.get("wait", 0.0)) if block._account is not None else 0.0


def decide(block: Block, kind: Kind, error: BaseException | None = None, *, reason: str | None = None) -> bool:
    """Decide the outcome, end the card and push; returns False where the outcome was decided before."""
    outcome = outcome_of(block, kind, error, reason, block._tracker.dispatcher.clock() - block._began)
    if vars(block).setdefault("_first", outcome) is not outcome:  # atomic: threads and signals may race here
        return False
    if block._display is not None:
        block._display.end(block, outcome)
    if block._signals is not None:
        block._signals.release()
        block._signals = None
    tell(block, outcome, error)
    return True


def outcome_of(block: Block, kind: Kind, error: BaseException | None, reason: str | None, elapsed: float) -> Outcome:
    """Describe how a block ended.

    Args:
        block: what has ended.
        kind: how.
        error: the exception that left it, or `None`.
        reason: what failed, scrubbed; `None` takes it from the exception.
        elapsed: seconds.
    """
    if reason is None:
        reason = "" if error is None or kind == "done" else _words(block, error)
    where = _exceptions.location(error) if error is not None and kind == "failed" else ""
    figures = block._display.figures(block, kind) if block._display is not None else {}
    return Outcome(kind, block.name, block.title, elapsed, reason, where, **figures)


def _words(block: Block, error: BaseException) -> str:
    said = _exceptions.describe_exit(error) if isinstance(error, SystemExit) else _exceptions.describe(error)
    return scrubbed(block, said)


def _tell_late(block: Block, error: BaseException) -> None:
    """Push an exception that left the block after its outcome had been decided."""
    if not block._pushed_failure:
        tell(block, outcome_of(block, "failed", error, None, block.elapsed), error)


class NotifyBlock(Block):
    """A block without a card, whose end is told by a push: `notify`."""

    def __init__(self, name: str | None, options: Mapping[str, Any]) -> None:
        super().__init__(name or "job", options)
        self._given = name

    def __call__(self, function: F) -> F:
        """Decorate a function of any kind: the end of each call is told."""
        from .wrap import name_of, wrap

        name = self._given or name_of(function)
        return wrap(function, partial(NotifyBlock, name, self._options))
