"""A service that has gone mad, or is somebody else: bounded in time and memory, and it learns and leaks nothing."""

from __future__ import annotations

import asyncio
import copy
import gzip
import json
import logging
import pickle
import random
import re
import socket
import ssl
import struct
import subprocess
import threading
import traceback
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from email.utils import formatdate
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from fuzzing import answers
from patience import times_out, until

from activitysmith_track import ActivitySmith, AsyncActivitySmith, Settings, Tracker, errors
from activitysmith_track.client.answers import (
    LONGEST_RETRY_AFTER,
    PushAnswer,
    StreamAnswer,
    read_answer,
    retry_after,
)
from activitysmith_track.client.transport import MAX_ANSWER_BYTES, NoCookies

pytestmark = [pytest.mark.once, pytest.mark.real]

KEY = "key-that-nobody-may-see"
SECONDS = 0.3  # of an attempt that nothing at all need come of
ENOUGH = 2.5  # seconds of an attempt that is to time out, but not before the request has been sent
SLACK = 60.0  # seconds after which a test gives up: nothing is asserted about speed, only that there is an end
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
FINE = b'{"success": true}'
MUCH = {"x": "y" * 20_000_000}


def framed(body: bytes, *headers: bytes, status: bytes = b"200 OK") -> bytes:
    """Write a whole answer."""
    head = [b"HTTP/1.1 " + status, *headers, b"content-length: %d" % len(body), b"connection: close"]
    return b"\r\n".join(head) + b"\r\n\r\n" + body


def request(connection: socket.socket) -> bytes:
    """Read a whole request."""
    came = connection.recv(65_536)
    while b"\r\n\r\n" not in came:
        came += connection.recv(65_536) or b"\r\n\r\n"
    head, _, body = came.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)content-length: (\d+)", head)
    while length and len(body) < int(length[1]):
        body += connection.recv(65_536)
    return head + b"\r\n\r\n" + body


class Peer:
    """A server on loopback that does with a connection what a test wants."""

    def __init__(self, serve: Callable[[socket.socket], None], context: ssl.SSLContext | None = None) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.url = f"{'https' if context else 'http'}://127.0.0.1:{self.port}/api"
        self._serve, self._context = serve, context
        self.requests: list[bytes] = []
        self.stopped = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        try:
            with self._context.wrap_socket(connection, server_side=True) if self._context else connection as spoken:
                self.requests.append(request(spoken))
                self._serve(spoken)
                with suppress(OSError):  # so that the answer is not lost with what was not read
                    spoken.shutdown(socket.SHUT_WR)
                    spoken.settimeout(SLACK)
                    spoken.recv(1)
        except (OSError, ValueError):
            return

    def flood(self, connection: socket.socket, data: bytes, pause: float = 0.0) -> None:
        """Send the same for as long as the other side takes it."""
        while not self.stopped.wait(pause) if pause else not self.stopped.is_set():
            connection.sendall(data)

    def drip(self, connection: socket.socket, data: bytes) -> None:
        """Send byte after byte, each well within the time of one read."""
        for byte in data:
            if self.stopped.wait(SECONDS / 8):
                return
            connection.sendall(bytes([byte]))

    def close(self) -> None:
        """Listen no more."""
        self.stopped.set()
        with suppress(OSError):  # wakes its thread, which might else serve the next owner of the number
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


Make = Callable[..., Peer]


@pytest.fixture
def peer() -> Iterator[Make]:
    """Make servers that misbehave."""
    made: list[Peer] = []

    def make(serve: Callable[[Peer, socket.socket], None], context: ssl.SSLContext | None = None) -> Peer:
        server = Peer(lambda connection: serve(server, connection), context)
        made.append(server)
        return server

    yield make
    for each in made:
        each.close()


@pytest.fixture(params=["sync", "async"])
def kind(request: pytest.FixtureRequest) -> str:
    """Both clients, one after the other."""
    return str(request.param)


