"""What the service accepts: the values that users hold, and the checks of every request body.

Users build `Action`, `Icon`, `Badge`, `Metric` and `Push`, or plain dicts of the same shape. `check_body` turns
what they gave into the JSON body of one operation, or raises `InvalidRequest` naming the field, the value and what
is allowed. The client checks what goes out with it and the simulator what comes in, so the two cannot disagree.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from .errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = [
    "ACTIVITY_TYPES",
    "COLORS",
    "Action",
    "Badge",
    "Icon",
    "Metric",
    "Push",
]

COLORS = ("lime", "green", "cyan", "blue", "purple", "magenta", "red", "orange", "yellow", "gray")
ACTIVITY_TYPES = ("segmented_progress", "progress", "metrics", "stats", "alert", "timer", "value")
INTERRUPTION_LEVELS = ("passive", "active", "time-sensitive")

MAX_METRICS = 8
MAX_VALUE_TEXT = 64  # characters of a metric's text value
MAX_TAGS, MAX_TAG_TEXT = 20, 64
MAX_METADATA_ENTRIES, MAX_METADATA_BYTES = 50, 16 * 1024
MAX_METADATA_KEY, MAX_METADATA_TEXT = 100, 4_000
MAX_PUSH_ACTIONS = 4
MAX_REDIRECTION = 2_048
MAX_BADGE_COUNT = 2_147_483_647

_STREAM_KEY = re.compile(r"[A-Za-z0-9_-]{1,255}")
_METRIC_KEY = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_NO_APP_SCHEMES = frozenset(
    {"about", "blob", "data", "file", "filesystem", "javascript", "vbscript", "view-source", "ws", "wss"}
)

Check = Callable[[str, Any], Any]
"""Takes a field's path and value; returns the value as JSON, or raises `InvalidRequest`."""


# ---------------------------------------------------------------------------------------------- single values


def check_text(path: str, value: Any, *, shortest: int = 0, longest: int | None = None) -> str:
    """Check a text of so many characters that UTF-8 can carry."""
    if not isinstance(value, str):
        raise InvalidRequest(path, value, "a string")
    if len(value) < shortest or (longest is not None and len(value) > longest):
        raise InvalidRequest(path, value, _lengths(shortest, longest))
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InvalidRequest(path, value, "text that UTF-8 can carry (no lone surrogates)") from None
    return str(value)


def _lengths(shortest: int, longest: int | None) -> str:
    return "a string that is not empty" if longest is None else f"a string of {shortest} to {longest} characters"


def _some_text(path: str, value: Any) -> str:
    return check_text(path, value, shortest=1)


def check_number(path: str, value: Any, *, at_least: float = -math.inf, at_most: float = math.inf) -> int | float:
    """Check a finite number in a range; True and False are none."""
    allowed = _range("a finite number", at_least, at_most)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InvalidRequest(path, value, allowed)
    try:
        sound = math.isfinite(value) and at_least <= value <= at_most
    except OverflowError:  # an int that no float can hold
        sound = False
    if not sound:
        raise InvalidRequest(path, value, allowed)
    return value


def _range(kind: str, at_least: float, at_most: float) -> str:
    if at_most < math.inf:
        return f"{kind} from {at_least:g} to {at_most:.10g}"
    return f"{kind} of at least {at_least:g}" if at_least > -math.inf else kind


def _positive(path: str, value: Any) -> int | float:
    if check_number(path, value) <= 0:
        raise InvalidRequest(path, value, "a number greater than 0")
    return value  # type: ignore[no-any-return]  # check_number has looked at it


def check_integer(path: str, value: Any, *, at_least: int = 0, at_most: float = math.inf) -> int:
    """Check an integer in a range; True and False are none."""
    if isinstance(value, bool) or not isinstance(value, int) or not at_least <= value <= at_most:
        raise InvalidRequest(path, value, _range("an integer", at_least, at_most))
    return int(value)


def _count(path: str, value: Any) -> int:
    return check_integer(path, value, at_least=1)


