"""The content state: the fields of each type of Live Activity, and what they need of each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import InvalidRequest
from .checks import (
    MAX_VALUE_TEXT,
    Check,
    check_boolean,
    check_color,
    check_count,
    check_integer,
    check_list,
    check_nonempty_text,
    check_number,
    check_positive,
    check_record,
    check_text,
    member_path,
    one_of,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ACTIVITY_TYPES = ("segmented_progress", "progress", "metrics", "stats", "alert", "timer", "value")
MAX_METRICS = 8

BADGED = ("alert", "progress", "segmented_progress", "value")
"""The types that have a badge and a second button."""


def _check_percentage(path: str, value: Any) -> int | float:
    return check_number(path, value, at_least=0, at_most=100)


def _check_readout(path: str, value: Any) -> str | int | float:
    """Check a `value` readout: text, which keeps its formatting, or a number."""
    return check_text(path, value) if isinstance(value, str) else check_number(path, value)


def _check_measure(path: str, value: Any) -> str | int | float:
    """Check a value of the `metrics` and `stats` grids."""
    if isinstance(value, str):
        return check_text(path, value, shortest=1, longest=MAX_VALUE_TEXT)
    return check_number(path, value, at_least=0)


def check_icon(path: str, value: Any) -> dict[str, Any]:
    """Check an SF Symbol, with or without a color."""
    return check_record(path, value, {"symbol": check_nonempty_text, "color": check_color}, ["symbol"])


def check_badge(path: str, value: Any) -> dict[str, Any]:
    """Check a label, with or without a color."""
    return check_record(path, value, {"title": check_nonempty_text, "color": check_color}, ["title"])


def check_metric(path: str, value: Any) -> dict[str, Any]:
    """Check one reading of the `metrics` and `stats` grids."""
    checks = {"label": check_nonempty_text, "value": _check_measure, "unit": check_text, "color": check_color}
    return check_record(path, value, checks, ["label", "value"])


def check_metrics(path: str, value: Any) -> list[Any]:
    """Check the readings of a grid: 1 to 8."""
    return check_list(path, value, check_metric, shortest=1, longest=MAX_METRICS)


def _check_step_colors(path: str, value: Any) -> list[Any]:
    return check_list(path, value, check_color)


def check_alert(path: str, value: Any) -> dict[str, Any]:
    """Check the alert with which the phone lights up at a change."""
    return check_record(path, value, {"title": check_text, "body": check_text})


DISMISS_SECONDS, DISMISS_MINUTES = "auto_dismiss_seconds", "auto_dismiss_minutes"

_EVERY = ACTIVITY_TYPES

CONTENT_STATE: dict[str, tuple[Check, tuple[str, ...]]] = {
    "title": (check_text, _EVERY),
    "subtitle": (check_text, _EVERY),
    "type": (one_of(*ACTIVITY_TYPES), _EVERY),
    "number_of_steps": (check_count, ("segmented_progress",)),
    "current_step": (check_integer, ("segmented_progress",)),
    "step_color": (check_color, ("segmented_progress",)),
    "step_colors": (_check_step_colors, ("segmented_progress",)),
    "percentage": (_check_percentage, ("progress",)),
    "value": (_check_readout, ("progress", "value")),
    "upper_limit": (check_positive, ("progress",)),
    "metrics": (check_metrics, ("metrics", "stats")),
    "message": (check_nonempty_text, ("alert",)),
    "duration_seconds": (check_positive, ("timer",)),
    "counts_down": (check_boolean, ("timer",)),
    "is_running": (check_boolean, ("timer",)),
    "icon": (check_icon, _EVERY),
    "badge": (check_badge, BADGED),
    "color": (check_color, tuple(kind for kind in _EVERY if kind != "stats")),
    DISMISS_SECONDS: (check_integer, _EVERY),
    DISMISS_MINUTES: (check_integer, _EVERY),
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

    Raises:
        InvalidRequest: naming the field, the value and what is allowed.
    """
    dropped = {DISMISS_SECONDS, DISMISS_MINUTES}.difference(dismissal)
    checks = {name: check for name, (check, _) in CONTENT_STATE.items() if name not in dropped}
    checked = check_record(path, state, checks, ["title", "type"] if starts else ["title"])
    kind = checked.get("type")
    for name in _NEEDED_BY_TYPE.get(str(kind), ()) + (_NEEDED_AT_START.get(str(kind), ()) if starts else ()):
        if name not in checked:
            raise InvalidRequest(member_path(path, name), None, f"a value: type {kind!r} needs it")
    _check_step_order(path, checked)
    _check_fraction(path, checked)
    counts_down = kind == "timer" and checked.get("counts_down", True)
    if starts and counts_down and "duration_seconds" not in checked:
        allowed = "seconds to count down from, or counts_down=False for an open-ended timer"
        raise InvalidRequest(member_path(path, "duration_seconds"), None, allowed)
    return checked


def _check_step_order(path: str, state: Mapping[str, Any]) -> None:
    current, steps = state.get("current_step"), state.get("number_of_steps")
    if current is not None and steps is not None and current > steps:
        raise InvalidRequest(member_path(path, "current_step"), current, f"at most number_of_steps ({steps})")


def _check_fraction(path: str, state: Mapping[str, Any]) -> None:
    """`value` and `upper_limit` of a progress come together; the value of any progress is a number."""
    of_progress = state.get("type") == "progress"
    if "upper_limit" in state and "value" not in state:
        raise InvalidRequest(member_path(path, "value"), None, "a number: upper_limit needs it")
    if of_progress and "value" in state and "upper_limit" not in state:
        raise InvalidRequest(member_path(path, "upper_limit"), None, "a number greater than 0: value needs it")
    if "upper_limit" in state or (of_progress and "value" in state):
        check_number(member_path(path, "value"), state["value"])


def refuse_unused(state: Mapping[str, Any], *, path: str = "content_state") -> None:
    """Refuse the fields that the state's own type does not use.

    The service ignores them, so the phone would not show what their writer expects. The simulator lets them pass,
    as the service does: the official SDK puts a timer's fields into every content state.
    """
    kind = state.get("type")
    for name, value in state.items():
        used_by = CONTENT_STATE[name][1]
        if kind is not None and kind not in used_by:
            raise InvalidRequest(member_path(path, name), value, f"the field only with type {' or '.join(used_by)}")
