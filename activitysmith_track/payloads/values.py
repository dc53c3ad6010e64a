"""The values that users hold: buttons, icons, badges, readings and pushes, checked when they are made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .buttons import check_push_action
from .checks import Payload
from .content import check_badge, check_icon, check_metric
from .operations import check_body, with_target

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True)
class Action(Payload):
    """A button, on a Live Activity or on a push.

    Use `Action.open_url` and `Action.webhook`.
    """

    title: str
    type: str
    url: str
    method: str | None = None
    body: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        check_push_action("action", self)

    @classmethod
    def open_url(cls, title: str, url: str) -> Action:
        """Make a button that opens an address on the phone.

        Args:
            title: the button's words.
            url: on a Live Activity http, https or `shortcuts://run-shortcut?name=...`; on a push also an app's
                scheme.

        Raises:
            InvalidRequest: for an empty title, or an address that no button opens.
        """
        return cls(title, "open_url", url)

    @classmethod
    def webhook(
        cls, title: str, url: str, *, method: str | None = None, body: Mapping[str, Any] | None = None
    ) -> Action:
        """Make a button with which the service calls an https address.

        Args:
            title: the button's words.
            url: https.
            method: `"GET"` or `"POST"` (the service's default).
            body: a JSON object to send along.

        Raises:
            InvalidRequest: for an address that is not https, or another method.
        """
        return cls(title, "webhook", url, method, body)


@dataclass(frozen=True)
class Icon(Payload):
    """An SF Symbol, such as `Icon("bolt.fill", color="yellow")`."""

    symbol: str
    color: str | None = None

    def __post_init__(self) -> None:
        check_icon("icon", self)


@dataclass(frozen=True)
class Badge(Payload):
    """A short label in a capsule, on alert, progress, segmented_progress and value activities."""

    title: str
    color: str | None = None

    def __post_init__(self) -> None:
        check_badge("badge", self)


@dataclass(frozen=True)
class Metric(Payload):
    """One reading of a metrics or stats activity.

    `value` is a number of at least 0, or a text of 1 to 64 characters that keeps its formatting.
    """

    label: str
    value: int | float | str
    unit: str | None = None
    color: str | None = None

    def __post_init__(self) -> None:
        check_metric("metric", self)


@dataclass(frozen=True)
class Push(Payload):
    """A push notification, as `on_failure=` and `on_success=` take it.

    What is left out is filled in with the outcome's own words (`title`, `message`) or not sent. The fields are
    those of `notifications.send`.
    """

    title: str | None = None
    message: str | None = None
    subtitle: str | None = None
    icon: str | None = None
    media: str | None = None
    redirection: str | None = None
    actions: Sequence[Action | Mapping[str, Any]] | None = None
    interruption_level: str | None = None
    payload: Mapping[str, Any] | None = None
    badge: int | None = None
    sound: str | None = None
    channels: Sequence[str] | str | None = None
    tags: Sequence[str] | None = None
    metadata: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        check_body("send", {"title": "", **with_target(self.given())})
