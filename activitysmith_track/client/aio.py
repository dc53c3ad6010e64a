"""The service's API for asyncio: what `sync` has, awaited."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import tenacity

from .._endpoint import find_secret
from . import requests
from .transport import Attempt, Configured, explained

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


class AsyncActivitySmith(Configured):
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
        api_key = key = find_secret(api_key)  # type: ignore[assignment]  # a traceback may print this frame's locals
        super().__init__(key, base_url=base_url, timeout=timeout, max_attempts=max_attempts, transport=transport)
        self._http = httpx.AsyncClient(**self._options)
        self.notifications = AsyncNotifications(self)
        self.live_activities = AsyncLiveActivities(self)
        self.metrics = AsyncWidgetMetrics(self)

    async def perform(self, request: Request[A]) -> A:
        """Send a request that is already built, and try again as the policy allows."""
        answer: A = await tenacity.AsyncRetrying(**self._retrying(request))(self._attempt, request)
        return answer

    async def _attempt(self, request: Request[A]) -> A:
        return self._read(request, await self._carry(request))

    async def _carry(self, request: Request[Any]) -> Attempt:
        import anyio

        attempt = Attempt(self._timeout)
        try:
            with explained(attempt), anyio.fail_after(self._timeout):
                async with self._http.stream(**self._request(request, attempt.see_async)) as response:
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
        return await self.perform(requests.badge_request(value, channels, at_least_once=at_least_once))

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
        return await self._client.perform(requests.send_request(request, given, at_least_once=at_least_once))

    async def replace(
        self, notification_id: str, request: Object | None = None, /, **given: Unpack[PushFields]
    ) -> PushAnswer:
        """Await `Notifications.replace`."""
        return await self._client.perform(requests.replace_request(notification_id, request, given))


class AsyncLiveActivities:
    """`LiveActivities`, awaited."""

    def __init__(self, client: AsyncActivitySmith) -> None:
        self._client = client

    async def stream(
        self, stream_key: str, request: Object | None = None, /, **given: Unpack[StreamFields]
    ) -> StreamAnswer:
        """Await `LiveActivities.stream`."""
        return await self._client.perform(requests.stream_request(stream_key, request, given))

    async def end_stream(
        self, stream_key: str, request: Object | None = None, /, **given: Unpack[EndStreamFields]
    ) -> StreamAnswer:
        """Await `LiveActivities.end_stream`."""
        return await self._client.perform(requests.end_stream_request(stream_key, request, given))

    async def start(
        self, request: Object | None = None, /, *, at_least_once: bool = False, **given: Unpack[StartFields]
    ) -> StartAnswer:
        """Await `LiveActivities.start`."""
        return await self._client.perform(requests.start_request(request, given, at_least_once=at_least_once))

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
        return await self._client.perform(requests.update_request(request, fields, at_least_once=at_least_once))

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
        return await self._client.perform(requests.end_request(request, fields, at_least_once=at_least_once))


class AsyncWidgetMetrics:
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
        return await self._client.perform(requests.metric_request(key, value, timestamp, at_least_once=at_least_once))
