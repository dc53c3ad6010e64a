"""The two clients: answers, errors, retries, and what they keep to themselves."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import http.server
import json
import logging
import pickle
import re
import socket
import threading
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from email.utils import formatdate
from typing import Any

import httpx
import pytest
import tenacity
from patience import PATIENCE, times_out, until
from pytest_httpx import HTTPXMock
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from activitysmith_track import ActivitySmith, AsyncActivitySmith, InvalidRequest, errors
from activitysmith_track.client.answers import retry_after
from activitysmith_track.simulator import Simulator

URL = "https://service.example/api"
KEY = "key-that-nobody-may-see"
STARTED = {"success": True, "operation": "started", "stream_key": "k", "activity_id": "act_1", "novel": {"x": 1}}
STATE = {"title": "T", "type": "progress", "percentage": 4}

Use = Callable[[Any], Any]


def run(kind: str, use: Use, **options: Any) -> Any:
    """Use a client of either kind, and return what its call returned."""
    options = {"base_url": URL, **options}
    if kind == "sync":
        with ActivitySmith(KEY, **options) as client:
            return use(client)

    async def awaited() -> Any:
        async with AsyncActivitySmith(KEY, **options) as client:
            return await use(client)

    return asyncio.run(awaited())


@pytest.fixture(params=["sync", "async"])
def kind(request: pytest.FixtureRequest) -> str:
    """Both clients, one after the other."""
    return str(request.param)


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The waits between attempts, which take no time here."""
    waited: list[float] = []

    async def pause(seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr(tenacity.nap.time, "sleep", waited.append)
    monkeypatch.setattr(asyncio, "sleep", pause)
    return waited


def put(client: Any) -> Any:
    """Start or update a stream: a request that may be repeated."""
    return client.live_activities.stream("k", **STATE)


def delete(client: Any) -> Any:
    """End a stream: a request that may be repeated."""
    return client.live_activities.end_stream("k")


def post(client: Any) -> Any:
    """Send a push: a request that must not be repeated."""
    return client.notifications.send(title="T")


def insist(client: Any) -> Any:
    """Send a push that may arrive twice, but must arrive."""
    return client.notifications.send(title="T", at_least_once=True)


# ---------------------------------------------------------------------------------------------------------- answers


def test_answers_keep_what_they_do_not_know(kind: str, httpx_mock: HTTPXMock) -> None:
    """Known fields are attributes, missing ones are None, unknown ones are kept."""
    httpx_mock.add_response(json=STARTED)
    answer = run(kind, put)
    assert (answer.operation, answer.activity_id, answer.warning) == ("started", "act_1", None)
    assert answer.novel == {"x": 1}
    assert answer.body == STARTED
    with pytest.raises(AttributeError, match="no field 'missing'"):
        _ = answer.missing


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"<html>", "not a JSON object"),
        (b"", "not a JSON object"),
        (b'{"success": tr', "not a JSON object"),
        (b"[1]", "not a JSON object"),
        (b"[" * 100_000, "not a JSON object"),
        (b'{"success": true}', "lacks 'operation'"),
        (b'{"operation": 3}', "lacks 'operation'"),
        (b"x" * (1024 * 1024 + 1), "longer than"),
    ],
)
def test_unreadable_answers(kind: str, httpx_mock: HTTPXMock, content: bytes, says: str) -> None:
    """An answer that is not the documented object is an error of ours, with the beginning of what came."""
    httpx_mock.add_response(content=content)
    with pytest.raises(errors.InvalidAnswer, match=re.escape(says)) as caught:
        run(kind, put)
    assert caught.value.status == 200
    assert len(caught.value.text) <= 200


# ------------------------------------------------------------------------------------------------------------ errors

