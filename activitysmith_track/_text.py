"""Text for a phone: one line, short enough to be read, with durations and times of day written for people.

Nothing here raises, whatever the text.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

LONGEST_MESSAGE = 300  # characters of an exception's message on the phone
LONGEST_TEXT = 150  # characters of a title or subtitle: a Lock Screen shows fewer
LONGEST_PUSH = 4 * LONGEST_TEXT  # characters of a push's message; a push holds 4 KB in all
CRASH_REASON = "Process gone: killed, crashed or out of memory"
ANNOTATED_DELAY = 60.0  # seconds: a request that is sent later than this says when it happened

_LONGEST_DELAY = 1e9  # seconds, some 30 years: a longer delay is a clock that was wrong
_LONGEST_HOST = 40  # characters of this machine's name
_UNSHOWN = (  # compiled by the first text that needs it, not by an import
    "\x1b\\[[0-9;?]{0,20}[A-Za-z]|[\x00-\x08\x0e-\x1f\x7f-\x9f\u200b\u202a-\u202e\u2066-\u2069\ufeff]"
)


def one_line(text: str) -> str:
    """Write a text on one line, without what a phone cannot show: escape sequences, control characters.

    It takes time in proportion to the text, so callers cut a text of unknown length before.
    """
    return " ".join(re.sub(_UNSHOWN, "", text).split())


def shorten(text: str, longest: int) -> str:
    """Cut a text that has more than `longest` characters; an ellipsis, which counts among them, shows it."""
    return text if len(text) <= longest else text[: longest - 1].rstrip() + "…"


def host() -> str:
    """Return this machine's name without its domain, at most 40 characters; empty if it cannot be told."""
    from ._fork import module

    return shorten(one_line(module("platform").node()).partition(".")[0], _LONGEST_HOST)


def format_duration(seconds: float) -> str:
    """Write a duration for people: `0.4 s`, `12 s`, `3 min`, `2 h 5 min`, `3 d 4 h`; less than nothing is `0.0 s`."""
    if seconds < 0.95:
        return f"{max(seconds, 0.0):.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes = round(whole / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h" if hours else f"{days} d"


def annotate_delay(body: Mapping[str, Any], occurred_at: float, now: float, kind: str) -> dict[str, Any]:
    """Add to a request that is sent late when it happened.

    Args:
        body: the body of a push, of an end or of a last PUT; it is not changed.
        occurred_at: seconds since the epoch.
        now: seconds since the epoch.
        kind: `push`, `end` or `keep`.

    Returns:
        The body with "(happened 14:32, 2 h ago)", by this machine's clock, in a push's message or a card's subtitle;
        or as it was, if it is no more than a minute late.
    """
    annotated = dict(body)
    if not ANNOTATED_DELAY < now - occurred_at < _LONGEST_DELAY:
        return annotated
    clock = time.strftime("%H:%M", time.localtime(occurred_at))
    note = f"happened {clock}, {format_duration(now - occurred_at)} ago"
    if kind == "push":
        annotated["message"] = _with_note(body.get("message"), note, "\n", LONGEST_PUSH)
    elif "content_state" in body:
        state = body["content_state"]
        annotated["content_state"] = {**state, "subtitle": _with_note(state.get("subtitle"), note, " ", LONGEST_TEXT)}
    return annotated


def _with_note(text: str | None, note: str, between: str, longest: int) -> str:
    if not text:
        return note[0].upper() + note[1:]
    note = f"{between}({note})"
    return shorten(text, longest - len(note)) + note
