"""How an exception becomes words for a Lock Screen: what failed, where, and nothing secret."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

LONGEST_MESSAGE = 300  # characters of an exception's message on the phone
LONGEST_TEXT = 150  # characters of a title or subtitle: a Lock Screen shows fewer
LONGEST_PUSH = 4 * LONGEST_TEXT  # characters of a push's message; a push holds 4 KB in all
_LONGEST_READ = 4_000  # characters that are looked at; the scrubbing of 1 MB would cost the job time

_HIDDEN = "***"
_SECRETS = (
    (re.compile(r"(?i)\b(bearer)\s+[A-Za-z0-9._~+/=-]{4,}"), rf"\1 {_HIDDEN}"),
    (re.compile(r"\b([Bb]asic)\s+(?=\S*[A-Z0-9=])[A-Za-z0-9+/]{4,}={0,2}"), rf"\1 {_HIDDEN}"),
    (re.compile(r"(?i)\b([a-z][a-z0-9+.-]*://)[^\s/@:]*:[^\s/@]*@"), rf"\1{_HIDDEN}@"),
    (
        re.compile(
            r"""(?ix)
            ((?:[a-z0-9_-]*[_-])?(?:api[_-]?key|apikey|access[_-]?key(?:[_-]?id)?|passwd|password|passphrase|pwd|secret
            |token|authorization|credentials?)(?:[_-][a-z0-9_-]*)?["']?\s*[:=]\s*)
            (?:"[^"]*"|'[^']*'|[^\s,;&'")\]}]+)"""
        ),
        rf"\1{_HIDDEN}",
    ),
    (re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"), _HIDDEN),
)


def scrub(text: str, secrets: tuple[str | None, ...] = (), redact: Callable[[str], str] | None = None) -> str:
    """Take secrets out of a text.

    Args:
        text: any text; only its first 4,000 characters are kept.
        secrets: exact texts to hide, such as the API key.
        redact: a hook of the user's own, called last; if it fails, nothing of the text is kept.
    """
    text = text[:_LONGEST_READ]
    for secret in secrets:
        if secret:
            text = text.replace(secret, _HIDDEN)
    for pattern, hidden in _SECRETS:
        text = pattern.sub(hidden, text)
    if redact is not None:
        try:
            text = str(redact(text))
        except Exception:
            return "(message withheld: the redact hook failed)"
    return text


def words(error: BaseException) -> str:
    """Say what an exception is: its type and message; never raises."""
    name = type(error).__name__
    try:
        text = " ".join(str(error)[:_LONGEST_READ].split())
    except Exception:
        text = "(its message cannot be read)"
    return f"{name}: {text}" if text else name


def shorten(text: str, longest: int) -> str:
    """Cut a text that is too long for the phone, and let it be seen."""
    return text if len(text) <= longest else text[: longest - 1].rstrip() + "…"


def where(trace: TracebackType | None) -> str:
    """Name the place of the user's own code where the exception came from, such as `load() in etl.py:42`."""
    frames = list(_frames(trace))
    own = [frame for frame in frames if not _foreign(frame[1])]
    if not frames:
        return ""
    function, file, line = (own or frames)[-1]
    called = function if function.startswith("<") else f"{function}()"
    return f"{called} in {os.path.basename(file)}:{line}"


def _frames(trace: TracebackType | None) -> Iterator[tuple[str, str, int | None]]:
    while trace is not None:
        code = trace.tb_frame.f_code
        yield code.co_name, code.co_filename, trace.tb_lineno
        trace = trace.tb_next


_OURS = os.path.dirname(os.path.abspath(__file__)) + os.sep
_LIBRARY = os.path.dirname(os.path.abspath(os.__file__)) + os.sep


def _foreign(file: str) -> bool:
    """Tell code of installed libraries and of the standard library from the user's own."""
    installed = f"{os.sep}site-packages{os.sep}" in file or f"{os.sep}dist-packages{os.sep}" in file
    return installed or file.startswith((_OURS, _LIBRARY, "<frozen"))


def span(seconds: float) -> str:
    """Write a duration for people: `0.4 s`, `12 s`, `3 min`, `2 h 5 min`, `3 d 4 h`."""
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


def exit_words(error: BaseException) -> str:
    """Say why `sys.exit` was called with a failure: its text, or its code."""
    code: Any = getattr(error, "code", None)
    return words(error).partition(": ")[2] if isinstance(code, str) else f"exit code {code}"
