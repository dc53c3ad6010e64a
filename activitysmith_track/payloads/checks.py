"""The checks of single values: texts, numbers, times, lists and records, and what most requests carry.

Each takes the path of a field, as messages name it, and its value, and returns that as JSON or raises
`InvalidRequest`. What is special to buttons and to content states stands in `buttons` and `content`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import fields
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ..errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

COLORS = ("lime", "green", "cyan", "blue", "purple", "magenta", "red", "orange", "yellow", "gray")
MAX_VALUE_TEXT = 64  # characters of a metric's text value
MAX_TAGS, MAX_TAG_TEXT = 20, 64  # and characters of each
MAX_METADATA_ENTRIES, MAX_METADATA_BYTES = 50, 16 * 1024  # and bytes of JSON in all
MAX_METADATA_KEY, MAX_METADATA_TEXT = 100, 4_000  # characters
MAX_BADGE_COUNT = 2_147_483_647

_STREAM_KEY = re.compile(r"[A-Za-z0-9_-]{1,255}")
_METRIC_KEY = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")
_LONGEST_NUMBER = 310  # characters, of an integer that a float can just hold
_LONGEST_CHARACTER = 6  # bytes of JSON, of a control character

Check = Callable[[str, Any], Any]
"""Takes a field's path and value; returns the value as JSON, or raises `InvalidRequest`."""


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


def check_nonempty_text(path: str, value: Any) -> str:
    """Check a text that says something."""
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


def check_positive(path: str, value: Any) -> int | float:
    """Check a finite number greater than 0."""
    if check_number(path, value) <= 0:
        raise InvalidRequest(path, value, "a number greater than 0")
    return value  # type: ignore[no-any-return]  # check_number has looked at it


def check_integer(path: str, value: Any, *, at_least: int = 0, at_most: float = math.inf) -> int:
    """Check an integer in a range; True and False are none."""
    if isinstance(value, bool) or not isinstance(value, int) or not at_least <= value <= at_most:
        raise InvalidRequest(path, value, _range("an integer", at_least, at_most))
    return int(value)


def check_count(path: str, value: Any) -> int:
    """Check an integer of at least 1."""
    return check_integer(path, value, at_least=1)


def check_boolean(path: str, value: Any) -> bool:
    """Check True or False, and nothing that only counts as one of them."""
    if not isinstance(value, bool):
        raise InvalidRequest(path, value, "True or False")
    return value


def one_of(*choices: str) -> Check:
    """Return the check of a text that is one of a few."""

    def check(path: str, value: Any) -> str:
        if not isinstance(value, str) or value not in choices:
            raise InvalidRequest(path, value, "one of " + ", ".join(choices))
        return str(value)

    return check


check_color = one_of(*COLORS)


def check_timestamp(path: str, value: Any) -> str:
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


def check_list(path: str, value: Any, check: Check, *, shortest: int = 0, longest: float = math.inf) -> list[Any]:
    """Check a list of so many entries, and each entry; a set is sorted, so that it is always sent alike."""
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, (list, tuple, set, frozenset)):
        raise InvalidRequest(path, value, "a list")
    if not shortest <= len(value) <= longest:
        most = f" to {longest:g}" if longest < math.inf else " or more"
        raise InvalidRequest(path, f"{len(value)} entries", f"{shortest}{most} entries")
    members: Iterable[Any] = sorted(value, key=str) if isinstance(value, (set, frozenset)) else value
    return [check(f"{path}[{index}]", member) for index, member in enumerate(members)]


class Payload:
    """A value that travels as a JSON object of its own fields; `None` fields are left out."""

    def given(self) -> dict[str, Any]:
        """Return the fields that were given, as they were given."""
        everything = {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]
        return {name: value for name, value in everything.items() if value is not None}


def check_record(path: str, value: Any, checks: Mapping[str, Check], required: Sequence[str] = ()) -> dict[str, Any]:
    """Check an object with known fields; what is `None` counts as not given.

    Args:
        path: how messages name it; empty for a whole body.
        value: a mapping or a `Payload`.
        checks: the fields that there are.
        required: those of them that must be given.
    """
    if isinstance(value, Payload):
        value = value.given()
    if not isinstance(value, Mapping):
        raise InvalidRequest(path, value, f"an object with {', '.join(checks)}")
    given = {name: member for name, member in value.items() if member is not None}
    for name in given:
        if name not in checks:
            raise InvalidRequest(member_path(path, name), given[name], f"only {', '.join(checks)}")
    for name in required:
        if name not in given:
            raise InvalidRequest(member_path(path, name), None, "a value: it is required")
    return {name: checks[name](member_path(path, name), member) for name, member in given.items()}


def member_path(path: str, name: object) -> str:
    """Return how messages name a field inside another one."""
    return f"{path}.{name}" if path else str(name)


def check_widget_value(path: str, value: Any) -> str | int | float:
    """Check what a widget shows: a short text, or a finite number."""
    if isinstance(value, str):
        return check_text(path, value, shortest=1, longest=MAX_VALUE_TEXT)
    return check_number(path, value)


def check_tags(path: str, value: Any) -> list[Any]:
    """Check the tags of a request: an empty list clears them."""
    return check_list(path, value, _check_tag, longest=MAX_TAGS)


def _check_tag(path: str, value: Any) -> str:
    return check_text(path, value, shortest=1, longest=MAX_TAG_TEXT)


def check_metadata(path: str, value: Any) -> dict[str, Any]:
    """Check the metadata of a request: an empty object clears them."""
    if not isinstance(value, Mapping):
        raise InvalidRequest(path, value, "an object of strings, finite numbers and booleans")
    if len(value) > MAX_METADATA_ENTRIES:
        raise InvalidRequest(path, f"{len(value)} entries", f"at most {MAX_METADATA_ENTRIES} entries")
    checked = {}
    for key, member in value.items():
        check_text(f"{path} key", key, shortest=1, longest=MAX_METADATA_KEY)
        checked[key] = _check_metadata_value(member_path(path, key), member)
    if _most_bytes(checked) > MAX_METADATA_BYTES:
        size = len(json.dumps(checked, ensure_ascii=False, separators=(",", ":")).encode())
        if size > MAX_METADATA_BYTES:
            raise InvalidRequest(path, f"{size} bytes of JSON", f"at most {MAX_METADATA_BYTES} bytes of JSON")
    return checked


def _most_bytes(metadata: Mapping[str, Any]) -> int:
    """Return how many bytes of JSON metadata can be at most.

    Every request has its metadata checked more than once. Nearly all of them are so small that a look at their
    lengths shows that they fit, and need not be written out as JSON to be measured.
    """
    characters = sum(map(len, metadata)) + sum(len(value) for value in metadata.values() if isinstance(value, str))
    numbers = sum(not isinstance(value, str) for value in metadata.values())
    punctuation = 2 + 6 * len(metadata)  # the braces; of each entry four quotes, a colon and a comma
    return _LONGEST_CHARACTER * characters + _LONGEST_NUMBER * numbers + punctuation


def _check_metadata_value(path: str, value: Any) -> str | int | float | bool:
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
    return check_list(path, split_channels(value), check_nonempty_text, shortest=1)


def check_target(path: str, value: Any) -> dict[str, Any]:
    """Check whom a request reaches: `channels`, at least one."""
    return check_record(path, value, {"channels": check_channels}, ["channels"])


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
    return check_nonempty_text(path, value)
