"""The simulator: the service on loopback, the phone behind it, and all that a test may ask of them or do to them."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

try:
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException

    from .serving import Server
except ImportError as missing:  # pragma: no cover  # the tests install the extra
    raise ImportError(
        f'{missing}; the simulator needs its extra: pip install "activitysmith-track[simulator]"'
    ) from missing

from .._endpoint import host_to_reach
from ..payloads import check_integer
from .api import Api
from .clock import Clock
from .control import Control
from .device import Card, Device, ReceivedPush
from .events import Feed
from .faults import Fault, Faults
from .gate import Gatekeeper, HostNames
from .http import error_answer
from .lock_screen import page_routes
from .memory import Received, Tap
from .service import Service
from .views import Views

if TYPE_CHECKING:
    from types import TracebackType

    from starlette.types import ASGIApp
    from typing_extensions import Self

__all__ = ["Simulator"]


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
        self.faults = Faults(lambda: self._server.heed(self.service.touch))
        self._host, self._port = host, check_integer("port", port, at_most=65_535)
        self._hosts = HostNames(host, allow_hosts)
        self._views = Views(self.service, self.clock, self.faults, delivers_webhooks=deliver_webhooks)
        self._feed = Feed(self._views)
        self._delivers_webhooks = deliver_webhooks
        self._server = Server(lambda: _listen(self._host, self._port), lambda: self.faults.refuse)
        self.service.listeners.append(lambda: self._server.call(self._feed.wake))

    # -- starting and stopping

    def start(self) -> Self:
        """Serve, and return when requests are answered."""
        self._port = int(self._server.start(self.application()).getsockname()[1])
        return self

    def stop(self) -> None:
        """Stop serving; what was received can still be read."""
        if not self._server.is_running:
            return
        self._server.stop()
        for fault in self.faults:
            if fault.kind == "refuse":
                fault.remove()

    def __enter__(self) -> Self:
        return self if self._server.is_running else self.start()

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
            return [card.copied() for card in self.service.memory.on_screen(self.service.look())]

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
        if fault.kind == "refuse" and not self._server.is_running:
            raise RuntimeError("the simulator has not been started")
        self.faults.add(fault)
        if fault.kind == "refuse":
            self._server.later(float(fault.seconds or 0), fault.remove)
        return fault

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

    def application(self) -> ASGIApp:
        """Return the ASGI application that is served; a subclass may wrap it."""
        control = Control(
            self.service,
            self.clock,
            self.faults,
            add_fault=self.fault,
            views=self._views,
            feed=self._feed,
            deliver_webhooks=self._delivers_webhooks,
        )
        routes = [Api(self.service, self.faults, self._server.reset).route(), *control.routes(), *page_routes()]
        application = Starlette(routes=routes, exception_handlers={HTTPException: error_answer})
        application.router.redirect_slashes = False  # the service does not redirect either
        return Gatekeeper(application, self._hosts)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.create_server((host, port), family=family, backlog=512)
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # asyncio does so for its own sockets only
    return listening
