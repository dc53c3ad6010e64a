"""The service's API over HTTP, with the faults that are set: what comes under `/api` goes to the service's rules."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from starlette.routing import Route

from .endpoints import methods_of
from .faults import Faults
from .faulty_response import FaultyResponse
from .http import JSON, read_body
from .service import Service
from .wire import Refusal

if TYPE_CHECKING:
    from starlette.requests import Request

__all__ = ["Api"]

METHODS = ["GET", "POST", "PUT", "DELETE", "PATCH"]


class Api:
    """The route of the API.

    Args:
        service: the rules.
        faults: what may strike a request.
        reset: resets the connection of an ASGI scope's client.
    """

    def __init__(self, service: Service, faults: Faults, reset: Callable[[Any], None]) -> None:
        self._service, self._faults, self._reset = service, faults, reset

    def route(self) -> Route:
        """Return the one route: which endpoints there are is the service's to say."""
        return Route("/api/{path:path}", self._answer, methods=METHODS)

    async def _answer(self, request: Request) -> Any:
        try:
            content = await read_body(request)
        except Refusal as refusal:
            return JSON(refusal.body, refusal.status)
        method, path, authorization = request.method, _path(request), request.headers.get("authorization")
        fault = self._faults.strike(method, path)
        if fault is None:
            status, answer = self._service.handle(method, path, authorization, content)
            return JSON(answer, status, {"allow": ", ".join(methods_of(path))} if status == 405 else None)
        await asyncio.sleep(fault.seconds if fault.seconds and fault.kind != "drip" else 0)
        status, answer = self._service.handle(method, path, authorization, content, fault=fault)
        return FaultyResponse(fault, JSON(answer, status, fault.headers), self._reset)


def _path(request: Request) -> str:
    """Return the path behind /api as it was sent: an escaped slash does not part it."""
    raw: str = request.scope.get("raw_path", request.url.path.encode()).decode("latin-1")
    return "/" + (raw.split("/", 2)[2:] or [""])[0]
