"""The service on loopback: for previews and tests, without an account or a phone.

`with Simulator() as sim:` serves every endpoint over real HTTP, with the service's own checks, limits and words.
"""

from __future__ import annotations

from .server import Simulator
from .service import Card, Received, ReceivedPush

__all__ = ["Card", "Received", "ReceivedPush", "Simulator"]
