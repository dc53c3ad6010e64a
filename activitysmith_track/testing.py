"""For tests of code that this library instruments: a simulated phone on a clock that stands until it is moved.

With pytest, the `phone` fixture is there once the library is installed, and the library is set up for it::

    def test_reindex_shows_where_it_is(phone):
        with live_progress("reindex", total=200) as progress:
            progress.advance(84)
            phone.advance(60)
            assert phone.card("reindex").percentage == 42
        assert phone.card("reindex").color == "green"

Elsewhere `with capture() as phone:` gives the same. Nothing sleeps and nothing leaves the machine: the simulator is
a real server on loopback, and the library's pacing runs on the phone's clock, so what is seen is what a phone would
show after that time. It needs the simulator: `pip install "activitysmith-track[simulator]"`.
"""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING, Any

from .delivery.dispatcher import Dispatcher
from .delivery.echoes import Echoes
from .delivery.runtime import Runtime
from .errors import InvalidRequest

try:
    import pytest
except ImportError:  # pragma: no cover  # the tests have it
    pytest = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .configuration import Tracker
    from .delivery.scheduler import Scheduler
    from .simulator import Card, Fault, ManualClock, Received, ReceivedPush, Simulator

__all__ = ["Phone", "capture", "phone"]

SETTLE_SECONDS = 20.0  # of the machine's own, that the library may take to come to rest


class Phone:
    """What a test sees of the phone, and how it moves time.

    Whatever is read here is read when the library has nothing left to do at the clock's time, so a test never waits.

    Attributes:
        simulator: the service and the phone behind it; its Lock Screen is at `simulator.url`.
        clock: the clock, in seconds; `advance` moves it.
    """

    def __init__(self, simulator: Simulator, clock: ManualClock, dispatcher: Dispatcher) -> None:
        self.simulator, self.clock, self._dispatcher = simulator, clock, dispatcher

    # -- time

    def advance(self, seconds: float = 0.0, *, minutes: float = 0.0, hours: float = 0.0) -> None:
        """Let time pass; the library does what is due on the way, each thing at its own time.

        Args:
            seconds: of the phone's clock, 0 or more.
            minutes: added to them.
            hours: added to them.

        Raises:
            InvalidRequest: for a time that is negative or not finite.
            TimeoutError: when the library does not come to rest, because the simulated service hangs.
        """
        from .settings import check_seconds

        until = self.clock() + check_seconds("seconds", seconds + 60 * minutes + 3_600 * hours)
        while (due := self._next_due()) is not None and due <= until:
            self._move_to(due)
        self._move_to(until)
        self.settle()

    def _next_due(self) -> float | None:
        self.settle()
        return min(
            (due for scheduler in self._dispatcher.schedulers if (due := scheduler.next_due()) is not None),
            default=None,
        )

    def _move_to(self, moment: float) -> None:
        self.simulator.advance(max(0.0, moment - self.clock()) + 1e-6)  # rounding must not stop short of it

    def settle(self) -> None:
        """Wait until the library has nothing left to do at this time.

        Raises:
            TimeoutError: when it does not come to rest within 20 s of the machine's own time.
        """
        until = time.monotonic() + SETTLE_SECONDS
        schedulers = [scheduler for scheduler in self._dispatcher.schedulers if scheduler.runs]
        before = None
        while (ran := [scheduler.ran for scheduler in schedulers]) != before:
            before = [count + 1 for count in ran]  # a barrier each, and nothing else
            for scheduler in schedulers:
                self._pass(scheduler, until)
        self._tell_truth()

    def _tell_truth(self) -> None:
        """Tell the simulator how far the jobs really are, for the chart of true against shown."""
        for card in self._dispatcher.opened:
            fraction = card.source.digest().fraction
            if fraction is not None:
                self.simulator.tell_truth(card.stream_key, 100 * fraction)

    @staticmethod
    def _pass(scheduler: Scheduler, until: float) -> None:
        barrier = _Barrier(scheduler)
        scheduler.wake(barrier)
        if not barrier.passed.wait(max(0.0, until - time.monotonic())):
            raise TimeoutError(f"the library did not come to rest within {SETTLE_SECONDS:g} s")

    def deliver(self, seconds: float) -> None:
        """Let time pass until nothing is owed to the service, at most so many seconds; `flush()` does the same here.

        Args:
            seconds: of the phone's clock, 0 or more.

        Raises:
            TimeoutError: when the library does not come to rest, because the simulated service hangs.
        """
        until = self.clock() + seconds
        while (due := self._next_due()) is not None and due <= until and self._dispatcher.ledger.owes:
            self._move_to(due)

    # -- what is seen

    @property
    def cards(self) -> dict[str, Card]:
        """Every stream's card by its key, ended ones included."""
        self.settle()
        return self.simulator.cards

    def card(self, name: str) -> Card:
        """Return the card of a job.

        Args:
            name: the block's name, its `key`, or the card's title.

        Raises:
            AssertionError: when there is none, or several of that title; it names those that there are.
        """
        from .blocks.key import slug

        cards = self.cards
        for key in (name, slug(name)):
            if key in cards:
                return cards[key]
        titled = [card for card in cards.values() if card.title == name]
        if len(titled) != 1:
            there = ", ".join(f"{key} ({card.title!r})" for key, card in sorted(cards.items())) or "none at all"
            raise AssertionError(f"{len(titled)} cards are called {name!r}; there are: {there}")
        return titled[0]

    @property
    def on_screen(self) -> list[Card]:
        """The cards on the Lock Screen now, as they stand there."""
        self.settle()
        return self.simulator.on_screen

    @property
    def pushes(self) -> list[ReceivedPush]:
        """The pushes, oldest first.

        A failure's push waits up to a second in which an outer block may take it over: that second passes first.
        """
        self.deliver(Echoes.seconds)
        return self.simulator.pushes

    def push(self, title: str | None = None) -> ReceivedPush:
        """Return the only push, or the only one of a title.

        Raises:
            AssertionError: when there is none or there are several; it names those that there are.
        """
        pushes = self.pushes
        found = [push for push in pushes if title in (None, push.title)]
        if len(found) != 1:
            there = ", ".join(repr(push.title) for push in pushes) or "none at all"
            wanted = "pushes" if title is None else f"pushes are called {title!r}"
            raise AssertionError(f"{len(found)} {wanted}; there are: {there}")
        return found[0]

    @property
    def requests(self) -> list[Received]:
        """Every request, in the order of their answers."""
        self.settle()
        return self.simulator.requests

    @property
    def badge(self) -> int | None:
        """The app icon's badge."""
        return self.simulator.badge

    @property
    def metrics(self) -> dict[str, Any]:
        """The last value of each widget's metric."""
        return self.simulator.metrics

    def fault(self, kind: str, **fields: Any) -> Fault:
        """Let something go wrong: `with phone.fault("status", status=503):`; see `Simulator.fault`."""
        return self.simulator.fault(kind, **fields)

    def __repr__(self) -> str:
        return f"<Phone at {self.simulator.url}, {self.clock():.0f} s>"


