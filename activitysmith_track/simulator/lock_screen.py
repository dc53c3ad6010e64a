"""The Lock Screen's page: files whose headers let it load nothing from elsewhere and run no inline script."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from importlib import resources
from typing import TYPE_CHECKING

from starlette.responses import Response
from starlette.routing import Route

if TYPE_CHECKING:
    from starlette.requests import Request

__all__ = ["page_routes"]

PAGE_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-cache",
}
_MEDIA_TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}


def page_routes() -> Iterator[Route]:
    """Return the routes of the page's files, which are read once: `/` is the page itself."""
    folder = resources.files(__package__).joinpath("page")
    for file in folder.iterdir():
        suffix = file.name.rpartition(".")[2]
        if suffix in _MEDIA_TYPES:
            path = "/" if file.name == "index.html" else f"/page/{file.name}"
            yield Route(path, _file(file.read_bytes(), _MEDIA_TYPES[suffix]))


def _file(content: bytes, media_type: str) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(_: Request) -> Response:
        return Response(content, media_type=media_type, headers=PAGE_HEADERS)

    return endpoint