LIMIT = {"error": "Live Activity limit reached", "message": "Only 4", "limit": 4, "active": 4, "blocked_devices": 1}
EMPTY = {"error": "No recipients found", "message": "No devices", "effective_channel_slugs": ["a"]}
STATUSES: list[tuple[int, dict[str, Any], type[errors.StatusError], dict[str, Any]]] = [
    (400, {"error": "Invalid stream_key", "message": "must"}, errors.BadRequest, {"message": "must"}),
    (401, {}, errors.Unauthorized, {"error": "Unauthorized", "message": ""}),
    (
        402,
        {"error": "trial_expired", "upgrade_url": "https://a.example", "trial_period": {"ends_at": "x"}},
        errors.PaymentRequired,
        {"upgrade_url": "https://a.example", "trial_period": {"ends_at": "x"}},
    ),
    (402, {"error": "trial_expired"}, errors.PaymentRequired, {"upgrade_url": None, "trial_period": None}),
    (403, {"error": "Forbidden", "message": "no"}, errors.Forbidden, {"error": "Forbidden"}),
    (404, {"error": "Metric not found"}, errors.NotFound, {"message": ""}),
    (404, EMPTY, errors.NoRecipients, {"effective_channel_slugs": ["a"]}),
    (409, {"error": "Conflict"}, errors.Conflict, {}),
    (422, EMPTY, errors.NoRecipients, {"effective_channel_slugs": ["a"], "status": 422}),
    (422, {"error": "No recipients found"}, errors.NoRecipients, {"effective_channel_slugs": []}),
    (
        422,
        {"error": "x", "code": "badge_device_disconnected"},
        errors.Unprocessable,
        {"code": "badge_device_disconnected"},
    ),
    (
        429,
        LIMIT,
        errors.ActivityLimitReached,
        {"limit": 4, "active": 4, "blocked_devices": 1, "targeted_devices": None},
    ),
    (429, {"error": "Rate limit exceeded", "code": "rate_limited"}, errors.RateLimited, {"code": "rate_limited"}),
    (
        502,
        {"error": "x", "code": "badge_update_failed", "badge": 3},
        errors.ServerError,
        {"code": "badge_update_failed"},
    ),
    (500, {}, errors.ServerError, {"error": "Internal Server Error"}),
    (418, {}, errors.StatusError, {"error": "I'm a Teapot"}),
    (302, {}, errors.StatusError, {"status": 302}),
]


@pytest.mark.parametrize(("status", "body", "expected", "attributes"), STATUSES)
def test_each_status_has_its_error(
    kind: str,
    httpx_mock: HTTPXMock,
    status: int,
    body: dict[str, Any],
    expected: type[errors.StatusError],
    attributes: dict[str, Any],
) -> None:
    """Each answer that is not a 2xx raises its own error with status, error, message and body."""
    httpx_mock.add_response(status_code=status, json=body, headers={"location": "https://elsewhere.example"})
    with pytest.raises(errors.StatusError) as caught:
        run(kind, post, max_attempts=1)
    assert type(caught.value) is expected
    assert (caught.value.status, caught.value.body) == (status, body)
    assert {name: getattr(caught.value, name) for name in attributes} == attributes
    assert len(httpx_mock.get_requests()) == 1


def test_error_without_a_json_body(kind: str, httpx_mock: HTTPXMock) -> None:
    """A gateway's HTML page is still a server error."""
    httpx_mock.add_response(status_code=503, content=b"<html>")
    with pytest.raises(errors.ServerError, match="503 Service Unavailable"):
        run(kind, post)


@pytest.mark.parametrize("status", [302, 403, 404, 407, 408, 421, 425])
def test_a_page_in_the_place_of_an_answer(kind: str, httpx_mock: HTTPXMock, waits: list[float], status: int) -> None:
    """What a proxy, a portal or a firewall answers is no answer of the service, which is asked again."""
    httpx_mock.add_response(status_code=status, html="<html>Please sign in</html>")
    httpx_mock.add_response(json={"success": True})
    assert run(kind, post).success
    httpx_mock.add_response(status_code=status, html="<html>Please sign in</html>")
    with pytest.raises(errors.StatusError) as caught:
        run(kind, post, max_attempts=1)
    assert type(caught.value) is errors.StatusError
    assert (caught.value.foreign, caught.value.status, caught.value.body) == (True, status, {})


@pytest.mark.parametrize(
    "error",
    [
        errors.InvalidRequest("a.b", 3, "4"),
        errors.RequestTimedOut("late", delivered=False),
        errors.ConnectionFailed("gone"),
        errors.InvalidAnswer("odd", status=200, text="x"),
        errors.status_error(429, LIMIT, retry_after=3.0),
        errors.status_error(404, None),
        errors.MissingAPIKey("no key"),
    ],
)
def test_errors_survive_pickling(error: errors.ActivitySmithError) -> None:
    """An error that crosses a process keeps its type, words and attributes."""
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), vars(again)) == (type(error), str(error), vars(error))