def ask(kind: str, url: str, *, times: int = 1, **options: Any) -> Any:
    """Send pushes with a client of either kind, in one attempt each; there is an end to it in any case."""
    options = {"base_url": url, "timeout": SLACK, "max_attempts": 1, **options}
    came: list[Any] = []

    def use() -> None:
        try:
            came.append(_ask(kind, times, options))
        except BaseException as error:
            came.append(error)

    thread = threading.Thread(target=use, daemon=True)
    thread.start()
    thread.join(2 * SLACK)
    assert came, "the attempt does not end"
    if isinstance(came[0], BaseException):
        raise came[0]
    return came[0]


def _ask(kind: str, times: int, options: dict[str, Any]) -> Any:
    if kind == "sync":
        with ActivitySmith(KEY, **options) as client:
            return [client.notifications.send(title="T") for _ in range(times)][-1]

    async def awaited() -> Any:
        async with AsyncActivitySmith(KEY, **options) as client:
            return [await client.notifications.send(title="T") for _ in range(times)][-1]

    return asyncio.run(awaited())


# ------------------------------------------------------------------------------------------------ endless answers

CHUNK = b"10000\r\n" + b"x" * 65_536 + b"\r\n"
ENDLESS: dict[str, tuple[bytes, bytes]] = {
    "a body of 10 GB": (HEAD + b"content-length: 10000000000\r\n\r\n", b"x" * 65_536),
    "a body until the end": (HEAD + b"\r\n", b"x" * 65_536),
    "chunks": (HEAD + b"transfer-encoding: chunked\r\n\r\n", CHUNK),
    "chunks of a byte": (HEAD + b"transfer-encoding: chunked\r\n\r\n", b"1\r\nx\r\n" * 1_000),
    "a chunk's head": (HEAD + b"transfer-encoding: chunked\r\n\r\n1;", b"x" * 65_536),
    "trailers": (HEAD + b"transfer-encoding: chunked\r\n\r\n0\r\n", b"x: y\r\n" * 1_000),
    "headers": (HEAD, b"x: y\r\n" * 1_000),
    "one header": (HEAD + b"x: ", b"y" * 65_536),
    "a status line": (b"HTTP/1.1 200 ", b"O" * 65_536),
    "what is no HTTP": (b"", b"\x00" * 65_536),
    "empty lines": (b"", b"\r\n" * 1_000),
    "interim answers": (b"", b"HTTP/1.1 102 Processing\r\n\r\n" * 1_000),
    "early hints": (b"", b"HTTP/1.1 103 Early Hints\r\nlink: " + b"x" * 1_000 + b"\r\n\r\n"),
}


@pytest.mark.parametrize("endless", ENDLESS)
def test_endless_answers(kind: str, peer: Make, endless: str) -> None:
    """Whatever has no end is given up within the attempt's time, and little of it is kept."""
    first, more = ENDLESS[endless]

    def serve(server: Peer, connection: socket.socket) -> None:
        connection.sendall(first)
        server.flood(connection, more)

    server = peer(serve)
    tracemalloc.start()
    try:
        with pytest.raises((errors.DeliveryError, errors.InvalidAnswer)):
            ask(kind, server.url, timeout=SECONDS)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 40 * MAX_ANSWER_BYTES


DRIPPING: dict[str, tuple[bytes, bytes]] = {
    "the status line": (b"", b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 1_000),
    "a header": (HEAD + b"x: ", b"y" * 10_000),
    "interim answers": (b"", b"HTTP/1.1 102 P\r\n\r\n" * 1_000),
    "the body": (HEAD + b"content-length: 99999\r\n\r\n", b" " * 10_000),
    "a chunk": (HEAD + b"transfer-encoding: chunked\r\n\r\nfff\r\n", b" " * 10_000),
    "a chunk's head": (HEAD + b"transfer-encoding: chunked\r\n\r\n", b"0" * 10_000),
    "trailers": (HEAD + b"transfer-encoding: chunked\r\n\r\n0\r\n", b"x: y\r\n" * 1_000),
}


