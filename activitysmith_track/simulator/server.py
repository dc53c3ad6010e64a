"""The simulated service over real HTTP, on a thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import socket
import struct
import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

try:
    import uvicorn
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
    from starlette.responses import Response
    from starlette.routing import Route
    from uvicorn.protocols.http.h11_impl import H11Protocol
except ImportError as missing:  # pragma: no cover  # the tests install the extra
    raise ImportError(
        f'{missing}; the simulator needs its extra: pip install "activitysmith-track[simulator]"'
    ) from missing

from .._endpoint import host_to_reach, is_address, is_loopback
from ..payloads import check_integer
from .clock import Clock
from .control import JSON, Control, read_body
from .device import Card, Device, ReceivedPush, on_screen
from .faults import Fault, Faults
from .service import Received, Refusal, Service, Tap, methods_of, names

if TYPE_CHECKING:
    from types import TracebackType

    from starlette.requests import Request
    from starlette.types import ASGIApp, Receive, Scope, Send
    from typing_extensions import Self

__all__ = ["Simulator"]

_HOST = re.compile(r"(?P<name>\[[0-9A-Fa-f.]*:[0-9A-Fa-f:.]*\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?")
NOT_JSON = b"<html><body>this is not JSON"
ANSWER_SECONDS = 0.05  # until a server that was told to refuse connections does so
HEAD_SECONDS = 30.0  # that the head of a request may take to come
START_SECONDS = 10.0  # what a start or a stop takes at most before it is an error
ACCEPT_TURNS = 5  # of the event loop, until a connection that asyncio has just accepted is known, and then gone


class Simulator:
    """ActivitySmith and an iPhone on this machine: `with Simulator() as sim:`.

    What the phone shows is in `cards` and `pushes`, what was asked in `requests`. All of them are snapshots, and may
    be read from any thread. The Lock Screen is a page at `url`.

    Args:
        host: the address to listen at; others than loopback ones make it visible to the network.
        port: 0 for a free one.
        speed: of its clock: simulated seconds in a second; 0 for a clock that stands until `advance` moves it.
        clock: a `Clock` to share with something else, instead of one of its own.
        device: the phone's parameters.
        deliver_webhooks: whether pressing a webhook's button on the page really calls it.
        allow_hosts: names, beside this machine's loopback names and `host` itself, that a Host header may carry: a
            list, or comma-separated. Where it listens to the network, any IP address may be named.
        **rules: the arguments of `Service`: `api_key`, `slots`, `when_full`, `requests_per_minute`,
            `metric_requests_per_minute`, `metrics`, `channels`, `scope`, `billing`, `devices`.

    Raises:
        InvalidRequest: for a rule or a speed that cannot be.
        OSError: where the port is taken.

    Example::

        with Simulator() as sim, override(api_key=sim.api_key, base_url=sim.base_url):
            nightly()
            flush()
            assert sim.cards["nightly"].color == "green"
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        speed: float = 1.0,
        clock: Clock | None = None,
        device: Device | None = None,
        deliver_webhooks: bool = False,
        allow_hosts: Iterable[str] | str = (),
        **rules: Any,
    ) -> None:
        self.clock = clock or Clock(speed)
        self.service = Service(clock=self.clock, device=device, **rules)
        self.faults = Faults(self._heed_faults)
        self._host, self._port = host, check_integer("port", port, at_most=65_535)
        self._allowed = frozenset(_plain_name(name) for name in names("allow_hosts", allow_hosts) or ())
        self._control = Control(self, deliver_webhooks=deliver_webhooks)
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    # -- starting and stopping

    def start(self) -> Self:
        """Serve, and return when requests are answered."""
        listening = _listen(self._host, self._port)
        self._port = int(listening.getsockname()[1])
        server = _Server(self._application(), lambda: self.faults.refuse, lambda: _listen(self._host, self._port))
        self._thread = threading.Thread(
            target=server.run, args=([listening],), name="activitysmith-simulator", daemon=True
        )
        self._thread.start()
        if not server.serving.wait(START_SECONDS):
            raise RuntimeError("the simulator did not start")
        self._server = server
        self.service.listeners.append(self._wake_page)
        return self

    def stop(self) -> None:
        """Stop serving; what was received can still be read."""
        if self._server is None or self._thread is None:
            return
        self.service.listeners.remove(self._wake_page)
        self._server.leave()
        self._thread.join(START_SECONDS)
        self._server = None
        for fault in self.faults:
            if fault.kind == "refuse":
                fault.remove()

    def __enter__(self) -> Self:
        return self if self._server is not None else self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def port(self) -> int:
        """The port that is served."""
        if not self._port:
            raise RuntimeError("the simulator has not been started")
        return self._port

    @property
    def url(self) -> str:
        """The address of the Lock Screen."""
        return f"http://{host_to_reach(self._host)}:{self.port}/"

    @property
    def base_url(self) -> str:
        """What `base_url` or `ACTIVITYSMITH_BASE_URL` takes."""
        return f"{self.url}api"

    @property
    def api_key(self) -> str:
        """The key that requests must carry."""
        return self.service.api_key

    # -- what came

    @property
    def requests(self) -> list[Received]:
        """Every request, in the order of their answers."""
        with self.service.changed:
            return list(self.service.requests)

    @property
    def cards(self) -> dict[str, Card]:
        """The card of each stream by its key, ended ones included."""
        with self.service.changed:
            self.service.look()
            return {key: card.copied() for key, card in self.service.cards.items()}

    @property
    def on_screen(self) -> list[Card]:
        """The cards on the Lock Screen now: five at most, running ones first."""
        with self.service.changed:
            self.service.look()
            cards = on_screen(self.service.activities.values(), self.clock(), self.service.device)
            return [card.copied() for card in cards]

    @property
    def activities(self) -> dict[str, Card]:
        """Every Live Activity by its id, those of streams and those of `start`."""
        with self.service.changed:
            self.service.look()
            return {key: card.copied() for key, card in self.service.activities.items()}

    @property
    def pushes(self) -> list[ReceivedPush]:
        """The pushes as they stand now, those that were swiped away included."""
        with self.service.changed:
            return [push.copied() for push in self.service.pushes.values()]

    @property
    def metrics(self) -> dict[str, Any]:
        """The last value of each widget's metric."""
        with self.service.changed:
            return dict(self.service.metrics)

    @property
    def badge(self) -> int | None:
        """The app icon's badge, or `None` where none was set."""
        return self.service.badge

    @property
    def taps(self) -> list[Tap]:
        """The buttons that were pressed on the page."""
        with self.service.changed:
            return list(self.service.taps)

    # -- what happens to it

    def advance(self, seconds: float) -> None:
        """Move the clock ahead: budgets, timers, dismissals, the 8 hours and rate windows move with it.

        Args:
            seconds: from 0 to 366 days.

        Raises:
            InvalidRequest: for anything else.
        """
        self.clock.advance(seconds)
        self.service.touch()

    def fault(self, kind: str, **fields: Any) -> Fault:
        """Let something go wrong: `with sim.fault("status", status=503, times=2):`.

        Args:
            kind: one of `FAULT_KINDS`.
            **fields: those of `Fault`.

        Returns:
            The fault, which may be used as a `with` block or taken away with `remove()`. Where it refuses
            connections, they are refused when this returns, and answered again when the last such fault was removed.

        Raises:
            InvalidRequest: for a value that cannot be.
            RuntimeError: for `refuse` where the simulator has not been started.
            TypeError: for a field that is none.
        """
        fault = Fault(kind, **fields)
        if fault.kind == "refuse" and self._server is None:
            raise RuntimeError("the simulator has not been started")
        self.faults.add(fault)
        if fault.kind == "refuse" and self._server is not None:
            self._server.later(float(fault.seconds or 0), fault.remove)
        return fault

    def _heed_faults(self) -> None:
        if self._server is None:
            self.service.touch()
        else:
            self._server.heed(self.service.touch)

    def _wake_page(self) -> None:
        if self._server is not None:
            self._server.call(self._control.feed.wake)

    def pause(self, stream_key: str) -> None:
        """Pause a stream, as its owner can in the app.

        Raises:
            InvalidRequest: for what is no stream key, or when 1,000 streams are paused already.
        """
        self.service.pause(stream_key)

    def resume(self, stream_key: str) -> None:
        """Let a paused stream run again."""
        self.service.resume(stream_key)

    def tell_truth(self, stream_key: str, percentage: float) -> bool:
        """Note how far a job really is, for the chart; see `Service.tell_truth`."""
        return self.service.tell_truth(stream_key, percentage)

    def clear(self) -> None:
        """Forget everything that was received."""
        self.service.clear()

    def wait_for(self, predicate: Callable[[Simulator], object], timeout: float = 10.0) -> bool:
        """Wait until a predicate of this simulator holds; it is looked at after each request.

        Args:
            predicate: called with this simulator.
            timeout: seconds to wait at most.

        Returns:
            Whether it held.
        """
        with self.service.changed:
            return bool(self.service.changed.wait_for(lambda: predicate(self), timeout))

    # -- answering

    def _application(self) -> ASGIApp:
        methods = ["GET", "POST", "PUT", "DELETE", "PATCH"]
        routes = [Route("/api/{path:path}", self._answer, methods=methods), *self._control.routes()]
        application = Starlette(routes=routes, exception_handlers={HTTPException: _plain_error})
        application.router.redirect_slashes = False  # the service does not redirect either
        return _Gate(application, self._is_ours)

    async def _answer(self, request: Request) -> Any:
        try:
            content = await read_body(request)
        except Refusal as refusal:
            return JSON(refusal.body, refusal.status)
        method, path, authorization = request.method, _path(request), request.headers.get("authorization")
        fault = self.faults.strike(method, path)
        if fault is None:
            status, answer = self.service.handle(method, path, authorization, content)
            return JSON(answer, status, {"allow": ", ".join(methods_of(path))} if status == 405 else None)
        await asyncio.sleep(fault.seconds if fault.seconds and fault.kind != "drip" else 0)
        status, answer = self.service.handle(method, path, authorization, content, fault=fault)
        return _Spoiled(fault, JSON(answer, status, fault.headers), self)

    def _is_ours(self, host: str) -> bool:
        """Tell whether a Host header may name this server; a name that a stranger's DNS resolves to it may not."""
        found = _HOST.fullmatch(host)
        if found is None:
            return False
        name = _plain_name(found["name"])
        if name.endswith(".localhost") or name in (*self._allowed, _plain_name(self._host)):
            return True
        return is_loopback(name) or (is_address(name) and not is_loopback(self._host))


