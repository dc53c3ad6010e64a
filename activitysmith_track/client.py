"""The whole of the service's API, for those who want to speak to it directly.

`ActivitySmith` and `AsyncActivitySmith` have the method names of the official SDK. What they share stands here once
and does no I/O: building a request (`Call`), reading an answer (`read_answer`), deciding whether and when to try
again (`worth_another_try`, `_Wait`). The two clients only carry bytes.
"""

from __future__ import annotations

import json
import time
import zlib
from collections.abc import Callable, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field, fields
from email.utils import parsedate_to_datetime
from functools import partial
from http.cookiejar import CookieJar
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NoReturn, TypeVar
from urllib.parse import quote

import httpx
import tenacity

from ._endpoint import bracketed, check_api_key, find_api_key, find_base_url, is_loopback
from .errors import (
    ConnectionFailed,
    DeliveryError,
    InvalidAnswer,
    InvalidRequest,
    MissingAPIKey,
    RateLimited,
    RequestTimedOut,
    StatusError,
    status_error,
)
from .payloads import (
    CONTENT_STATE,
    check_body,
    check_identifier,
    check_metric_key,
    check_stream_key,
    fields_of,
    refuse_unused,
    with_target,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime
    from types import TracebackType

    from typing_extensions import Self, TypedDict, Unpack

    from .payloads import Action, Badge, Icon, Metric

    Object = Mapping[str, Any]

    class PushFields(TypedDict, total=False):
        """What `notifications.replace` takes; see the service's push notifications."""

        title: str | None
        message: str | None
        subtitle: str | None
        icon: str | None
        media: str | None
        redirection: str | None
        actions: Sequence[Action | Object] | None
        payload: Object | None
        badge: int | None
        tags: Sequence[str] | None
        metadata: Object | None

    class SendFields(PushFields, total=False):
        """What `notifications.send` takes."""

        interruption_level: str | None
        sound: str | None
        target: Object | None
        channels: Sequence[str] | str | None

    class StateFields(TypedDict, total=False):
        """The fields of a content state, with what every Live Activity request may carry beside it."""

        content_state: Object | None
        title: str | None
        subtitle: str | None
        type: str | None
        number_of_steps: int | None
        current_step: int | None
        step_color: str | None
        step_colors: Sequence[str] | None
        percentage: float | None
        value: str | float | None
        upper_limit: float | None
        metrics: Sequence[Metric | Object] | None
        message: str | None
        duration_seconds: float | None
        counts_down: bool | None
        is_running: bool | None
        icon: Icon | Object | None
        badge: Badge | Object | None
        color: str | None
        action: Action | Object | None
        secondary_action: Action | Object | None
        tags: Sequence[str] | None
        metadata: Object | None

    class StartFields(StateFields, total=False):
        """What `live_activities.start` takes."""

        alert: Object | None
        target: Object | None
        channels: Sequence[str] | str | None

    class EndFields(StateFields, total=False):
        """What `live_activities.end` takes beside the activity's id."""

        auto_dismiss_minutes: int | None

    class EndStreamFields(EndFields, total=False):
        """What `live_activities.end_stream` takes."""

        auto_dismiss_seconds: int | None
        alert: Object | None

    class StreamFields(EndStreamFields, total=False):
        """What `live_activities.stream` takes."""

        target: Object | None
        channels: Sequence[str] | str | None


__all__ = [
    "ActivitySmith",
    "Answer",
    "AsyncActivitySmith",
    "BadgeAnswer",
    "EndAnswer",
    "MetricAnswer",
    "PushAnswer",
    "StartAnswer",
    "StreamAnswer",
    "UpdateAnswer",
]

MAX_ANSWER_BYTES = 1024 * 1024  # answers are a few hundred bytes; more than this is not the service
TOTAL_SECONDS = 60.0  # all the attempts of one request and the waits between them
FIRST_WAIT, LONGEST_WAIT = 0.5, 8.0  # seconds of the exponential wait, before jitter
LONGEST_RETRY_AFTER = 3600.0  # seconds; an answer that asks for a year of silence is not obeyed
MAX_DIGITS = 400  # of an integer in an answer: no float holds more, and reading 100,000 takes time

A = TypeVar("A", bound="Answer")


# ------------------------------------------------------------------------------------------------------ answers


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
        reason = httpx.codes.get_reason_phrase(status)
        raise status_error(status, body or {}, reason=reason, retry_after=retry_after(headers, now))
    shown = content[:200].decode(errors="replace")
    if body is None:
        raise InvalidAnswer("the answer is not a JSON object", status=status, text=shown)
    for name in kind.needs:
        if not isinstance(body.get(name), str):
            raise InvalidAnswer(f"the answer lacks {name!r}", status=status, text=shown)
    known = {each.name for each in fields(kind)} - {"body"}
    return kind(body, **{name: value for name, value in body.items() if name in known})


def _json_object(content: bytes) -> dict[str, Any] | None:
    try:
        body = json.loads(content, parse_int=_integer, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return None
    return body if isinstance(body, dict) else None


def _integer(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise ValueError("an integer that no float holds")
    return int(digits)


def _no_constant(name: str) -> NoReturn:
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


# ----------------------------------------------------------------------------------------------------- requests


@dataclass(frozen=True)
class Call(Generic[A]):
    """One request, ready to be sent, and the answer that it expects."""

    method: str
    path: str
    body: Mapping[str, Any] | None
    answer: type[A]
    at_least_once: bool = False

    @property
    def repeatable(self) -> bool:
        """True where sending it twice does no harm, or less harm than not at all."""
        return self.at_least_once or self.method in ("PUT", "DELETE")


_STATE_NAMES = frozenset(CONTENT_STATE)


def _merged(request: Object | None, given: Mapping[str, Any]) -> dict[str, Any]:
    """Lay keywords over a request given as one object, as the official SDK takes it."""
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


def send_call(request: Object | None, given: Object, *, at_least_once: bool = False) -> Call[PushAnswer]:
    """Build a push."""
    body = _push_body("send", request, given)
    return Call("POST", "/push-notification", body, PushAnswer, at_least_once)


def replace_call(notification_id: str, request: Object | None, given: Object) -> Call[PushAnswer]:
    """Build the replacement of a push."""
    identifier = quote(check_identifier("notification_id", notification_id), safe="")
    return Call("PUT", f"/push-notification/{identifier}", _push_body("replace", request, given), PushAnswer)


def stream_call(stream_key: str, request: Object | None, given: Object) -> Call[StreamAnswer]:
    """Build the start or update of a stream."""
    path = f"/live-activity/stream/{check_stream_key('stream_key', stream_key)}"
    return Call("PUT", path, _activity_body("stream", request, given), StreamAnswer)


def end_stream_call(stream_key: str, request: Object | None, given: Object) -> Call[StreamAnswer]:
    """Build the end of a stream; without any field it has no body."""
    path = f"/live-activity/stream/{check_stream_key('stream_key', stream_key)}"
    return Call("DELETE", path, _activity_body("end_stream", request, given) or None, StreamAnswer)


def owed_call(kind: str, stream_key: str, body: Object, *, at_least_once: bool = False) -> Call[Any]:
    """Build what a job still owes.

    Args:
        kind: `end` of a stream, `keep` for the last state of a card that stays up, or `push`.
        stream_key: the stream, for `end` and `keep`.
        body: the request's body.
        at_least_once: True where a push may be repeated although it may have arrived.
    """
    if kind == "push":
        return send_call(None, body, at_least_once=at_least_once)
    return end_stream_call(stream_key, None, body) if kind == "end" else stream_call(stream_key, None, body)


def start_call(request: Object | None, given: Object, *, at_least_once: bool = False) -> Call[StartAnswer]:
    """Build the start of a Live Activity."""
    body = _activity_body("start", request, given)
    return Call("POST", "/live-activity/start", body, StartAnswer, at_least_once)


def update_call(request: Object | None, given: Object, *, at_least_once: bool = False) -> Call[UpdateAnswer]:
    """Build the update of a Live Activity."""
    body = _activity_body("update", request, given)
    return Call("POST", "/live-activity/update", body, UpdateAnswer, at_least_once)


def end_call(request: Object | None, given: Object, *, at_least_once: bool = False) -> Call[EndAnswer]:
    """Build the end of a Live Activity."""
    return Call("POST", "/live-activity/end", _activity_body("end", request, given), EndAnswer, at_least_once)


def metric_call(
    key: str, value: Any, timestamp: datetime | str | None, *, at_least_once: bool = False
) -> Call[MetricAnswer]:
    """Build a widget's metric; the value may be the whole body, as the official SDK takes it."""
    body = dict(value) if isinstance(value, Mapping) else {"value": value}
    if timestamp is not None:
        body["timestamp"] = timestamp
    path = f"/metrics/{check_metric_key('key', key)}/value"
    return Call("POST", path, check_body("metric", body), MetricAnswer, at_least_once)


def badge_call(value: int, channels: Any, *, at_least_once: bool = False) -> Call[BadgeAnswer]:
    """Build the app icon's badge."""
    body = check_body("badge", with_target({"badge": value, "channels": channels}))
    return Call("POST", "/badge", body, BadgeAnswer, at_least_once)


# --------------------------------------------------------------------------------------------------- one more try


def worth_another_try(call: Call[Any], error: BaseException) -> bool:
    """Decide whether a request that failed may be sent again.

    A request that surely did not reach the service, or that the rate limit turned away, may always be; what may have
    been carried out only where a repetition does no harm.
    """
    if isinstance(error, DeliveryError):
        return call.repeatable or error.delivered is False
    if isinstance(error, RateLimited):
        return True
    return isinstance(error, StatusError) and error.status in (502, 503, 504) and call.repeatable


class _Wait(tenacity.wait.wait_base):
    """Exponential with full jitter, or what `Retry-After` asks for where that is longer."""

    _backoff = tenacity.wait_random_exponential(multiplier=FIRST_WAIT, max=LONGEST_WAIT)

    def __call__(self, retry_state: tenacity.RetryCallState) -> float:
        wanted = self._backoff(retry_state)
        error = retry_state.outcome.exception() if retry_state.outcome else None
        return max(wanted, getattr(error, "retry_after", None) or 0.0)


# ------------------------------------------------------------------------------------------------- the two clients


@contextmanager
def _explained(attempt: _Attempt) -> Iterator[None]:
    """Turn httpx's exceptions into this library's."""
    try:
        yield
    except (httpx.ConnectTimeout, httpx.PoolTimeout) as error:
        raise RequestTimedOut(f"no connection to the service in time: {error}", delivered=False) from _bare(error)
    except (httpx.TimeoutException, TimeoutError) as error:
        words = "the service did not finish its answer in time"
        raise RequestTimedOut(words, delivered=attempt.delivered) from _bare(error)
    except (httpx.ConnectError, httpx.UnsupportedProtocol, httpx.ProxyError) as error:
        raise ConnectionFailed(f"no connection to the service: {error}", delivered=False) from _bare(error)
    except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:  # the latter two from a user's transport
        raise ConnectionFailed(f"the connection to the service broke: {error}") from _bare(error)
    except OSError as error:  # from below httpx: the job has closed descriptors that are not its own
        raise ConnectionFailed(f"the connection to the service was closed: {error}") from _bare(error)


def _bare(error: BaseException) -> BaseException:
    """Take away the frames in which the libraries underneath hold the request's headers, and so the key."""
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)


class _Attempt:
    """One attempt at a request: what it may take in all, of time and of memory."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._until = clock, clock() + seconds
        self._unzip: Any = None
        self._stream: Any = None
        self.delivered: bool | None = None  # False while a connection is being made for it
        self.status, self.retry_after = 0, ""
        self.content = bytearray()
        self.part = b""  # no local of a frame: an answer may repeat the key, and a traceback may print locals

    def left(self) -> float:
        """Return how many seconds are left; raises httpx's own timeout if there are none."""
        seconds = self._until - self._clock()
        if seconds <= 0:
            raise httpx.ReadTimeout("the deadline of the whole attempt")
        return seconds

    def begin(self, response: httpx.Response) -> bool:
        """Note the head of the answer, and tell whether its body is still to be read from the connection.

        Some transports have read it by then, as httpx.MockTransport does: it is taken as it is, decoded. One that is
        zipped although nobody asked for it is unzipped while it is read, within bounds.
        """
        self.status = response.status_code
        self.retry_after = response.headers.get("retry-after", "")
        try:
            self.part = response.content
        except httpx.ResponseNotRead:
            if response.headers.get("content-encoding", "").strip().lower() == "gzip":
                self._unzip = zlib.decompressobj(zlib.MAX_WBITS | 32)
            return True
        self.gather()
        return False

    def gather(self) -> None:
        """Take `part` to the answer's body."""
        self.left()
        if self._unzip is not None:
            self._unzip_part()
        self.content += self.part
        if len(self.content) > MAX_ANSWER_BYTES:
            raise InvalidAnswer(f"the answer is longer than {MAX_ANSWER_BYTES} bytes", status=self.status)

    def _unzip_part(self) -> None:
        try:
            self.part = self._unzip.decompress(self.part, MAX_ANSWER_BYTES + 1 - len(self.content))
        except zlib.error:
            raise InvalidAnswer("the answer is not the gzip that it says", status=self.status) from None

    def see(self, event: str, info: Mapping[str, Any]) -> None:
        """Follow what happens underneath; this is httpx's `trace` extension.

        httpx gives every read a timeout of its own, so that a header that comes byte by byte could take for ever:
        from here on each new connection reads and writes within what its attempt has left.
        """
        self._note(event)
        if event.endswith((".connect_tcp.complete", ".start_tls.complete")):
            stream = info["return_value"]
            with suppress(AttributeError):  # rather no deadline than no request, should httpcore close the class
                for name in ("read", "write"):
                    setattr(stream, name, partial(_within, getattr(stream, name)))

    async def see_async(self, event: str, info: Mapping[str, Any]) -> None:
        """Follow what happens underneath; there the event loop keeps the deadline."""
        self._note(event)
        if event.endswith(".connect_tcp.complete"):
            self._stream = info["return_value"]

    async def abandon(self) -> None:
        """Close a connection whose TLS handshake was cut short: httpcore leaves it to the garbage collector."""
        if self.delivered is False and self._stream is not None:
            import anyio

            with anyio.CancelScope(shield=True):
                await self._stream.aclose()

    def _note(self, event: str) -> None:
        if event.endswith(".connect_tcp.started"):
            self.delivered = False
        elif event.endswith(".send_request_headers.started"):
            self.delivered = None


_running: ContextVar[_Attempt | None] = ContextVar("activitysmith_attempt", default=None)


def _within(carry: Callable[..., Any], what: Any, timeout: float | None = None) -> Any:
    """Read or write on a connection, within the time that the running attempt has left."""
    attempt = _running.get()
    if attempt is not None:  # pragma: no branch  # nobody else has the connection
        timeout = attempt.left() if timeout is None else min(timeout, attempt.left())
    return carry(what, timeout=timeout)


class _NoCookies(CookieJar):
    """Keeps nothing of what a service sets."""

    def extract_cookies(self, response: object, request: object) -> None:
        """Keep nothing."""


class _Secret:
    """An API key whose repr says nothing, for the locals of frames that a traceback may print."""

    def __init__(self, text: str) -> None:
        self._reveal: Callable[[], str] = lambda: text

    def reveal(self) -> str:
        """Return the key."""
        return self._reveal()

    def __repr__(self) -> str:
        return "'...'"


def _secret(api_key: str | None) -> _Secret | None:
    """Find the key, and hide it."""
    key = find_api_key(api_key)
    return _Secret(key) if key else None


class _Client:
    """What both clients are: settings, headers and the retry policy."""

    _base_url = ""  # for the repr of one that could not be made

    def __init__(
        self, key: _Secret | None, *, base_url: str | None, timeout: float, max_attempts: int, transport: Any
    ) -> None:
        if key is None:
            raise MissingAPIKey("no API key: pass api_key, or set ACTIVITYSMITH_API_KEY")
        if not isinstance(timeout, (int, float)) or not 0 < timeout < float("inf"):
            raise InvalidRequest("timeout", timeout, "seconds, more than 0")
        if isinstance(max_attempts, bool) or not isinstance(max_attempts, int) or max_attempts < 1:
            raise InvalidRequest("max_attempts", max_attempts, "an integer of at least 1")
        self._base_url = find_base_url(base_url)
        self._timeout, self._max_attempts = timeout, max_attempts
        self._key = _Secret(check_api_key(key.reveal()))
        self._options: dict[str, Any] = {
            "headers": httpx.Headers(  # whose repr hides the key
                {
                    "Authorization": f"Bearer {self._key.reveal()}",
                    "Accept": "application/json",
                    "Accept-Encoding": "identity",
                    "User-Agent": "activitysmith-track",
                }
            ),
            "timeout": timeout,
            "transport": transport,
            "follow_redirects": False,
            "cookies": _NoCookies(),
            "verify": True,
            "trust_env": True,
            "mounts": _unproxied(self._base_url),
        }

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._base_url}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"{type(self).__name__} holds an API key and connections: it cannot be pickled or copied")

    def _request(self, call: Call[Any], trace: Callable[..., Any]) -> dict[str, Any]:
        """Return what httpx is told; a request without a body has no content type."""
        told: dict[str, Any] = {
            "method": call.method,
            "url": self._base_url + call.path,
            "extensions": {"trace": trace},
        }
        if call.body is not None:
            told["json"] = call.body
        return told

    def _read(self, call: Call[A], attempt: _Attempt) -> A:
        """Read an answer; what a service repeats of the request's headers does not bring the key into a log."""
        content = bytes(attempt.content).replace(self._key.reveal().encode(), b"***")
        headers = {"retry-after": attempt.retry_after}
        return read_answer(call.answer, attempt.status, headers, content, time.time())

    def _retrying(self, call: Call[Any]) -> dict[str, Any]:
        return {
            "retry": tenacity.retry_if_exception(lambda error: worth_another_try(call, error)),
            "wait": _Wait(),
            "stop": tenacity.stop_after_attempt(self._max_attempts) | tenacity.stop_before_delay(TOTAL_SECONDS),
            "reraise": True,
        }


