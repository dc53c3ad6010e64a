"""What is left out of a card's state where it does not begin the card, or ends it, and of a push that was refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


def without_alert(body: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what rings, for a card that has rung."""
    return {name: value for name, value in body.items() if name != "alert"}


def without_opening(body: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what belongs to a start alone: its alert, and a duration, which would restart the timer."""
    state = {name: value for name, value in body["content_state"].items() if name != "duration_seconds"}
    return {**without_alert(body), "content_state": state}


def as_end(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return a state as one that ends the card: the alert and the address of what is shown belong to others."""
    return {name: value for name, value in without_alert(body).items() if name != "target"}


def words_alone(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the words of a push and to whom they go, without what else there may be to object to."""
    return {name: body[name] for name in ("title", "message", "target") if name in body}


def opens_anew(body: Mapping[str, Any]) -> bool:
    """Tell whether a state changes a card each time it is sent: it rings, or begins a timer anew."""
    return "alert" in body or "duration_seconds" in body.get("content_state", {})
