"""An exception as one line and a place: what failed, why, and where in the user's own code.

Everything here runs while the job's own exception is on its way. So nothing raises, whatever an exception's `__str__`
does, not even SystemExit; and only a bounded part of long texts is read, so that it takes no noticeable time.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from ._redaction import LONGEST_READ, cut_between_words, hide
from ._text import LONGEST_MESSAGE, one_line, shorten

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import TracebackType

UNREADABLE = "(its message cannot be read)"

_LONGEST_LABEL = 80  # characters of a type, a function or a file
_LONGEST_NOTE = 80  # characters; a longer note belongs in a traceback
_MOST_MEMBERS, _DEEPEST = 4, 3  # members shown, and levels, of exception groups
_MOST_LINKS, _SHOWN_LINKS = 100, 3  # read, and shown, of a chain of causes
_ROOM = {1: LONGEST_READ, 2: 150, 3: 90}  # characters of each link, so that all of them fit on the phone

# Read from BaseException and type: a subclass, or a metaclass, may have overridden these.
_CAUSE, _CONTEXT, _SUPPRESSED, _TRACE = (
    vars(BaseException)[name].__get__
    for name in ("__cause__", "__context__", "__suppress_context__", "__traceback__")
)
_TYPE_NAME = vars(type)["__name__"].__get__
# As the context of another exception these explain nothing.
_FLOW = (StopIteration, StopAsyncIteration, GeneratorExit, KeyboardInterrupt, SystemExit)


def describe(error: BaseException) -> str:
    """Say what an exception is, on one line; never raises.

    That is its type and message, or the first errors of a group; then what it came from: `X: x (because of Y: y)`.
    Parts that are shortened are scrubbed before the cut. The caller still has to scrub the whole, for the API key.
    """
    try:
        return _describe_chain(error)
    except Exception:  # such as a RecursionError, if the stack is nearly full
        return str(_TYPE_NAME(type(error)))[:_LONGEST_LABEL]


def _describe_chain(error: BaseException) -> str:
    links = list(_links(error))
    if len(links) > _SHOWN_LINKS:
        how, last = links[-1]
        links = [*links[: _SHOWN_LINKS - 1], (f"…, {how}", last)]
    room = _ROOM[len(links)]
    first, *rest = [(how, _describe_one(each, room)) for how, each in links]
    said = [first[1]]
    for how, text in rest:
        if not any(_contains(before, text) for before in said):
            said.append(f"{how} {text}")
    return said[0] + (f" ({', '.join(said[1:])})" if len(said) > 1 else "")


def _contains(before: str, text: str) -> bool:
    """Tell whether a message says what was said before, as after `raise X(str(error)) from error`."""
    message = text.partition(": ")[2].rstrip("…")
    return bool(message) and message in before


def _links(error: BaseException) -> Iterator[tuple[str, BaseException]]:
    """Yield an exception and what it came from; a chain that comes back to itself ends there."""
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


def _describe_one(error: BaseException, room: int, depth: int = 0) -> str:
    """Say what one exception is, or what is in a group."""
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
    said = [_describe_one(member, each, depth + 1) for member in shown]
    said = [f"({text})" if _members(member) else text for member, text in zip(shown, said, strict=True)]
    more = [f"{len(members) - len(shown)} more"] if len(members) > len(shown) else []
    return f"{count}: {'; '.join(said + more)}"


def _members(error: BaseException) -> Sequence[BaseException] | None:
    """Return the members of a group, also of one from the backport or another library; else `None`."""
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
    return shorten(_clean(_TYPE_NAME(type(error))), _LONGEST_LABEL) or "?"


def _line(value: object) -> str:
    """Return what a value says of itself, on one line."""
    try:
        text = str.__str__(str(value))  # a str, whatever a subclass of it would do
    except BaseException:  # a SystemExit from __str__ must not take the place of the job's own exception
        return UNREADABLE
    return _clean(text)


def _clean(text: str) -> str:
    """Write the beginning of a text on one line, without what a phone cannot show."""
    return one_line(cut_between_words(text, LONGEST_READ))


def _fit(text: str, room: int) -> str:
    """Shorten a part of a longer text; it is scrubbed first, since half a secret is not recognised."""
    if len(text) <= room:
        return text
    text = hide(text)
    return text if len(text) <= room else cut_between_words(text, room).rstrip() + "…"


def describe_exit(error: BaseException) -> str:
    """Say why `sys.exit` was called with a failure: its text, or its code; never raises."""
    code = _ask(error, "code")
    if code is None:
        return "exit code 0"
    if not isinstance(code, int):
        return _line(code)
    plain = int.__add__(code, 0)  # an int, whatever a subclass of it would do
    return f"exit code {plain if abs(plain) < 10**9 else 'out of range'}"


def location_in(trace: TracebackType | None) -> str:
    """Name the place of the user's own code where the exception came from, such as `load() in etl.py:42`."""
    found, foreign = None, None
    for frame in _places(trace):
        if _is_foreign(frame[1]):
            foreign = frame
        else:
            found = frame
    function, file, line = found or foreign or ("", "", None)
    if not file:
        return ""
    called = function if function.startswith("<") else f"{function}()"
    base = os.path.basename(file)
    return f"{shorten(_clean(called), _LONGEST_LABEL)} in {shorten(_clean(base), _LONGEST_LABEL)}:{line}"


def location(error: BaseException) -> str:
    """Name the place where an exception came from; for a group, where its first error did. See `location_in`."""
    inner = error
    for _ in range(_DEEPEST):
        members = _members(inner)
        if members is None:
            break
        inner = members[0]
    return location_in(_TRACE(inner)) or location_in(_TRACE(error))


def _places(trace: TracebackType | None) -> Iterator[tuple[str, str, int | None]]:
    while trace is not None:
        code = trace.tb_frame.f_code
        yield code.co_name, code.co_filename, trace.tb_lineno
        trace = trace.tb_next


_OURS = os.path.dirname(os.path.abspath(__file__)) + os.sep
_LIBRARY = os.path.dirname(os.path.abspath(os.__file__)) + os.sep


def _is_foreign(file: str) -> bool:
    """Tell code of installed libraries and of the standard library from the user's own."""
    installed = f"{os.sep}site-packages{os.sep}" in file or f"{os.sep}dist-packages{os.sep}" in file
    return installed or file.startswith((_OURS, _LIBRARY, "<frozen"))