def _unproxied(base_url: str) -> dict[str, None]:
    """Have no proxy stand between this machine and itself; the host is that which httpx will connect to.

    Raises:
        InvalidRequest: for a host that httpx cannot connect to, such as a broken `xn--` name.
    """
    try:
        host = httpx.URL(base_url).host
    except (httpx.InvalidURL, ValueError) as error:
        raise InvalidRequest("base_url", base_url, f"a host that there can be ({error})") from None
    return {f"all://{bracketed(host)}": None} if is_loopback(host) else {}


class ActivitySmith(_Client):
    """The service's API.

    Args:
        api_key: the key; `None` takes it from `ACTIVITYSMITH_API_KEY`.
        base_url: `None` takes `ACTIVITYSMITH_BASE_URL`, or the service's own address. https, or http to loopback.
        timeout: seconds for one attempt in all: connecting, sending, and the whole of its answer. Only what the
            operating system does not bound is left out: looking up the host's name, and trying its next address.
        max_attempts: how often one request is tried, 1 or more, within 60 s in all. PUT and DELETE are tried again
            after connection failures, timeouts, rate limits, 502, 503 and 504; POST only where the request surely
            was not carried out, unless the call says `at_least_once=True`. `Retry-After` is honoured.
        transport: an httpx transport, for tests (`httpx.MockTransport`) or a proxy of one's own. It is closed with
            the client; what it raises that is neither httpx's nor an `OSError` comes out as it is.

    Raises:
        MissingAPIKey: without a key.
        InvalidRequest: for an unusable setting.

    Example::

        with ActivitySmith() as service:
            service.notifications.send(title="Backup finished")
    """

    def __init__(
        self,
        api_key: str | None = None,
        *,
        base_url: str | None = None,
        timeout: float = 10.0,
        max_attempts: int = 4,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        api_key = key = _secret(api_key)  # type: ignore[assignment]  # a traceback may print this frame's locals
        super().__init__(key, base_url=base_url, timeout=timeout, max_attempts=max_attempts, transport=transport)
        self._http = httpx.Client(**self._options)
        self.notifications = Notifications(self)
        self.live_activities = LiveActivities(self)
        self.metrics = Metrics(self)

    def perform(self, call: Call[A], seconds: float | None = None) -> A:
        """Send a request that is already built, and try again as the policy allows.

        Args:
            call: the request.
            seconds: what one attempt may take at most, where that is less than the client's `timeout`.
        """
        timeout = self._timeout if seconds is None else min(seconds, self._timeout)
        answer: A = tenacity.Retrying(**self._retrying(call))(self._attempt, call, timeout)
        return answer

    def _attempt(self, call: Call[A], timeout: float) -> A:
        return self._read(call, self._carry(call, timeout))

    def _carry(self, call: Call[Any], timeout: float) -> _Attempt:
        attempt = _Attempt(timeout)
        told = {**self._request(call, attempt.see), "timeout": timeout}
        before = _running.set(attempt)
        try:
            with _explained(attempt), self._http.stream(**told) as response:
                if attempt.begin(response):
                    for attempt.part in response.iter_raw():
                        attempt.gather()
        finally:
            _running.reset(before)
        return attempt

    def badge_count(
        self, value: int, *, channels: Sequence[str] | str | None = None, at_least_once: bool = False
    ) -> BadgeAnswer:
        """Set the app icon's badge: 0 to 2147483647, 0 clears it (`POST /badge`)."""
        return self.perform(badge_call(value, channels, at_least_once=at_least_once))

    @property
    def is_closed(self) -> bool:
        """True once the connections were closed: no request can be sent any more."""
        return self._http.is_closed

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Notifications:
    """Push notifications: `client.notifications`."""

    def __init__(self, client: ActivitySmith) -> None:
        self._client = client

    def send(
        self, request: Object | None = None, /, *, at_least_once: bool = False, **given: Unpack[SendFields]
    ) -> PushAnswer:
        """Send a push (`POST /push-notification`); `title` is required.

        Args:
            request: the fields as one object; keywords win over it.
            at_least_once: try again even where the push may have been delivered.
            **given: the service's fields, up to four `actions`, or `media`.

        Raises:
            InvalidRequest: before anything is sent.
            StatusError: for an answer that is not a 2xx.
            DeliveryError: where no answer came.
        """
        return self._client.perform(send_call(request, given, at_least_once=at_least_once))

    def replace(
        self, notification_id: str, request: Object | None = None, /, **given: Unpack[PushFields]
    ) -> PushAnswer:
        """Replace what a delivered push shows (`PUT /push-notification/{notification_id}`).

        It arrives silently and keeps its id. Everything visible is overwritten, so `title` is required; tags and
        metadata stay where they are left out. Raises as `send` does.
        """
        return self._client.perform(replace_call(notification_id, request, given))


class LiveActivities:
    """Live Activities: `client.live_activities`.

    The fields of the content state are given as keywords, or in `content_state=`; keywords win. All methods raise
    `InvalidRequest` before anything is sent, `StatusError` for an answer that is not a 2xx, and `DeliveryError`
    where no answer came.
    """

    def __init__(self, client: ActivitySmith) -> None:
        self._client = client

    def stream(
        self, stream_key: str, request: Object | None = None, /, **given: Unpack[StreamFields]
    ) -> StreamAnswer:
        """Start or update the activity of a stream (`PUT /live-activity/stream/{stream_key}`).

        `type` belongs in every call: after an end, the next one starts afresh.
        """
        return self._client.perform(stream_call(stream_key, request, given))

    def end_stream(
        self, stream_key: str, request: Object | None = None, /, **given: Unpack[EndStreamFields]
    ) -> StreamAnswer:
        """End the activity of a stream, with a last state or as it stands (`DELETE`)."""
        return self._client.perform(end_stream_call(stream_key, request, given))

    def start(
        self, request: Object | None = None, /, *, at_least_once: bool = False, **given: Unpack[StartFields]
    ) -> StartAnswer:
        """Start a Live Activity (`POST /live-activity/start`); `title` and `type` are required."""
        return self._client.perform(start_call(request, given, at_least_once=at_least_once))

    def update(
        self,
        request: Object | None = None,
        /,
        *,
        activity_id: str | None = None,
        at_least_once: bool = False,
        **given: Unpack[StateFields],
    ) -> UpdateAnswer:
        """Update a started Live Activity (`POST /live-activity/update`); `title` is required."""
        fields = {"activity_id": activity_id, **given}
        return self._client.perform(update_call(request, fields, at_least_once=at_least_once))

    def end(
        self,
        request: Object | None = None,
        /,
        *,
        activity_id: str | None = None,
        at_least_once: bool = False,
        **given: Unpack[EndFields],
    ) -> EndAnswer:
        """End a started Live Activity (`POST /live-activity/end`); `title` is required."""
        fields = {"activity_id": activity_id, **given}
        return self._client.perform(end_call(request, fields, at_least_once=at_least_once))


class Metrics:
    """Widgets' metrics: `client.metrics`."""

    def __init__(self, client: ActivitySmith) -> None:
        self._client = client

    def update(
        self,
        key: str,
        value: float | str | Object,
        timestamp: datetime | str | None = None,
        *,
        at_least_once: bool = False,
    ) -> MetricAnswer:
        """Set the value of a widget's metric (`POST /metrics/{key}/value`).

        Args:
            key: 1 to 64 of a-z, 0-9, `_`, `.`, `-`; the metric must exist in the web app.
            value: a finite number, or 1 to 64 characters.
            timestamp: when it was measured, ISO 8601 or a datetime with a time zone; now by default.
            at_least_once: try again even where the value may have been delivered.
        """
        return self._client.perform(metric_call(key, value, timestamp, at_least_once=at_least_once))


class AsyncActivitySmith(_Client):
    """`ActivitySmith` for asyncio: the same arguments, methods and errors, awaited.

    Example::

        async with AsyncActivitySmith() as service:
            await service.notifications.send(title="Backup finished")
    """

    def __init__(
        self,
        api_key: str | None = None,
        *,
        base_url: str | None = None,
        timeout: float = 10.0,
        max_attempts: int = 4,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        api_key = key = _secret(api_key)  # type: ignore[assignment]  # a traceback may print this frame's locals
        super().__init__(key, base_url=base_url, timeout=timeout, max_attempts=max_attempts, transport=transport)
        self._http = httpx.AsyncClient(**self._options)
        self.notifications = AsyncNotifications(self)
        self.live_activities = AsyncLiveActivities(self)
        self.metrics = AsyncMetrics(self)

    async def perform(self, call: Call[A]) -> A:
        """Send a request that is already built, and try again as the policy allows."""
        answer: A = await tenacity.AsyncRetrying(**self._retrying(call))(self._attempt, call)
        return answer

    async def _attempt(self, call: Call[A]) -> A:
        return self._read(call, await self._carry(call))

    async def _carry(self, call: Call[Any]) -> _Attempt:
        import anyio

        attempt = _Attempt(self._timeout)
        try:
            with _explained(attempt), anyio.fail_after(self._timeout):
                async with self._http.stream(**self._request(call, attempt.see_async)) as response:
                    if attempt.begin(response):
                        async for attempt.part in response.aiter_raw():
                            attempt.gather()
        except BaseException:
            await attempt.abandon()
            raise
        return attempt

    async def badge_count(
        self, value: int, *, channels: Sequence[str] | str | None = None, at_least_once: bool = False
    ) -> BadgeAnswer:
        """Await `ActivitySmith.badge_count`."""
        return await self.perform(badge_call(value, channels, at_least_once=at_least_once))

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


class AsyncNotifications:
    """`Notifications`, awaited."""

    def __init__(self, client: AsyncActivitySmith) -> None:
        self._client = client

    async def send(
        self, request: Object | None = None, /, *, at_least_once: bool = False, **given: Unpack[SendFields]
    ) -> PushAnswer:
        """Await `Notifications.send`."""
        return await self._client.perform(send_call(request, given, at_least_once=at_least_once))

    async def replace(
        self, notification_id: str, request: Object | None = None, /, **given: Unpack[PushFields]
    ) -> PushAnswer:
        """Await `Notifications.replace`."""
        return await self._client.perform(replace_call(notification_id, request, given))


class AsyncLiveActivities:
    """`LiveActivities`, awaited."""

    def __init__(self, client: AsyncActivitySmith) -> None:
        self._client = client

    async def stream(
        self, stream_key: str, request: Object | None = None, /, **given: Unpack[StreamFields]
    ) -> StreamAnswer:
        """Await `LiveActivities.stream`."""
        return await self._client.perform(stream_call(stream_key, request, given))

    async def end_stream(
        self, stream_key: str, request: Object | None = None, /, **given: Unpack[EndStreamFields]
    ) -> StreamAnswer:
        """Await `LiveActivities.end_stream`."""
        return await self._client.perform(end_stream_call(stream_key, request, given))

    async def start(
        self, request: Object | None = None, /, *, at_least_once: bool = False, **given: Unpack[StartFields]
    ) -> StartAnswer:
        """Await `LiveActivities.start`."""
        return await self._client.perform(start_call(request, given, at_least_once=at_least_once))

    async def update(
        self,
        request: Object | None = None,
        /,
        *,
        activity_id: str | None = None,
        at_least_once: bool = False,
        **given: Unpack[StateFields],
    ) -> UpdateAnswer:
        """Await `LiveActivities.update`."""
        fields = {"activity_id": activity_id, **given}
        return await self._client.perform(update_call(request, fields, at_least_once=at_least_once))

    async def end(
        self,
        request: Object | None = None,
        /,
        *,
        activity_id: str | None = None,
        at_least_once: bool = False,
        **given: Unpack[EndFields],
    ) -> EndAnswer:
        """Await `LiveActivities.end`."""
        fields = {"activity_id": activity_id, **given}
        return await self._client.perform(end_call(request, fields, at_least_once=at_least_once))


class AsyncMetrics:
    """`Metrics`, awaited."""

    def __init__(self, client: AsyncActivitySmith) -> None:
        self._client = client

    async def update(
        self,
        key: str,
        value: float | str | Object,
        timestamp: datetime | str | None = None,
        *,
        at_least_once: bool = False,
    ) -> MetricAnswer:
        """Await `Metrics.update`."""
        return await self._client.perform(metric_call(key, value, timestamp, at_least_once=at_least_once))
