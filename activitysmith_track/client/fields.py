"""What the methods of the clients take, field by field: for type checkers and editors alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

from ..payloads import Action, Badge, Icon, Metric

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
