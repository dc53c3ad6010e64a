"""What the service accepts: the values that users hold, and the checks of every request body.

Users build `Action`, `Icon`, `Badge`, `Metric` and `Push`, or plain dicts of the same shape. `check_body` turns
what they gave into the JSON body of one operation, or raises `InvalidRequest` naming the field, the value and what
is allowed. The client checks what goes out with it and the simulator what comes in, so the two cannot disagree.

The rooms, each of which imports only from those before it: `checks` of single values, `buttons` and what they open,
`content` states, the bodies of `operations`, and the `values`. They are imported together, since whoever checks a
body needs nearly all of them, and nothing must be left to be imported when a fork may come.
"""

from __future__ import annotations

from .buttons import MAX_PUSH_ACTIONS, MAX_REDIRECTION, check_action
from .checks import (
    COLORS,
    MAX_BADGE_COUNT,
    MAX_METADATA_BYTES,
    MAX_METADATA_ENTRIES,
    MAX_METADATA_KEY,
    MAX_METADATA_TEXT,
    MAX_TAG_TEXT,
    MAX_TAGS,
    MAX_VALUE_TEXT,
    Check,
    check_channels,
    check_color,
    check_identifier,
    check_integer,
    check_metadata,
    check_metric_key,
    check_number,
    check_object,
    check_stream_key,
    check_tags,
    check_text,
    split_channels,
)
from .content import (
    ACTIVITY_TYPES,
    BADGED,
    CONTENT_STATE,
    MAX_METRICS,
    check_alert,
    check_badge,
    check_content_state,
    check_icon,
    check_metrics,
    refuse_unused,
)
from .operations import BODIES, INTERRUPTION_LEVELS, check_body, fields_of, with_target
from .values import Action, Badge, Icon, Metric, Push

__all__ = [
    "ACTIVITY_TYPES",
    "BADGED",
    "BODIES",
    "COLORS",
    "CONTENT_STATE",
    "INTERRUPTION_LEVELS",
    "MAX_BADGE_COUNT",
    "MAX_METADATA_BYTES",
    "MAX_METADATA_ENTRIES",
    "MAX_METADATA_KEY",
    "MAX_METADATA_TEXT",
    "MAX_METRICS",
    "MAX_PUSH_ACTIONS",
    "MAX_REDIRECTION",
    "MAX_TAGS",
    "MAX_TAG_TEXT",
    "MAX_VALUE_TEXT",
    "Action",
    "Badge",
    "Check",
    "Icon",
    "Metric",
    "Push",
    "check_action",
    "check_alert",
    "check_badge",
    "check_body",
    "check_channels",
    "check_color",
    "check_content_state",
    "check_icon",
    "check_identifier",
    "check_integer",
    "check_metadata",
    "check_metric_key",
    "check_metrics",
    "check_number",
    "check_object",
    "check_stream_key",
    "check_tags",
    "check_text",
    "fields_of",
    "refuse_unused",
    "split_channels",
    "with_target",
]
