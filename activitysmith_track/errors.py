"""Everything that this library raises, under one base class.

::

    ActivitySmithError
    ├── InvalidRequest            (also ValueError)   said before anything is sent
    ├── MissingAPIKey             (also ValueError)   no key given and none in the environment
    ├── DeliveryError                                 no answer came back
    │   ├── ConnectionFailed      (also ConnectionError)
    │   └── RequestTimedOut       (also TimeoutError)
    ├── InvalidAnswer                                 an answer came back that cannot be read
    └── StatusError                                   an answer came back, and it was not a 2xx
        ├── BadRequest            400
        ├── Unauthorized          401
        ├── PaymentRequired       402   upgrade_url, trial_period
        ├── Forbidden             403
        ├── NotFound              404
        ├── Conflict              409
        ├── Unprocessable         422   code
        │   └── NoRecipients      422 (404 from older deployments)   effective_channel_slugs
        ├── TooManyRequests       429   retry_after
        │   ├── RateLimited
        │   └── ActivityLimitReached    limit, active, blocked_devices, targeted_devices
        └── ServerError           5xx   code

Handles and decorators raise only `InvalidRequest` (and `TypeError` for a wrong signature), and only where they
are made: what happens on the way to the service is logged, never raised into the job.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "ActivityLimitReached",
    "ActivitySmithError",
    "BadRequest",
    "Conflict",
    "ConnectionFailed",
    "DeliveryError",
    "Forbidden",
    "InvalidAnswer",
    "InvalidRequest",
    "MissingAPIKey",
    "NoRecipients",
    "NotFound",
    "PaymentRequired",
    "RateLimited",
    "RequestTimedOut",
    "ServerError",
    "StatusError",
    "TooManyRequests",
    "Unauthorized",
    "Unprocessable",
]

_LONGEST_VALUE = 80  # characters of a refused value that an error message repeats
_LONGEST_TOLD = 1_000  # characters of a service's own words


class ActivitySmithError(Exception):
    """The base of every exception of this library."""


class InvalidRequest(ActivitySmithError, ValueError):
    """A request, an option or a setting that the service could not accept, refused before anything is sent.

    Attributes:
        field: the path of what is wrong, such as `content_state.metrics[2].label`.
        value: what was given.
        allowed: what would be accepted, in words.
    """

    def __init__(self, field: str, value: object, allowed: str) -> None:
        self.field = field
        self.value = value
        self.allowed = allowed
        super().__init__(f"{field}: {_brief(value)} is not allowed; expected {allowed}")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.field, self.value, self.allowed)


def _brief(value: object) -> str:
    """Shorten a value for a message; never raises, whatever its `__repr__` does."""
    try:
        text = repr(value)
    except Exception:
        text = f"<{type(value).__name__} object>"
    return text if len(text) <= _LONGEST_VALUE else text[: _LONGEST_VALUE - 3] + "..."


class MissingAPIKey(ActivitySmithError, ValueError):
    """The client was made without an API key, and `ACTIVITYSMITH_API_KEY` holds none."""


class DeliveryError(ActivitySmithError):
    """No answer came back.

    Attributes:
        delivered: `False` when the request surely never reached the service, `None` when nobody can tell.
    """

    def __init__(self, message: str, *, delivered: bool | None = None) -> None:
        self.delivered = delivered
        super().__init__(message)


class ConnectionFailed(DeliveryError, ConnectionError):
    """The connection could not be made, or broke before the whole answer had come."""


class RequestTimedOut(DeliveryError, TimeoutError):
    """The service did not answer in time."""


class InvalidAnswer(ActivitySmithError):
    """The service answered with something that is not the documented JSON object.

    Attributes:
        status: the HTTP status.
        text: the beginning of what came, up to 200 characters.
    """

    def __init__(self, message: str, *, status: int, text: str = "") -> None:
        self.status = status
        self.text = text[:200]
        self._message = message
        super().__init__(f"{message} (status {status})")

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(type(self), status=self.status, text=self.text), (self._message,)


class StatusError(ActivitySmithError):
    """The service answered with another status than 2xx.

    Attributes:
        status: the HTTP status.
        error: the body's `error`, up to 1,000 characters, or the status in words where the body has none.
        message: the body's `message`, up to 1,000 characters, or an empty string.
        body: the body as sent: a dict, or `{}` where it was not a JSON object.
        retry_after: seconds that the service asks to wait, from the `Retry-After` header, or `None`.
        foreign: True where this is not the service's own answer, but that of something on the way to it: a proxy, a
            sign-in page, a firewall. It says nothing about the request, so that it is a plain `StatusError`, 429 and
            5xx aside.
    """

    def __init__(
        self,
        status: int,
        body: Mapping[str, Any],
        *,
        reason: str = "",
        retry_after: float | None = None,
        foreign: bool = False,
    ) -> None:
        self.status = status
        self.foreign = foreign
        self.body = dict(body)
        self.error = _told(body.get("error")) or reason or f"HTTP {status}"
        self.message = _told(body.get("message"))
        self.retry_after = retry_after
        super().__init__(f"{status} {self.error}" + (f": {self.message}" if self.message else ""))

    def __reduce__(self) -> tuple[Any, ...]:
        rebuild = partial(type(self), reason=self.error, retry_after=self.retry_after, foreign=self.foreign)
        return rebuild, (self.status, self.body)

    @property
    def code(self) -> str | None:
        """The body's machine-readable `code`, such as `rate_limited` or `badge_update_failed`."""
        return _text_or_none(self.body.get("code"))


