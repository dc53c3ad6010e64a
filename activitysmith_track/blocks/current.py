"""The innermost handle of a context, for code that holds none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from .handle import Handle, StepBlock, open_handles

if TYPE_CHECKING:
    from typing_extensions import Self

    from .wrap import F


def current() -> Handle:
    """Return the innermost handle of this context, or a silent stand-in that takes every call.

    The handle is of the kind of that block. A call that only another kind can show (`advance`, `step`, `set`,
    `pause`, `update(completed=...)`) does nothing, and the job goes on. A loop of `track` is never the current
    handle. Threads of a pool do not inherit the context: start each of their tasks with
    `contextvars.copy_context().run`.
    """
    return next((handle for handle in open_handles() if not handle.is_loop), SILENT)


def step(name: str) -> StepBlock:
    """Begin a step of the innermost steps handle: as a call, or as a `with` block that finishes it.

    The step before it is finished. Without an open steps handle the call does nothing.
    """
    found = next((handle for handle in open_handles() if handle.type == "segmented_progress"), None)
    return found.step(name) if found is not None else StepBlock()


class Silent(Handle):
    """What `current()` returns outside any block: it takes every call and does nothing."""

    type: ClassVar[str] = "progress"
    completed = percentage = current_step = number_of_steps = 0
    total = None

    def __init__(self) -> None:
        super().__init__("nothing", {})
        self._options = {"disable": True}  # so that nothing is logged of what it leaves out

    def __call__(self, function: F) -> F:
        """Leave the function as it is."""
        return function

    def again(self) -> Self:
        """Return itself, since it holds nothing."""
        return self

    def begin(self) -> None:
        """Open nothing: as a block, too, it does nothing."""

    def update(self, **shown: Any) -> None:
        """Show nothing, and take whatever is given."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return _nothing

    def __repr__(self) -> str:
        return "<no current handle>"


def _nothing(*args: Any, **options: Any) -> None:  # noqa: ARG001  # it takes every call
    return


SILENT = Silent()
