"""What turns a request into an answer: HTTP, through one client for each account."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .._fork import certificates, importing
from ..errors import ConnectionFailed

if TYPE_CHECKING:
    from ..client.requests import Request
    from ..client.sync import ActivitySmith


def load() -> None:
    """Import what sending needs: here, on a worker's thread, and nowhere else."""
    with importing():
        import encodings.idna  # noqa: F401  # else imported by the first connection

        from ..client import sync  # noqa: F401


class _Connections:
    """A client and the requests that use it, which is closed only when the last of them is over.

    A connection that is being opened while its client is closed would stay open, with nobody left to close it.
    """

    __slots__ = ("_is_left", "_users", "client")

    def __init__(self, client: ActivitySmith) -> None:
        self.client = client
        self._users: set[object] = set()
        self._is_left = False

    def enter(self) -> object | None:
        """Begin a request; returns what to `leave` with, or `None` where the client is to be closed."""
        user = object()
        self._users.add(user)  # first: either `close` sees this user, or this sees that `close` was called
        if not (self._is_left or self.client.is_closed):
            return user
        self.leave(user)
        return None

    def leave(self, user: object) -> None:
        """End a request."""
        self._users.discard(user)
        self._close_if_unused()

    def close(self) -> None:
        """Have no more requests begin, and close the client after those that are in flight."""
        self._is_left = True
        self._close_if_unused()

    def _close_if_unused(self) -> None:
        if self._is_left and not self._users:
            self.client.close()


class HttpTransport:
    """The connections of one account; the client is made when there is something to send.

    Args:
        api_key: the account's key.
        base_url: the service's address.
        seconds: what one request may take, unless it is told.
    """

    def __init__(self, api_key: str, base_url: str, seconds: float) -> None:
        self._key, self._base_url, self._seconds = api_key, base_url, seconds
        self._connections: _Connections | None = None

    def perform(self, request: Request[Any], seconds: float | None = None) -> Any:
        """Make one attempt at a request; return its answer, or raise why there is none.

        Args:
            request: what to send.
            seconds: what it may take at most; by default what the transport was made with.
        """
        while True:
            connections = self._connections or self._connect()
            user = connections.enter()
            if user is not None:
                break
            self._connect(connections)
        try:
            return connections.client.perform(request, seconds)
        finally:
            connections.leave(user)

    def _connect(self, closed: _Connections | None = None) -> _Connections:
        """Return connections that can be used, other than the ones that were found closed."""
        try:
            load()
        except Exception as error:  # the interpreter exits, and refuses what a module needs
            what = f"what sending needs cannot be imported: {error!r}"
            raise ConnectionFailed(what, delivered=False) from error
        with certificates, importing():  # in this order: who waits at a gate holds no lock
            from ..client.sync import ActivitySmith

            connections = self._connections  # which another thread may close at any moment
            if connections is None or connections is closed:
                client = ActivitySmith(self._key, base_url=self._base_url, timeout=self._seconds, max_attempts=1)
                self._connections = connections = _Connections(client)
            return connections

    def close(self) -> None:
        """Close the connections, after the requests that are in flight; a next request opens new ones."""
        connections, self._connections = self._connections, None
        if connections is not None:
            connections.close()