def _boolean(path: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise InvalidRequest(path, value, "True or False")
    return value


def _one_of(*choices: str) -> Check:
    def check(path: str, value: Any) -> str:
        if not isinstance(value, str) or value not in choices:
            raise InvalidRequest(path, value, "one of " + ", ".join(choices))
        return str(value)

    return check


check_color = _one_of(*COLORS)


def _percentage(path: str, value: Any) -> int | float:
    return check_number(path, value, at_least=0, at_most=100)


def _readout(path: str, value: Any) -> str | int | float:
    """Check a `value` readout: text, which keeps its formatting, or a number."""
    return check_text(path, value) if isinstance(value, str) else check_number(path, value)


def _measure(path: str, value: Any) -> str | int | float:
    """Check a value of the `metrics` and `stats` grids."""
    if isinstance(value, str):
        return check_text(path, value, shortest=1, longest=MAX_VALUE_TEXT)
    return check_number(path, value, at_least=0)


def _widget_value(path: str, value: Any) -> str | int | float:
    return (
        check_text(path, value, shortest=1, longest=MAX_VALUE_TEXT)
        if isinstance(value, str)
        else check_number(path, value)
    )


def _timestamp(path: str, value: Any) -> str:
    """Check an ISO 8601 time; a `datetime` must know its time zone, or it would mean another moment elsewhere."""
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise InvalidRequest(path, value, "a datetime with a time zone")
        return value.isoformat()
    text = check_text(path, value)
    try:
        datetime.fromisoformat(re.sub(r"(?<=\d)[Zz]$", "+00:00", _trim_fraction(text)))
    except ValueError:
        raise InvalidRequest(path, value, "an ISO 8601 time, such as 2026-07-01T12:00:00Z") from None
    return text


def _trim_fraction(text: str) -> str:
    """Write a fraction of a second with six digits, the only form that Python 3.10 reads besides three."""
    return re.sub(r"\.(\d+)", lambda found: "." + found[1][:6].ljust(6, "0"), text)


# ---------------------------------------------------------------------------------------------------- addresses


def _address(path: str, value: Any, schemes: tuple[str, ...], allowed: str, longest: int | None = None) -> str:
    text = check_text(path, value, shortest=1, longest=longest)
    try:
        parts = urlsplit(text)
        sound = parts.scheme in schemes and bool(parts.hostname)
    except ValueError:
        sound = False
    if not sound or any(ord(character) <= 32 for character in text):
        raise InvalidRequest(path, value, allowed)
    return text


def _https(path: str, value: Any) -> str:
    return _address(path, value, ("https",), "an https URL")


def _https_image(path: str, value: Any) -> str:
    parts = urlsplit(_https(path, value))
    if parts.username is not None or parts.password is not None:
        raise InvalidRequest(path, "an https URL with credentials", "an https URL without credentials")
    return str(value)


def _card_link(path: str, value: Any) -> str:
    """Check what a button on a Live Activity may open."""
    allowed = "an http or https URL, or shortcuts://run-shortcut?name=..."
    text = check_text(path, value, shortest=1)
    if text.lower().startswith("shortcuts:"):
        parts = urlsplit(text)
        if parts.netloc != "run-shortcut" or not parse_qs(parts.query).get("name"):
            raise InvalidRequest(path, value, allowed)
        return text
    return _address(path, value, ("http", "https"), allowed)


def _push_link(path: str, value: Any) -> str:
    """Check what a push or one of its buttons may open: the web, Shortcuts, or an app through its scheme."""
    allowed = "an http, https or shortcuts URL, or one with an app's scheme"
    text = check_text(path, value, shortest=1)
    scheme = _SCHEME.match(text)
    if scheme is None or scheme[1].lower() in _NO_APP_SCHEMES:
        raise InvalidRequest(path, value, allowed)
    if scheme[1].lower() in ("http", "https"):
        return _address(path, value, ("http", "https"), allowed)
    return text


def _redirection(path: str, value: Any) -> str:
    check_text(path, value, longest=MAX_REDIRECTION)
    return _push_link(path, value)


# ---------------------------------------------------------------------------------------------------- compounds


def check_object(path: str, value: Any) -> dict[str, Any]:
    """Check a free JSON object, such as the body of a webhook."""
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise InvalidRequest(path, value, "an object with string keys")
    try:
        text = json.dumps(dict(value), allow_nan=False, ensure_ascii=False)
        text.encode()
    except (TypeError, ValueError, RecursionError):
        raise InvalidRequest(path, value, "an object that JSON can carry") from None
    return dict(value)


def _list(path: str, value: Any, check: Check, *, shortest: int = 0, longest: float = math.inf) -> list[Any]:
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, (list, tuple, set, frozenset)):
        raise InvalidRequest(path, value, "a list")
    if not shortest <= len(value) <= longest:
        most = f" to {longest:g}" if longest < math.inf else " or more"
        raise InvalidRequest(path, f"{len(value)} entries", f"{shortest}{most} entries")
    members: Iterable[Any] = sorted(value, key=str) if isinstance(value, (set, frozenset)) else value
    return [check(f"{path}[{index}]", member) for index, member in enumerate(members)]


