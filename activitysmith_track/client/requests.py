"""The service's requests, checked before they are sent; no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic
from urllib.parse import quote

from ..errors import InvalidRequest
from ..payloads import (
    CONTENT_STATE,
    check_body,
    check_identifier,
    check_metric_key,
    check_stream_key,
    fields_of,
    refuse_unused,
    with_target,
)
from .answers import (
    A,
    BadgeAnswer,
    EndAnswer,
    MetricAnswer,
    PushAnswer,
    StartAnswer,
    StreamAnswer,
    UpdateAnswer,
)

if TYPE_CHECKING:
    from datetime import datetime

    from .fields import Object


@dataclass(frozen=True)
class Request(Generic[A]):
    """One request, ready to be sent, and the answer that it expects."""

    method: str
    path: str
    body: Mapping[str, Any] | None
    answer: type[A]
    at_least_once: bool = False

    @property
    def repeatable(self) -> bool:
        """True where sending it twice does no harm, or less harm than losing it."""
        return self.at_least_once or self.method in ("PUT", "DELETE")


_STATE_NAMES = frozenset(CONTENT_STATE)


def _merged(request: Object | None, given: Mapping[str, Any]) -> dict[str, Any]:
    """Merge a request given as one object, as the official SDK takes it, with keywords, which win."""
    if request is not None and not isinstance(request, Mapping):
        raise InvalidRequest("request", request, "an object, or the fields as keywords")
    return {**(request or {}), **{name: value for name, value in given.items() if value is not None}}


def _activity_body(operation: str, request: Object | None, given: Mapping[str, Any]) -> dict[str, Any]:
    """Check the body of a Live Activity request; keywords win over `content_state`."""
    body = _merged(request, given)
    state = body.pop("content_state", None)
    if state is not None and not isinstance(state, Mapping):
        raise InvalidRequest("content_state", state, "an object")
    loose = {name: body.pop(name) for name in list(body) if name in _STATE_NAMES}
    if state is not None or loose:
        body["content_state"] = {**(state or {}), **loose}
    checked = check_body(operation, _routed(operation, body))
    refuse_unused(checked.get("content_state", {}))
    return checked


def _routed(operation: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
    """Move `channels` into `target` where the operation has one; elsewhere the check refuses them."""
    return with_target(body) if "target" in fields_of(operation) else body


def _push_body(operation: str, request: Object | None, given: Mapping[str, Any]) -> dict[str, Any]:
    return check_body(operation, _routed(operation, _merged(request, given)))


def send_request(request: Object | None, given: Object, *, at_least_once: bool = False) -> Request[PushAnswer]:
    """Build a push."""
    body = _push_body("send", request, given)
    return Request("POST", "/push-notification", body, PushAnswer, at_least_once)


def replace_request(notification_id: str, request: Object | None, given: Object) -> Request[PushAnswer]:
    """Build the replacement of a push."""
    identifier = quote(check_identifier("notification_id", notification_id), safe="")
    return Request("PUT", f"/push-notification/{identifier}", _push_body("replace", request, given), PushAnswer)


def stream_request(stream_key: str, request: Object | None, given: Object) -> Request[StreamAnswer]:
    """Build the start or update of a stream."""
    path = f"/live-activity/stream/{check_stream_key('stream_key', stream_key)}"
    return Request("PUT", path, _activity_body("stream", request, given), StreamAnswer)


def end_stream_request(stream_key: str, request: Object | None, given: Object) -> Request[StreamAnswer]:
    """Build the end of a stream; without any field it has no body."""
    path = f"/live-activity/stream/{check_stream_key('stream_key', stream_key)}"
    return Request("DELETE", path, _activity_body("end_stream", request, given) or None, StreamAnswer)


def owed_request(kind: str, stream_key: str, body: Object, *, at_least_once: bool = False) -> Request[Any]:
    """Build the request for an end or a push that a job still owes.

    Args:
        kind: `end` of a stream, `keep` for the last state of a card that stays up, or `push`.
        stream_key: the stream, for `end` and `keep`.
        body: the request's body.
        at_least_once: True where a push may be repeated although it may have arrived.
    """
    if kind == "push":
        return send_request(None, body, at_least_once=at_least_once)
    return end_stream_request(stream_key, None, body) if kind == "end" else stream_request(stream_key, None, body)


def start_request(request: Object | None, given: Object, *, at_least_once: bool = False) -> Request[StartAnswer]:
    """Build the start of a Live Activity."""
    body = _activity_body("start", request, given)
    return Request("POST", "/live-activity/start", body, StartAnswer, at_least_once)


def update_request(request: Object | None, given: Object, *, at_least_once: bool = False) -> Request[UpdateAnswer]:
    """Build the update of a Live Activity."""
    body = _activity_body("update", request, given)
    return Request("POST", "/live-activity/update", body, UpdateAnswer, at_least_once)


def end_request(request: Object | None, given: Object, *, at_least_once: bool = False) -> Request[EndAnswer]:
    """Build the end of a Live Activity."""
    return Request("POST", "/live-activity/end", _activity_body("end", request, given), EndAnswer, at_least_once)


def metric_request(
    key: str, value: Any, timestamp: datetime | str | None, *, at_least_once: bool = False
) -> Request[MetricAnswer]:
    """Build a widget's metric; the value may be the whole body, as the official SDK takes it."""
    body = dict(value) if isinstance(value, Mapping) else {"value": value}
    if timestamp is not None:
        body["timestamp"] = timestamp
    path = f"/metrics/{check_metric_key('key', key)}/value"
    return Request("POST", path, check_body("metric", body), MetricAnswer, at_least_once)


def badge_request(value: int, channels: Any, *, at_least_once: bool = False) -> Request[BadgeAnswer]:
    """Build the app icon's badge."""
    body = check_body("badge", with_target({"badge": value, "channels": channels}))
    return Request("POST", "/badge", body, BadgeAnswer, at_least_once)
