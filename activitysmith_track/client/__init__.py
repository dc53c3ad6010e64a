"""The whole of the service's API, for those who want to speak to it directly.

`ActivitySmith` and `AsyncActivitySmith` have the method names of the official SDK. What they share does no I/O:
`requests` builds a request, `answers` reads an answer, `retry` decides whether and when to try again. The
two clients only carry bytes; httpx is imported with them, and not before.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .aio import AsyncActivitySmith
    from .answers import (
        Answer,
        BadgeAnswer,
        EndAnswer,
        MetricAnswer,
        PushAnswer,
        StartAnswer,
        StreamAnswer,
        UpdateAnswer,
    )
    from .sync import ActivitySmith

__all__ = [
    "ActivitySmith",
    "Answer",
    "AsyncActivitySmith",
    "BadgeAnswer",
    "EndAnswer",
    "MetricAnswer",
    "PushAnswer",
    "StartAnswer",
    "StreamAnswer",
    "UpdateAnswer",
]

_HOMES = {"ActivitySmith": "sync", "AsyncActivitySmith": "aio"}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    found = getattr(import_module(f".{_HOMES.get(name, 'answers')}", __name__), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