def test_the_tree_is_the_one_that_is_drawn() -> None:
    """The docstring draws every error that the module exports."""
    drawn = set(re.findall(r"[├└]── (\w+)", errors.__doc__ or "")) | {"ActivitySmithError"}
    assert drawn == set(errors.__all__)
    assert all(issubclass(getattr(errors, name), errors.ActivitySmithError) for name in drawn)
    assert issubclass(errors.RequestTimedOut, TimeoutError)
    assert issubclass(errors.ConnectionFailed, ConnectionError)
    assert issubclass(errors.MissingAPIKey, ValueError)


def test_a_value_that_cannot_be_shown() -> None:
    """An error never fails on the value that it reports, and shortens a long one."""

    class Odd:
        def __repr__(self) -> str:
            raise RuntimeError("no")

    assert "<Odd object>" in str(errors.InvalidRequest("f", Odd(), "x"))
    assert len(str(errors.InvalidRequest("f", "v" * 10_000, "x"))) < 200


# ----------------------------------------------------------------------------------------------------- the real net


class Peer:
    """A server on loopback that does with a connection what a test wants."""

    def __init__(self, serve: Callable[[socket.socket], None]) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/api"
        self._serve = serve
        self.connections = 0
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection:
            connection.recv(65_536)
            try:
                self._serve(connection)
            except OSError:
                return

    def close(self) -> None:
        """Listen no more."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes who waits for a connection
        self._listener.close()
        self._accepting.join(PATIENCE)


@pytest.fixture
def peer() -> Iterator[Callable[[Callable[[socket.socket], None]], Peer]]:
    """Make servers that misbehave."""
    made: list[Peer] = []

    def make(serve: Callable[[socket.socket], None]) -> Peer:
        made.append(Peer(serve))
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_refused_connection(kind: str, waits: list[float]) -> None:
    """A connection that nobody accepts was surely not delivered, so that even a push is tried again."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(errors.ConnectionFailed) as caught:
        run(kind, post, base_url=f"http://127.0.0.1:{port}", max_attempts=3)
    assert caught.value.delivered is False
    assert len(waits) == 2


def test_hanging_service(kind: str, peer: Any) -> None:
    """A service that takes the request and says nothing times out, and nobody can tell whether it was delivered."""
    release = threading.Event()
    server, attempts = peer(lambda connection: release.wait(PATIENCE)), []

    def attempt(seconds: float) -> None:
        attempts.append(seconds)
        run(kind, post, base_url=server.url, timeout=seconds)

    error = times_out(attempt, 0.2)
    release.set()
    assert error.delivered is None
    assert until(lambda: server.connections >= len(attempts))
    assert server.connections == len(attempts)


def test_broken_answer(kind: str, peer: Any) -> None:
    """A connection that breaks in the middle of the answer is an error of ours."""
    server = peer(lambda connection: connection.sendall(b'HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{"succ'))
    with pytest.raises(errors.ConnectionFailed):
        run(kind, post, base_url=server.url)


