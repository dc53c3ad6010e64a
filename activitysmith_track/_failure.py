"""How an exception becomes words for a Lock Screen: what failed, where, and nothing secret.

Everything here runs while the job's own exception is on its way. So nothing raises, whatever an exception's `__str__`
or the user's hook does, not even SystemExit; and of long texts a bounded part is looked at, so that it takes no time.
"""

from __future__ import annotations

import os
import re
import time
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from types import TracebackType

LONGEST_MESSAGE = 300  # characters of an exception's message on the phone
LONGEST_TEXT = 150  # characters of a title or subtitle: a Lock Screen shows fewer
LONGEST_PUSH = 4 * LONGEST_TEXT  # characters of a push's message; a push holds 4 KB in all
WITHHELD = "(message withheld: the redact hook failed)"
LATE_SECONDS = 60.0  # what arrives later than this says when it happened
WITHOUT_GOODBYE = "Ended without a goodbye: killed, crashed or out of memory"
UNREADABLE = "(its message cannot be read)"

_LONGEST_READ = 4_000  # characters that are looked at; the scrubbing of 1 MB would cost the job time
_LONGEST_NAME = 80  # characters of a type, a function or a file
_LONGEST_NOTE = 80  # characters; a longer note is for the traceback
_LONGEST_SECRET = 256  # characters that are dropped before a cut, lest half a secret is shown
_MOST_MEMBERS, _DEEPEST = 4, 3  # of exception groups
_MOST_LINKS, _SHOWN_LINKS = 100, 3  # of a chain of causes
_ROOM = {1: _LONGEST_READ, 2: 150, 3: 90}  # characters of each link, so that all of them fit on the phone

_HIDDEN = "***"


# ------------------------------------------------------------------------------------------------- the scrubber

_NAMES = r"""(?:
    passw(?:or)?d | passphrase | passcode | pwd | secret | token | credentials? | authorization | cookie
    | api[_-]?key | access[_-]?key | (?:private|account|signing|encryption|master|shared|storage|license)[_-]?key
    | (?<![a-z])(?:sig|signature|auth|jwt|sessionid|bearer) | (?<![a-z])pass(?=\s{0,3}=|["'])
)
(?![_-]?(?:count|expir|file|length|len\b|limit|name|path|size|type|ur[il]))
(?:[_-][a-z0-9_-]{1,40} | (?-i:[A-Z])[a-z0-9]{1,40})?"""
"""What a secret is called: the end of a longer name too, but not the name of something about one."""

_QUOTED = r"""[bru]{0,2}(?:"(?:[^"\\]|\\.)*(?:"|\Z) | '(?:[^'\\]|\\.)*(?:'|\Z))"""
_ESCAPED = r"""\\{1,3}["'][^"']*["']?"""  # JSON in JSON
_BARE = r"""(?:[^\s&"',;)\]}] | ["',;)\]}](?![\s,;:)\]}&"']|\Z))+"""
_VALUE = rf"(?!(?:none|null|true|false)\b)(?:{_QUOTED}|{_ESCAPED}|[|>][+-]?\s+\S+|{_BARE})"

_SHAPES = r"""(?<![A-Za-z0-9])(?:
    (?:AKIA|ASIA|AROA|AIDA|AGPA|ANPA|ANVA)[A-Z0-9]{16}(?:[^A-Za-z0-9/+]{1,10}[A-Za-z0-9/+]{40})?
    | gh[pousr]_[A-Za-z0-9]{16,} | github_pat_[A-Za-z0-9_]{16,} | glpat-[\w-]{16,}
    | xox[a-z]-[\w-]{8,} | xapp-[\w-]{8,}
    | (?:sk|rk|pk)_(?:live|test)_[A-Za-z0-9]{8,} | whsec_[A-Za-z0-9+/=]{8,}
    | sk-[\w-]{16,} | AIza[\w-]{30,} | ya29\.[\w-]{16,} | hf_[A-Za-z0-9]{16,} | npm_[A-Za-z0-9]{30,}
    | pypi-[\w-]{16,} | SG\.[\w-]{16,}\.[\w-]{16,} | hvs\.[\w-]{16,} | dapi[0-9a-f]{32} | dop_v1_[0-9a-f]{16,}
    | eyJ[\w-]{6,}\.[\w-]{4,}(?:\.[\w-]*)? | [0-9]{8,10}:[\w-]{35}(?![\w-])
)"""
"""What the secrets of well-known services look like, whatever they are called."""