def _record(path: str, value: Any, checks: Mapping[str, Check], required: Sequence[str] = ()) -> dict[str, Any]:
    """Check an object with known fields; what is `None` counts as not given."""
    if isinstance(value, _Payload):
        value = value.given()
    if not isinstance(value, Mapping):
        raise InvalidRequest(path, value, f"an object with {', '.join(checks)}")
    given = {name: member for name, member in value.items() if member is not None}
    for name in given:
        if name not in checks:
            raise InvalidRequest(_join(path, name), given[name], f"only {', '.join(checks)}")
    for name in required:
        if name not in given:
            raise InvalidRequest(_join(path, name), None, "a value: it is required")
    return {name: checks[name](_join(path, name), member) for name, member in given.items()}


def _join(path: str, name: object) -> str:
    return f"{path}.{name}" if path else str(name)


def _icon(path: str, value: Any) -> dict[str, Any]:
    return _record(path, value, {"symbol": _some_text, "color": check_color}, ["symbol"])


def _badge(path: str, value: Any) -> dict[str, Any]:
    return _record(path, value, {"title": _some_text, "color": check_color}, ["title"])


def _metric(path: str, value: Any) -> dict[str, Any]:
    checks = {"label": _some_text, "value": _measure, "unit": check_text, "color": check_color}
    return _record(path, value, checks, ["label", "value"])


def _metrics(path: str, value: Any) -> list[Any]:
    return _list(path, value, _metric, shortest=1, longest=MAX_METRICS)


def _step_colors(path: str, value: Any) -> list[Any]:
    return _list(path, value, check_color)


def _alert(path: str, value: Any) -> dict[str, Any]:
    return _record(path, value, {"title": check_text, "body": check_text})


_ACTION_FIELDS: dict[str, Check] = {
    "title": _some_text,
    "type": _one_of("open_url", "webhook"),
    "url": _some_text,
    "method": _one_of("GET", "POST"),
    "body": check_object,
}


def _action(path: str, value: Any, link: Check) -> dict[str, Any]:
    action = _record(path, value, _ACTION_FIELDS, ["title", "type", "url"])
    (_https if action["type"] == "webhook" else link)(_join(path, "url"), action["url"])
    return action


def check_action(path: str, value: Any) -> dict[str, Any]:
    """Check a button of a Live Activity."""
    return _action(path, value, _card_link)


def _push_actions(path: str, value: Any) -> list[Any]:
    return _list(path, value, lambda at, member: _action(at, member, _push_link), longest=MAX_PUSH_ACTIONS)


def check_tags(path: str, value: Any) -> list[Any]:
    """Check the tags of a request: an empty list clears them."""
    return _list(path, value, lambda at, tag: check_text(at, tag, shortest=1, longest=MAX_TAG_TEXT), longest=MAX_TAGS)


def check_metadata(path: str, value: Any) -> dict[str, Any]:
    """Check the metadata of a request: an empty object clears them."""
    if not isinstance(value, Mapping):
        raise InvalidRequest(path, value, "an object of strings, finite numbers and booleans")
    if len(value) > MAX_METADATA_ENTRIES:
        raise InvalidRequest(path, f"{len(value)} entries", f"at most {MAX_METADATA_ENTRIES} entries")
    checked = {}
    for key, member in value.items():
        check_text(f"{path} key", key, shortest=1, longest=MAX_METADATA_KEY)
        checked[key] = _metadata_value(_join(path, key), member)
    size = len(json.dumps(checked, ensure_ascii=False, separators=(",", ":")).encode())
    if size > MAX_METADATA_BYTES:
        raise InvalidRequest(path, f"{size} bytes of JSON", f"at most {MAX_METADATA_BYTES} bytes of JSON")
    return checked


def _metadata_value(path: str, value: Any) -> str | int | float | bool:
    if isinstance(value, bool):
        return value
    return check_text(path, value, longest=MAX_METADATA_TEXT) if isinstance(value, str) else check_number(path, value)


