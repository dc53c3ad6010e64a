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


class HttpTransport:
    """The connections of one account; the client is made when there is something to send.

    Args:
        api_key: the account's key.
        base_url: the service's address.
        seconds: what one request may take, unless it is told.
    """

    def __init__(self, api_key: str, base_url: str, seconds: float) -> None:
        self._key, self._base_url, self._seconds = api_key, base_url, seconds
        self._client: ActivitySmith | None = None

    def perform(self, request: Request[Any], seconds: float | None = None) -> Any:
        """Make one attempt at a request; return its answer, or raise why there is none.

        Args:
            request: what to send.
            seconds: what it may take at most; by default what the transport was made with.
        """
        client = self._client
        if client is None or client.is_closed:  # another thread may have closed it since
            client = self._connect()
        return client.perform(request, seconds)

    def _connect(self) -> ActivitySmith:
        try:
            load()
        except Exception as error:  # the interpreter leaves, and refuses what a module wants to begin
            what = f"what sending needs cannot be imported: {error!r}"
            raise ConnectionFailed(what, delivered=False) from error
        with certificates, importing():  # in this order: who waits at a gate holds no lock
            from ..client.sync import ActivitySmith

            client = self._client  # which another thread may close at any moment
            if client is None or client.is_closed:
                self._client = client = ActivitySmith(
                    self._key, base_url=self._base_url, timeout=self._seconds, max_attempts=1
                )
            return client

    def close(self) -> None:
        """Close the connections; a next request opens new ones."""
        client, self._client = self._client, None
        if client is not None:
            client.close()
