"""The serving thread: uvicorn, made to start, to refuse connections, to reset one and to stop at once.

All that this package knows of uvicorn's inside is in this room. Documented are the arguments of `Config`, that its
`http` takes a class of protocols, and `Server.run`. Beyond that it is assumed, and tests/test_serving.py fails first
where a version of uvicorn changes it:

- `H11Protocol` takes keyword arguments, which are passed on, and speaks to asyncio as every `asyncio.Protocol` does.
- `Server.startup(sockets=...)` listens, and keeps what asyncio gave it for each socket in `servers`.
- Between start and stop `Server` waits in `main_loop()`, and then stops by `shutdown(sockets=...)`.
- It logs to the loggers in `LOGGERS`.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["LOGGERS", "Server"]

LOGGERS = ("uvicorn.error", "uvicorn.access", "uvicorn.asgi")
ANSWER_SECONDS = 0.05  # until a server that was told to refuse connections does so
HEAD_SECONDS = 30.0  # that the head of a request may take to come
START_SECONDS = 10.0  # what a start or a stop takes at most before it is an error
ACCEPT_TURNS = 5  # of the event loop, until a connection that asyncio has just accepted is known, and then gone

Client = tuple[str, int]  # the address and port of a connection's other end


class Connection(asyncio.Protocol):
    """A connection that does not wait for ever for the head of a request; uvicorn's protocol does the rest.

    Args:
        connections: those of the server, which it is one of while it is open.
        **given: what uvicorn gives its protocol.
    """

    def __init__(self, connections: Connections, **given: Any) -> None:
        self._connections, self._protocol = connections, H11Protocol(**given)
        self._patience: asyncio.TimerHandle | None = None
        self._answering = 0  # requests
        self._has_more = False  # whether something came while a request was being answered
        self.client: Client | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to wait for a request."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        peer = transport.get_extra_info("peername")
        self.client = (str(peer[0]), int(peer[1])) if peer else None
        self._connections.add(self)
        self._protocol.connection_made(transport)
        self._wait_for_head()

    def data_received(self, data: bytes) -> None:
        """Pass on what came, and wait for the rest."""
        self._has_more = self._answering > 0
        self._wait_for_head()
        self._protocol.data_received(data)

    def eof_received(self) -> bool | None:
        """Pass on that no more will come."""
        return self._protocol.eof_received()  # type: ignore[func-returns-value]  # asyncio asks for it

    def connection_lost(self, exc: Exception | None) -> None:
        """Be gone."""
        self._stop_waiting()
        self._connections.discard(self)
        self._protocol.connection_lost(exc)

    def pause_writing(self) -> None:
        """Pass on that the client reads slowly."""
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        """Pass on that the client has caught up."""
        self._protocol.resume_writing()

    @contextlib.contextmanager
    def answering(self) -> Iterator[None]:
        """Wait for no head while a request is answered, however long that takes."""
        self._answering += 1
        self._stop_waiting()
        try:
            yield
        finally:
            self._answering -= 1
            if self._has_more:  # perhaps the beginning of another head, for which uvicorn sets no time
                self._wait_for_head()

    def _wait_for_head(self) -> None:
        if self._patience is None and not self._answering and not self._transport.is_closing():
            self._patience = asyncio.get_running_loop().call_later(HEAD_SECONDS, self._transport.abort)

    def _stop_waiting(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def abort(self) -> None:
        """End it without sending what is still to be sent."""
        self._transport.abort()

    def reset(self) -> None:
        """End it so that the client is told of a reset."""
        peer = self._transport.get_extra_info("socket")
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.abort()


class Connections:
    """The open connections, and the application that answers their requests: each knows when it is being answered.

    Args:
        application: what answers.
    """

    def __init__(self, application: ASGIApp) -> None:
        self._application = application
        self._open: set[Connection] = set()
        self._clients: dict[Client | None, Connection] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        connection = self._clients.get(scope.get("client"))
        with connection.answering() if connection is not None else contextlib.nullcontext():
            await self._application(scope, receive, send)

    def add(self, connection: Connection) -> None:
        """Take in one that has been opened."""
        self._open.add(connection)
        self._clients[connection.client] = connection

    def discard(self, connection: Connection) -> None:
        """Forget one that is gone."""
        self._open.discard(connection)
        if self._clients.get(connection.client) is connection:
            del self._clients[connection.client]

    def reset(self, client: Client | None) -> None:
        """Reset a client's connection."""
        if (connection := self._clients.get(client)) is not None:
            connection.reset()

    def abort(self) -> None:
        """End all of them."""
        for connection in list(self._open):
            connection.abort()