def split_channels(channels: object) -> object:
    """Read channels as the official SDK does: a comma-separated string is a list of slugs."""
    if isinstance(channels, str):
        return [slug.strip() for slug in channels.split(",") if slug.strip()]
    return channels


def check_channels(path: str, value: Any) -> list[Any]:
    """Check channel slugs: at least one."""
    return _list(path, split_channels(value), _some_text, shortest=1)


def _target(path: str, value: Any) -> dict[str, Any]:
    return _record(path, value, {"channels": check_channels}, ["channels"])


def check_stream_key(path: str, value: Any) -> str:
    """Check the name of a stream."""
    if not isinstance(value, str) or not _STREAM_KEY.fullmatch(value):
        raise InvalidRequest(path, value, "1 to 255 letters, digits, underscores and hyphens")
    return value


def check_metric_key(path: str, value: Any) -> str:
    """Check the key of a widget's metric."""
    if not isinstance(value, str) or not _METRIC_KEY.fullmatch(value):
        raise InvalidRequest(path, value, "1 to 64 of a-z, 0-9, '_', '.', '-', the first a letter or digit")
    return value


def check_identifier(path: str, value: Any) -> str:
    """Check an `activity_id` or `notification_id`."""
    return _some_text(path, value)


# -------------------------------------------------------------------------------------------- the content state

BADGED = ("alert", "progress", "segmented_progress", "value")
"""The types that have a badge and a second button."""

_EVERY = ACTIVITY_TYPES
_DISMISS_SECONDS, _DISMISS_MINUTES = "auto_dismiss_seconds", "auto_dismiss_minutes"

CONTENT_STATE: dict[str, tuple[Check, tuple[str, ...]]] = {
    "title": (check_text, _EVERY),
    "subtitle": (check_text, _EVERY),
    "type": (_one_of(*ACTIVITY_TYPES), _EVERY),
    "number_of_steps": (_count, ("segmented_progress",)),
    "current_step": (check_integer, ("segmented_progress",)),
    "step_color": (check_color, ("segmented_progress",)),
    "step_colors": (_step_colors, ("segmented_progress",)),
    "percentage": (_percentage, ("progress",)),
    "value": (_readout, ("progress", "value")),
    "upper_limit": (_positive, ("progress",)),
    "metrics": (_metrics, ("metrics", "stats")),
    "message": (_some_text, ("alert",)),
    "duration_seconds": (_positive, ("timer",)),
    "counts_down": (_boolean, ("timer",)),
    "is_running": (_boolean, ("timer",)),
    "icon": (_icon, _EVERY),
    "badge": (_badge, BADGED),
    "color": (check_color, tuple(kind for kind in _EVERY if kind != "stats")),
    _DISMISS_SECONDS: (check_integer, _EVERY),
    _DISMISS_MINUTES: (check_integer, _EVERY),
}
"""Each field of a content state: its check, and the types that use it."""

_NEEDED_BY_TYPE = {"alert": ("message",), "value": ("value",)}
_NEEDED_AT_START = {
    "segmented_progress": ("number_of_steps", "current_step"),
    "metrics": ("metrics",),
    "stats": ("metrics",),
}


def check_content_state(
    state: Any, *, path: str = "content_state", dismissal: Sequence[str] = (), starts: bool = False
) -> dict[str, Any]:
    """Check a content state.

    Args:
        state: the fields as given.
        path: how messages name it.
        dismissal: which of the two `auto_dismiss_*` fields the operation takes.
        starts: True where the type and what it needs must be there.
    """
    dropped = {_DISMISS_SECONDS, _DISMISS_MINUTES}.difference(dismissal)
    checks = {name: check for name, (check, _) in CONTENT_STATE.items() if name not in dropped}
    checked = _record(path, state, checks, ["title", "type"] if starts else ["title"])
    kind = checked.get("type")
    for name in _NEEDED_BY_TYPE.get(str(kind), ()) + (_NEEDED_AT_START.get(str(kind), ()) if starts else ()):
        if name not in checked:
            raise InvalidRequest(_join(path, name), None, f"a value: type {kind!r} needs it")
    _check_steps(path, checked)
    _check_fraction(path, checked)
    counts_down = kind == "timer" and checked.get("counts_down", True)
    if starts and counts_down and "duration_seconds" not in checked:
        allowed = "seconds to count down from, or counts_down=False for an open-ended timer"
        raise InvalidRequest(_join(path, "duration_seconds"), None, allowed)
    return checked