def test_dripping_answers(kind: str, peer: Make) -> None:
    """Bytes that come one by one, each in time, do not lengthen the attempt."""

    def outcome(first: bytes, more: bytes) -> Any:
        def serve(server: Peer, connection: socket.socket) -> None:
            connection.sendall(first)
            server.drip(connection, more)

        url = peer(serve).url
        return times_out(lambda seconds: ask(kind, url, timeout=seconds), ENOUGH).delivered

    with ThreadPoolExecutor(len(DRIPPING)) as pool:
        outcomes = {what: pool.submit(outcome, *bytes_) for what, bytes_ in DRIPPING.items()}
    assert {what: each.result() for what, each in outcomes.items()} == dict.fromkeys(DRIPPING)


def test_dripping_after_a_fine_answer(kind: str, peer: Make) -> None:
    """A connection that is used again has a deadline for each request."""

    def serve(server: Peer, connection: socket.socket) -> None:
        connection.sendall(HEAD + b"content-length: %d\r\n\r\n" % len(FINE) + FINE)
        server.requests.append(request(connection))
        server.drip(connection, b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 1_000)

    server = peer(serve)
    with pytest.raises(errors.RequestTimedOut):
        ask(kind, server.url, times=2, timeout=ENOUGH)
    assert until(lambda: len(server.requests) == 2)


def test_a_handshake_that_drips(kind: str) -> None:
    """A server that never says its part of the TLS handshake times out, and surely has not seen the request."""
    release = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            with suppress(OSError), listener.accept()[0] as connection:
                connection.sendall(struct.pack("!BHH", 22, 0x0303, 0x4000))
                while not release.wait(SECONDS / 8):
                    connection.sendall(b"\x02")

        threading.Thread(target=accept, daemon=True).start()
        with pytest.raises(errors.DeliveryError) as caught:
            ask(kind, f"https://127.0.0.1:{listener.getsockname()[1]}", timeout=SECONDS)
        release.set()
    assert caught.value.delivered is False


def test_a_server_that_does_not_read(kind: str) -> None:
    """A request that nobody takes is given up; part of it has left, so nobody can tell."""
    release = threading.Event()
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        listener.bind(("127.0.0.1", 0))
        listener.listen()

        def accept() -> None:
            with suppress(OSError), listener.accept()[0]:
                release.wait(SLACK)

        threading.Thread(target=accept, daemon=True).start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"

        def send_much(seconds: float) -> None:
            if kind == "sync":
                with ActivitySmith(KEY, base_url=url, timeout=seconds, max_attempts=1) as client:
                    client.notifications.send(title="T", payload=MUCH)
            else:
                asyncio.run(_send_much(url, seconds))

        error = times_out(send_much, ENOUGH)
        release.set()
    assert error.delivered is None


async def _send_much(url: str, seconds: float) -> None:
    async with AsyncActivitySmith(KEY, base_url=url, timeout=seconds, max_attempts=1) as client:
        await client.notifications.send(title="T", payload=MUCH)


def test_a_task_that_is_cancelled(peer: Make) -> None:
    """Whoever cancels the task sees a cancellation, not a timeout of ours."""
    begun = threading.Event()

    def serve(server: Peer, connection: socket.socket) -> None:
        begun.set()
        server.stopped.wait(SLACK)

    server = peer(serve)

    async def main() -> None:
        async with AsyncActivitySmith(KEY, base_url=server.url, timeout=SLACK) as client:
            task = asyncio.create_task(client.notifications.send(title="T"))
            await asyncio.to_thread(begun.wait, SLACK)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(main())


# --------------------------------------------------------------------------------------------------- odd answers


def bomb(size: int) -> bytes:
    """Zip so many megabytes of spaces."""
    return gzip.compress(b" " * (size * 1024 * 1024))