def test_slow_drip(kind: str, peer: Any) -> None:
    """An answer that never ends is bounded by the time of the whole, not of each read."""
    pause = threading.Event()

    def drip(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 99999\r\n\r\n")
        while True:
            connection.sendall(b"x")
            pause.wait(0.02)

    server = peer(drip)
    with pytest.raises(errors.RequestTimedOut, match="finish"):
        run(kind, post, base_url=server.url, timeout=0.3)


# ------------------------------------------------------------------------------------------------------------ retries

CONNECT = httpx.ConnectError("refused")
READ = httpx.ReadTimeout("late")
RETRIES: list[tuple[Use, Any, int]] = [
    (put, CONNECT, 4),
    (put, READ, 4),
    (put, httpx.RemoteProtocolError("broke"), 4),
    (put, 429, 4),
    (put, 502, 4),
    (put, 503, 4),
    (put, 504, 4),
    (put, 500, 1),
    (put, 400, 1),
    (put, 422, 1),
    (delete, READ, 4),
    (delete, 503, 4),
    (delete, 404, 1),
    (post, CONNECT, 4),
    (post, httpx.ConnectTimeout("late"), 4),
    (post, httpx.PoolTimeout("full"), 4),
    (post, READ, 1),
    (post, httpx.WriteError("broke"), 1),
    (post, 429, 4),
    (post, 502, 1),
    (post, 503, 1),
    (insist, READ, 4),
    (insist, 503, 4),
    (insist, 400, 1),
]


@pytest.mark.parametrize(("use", "failure", "attempts"), RETRIES)
@pytest.mark.httpx_mock(can_send_already_matched_responses=True)
def test_what_is_tried_again(
    kind: str, httpx_mock: HTTPXMock, waits: list[float], use: Use, failure: Any, attempts: int
) -> None:
    """PUT and DELETE are repeated, POST only where it surely was not carried out, or when it must arrive."""
    if isinstance(failure, int):
        httpx_mock.add_response(status_code=failure, json={"error": "x"})
    else:
        httpx_mock.add_exception(failure)
    with pytest.raises(errors.ActivitySmithError):
        run(kind, use)
    assert len(httpx_mock.get_requests()) == attempts
    assert len(waits) == attempts - 1
    assert all(0 <= wait <= 8 for wait in waits)


def test_a_retry_that_succeeds(kind: str, httpx_mock: HTTPXMock, waits: list[float]) -> None:
    """The answer of a later attempt is the answer."""
    httpx_mock.add_response(status_code=503)
    httpx_mock.add_response(json=STARTED)
    assert run(kind, put).operation == "started"
    assert len(waits) == 1


def test_a_full_account_is_not_tried_again(kind: str, httpx_mock: HTTPXMock, waits: list[float]) -> None:
    """The Live Activity limit does not pass by waiting a moment."""
    httpx_mock.add_response(status_code=429, json=LIMIT)
    with pytest.raises(errors.ActivityLimitReached):
        run(kind, put)
    assert waits == []


@pytest.mark.httpx_mock(can_send_already_matched_responses=True)
def test_retry_after_is_honoured(kind: str, httpx_mock: HTTPXMock, waits: list[float]) -> None:
    """The wait is at least what the service asks for."""
    httpx_mock.add_response(status_code=429, json={"error": "x"}, headers={"retry-after": "9"})
    with pytest.raises(errors.RateLimited) as caught:
        run(kind, put, max_attempts=2)
    assert caught.value.retry_after == 9
    assert waits == [9]


def test_retry_after_beyond_the_total_time(kind: str, httpx_mock: HTTPXMock, waits: list[float]) -> None:
    """A wait that would take longer than all attempts may is not begun."""
    httpx_mock.add_response(status_code=429, json={"error": "x"}, headers={"retry-after": "3600"})
    with pytest.raises(errors.RateLimited):
        run(kind, put)
    assert waits == []


NOW = 1_790_000_000.0


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("7", 7.0),
        (" 7 ", 7.0),
        (formatdate(NOW + 30, usegmt=True), 30.0),
        (formatdate(NOW - 30, usegmt=True), 0.0),
        ("", None),
        ("soon", None),
        ("-3", None),
        ("٣", None),
    ],
)
def test_retry_after_is_read(text: str, seconds: float | None) -> None:
    """Seconds and HTTP dates are read; anything else counts as not sent."""
    assert retry_after({"retry-after": text}, NOW) == seconds


# ------------------------------------------------------------------------------------------------- what stays inside


@pytest.mark.httpx_mock(can_send_already_matched_responses=True)
def test_the_key_is_shown_nowhere(
    kind: str, httpx_mock: HTTPXMock, caplog: pytest.LogCaptureFixture, waits: list[float]
) -> None:
    """The key is in the header, and in no repr, error or log."""
    caplog.set_level(logging.DEBUG)
    httpx_mock.add_response(status_code=503, json={"error": "x"})
    made: list[Any] = []
    with pytest.raises(errors.ServerError) as caught:
        run(kind, lambda client: (made.append(repr(client)), put(client))[1])
    assert httpx_mock.get_requests()[0].headers["authorization"] == f"Bearer {KEY}"
    assert KEY not in caplog.text + repr(caught.value) + str(caught.value) + "".join(made)


