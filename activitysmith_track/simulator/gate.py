"""Who is let in: requests that name this machine, and that no web page of somebody else's had a browser send.

A page from anywhere can have its visitor's browser send requests to loopback, and with a name that its own DNS first
points at itself and then at 127.0.0.1 ("DNS rebinding") it can read the answers. So the Host header must name this
machine, and an Origin must be this server's own.

Starlette's `TrustedHostMiddleware` knows fixed names and `*.name` only. It cannot tell an address from a name, which
is what decides here: any of 127.0.0.0/8, and any address at all where the simulator listens to the network. Its
oldest supported version cuts `[::1]:80` at the first colon and minds the case of letters; every version may redirect
to `www.`, and answers in plain text that does not say which option helps.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from starlette.datastructures import Headers

from .._endpoint import is_address, is_loopback
from .http import JSON
from .limits import names

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["Gatekeeper", "HostNames"]

_HOST = re.compile(r"(?P<name>\[[0-9A-Fa-f.]*:[0-9A-Fa-f:.]*\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?")


class HostNames:
    """The names by which a Host header may call this server.

    Args:
        host: the address that it listens at.
        allowed: names beside that one and this machine's loopback names: a list, or comma-separated.

    Raises:
        InvalidRequest: for what is no list of names.
    """

    def __init__(self, host: str, allowed: Iterable[str] | str) -> None:
        self._names = {_plain_host(host), *(_plain_host(name) for name in names("allow_hosts", allowed) or ())}
        self._takes_addresses = not is_loopback(_plain_host(host))

    def __contains__(self, header: str) -> bool:
        """Tell whether a Host header may name this server; a name that a stranger's DNS resolves to it may not."""
        found = _HOST.fullmatch(header)
        if found is None:
            return False
        name = _plain_host(found["name"])
        if name.endswith(".localhost") or name in self._names:
            return True
        return is_loopback(name) or (self._takes_addresses and is_address(name))


def _plain_host(name: str) -> str:
    return name.strip().lower().strip("[]").removesuffix(".")


class Gatekeeper:
    """Middleware that turns away every request that does not name this server, or comes from another origin.

    Args:
        application: what answers the others.
        hosts: the names of this server.
    """

    def __init__(self, application: ASGIApp, hosts: HostNames) -> None:
        self._application, self._hosts = application, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request in, or answer 403."""
        problem = self._problem(Headers(scope=scope)) if scope["type"] == "http" else None
        if problem is not None:
            await JSON({"error": "Forbidden", "message": problem}, 403)(scope, receive, send)
        else:
            await self._application(scope, receive, send)

    def _problem(self, headers: Headers) -> str | None:
        host = headers.get("host", "")
        if host not in self._hosts:
            return "the Host header does not name this simulator; --allow-host lets another name in"
        if any(origin.lower() != f"http://{host}".lower() for origin in headers.getlist("origin")):
            return "requests from other origins are not answered"
        return None
