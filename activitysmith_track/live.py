"""The functions that make handles: one for each kind of card.

Every `live_*` function returns a handle that works as `with`, as `async with` and as a decorator, which makes a fresh
handle for every call. Making one raises for a programmer's mistake; using one never raises.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._lazy import Lazy
from .blocks.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from typing_extensions import Unpack

    from .blocks import readings
    from .blocks import steps as segments
    from .blocks import timer as clocks
    from .blocks.options import Options
    from .blocks.readings import Alert, Metrics, Stats, Value
    from .blocks.steps import Steps
    from .blocks.timer import Timer
    from .payloads import Metric
else:  # a program has one kind or two
    readings, segments, clocks = Lazy("blocks.readings"), Lazy("blocks.steps"), Lazy("blocks.timer")

__all__ = [
    "live_alert",
    "live_metrics",
    "live_progress",
    "live_stats",
    "live_steps",
    "live_timer",
    "live_value",
]


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
    return segments.Steps(name, steps=steps, options=options)


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
    return clocks.Timer(name, duration=duration, options=options)


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
    return readings.Metrics(name, values, sample=sample, every=every, options=options)


def live_stats(
    name: str,
    values: Mapping[str, Any] | Sequence[Metric | Mapping[str, Any]] | None = None,
    *,
    sample: Callable[[], Mapping[str, Any]] | None = None,
    every: float = 60.0,
    **options: Unpack[Options],
) -> Stats:
    """Show up to eight readings as a grid; arguments and errors are those of `live_metrics`."""
    return readings.Stats(name, values, sample=sample, every=every, options=options)


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
    return readings.Value(name, sample=sample, every=every, options=options)


def live_alert(name: str, **options: Unpack[Options]) -> Alert:
    """Show a message; the card appears with the first `set`.

    Args:
        name: what it is about; the same name is the same card in every run.
        **options: see `Options`.

    Raises:
        TypeError: for an unknown option, naming the nearest one.
        InvalidRequest: for an unusable value.
    """
    return readings.Alert(name, options=options)