@cache
def _patterns() -> tuple[tuple[re.Pattern[str], str], ...]:
    """Return what is searched for and what is left of it; no pattern walks back over what it has matched.

    They are compiled by the first failure, not by an import.
    """
    kept = rf"\1{_HIDDEN}"
    return (
        (_pattern(r"-----BEGIN[ A-Z0-9]{1,40}-----.*?(?:-----END[ A-Z0-9]{1,40}-----|\Z)"), _HIDDEN),
        (_pattern(rf"""(authorization["']?\s{{0,9}}[:=,]\s{{0,9}}[bu]?["']?)(?:[\w-]{{1,30}}[ ]+)?{_BARE}"""), kept),
        (_pattern(r"(cookie[\"']?\s{0,9}:\s{0,9})[^\s;]+(?:;\s{0,9}[^\s;=]{1,100}=[^\s;]*)*"), kept),
        (_pattern(r"\b(bearer\s{1,9})(?!(?-i:[a-z]{1,15})(?![\w.~+/=-]))[\w.~+/=-]{4,}"), kept),
        (_pattern(r"\b(basic\s{1,9})(?=[a-z0-9+/]*(?-i:[A-Z0-9=]))[a-z0-9+/]{4,}={0,2}"), kept),
        (_pattern(r"([a-z][a-z0-9+.-]{0,30}://)[^\s/?#@:]{0,200}:(?![0-9]{1,5}(?:[/?#]|\Z))\S{0,400}@"), rf"{kept}@"),
        (_pattern(r"([a-z][a-z0-9+.-]{0,30}://)[^\s/?#]{1,400}@"), rf"{kept}@"),
        (_pattern(r"(hooks\.slack\.com/\w{1,20}/|discord(?:app)?\.com/api/webhooks/)[\w/-]+"), kept),
        (_pattern(rf"((?:{_NAMES})(?:\\{{0,3}}[\"'])?\s{{0,9}}(?:[:=!]{{0,2}}=>?|->|:)\s{{0,9}}){_VALUE}"), kept),
        (_pattern(rf"((?:cookie|x-[a-z-]{{0,30}}(?:key|token|secret|auth))[\"'],\s{{0,9}}){_QUOTED}"), kept),
        (_pattern(rf"((?<![\w-])--[a-z0-9-]{{0,30}}(?:{_NAMES})[\"']?,?\s{{1,9}})(?!-){_VALUE}"), kept),
        (_pattern(r"((?:^|[\s'\"])(?:-u|--user)[\s=,'\"]{1,4}[^\s:'\"]{1,60}:)[^\s'\"]+"), kept),
        (_pattern(rf"(<[^<>\s]{{0,30}}(?:{_NAMES})>)[^<]+"), kept),
        (re.compile(_SHAPES, re.VERBOSE), _HIDDEN),
    )


def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(text, re.VERBOSE | re.IGNORECASE | re.DOTALL)


def scrub(text: str, secrets: Sequence[str | None] = (), redact: Callable[[str], str] | None = None) -> str:
    """Take secrets out of a text; never raises.

    Hidden are: tokens and passwords in headers, URLs, `name=value` pairs of any notation, command lines and XML;
    private keys; what has the shape of a well-known service's key.

    Args:
        text: any text; only its first 4,000 characters are kept. Shorten it after this, not before: half a secret
            is not recognised.
        secrets: exact texts to hide, such as the API key.
        redact: a hook of the user's own, called last. If it fails, or returns no string, nothing of the text is
            kept, and `WITHHELD` is returned.
    """
    text = _hide(_window(text, _LONGEST_READ), secrets)
    if redact is None:
        return text
    try:
        redacted = redact(text)
        return str.__str__(redacted)[:_LONGEST_READ] if isinstance(redacted, str) else WITHHELD
    except BaseException:  # not even its SystemExit may take the place of the job's own exception
        return WITHHELD


def _hide(text: str, secrets: Sequence[str | None] = ()) -> str:
    for secret in secrets:
        if secret:
            text = text.replace(secret, _HIDDEN).replace(quote(secret, safe=""), _HIDDEN)
    for pattern, hidden in _patterns():
        text = pattern.sub(hidden, text)
    return text