class _Barrier:
    """A task that a lane reaches when it has nothing else to do at the clock's time."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler, self.passed = scheduler, threading.Event()

    def run(self, now: float) -> float | None:
        """Let the others go first."""
        if self._scheduler.at_rest(self):
            self.passed.set()
        return None

    def give_up(self) -> None:
        """Let nobody wait."""
        self.passed.set()


class _Stepped(Dispatcher):
    """A dispatcher that waits by moving the phone's clock."""

    phone: Phone | None = None

    def wait(self, timeout: float) -> None:
        """Let at most so many seconds of the phone pass until nothing is owed; none where it leaves."""
        if self.phone is not None and not self.departure.draining:
            self.phone.deliver(timeout)


@contextlib.contextmanager
def capture(*, tracker: Tracker | None = None, **rules: Any) -> Iterator[Phone]:
    """Give a phone on a clock of its own, with the library set up for it, until the block ends.

    The library is on in the block whatever `ACTIVITYSMITH_TRACK` says, and the key and the address are the
    simulator's. Blocks should be opened and closed within it.

    Args:
        tracker: the `Tracker` to set up; by default the one that functions such as `live_progress` use.
        **rules: the arguments of `Simulator`, such as `slots=1`, `channels=["ops"]` or `device=Device(...)`.

    Raises:
        ImportError: where the simulator's libraries are missing.
        InvalidRequest: for a rule that cannot be.
    """
    from ._tracker import default_tracker
    from .simulator import ManualClock, Simulator

    for name in ("clock", "speed"):
        if name in rules:
            raise InvalidRequest(name, rules[name], "nothing: capture() has a clock of its own")
    clock, shown_by = ManualClock(), tracker or default_tracker()
    began = time.time()
    dispatcher = _Stepped(lambda: 0.0, Runtime(clock, lambda: began + clock()))
    with Simulator(clock=clock, **rules) as simulator:
        dispatcher.phone = Phone(simulator, clock, dispatcher)
        settings: dict[str, Any] = {"api_key": simulator.api_key, "base_url": simulator.base_url}
        settings.update(enabled=True, outbox=False, watchdog=False)
        with shown_by.using(dispatcher, **settings):
            try:
                yield dispatcher.phone
            finally:
                dispatcher.phone = None
                dispatcher.close()


if pytest is not None:

    @pytest.fixture
    def phone() -> Iterator[Phone]:
        """Give a simulated phone on a clock that stands until it is moved, with activitysmith_track set up for it."""
        with capture() as captured:
            yield captured
