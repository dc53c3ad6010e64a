"""The serving thread: what it assumes of uvicorn, what it leaves alone, and what becomes of its connections."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import inspect
import logging
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
import uvicorn
from patience import PATIENCE
from uvicorn.protocols.http.h11_impl import H11Protocol

from activitysmith_track.simulator import Simulator
from activitysmith_track.simulator.serving import LOGGERS, Server

RULES = ("clock", "device", "endpoints", "faults", "limits", "live_activities", "memory", "pushes", "service", "wire")


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Answer every request with its client; `/broken` fails, `/lingering` goes on for a moment after its answer."""
    if scope["path"] == "/broken":
        raise RuntimeError("the application is broken")
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": repr(scope["client"]).encode()})
    if scope["path"] == "/lingering":
        await asyncio.sleep(0.5)


class Serving:
    """A server with an application of its own, and whether it is to refuse connections."""

    def __init__(self) -> None:
        self.refuses, self.port = False, 0
        self.server = Server(self._listen, lambda: self.refuses)
        self.port = self.server.start(application).getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/"

    def _listen(self) -> socket.socket:
        return socket.create_server(("127.0.0.1", self.port))


@pytest.fixture
def serving() -> Iterator[Serving]:
    """A server that serves."""
    made = Serving()
    yield made
    made.server.stop()


# --------------------------------------------------------------------------------------------- what is assumed


def test_uvicorn_is_as_the_server_takes_it_to_be() -> None:
    """What `serving` uses of uvicorn, and uvicorn does not document, is there: see the head of that module.

    Where this fails, a version of uvicorn has changed it, and `activitysmith_track/simulator/serving.py` is the only
    place that has to follow.
    """
    server = uvicorn.Server(uvicorn.Config(application, log_config=None))
    for name in ("startup", "main_loop", "shutdown"):
        method = getattr(server, name, None)
        assert inspect.iscoroutinefunction(method), f"uvicorn.Server.{name} is no coroutine function any more"
    for name in ("startup", "shutdown"):
        parameters = inspect.signature(getattr(server, name)).parameters
        assert "sockets" in parameters, f"uvicorn.Server.{name} takes no sockets any more"
    assert not server.should_exit, "uvicorn.Server.should_exit is not there any more"
    assert issubclass(H11Protocol, asyncio.Protocol), "uvicorn's H11Protocol is no asyncio.Protocol any more"


def test_uvicorn_goes_through_what_is_overridden() -> None:
    """A server listens in `startup`, waits in `main_loop` and stops in `shutdown`, with the sockets it was given."""
    went: list[str] = []
    made: list[dict[str, Any]] = []

    class Protocol(H11Protocol):
        def __init__(self, **given: Any) -> None:
            made.append(given)
            super().__init__(**given)

    class Observed(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            went.append("startup")
            await super().startup(sockets=sockets)

        async def main_loop(self) -> None:
            went.append("main_loop")
            found = [each.getsockname() for server in self.servers for each in server.sockets]
            assert found == [listening.getsockname()], "uvicorn.Server.servers has not asyncio's servers any more"
            reader, writer = await asyncio.open_connection(*found[0])
            writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            went.append((await reader.read()).decode())
            went.append(repr(writer.get_extra_info("sockname")))
            writer.close()

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            went.append("shutdown")
            self.force_exit = True
            await super().shutdown(sockets=sockets)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        config = uvicorn.Config(
            application,
            http=Protocol,
            loop="asyncio",
            log_config=None,
            lifespan="off",
            ws="none",
            proxy_headers=False,
        )
        thread = threading.Thread(target=Observed(config).run, args=([listening],))
        thread.start()
        thread.join(PATIENCE)
    answer = went.pop(2)
    client = went.pop(2)
    assert went == ["startup", "main_loop", "shutdown"], "uvicorn.Server does not go through these any more"
    assert "200 OK" in answer
    assert client in answer, "the client of a scope is not the connection's other end any more"
    assert [{*given} & {"config", "server_state"} for given in made] == [{"config", "server_state"}]


def test_the_rules_import_nothing_of_http() -> None:
    """The simulated world, and whoever asks the service directly, need no HTTP library."""
    code = "import importlib, sys\n"
    code += f"for room in {RULES}: importlib.import_module('activitysmith_track.simulator.' + room)"
    code += "\nprint({'starlette', 'uvicorn', 'httpx', 'h11', 'asyncio', 'activitysmith_track.simulator.http'}"
    code += " & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.stdout.strip() == "set()", done.stderr


# --------------------------------------------------------------------------------------------- what is left alone


class Lines(logging.Handler):
    """Keeps what is logged, whatever its level."""

    def __init__(self) -> None:
        super().__init__(0)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"{record.name}: {record.getMessage()}")