def test_the_key_is_not_logged_by_a_real_request(sim: Simulator, caplog: pytest.LogCaptureFixture) -> None:
    """Nor do the libraries underneath log it when they log all they do."""
    caplog.set_level(logging.DEBUG)
    with ActivitySmith(sim.api_key, base_url=sim.base_url) as client:
        post(client)
    assert len(sim.pushes) == 1
    assert sim.api_key not in caplog.text


@pytest.mark.parametrize(
    "url", ["http://activitysmith.com", "ftp://a", "https://u:p@a.example", "https://", "a", "https://a/?q", 3]
)
def test_base_urls(url: Any) -> None:
    """Only https, or http to this machine, and no credentials."""
    with pytest.raises(InvalidRequest, match="base_url") as caught:
        ActivitySmith(KEY, base_url=url)
    assert "u:p" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["http://localhost:1", "http://127.0.0.1:1/api/", "http://[::1]:1", "https://a.example"]
)
def test_base_urls_that_are_fine(url: str) -> None:
    """Loopback may be plain http; a slash at the end does not matter."""
    with ActivitySmith(KEY, base_url=url) as client:
        assert repr(client) == f"<ActivitySmith {url.rstrip('/')}>"


@pytest.mark.parametrize(
    "options",
    [{"timeout": 0}, {"timeout": "x"}, {"timeout": float("nan")}, {"max_attempts": 0}, {"max_attempts": True}],
)
def test_bad_settings(options: dict[str, Any]) -> None:
    """A setting that cannot work is refused when the client is made."""
    with pytest.raises(InvalidRequest):
        ActivitySmith(KEY, **options)


def test_bad_key() -> None:
    """A key that no header can carry is refused without being repeated."""
    with pytest.raises(InvalidRequest) as caught:
        ActivitySmith("secret\nkey-ä")
    assert "secret" not in str(caught.value)


