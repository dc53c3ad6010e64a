"""An answer over HTTP that a fault gets hold of."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from starlette.responses import Response

from .faults import Fault
from .http import JSON

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

__all__ = ["FaultyResponse"]

NOT_JSON = b"<html><body>this is not JSON"
HANG_LOOK_SECONDS = 0.05  # between two looks whether a fault that hangs was taken away


class FaultyResponse:
    """An ASGI response that goes wrong as a fault says.

    Args:
        fault: the one that struck.
        answer: what would be sent without it.
        reset: resets the connection of an ASGI scope's client.
    """

    def __init__(self, fault: Fault, answer: JSON, reset: Callable[[Any], None]) -> None:
        self._fault, self._answer, self._reset = fault, answer, reset

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or fail to."""
        kind = self._fault.kind
        if kind in ("latency", "status"):
            await self._answer(scope, receive, send)
        elif kind == "garbage":
            await Response(NOT_JSON, self._answer.status_code, media_type="text/html")(scope, receive, send)
        elif kind == "hang":
            await self._hang(receive)
        elif kind == "drip":
            await self._drip(send)
        elif kind == "truncate":
            await self._head(send)
            await send({"type": "http.response.body", "body": self._body[: len(self._body) // 2], "more_body": True})
        if kind in ("reset", "hang"):
            self._reset(scope["client"])

    @property
    def _body(self) -> bytes:
        return bytes(self._answer.body)

    async def _head(self, send: Send) -> None:
        status = self._answer.status_code
        await send({"type": "http.response.start", "status": status, "headers": self._answer.raw_headers})

    async def _drip(self, send: Send) -> None:
        await self._head(send)
        pause = (self._fault.seconds or 0.0) / max(1, len(self._body))
        for index in range(len(self._body)):
            await asyncio.sleep(pause)
            await send({"type": "http.response.body", "body": self._body[index : index + 1], "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    async def _hang(self, receive: Receive) -> None:
        """Wait until the client goes, or the fault is taken away."""
        gone = asyncio.ensure_future(receive())
        while not gone.done() and self._fault.is_set:
            await asyncio.wait([gone], timeout=HANG_LOOK_SECONDS)
        gone.cancel()
