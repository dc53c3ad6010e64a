"""What the service answers, and how an answer is read."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, TypeVar

from ..errors import InvalidAnswer, status_error

if TYPE_CHECKING:
    from collections.abc import Mapping

LONGEST_RETRY_AFTER = 3600.0  # seconds; an answer that asks for a longer wait is not obeyed
MAX_DIGITS = 400  # of an integer in an answer: no float holds more, and reading 100,000 takes long

A = TypeVar("A", bound="Answer")


@dataclass(frozen=True)
class Answer:
    """What the service answered.

    Fields that it may leave out are `None`. Fields that this version does not know are attributes too, and all of
    them stand in `body`.
    """

    body: Mapping[str, Any] = field(repr=False)
    success: bool | None = None
    message: str | None = None
    timestamp: str | None = None
    tags: list[str] | None = None
    errors: list[str] | None = None
    warning: str | None = None
    effective_channel_slugs: list[str] | None = None
    devices_notified: int | None = None
    users_notified: int | None = None

    needs: ClassVar[tuple[str, ...]] = ()  # fields without which the answer means nothing

    def __getattr__(self, name: str) -> Any:
        body = self.__dict__.get("body", {})
        if name in body:
            return body[name]
        raise AttributeError(f"{type(self).__name__} has no field {name!r}; the answer had {', '.join(body)}")


@dataclass(frozen=True)
class PushAnswer(Answer):
    """Answer to `notifications.send` and `replace`."""

    notification_id: str | None = None


@dataclass(frozen=True)
class StreamAnswer(Answer):
    """Answer to `live_activities.stream` and `end_stream`.

    `operation` is `started`, `updated`, `rotated`, `noop`, `paused` or `ended`.
    """

    operation: str = ""
    stream_key: str | None = None
    activity_id: str | None = None
    previous_activity_id: str | None = None
    devices_queued: int | None = None
    ignored: bool | None = None
    remote_push_sent: bool | None = None
    forced_completion: bool | None = None

    needs: ClassVar[tuple[str, ...]] = ("operation",)


@dataclass(frozen=True)
class StartAnswer(Answer):
    """Answer to `live_activities.start`."""

    activity_id: str = ""
    ended_activity_id: str | None = None

    needs: ClassVar[tuple[str, ...]] = ("activity_id",)


@dataclass(frozen=True)
class UpdateAnswer(Answer):
    """Answer to `live_activities.update`."""

    activity_id: str | None = None
    devices_queued: int | None = None


@dataclass(frozen=True)
class EndAnswer(UpdateAnswer):
    """Answer to `live_activities.end`."""

    ignored: bool | None = None
    end_reason: str | None = None
    forced_completion: bool | None = None


@dataclass(frozen=True)
class MetricAnswer(Answer):
    """Answer to `metrics.update`."""


@dataclass(frozen=True)
class BadgeAnswer(Answer):
    """Answer to `badge_count`."""

    badge: int | None = None
    devices_updated: int | None = None
    users_updated: int | None = None


def read_answer(kind: type[A], status: int, headers: Mapping[str, str], content: bytes, now: float) -> A:
    """Turn what came back into an answer, or raise the error that it is.

    Args:
        kind: the class of the answer.
        status: the HTTP status.
        headers: the answer's headers, with lower-case names.
        content: the whole body.
        now: the time in seconds since the epoch, against which a `Retry-After` date is read.

    Raises:
        StatusError: for everything but a 2xx.
        InvalidAnswer: for a 2xx whose body is not the documented object.
    """
    body = _json_object(content)
    if not 200 <= status < 300:
        raise status_error(status, body, reason=_reason(status), retry_after=retry_after(headers, now))
    shown = content[:200].decode(errors="replace")
    if body is None:
        raise InvalidAnswer("the answer is not a JSON object", status=status, text=shown)
    for name in kind.needs:
        if not isinstance(body.get(name), str):
            raise InvalidAnswer(f"the answer lacks {name!r}", status=status, text=shown)
    known = {each.name for each in fields(kind)} - {"body"}
    return kind(body, **{name: value for name, value in body.items() if name in known})


def _reason(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def _json_object(content: bytes) -> dict[str, Any] | None:
    try:
        body = json.loads(content, parse_int=_integer, parse_constant=refuse_constant)
    except (ValueError, RecursionError):
        return None
    return body if isinstance(body, dict) else None


def _integer(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise ValueError("an integer that no float holds")
    return int(digits)


def refuse_constant(name: str) -> NoReturn:
    """Refuse NaN and the infinities, which are no JSON: the `parse_constant` of `json.loads`."""
    raise ValueError(f"{name} is no JSON")


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Read `Retry-After`: seconds, or an HTTP date, an hour at most. What cannot be read counts as not sent."""
    text = headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit():
        return min(LONGEST_RETRY_AFTER, float(text[:9]))
    try:
        moment = parsedate_to_datetime(text[:100])
        return min(LONGEST_RETRY_AFTER, max(0.0, moment.timestamp() - now))
    except (TypeError, ValueError, OverflowError, IndexError, OSError):
        return None
