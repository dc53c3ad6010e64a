"""How a block ended, its look, and what a push says of it.

A card's last words are made of it in `states`; those for a signal come from `delivery.signals`.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from .. import _text
from .values import plain

if TYPE_CHECKING:
    from collections.abc import Mapping

Kind = Literal["done", "failed", "stopped"]
LOOKS: dict[str, tuple[str, str]] = {
    "done": ("green", "checkmark.circle.fill"),
    "failed": ("red", "xmark.circle.fill"),
    "stopped": ("gray", "stop.circle.fill"),
    "stalled": ("orange", "pause.circle.fill"),
}


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


def judge(error: BaseException | None, options: Mapping[str, Any]) -> Kind:
    """Tell how a block ended from the exception that left it, and from its options `ignore` and `cancelled`."""
    if error is None:
        return "done"
    if isinstance(error, options.get("ignore", ())):
        return "stopped"
    if isinstance(error, SystemExit):
        return "done" if error.code is None or error.code == 0 else "failed"
    if _is_cancellation(error) and options.get("cancelled") != "failure":
        return "stopped"
    return "failed"


def _is_cancellation(error: BaseException) -> bool:
    """Tell whether an exception means that the block was stopped, and not that something failed in it."""
    if not isinstance(error, Exception):
        return True
    futures = sys.modules.get("concurrent.futures._base")
    return futures is not None and isinstance(error, futures.CancelledError)


def message(outcome: Outcome) -> str:
    """Say what failed, where and after how long; or, after a good end, how long the block took."""
    if outcome.kind == "done":
        return done_words(outcome)
    after = " ".join(each for each in (_text.format_duration(outcome.elapsed), stood(outcome)) if each)
    return f"{outcome.reason or 'Failed'}\nAfter {after}" + (f", {outcome.where}" if outcome.where else "")


def stood(outcome: Outcome) -> str:
    """Say in which step or at which percentage the block was; empty where neither is known."""
    if outcome.step:
        return f"in {outcome.step}"
    return f"at {outcome.percentage} %" if outcome.percentage else ""


def done_words(outcome: Outcome) -> str:
    """Say how long the block took, or how much was done if it ended well before its total."""
    took = f"Done in {_text.format_duration(outcome.elapsed)}"
    short = outcome.total is not None and outcome.completed is not None and outcome.completed < outcome.total
    if not short:
        return took
    of = f"{plain(outcome.completed or 0)} of {plain(outcome.total or 0)}"
    return f"Done, {of} steps" if outcome.step is not None else f"Done, {of}"
