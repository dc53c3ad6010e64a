"""The simulated service over real HTTP, on a thread of its own."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

try:
    import uvicorn
    from starlette.applications import Starlette
    from starlette.responses import JSONResponse
    from starlette.routing import Route
except ImportError as missing:  # pragma: no cover  # the tests install the extra
    raise ImportError(
        f'{missing}; the simulator needs its extra: pip install "activitysmith-track[simulator]"'
    ) from missing

from .service import MAX_BODY_BYTES, Card, Received, ReceivedPush, Refusal, Service

if TYPE_CHECKING:
    from types import TracebackType

    from starlette.requests import Request
    from typing_extensions import Self

__all__ = ["Simulator"]

START_SECONDS = 10.0  # what a start or a stop takes at most before it is an error


class Simulator:
    """ActivitySmith on this machine: `with Simulator() as sim:`.

    What a phone would show is in `cards` and `pushes`, what was asked in `requests`. All of them are snapshots, and
    may be read from any thread.

    Args:
        port: 0 for a free one.
        **rules: the arguments of `Service`: `api_key`, `slots`, `requests_per_minute`,
            `metric_requests_per_minute`, `metrics`, `channels`, `scope`, `clock`.

    Raises:
        OSError: where the port is taken.

    Example::

        with Simulator() as sim, override(api_key=sim.api_key, base_url=sim.base_url):
            nightly()
            flush()
            assert sim.cards["nightly"].color == "green"
    """

    def __init__(self, *, port: int = 0, **rules: Any) -> None:
        self._service = Service(**rules)
        self._port = port
        self._socket: socket.socket | None = None
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    # -- starting and stopping

    def start(self) -> Self:
        """Serve on 127.0.0.1, and return when requests are answered."""
        self._socket = socket.create_server(("127.0.0.1", self._port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # asyncio does so for its own sockets only
        self._server = _Server(_application(self._service))
        self._thread = threading.Thread(
            target=self._server.run, args=([self._socket],), name="activitysmith-simulator", daemon=True
        )
        self._thread.start()
        if not self._server.serving.wait(START_SECONDS):
            raise RuntimeError("the simulator did not start")
        return self

    def stop(self) -> None:
        """Stop serving; what was received can still be read."""
        if self._server is None or self._thread is None or self._socket is None:
            return
        self._server.leave()
        self._thread.join(START_SECONDS)
        self._socket.close()
        self._server = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def port(self) -> int:
        """The port that is served."""
        if self._socket is None:
            raise RuntimeError("the simulator has not been started")
        return int(self._socket.getsockname()[1]) if self._server is not None else self._port

    @property
    def base_url(self) -> str:
        """What `base_url` or `ACTIVITYSMITH_BASE_URL` takes."""
        return f"http://127.0.0.1:{self.port}/api"

    @property
    def api_key(self) -> str:
        """The key that requests must carry."""
        return self._service.api_key

    # -- what came

    @property
    def requests(self) -> list[Received]:
        """Every request, in the order of their answers."""
        with self._service.changed:
            return list(self._service.requests)

    @property
    def cards(self) -> dict[str, Card]:
        """The card of each stream by its key, ended ones included."""
        with self._service.changed:
            return {key: card.copied() for key, card in self._service.cards.items()}

    @property
    def activities(self) -> dict[str, Card]:
        """Every Live Activity by its id, those of streams and those of `start`."""
        with self._service.changed:
            return {key: card.copied() for key, card in self._service.activities.items()}

    @property
    def pushes(self) -> list[ReceivedPush]:
        """The pushes, as the phone has them now."""
        with self._service.changed:
            return list(self._service.pushes.values())

    @property
    def metrics(self) -> dict[str, Any]:
        """The last value of each widget's metric."""
        with self._service.changed:
            return dict(self._service.metrics)

    @property
    def badge(self) -> int | None:
        """The app icon's badge, or `None` where none was set."""
        return self._service.badge

    def pause(self, stream_key: str) -> None:
        """Pause a stream, as its owner can in the app."""
        self._service.pause(stream_key)

    def resume(self, stream_key: str) -> None:
        """Let a paused stream run again."""
        self._service.resume(stream_key)

    def clear(self) -> None:
        """Forget everything that was received."""
        self._service.clear()

    def wait_for(self, predicate: Callable[[Simulator], object], timeout: float = 10.0) -> bool:
        """Wait until a predicate of this simulator holds; it is looked at after each request.

        Args:
            predicate: called with this simulator.
            timeout: seconds to wait at most.

        Returns:
            Whether it held.
        """
        with self._service.changed:
            return bool(self._service.changed.wait_for(lambda: predicate(self), timeout))


class _Server(uvicorn.Server):
    """A server that says when it serves, and leaves the process's signal handlers alone."""

    def __init__(self, application: Starlette) -> None:
        super().__init__(
            uvicorn.Config(application, log_level=logging.CRITICAL, access_log=False, lifespan="off", ws="none")
        )
        self.serving = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self._loop, self._leaving = asyncio.get_running_loop(), asyncio.Event()
        self.serving.set()

    async def main_loop(self) -> None:
        await self._leaving.wait()  # rather than looking ten times a second

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        for each in sockets or ():
            each.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
            connection.transport.abort()  # rather than giving each a tenth of a second
        await asyncio.sleep(0)

    def leave(self) -> None:
        """Stop serving, without waiting for connections that are still open."""
        self.should_exit = self.force_exit = True
        self._loop.call_soon_threadsafe(self._leaving.set)


def _application(service: Service) -> Starlette:
    async def answer(request: Request) -> JSONResponse:
        try:
            content = await _content(request)
        except Refusal as refusal:
            return JSONResponse(refusal.body, refusal.status)
        path = "/" + request.path_params["path"]
        status, body = service.handle(request.method, path, request.headers.get("authorization"), content)
        return JSONResponse(body, status)

    methods = ["GET", "POST", "PUT", "DELETE", "PATCH"]
    return Starlette(routes=[Route("/api/{path:path}", answer, methods=methods)])


async def _content(request: Request) -> bytes:
    """Read a body, but no more of it than the service takes."""
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
        if len(content) > MAX_BODY_BYTES:
            raise Refusal(413, "Payload too large", f"a body has at most {MAX_BODY_BYTES} bytes")
    return bytes(content)