def _window(text: str, longest: int) -> str:
    """Take the beginning of a text, without the word through which the cut goes: it may be half a secret."""
    if len(text) <= longest:
        return text
    end = longest
    while end > max(0, longest - _LONGEST_SECRET) and not text[end - 1].isspace():
        end -= 1
    return text[:end]


# --------------------------------------------------------------------------------------------------- the words

# A subclass, or a metaclass, may have put anything in the place of these.
_CAUSE, _CONTEXT, _SUPPRESSED, _TRACE = (
    vars(BaseException)[name].__get__
    for name in ("__cause__", "__context__", "__suppress_context__", "__traceback__")
)
_TYPE_NAME = vars(type)["__name__"].__get__
_FLOW = (StopIteration, StopAsyncIteration, GeneratorExit, KeyboardInterrupt, SystemExit)  # say nothing as a context
_UNSHOWN = (  # compiled when it is first needed, as `_patterns` is
    "\x1b\\[[0-9;?]{0,20}[A-Za-z]|[\x00-\x08\x0e-\x1f\x7f-\x9f\u200b\u202a-\u202e\u2066-\u2069\ufeff]"
)


def words(error: BaseException) -> str:
    """Say what an exception is, on one line; never raises.

    Its type and message; of a group the first errors; then what it came from: `X: x (because of Y: y)`. What is
    shortened so that all of it finds room is scrubbed before the cut; the whole still has to be, for the key.
    """
    try:
        return _chained(error)
    except Exception:  # such as a RecursionError, where the stack is nearly full
        return str(_TYPE_NAME(type(error)))[:_LONGEST_NAME]


def _chained(error: BaseException) -> str:
    links = list(_links(error))
    if len(links) > _SHOWN_LINKS:
        how, last = links[-1]
        links = [*links[: _SHOWN_LINKS - 1], (f"…, {how}", last)]
    room = _ROOM[len(links)]
    first, *rest = [(how, _told(each, room)) for how, each in links]
    said = [first[1]]
    for how, text in rest:
        if not any(_contains(before, text) for before in said):
            said.append(f"{how} {text}")
    return said[0] + (f" ({', '.join(said[1:])})" if len(said) > 1 else "")


def _contains(before: str, text: str) -> bool:
    """Tell whether a message is repeated, as `raise X(str(error)) from error` does."""
    message = text.partition(": ")[2].rstrip("…")
    return bool(message) and message in before


def _links(error: BaseException) -> Iterator[tuple[str, BaseException]]:
    """Yield an exception and what it came from; a chain that bites its own tail ends there."""
    how, seen = "", set[int]()
    link: BaseException | None = error
    for _ in range(_MOST_LINKS):
        if link is None or id(link) in seen:
            return
        seen.add(id(link))
        yield how, link
        cause, context = _CAUSE(link), _CONTEXT(link)
        if cause is not None:
            how, link = "because of", cause
        elif not _SUPPRESSED(link) and not isinstance(context, _FLOW):
            how, link = "after", context
        else:
            return