def _path(request: Request) -> str:
    """Return the path behind /api as it was sent: an escaped slash does not part it."""
    raw: str = request.scope.get("raw_path", request.url.path.encode()).decode("latin-1")
    return "/" + (raw.split("/", 2)[2:] or [""])[0]


def _plain_name(name: str) -> str:
    return name.strip().lower().strip("[]").removesuffix(".")


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.create_server((host, port), family=family, backlog=512)
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # asyncio does so for its own sockets only
    return listening


async def _plain_error(_: Request, error: Exception) -> JSON:
    status = getattr(error, "status_code", 404)
    words = {404: ("Not found", "there is no such page"), 405: ("Method not allowed", "not with this method")}
    error_name, message = words.get(status, ("Refused", str(error)))
    return JSON({"error": error_name, "message": message}, status, getattr(error, "headers", None))


class _Gate:
    """Turns away requests that a web page of somebody else's had the browser send."""

    def __init__(self, application: ASGIApp, is_ours: Callable[[str], bool]) -> None:
        self._application, self._is_ours = application, is_ours

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {name: value.decode("latin-1") for name, value in scope.get("headers", ())}
        problem = self._problem(headers)
        if scope["type"] == "http" and problem:
            await JSON({"error": "Forbidden", "message": problem}, 403)(scope, receive, send)
        else:
            await self._application(scope, receive, send)

    def _problem(self, headers: dict[bytes, str]) -> str | None:
        host, origin = headers.get(b"host", ""), headers.get(b"origin")
        if not self._is_ours(host):
            return "the Host header does not name this simulator; --allow-host lets another name in"
        if origin is not None and origin.lower() != f"http://{host}".lower():
            return "requests from other origins are not answered"
        return None


