"""HTTP as all of the simulator's routes speak it: JSON answers, and bodies that come in time and within bounds."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from starlette.responses import Response

from .wire import MAX_BODY_BYTES, Refusal, as_json

if TYPE_CHECKING:
    from starlette.requests import Request

__all__ = ["JSON", "error_answer", "read_body"]

BODY_SECONDS = 30.0  # that a body may take to come
MAX_READ_BYTES = 4 * MAX_BODY_BYTES  # of a body that is too long: a client that sends no more reads why it is refused
ENDING = (408, 413)


class JSON(Response):
    """A JSON answer in plain ASCII, so that any text that a request brought can go out again."""

    media_type = "application/json"

    def __init__(self, content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        ends = {"connection": "close"} if status in ENDING else {}  # there may be more of its body than is read
        super().__init__(content, status, {"x-content-type-options": "nosniff", **ends, **(headers or {})})

    def render(self, content: Any) -> bytes:
        """Write the content as JSON."""
        return as_json(content)


async def error_answer(_: Request, error: Exception) -> JSON:
    """Answer what Starlette itself refuses: a path or a method that there is not."""
    status = getattr(error, "status_code", 404)
    words = {404: ("Not found", "there is no such page"), 405: ("Method not allowed", "not with this method")}
    error_name, message = words.get(status, ("Refused", str(error)))
    return JSON({"error": error_name, "message": message}, status, getattr(error, "headers", None))


async def read_body(request: Request) -> bytes:
    """Read a body; of one that is too long as much as shows that, which the service then refuses.

    Raises:
        Refusal: with 408 when it has not come within 30 s.
    """
    try:
        return await asyncio.wait_for(_content(request), BODY_SECONDS)
    except asyncio.TimeoutError:
        raise Refusal(408, "Request timeout", f"the body did not come within {BODY_SECONDS:g} s") from None


async def _content(request: Request) -> bytes:
    content, read = bytearray(), 0
    async for chunk in request.stream():
        read += len(chunk)
        content += chunk[: MAX_BODY_BYTES + 1 - len(content)]
        if read > MAX_READ_BYTES:
            break
    return bytes(content)