def _told(error: BaseException, room: int, depth: int = 0) -> str:
    """Say what one exception is, or what the group holds."""
    members = _members(error)
    if members is None:
        text = _line(error)
        return _fit((f"{_name(error)}: {text}" if text else _name(error)) + _notes(error), room)
    title = _title(error)
    count = f"{len(members)} error{'s' if len(members) > 1 else ''}" + (f" ({_fit(title, 60)})" if title else "")
    if depth == _DEEPEST:
        return count
    shown = members[:_MOST_MEMBERS]
    each = max(40, min(room, LONGEST_MESSAGE) // len(shown) - 10)
    said = [_told(member, each, depth + 1) for member in shown]
    said = [f"({text})" if _members(member) else text for member, text in zip(shown, said, strict=True)]
    more = [f"{len(members) - len(shown)} more"] if len(members) > len(shown) else []
    return f"{count}: {'; '.join(said + more)}"


def _members(error: BaseException) -> Sequence[BaseException] | None:
    """Return what a group holds; those of the backport and of other libraries look alike."""
    members = _ask(error, "exceptions")
    if isinstance(members, (tuple, list)) and members:
        return members if all(isinstance(each, BaseException) for each in members[:_MOST_MEMBERS]) else None
    return None


def _title(group: BaseException) -> str:
    """Return a group's own message, unless it only says that it is one."""
    text = _ask(group, "message")
    title = _clean(text) if isinstance(text, str) else ""
    return "" if title.startswith(("unhandled errors in", "multiple connection attempts failed")) else title


def _notes(error: BaseException) -> str:
    notes = _ask(error, "__notes__")
    if not isinstance(notes, list):
        return ""
    said = [_clean(note) for note in notes[:2] if isinstance(note, str) and len(note) <= _LONGEST_NOTE]
    return "".join(f"; {note}" for note in said if note)


def _ask(error: BaseException, name: str) -> Any:
    try:
        return getattr(error, name, None)
    except BaseException:
        return None


def _name(error: BaseException) -> str:
    return shorten(_clean(_TYPE_NAME(type(error))), _LONGEST_NAME) or "?"


def _line(value: object) -> str:
    """Return what a value says of itself, on one line."""
    try:
        text = str.__str__(str(value))  # a str, whatever a subclass of it would do
    except BaseException:  # an exception whose __str__ exits must not take the place of the job's own
        return UNREADABLE
    return _clean(text)


def _clean(text: str) -> str:
    """Write the beginning of a text on one line, without what a phone cannot show."""
    return " ".join(re.sub(_UNSHOWN, "", _window(text, _LONGEST_READ)).split())


def _fit(text: str, room: int) -> str:
    """Shorten a part of a longer text; scrubbed first, since half a secret is not recognised."""
    if len(text) <= room:
        return text
    text = _hide(text)
    return text if len(text) <= room else _window(text, room).rstrip() + "…"


def shorten(text: str, longest: int) -> str:
    """Cut a text that is too long for the phone, and let it be seen."""
    return text if len(text) <= longest else text[: longest - 1].rstrip() + "…"


def exit_words(error: BaseException) -> str:
    """Say why `sys.exit` was called with a failure: its text, or its code; never raises."""
    code = _ask(error, "code")
    if code is None:
        return "exit code 0"
    if not isinstance(code, int):
        return _line(code)
    plain = int.__add__(code, 0)  # an int, whatever a subclass of it would do
    return f"exit code {plain if abs(plain) < 10**9 else 'out of range'}"


def host() -> str:
    """Return this machine's name without its domain, at most 40 characters; empty if it cannot be told."""
    from ._forks import module

    return shorten(_clean(module("platform").node()).partition(".")[0], 40)


# --------------------------------------------------------------------------------------------------- the place


def where(trace: TracebackType | None) -> str:
    """Name the place of the user's own code where the exception came from, such as `load() in etl.py:42`."""
    found, foreign = None, None
    for frame in _frames(trace):
        if _foreign(frame[1]):
            foreign = frame
        else:
            found = frame
    function, file, line = found or foreign or ("", "", None)
    if not file:
        return ""
    called = function if function.startswith("<") else f"{function}()"
    base = os.path.basename(file)
    return f"{shorten(_clean(called), _LONGEST_NAME)} in {shorten(_clean(base), _LONGEST_NAME)}:{line}"


def place(error: BaseException) -> str:
    """Name the place where an exception came from; for a group, where its first error did. See `where`."""
    inner = error
    for _ in range(_DEEPEST):
        members = _members(inner)
        if members is None:
            break
        inner = members[0]
    return where(_TRACE(inner)) or where(_TRACE(error))


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


def late(body: Mapping[str, Any], happened: float, now: float, kind: str) -> dict[str, Any]:
    """Have what arrives late say when it happened.

    Args:
        body: the body of a push, of an end or of a last PUT; it is not changed.
        happened: seconds since the epoch.
        now: seconds since the epoch.
        kind: `push`, `end` or `keep`.

    Returns:
        The body with "(happened 14:32, 2 h ago)", by this machine's clock, in a push's message or a card's subtitle;
        or as it was, if it is less than a minute late.
    """
    told = dict(body)
    if not LATE_SECONDS < now - happened < 1e9:
        return told
    note = f"happened {time.strftime('%H:%M', time.localtime(happened))}, {span(now - happened)} ago"
    if kind == "push":
        told["message"] = _with_note(body.get("message"), note, "\n", LONGEST_PUSH)
    elif "content_state" in body:
        state = body["content_state"]
        told["content_state"] = {**state, "subtitle": _with_note(state.get("subtitle"), note, " ", LONGEST_TEXT)}
    return told


def _with_note(text: str | None, note: str, between: str, longest: int) -> str:
    if not text:
        return note[0].upper() + note[1:]
    note = f"{between}({note})"
    return shorten(text, longest - len(note)) + note
