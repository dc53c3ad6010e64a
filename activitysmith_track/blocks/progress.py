"""A percentage."""

from __future__ import annotations

import math
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, NoReturn

from .. import _failure
from ..errors import InvalidRequest
from .handle import Handle
from .options import check_subtitle
from .values import finite, fit, plain

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .outcome import Kind, Outcome

ETA_AFTER = 2.0  # seconds before the first estimate
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
        self._unit = check_subtitle("unit", unit)
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
        number = finite(value)
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
            self._note("past", "the count is past the total of %s", plain(self._total))
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
        return fit(f"{plain(self._count)} {self._unit}".rstrip()) if self._count != self._initial else None

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
    number = finite(value)
    if number is None or number < 0 or isinstance(value, (str, bytes, bool)):
        raise InvalidRequest(path, value, "a finite number, 0 or more")
    return int(value) if number == int(number) else number
