"""The type of the shared options, for type checkers and readers; `option_table` has the checks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypedDict

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from .._tracker import CoreTracker
    from ..payloads import Action, Badge, Icon, Push

    Told = bool | str | Push | Mapping[str, Any] | Callable[..., Any] | None


class PushOptions(TypedDict, total=False):
    """What `notify` takes: of the shared options those that concern a push; see `Options`."""

    title: str | None
    channels: Sequence[str] | str | None
    tags: Sequence[str] | None
    metadata: Mapping[str, Any] | None
    on_failure: Told
    on_success: Told
    cancelled: Literal["stopped", "failure"]
    ignore: type[BaseException] | tuple[type[BaseException], ...]
    disable: bool | None
    wait: bool | float
    tracker: CoreTracker | None


class Options(PushOptions, total=False):
    """What every handle, `track` and `track_steps` take; `None` means the default.

    Attributes:
        title: the card's title; the name by default.
        subtitle: a line of the user's own; while there is one, no estimate is shown.
        key: the stream's key, `{name}` and `{host}` are filled in; a slug of the name by default. Giving one asks for
            a card of one's own also inside another tracked block.
        color: one of the service's ten colours, while running. Cards: all but stats.
        icon: an `Icon`, or the name of an SF Symbol.
        badge: a `Badge` or its words. Cards: alert, progress, steps, value.
        action: a button, an `Action`.
        secondary_action: a second button. Cards: alert, progress, steps, value.
        alert: `{"title": ..., "body": ...}`, announced when the card appears.
        channels: slugs, a list or a comma-separated string, of the card and its pushes.
        tags: up to 20 strings of 1 to 64 characters.
        metadata: up to 50 entries, 16 KB of JSON.
        on_failure: the push of a failure: True (default), False, its message, a `Push`, or a callable that takes the
            `Outcome` and the exception and returns one of these.
        on_success: the same for a good end; False by default. The callable takes the `Outcome` and the result.
        cancelled: `"stopped"` (default: grey, no push) or `"failure"`, for KeyboardInterrupt, cancellation and other
            exceptions that are no `Exception`.
        ignore: exception types that end a block as stopped.
        delay: seconds to hold the card back; a block that ends well before that sends nothing.
        keep: True leaves the card up when the block ends well, for a next run to come back to.
        disable: True turns this one off.
        eta: `"remaining"` (default), `"clock"` or `None`: the estimate in the subtitle.
        wait: True, or seconds, to wait for the delivery when the block is left.
        stall_after: seconds, more than 0, without any progress after which the card turns orange and a push says so,
            once; it recovers by itself. Cards: all but timer.
        watchdog: True to have this card ended red, and a push sent, when the process is killed or crashes; by default
            as `configure(watchdog=...)` says.
        tracker: the `Tracker` to use instead of the process's own.
    """

    subtitle: str | None
    key: str | None
    color: str | None
    icon: Icon | str | Mapping[str, Any] | None
    badge: Badge | str | Mapping[str, Any] | None
    action: Action | Mapping[str, Any] | None
    secondary_action: Action | Mapping[str, Any] | None
    alert: Mapping[str, str] | str | None
    delay: float
    keep: bool
    eta: Literal["remaining", "clock"] | None
    stall_after: float
    watchdog: bool | None
