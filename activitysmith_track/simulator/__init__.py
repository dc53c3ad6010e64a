"""The service and an iPhone on loopback: for previews and tests, without an account or a phone.

`with Simulator() as sim:` serves every endpoint over real HTTP, with the service's own checks, limits and words, and
a Lock Screen at `sim.url`.

The rules come first and know nothing of HTTP, so that a test can ask `service` directly: `wire` reads and writes
bytes, `endpoints` says what is accepted, `limits` what the account may, `live_activities` and `pushes` what is done,
`memory` what is remembered, `device` what the phone shows, `clock` what time it is, `faults` what goes wrong. `views`
and `events` write what the page shows. HTTP is around them: `http`, `gate` (who is let in), `api`, `faulty_response`,
`control` (the commands), `lock_screen` (the page's files), `serving` (the thread with uvicorn). `server` puts all of
it together as `Simulator`.
"""

from __future__ import annotations

from importlib import import_module

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .clock import Clock, ManualClock
    from .device import Card, Device, ReceivedPush
    from .faults import Fault
    from .memory import Received
    from .server import Simulator

__all__ = ["Card", "Clock", "Device", "Fault", "ManualClock", "Received", "ReceivedPush", "Simulator"]

_HOMES = {"clock": "Clock ManualClock", "device": "Card Device ReceivedPush", "faults": "Fault"}
_HOMES |= {"memory": "Received", "server": "Simulator"}


def __getattr__(name: str) -> Any:
    """Import what is asked for: the rules of the service do without a server."""
    for home, names in _HOMES.items():
        if name in names.split():
            return getattr(import_module(f".{home}", __package__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
