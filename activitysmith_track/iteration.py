"""`track(iterable)`: a loop on the Lock Screen, counted without running Python code for each item.

An iterator cannot see the body of its loop, so how the loop ended is found out in three ways. The last link of a
chain of iterators notices exhaustion (done), and its own release when the loop is left earlier. A tracked block
around the loop, `sys.excepthook` and `threading.excepthook` see an exception that left the loop: its traceback holds
the loop's frame (failed). A release that no exception explains within a second is taken for a `break` or a `return`
(stopped), and so is all that looks the same: an exception that was caught around the loop, `sys.exit` in the main
thread, a generator around the loop that was closed.
"""

from __future__ import annotations

import itertools
import operator
import sys
import threading
import weakref
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Mapping
from inspect import CO_ASYNC_GENERATOR, CO_GENERATOR
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from .blocks.block import outcome_of
from .blocks.context import enter, explain_loops, leave, left_loops
from .blocks.handle import conclude, note
from .blocks.option_table import OPTIONS, shows
from .blocks.outcome import judge
from .blocks.progress import Progress, ProgressBuilder
from .blocks.pushes import tell
from .blocks.states import H, StateBuilder
from .blocks.timer import Timer, TimerBuilder
from .errors import InvalidRequest
from .settings import unknown_option

if TYPE_CHECKING:
    from types import CodeType, FrameType, TracebackType

    from typing_extensions import Unpack

    from .blocks.options import Options
    from .blocks.outcome import Kind, Outcome
    from .delivery.state import Digest, EndState

__all__ = ["Track", "track"]

T = TypeVar("T")

FIRST_LOOK, LONGEST_LOOK = 0.1, 10.0  # seconds between two looks at the counter of a loop
SPEAK_SECONDS = 1.0  # seconds that the end of a stopped loop waits for an exception that explains it


def track(
    iterable: Iterable[T] | AsyncIterable[T],
    name: str,
    *,
    total: float | None = None,
    initial: float = 0,
    unit: str = "",
    desc: str | None = None,
    description: str | None = None,
    **options: Unpack[Options],
) -> Track[T]:
    """Show a loop: a percentage where its length is known, else a clock.

    A clock shows no `badge` and no `secondary_action`, and knows no `stall_after`: where one of these was given, the
    log says once that it is left out.

    The loop is done when it is exhausted, failed when an exception leaves it that nobody catches or that a tracked
    block around it sees, and stopped otherwise: after a `break`, a `return`, an exception caught around the loop,
    `sys.exit` in the main thread, or the closing of a generator around it.

    Args:
        iterable: what `for` or `async for` takes.
        name: what the job is called; the same name is the same card in every run.
        total: how many items there are; `len` or `__length_hint__` tell it where they can.
        initial: how many were done before.
        unit: what is counted, such as `"files"`.
        desc: another word for `title`.
        description: another word for `title`.
        **options: see `Options`.

    Raises:
        TypeError: for an unknown option, naming the nearest one, or for what is not iterable.
        InvalidRequest: for an unusable value.

    Example::

        for doc in track(docs, "reindex"):
            index(doc)
    """
    wrong = unknown_option("track", options, {*OPTIONS, *_OWN})
    if wrong:
        raise wrong
    if not (hasattr(iterable, "__iter__") or hasattr(iterable, "__aiter__") or hasattr(iterable, "__getitem__")):
        raise TypeError(f"track() takes an iterable, not {type(iterable).__name__!r}")
    if isinstance(iterable, str) and not isinstance(name, str):
        raise InvalidRequest("name", name, f"a string: what is iterated comes first, track(items, {iterable!r})")
    title = options.get("title") or desc or description
    given = {**options, "title": title} if title is not None else dict(options)
    return Track(iterable, name, total=total, initial=initial, unit=unit, options=given)


_OWN = ("total", "initial", "unit", "desc", "description")


class Track(Generic[T]):
    """What `track` returns: an iterable whose every iteration is a block of its own."""

    def __init__(
        self,
        iterable: Iterable[T] | AsyncIterable[T],
        name: str,
        *,
        total: float | None,
        initial: float,
        unit: str,
        options: Mapping[str, Any],
    ) -> None:
        self._iterable, self._name, self._total = iterable, name, total
        self._arguments: dict[str, Any] = {"initial": initial, "unit": unit, "options": options}
        self._handle(total if total is not None else 0)  # so that an unusable value raises here, not in the loop

    def _handle(self, total: float | None) -> _ProgressLoop | _TimerLoop:
        if total is None:
            return _TimerLoop(self._name, options=self._arguments["options"])
        return _ProgressLoop(self._name, total=total, **self._arguments)

    def _open(self, items: object, frame: FrameType) -> _Loop:
        total = self._total if self._total is not None else _length(self._iterable, items)
        return _Loop(self._handle(total), frame)

    def __iter__(self) -> Iterator[T]:
        if not hasattr(self._iterable, "__iter__") and hasattr(self._iterable, "__aiter__"):
            raise TypeError(f"track() of {type(self._iterable).__name__!r} is gone through with 'async for'")
        items: Iterator[T] = iter(self._iterable)  # type: ignore[arg-type]  # Python's own TypeError says what is wrong
        loop = self._open(items, sys._getframe(1))
        return itertools.chain(loop.counter.count(self._iterable, items), _Tail(loop))

    def __aiter__(self) -> AsyncIterator[T]:
        if not hasattr(self._iterable, "__aiter__"):
            raise TypeError(f"track() of {type(self._iterable).__name__!r} is gone through with 'for', without async")
        items = self._iterable.__aiter__()
        loop = self._open(items, sys._getframe(1))
        return _AsyncItems(items, loop, loop.counter.number())

    def __len__(self) -> int:
        return len(self._iterable)  # type: ignore[arg-type]  # Python's own TypeError says what is wrong