@pytest.mark.parametrize("encoding", [b"gzip", b"deflate", b"br", b"zstd", b"gzip, gzip"])
def test_bombs(kind: str, peer: Make, encoding: bytes) -> None:
    """A zipped answer that nobody asked for is never blown up beyond the bound."""
    packed = bomb(200)
    server = peer(lambda _, connection: connection.sendall(framed(packed, b"content-encoding: " + encoding)))
    tracemalloc.start()
    try:
        with pytest.raises(errors.InvalidAnswer):
            ask(kind, server.url)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 20 * MAX_ANSWER_BYTES
    assert b"accept-encoding: identity" in server.requests[0].lower()


def test_a_zipped_answer(kind: str, peer: Make) -> None:
    """One that a gateway has zipped all the same is read; what only says so is not."""
    packed = gzip.compress(FINE)
    server = peer(lambda _, connection: connection.sendall(framed(packed, b"content-encoding: gzip")))
    assert ask(kind, server.url).success
    server = peer(lambda _, connection: connection.sendall(framed(FINE, b"content-encoding: gzip")))
    with pytest.raises(errors.InvalidAnswer, match="gzip"):
        ask(kind, server.url)


ODD_FRAMES = [
    b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
    b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999999999\r\n\r\n{}",
    b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\ncontent-length: 5\r\n\r\n{}",
    b"HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\n" + FINE,
    b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n" + FINE,
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n{}",
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n-5\r\n{}",
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\n{}",
    b"HTTP/1.1 099 Low\r\n\r\n",
    b"HTTP/1.1 999 High\r\n\r\n{}",
    b"HTTP/1.1 200\r\n\r\n{",
    b"HTTP/9.9 200 OK\r\n\r\n[]",
    b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n{}",
    b"HTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n folded: x\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nx\x00y: z\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nx: \xff\xfe\r\n\r\n[]",
    b"",
    b"\r\n",
    b"{}",
]


@pytest.mark.parametrize("frame", ODD_FRAMES)
def test_odd_frames(kind: str, peer: Make, frame: bytes) -> None:
    """Answers that break the rules of HTTP are errors of ours."""
    server = peer(lambda _, connection: connection.sendall(frame))
    with pytest.raises((errors.DeliveryError, errors.InvalidAnswer, errors.StatusError)):
        ask(kind, server.url)


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 500_000,
        b'{"a":' * 150_000,
        b'{"success": true, "x": ' + b"[" * 50_000 + b"]" * 50_000 + b"}",
        b'{"success": ' + b"9" * 900_000 + b"}",
        b'{"success": NaN}',
        b'{"success": -Infinity}',
        b'{"success": true, "title": "\xff\xfe"}',
        FINE.decode().encode("utf-32") + b"\x01",
        b"null",
        b"\x00" * 1_000,
    ],
)
def test_odd_json(kind: str, peer: Make, body: bytes) -> None:
    """JSON that is too deep, has numbers that are too large, or is none, is an error of ours."""
    server = peer(lambda _, connection: connection.sendall(framed(body)))
    with pytest.raises(errors.InvalidAnswer):
        ask(kind, server.url)
    server = peer(lambda _, connection: connection.sendall(framed(body, status=b"500 No")))
    with pytest.raises(errors.ServerError, match="500"):
        ask(kind, server.url)


def test_duplicate_keys_and_large_numbers() -> None:
    """The last of two values counts, and numbers that a float can hold are numbers."""
    answer = read_answer(PushAnswer, 200, {}, b'{"notification_id": "a", "notification_id": "b", "n": 1e400}', 0.0)
    assert (answer.notification_id, answer.n) == ("b", float("inf"))
    assert read_answer(PushAnswer, 200, {}, b'{"n": ' + b"9" * 400 + b"}", 0.0).n == int("9" * 400)


@pytest.mark.parametrize("value", ["x" * 10**6, ["deep"], {"a": 1}, "\ud800", None, 0, True, 7.5])
def test_what_an_error_says(value: Any) -> None:
    """A service's own words are short texts that any log can carry, whatever it sends in their place."""
    error = errors.status_error(400, {"error": value, "message": value}, reason="Bad Request")
    assert len(str(error)) < 2_100
    str(error).encode()