class _Uvicorn(uvicorn.Server):
    """Uvicorn's server, which waits for a word rather than looking ten times a second, and stops without waiting.

    Args:
        application: the connections with their application.
        serves: called on the event loop when it serves.
    """

    def __init__(self, application: Connections, serves: Callable[[], object]) -> None:
        super().__init__(
            uvicorn.Config(
                application,
                http=functools.partial(Connection, application),  # type: ignore[arg-type]  # it is only called
                loop="asyncio",
                log_config=None,  # the process's logging is not the simulator's: see `quiet`
                lifespan="off",
                ws="none",
                proxy_headers=False,  # a client is who it is, whatever it says in X-Forwarded-For
                server_header=False,
            )
        )
        self._connections, self._serves = application, serves
        self._leaving = asyncio.Event()

    async def main_loop(self) -> None:
        self._serves()
        await self._leaving.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await self.stop_listening()
        for each in sockets or []:
            each.close()

    def leave(self) -> None:
        """Go on from `main_loop`."""
        self.should_exit = self.force_exit = True
        self._leaving.set()

    async def listen(self, listening: socket.socket) -> None:
        """Listen at another socket, after `stop_listening`."""
        await self.startup(sockets=[listening])

    async def stop_listening(self) -> None:
        """Stop listening, and then end every connection: asyncio loses those that it is accepting while it closes."""
        loop = asyncio.get_running_loop()
        for server in self.servers:
            for each in server.sockets:
                with contextlib.suppress(NotImplementedError):  # an event loop of Windows
                    loop.remove_reader(each.fileno())
        for _ in range(ACCEPT_TURNS):
            self._connections.abort()  # rather than giving each a tenth of a second
            await asyncio.sleep(0)
        for server in self.servers:
            server.close()


class Server:
    """A server on a thread of its own, which leaves the process's signal handlers and loggers alone.

    Args:
        listen: opens the listening socket, again after each refusal.
        refuses: tells whether connections are to be refused now.

    Attributes:
        serving: set while it listens.
    """

    def __init__(self, listen: Callable[[], socket.socket], refuses: Callable[[], bool]) -> None:
        self._listen, self._refuses = listen, refuses
        self._thread: threading.Thread | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.serving = threading.Event()

    @property
    def is_running(self) -> bool:
        """True from the start to the stop, also while connections are refused."""
        return self._thread is not None

    def start(self, application: ASGIApp) -> socket.socket:
        """Serve.

        Args:
            application: what answers.

        Returns:
            The listening socket, when requests are answered.

        Raises:
            OSError: where the socket cannot be opened.
            RuntimeError: when it does not serve after 10 s.
        """
        listening = self._listen()
        self._connections = Connections(application)
        self._uvicorn = _Uvicorn(self._connections, self._begin)
        self._turn = asyncio.Lock()
        thread = threading.Thread(target=self._run, args=(listening,), name="activitysmith-simulator", daemon=True)
        thread.start()
        if not self.serving.wait(START_SECONDS):
            raise RuntimeError("the simulator did not start")
        self._thread = thread
        return listening

    def _run(self, listening: socket.socket) -> None:
        with quiet():
            self._uvicorn.run(sockets=[listening])

    def _begin(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.serving.set()

    def leave(self) -> None:
        """Stop serving, without waiting for connections that are still open, nor for the thread."""
        self.call(self._uvicorn.leave)

    def stop(self) -> None:
        """Stop serving, and return when the thread has ended, or after 10 s."""
        if self._thread is not None:
            self.leave()
            self._thread.join(START_SECONDS)
            self.serving.clear()
            self._thread = None

    def call(self, function: Callable[[], object]) -> None:
        """Run a function on the server's thread, if there is one."""
        if self._thread is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(function)

    def later(self, seconds: float, function: Callable[[], object]) -> None:
        """Run a function on the server's thread after so many seconds."""
        self.call(lambda: self._loop.call_later(seconds, function))

    def reset(self, client: Client | None) -> None:
        """Reset a client's connection; called on the server's thread."""
        self._connections.reset(client)

    # -- refusing connections

    def heed(self, then: Callable[[], None]) -> None:
        """While it runs, listen exactly while connections are not to be refused.

        It returns when it is so; where the server's own thread asks, it will be so a moment later.

        Args:
            then: called when it is so, at once where it does not run.

        Raises:
            RuntimeError: when it is not so after 10 s, because somebody else took the port.
        """
        if not self.is_running or self._refuses() is not self.serving.is_set():
            then()
            return
        if threading.current_thread() is self._thread:  # a command over HTTP: its own answer goes out first
            self._loop.call_later(ANSWER_SECONDS, self.settle, then)
            return
        done = threading.Event()
        self.call(lambda: self.settle(done.set))
        if not done.wait(START_SECONDS) and not self._uvicorn.should_exit:
            raise RuntimeError("the simulator cannot listen at its port again: somebody else took it")
        then()

    def settle(self, then: Callable[[], None]) -> None:
        """Begin to listen, or stop it, as it is to be; called on the server's thread.

        Args:
            then: called when it is so.
        """
        task = self._loop.create_task(self._follow())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: then())

    async def _follow(self) -> None:
        async with self._turn:
            if self._refuses() and self.serving.is_set():
                self.serving.clear()
                await self._uvicorn.stop_listening()
            while not self._refuses() and not self.serving.is_set() and not self._uvicorn.should_exit:
                await self._listen_again()

    async def _listen_again(self) -> None:
        try:
            await self._uvicorn.listen(self._listen())
        except OSError:  # somebody else has the port: it may be free again in a moment
            await asyncio.sleep(ANSWER_SECONDS)
        else:
            self.serving.set()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep what uvicorn logs on this thread out of the log.

    Its loggers are the process's, and may be those of a server of the job's own as well: so neither their levels nor
    their handlers are touched.
    """
    thread = threading.get_ident()

    def is_of_another_thread(_: logging.LogRecord) -> bool:
        return threading.get_ident() != thread

    for name in LOGGERS:
        logging.getLogger(name).addFilter(is_of_another_thread)
    try:
        yield
    finally:
        for name in LOGGERS:
            logging.getLogger(name).removeFilter(is_of_another_thread)