def _check_steps(path: str, state: Mapping[str, Any]) -> None:
    current, steps = state.get("current_step"), state.get("number_of_steps")
    if current is not None and steps is not None and current > steps:
        raise InvalidRequest(_join(path, "current_step"), current, f"at most number_of_steps ({steps})")


def _check_fraction(path: str, state: Mapping[str, Any]) -> None:
    """`value` and `upper_limit` of a progress come together; the value of any progress is a number."""
    of_progress = state.get("type") == "progress"
    if "upper_limit" in state and "value" not in state:
        raise InvalidRequest(_join(path, "value"), None, "a number: upper_limit needs it")
    if of_progress and "value" in state and "upper_limit" not in state:
        raise InvalidRequest(_join(path, "upper_limit"), None, "a number greater than 0: value needs it")
    if "upper_limit" in state or (of_progress and "value" in state):
        check_number(_join(path, "value"), state["value"])


def refuse_unused(state: Mapping[str, Any], *, path: str = "content_state") -> None:
    """Refuse the fields that the state's own type does not use.

    The service ignores them, so the phone would not show what their writer expects. The simulator lets them pass,
    as the service does: the official SDK puts a timer's fields into every content state.
    """
    kind = state.get("type")
    for name, value in state.items():
        used_by = CONTENT_STATE[name][1]
        if kind is not None and kind not in used_by:
            raise InvalidRequest(_join(path, name), value, f"the field only with type {' or '.join(used_by)}")


# ---------------------------------------------------------------------------------------------------- the bodies


def _refused(path: str, value: Any) -> Any:
    raise InvalidRequest(path, value, "nothing: this operation does not take the field")


def _state_of(**rules: Any) -> Check:
    def check(path: str, value: Any) -> dict[str, Any]:
        return check_content_state(value, path=path, **rules)

    return check


_DETAILS: dict[str, Check] = {"tags": check_tags, "metadata": check_metadata}
_BUTTONS: dict[str, Check] = {"action": check_action, "secondary_action": check_action}
_REPLACED_PUSH: dict[str, Check] = {
    "title": check_text,
    "message": check_text,
    "subtitle": check_text,
    "icon": _https_image,
    "media": _https,
    "redirection": _redirection,
    "actions": _push_actions,
    "payload": check_object,
    "badge": lambda path, value: check_integer(path, value, at_most=MAX_BADGE_COUNT),
    **_DETAILS,
}
_BOTH = (_DISMISS_SECONDS, _DISMISS_MINUTES)

BODIES: dict[str, tuple[dict[str, Check], tuple[str, ...]]] = {
    "send": (
        {
            **_REPLACED_PUSH,
            "interruption_level": _one_of(*INTERRUPTION_LEVELS),
            "sound": check_text,
            "target": _target,
        },
        ("title",),
    ),
    "replace": (_REPLACED_PUSH, ("title",)),
    "stream": (
        {
            "content_state": _state_of(dismissal=_BOTH),
            **_BUTTONS,
            "alert": _alert,
            "target": _target,
            "channels": check_channels,
            **_DETAILS,
        },
        ("content_state",),
    ),
    "end_stream": (
        {"content_state": _state_of(dismissal=_BOTH), **_BUTTONS, "alert": _alert, **_DETAILS},
        (),
    ),
    "start": (
        {"content_state": _state_of(starts=True), **_BUTTONS, "alert": _alert, "target": _target, **_DETAILS},
        ("content_state",),
    ),
    "update": (
        {"activity_id": check_identifier, "content_state": _state_of(), **_BUTTONS, **_DETAILS},
        ("activity_id", "content_state"),
    ),
    "end": (
        {
            "activity_id": check_identifier,
            "content_state": _state_of(dismissal=(_DISMISS_MINUTES,)),
            **_BUTTONS,
            **_DETAILS,
        },
        ("activity_id", "content_state"),
    ),
    "metric": ({"value": _widget_value, "timestamp": _timestamp}, ("value",)),
    "badge": (
        {"badge": lambda path, value: check_integer(path, value, at_most=MAX_BADGE_COUNT), "target": _target},
        ("badge",),
    ),
}
"""The fields of each operation's body with their checks, and those that are required."""


