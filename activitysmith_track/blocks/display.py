"""Where a block is shown: on a card of its own, or as a line on the card of the block around it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing import ClassVar, Protocol

    from .._tracker import CoreTracker
    from ..delivery.activity import Activity
    from .outcome import Kind, Outcome
    from .stall import Stall

    class Displayed(Protocol):
        """What is needed of a handle to show it."""

        _builder: ClassVar[Any]
        _display: Display
        _first: Outcome | None
        _resting: bool

        @property
        def is_open(self) -> bool:
            """True between entering and the end, in the process that entered."""

        @property
        def _tracker(self) -> CoreTracker: ...


class Display:
    """Where one run of a handle is shown, and what looks after it meanwhile.

    It is given the handle where it needs it, as a builder is, so that neither keeps the other alive.

    Attributes:
        card: what delivers the block's own card, or `None`.
        parent: the handle on whose card the block is a line, or `None`.
        stall: the task that notices when there is no progress, or `None`.
        sampling: the task that calls the user's function for its values, or `None`.
    """

    __slots__ = ("_inner", "card", "parent", "sampling", "stall")

    def __init__(self) -> None:
        self.card: Activity | None = None
        self.parent: Displayed | None = None
        self.stall: Stall | None = None
        self.sampling: Any = None
        self._inner: dict[Displayed, None] = {}  # the blocks that are lines on this one's card

    def show_on(self, around: Displayed, handle: Displayed) -> None:
        """Show a handle as a line on the card of the one around it."""
        self.parent = around
        around._display._inner[handle] = None

    def lines(self) -> list[Any]:
        """Return the open blocks that are lines on this card."""
        return [inner for inner in list(self._inner) if inner.is_open] if self._inner else []

    def wake(self, handle: Displayed, *, transition: bool = False) -> None:
        """Have the dispatcher look at the card.

        Args:
            handle: what has changed.
            transition: True where its own card, if it has one, is to be updated at once.
        """
        handle._resting = False
        top = handle
        while top._display.parent is not None:
            top = top._display.parent
        card = top._display.card
        if card is not None and top._first is None:
            card.wake(transition=transition and top is handle)

    def figures(self, handle: Displayed, kind: Kind) -> dict[str, Any]:
        """Return the fields of an `Outcome` that tell how far a handle came."""
        found: dict[str, Any] = handle._builder.figures(handle, kind)
        return found

    def end(self, handle: Displayed, outcome: Outcome) -> None:
        """End the card, or take the line off the card of the block around it."""
        if self.stall is not None:
            handle._tracker.dispatcher.look_after(self.stall)  # which ends it, and drops its reference to the handle
        if self.parent is not None:
            self.parent._display._inner.pop(handle, None)
            self.wake(handle)
        if self.card is not None:
            self.card.end(handle._builder.end(handle, outcome))
        if self.sampling is not None:
            handle._tracker.dispatcher.sample(self.sampling)  # as with the stall


NOWHERE = Display()  # that of all handles that are off or have not opened; nothing is ever put into it
