"""The bodies of the service's operations: which fields each of them takes, and what these need of each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import InvalidRequest
from .buttons import check_action, check_https, check_https_image, check_push_actions, check_redirection
from .checks import (
    MAX_BADGE_COUNT,
    Check,
    check_channels,
    check_identifier,
    check_integer,
    check_metadata,
    check_object,
    check_record,
    check_tags,
    check_target,
    check_text,
    check_timestamp,
    check_widget_value,
    one_of,
)
from .content import BADGED, DISMISS_MINUTES, DISMISS_SECONDS, check_alert, check_content_state

if TYPE_CHECKING:
    from collections.abc import Mapping

INTERRUPTION_LEVELS = ("passive", "active", "time-sensitive")


def _content_state(**rules: Any) -> Check:
    def check(path: str, value: Any) -> dict[str, Any]:
        return check_content_state(value, path=path, **rules)

    return check


def _check_badge_count(path: str, value: Any) -> int:
    return check_integer(path, value, at_most=MAX_BADGE_COUNT)


_DETAILS: dict[str, Check] = {"tags": check_tags, "metadata": check_metadata}
_BUTTONS: dict[str, Check] = {"action": check_action, "secondary_action": check_action}
_REPLACED_PUSH: dict[str, Check] = {
    "title": check_text,
    "message": check_text,
    "subtitle": check_text,
    "icon": check_https_image,
    "media": check_https,
    "redirection": check_redirection,
    "actions": check_push_actions,
    "payload": check_object,
    "badge": _check_badge_count,
    **_DETAILS,
}
_BOTH = (DISMISS_SECONDS, DISMISS_MINUTES)

BODIES: dict[str, tuple[dict[str, Check], tuple[str, ...]]] = {
    "send": (
        {
            **_REPLACED_PUSH,
            "interruption_level": one_of(*INTERRUPTION_LEVELS),
            "sound": check_text,
            "target": check_target,
        },
        ("title",),
    ),
    "replace": (_REPLACED_PUSH, ("title",)),
    "stream": (
        {
            "content_state": _content_state(dismissal=_BOTH),
            **_BUTTONS,
            "alert": check_alert,
            "target": check_target,
            "channels": check_channels,
            **_DETAILS,
        },
        ("content_state",),
    ),
    "end_stream": (
        {"content_state": _content_state(dismissal=_BOTH), **_BUTTONS, "alert": check_alert, **_DETAILS},
        (),
    ),
    "start": (
        {
            "content_state": _content_state(starts=True),
            **_BUTTONS,
            "alert": check_alert,
            "target": check_target,
            **_DETAILS,
        },
        ("content_state",),
    ),
    "update": (
        {"activity_id": check_identifier, "content_state": _content_state(), **_BUTTONS, **_DETAILS},
        ("activity_id", "content_state"),
    ),
    "end": (
        {
            "activity_id": check_identifier,
            "content_state": _content_state(dismissal=(DISMISS_MINUTES,)),
            **_BUTTONS,
            **_DETAILS,
        },
        ("activity_id", "content_state"),
    ),
    "metric": ({"value": check_widget_value, "timestamp": check_timestamp}, ("value",)),
    "badge": (
        {"badge": _check_badge_count, "target": check_target},
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
    checked = check_record("", body, checks, required)
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


def with_target(body: Mapping[str, Any]) -> dict[str, Any]:
    """Move `channels` to `target.channels`, where the official SDKs put them."""
    moved = dict(body)
    channels = moved.pop("channels", None)
    if channels is not None and moved.get("target") is None:
        moved["target"] = {"channels": channels}
    elif channels is not None:
        moved["channels"] = channels
    return moved