def _told(value: object) -> str:
    """Return what a service says of an error, as text that any log can carry."""
    if isinstance(value, str):
        return value[:_LONGEST_TOLD].encode("utf-8", "replace").decode()
    return str(value) if isinstance(value, (int, float)) and value else ""


def _text_or_none(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _integer_or_none(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


class BadRequest(StatusError):
    """400: the service refused the request as malformed."""


class Unauthorized(StatusError):
    """401: the API key is missing or wrong."""


class PaymentRequired(StatusError):
    """402: the trial or the plan does not cover the request."""

    @property
    def upgrade_url(self) -> str | None:
        """Where the plan can be changed."""
        return _text_or_none(self.body.get("upgrade_url"))

    @property
    def trial_period(self) -> dict[str, Any] | None:
        """`started_at` and `ends_at` of the trial, where the service tells them."""
        found = self.body.get("trial_period")
        return found if isinstance(found, dict) else None


class Forbidden(StatusError):
    """403: the API key may not do this, or may not reach these channels."""


class NotFound(StatusError):
    """404: no such stream, notification or metric."""


class Conflict(StatusError):
    """409: the notification is in a state that cannot be replaced."""


class Unprocessable(StatusError):
    """422: the request was understood and could not be carried out; `code` may say why."""


class NoRecipients(Unprocessable):
    """422, or 404 from older deployments: no device matched the target channels."""

    @property
    def effective_channel_slugs(self) -> list[str]:
        """The channels that the service looked in."""
        found = self.body.get("effective_channel_slugs")
        return [slug for slug in found if isinstance(slug, str)] if isinstance(found, list) else []


class TooManyRequests(StatusError):
    """429 in either shape; `retry_after` holds the seconds to wait where the service named them."""


class RateLimited(TooManyRequests):
    """429: too many requests a minute."""


class ActivityLimitReached(TooManyRequests):
    """429: as many Live Activities are running as the account may have at once."""

    @property
    def limit(self) -> int | None:
        """How many Live Activities may run at once."""
        return _integer_or_none(self.body.get("limit"))

    @property
    def active(self) -> int | None:
        """How many are running."""
        return _integer_or_none(self.body.get("active"))

    @property
    def blocked_devices(self) -> Any:
        """The devices that are full, as the service describes them."""
        return self.body.get("blocked_devices")

    @property
    def targeted_devices(self) -> Any:
        """The devices that the request was meant for, as the service describes them."""
        return self.body.get("targeted_devices")


class ServerError(StatusError):
    """5xx: the service failed."""


_BY_STATUS: dict[int, type[StatusError]] = {
    400: BadRequest,
    401: Unauthorized,
    402: PaymentRequired,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    422: Unprocessable,
    429: RateLimited,
}


_OF_PROXIES = frozenset({*range(300, 400), 407, 408, 421, 425})  # statuses that the service itself never answers


def status_error(
    status: int, body: Mapping[str, Any] | None, *, reason: str = "", retry_after: float | None = None
) -> StatusError:
    """Build the error that belongs to a status and a body; `None` for a body that is no JSON object."""
    if body is None or status in _OF_PROXIES:
        kind = ServerError if status >= 500 else RateLimited if status == 429 else StatusError
        return kind(status, body or {}, reason=reason, retry_after=retry_after, foreign=True)
    kind = _BY_STATUS.get(status, ServerError if status >= 500 else StatusError)
    if status in (404, 422) and (body.get("error") == "No recipients found" or "effective_channel_slugs" in body):
        kind = NoRecipients
    if status == 429 and _integer_or_none(body.get("limit")) is not None:
        kind = ActivityLimitReached
    return kind(status, body, reason=reason, retry_after=retry_after)