def check_body(operation: str, body: Any) -> dict[str, Any]:
    """Check the body of one operation and return it as JSON.

    Args:
        operation: a key of `BODIES`.
        body: the fields as given; `None` values count as not given.

    Raises:
        InvalidRequest: naming the field, the value and what is allowed.
    """
    checks, required = BODIES[operation]
    checked = _record("", body, checks, required)
    kind = checked.get("content_state", {}).get("type")
    if "secondary_action" in checked and kind is not None and kind not in BADGED:
        raise InvalidRequest("secondary_action", checked["secondary_action"], f"only with type {' or '.join(BADGED)}")
    if checked.get("media") and checked.get("actions"):
        raise InvalidRequest("media", checked["media"], "either media or actions, not both")
    if {"channels", "target"} <= checked.keys() and checked["channels"] != checked["target"]["channels"]:
        raise InvalidRequest("channels", checked["channels"], "the same channels as target.channels")
    return checked


def fields_of(operation: str) -> frozenset[str]:
    """Name the top-level fields that an operation takes."""
    return frozenset(BODIES[operation][0])


# ----------------------------------------------------------------------------------------- what users hold


class _Payload:
    """A value that travels as a JSON object of its own fields; `None` fields are left out."""

    def given(self) -> dict[str, Any]:
        """Return the fields that were given, as they were given."""
        everything = {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]
        return {name: value for name, value in everything.items() if value is not None}


@dataclass(frozen=True)
class Action(_Payload):
    """A button, on a Live Activity or on a push.

    Use `Action.open_url` and `Action.webhook`.
    """

    title: str
    type: str
    url: str
    method: str | None = None
    body: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        _action("action", self, _push_link)

    @classmethod
    def open_url(cls, title: str, url: str) -> Action:
        """Make a button that opens an address on the phone.

        Args:
            title: the button's words.
            url: on a Live Activity http, https or `shortcuts://run-shortcut?name=...`; on a push also an app's
                scheme.

        Raises:
            InvalidRequest: for an empty title, or an address that no button opens.
        """
        return cls(title, "open_url", url)

    @classmethod
    def webhook(
        cls, title: str, url: str, *, method: str | None = None, body: Mapping[str, Any] | None = None
    ) -> Action:
        """Make a button with which the service calls an https address.

        Args:
            title: the button's words.
            url: https.
            method: `"GET"` or `"POST"` (the service's default).
            body: a JSON object to send along.

        Raises:
            InvalidRequest: for an address that is not https, or another method.
        """
        return cls(title, "webhook", url, method, body)


@dataclass(frozen=True)
class Icon(_Payload):
    """An SF Symbol, such as `Icon("bolt.fill", color="yellow")`."""

    symbol: str
    color: str | None = None

    def __post_init__(self) -> None:
        _icon("icon", self)


@dataclass(frozen=True)
class Badge(_Payload):
    """A short label in a capsule, on alert, progress, segmented_progress and value activities."""

    title: str
    color: str | None = None

    def __post_init__(self) -> None:
        _badge("badge", self)


@dataclass(frozen=True)
class Metric(_Payload):
    """One reading of a metrics or stats activity.

    `value` is a number of at least 0, or a text of 1 to 64 characters that keeps its formatting.
    """

    label: str
    value: int | float | str
    unit: str | None = None
    color: str | None = None

    def __post_init__(self) -> None:
        _metric("metric", self)


@dataclass(frozen=True)
class Push(_Payload):
    """A push notification, as `on_failure=` and `on_success=` take it.

    What is left out is filled in with the outcome's own words (`title`, `message`) or not sent. The fields are
    those of `notifications.send`.
    """

    title: str | None = None
    message: str | None = None
    subtitle: str | None = None
    icon: str | None = None
    media: str | None = None
    redirection: str | None = None
    actions: Sequence[Action | Mapping[str, Any]] | None = None
    interruption_level: str | None = None
    payload: Mapping[str, Any] | None = None
    badge: int | None = None
    sound: str | None = None
    channels: Sequence[str] | str | None = None
    tags: Sequence[str] | None = None
    metadata: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        check_body("send", {"title": "", **with_target(self.given())})


def with_target(body: Mapping[str, Any]) -> dict[str, Any]:
    """Move `channels` to `target.channels`, where the official SDKs put them."""
    moved = dict(body)
    channels = moved.pop("channels", None)
    if channels is not None and moved.get("target") is None:
        moved["target"] = {"channels": channels}
    elif channels is not None:
        moved["channels"] = channels
    return moved