def _length(*candidates: object) -> int | None:
    """Return the length that an iterable or its iterator tells, or `None`; a failing `__len__` tells none."""
    for each in candidates:
        try:
            hint = operator.length_hint(each, -1)
        except Exception:
            hint = -1
        if hint >= 0:
            return hint
    return None


# ------------------------------------------------------------------------------------------------ how a loop ends


class _Tail:
    """The last link of the chain: iterated when the loop is exhausted, released when it is left."""

    __slots__ = ("_loop",)

    def __init__(self, loop: _Loop) -> None:
        self._loop = loop

    def __iter__(self) -> Iterator[Any]:
        self._loop.exhausted()
        return iter(())

    def __del__(self) -> None:
        self._loop.released()


class _AsyncItems(AsyncIterator[T]):
    """The items of an async loop, counted."""

    def __init__(self, items: AsyncIterator[T], loop: _Loop, numbers: Iterator[int]) -> None:
        self._items, self._loop, self._numbers = items, loop, numbers

    async def __anext__(self) -> T:
        try:
            item = await self._items.__anext__()
        except StopAsyncIteration:
            self._loop.exhausted()
            raise
        next(self._numbers)
        return item

    def __del__(self) -> None:
        self._loop.released()


_SEQUENCES: dict[type, type] = {list: type(iter([])), tuple: type(iter(())), range: type(iter(range(0)))}
"""Sequences whose iterator tells how many items are left, so that counting costs their loops nothing."""


class _Counter:
    """How far a loop is, and the frame that it runs in."""

    __slots__ = ("_frame", "_handed_out", "_is_exhausted")

    def __init__(self) -> None:
        self._handed_out: Callable[[], int] = lambda: 0
        self._frame: tuple[int, CodeType | None] = (0, None)
        self._is_exhausted = False

    def start(self, frame: FrameType) -> None:
        """Note the frame of the loop, without holding it."""
        self._frame = (id(frame), frame.f_code)

    def count(self, iterable: Any, items: Iterator[T]) -> Iterator[T]:
        """Return the items, counted without running Python code for each; any thread can read the count."""
        if type(items) is _SEQUENCES.get(type(iterable)):
            self._handed_out = lambda: len(iterable) - operator.length_hint(items)
            return items
        return itertools.compress(items, self.number())

    def number(self) -> Iterator[int]:
        """Return an iterator of numbers; only its repr tells how far it is, and is read for the count."""
        numbers = itertools.count(1)
        self._handed_out = lambda: int(repr(numbers)[6:-1]) - 1
        return numbers

    def items(self) -> int:
        """Return how many items are done; the one in whose body the loop is now does not count."""
        handed_out = self._handed_out()
        return handed_out if self._is_exhausted else max(0, handed_out - 1)

    def stop(self, *, exhausted: bool) -> None:
        """Keep the count, and drop the references to what was counted."""
        if exhausted:
            self._is_exhausted = True
        handed_out = self._handed_out()
        self._handed_out = lambda: handed_out

    def was_left_by(self, trace: TracebackType | None) -> bool:
        """True where an exception with this traceback came through the frame of the loop."""
        while trace is not None:
            if (id(trace.tb_frame), trace.tb_frame.f_code) == self._frame:
                return True
            trace = trace.tb_next
        return False

    def surrounds(self) -> bool:
        """True where the code that runs now is inside the loop; a loop in a generator runs only while that does."""
        code = self._frame[1]
        suspends = code is not None and code.co_flags & (CO_GENERATOR | CO_ASYNC_GENERATOR)
        return not suspends or self._is_running()

    def _is_running(self) -> bool:
        frame: FrameType | None = sys._getframe()
        while frame is not None and id(frame) != self._frame[0]:
            frame = frame.f_back
        return frame is not None


class _LoopBuilder(StateBuilder[H]):
    """What the states of a loop have beside those of a block."""

    def final(self, handle: Any, outcome: Outcome, not_before: float = 0.0) -> EndState:
        """Hold back the end of a loop that was stopped for a moment: an exception may still explain it."""
        stopped = outcome.kind == "stopped" and handle._hold
        held = handle._tracker.dispatcher.clock() + handle._hold if stopped else not_before
        return super().final(handle, outcome, held)

    def holds(self, handle: Any, inner: Any) -> bool:
        """A loop in a generator holds only what starts inside that generator, not what its caller does meanwhile."""
        return super().holds(handle, inner) and handle.counter.surrounds()


