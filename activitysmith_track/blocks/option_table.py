"""The table of options: how each is checked, which cards show it, whether `notify` takes it, and what it means.

The documentation of `Options` and the table in the README say the same, which a test ensures. An unusable option
raises as soon as a handle or a decorator is made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .._lazy import Lazy
from ..errors import InvalidRequest
from .key import check_key
from .values import fit

if TYPE_CHECKING:
    from .. import _tracker as trackers
    from .. import payloads, settings
    from .._tracker import CoreTracker
else:
    payloads, settings, trackers = Lazy("payloads"), Lazy("settings"), Lazy("_tracker")

WAIT_SECONDS = 10.0  # that `wait=True` waits at most
SHOWN = ("title", "subtitle", "color", "icon", "badge", "action", "secondary_action")  # what `update` takes
COUNTED = ("percentage", "completed", "total")  # what `update` of a percentage takes as well

CARDS = {
    "alert": "alert",
    "metrics": "metrics",
    "progress": "progress",
    "segmented_progress": "steps",
    "stats": "stats",
    "timer": "timer",
    "value": "value",
}
"""The service's types of cards, and what the documentation calls them."""
_BADGED = ("alert", "progress", "segmented_progress", "value")
_ALL_BUT_STATS = tuple(each for each in CARDS if each != "stats")
_ALL_BUT_TIMER = tuple(each for each in CARDS if each != "timer")


def check_visible_text(path: str, value: Any) -> str:
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
    """Check what `on_failure` or `on_success` says to push; a mapping becomes a `Push`."""
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


def _check_tracker(path: str, value: Any) -> CoreTracker:
    if not isinstance(value, trackers.CoreTracker):
        raise InvalidRequest(path, value, "a Tracker")
    return value


def _of(module: Any, name: str) -> Callable[[str, Any], Any]:
    """Return a check of a lazy module, which is imported when there is something to check."""
    return lambda path, value: getattr(module, name)(path, value)


class Option:
    """A row of the table.

    Args:
        check: takes the name for its errors and the value, and returns the value as it is used.
        meaning: what stands in the documentation.
        cards: the types of cards that it has an effect on.
        pushes: True where it has an effect on pushes, too, so that `notify` takes it.
    """

    __slots__ = ("cards", "check", "meaning", "pushes")

    def __init__(
        self,
        check: Callable[[str, Any], Any],
        meaning: str,
        *,
        cards: Sequence[str] = tuple(CARDS),
        pushes: bool = False,
    ) -> None:
        self.check, self.meaning, self.cards, self.pushes = check, meaning, cards, pushes

    @property
    def shown_by(self) -> str:
        """The cards in words, as in `all`, `all but stats` or `alert, steps`."""
        left_out = [CARDS[each] for each in CARDS if each not in self.cards]
        if not left_out:
            return "all"
        return f"all but {left_out[0]}" if len(left_out) == 1 else ", ".join(CARDS[each] for each in self.cards)


OPTIONS: dict[str, Option] = {
    "title": Option(
        check_visible_text,
        "the card's title; the name by default.",
        pushes=True,
    ),
    "subtitle": Option(
        check_subtitle,
        "a line of the user's own; while there is one, no estimate is shown.",
    ),
    "key": Option(
        check_key,
        "the stream's key, `{name}` and `{host}` are filled in; a slug of the name by default. Giving one"
        " asks for a card of one's own also inside another tracked block.",
    ),
    "color": Option(
        _of(payloads, "check_color"),
        "one of the service's ten colours, while running.",
        cards=_ALL_BUT_STATS,
    ),
    "icon": Option(
        _check_icon,
        "an `Icon`, or the name of an SF Symbol.",
    ),
    "badge": Option(
        _check_badge,
        "a `Badge` or its words.",
        cards=_BADGED,
    ),
    "action": Option(
        _of(payloads, "check_action"),
        "a button, an `Action`.",
    ),
    "secondary_action": Option(
        _of(payloads, "check_action"),
        "a second button.",
        cards=_BADGED,
    ),
    "alert": Option(
        _check_alert,
        '`{"title": ..., "body": ...}`, announced when the card appears.',
    ),
    "channels": Option(
        _of(payloads, "check_channels"),
        "slugs, a list or a comma-separated string, of the card and its pushes.",
        pushes=True,
    ),
    "tags": Option(
        _of(payloads, "check_tags"),
        "up to 20 strings of 1 to 64 characters.",
        pushes=True,
    ),
    "metadata": Option(
        _of(payloads, "check_metadata"),
        "up to 50 entries, 16 KB of JSON.",
        pushes=True,
    ),
    "on_failure": Option(
        check_told,
        "the push of a failure: True (default), False, its message, a `Push`, or a callable that takes "
        "the `Outcome` and the exception and returns one of these.",
        pushes=True,
    ),
    "on_success": Option(
        check_told,
        "the same for a good end; False by default. The callable takes the `Outcome` and the result.",
        pushes=True,
    ),
    "cancelled": Option(
        _check_cancelled,
        '`"stopped"` (default: grey, no push) or `"failure"`, for KeyboardInterrupt, cancellation and '
        "other exceptions that are no `Exception`.",
        pushes=True,
    ),
    "ignore": Option(
        _check_ignore,
        "exception types that end a block as stopped.",
        pushes=True,
    ),
    "delay": Option(
        _of(settings, "check_seconds"),
        "seconds to hold the card back; a block that ends well before that sends nothing.",
    ),
    "keep": Option(
        _check_flag,
        "True leaves the card up when the block ends well, for a next run to come back to.",
    ),
    "disable": Option(
        _check_flag,
        "True turns this one off.",
        pushes=True,
    ),
    "eta": Option(
        _check_eta,
        '`"remaining"` (default), `"clock"` or `None`: the estimate in the subtitle.',
    ),
    "wait": Option(
        _check_wait,
        "True, or seconds, to wait for the delivery when the block is left.",
        pushes=True,
    ),
    "stall_after": Option(
        check_period,
        "seconds, more than 0, without any progress after which the card turns orange and a push says so,"
        " once; it recovers by itself.",
        cards=_ALL_BUT_TIMER,
    ),
    "watchdog": Option(
        _check_flag,
        "True to have this card ended red, and a push sent, when the process is killed or crashes; by "
        "default as `configure(watchdog=...)` says.",
    ),
    "tracker": Option(
        _check_tracker,
        "the `Tracker` to use instead of the process's own.",
        pushes=True,
    ),
}
"""The shared options by their names, in the order in which they are documented."""
OF_PUSHES = tuple(name for name, option in OPTIONS.items() if option.pushes)


def check_options(
    function: str, given: Mapping[str, Any], kind: str | None = None, own: Sequence[str] = ()
) -> dict[str, Any]:
    """Check shared options, and return those that were given, in the form in which they are used.

    Args:
        function: how an error names the caller.
        given: the options.
        kind: the activity type, to refuse what it cannot show.
        own: the caller's own parameters, which are suggested, too, for a misspelt option.

    Raises:
        TypeError: for an unknown option, naming the nearest one.
        InvalidRequest: for an unusable value.
    """
    wrong = settings.unknown_option(function, given, (*OPTIONS, *own)) if given else None
    if wrong:
        raise wrong
    checked = {name: OPTIONS[name].check(name, value) for name, value in given.items() if value is not None}
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
    return name not in OPTIONS or kind in OPTIONS[name].cards


def card_of(kind: str) -> str:
    """Name the card of an activity type, as an error does."""
    return f"{'an' if kind == 'alert' else 'a'} {kind} card"
