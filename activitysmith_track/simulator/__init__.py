"""The service and an iPhone on loopback: for previews and tests, without an account or a phone.

`with Simulator() as sim:` serves every endpoint over real HTTP, with the service's own checks, limits and words, and
a Lock Screen at `sim.url`.
"""

from __future__ import annotations

from .clock import Clock, ManualClock
from .device import Card, Device, ReceivedPush
from .faults import Fault
from .server import Simulator
from .service import Received

__all__ = ["Card", "Clock", "Device", "Fault", "ManualClock", "Received", "ReceivedPush", "Simulator"]