class _ProgressLoopBuilder(_LoopBuilder["_ProgressLoop"], ProgressBuilder):
    """Builds the states of a loop whose length is known."""

    def fraction(self, handle: Any) -> float:
        handle._count = handle._initial + handle.counter.items()
        return super().fraction(handle)

    def rest(self, handle: Any, looked: Digest | None) -> float | None:
        """Return when to look again, ever less often, since a loop wakes nobody."""
        return min(max(float(handle.elapsed) / 50, FIRST_LOOK), LONGEST_LOOK)


class _TimerLoopBuilder(_LoopBuilder["_TimerLoop"], TimerBuilder):
    """Builds the states of a loop of unknown length."""

    def figures(self, handle: Any, kind: Kind) -> dict[str, Any]:
        return {**super().figures(handle, kind), "completed": handle.counter.items()}


class _ProgressLoop(Progress):
    """The block of a loop whose length is known."""

    is_loop = True
    _builder = _ProgressLoopBuilder()
    _hold = 0.0
    counter: _Counter  # from its loop


class _TimerLoop(Timer):
    """The block of a loop of unknown length: a clock, which needs no updates."""

    is_loop = True
    _builder = _TimerLoopBuilder()
    _hold = 0.0
    counter: _Counter  # from its loop

    def __init__(self, name: str, *, options: Mapping[str, Any]) -> None:
        self._left_out = [each for each in options if options[each] is not None and not shows(self.type, each)]
        super().__init__(name, options={each: options[each] for each in options if each not in self._left_out})

    def begin(self) -> None:
        """Open the block, and log the options that a clock cannot show."""
        super().begin()
        if self._left_out and self._account is not None:
            left_out = ", ".join(self._left_out)
            note(self, "length", "%s is left out: the length is unknown, pass total=", left_out)


class _Loop:
    """One loop from its first item on: its block, how far it is, and how it ends.

    Args:
        handle: its block, which is opened now.
        frame: that of the code that loops.
    """

    __slots__ = ("counter", "handle")

    def __init__(self, handle: _ProgressLoop | _TimerLoop, frame: FrameType) -> None:
        self.handle = handle
        self.counter = handle.counter = _Counter()
        self.counter.start(frame)
        _Hook.install()
        handle.begin()
        enter(handle)

    def exhausted(self) -> None:
        """End well."""
        self.counter.stop(exhausted=True)
        leave(self.handle)
        self.handle.settle(None)

    def released(self) -> None:
        """End as stopped, unless an exception explains it within a second."""
        handle = self.handle
        if sys is None or not handle.is_open:  # the interpreter may be half gone
            return
        self.counter.stop(exhausted=False)
        leave(handle)
        handle._hold = SPEAK_SECONDS
        left_loops.append(_LeftLoop(handle))
        conclude(handle, "stopped")


class _LeftLoop:
    """A loop that was left for a reason not known yet; it keeps the loop's block no longer than others do.

    Args:
        handle: the block, which ends as stopped.
    """

    __slots__ = ("_handle", "name")

    def __init__(self, handle: _ProgressLoop | _TimerLoop) -> None:
        self.name, self._handle = handle.name, weakref.ref(handle)

    def explain(self, error: BaseException) -> None:
        """Take an exception as the end of this loop, if it has left the loop."""
        handle = self._handle()
        if handle is None or handle.outcome is None or handle.outcome.kind != "stopped":
            return
        late = handle.elapsed + SPEAK_SECONDS < handle._tracker.dispatcher.clock() - handle._began
        if late or judge(error, handle._options) != "failed" or not handle.counter.was_left_by(error.__traceback__):
            return
        outcome = outcome_of(handle, "failed", error, None, handle.elapsed)
        vars(handle)["_first"] = outcome
        card = handle._display.card
        if card is not None and card.end_delivery is not None:
            card.end_delivery.replace(handle._builder.final(handle, outcome))
        tell(handle, outcome, error)


class _Hook:
    """An excepthook that tells loops of the exception, and then calls the hook that was there before."""

    def __init__(self, previous: Callable[..., Any], error_of: Callable[..., BaseException | None]) -> None:
        self._previous, self._error_of = previous, error_of

    def __call__(self, *arguments: Any) -> Any:
        error = self._error_of(arguments)
        if error is not None:
            explain_loops(error)
        return self._previous(*arguments)

    @classmethod
    def install(cls) -> None:
        """Install one for the interpreter and one for threads, unless they are installed already."""
        if not isinstance(sys.excepthook, cls):
            sys.excepthook = cls(sys.excepthook, operator.itemgetter(1))
        if not isinstance(threading.excepthook, cls):
            threading.excepthook = cls(threading.excepthook, lambda given: given[0].exc_value)
