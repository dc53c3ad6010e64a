"""What buttons and pushes may open, and the buttons themselves.

A button on a Live Activity opens the web or a shortcut; a push and its buttons open an app by its scheme too. What
the service itself fetches or calls is https.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qs, urlsplit

from ..errors import InvalidRequest
from .checks import (
    Check,
    check_list,
    check_nonempty_text,
    check_object,
    check_record,
    check_text,
    member_path,
    one_of,
)

MAX_PUSH_ACTIONS = 4
MAX_REDIRECTION = 2_048  # characters

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_NO_APP_SCHEMES = frozenset(
    {"about", "blob", "data", "file", "filesystem", "javascript", "vbscript", "view-source", "ws", "wss"}
)


def _check_url(path: str, value: Any, schemes: tuple[str, ...], allowed: str) -> str:
    text = check_text(path, value, shortest=1)
    try:
        parts = urlsplit(text)
        sound = parts.scheme in schemes and bool(parts.hostname)
    except ValueError:
        sound = False
    if not sound or any(ord(character) <= 32 for character in text):
        raise InvalidRequest(path, value, allowed)
    return text


def check_https(path: str, value: Any) -> str:
    """Check an https URL with a host."""
    return _check_url(path, value, ("https",), "an https URL")


def check_https_image(path: str, value: Any) -> str:
    """Check the https URL of an image; with credentials in it, which messages do not repeat, it is refused."""
    parts = urlsplit(check_https(path, value))
    if parts.username is not None or parts.password is not None:
        raise InvalidRequest(path, "an https URL with credentials", "an https URL without credentials")
    return str(value)


def _check_card_link(path: str, value: Any) -> str:
    """Check what a button on a Live Activity may open."""
    allowed = "an http or https URL, or shortcuts://run-shortcut?name=..."
    text = check_text(path, value, shortest=1)
    if text.lower().startswith("shortcuts:"):
        parts = urlsplit(text)
        if parts.netloc != "run-shortcut" or not parse_qs(parts.query).get("name"):
            raise InvalidRequest(path, value, allowed)
        return text
    return _check_url(path, value, ("http", "https"), allowed)


def _check_push_link(path: str, value: Any) -> str:
    """Check what a push or one of its buttons may open: the web, Shortcuts, or an app through its scheme."""
    allowed = "an http, https or shortcuts URL, or one with an app's scheme"
    text = check_text(path, value, shortest=1)
    scheme = _SCHEME.match(text)
    if scheme is None or scheme[1].lower() in _NO_APP_SCHEMES:
        raise InvalidRequest(path, value, allowed)
    if scheme[1].lower() in ("http", "https"):
        return _check_url(path, value, ("http", "https"), allowed)
    return text


def check_redirection(path: str, value: Any) -> str:
    """Check what a tap on a push opens."""
    check_text(path, value, longest=MAX_REDIRECTION)
    return _check_push_link(path, value)


_ACTION_FIELDS: dict[str, Check] = {
    "title": check_nonempty_text,
    "type": one_of("open_url", "webhook"),
    "url": check_nonempty_text,
    "method": one_of("GET", "POST"),
    "body": check_object,
}


def _check_button(path: str, value: Any, link: Check) -> dict[str, Any]:
    action = check_record(path, value, _ACTION_FIELDS, ["title", "type", "url"])
    (check_https if action["type"] == "webhook" else link)(member_path(path, "url"), action["url"])
    return action


def check_action(path: str, value: Any) -> dict[str, Any]:
    """Check a button of a Live Activity."""
    return _check_button(path, value, _check_card_link)


def check_push_action(path: str, value: Any) -> dict[str, Any]:
    """Check a button of a push."""
    return _check_button(path, value, _check_push_link)


def check_push_actions(path: str, value: Any) -> list[Any]:
    """Check the buttons of a push: at most four."""
    return check_list(path, value, check_push_action, longest=MAX_PUSH_ACTIONS)
