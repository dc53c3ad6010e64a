"""The simulator's own pages and commands: the Lock Screen at `/`, and JSON under `/simulator/`.

Nothing here is the service's. `GET /simulator/` lists the commands; what they answer is what the page draws.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from importlib import resources
from typing import TYPE_CHECKING, Any

from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from ..errors import InvalidRequest
from ..payloads import check_number, check_text
from .clock import check_advance, check_speed
from .device import Card, ReceivedPush, on_screen
from .faults import FAULT_KINDS, Fault
from .service import MAX_BODY_BYTES, Received, Refusal, Tap, as_json, read_object

if TYPE_CHECKING:
    from starlette.requests import Request

    from .server import Simulator

ROWS = 200  # requests that a page is given at once
DRAWN_PUSHES, DRAWN_TAPS = 20, 20  # the newest
POINTS = 120  # of each line of a chart
FRAME_SECONDS, LOOK_SECONDS, HEARTBEAT_SECONDS = 0.1, 0.5, 15.0
WEBHOOK_SECONDS = 10.0
BODY_SECONDS = 30.0  # that a body may take to come
MAX_READ_BYTES = 4 * MAX_BODY_BYTES  # of a body that is too long: a client that sends no more reads why it is refused
ENDING = (408, 413)

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


class JSON(Response):
    """A JSON answer in plain ASCII, so that any text that a request brought can go out again."""

    media_type = "application/json"

    def __init__(self, content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        ends = {"connection": "close"} if status in ENDING else {}  # there may be more of its body than is read
        super().__init__(content, status, {"x-content-type-options": "nosniff", **ends, **(headers or {})})

    def render(self, content: Any) -> bytes:
        """Write the content as JSON."""
        return as_json(content)


# --------------------------------------------------------------------------------------------- what is told


LONGEST, MOST = 4_096, 1_000  # characters of a text and members of a list that a page is given
_DRAWN_BUTTON = ("title", "type", "url", "method")
_DRAWN_PUSH = ("title", "subtitle", "message", "icon", "media", "redirection", "interruption_level")


def clipped(value: Any) -> Any:
    """Shorten what no screen has room for."""
    if isinstance(value, str):
        return value if len(value) <= LONGEST else value[: LONGEST - 1] + "…"
    if isinstance(value, dict):
        return {name: clipped(member) for name, member in value.items()}
    return [clipped(member) for member in value[:MOST]] if isinstance(value, list) else value


def _drawn_button(button: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return {name: clipped(button[name]) for name in _DRAWN_BUTTON if name in button} if button else None


def drawn_card(card: Card, now: float) -> dict[str, Any]:
    """Write what a page draws of a card."""
    window = card.shown.window
    return {
        "id": card.activity_id,
        "stream_key": card.stream_key,
        "shown": clipped(card.shown.state),
        "stale": card.stale,
        "action": _drawn_button(card.action),
        "secondary_action": _drawn_button(card.secondary_action),
        "timer": window
        and {
            "reading": window.reading(now),
            "running": window.running,
            "counts_down": window.counts_down,
            "duration": window.duration,
        },
        "alert": clipped(card.alert),
        "alert_at": card.alert_at,
        "started_at": card.started_at,
        "ended": card.ended,
        "ended_by": card.ended_by,
        "ended_at": card.ended_at,
        "leaves_at": card.leaves_at,
        "updates": card.updates,
        "dropped": card.dropped,
        "over_budget": card.over_budget,
        "throttled_until": card.throttled_until,
        "chart": _chart(card),
    }


def card_json(card: Card, now: float, *, seen: bool) -> dict[str, Any]:
    """Write all of a card: what the phone shows, what was sent, and its budget."""
    return {
        **drawn_card(card, now),
        "on_screen": seen,
        "shown": card.shown.state,
        "sent": card.sent.state,
        "action": card.action,
        "secondary_action": card.secondary_action,
        "alert": card.alert,
        "tags": card.tags,
        "metadata": card.metadata,
        "channels": card.channels,
    }


def _chart(card: Card) -> dict[str, Any] | None:
    """Write the percentages that were sent, those that were shown, and those that the job told."""
    if card.sent.state.get("type") != "progress":
        return None
    told = [(moment.at, _percentage(moment.state), moment.shown) for moment in card.history]
    return {
        "sent": _thinned([(at, percentage) for at, percentage, _ in told]),
        "shown": _thinned([(at, percentage) for at, percentage, shown in told if shown]),
        "truth": _thinned(list(card.truth)),
    }


def _thinned(line: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Leave out points of a long line evenly; the first and the last one stay."""
    step = max(1, -(-(len(line) - 1) // (POINTS - 1)))
    return line[::step] if (len(line) - 1) % step == 0 else [*line[::step], line[-1]]


def _percentage(state: Mapping[str, Any]) -> float:
    if "percentage" in state:
        return float(state["percentage"])
    if "upper_limit" in state:
        return min(100.0, max(0.0, 100.0 * float(state["value"]) / float(state["upper_limit"])))
    return 0.0


def drawn_push(push: ReceivedPush) -> dict[str, Any]:
    """Write what a page draws of a push."""
    return {
        "id": push.notification_id,
        "at": push.at,
        "loud": push.loud,
        "replaced": push.replaced,
        "actions": [_drawn_button(button) for button in push.actions or ()],
        **{name: clipped(push.body[name]) for name in _DRAWN_PUSH if name in push.body},
    }


def push_json(push: ReceivedPush) -> dict[str, Any]:
    """Write all of a push."""
    return {**drawn_push(push), "on_screen": not push.swiped, **push.body}


def request_json(request: Received, *, whole: bool = False) -> dict[str, Any]:
    """Write a request: a row of the log, or all of it."""
    row = {
        "number": request.number,
        "at": request.at,
        "method": request.method,
        "path": request.path,
        "status": request.status,
        "verdict": request.verdict,
        "fault": request.fault,
        "why": request.why,
    }
    return {**row, "body": request.body, "answer": request.answer} if whole else row


# --------------------------------------------------------------------------------------------- the commands


class Control:
    """The routes beside the API.

    Args:
        simulator: the one that is shown and commanded.
        deliver_webhooks: whether pressing a webhook's button really calls it.
    """

    def __init__(self, simulator: Simulator, *, deliver_webhooks: bool) -> None:
        self._simulator, self._deliver = simulator, deliver_webhooks
        self._service = simulator.service
        self.feed = Feed(self)
        self._commands: list[tuple[str, str, Callable[[Request, dict[str, Any]], Awaitable[Any]], str]] = [
            ("GET", "/simulator/", self._index, "these commands"),
            ("GET", "/simulator/state", self._state, "what was sent and what is shown"),
            (
                "GET",
                "/simulator/requests",
                self._requests,
                "what was received: ?method=&path=&status=&verdict=&after=&limit=&whole=1",
            ),
            ("GET", "/simulator/requests/{number:int}", self._request, "one request with its body and answer"),
            ("POST", "/simulator/clear", self._clear, "forget what was received"),
            ("GET", "/simulator/clock", self._clock, "the clock"),
            ("POST", "/simulator/clock", self._set_clock, '{"advance": seconds, "speed": factor}'),
            ("GET", "/simulator/faults", self._faults, "the faults that are set"),
            ("POST", "/simulator/faults", self._add_fault, '{"kind": ' + "|".join(FAULT_KINDS) + ", ...}"),
            ("DELETE", "/simulator/faults", self._clear_faults, "take all faults away"),
            ("DELETE", "/simulator/faults/{number:int}", self._remove_fault, "take one fault away"),
            ("POST", "/simulator/streams/{key}/pause", self._pause, "pause a stream, as its owner can in the app"),
            ("POST", "/simulator/streams/{key}/resume", self._resume, "let it run again"),
            ("POST", "/simulator/taps", self._tap, '{"id": ..., "button": action|secondary_action|redirection|0-3}'),
            ("POST", "/simulator/dismiss", self._dismiss, '{"id": ...}: swipe a card or a push away'),
            ("POST", "/simulator/truth", self._truth, '{"stream_key": ..., "percentage": ...}: for the chart'),
        ]

    def routes(self) -> list[Route]:
        """Return the routes of the commands and of the page."""
        paths = dict.fromkeys(path for _, path, _, _ in self._commands)
        routes = [Route(path, self._endpoint(path), methods=self._methods(path)) for path in paths]
        return [*routes, Route("/simulator/events", self._events), *self._page()]

    def _methods(self, path: str) -> list[str]:
        return [method for method, other, _, _ in self._commands if other == path]

    def _endpoint(self, path: str) -> Callable[[Request], Awaitable[Response]]:
        commands = {method: command for method, other, command, _ in self._commands if other == path}

        async def endpoint(request: Request) -> Response:
            try:
                method = "GET" if request.method == "HEAD" else request.method
                given = {} if method == "GET" else await _given(request)
                return JSON(await commands[method](request, given))
            except InvalidRequest as problem:
                return JSON({"error": "Invalid command", "message": str(problem)}, 400)
            except Refusal as refusal:
                return JSON(refusal.body, refusal.status)

        return endpoint

    async def _index(self, request: Request, given: dict[str, Any]) -> Any:
        return {f"{method} {path}": about for method, path, _, about in self._commands}

    async def _state(self, request: Request, given: dict[str, Any]) -> Any:
        return self.snapshot()

    async def _requests(self, request: Request, given: dict[str, Any]) -> Any:
        query = request.query_params
        _only(query, ("method", "path", "status", "verdict", "after", "limit", "whole"))
        after, limit = _digits(query, "after", 0), _digits(query, "limit", ROWS)
        wanted = {name: query[name] for name in ("method", "path", "status", "verdict") if name in query}
        with self._service.changed:
            found = [
                each
                for each in self._service.requests
                if each.number > after and all(str(getattr(each, name)) == text for name, text in wanted.items())
            ]
        whole = query.get("whole", "") not in ("", "0", "false")
        return {
            "requests": [request_json(each, whole=whole) for each in found[max(0, len(found) - limit) :]],
            "found": len(found),
        }

    async def _request(self, request: Request, given: dict[str, Any]) -> Any:
        number = request.path_params["number"]
        with self._service.changed:
            found = next((each for each in self._service.requests if each.number == number), None)
        if found is None:
            raise Refusal(404, "Not found", f"request {number} is not remembered")
        return request_json(found, whole=True)

    async def _clear(self, request: Request, given: dict[str, Any]) -> Any:
        _only(given, ())
        self._simulator.clear()
        return {}

    async def _clock(self, request: Request, given: dict[str, Any]) -> Any:
        clock = self._simulator.clock
        return {"now": clock(), "speed": clock.speed, "date": clock.date().isoformat()}

    async def _set_clock(self, request: Request, given: dict[str, Any]) -> Any:
        _only(given, ("advance", "speed"))
        clock = self._simulator.clock
        speed = check_speed(given.get("speed", clock.speed))
        advance = check_advance(given.get("advance", 0.0))
        clock.speed = speed
        self._simulator.advance(advance)
        return await self._clock(request, given)

    async def _faults(self, request: Request, given: dict[str, Any]) -> Any:
        return {"faults": [fault.as_json() for fault in self._simulator.faults]}

    async def _add_fault(self, request: Request, given: dict[str, Any]) -> Any:
        known = [name for name in Fault.__dataclass_fields__ if name not in ("id", "hits")]
        _only(given, known)
        if "kind" not in given:
            raise InvalidRequest("kind", None, "one of " + ", ".join(FAULT_KINDS))
        return self._simulator.fault(**given).as_json()

    async def _clear_faults(self, request: Request, given: dict[str, Any]) -> Any:
        _only(given, ())
        self._simulator.faults.clear()
        return {}

    async def _remove_fault(self, request: Request, given: dict[str, Any]) -> Any:
        if not self._simulator.faults.remove(request.path_params["number"]):
            raise Refusal(404, "Not found", "there is no such fault")
        return {}

    async def _pause(self, request: Request, given: dict[str, Any]) -> Any:
        _only(given, ())
        self._service.pause(request.path_params["key"])
        return {"paused": self._service.paused}

    async def _resume(self, request: Request, given: dict[str, Any]) -> Any:
        _only(given, ())
        self._service.resume(request.path_params["key"])
        return {"paused": self._service.paused}

    async def _dismiss(self, request: Request, given: dict[str, Any]) -> Any:
        _only(given, ("id",))
        if not self._service.dismiss(check_text("id", given.get("id"))):
            raise Refusal(404, "Not found", "nothing of that id is on the phone")
        return {}

    async def _truth(self, request: Request, given: dict[str, Any]) -> Any:
        _only(given, ("stream_key", "percentage"))
        key = check_text("stream_key", given.get("stream_key"))
        if not self._service.tell_truth(key, check_number("percentage", given.get("percentage"))):
            raise Refusal(404, "Not found", "there is no card of that stream_key")
        return {}

    async def _tap(self, request: Request, given: dict[str, Any]) -> Any:
        _only(given, ("id", "button"))
        button = self._service.button(check_text("id", given.get("id")), check_text("button", given.get("button")))
        if button is None:
            raise Refusal(404, "Not found", "there is no such button on the phone")
        is_webhook = button["type"] == "webhook"
        method = button.get("method", "POST") if is_webhook else None
        outcome = await self._call(button, str(method)) if is_webhook else "opened"
        tap = Tap(
            self._service.clock(), button["title"], button["type"], button["url"], method, button.get("body"), outcome
        )
        self._service.tap(tap)
        return tap_json(tap)

    async def _call(self, button: Mapping[str, Any], method: str) -> str:
        if not self._deliver:
            return "recorded"
        import httpx

        try:
            async with httpx.AsyncClient(timeout=WEBHOOK_SECONDS) as client:
                answer = await client.request(method, button["url"], json=button.get("body"))
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
            return f"not delivered: {type(error).__name__}"
        return f"delivered: {answer.status_code}"

    # -- the state, and its stream

    def snapshot(self) -> dict[str, Any]:
        """Write everything that is remembered of the phone."""
        service = self._service
        with service.changed:
            service.look()
            now = service.clock()
            seen = on_screen(service.activities.values(), now, service.device)
            return {
                **self._desk(now),
                "cards": [card_json(card, now, seen=card in seen) for card in service.activities.values()],
                "pushes": [push_json(push) for push in service.pushes.values()],
                "taps": [tap_json(tap) for tap in service.taps],
                "faults": [fault.as_json() for fault in self._simulator.faults],
            }

    def drawing(self) -> dict[str, Any]:
        """Write what a page draws: what is on the screen, as much of it as there is room for."""
        service = self._service
        with service.changed:
            service.look()
            now = service.clock()
            seen = on_screen(service.activities.values(), now, service.device)
            pushes = [push for push in service.pushes.values() if not push.swiped][-DRAWN_PUSHES:]
            return {
                **self._desk(now),
                "cards": [drawn_card(card, now) for card in seen],
                "pushes": [drawn_push(push) for push in pushes],
                "taps": [clipped({**tap_json(tap), "body": None}) for tap in service.taps][-DRAWN_TAPS:],
                "faults": [{**fault.as_json(), "body": None} for fault in self._simulator.faults],
            }

    def _desk(self, now: float) -> dict[str, Any]:
        service, clock = self._service, self._simulator.clock
        return {
            "now": now,
            "speed": clock.speed,
            "date": clock.date().timestamp(),
            "widgets": dict(service.metrics),
            "badge": service.badge,
            "paused": service.paused,
            "delivers_webhooks": self._deliver,
            "forgotten": service.forgotten,
        }

    def screen(self) -> tuple[int, tuple[str, ...], tuple[bool, ...]]:
        """Name what decides whether the page needs another snapshot."""
        service = self._service
        service.look()
        with service.changed:
            now = service.clock()
            seen = on_screen(service.activities.values(), now, service.device)
            throttled = tuple(card.throttled_until is not None and now < card.throttled_until for card in seen)
            return service.version, tuple(card.activity_id for card in seen), throttled

    def rows(self, after: int) -> list[dict[str, Any]]:
        """Write the latest requests after a number."""
        with self._service.changed:
            newest = itertools.islice(reversed(self._service.requests), ROWS)
            found = [each for each in newest if each.number > after]
        return [request_json(each) for each in reversed(found)]

    async def _events(self, request: Request) -> Response:
        run, _, last = request.headers.get("last-event-id", "").partition(":")
        known = run == self.feed.run and last.isascii() and last.isdigit() and len(last) < 16
        headers = {"cache-control": "no-store", "x-content-type-options": "nosniff"}
        return StreamingResponse(
            self.feed.events(int(last) if known else 0), media_type="text/event-stream", headers=headers
        )

    # -- the page

    def _page(self) -> Iterable[Route]:
        """Serve the files of the page, read once."""
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


def tap_json(tap: Tap) -> dict[str, Any]:
    """Write a press of a button."""
    return dict(tap.__dict__)


class Feed:
    """Server-sent events: a `state` whenever the screen changed, and the `requests` since the last ones.

    One task makes the frames, ten a second at most, and each is written once, whatever the number of subscribers; one
    that reads slowly gets fewer of them, never a backlog.
    """

    def __init__(self, control: Control) -> None:
        self._control = control
        self.run = uuid.uuid4().hex  # tells a page that reconnects whether it knows this history
        self._subscribers = 0
        self._frame, self._number = b"", 0
        self._drawn: object = None  # what `screen` said of the frame
        self._rows: dict[int, tuple[int, bytes]] = {}  # written once for all who stand at the same request
        self._next: asyncio.Event | None = None
        self._woken: asyncio.Event | None = None
        self._pump_task: asyncio.Task[None] | None = None

    def wake(self) -> None:
        """Look whether there is a new frame; called on the event loop."""
        if self._woken is not None:
            self._woken.set()

    async def events(self, after: int) -> AsyncIterator[bytes]:
        """Yield the events of one subscriber, from a request's number on."""
        self._subscribers += 1
        if self._pump_task is None or self._pump_task.done():
            self._woken = asyncio.Event()
            self._pump_task = asyncio.create_task(self._pump())
        self._make()
        try:
            yield b"retry: 500\nevent: run\ndata: %b\n\n" % as_json(self.run)
            seen = -1
            while True:
                frame = self._number
                after, event = self._requests_after(after)
                if frame != seen:
                    event += self._frame
                    seen = frame
                yield event or b": still here\n\n"
                await self._wait(seen)
        finally:
            self._subscribers -= 1
            self.wake()

    def _requests_after(self, after: int) -> tuple[int, bytes]:
        """Return the number of the last request, and the event that tells those after a number."""
        if after not in self._rows:
            rows = self._control.rows(after)
            last = rows[-1]["number"] if rows else after
            event = b"event: requests\nid: %b:%d\ndata: %b\n\n" % (self.run.encode(), last, as_json(rows))
            self._rows[after] = (last, event if rows else b"")
        return self._rows[after]

    async def _wait(self, seen: int) -> None:
        assert self._next is not None
        if self._number == seen:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._next.wait(), HEARTBEAT_SECONDS)

    async def _pump(self) -> None:
        assert self._woken is not None
        while self._subscribers:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._woken.wait(), LOOK_SECONDS)
            self._woken.clear()
            if self._control.screen() != self._drawn:
                self._make()
                await asyncio.sleep(FRAME_SECONDS)

    def _make(self) -> None:
        self._drawn = self._control.screen()  # asked first: what changes while it is drawn is drawn once more
        self._frame = b"event: state\ndata: %b\n\n" % as_json(self._control.drawing())
        self._number += 1
        self._rows.clear()
        if self._next is not None:
            self._next.set()
        self._next = asyncio.Event()


# --------------------------------------------------------------------------------------------- what is given


async def read_body(request: Request) -> bytes:
    """Read a body; of one that is too long as much as shows that, which the service then refuses.

    Raises:
        Refusal: with 408 when it has not come within 30 s.
    """
    try:
        return await asyncio.wait_for(_content(request), BODY_SECONDS)
    except asyncio.TimeoutError:
        raise Refusal(408, "Request timeout", f"the body did not come within {BODY_SECONDS:g} s") from None


async def _content(request: Request) -> bytes:
    content, read = bytearray(), 0
    async for chunk in request.stream():
        read += len(chunk)
        content += chunk[: MAX_BODY_BYTES + 1 - len(content)]
        if read > MAX_READ_BYTES:
            break
    return bytes(content)


async def _given(request: Request) -> dict[str, Any]:
    return read_object(await read_body(request)) or {}


def _only(given: Mapping[str, Any], known: Iterable[str]) -> None:
    known = list(known)
    for name in given:
        if name not in known:
            raise InvalidRequest(name, given[name], f"only {', '.join(known)}" if known else "nothing")


def _digits(query: Mapping[str, str], name: str, default: int) -> int:
    text = query.get(name, str(default))
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        raise InvalidRequest(name, text, "a whole number")
    return int(text)
