"""Put a long-running job on your Lock Screen.

Decorators, context managers and loops that become ActivitySmith Live Activities, kept true within the budget that iOS
gives, and push notifications when a job fails. Nothing is imported, read or started before it is used.
"""

from __future__ import annotations

TYPE_CHECKING = False  # what type checkers take for true; importing typing would cost more than all the rest of this
if TYPE_CHECKING:
    from ._pacing import Budget
    from .blocks.current import current, step
    from .blocks.handle import Handle
    from .blocks.options import Options, PushOptions
    from .blocks.outcome import Outcome
    from .blocks.progress import Progress
    from .blocks.readings import Alert, Metrics, Stats, Value
    from .blocks.steps import Steps
    from .blocks.timer import Timer
    from .client import ActivitySmith, AsyncActivitySmith
    from .configuration import Tracker, configure, flush, override
    from .decorators import notify, track_steps
    from .errors import ActivitySmithError, InvalidRequest
    from .iteration import Track, track
    from .live import live_alert, live_metrics, live_progress, live_stats, live_steps, live_timer, live_value
    from .payloads import Action, Badge, Icon, Metric, Push
    from .settings import Settings

__all__ = [
    "Action",
    "ActivitySmith",
    "ActivitySmithError",
    "Alert",
    "AsyncActivitySmith",
    "Badge",
    "Budget",
    "Handle",
    "Icon",
    "InvalidRequest",
    "Metric",
    "Metrics",
    "Options",
    "Outcome",
    "Progress",
    "Push",
    "PushOptions",
    "Settings",
    "Stats",
    "Steps",
    "Timer",
    "Track",
    "Tracker",
    "Value",
    "configure",
    "current",
    "flush",
    "live_alert",
    "live_metrics",
    "live_progress",
    "live_stats",
    "live_steps",
    "live_timer",
    "live_value",
    "notify",
    "override",
    "step",
    "track",
    "track_steps",
]

_HOMES = {
    "_pacing": "Budget",
    "blocks.current": "current step",
    "blocks.handle": "Handle",
    "blocks.options": "Options PushOptions",
    "blocks.outcome": "Outcome",
    "blocks.progress": "Progress",
    "blocks.readings": "Alert Metrics Stats Value",
    "blocks.steps": "Steps",
    "blocks.timer": "Timer",
    "client": "ActivitySmith AsyncActivitySmith",
    "configuration": "Tracker configure flush override",
    "decorators": "notify track_steps",
    "errors": "ActivitySmithError InvalidRequest",
    "iteration": "Track track",
    "live": "live_alert live_metrics live_progress live_stats live_steps live_timer live_value",
    "payloads": "Action Badge Icon Metric Push",
    "settings": "Settings",
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names.split()}


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import version

        return version("activitysmith-track")
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    found = getattr(import_module(f".{_HOME_OF[name]}", __name__), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
