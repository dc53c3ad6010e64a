"""The rules of pushes, of widgets' metrics and of the app icon's badge."""

from __future__ import annotations

from .. import payloads
from .device import ReceivedPush, is_loud
from .endpoints import Accepted, Reply, channels_of, is_valid
from .limits import Limits
from .memory import Memory
from .wire import Refusal

__all__ = ["PushRules"]


class PushRules:
    """The operations beside Live Activities; each takes an accepted request and returns its reply.

    Args:
        memory: where the pushes, the metrics and the badge are.
        limits: which metrics there are, and whom a request reaches.
    """

    def __init__(self, memory: Memory, limits: Limits) -> None:
        self._memory, self._limits = memory, limits

    def send(self, request: Accepted) -> Reply:
        """Send a push."""
        body, memory = request.body, self._memory
        push = ReceivedPush(memory.new_id("ntf"), body, request.at, is_loud(body, memory.device))
        memory.add_push(push)
        memory.badge = body.get("badge", memory.badge)
        reached = self._limits.reached(request.channels, request.timestamp)
        tags = {"tags": body["tags"]} if "tags" in body else {}
        return Reply({"notification_id": push.notification_id, **reached, **tags})

    def replace(self, request: Accepted) -> Reply:
        """Replace a push, in silence."""
        key, memory = request.key, self._memory
        push = memory.pushes.get(key)
        if push is None:
            raise Refusal(404, "Notification not found", f"No notification found for notification_id: {key}")
        push.replace(request.body)
        memory.badge = request.body.get("badge", memory.badge)
        reached = self._limits.reached(channels_of(push.body), request.timestamp)
        return Reply({"notification_id": key, **reached})

    def set_metric(self, request: Accepted) -> Reply:
        """Set a widget's metric."""
        key, known = request.key, self._limits.metrics
        if not is_valid(payloads.check_metric_key, key):
            raise Refusal(400, "Invalid metric key")
        if known is not None and key not in known:
            raise Refusal(404, "Metric not found")
        self._memory.set_metric(key, request.body["value"])
        return Reply({})

    def set_badge(self, request: Accepted) -> Reply:
        """Set the app icon's badge."""
        badge = self._memory.badge = request.body["badge"]
        updated = {"badge": badge, "devices_updated": self._limits.devices, "users_updated": 1}
        return Reply({**updated, **self._limits.reached(request.channels, request.timestamp)})
