"""What all kinds of blocks take, and how it is checked: a mistake is told where it stands."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from .._lazy import Lazy
from ..errors import InvalidRequest
from .key import check_key
from .values import fit

if TYPE_CHECKING:
    from .. import _tracker as trackers
    from .. import payloads, settings
    from .._tracker import CoreTracker as Tracker
    from ..payloads import Action, Badge, Icon, Push

    Told = bool | str | Push | Mapping[str, Any] | Callable[..., Any] | None
else:
    payloads, settings, trackers = Lazy("payloads"), Lazy("settings"), Lazy("_tracker")

WAIT_SECONDS = 10.0  # what wait=True waits at most
SHOWN = ("title", "subtitle", "color", "icon", "badge", "action", "secondary_action")
COUNTED = ("percentage", "completed", "total")  # what `update` of a percentage takes as well


class Options(TypedDict, total=False):
    """What every handle, `track` and `track_steps` take; `None` means the default.

    Attributes:
        title: the card's title; the name by default.
        subtitle: a line of the user's own; while there is one, no estimate is shown.
        key: the stream's key, `{name}` and `{host}` are filled in; a slug of the name by default. Giving one asks for
            a card of one's own also inside another tracked block.
        color: one of the service's ten colours, while running.
        icon: an `Icon`, or the name of an SF Symbol.
        badge: a `Badge` or its words (alert, progress, steps and value).
        action: a button, an `Action`.
        secondary_action: a second button (alert, progress, steps and value).
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
            once; it recovers by itself.
        watchdog: True to have this card ended red, and a push sent, when the process is killed or crashes; by default
            as `configure(watchdog=...)` says.
        tracker: the `Tracker` to use instead of the process's own.
    """

    title: str | None
    subtitle: str | None
    key: str | None
    color: str | None
    icon: Icon | str | Mapping[str, Any] | None
    badge: Badge | str | Mapping[str, Any] | None
    action: Action | Mapping[str, Any] | None
    secondary_action: Action | Mapping[str, Any] | None
    alert: Mapping[str, str] | str | None
    channels: Sequence[str] | str | None
    tags: Sequence[str] | None
    metadata: Mapping[str, Any] | None
    on_failure: Told
    on_success: Told
    cancelled: Literal["stopped", "failure"]
    ignore: type[BaseException] | tuple[type[BaseException], ...]
    delay: float
    keep: bool
    disable: bool | None
    eta: Literal["remaining", "clock"] | None
    wait: bool | float
    stall_after: float
    watchdog: bool | None
    tracker: Tracker | None


def check_text(path: str, value: Any) -> str:
    """Check a text that must say something, and cut it to what a phone can show."""
    if not isinstance(value, str) or not value.strip():
        raise InvalidRequest(path, value, "a string that is not blank")
    return fit(value)


def check_subtitle(path: str, value: Any) -> str:
    """Check a text that may be empty, and cut it to what a phone can show."""
    if not isinstance(value, str):
        raise InvalidRequest(path, value, "a string")
    return fit(value)


def _check_icon(path: str, value: Any) -> Any:
    return payloads.CONTENT_STATE["icon"][0](path, {"symbol": value} if isinstance(value, str) else value)


def _check_badge(path: str, value: Any) -> Any:
    return payloads.CONTENT_STATE["badge"][0](path, {"title": value} if isinstance(value, str) else value)


def _check_alert(path: str, value: Any) -> Any:
    alert = {"title": value} if isinstance(value, str) else value
    return payloads.BODIES["stream"][0]["alert"](path, alert)


def check_told(path: str, value: Any) -> Any:
    """Check what is to be pushed; a mapping becomes a `Push`."""
    if isinstance(value, Mapping):
        wrong = settings.unknown_option("Push", value, payloads.Push.__dataclass_fields__)
        if wrong:
            raise wrong
        try:
            return payloads.Push(**value)
        except InvalidRequest as problem:
            raise InvalidRequest(f"{path}.{problem.field}", problem.value, problem.allowed) from None
    if isinstance(value, bool) or (isinstance(value, str) and value) or callable(value):
        return value
    if isinstance(value, payloads.Push):
        return value
    raise InvalidRequest(path, value, "True, False, a text, a Push or a callable")


def _check_cancelled(path: str, value: Any) -> Any:
    if value not in ("stopped", "failure"):
        raise InvalidRequest(path, value, "'stopped' or 'failure'")
    return value


def _check_ignore(path: str, value: Any) -> tuple[type[BaseException], ...]:
    types = value if isinstance(value, tuple) else (value,)
    if not all(isinstance(each, type) and issubclass(each, BaseException) for each in types):
        raise InvalidRequest(path, value, "an exception type, or a tuple of them")
    return types


def _check_flag(path: str, value: Any) -> bool:
    if not isinstance(value, (bool, int)):
        raise InvalidRequest(path, value, "True or False")
    return bool(value)


def _check_eta(path: str, value: Any) -> Any:
    if value not in ("remaining", "clock"):
        raise InvalidRequest(path, value, "'remaining', 'clock' or None")
    return value


def _check_wait(path: str, value: Any) -> float:
    if isinstance(value, bool):
        return WAIT_SECONDS if value else 0.0
    return settings.check_seconds(path, value)


def check_period(path: str, value: Any) -> float:
    """Check a number of seconds that is more than 0."""
    seconds = settings.check_seconds(path, value)
    if not seconds > 0:
        raise InvalidRequest(path, value, "seconds, more than 0")
    return seconds


def _check_tracker(path: str, value: Any) -> Tracker:
    if not isinstance(value, trackers.CoreTracker):
        raise InvalidRequest(path, value, "a Tracker")
    return value


def _of(module: Any, name: str) -> Callable[[str, Any], Any]:
    """Return a check of a module that need not be imported before there is something to check."""
    return lambda path, value: getattr(module, name)(path, value)


CHECKS: dict[str, Callable[[str, Any], Any]] = {
    "title": check_text,
    "subtitle": check_subtitle,
    "key": check_key,
    "color": _of(payloads, "check_color"),
    "icon": _check_icon,
    "badge": _check_badge,
    "action": _of(payloads, "check_action"),
    "secondary_action": _of(payloads, "check_action"),
    "alert": _check_alert,
    "channels": _of(payloads, "check_channels"),
    "tags": _of(payloads, "check_tags"),
    "metadata": _of(payloads, "check_metadata"),
    "on_failure": check_told,
    "on_success": check_told,
    "cancelled": _check_cancelled,
    "ignore": _check_ignore,
    "delay": _of(settings, "check_seconds"),
    "keep": _check_flag,
    "disable": _check_flag,
    "eta": _check_eta,
    "wait": _check_wait,
    "stall_after": check_period,
    "watchdog": _check_flag,
    "tracker": _check_tracker,
}
"""How each of the shared options is checked; the names are those of `Options`."""


def check_options(
    function: str, given: Mapping[str, Any], kind: str | None = None, own: Sequence[str] = ()
) -> dict[str, Any]:
    """Check shared options and return those that were given, as the service takes them.

    Args:
        function: how an error names the caller.
        given: the options.
        kind: the activity type, to refuse what it cannot show.
        own: the caller's own parameters, which a misspelt option may have meant.

    Raises:
        TypeError: for an unknown option, naming the nearest one.
        InvalidRequest: for an unusable value.
    """
    wrong = settings.unknown_option(function, given, (*CHECKS, *own)) if given else None
    if wrong:
        raise wrong
    checked = {name: CHECKS[name](name, value) for name, value in given.items() if value is not None}
    for name in checked:
        if kind is not None and not shows(kind, name):
            raise InvalidRequest(name, given[name], f"none: {card_of(kind)} cannot show it")
    if "eta" in given:
        checked["eta"] = checked.get("eta")
    return checked


def shows(kind: str, name: str) -> bool:
    """Tell whether an activity of a type shows an option."""
    if name in COUNTED:
        return kind == "progress"
    if name == "secondary_action":
        return kind in payloads.BADGED
    if name == "stall_after":
        return kind != "timer"
    return name not in payloads.CONTENT_STATE or kind in payloads.CONTENT_STATE[name][1]


def card_of(kind: str) -> str:
    """Name the card of an activity type, as an error does."""
    return f"{'an' if kind == 'alert' else 'a'} {kind} card"
