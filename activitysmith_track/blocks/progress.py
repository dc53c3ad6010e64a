"""A percentage."""

from __future__ import annotations

import math
import sys
import threading
import time
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from .. import _text
from ..errors import InvalidRequest
from .handle import Handle, note, touch
from .option_table import check_subtitle
from .states import StateBuilder
from .values import finite, fit, plain

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .outcome import Kind, Outcome

ETA_AFTER = 2.0  # seconds before the first estimate
_ONE = 1  # the default of `advance`, compared by identity, which is the cheapest check


class ProgressBuilder(StateBuilder["Progress"]):
    """Builds the states of a percentage."""

    def fraction(self, handle: Progress) -> float:
        """Return the part done, 0 to 1."""
        if handle._percentage is not None:
            return handle._percentage / 100
        if not handle._total:
            return 0.0
        if handle._count > handle._total:
            note(handle, "past", "the count is past the total of %s", plain(handle._total))
            return 1.0
        return handle._count / handle._total if handle._count > 0 else 0.0

    def percent(self, handle: Progress) -> int:
        """Return the whole percentage of a card that is running: 0 to 99."""
        return min(99, math.floor(self.fraction(handle) * 100 + 0.5))

    def running(self, handle: Progress) -> dict[str, Any]:
        """Return the percentage."""
        return {"percentage": self.percent(handle)}

    def detail(self, handle: Progress) -> object:
        """Return what else changes: the count, if there is no percentage."""
        counted = handle._count if handle._total is None and handle._percentage is None else None
        return super().detail(handle), counted

    def brief(self, handle: Progress) -> str:
        """Say the percentage, or the count."""
        if handle._total is None and handle._percentage is None:
            return _counted(handle) or ""
        return f"{self.percent(handle)} %"

    def subtitle(self, handle: Progress) -> str | None:
        """Return the count where there is no percentage, else the estimate."""
        if handle._total is None and handle._percentage is None:
            return _counted(handle)
        eta = handle._options.get("eta", "remaining")
        return _estimate(handle, eta) if eta is not None else None

    def figures(self, handle: Progress, kind: Kind) -> dict[str, Any]:
        """Return the percentage and the count of an `Outcome`; 100 % if everything was done."""
        counts = handle._percentage is None
        figures: dict[str, Any] = {"percentage": self.percent(handle)}
        if counts:
            figures.update(completed=max(handle._count, 0), total=handle._total)
        if kind == "done" and not (counts and handle._total and handle._count < handle._total):
            figures["percentage"] = 100
        return figures

    def last(self, handle: Progress, outcome: Outcome) -> dict[str, Any]:
        """Return the percentage of the outcome."""
        return {"percentage": outcome.percentage}

    def place(self, handle: Progress, outcome: Outcome) -> str:
        """Say at which percentage, or after which count, it failed or was stopped."""
        if handle._total is None and handle._percentage is None:
            counted = _counted(handle)
            return f"after {counted}" if counted else super().place(handle, outcome)
        return f"at {outcome.percentage} %"


def _counted(handle: Progress) -> str | None:
    """Say how many were counted, once there are any."""
    if handle._count == handle._initial:
        return None
    return fit(f"{plain(handle._count)} {handle._unit}".rstrip())


def _estimate(handle: Progress, eta: str) -> str | None:
    """Estimate from the speed so far how long the job still takes, or when it ends."""
    begun = handle._initial / handle._total if handle._total and handle._percentage is None else 0.0
    fraction, elapsed = handle._builder.fraction(handle), handle.elapsed
    if fraction <= begun or fraction >= 1 or elapsed < ETA_AFTER:
        return None
    left = elapsed * (1 - fraction) / (fraction - begun)
    if eta == "clock":
        ends = handle._tracker.dispatcher.runtime.wall() + min(left, 1e9)
        return time.strftime("ends about %H:%M", time.localtime(ends))
    return f"{_text.format_duration(left)} left"


class Progress(Handle):
    """A percentage: `live_progress`."""

    type: ClassVar[str] = "progress"
    _own = ("total",)
    _made_with = MappingProxyType({"total": "_first_total", "initial": "_initial", "unit": "_unit"})
    _builder: ClassVar[ProgressBuilder] = ProgressBuilder()

    def __init__(
        self, name: str, *, total: float | None = None, initial: float = 0, unit: str = "", options: Mapping[str, Any]
    ) -> None:
        super().__init__(name, options)
        self._first_total = _check_count("total", total) if total is not None else None
        self._initial = _check_count("initial", initial)
        self._unit = check_subtitle("unit", unit)
        self._reset()

    def _reset(self) -> None:
        self._count: float = self._initial
        self._total = self._first_total
        self._percentage: float | None = None

    def advance(self, n: float = 1) -> None:
        """Count `n` more; past the total the card stays at 99 % until the end."""
        if n is not _ONE:
            n = n if type(n) is int else _readable(self, "advance", n) or 0
        self._count += n
        if self._resting:
            touch(self)

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
            percentage: 0 to 100; a number beyond is clamped, NaN is skipped. It counts until `completed` is given.
            completed: how many are done in all.
            total: out of how many, more than 0.
            important: True for a transition: it goes at once while the budget allows.
            **shown: `title`, `subtitle`, `color`, `icon`, `badge`, `action`, `secondary_action`.

        Raises:
            TypeError: for an unknown option, naming the nearest one, or for a number without a name.
        """
        if given:
            raise TypeError("update() takes no number without a name: use advance(1), or update(completed=...)")
        if completed is not None and (count := _readable(self, "completed", completed)) is not None:
            self._count, self._percentage = count, None
        if total is not None and (number := _readable(self, "total", total)) is not None and number > 0:
            self._total = number
        if percentage is not None and (number := _readable(self, "percentage", percentage)) is not None:
            if not 0 <= number <= 100:
                note(self, "percentage", "a percentage of %r is kept within 0 to 100", percentage)
            self._percentage = min(max(number, 0.0), 100.0)
        super().update(important=important, **shown)

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
        """How many there are to count, or `None`."""
        return self._total

    @property
    def percentage(self) -> int:
        """The whole percentage that a running card shows: 0 to 99."""
        return self._builder.percent(self)


def _readable(handle: Progress, what: str, value: Any) -> float | None:
    number = finite(value)
    if number is None:
        note(handle, what, "%s is not a finite number and is skipped", what)
    return number


def _check_count(path: str, value: Any) -> float:
    number = finite(value)
    if number is None or number < 0 or isinstance(value, (str, bytes, bool)):
        raise InvalidRequest(path, value, "a finite number, 0 or more")
    return int(value) if number == int(number) else number