def test_environment(sim: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Key and address come from the environment, when the client is made."""
    with pytest.raises(errors.MissingAPIKey, match="ACTIVITYSMITH_API_KEY"):
        ActivitySmith()
    monkeypatch.setenv("ACTIVITYSMITH_API_KEY", sim.api_key)
    monkeypatch.setenv("ACTIVITYSMITH_BASE_URL", sim.base_url)
    with ActivitySmith() as client:
        assert client.notifications.send(title="T").notification_id == sim.pushes[0].notification_id


def test_proxies_are_for_the_world_only(sim: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy from the environment carries what goes out, and never what stays on this machine."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    with ActivitySmith(sim.api_key, base_url=sim.base_url) as client:
        assert post(client).success
    with ActivitySmith(KEY, base_url=URL, max_attempts=1) as client, pytest.raises(errors.ConnectionFailed):
        post(client)


def test_bodies_are_utf_8_json(peer: Any) -> None:
    """What travels is JSON in UTF-8, and a request without a body has no content type."""
    seen: list[tuple[str, bytes]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_DELETE(self) -> None:
            seen.append(
                (self.headers.get("content-type", ""), self.rfile.read(int(self.headers.get("content-length", 0))))
            )
            body = json.dumps({**STARTED, "operation": "ended"}).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            return

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with ActivitySmith(KEY, base_url=f"http://127.0.0.1:{server.server_port}") as client:
            client.live_activities.end_stream("k")
            client.live_activities.end_stream("k", title="Fertig ✅")
        server.shutdown()
    assert seen[0] == ("", b"")
    assert seen[1][0] == "application/json"
    assert json.loads(seen[1][1].decode()) == {"content_state": {"title": "Fertig ✅"}}


# ------------------------------------------------------------------------------------------- transports of the user's


class Given(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """A transport that answers with what a function makes, and notes that it was closed."""

    def __init__(self, make: Callable[[httpx.Request], httpx.Response]) -> None:
        self._make, self.closed = make, 0

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        return self._make(request)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return self._make(request)

    def close(self) -> None:
        self.closed += 1

    async def aclose(self) -> None:
        self.closed += 1


class Parts(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body that comes in parts, as from a connection."""

    def __init__(self, *parts: bytes) -> None:
        self._parts, self.closed = parts, False

    def __iter__(self) -> Iterator[bytes]:
        yield from self._parts

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for part in self._parts:
            yield part

    def close(self) -> None:
        self.closed = True

    async def aclose(self) -> None:
        self.closed = True


def unread(content: bytes, **headers: str) -> httpx.Response:
    """Make an answer that nobody has read, in two parts."""
    told = {"content-length": str(len(content)), **headers}
    return httpx.Response(200, headers=told, stream=Parts(content[:9], content[9:]))


def read_before(response: httpx.Response) -> httpx.Response:
    """Read an answer, as a transport does that logs them."""
    response.read()
    return response


FINE = json.dumps(STARTED).encode()
ZIPPED = gzip.compress(FINE)
ANSWERS: dict[str, Callable[[], httpx.Response]] = {
    "json": lambda: httpx.Response(200, json=STARTED),
    "content": lambda: httpx.Response(200, content=FINE),
    "text": lambda: httpx.Response(200, text=FINE.decode()),
    "zipped": lambda: httpx.Response(200, content=ZIPPED, headers={"content-encoding": "gzip"}),
    "deflated": lambda: httpx.Response(200, content=zlib.compress(FINE), headers={"content-encoding": "deflate"}),
    "a stream": lambda: unread(FINE),
    "a zipped stream": lambda: unread(ZIPPED, **{"content-encoding": "gzip"}),
    "a stream that was read": lambda: read_before(unread(FINE)),
    "a zipped stream that was read": lambda: read_before(unread(ZIPPED, **{"content-encoding": "gzip"})),
}


@pytest.mark.parametrize("made", ANSWERS)
@pytest.mark.parametrize("transport", [httpx.MockTransport, Given])
def test_answers_of_a_transport_of_ones_own(kind: str, transport: Any, made: str) -> None:
    """However an answer was made, read before or not, zipped or not, its fields are the same."""
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return ANSWERS[made]()

    assert run(kind, put, transport=transport(answer)).body == STARTED
    (request,) = seen
    assert (request.method, str(request.url)) == ("PUT", f"{URL}/live-activity/stream/k")
    assert json.loads(request.content) == {"content_state": STATE}
    assert request.headers["authorization"] == f"Bearer {KEY}"


def test_a_handler_that_awaits() -> None:
    """The handler of an asynchronous client's MockTransport may be a coroutine function."""

    async def answer(request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(0)
        return httpx.Response(200, json=STARTED)

    assert run("async", put, transport=httpx.MockTransport(answer)).operation == "started"


def test_one_answer_for_all_requests(kind: str) -> None:
    """A handler may return the same object each time; one whose stream is used up is a failed connection."""
    same = httpx.Response(200, json=STARTED)
    used = unread(FINE)

    def twice(client: Any) -> Any:
        if kind == "sync":
            return [put(client), put(client)]

        async def awaited() -> list[Any]:
            return [await put(client), await put(client)]

        return awaited()

    transport = httpx.MockTransport(lambda _: same)
    assert [each.operation for each in run(kind, twice, transport=transport)] == ["started", "started"]
    with pytest.raises(errors.ConnectionFailed):
        run(kind, twice, transport=httpx.MockTransport(lambda _: used), max_attempts=1)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (lambda: httpx.Response(503, json={"error": "busy"}), errors.ServerError),
        (lambda: httpx.Response(429, headers={"retry-after": "7"}), errors.RateLimited),
        (lambda: httpx.Response(200, text="<html>"), errors.InvalidAnswer),
        (lambda: httpx.Response(204), errors.InvalidAnswer),
        (lambda: httpx.Response(200, content=b" " * (1024 * 1024 + 1)), errors.InvalidAnswer),
        (lambda: unread(gzip.compress(b" " * 20_000_000), **{"content-encoding": "gzip"}), errors.InvalidAnswer),
        (lambda: unread(b"no gzip at all", **{"content-encoding": "gzip"}), errors.InvalidAnswer),
    ],
)
def test_answers_that_are_errors(kind: str, answer: Callable[[], httpx.Response], error: type[Exception]) -> None:
    """What is an error from the service is the same one from such a transport, and the limit of size holds."""
    with pytest.raises(error) as caught:
        run(kind, post, transport=httpx.MockTransport(lambda _: answer()), max_attempts=1)
    assert getattr(caught.value, "retry_after", None) in (None, 7.0)


