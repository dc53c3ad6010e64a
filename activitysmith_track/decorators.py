"""The decorators, which make a fresh handle for every call; `blocks.wrap` runs the calls."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, overload

from .blocks.block import NotifyBlock
from .blocks.option_table import OF_PUSHES, OPTIONS, check_options
from .blocks.steps import Steps
from .blocks.wrap import name_of, wrap
from .errors import InvalidRequest
from .settings import unknown_option

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from .blocks.options import Options, PushOptions
    from .blocks.wrap import F

__all__ = ["notify", "track_steps"]


@overload
def track_steps(name: F, /) -> F: ...


@overload
def track_steps(
    name: str | None = None, /, *, steps: Sequence[str] | int | None = None, **options: Unpack[Options]
) -> Callable[[F], F]: ...


def track_steps(name: Any = None, /, *, steps: Sequence[str] | int | None = None, **options: Unpack[Options]) -> Any:
    """Decorate a function whose `step(...)` calls become segments; bare, or called.

    Args:
        name: what the job is called; the function's name by default.
        steps: the names in their order (the first one runs from the start), their number, or nothing.
        **options: see `Options`.

    Raises:
        TypeError: for an unknown option, naming the nearest one, or for what is no function.
        InvalidRequest: for an unusable value.

    Example::

        @track_steps("Nightly backup", steps=["snapshot", "upload"])
        def backup():
            snapshot()
            step("upload")
            upload()
    """
    if name is not None and not isinstance(name, str):
        return track_steps()(name)
    wrong = unknown_option("track_steps", options, {*OPTIONS, "steps"})
    if wrong:
        raise wrong
    Steps(name or "job", steps=steps, options=options)  # so that an unusable value raises here, not at the first call

    def decorate(function: F) -> F:
        return wrap(function, Steps(name or name_of(function), steps=steps, options=options).again)

    return decorate


_ON = {"failure": (True, False), "success": (False, True), "always": (True, True)}


@overload
def notify(name: F, /) -> F: ...


@overload
def notify(
    name: str | None = None,
    /,
    *,
    on: Literal["failure", "success", "always"] = "failure",
    **options: Unpack[PushOptions],
) -> NotifyBlock: ...


def notify(
    name: Any = None, /, *, on: Literal["failure", "success", "always"] = "failure", **options: Unpack[PushOptions]
) -> Any:
    """Tell by a push how a function, or a `with` block, ended; there is no Live Activity.

    Args:
        name: what the job is called; the function's name by default.
        on: which ends are told.
        **options: of `Options` those that concern a push: `title`, `channels`, `tags`, `metadata`, `on_failure`,
            `on_success` (what to push; they overrule `on`), `cancelled`, `ignore`, `disable`, `wait`, `tracker`.

    Raises:
        TypeError: for an unknown option, naming the nearest one, or for what is no function.
        InvalidRequest: for an unusable value.

    Example::

        @notify(on="always")
        def nightly(): ...
    """
    if name is not None and not isinstance(name, str):
        return notify()(name)
    if name is not None and not name.strip():
        raise InvalidRequest("name", name, "a string that is not blank")
    if not isinstance(on, str) or on not in _ON:
        raise InvalidRequest("on", on, f"one of {', '.join(_ON)}")
    checked = check_options("notify", options, own=("on",))
    for other in checked:
        if other not in OF_PUSHES:
            raise TypeError(f"notify() shows no card, so it has no {other!r}; it takes {', '.join(OF_PUSHES)}")
    failure, success = _ON[on]
    return NotifyBlock(name, {"on_failure": failure, "on_success": success, **checked})