@pytest.fixture
def lines() -> Iterator[list[str]]:
    """Everything that the process logs."""
    root, handler = logging.getLogger(), Lines()
    before = root.level
    root.addHandler(handler)
    root.setLevel(1)
    yield handler.lines
    root.setLevel(before)
    root.removeHandler(handler)


def test_no_line_of_uvicorn_is_in_the_jobs_log(serving: Serving, lines: list[str]) -> None:
    """Neither requests, nor failures, nor its start and its end, even where everything is logged."""
    assert httpx.get(serving.url).status_code == 200
    assert httpx.get(f"{serving.url}broken").status_code == 500
    with socket.create_connection(("127.0.0.1", serving.port), timeout=PATIENCE) as peer:
        peer.sendall(b"nonsense\r\n\r\n")
        assert b" 400 " in peer.recv(1_000)
    Serving().server.stop()
    assert [line for line in lines if line.startswith("uvicorn")] == []


def test_another_server_of_the_process_logs_as_ever(sim: Simulator, lines: list[str]) -> None:
    """Uvicorn's loggers are the process's: a job that uses uvicorn itself reads its own lines only."""
    for name in LOGGERS:
        logger = logging.getLogger(name)
        assert (logger.level, logger.handlers, logger.propagate) == (logging.NOTSET, [], True)
    own = uvicorn.Server(uvicorn.Config(application, log_config=None, lifespan="off"))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=own.run, args=([listening],))
        thread.start()
        url = "http://{}:{}".format(*listening.getsockname())
        assert httpx.get(f"{url}/mine").status_code == 200
        assert httpx.get(f"{sim.url}simulator/clock").status_code == 200
        own.should_exit = True
        thread.join(PATIENCE)
    told = [line for line in lines if line.startswith("uvicorn")]
    assert any('"GET /mine HTTP/1.1" 200' in line for line in told)
    assert any("Started server process" in line for line in told)
    assert not any("simulator" in line for line in told)


# --------------------------------------------------------------------------------------------- connections


def _after_turns(server: Server, turns: int, function: Callable[[], object]) -> None:
    """Call a function on the server's thread, so many turns of its loop later."""
    if turns:
        server.call(lambda: _after_turns(server, turns - 1, function))
    else:
        function()


@pytest.mark.parametrize("ends", ["leave", "refuse"])
@pytest.mark.parametrize("turns", range(8))
def test_a_connection_that_is_just_being_accepted(
    serving: Serving, recwarn: pytest.WarningsRecorder, turns: int, ends: str
) -> None:
    """Wherever the server is with a new connection when it stops serving, that connection ends, and nothing leaks."""
    server = serving.server
    with socket.socket() as client:
        client.settimeout(PATIENCE)
        stopping, stopped = threading.Event(), threading.Event()

        def stop_serving() -> None:
            stopping.set()
            if ends == "leave":
                server.leave()
            else:
                serving.refuses = True
                server.settle(stopped.set)

        def connect_and_stop_serving() -> None:
            client.connect(("127.0.0.1", serving.port))
            _after_turns(server, turns, stop_serving)

        server.call(connect_and_stop_serving)
        assert stopping.wait(PATIENCE)
        if ends == "refuse":
            assert stopped.wait(PATIENCE)
            with pytest.raises(httpx.ConnectError):
                httpx.get(serving.url)
        with contextlib.suppress(ConnectionResetError):
            assert client.recv(1) == b""
    server.stop()
    gc.collect()
    assert not [each for each in recwarn if each.category is ResourceWarning]


def test_a_client_is_who_it_is(serving: Serving) -> None:
    """A header that names another client does not hide the connection's own, which a fault may reset."""
    with httpx.Client(headers={"X-Forwarded-For": "192.0.2.7"}) as client:
        assert "192.0.2.7" not in client.get(serving.url).text


def test_a_head_that_begins_too_early(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    """A head that begins while the request before is not quite over, and goes no further, is not waited for."""
    monkeypatch.setattr("activitysmith_track.simulator.serving.HEAD_SECONDS", 0.3)
    with socket.create_connection(("127.0.0.1", serving.port), timeout=PATIENCE) as peer:
        peer.sendall(b"GET /lingering HTTP/1.1\r\nHost: a\r\n\r\n")
        received = peer.recv(1_000)
        peer.sendall(b"GET / HT")
        with contextlib.suppress(ConnectionResetError):
            while chunk := peer.recv(1_000):
                received += chunk
    assert received.count(b" 200 ") == 1
