"""The simulator's commands: JSON under `/simulator/`, beside the API, for the page and for programs.

Nothing here is the service's. `GET /simulator/` lists the commands.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from ..errors import InvalidRequest
from ..payloads import check_number, check_text
from .clock import Clock, check_advance, check_speed
from .events import Feed
from .faults import FAULT_KINDS, Fault, Faults
from .http import JSON, read_body
from .memory import Tap
from .service import Service
from .views import ROWS, Views, request_json, tap_json
from .wire import Refusal, read_object

if TYPE_CHECKING:
    from starlette.requests import Request

__all__ = ["Control"]

WEBHOOK_SECONDS = 10.0


class Control:
    """The routes of the commands, and of the events.

    Args:
        service: the one that is shown and commanded.
        clock: the one that it lives by.
        faults: those that are set.
        add_fault: makes a fault of its fields and sets it: one that refuses connections needs the server as well.
        views: what writes the state.
        feed: what writes the events.
        deliver_webhooks: whether pressing a webhook's button really calls it.
    """

    def __init__(
        self,
        service: Service,
        clock: Clock,
        faults: Faults,
        *,
        add_fault: Callable[..., Fault],
        views: Views,
        feed: Feed,
        deliver_webhooks: bool,
    ) -> None:
        self._service, self._clock, self._faults = service, clock, faults
        self._add_fault, self._views, self._feed = add_fault, views, feed
        self._delivers_webhooks = deliver_webhooks
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
            ("GET", "/simulator/clock", self._tell_clock, "the clock"),
            ("POST", "/simulator/clock", self._set_clock, '{"advance": seconds, "speed": factor}'),
            ("GET", "/simulator/faults", self._list_faults, "the faults that are set"),
            ("POST", "/simulator/faults", self._set_fault, '{"kind": ' + "|".join(FAULT_KINDS) + ", ...}"),
            ("DELETE", "/simulator/faults", self._clear_faults, "take all faults away"),
            ("DELETE", "/simulator/faults/{number:int}", self._remove_fault, "take one fault away"),
            ("POST", "/simulator/streams/{key}/pause", self._pause, "pause a stream, as its owner can in the app"),
            ("POST", "/simulator/streams/{key}/resume", self._resume, "let it run again"),
            ("POST", "/simulator/taps", self._tap, '{"id": ..., "button": action|secondary_action|redirection|0-3}'),
            ("POST", "/simulator/dismiss", self._dismiss, '{"id": ...}: swipe a card or a push away'),
            ("POST", "/simulator/truth", self._truth, '{"stream_key": ..., "percentage": ...}: for the chart'),
        ]

    def routes(self) -> list[Route]:
        """Return the routes of the commands and of the events."""
        paths = dict.fromkeys(path for _, path, _, _ in self._commands)
        routes = [Route(path, self._endpoint(path), methods=self._methods(path)) for path in paths]
        return [*routes, Route("/simulator/events", self._events)]

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
        return self._views.everything()

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
        self._service.clear()
        return {}

    async def _tell_clock(self, request: Request, given: dict[str, Any]) -> Any:
        clock = self._clock
        return {"now": clock(), "speed": clock.speed, "date": clock.date().isoformat()}

    async def _set_clock(self, request: Request, given: dict[str, Any]) -> Any:
        _only(given, ("advance", "speed"))
        speed = check_speed(given.get("speed", self._clock.speed))
        advance = check_advance(given.get("advance", 0.0))
        self._clock.speed = speed
        self._clock.advance(advance)
        self._service.touch()
        return await self._tell_clock(request, given)

    async def _list_faults(self, request: Request, given: dict[str, Any]) -> Any:
        return {"faults": [fault.as_json() for fault in self._faults]}

    async def _set_fault(self, request: Request, given: dict[str, Any]) -> Any:
        known = [name for name in Fault.__dataclass_fields__ if name not in ("id", "hits")]
        _only(given, known)
        if "kind" not in given:
            raise InvalidRequest("kind", None, "one of " + ", ".join(FAULT_KINDS))
        return self._add_fault(**given).as_json()

    async def _clear_faults(self, request: Request, given: dict[str, Any]) -> Any:
        _only(given, ())
        self._faults.clear()
        return {}

    async def _remove_fault(self, request: Request, given: dict[str, Any]) -> Any:
        if not self._faults.remove(request.path_params["number"]):
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
        if not self._delivers_webhooks:
            return "recorded"
        import httpx

        try:
            async with httpx.AsyncClient(timeout=WEBHOOK_SECONDS) as client:
                answer = await client.request(method, button["url"], json=button.get("body"))
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
            return f"not delivered: {type(error).__name__}"
        return f"delivered: {answer.status_code}"

    async def _events(self, request: Request) -> Response:
        headers = {"cache-control": "no-store", "x-content-type-options": "nosniff"}
        events = self._feed.events(request.headers.get("last-event-id", ""))
        return StreamingResponse(events, media_type="text/event-stream", headers=headers)


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
