"""The service's endpoints, and what each of them takes: every other request is refused in the service's words."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import unquote

from .. import payloads
from ..errors import InvalidRequest
from .wire import Refusal

__all__ = ["ENDPOINTS", "Accepted", "Endpoint", "Reply", "accept", "channels_of", "check_start"]
__all__ += ["find_endpoint", "is_valid", "methods_of"]

_BADGE_WORDS = "badge must be a non-negative integer between 0 and 2147483647. Use 0 to clear the badge."
_STREAM_KEY_WORDS = "stream_key must contain only letters, numbers, underscores, and hyphens"


class Endpoint(NamedTuple):
    """A method and a path, the operation behind them, and the rate that it counts for: `account` or `metrics`."""

    method: str
    path: re.Pattern[str]
    operation: str
    rate: str


ENDPOINTS = [
    Endpoint(method, re.compile(path), operation, rate)
    for method, path, operation, rate in (
        ("POST", "/push-notification", "send", "account"),
        ("PUT", "/push-notification/(?P<key>[^/]+)", "replace", "account"),
        ("PUT", "/live-activity/stream/(?P<key>[^/]*)", "stream", "account"),
        ("DELETE", "/live-activity/stream/(?P<key>[^/]*)", "end_stream", "account"),
        ("POST", "/live-activity/start", "start", "account"),
        ("POST", "/live-activity/update", "update", "account"),
        ("POST", "/live-activity/end", "end", "account"),
        ("POST", "/metrics/(?P<key>[^/]*)/value", "metric", "metrics"),
        ("POST", "/badge", "badge", "account"),
    )
]


class Accepted(NamedTuple):
    """A request that has passed every check.

    Attributes:
        key: what its path names: a stream, a notification or a metric; empty where it names nothing.
        body: as `payloads.check_body` returns it.
        at: when it came, in seconds of the clock.
        timestamp: the date of that, as answers carry it.
    """

    key: str
    body: dict[str, Any]
    at: float
    timestamp: str

    @property
    def channels(self) -> list[str] | None:
        """The channels that it is sent to; `None` where it does not say."""
        return channels_of(self.body)


class Reply(NamedTuple):
    """What an accepted request is answered with, and its verdict: `sent`, `nothing new` or `over budget`."""

    body: dict[str, Any]
    verdict: str = "sent"


def find_endpoint(method: str, path: str) -> tuple[Endpoint, str]:
    """Return the endpoint of a request, and what its path names.

    Raises:
        Refusal: with 404 where there is no such path, with 405 where there is one that takes other methods.
    """
    for endpoint in ENDPOINTS:
        match = endpoint.path.fullmatch(path)
        if match is not None and endpoint.method == method:
            return endpoint, unquote(match.groupdict().get("key", ""))
    if methods := methods_of(path):
        raise Refusal(405, "Method not allowed", f"{path} takes {' and '.join(methods)}")
    raise Refusal(404, "Not found", "there is no such endpoint")


def methods_of(path: str) -> list[str]:
    """Name the methods that an endpoint takes; none where there is no such endpoint."""
    return [endpoint.method for endpoint in ENDPOINTS if endpoint.path.fullmatch(path)]


def accept(operation: str, key: str, body: dict[str, Any] | None) -> dict[str, Any]:
    """Check what a path names and the body as the client does.

    Returns:
        The body, as `payloads.check_body` returns it.

    Raises:
        Refusal: with 400, in the service's words where they are known.
    """
    if body is None and operation != "end_stream":
        raise Refusal(400, "Invalid request", "a JSON body is required")
    if operation in ("stream", "end_stream") and not is_valid(payloads.check_stream_key, key):
        raise Refusal(400, "Invalid stream_key", _STREAM_KEY_WORDS)
    return _checked_body(operation, body or {})


def is_valid(check: payloads.Check, value: str) -> bool:
    """Tell whether a check accepts a value."""
    try:
        check("key", value)
    except InvalidRequest:
        return False
    return True


def _checked_body(operation: str, body: dict[str, Any]) -> dict[str, Any]:
    target = body.get("target")
    for given in (body.get("channels"), target.get("channels") if isinstance(target, dict) else None):
        if isinstance(given, str):  # the client splits it; on the wire it is a list
            raise Refusal(400, "Invalid channel targeting", "target.channels must be an array of channel slugs")
    try:
        return payloads.check_body(operation, body)
    except InvalidRequest as problem:
        raise _refusal(operation, problem) from None


def _refusal(operation: str, problem: InvalidRequest) -> Refusal:
    if operation == "metric" and problem.field == "value" and _is_no_number(problem.value):
        return Refusal(400, "value must be a finite number")
    if operation == "badge" and problem.field == "badge":
        return Refusal(400, "Invalid badge", _BADGE_WORDS)
    if problem.field.startswith(("channels", "target")) and "target" in payloads.BODIES[operation][0]:
        return Refusal(400, "Invalid channel targeting", _channel_words(problem, operation))
    return Refusal(400, "Invalid request", str(problem))


def _is_no_number(value: object) -> bool:
    return not isinstance(value, str) or not value


def _channel_words(problem: InvalidRequest, operation: str) -> str:
    if operation == "stream" and problem.value == "0 entries":
        return "channels must contain at least one channel"
    return "target.channels must be an array of channel slugs"


def channels_of(body: Mapping[str, Any]) -> list[str] | None:
    """Return the channels that a checked body names, wherever it does; `None` where it names none."""
    channels = body.get("target", {}).get("channels", body.get("channels"))
    return None if channels is None else list(channels)


def check_start(body: Mapping[str, Any]) -> None:
    """Check a body from which an activity is to start.

    Raises:
        Refusal: with 400 where the state lacks what a start needs.
    """
    if "type" not in body["content_state"]:
        raise Refusal(400, "Invalid content_state", "content_state.type is required to start a Live Activity")
    try:
        payloads.check_content_state(
            body["content_state"], dismissal=("auto_dismiss_seconds", "auto_dismiss_minutes"), starts=True
        )
    except InvalidRequest as problem:
        raise Refusal(400, "Invalid request", str(problem)) from None