# ------------------------------------------------------------------------------------------------------- headers


def test_redirects_are_not_followed(kind: str, peer: Make) -> None:
    """Another address is not asked, least of all with the key."""
    other = peer(lambda _, connection: connection.sendall(framed(FINE)))
    location = b"location: " + other.url.encode()
    for status in (b"301 Moved", b"302 Found", b"307 Temporary", b"308 Permanent"):
        server = peer(lambda _, connection, status=status: connection.sendall(framed(b"", location, status=status)))
        with pytest.raises(errors.StatusError):
            ask(kind, server.url)
    assert other.requests == []


def test_cookies_are_not_kept(kind: str, peer: Make) -> None:
    """What a service sets is not sent back, and not even read."""

    def serve(server: Peer, connection: socket.socket) -> None:
        for _ in range(2):
            cookies = b"set-cookie: a=b; expires=" + b"0 " * 20_000 + b"\r\n"
            connection.sendall(HEAD + cookies + b"content-length: %d\r\n\r\n" % len(FINE) + FINE)
            server.requests.append(request(connection))

    server = peer(serve)
    ask(kind, server.url, times=2)
    assert len(server.requests) >= 2
    assert all(b"cookie" not in request.lower() for request in server.requests)
    assert list(NoCookies()) == []


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("9" * 5_000, LONGEST_RETRY_AFTER),
        ("86400", LONGEST_RETRY_AFTER),
        (formatdate(10**9 + 86_400, usegmt=True), LONGEST_RETRY_AFTER),
        ("Fri, 31 Dec 9999 23:59:59 -0000", LONGEST_RETRY_AFTER),
        ("Mon, 01 Jan 0001 00:00:00 GMT", 0.0),
        ("Mon, 99 Foo 2020 99:99:99 GMT", None),
        ("0 " * 50_000, None),
        ("1e9", None),
        ("-1", None),
        ("٣", None),
        ("\x00", None),
        (",", None),
    ],
)
def test_retry_after(text: str, seconds: float | None) -> None:
    """An answer cannot ask for more than an hour of silence, and no date is too odd to be looked at."""
    found = retry_after({"retry-after": text}, 10.0**9)
    assert found in (seconds, 0.0) if seconds == 0.0 else found == seconds


# ----------------------------------------------------------------------------------------------------------- TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1 that nobody has signed, with its key in the same file."""
    path = tmp_path_factory.mktemp("tls")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=test"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(path / "key"), "-out", str(path / "cert")]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):  # pragma: no cover
        pytest.skip("needs openssl to make a certificate")
    (path / "both").write_bytes((path / "key").read_bytes() + (path / "cert").read_bytes())
    return path / "both"


def spoken_by(certificate: Path) -> ssl.SSLContext:
    """Make a server's side of TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


def test_certificates_are_verified(kind: str, peer: Make, certificate: Path) -> None:
    """A certificate that nobody has signed is refused before the key is sent, unless the environment trusts it."""
    server = peer(lambda _, connection: connection.sendall(framed(FINE)), spoken_by(certificate))
    with pytest.raises(errors.ConnectionFailed, match="CERTIFICATE_VERIFY_FAILED") as caught:
        ask(kind, server.url)
    assert caught.value.delivered is False
    assert server.requests == []


def test_a_trusted_certificate(kind: str, peer: Make, certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`SSL_CERT_FILE` is honoured; for another name than its own the certificate is still refused."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    server = peer(lambda _, connection: connection.sendall(framed(FINE)), spoken_by(certificate))
    assert ask(kind, server.url).success
    with pytest.raises(errors.ConnectionFailed, match="CERTIFICATE_VERIFY_FAILED"):
        ask(kind, server.url.replace("127.0.0.1", "localhost"))


def test_dripping_over_tls(kind: str, peer: Make, certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The deadline holds under TLS as well."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))

    def serve(server: Peer, connection: socket.socket) -> None:
        connection.sendall(HEAD + b"x: ")
        server.drip(connection, b"y" * 10_000)

    with pytest.raises(errors.RequestTimedOut):
        ask(kind, peer(serve, spoken_by(certificate)).url, timeout=ENOUGH)


def test_dripping_through_a_proxy(kind: str, peer: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy from the environment is used, and the deadline holds there too."""

    def serve(server: Peer, connection: socket.socket) -> None:
        server.drip(connection, b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 1_000)

    server = peer(serve)
    monkeypatch.setenv("HTTPS_PROXY", server.url.removesuffix("/api"))
    times_out(lambda seconds: ask(kind, "https://service.example/api", timeout=seconds), ENOUGH)
    assert until(lambda: server.requests)
    assert server.requests[0].startswith(b"CONNECT service.example:443")
    assert KEY.encode() not in server.requests[0]


