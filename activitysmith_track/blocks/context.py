"""The open blocks of a context (`contextvars`), and the loops that were left for a reason not known yet."""

from __future__ import annotations

import logging
from collections import deque
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Protocol

    class OpenBlock(Protocol):
        """What a context needs of its blocks."""

        @property
        def is_open(self) -> bool:
            """True between entering and the end, in the process that entered."""

    class LeftLoop(Protocol):
        """What is needed of a loop that was left."""

        @property
        def name(self) -> str:
            """What its block is called."""

        def explain(self, error: BaseException) -> None:
            """Take an exception as the end of this loop, if it has left the loop."""


logger = logging.getLogger("activitysmith_track")

stack: ContextVar[tuple[OpenBlock, ...]] = ContextVar("activitysmith_track_blocks", default=())


def enter(block: OpenBlock) -> None:
    """Make a block the innermost one of this context."""
    stack.set((*stack.get(), block))


def leave(block: OpenBlock) -> None:
    """Take a block out of this context, wherever it stands there."""
    stack.set(tuple(each for each in stack.get() if each is not block))


def open_blocks() -> list[OpenBlock]:
    """Return the open blocks of this context, innermost first."""
    return [each for each in reversed(stack.get()) if each.is_open]


left_loops: deque[LeftLoop] = deque(maxlen=64)  # loops that were left before they were exhausted


def explain_loops(error: BaseException) -> None:
    """Tell the loops that were just left of an exception, which may have left them."""
    for loop in list(left_loops):
        try:
            loop.explain(error)
        except Exception:
            logger.exception("activitysmith_track: internal error at the end of %r", loop.name)
