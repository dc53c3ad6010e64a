"""The former home of what is in `live` and in `blocks/` now; it goes with the next release.

Whoever imports from here gets the same objects. New code imports from `activitysmith_track` itself.
"""

from __future__ import annotations

from .blocks.block import Block as Watch
from .blocks.context import enter, explain_loops, leave, left_loops
from .blocks.current import current, step
from .blocks.handle import Handle, StepBlock
from .blocks.key import slug
from .blocks.option_table import OPTIONS, check_options, shows
from .blocks.options import Options
from .blocks.outcome import LOOKS, Kind, Outcome
from .blocks.progress import Progress
from .blocks.readings import Alert, Metrics, Stats, Value
from .blocks.steps import Steps
from .blocks.timer import Timer
from .blocks.values import fit
from .live import live_alert, live_metrics, live_progress, live_stats, live_steps, live_timer, live_value

CHECKS = {name: option.check for name, option in OPTIONS.items()}

__all__ = [
    "CHECKS",
    "LOOKS",
    "Alert",
    "Handle",
    "Kind",
    "Metrics",
    "Options",
    "Outcome",
    "Progress",
    "Stats",
    "StepBlock",
    "Steps",
    "Timer",
    "Value",
    "Watch",
    "check_options",
    "current",
    "enter",
    "explain_loops",
    "fit",
    "leave",
    "left_loops",
    "live_alert",
    "live_metrics",
    "live_progress",
    "live_stats",
    "live_steps",
    "live_timer",
    "live_value",
    "shows",
    "slug",
    "step",
]