def test_loopback_has_no_proxy(kind: str, peer: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the environment says, what is meant for this machine stays on it, by any of its names."""
    for name in ("HTTP_PROXY", "ALL_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    server = peer(lambda _, connection: connection.sendall(framed(FINE)))
    assert ask(kind, server.url).success
    assert ask(kind, server.url.replace("127.0.0.1", "localhost")).success
    for name in ("HTTP_PROXY", "ALL_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, server.url.removesuffix("/api"))
    with pytest.raises(errors.ConnectionFailed):
        ask(kind, "http://[::1]:9")
    assert len(server.requests) == 2


# -------------------------------------------------------------------------------------------------- the key


def frames(error: BaseException | None, seen: set[int] | None = None) -> Iterator[FrameType]:
    """Yield the frames of an exception and of all that it came from, other than this file's."""
    seen = set() if seen is None else seen
    if error is None or id(error) in seen:
        return
    seen.add(id(error))
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if frame.f_code.co_filename != __file__:
            yield frame
    yield from frames(error.__cause__, seen)
    yield from frames(error.__context__, seen)


def locals_of(error: BaseException) -> str:
    """Write what a traceback with locals would show."""
    return "\n".join(_shown(value) for frame in frames(error) for value in frame.f_locals.values())


def _shown(value: object) -> str:
    try:
        return repr(value)
    except Exception:  # such as an object that is only half made
        return "?"


Serve = Callable[[Peer, socket.socket], None]
FAILURES: dict[str, Serve] = {
    "silence": lambda server, connection: server.stopped.wait(SLACK) and None,
    "an echo without an end": lambda server, connection: (
        connection.sendall(HEAD + b"\r\n" + server.requests[-1]),
        server.stopped.wait(SLACK),
        None,
    )[-1],
    "a break": lambda server, connection: None,
    "a broken body": lambda server, connection: connection.sendall(HEAD + b"content-length: 99\r\n\r\n{"),
    "no JSON": lambda server, connection: connection.sendall(framed(b"<html>")),
    "500": lambda server, connection: connection.sendall(framed(b"{}", status=b"500 No")),
    "an echo": lambda server, connection: connection.sendall(framed(server.requests[-1], status=b"400 Bad")),
    "an echo in JSON": lambda server, connection: connection.sendall(
        framed(
            json.dumps({"error": server.requests[-1].decode()}).encode(),
            b"x-echo: " + KEY.encode(),
            status=b"400 Bad",
        )
    ),
    "an echo that is too long": lambda server, connection: connection.sendall(framed(server.requests[-1] * 9_000)),
    "an echo that says it is zipped": lambda server, connection: connection.sendall(
        framed(server.requests[-1], b"content-encoding: gzip")
    ),
    "an echo that is fine": lambda server, connection: connection.sendall(framed(server.requests[-1])),
}


ENDLESS_FAILURES = ("silence", "an echo without an end")


@pytest.mark.parametrize("failure", FAILURES)
def test_the_key_is_in_no_error(kind: str, peer: Make, failure: str, caplog: pytest.LogCaptureFixture) -> None:
    """Neither the words nor the attributes nor any frame of an error show the key, even if the service repeats it."""
    caplog.set_level(logging.INFO)
    server = peer(FAILURES[failure])
    with pytest.raises(errors.ActivitySmithError) as caught:
        ask(kind, server.url, timeout=ENOUGH if failure in ENDLESS_FAILURES else SLACK)
    error = caught.value
    shown = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    assert KEY not in shown + repr(error) + repr(vars(error)) + caplog.text
    assert KEY not in locals_of(error)
    assert until(lambda: server.requests)
    assert KEY.encode() in server.requests[0]


def test_the_key_is_in_no_error_of_a_connection(kind: str) -> None:
    """Nor where there is nobody to talk to."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(errors.ConnectionFailed) as caught:
        ask(kind, f"http://127.0.0.1:{port}")
    assert KEY not in locals_of(caught.value)


@pytest.mark.parametrize("make", [ActivitySmith, AsyncActivitySmith])
@pytest.mark.parametrize(
    ("options", "environment"),
    [
        ({"timeout": 0}, {}),
        ({"max_attempts": 0}, {}),
        ({"base_url": "ftp://x"}, {}),
        ({}, {"HTTPS_PROXY": "nonsense://x"}),
        ({"api_key": KEY + "\n" + KEY}, {}),
        ({"api_key": KEY + "ä"}, {}),
    ],
)
def test_the_key_is_in_no_frame_of_a_client_that_cannot_be_made(
    make: type, options: dict[str, Any], environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor where a setting is wrong, in the frames of this library and of those underneath."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError) as caught:
        make(**{"api_key": KEY, **options})
    assert KEY not in str(caught.value) + locals_of(caught.value)


@pytest.mark.parametrize("make", [ActivitySmith, AsyncActivitySmith])
def test_a_client_keeps_its_key(make: type) -> None:
    """The key is in no repr, and a client can be neither pickled nor copied."""
    client = make(KEY, base_url="http://127.0.0.1:9")
    assert KEY not in repr(client) + repr(vars(client))
    for copying in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="cannot be pickled"):
            copying(client)


def test_settings_leave_the_key_out_of_a_pickle() -> None:
    """What another process reads has no key in it; a tracker cannot be pickled at all."""
    dumped = pickle.dumps(Settings(api_key=KEY, exit_timeout=3.0))
    assert KEY.encode() not in dumped
    assert pickle.loads(dumped) == Settings(exit_timeout=3.0)
    tracker = Tracker(api_key=KEY)
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(tracker)


# ------------------------------------------------------------------------------------------------------- the fuzz


def test_odd_bytes_for_answers() -> None:
    """Six thousand answers, from noise to almost fine: an answer or an error of ours, and nothing else."""
    rng = random.Random(8)
    read = 0
    for status, headers, content in answers(rng, 6_000):
        answer = rng.choice((PushAnswer, StreamAnswer))
        try:
            read += isinstance(read_answer(answer, status, headers, content, 1.0), answer)
        except errors.ActivitySmithError as error:
            str(error).encode()
    assert read > 100


def test_odd_bytes_on_the_wire(kind: str, peer: Make) -> None:
    """Answers with damage anywhere, over a real connection: the same."""
    rng = random.Random(9)
    fine = framed(b'{"success": true, "notification_id": "n"}', b"content-type: application/json")

    def serve(server: Peer, connection: socket.socket) -> None:
        data = bytearray(fine)
        for _ in range(rng.randrange(1, 6)):
            at = rng.randrange(len(data))
            data[at : at + rng.randrange(3)] = rng.randbytes(rng.randrange(3))
        connection.sendall(data)

    server = peer(serve)
    for _ in range(60):
        with suppress(errors.ActivitySmithError):
            ask(kind, server.url)
