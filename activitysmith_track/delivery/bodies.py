"""What is left out of a body: of an update or an end of a card, and of a push that the service refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


def without_alert(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return a body without its alert, for a card that has rung."""
    return {name: value for name, value in body.items() if name != "alert"}


def without_opening(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return a body without what belongs to a start: the alert, and the duration, which would restart the timer."""
    state = {name: value for name, value in body["content_state"].items() if name != "duration_seconds"}
    return {**without_alert(body), "content_state": state}


def as_end(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return a state as the body of an end, which takes neither an alert nor a target."""
    return {name: value for name, value in without_alert(body).items() if name != "target"}


def words_alone(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return only the words of a push, how loud it is and its target: the service may have refused other fields."""
    names = ("title", "subtitle", "message", "interruption_level", "target")
    return {name: body[name] for name in names if name in body}


def opens_anew(body: Mapping[str, Any]) -> bool:
    """Tell whether a state changes a card each time it is sent: it rings, or restarts a timer."""
    return "alert" in body or "duration_seconds" in body.get("content_state", {})