class _Spoiled:
    """An answer that a fault gets hold of."""

    def __init__(self, fault: Fault, answer: JSON, simulator: Simulator) -> None:
        self._fault, self._answer, self._simulator = fault, answer, simulator

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind, server = self._fault.kind, self._simulator._server
        if kind in ("latency", "status"):
            await self._answer(scope, receive, send)
        elif kind == "garbage":
            await Response(NOT_JSON, self._answer.status_code, media_type="text/html")(scope, receive, send)
        elif kind == "hang":
            await self._hang(scope, receive)
        elif kind == "drip":
            await self._drip(send)
        elif kind == "truncate":
            await self._head(send)
            await send({"type": "http.response.body", "body": self._body[: len(self._body) // 2], "more_body": True})
        if kind in ("reset", "hang") and server is not None:
            server.reset(scope["client"])

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

    async def _hang(self, scope: Scope, receive: Receive) -> None:
        """Wait until the client goes, or the fault is taken away."""
        gone = asyncio.ensure_future(receive())
        while not gone.done() and self._fault.is_set:
            await asyncio.wait([gone], timeout=0.05)
        gone.cancel()


class _Connection(H11Protocol):
    """A connection that does not wait for ever until the head of a request has come."""

    _patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait_for_head()

    def data_received(self, data: bytes) -> None:
        self._wait_for_head()
        super().data_received(data)
        if self._has_request:
            self._stop_waiting()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    @property
    def _has_request(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _wait_for_head(self) -> None:
        if self._patience is None and not self._has_request:
            self._patience = self.loop.call_later(HEAD_SECONDS, self.transport.abort)

    def _stop_waiting(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None


class _Server(uvicorn.Server):
    """A server that says when it serves, and leaves the process's signal handlers alone."""

    def __init__(
        self, application: ASGIApp, refuses: Callable[[], bool], listen: Callable[[], socket.socket]
    ) -> None:
        self._refuses, self._listen = refuses, listen
        super().__init__(
            uvicorn.Config(
                application,
                http=_Connection,
                loop="asyncio",
                log_config=None,  # handlers of its own would stay in the process that the simulator is a guest of
                log_level=logging.CRITICAL,
                access_log=False,
                lifespan="off",
                ws="none",
                server_header=False,
            )
        )
        self.serving = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        if not hasattr(self, "_loop"):
            self._loop, self._leaving = asyncio.get_running_loop(), asyncio.Event()
            self._thread_id = threading.get_ident()
            self._tasks: set[asyncio.Task[None]] = set()
            self._turn = asyncio.Lock()
            self.serving.set()

    async def main_loop(self) -> None:
        await self._leaving.wait()  # rather than looking ten times a second

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await self._close(sockets or [])

    async def _close(self, sockets: list[socket.socket]) -> None:
        """Stop listening, and then end every connection: asyncio loses those that it is accepting while it closes."""
        for server in self.servers:
            for each in server.sockets:
                with contextlib.suppress(NotImplementedError):  # an event loop of Windows
                    self._loop.remove_reader(each.fileno())
        for _ in range(ACCEPT_TURNS):
            for connection in list(self.server_state.connections):
                connection.transport.abort()  # rather than giving each a tenth of a second
            await asyncio.sleep(0)
        for server in self.servers:
            server.close()
        for each in sockets:
            each.close()

    def leave(self) -> None:
        """Stop serving, without waiting for connections that are still open."""
        self.should_exit = self.force_exit = True
        self.call(self._leaving.set)

    def call(self, function: Callable[[], object]) -> None:
        """Run a function on the server's thread."""
        try:
            self._loop.call_soon_threadsafe(function)
        except RuntimeError:  # the loop has ended
            return

    def reset(self, client: tuple[str, int] | None) -> None:
        """Reset a client's connection."""
        for connection in list(self.server_state.connections):
            if getattr(connection, "client", None) == client:
                peer = connection.transport.get_extra_info("socket")
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                connection.transport.abort()

    def later(self, seconds: float, function: Callable[[], object]) -> None:
        """Run a function on the server's thread after so many seconds."""
        self.call(lambda: self._loop.call_later(seconds, function))

    def heed(self, then: Callable[[], None]) -> None:
        """Listen exactly while no fault refuses connections; where another thread asks, return when it is so.

        Args:
            then: called when it is so.

        Raises:
            RuntimeError: when it is not so after 10 s, because somebody else took the port.
        """
        if self._refuses() is not self.serving.is_set():
            then()
            return
        if threading.get_ident() == self._thread_id:  # a command over HTTP: its own answer goes out first
            self._loop.call_later(ANSWER_SECONDS, self._settle, then)
            return
        done = threading.Event()
        self.call(lambda: self._settle(done.set))
        if not done.wait(START_SECONDS) and not self.should_exit:
            raise RuntimeError("the simulator cannot listen at its port again: somebody else took it")
        then()

    def _settle(self, then: Callable[[], None]) -> None:
        task = self._loop.create_task(self._follow_faults())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: then())

    async def _follow_faults(self) -> None:
        async with self._turn:
            if self._refuses() and self.serving.is_set():
                self.serving.clear()
                await self._close([])
            while not self._refuses() and not self.serving.is_set() and not self._leaving.is_set():
                await self._listen_again()

    async def _listen_again(self) -> None:
        try:
            await self.startup(sockets=[self._listen()])
        except OSError:  # somebody else has the port: it may be free again in a moment
            await asyncio.sleep(ANSWER_SECONDS)
        else:
            self.serving.set()