ASKED = httpx.Request("GET", URL)
RAISED: list[tuple[Exception, type[Exception], bool | None]] = [
    (httpx.ConnectError("no"), errors.ConnectionFailed, False),
    (httpx.ConnectTimeout("late"), errors.RequestTimedOut, False),
    (httpx.ReadTimeout("late"), errors.RequestTimedOut, None),
    (httpx.RemoteProtocolError("odd"), errors.ConnectionFailed, None),
    (httpx.HTTPStatusError("503", request=ASKED, response=httpx.Response(503)), errors.ConnectionFailed, None),
    (httpx.StreamConsumed(), errors.ConnectionFailed, None),
    (httpx.InvalidURL("odd"), errors.ConnectionFailed, None),
    (ConnectionResetError("gone"), errors.ConnectionFailed, None),
    (AssertionError("not this path"), AssertionError, None),
]


@pytest.mark.parametrize(("raised", "error", "delivered"), RAISED)
def test_what_a_transport_raises(
    kind: str, raised: Exception, error: type[Exception], delivered: bool | None
) -> None:
    """An httpx error, even without a request, becomes one of ours; a test's own assertion comes out as it is."""

    def fail(request: httpx.Request) -> httpx.Response:
        raise raised

    with pytest.raises(error) as caught:
        run(kind, post, transport=httpx.MockTransport(fail), max_attempts=1)
    assert getattr(caught.value, "delivered", None) is delivered
    assert caught.value is raised or error is not AssertionError


def test_retries_over_a_transport_of_ones_own(kind: str, waits: list[float]) -> None:
    """The policy of retries is the same one."""
    answers = [httpx.Response(503), httpx.ConnectError("no"), httpx.Response(200, json=STARTED)]

    def answer(request: httpx.Request) -> httpx.Response:
        next_one = answers.pop(0)
        if isinstance(next_one, Exception):
            raise next_one
        return next_one

    assert run(kind, put, transport=httpx.MockTransport(answer)).operation == "started"
    assert len(waits) == 2


def test_a_transport_is_closed_with_its_client(kind: str) -> None:
    """As with httpx, and each answer's stream with the request."""
    stream = Parts(FINE)
    transport = Given(lambda _: httpx.Response(200, stream=stream))
    run(kind, put, transport=transport)
    assert (transport.closed, stream.closed) == (1, True)


def test_a_transport_stands_for_the_network(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever proxy the environment names, and wherever the requests would go."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for url in (URL, "http://127.0.0.1:9", "http://[::1]:9/api"):
        transport = httpx.MockTransport(lambda _: httpx.Response(200, json=STARTED))
        assert run(kind, put, transport=transport, base_url=url).operation == "started"


def test_an_attempt_is_bounded_over_a_transport_of_ones_own(kind: str) -> None:
    """A transport that takes longer than the whole attempt may has timed out, even if it answers in the end."""

    def late(request: httpx.Request) -> httpx.Response:
        threading.Event().wait(0.05)
        return httpx.Response(200, json=STARTED)

    with pytest.raises(errors.RequestTimedOut) as caught:
        run(kind, post, transport=httpx.MockTransport(late), timeout=0.01)
    assert caught.value.delivered is None


def test_web_applications() -> None:
    """An application stands in for the service: WSGI for the one client, ASGI for the other."""

    def wsgi(environ: dict[str, Any], start: Any) -> list[bytes]:
        assert environ["HTTP_AUTHORIZATION"] == f"Bearer {KEY}"
        start("200 OK", [("content-type", "application/json")])
        return [FINE[:5], FINE[5:]]

    async def asgi(request: Any) -> Any:
        assert request.headers["authorization"] == f"Bearer {KEY}"
        return JSONResponse(STARTED)

    app = Starlette(routes=[Route("/api/live-activity/stream/k", asgi, methods=["PUT"])])
    assert run("sync", put, transport=httpx.WSGITransport(wsgi)).body == STARTED
    assert run("async", put, transport=httpx.ASGITransport(app)).body == STARTED
