"""The service's API for code without asyncio: each call waits for its answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import tenacity

from .._endpoint import find_secret
from . import requests
from .transport import Attempt, Configured, explained, running

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from types import TracebackType

    from typing_extensions import Self, Unpack

    from .answers import A, BadgeAnswer, EndAnswer, MetricAnswer, PushAnswer, StartAnswer, StreamAnswer, UpdateAnswer
    from .fields import (
        EndFields,
        EndStreamFields,
        Object,
        PushFields,
        SendFields,
        StartFields,
        StateFields,
        StreamFields,
    )
    from .requests import Request


class ActivitySmith(Configured):
    """The service's API.

    Args:
        api_key: the key; `None` takes it from `ACTIVITYSMITH_API_KEY`.
        base_url: `None` takes `ACTIVITYSMITH_BASE_URL`, or the service's own address. https, or http to loopback.
        timeout: seconds for one whole attempt: connecting, sending, and reading the answer. Two things are not
            bounded by it: looking up the host's name, and trying the host's next address.
        max_attempts: how often one request is tried, 1 or more, within 60 s in all. PUT and DELETE are tried again
            after connection failures, timeouts, rate limits, 502, 503, 504 and answers of others than the service
            (`StatusError.foreign`); POST only where the request surely was not carried out, unless the call says
            `at_least_once=True`. `Retry-After` is honoured.
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
        api_key = key = find_secret(api_key)  # type: ignore[assignment]  # a traceback may print this frame's locals
        super().__init__(key, base_url=base_url, timeout=timeout, max_attempts=max_attempts, transport=transport)
        self._http = httpx.Client(**self._options)
        self.notifications = Notifications(self)
        self.live_activities = LiveActivities(self)
        self.metrics = WidgetMetrics(self)

    def perform(self, request: Request[A], seconds: float | None = None) -> A:
        """Send a request that is already built, and try again as the policy allows.

        Args:
            request: what to send.
            seconds: what one attempt may take at most, where that is less than the client's `timeout`.
        """
        timeout = self._timeout if seconds is None else min(seconds, self._timeout)
        answer: A = tenacity.Retrying(**self._retrying(request))(self._attempt, request, timeout)
        return answer

    def _attempt(self, request: Request[A], timeout: float) -> A:
        return self._read(request, self._carry(request, timeout))

    def _carry(self, request: Request[Any], timeout: float) -> Attempt:
        attempt = Attempt(timeout)
        told = {**self._request(request, attempt.see), "timeout": timeout}
        before = running.set(attempt)
        try:
            with explained(attempt), self._http.stream(**told) as response:
                if attempt.begin(response):
                    for attempt.part in response.iter_raw():
                        attempt.gather()
        finally:
            running.reset(before)
        return attempt

    def badge_count(
        self, value: int, *, channels: Sequence[str] | str | None = None, at_least_once: bool = False
    ) -> BadgeAnswer:
        """Set the app icon's badge: 0 to 2147483647, 0 clears it (`POST /badge`)."""
        return self.perform(requests.badge_request(value, channels, at_least_once=at_least_once))

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
        return self._client.perform(requests.send_request(request, given, at_least_once=at_least_once))

    def replace(
        self, notification_id: str, request: Object | None = None, /, **given: Unpack[PushFields]
    ) -> PushAnswer:
        """Replace what a delivered push shows (`PUT /push-notification/{notification_id}`).

        It arrives silently and keeps its id. Everything visible is overwritten, so `title` is required; tags and
        metadata stay as they are if they are left out. Raises as `send` does.
        """
        return self._client.perform(requests.replace_request(notification_id, request, given))


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
        return self._client.perform(requests.stream_request(stream_key, request, given))

    def end_stream(
        self, stream_key: str, request: Object | None = None, /, **given: Unpack[EndStreamFields]
    ) -> StreamAnswer:
        """End the activity of a stream, with a last state or as it stands (`DELETE`)."""
        return self._client.perform(requests.end_stream_request(stream_key, request, given))

    def start(
        self, request: Object | None = None, /, *, at_least_once: bool = False, **given: Unpack[StartFields]
    ) -> StartAnswer:
        """Start a Live Activity (`POST /live-activity/start`); `title` and `type` are required."""
        return self._client.perform(requests.start_request(request, given, at_least_once=at_least_once))

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
        return self._client.perform(requests.update_request(request, fields, at_least_once=at_least_once))

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
        return self._client.perform(requests.end_request(request, fields, at_least_once=at_least_once))


class WidgetMetrics:
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
        return self._client.perform(requests.metric_request(key, value, timestamp, at_least_once=at_least_once))
