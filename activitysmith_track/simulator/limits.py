"""What the account of the key may do: how often, how much at once, to which channels, and whom that reaches."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

from .. import payloads
from ..errors import InvalidRequest
from .wire import Refusal

__all__ = ["BILLING", "Limits", "names"]

BILLING = ("trial_expired", "trial_exhausted", "billing_overage_cap_reached")
RATE_SECONDS = 60.0  # over which requests are counted
_SENDS = ("send", "replace", "stream", "start", "badge")
_SCOPE_WORDS = (
    "This API key can only target assigned channels. Requested channels include channels outside this key scope."
)
_BILLING_WORDS = "Sending is not included in this account's plan any more."
_UPGRADE_URL = "https://activitysmith.com/app/billing"


class Limits:
    """The account's limits; the arguments are those of `Service`.

    Attributes:
        slots: how many Live Activities may run at once.
        makes_room: whether a start beyond them ends the oldest, rather than being refused.
        rates: requests that are answered within 60 s, of the `account` and of its `metrics`.
        devices: how many phones a request reaches.

    Raises:
        InvalidRequest: for a limit that cannot be.
    """

    def __init__(
        self,
        *,
        slots: int,
        when_full: str,
        requests_per_minute: int,
        metric_requests_per_minute: int,
        metrics: Iterable[str] | str | None,
        channels: Iterable[str] | str | None,
        scope: Iterable[str] | str | None,
        billing: str | None,
        devices: int,
    ) -> None:
        self.slots = payloads.check_integer("slots", slots, at_least=1)
        self.devices = payloads.check_integer("devices", devices)
        if when_full not in ("refuse", "end_oldest"):
            raise InvalidRequest("when_full", when_full, "refuse or end_oldest")
        if billing not in (None, *BILLING):
            raise InvalidRequest("billing", billing, "one of " + ", ".join(BILLING))
        self.makes_room, self.billing = when_full == "end_oldest", billing
        self.rates = {
            "account": payloads.check_integer("requests_per_minute", requests_per_minute, at_least=1),
            "metrics": payloads.check_integer("metric_requests_per_minute", metric_requests_per_minute, at_least=1),
        }
        self.metrics = names("metrics", metrics)
        self.channels = names("channels", channels)
        self.scope = names("scope", scope)
        self._recent: dict[str, deque[float]] = {name: deque() for name in self.rates}

    def clear(self) -> None:
        """Forget the requests that were counted."""
        for recent in self._recent.values():
            recent.clear()

    def count(self, rate: str, now: float) -> None:
        """Count a request.

        Raises:
            Refusal: with 429 where there were as many as the rate allows in the last minute.
        """
        recent = self._recent[rate]
        while recent and recent[0] <= now - RATE_SECONDS:
            recent.popleft()
        if len(recent) >= self.rates[rate]:
            raise Refusal(
                429, "Rate limit exceeded", "Too many requests, please try again later.", code="rate_limited"
            )
        recent.append(now)

    def check(self, operation: str, body: Mapping[str, Any], channels: list[str] | None, badge: int | None) -> None:
        """Check that an operation may be carried out, and that it reaches somebody.

        Args:
            operation: its name.
            body: the checked one.
            channels: that the body names; `None` where it names none.
            badge: the app icon's, as it stands.

        Raises:
            Refusal: with 402 for an account that may not send, with 403 for a channel outside the key's scope, with
                422 where there is no phone to send to.
        """
        if self.billing is not None and operation in _SENDS:
            raise Refusal(402, self.billing, _BILLING_WORDS, upgrade_url=_UPGRADE_URL)
        if "target" in body or "channels" in body:
            self._check_channels(channels or [], pushes=operation in ("send", "badge"))
        if not self.devices and operation in _SENDS:
            if operation == "badge":
                more = {"code": "badge_device_disconnected", "badge": badge or 0, "devices_updated": 0}
                raise Refusal(422, "Badge update failed", "The device is disconnected.", **more)
            raise _no_recipients(self.effective(channels), pushes=operation in ("send", "replace"))

    def _check_channels(self, channels: list[str], *, pushes: bool) -> None:
        if self.scope is not None and not self.scope.issuperset(channels):
            raise Refusal(403, "Invalid channel targeting", _SCOPE_WORDS)
        if self.channels is not None and not self.channels.intersection(channels):
            raise _no_recipients(channels, pushes=pushes)

    def effective(self, channels: list[str] | None) -> list[str]:
        """Return the channels that something is sent to: the named ones, or those of the key's scope."""
        return channels if channels is not None else sorted(self.scope or ())

    def reached(self, channels: list[str] | None, timestamp: str) -> dict[str, Any]:
        """Write what an answer says of whom it reached."""
        return {
            "devices_notified": self.devices,
            "users_notified": 1,
            "effective_channel_slugs": self.effective(channels),
            "timestamp": timestamp,
        }


def _no_recipients(channels: list[str], *, pushes: bool) -> Refusal:
    what = "devices" if pushes else "Live Activity devices"
    message = f"No {what} matched the effective channel target"
    return Refusal(422, "No recipients found", message, effective_channel_slugs=channels)


def names(path: str, given: Iterable[str] | str | None) -> frozenset[str] | None:
    """Read a list of names, or a comma-separated one; `None` stays `None`.

    Args:
        path: what the error calls it.
        given: the names.

    Raises:
        InvalidRequest: for what is neither, and for an empty name.
    """
    split = payloads.split_channels(given)
    if split is None:
        return None
    if not isinstance(split, Iterable):
        raise InvalidRequest(path, given, "a list of names, or a comma-separated one")
    return frozenset(payloads.check_text(path, each, shortest=1) for each in split)
