"""What carries states, ends and pushes to the service, so that the user's code never does.

A handle is given a `Card`: its mailbox. The card asks it for its state when something may be sent, so only the latest
state ever travels. One lane decides; its crews carry the requests: one crew those that show states, another what must
not wait behind a hanging update (ends and pushes).
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import weakref
from collections import deque
from functools import partial
from queue import Empty
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from ._failure import late
from ._forks import children, importing, on_own_thread
from ._keeping import Keeper, Parting
from ._pacing import DEFAULT_BUDGET, Budget, Pace, Range
from ._shutdown import Shutdown, shutdown
from .delivery.runtime import Runtime

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from ._inbox import Inbox
    from ._keeping import LastWords
    from ._lanes import Crew, Errand, Lane, Task
    from ._outbox import Entry
    from ._signals import Signals
    from .client import Call, StreamAnswer

logger = logging.getLogger("activitysmith_track")

CREW = 4  # threads of each crew at most: as many as there are slots
ATTEMPT_SECONDS = 5.0  # one request of the courier
REQUESTS_PER_MINUTE = 60  # the account's rate
RESERVED_FOR_ENDS = 10  # of those, what updates leave to ends and pushes
SLOTS = 4  # Live Activities at once, until the service names another figure
SLOT_RETRY, RECIPIENT_RETRY = 20.0, 300.0  # seconds until a start that was turned away is tried again
RATE_RETRY = 10.0  # seconds of silence after a 429 without Retry-After
WAITED_FOR = 2  # failures after which an end that a newer run waits for is tried again, however many there were
PROMPT_BACKOFF, LONGEST_BACKOFF = 4.0, 60.0  # seconds between two attempts, in the first minute and later
CLOSE_SECONDS = 0.5  # that closing waits for a request that is on its way, unless it is told how long
LANDING_SECONDS = 0.1  # by which a request at the exit is over before its time is
END_LOOK = 0.25  # between two looks whether another process has sent an older run's end
ROTATION_RETRY = 300.0  # until a card that the service refused to change for a fresh one is tried again
START_LOOK = 0.05  # between two looks whether a watchdog that is being started stands
GRACE = 1.0  # seconds that an end waits for an update of its own card that is on its way
ECHO_SECONDS = 1.0  # seconds within which an outer block takes over the failure push of an inner one


class Snapshot(NamedTuple):
    """What a card should show now.

    Attributes:
        body: the body of a stream PUT.
        fraction: the part done, 0 to 1, or `None` where there is no such thing.
        transitions: how many transitions there were; a new one goes at once.
        detail: what else is worth an update of its own when it changes.
        numbers: those on the card by their labels; how much they change decides when they go.
    """

    body: Mapping[str, Any]
    fraction: float | None = None
    transitions: int = 0
    detail: object = None
    numbers: Mapping[str, float] = MappingProxyType({})


class Source(Protocol):
    """What the courier asks of a handle, on its own threads."""

    def snapshot(self) -> Snapshot | None:
        """Return the state to show, or `None` where there is nothing to show yet."""

    def transitions(self) -> int:
        """Return how many transitions there have been by now."""

    def last_words(self) -> LastWords | None:
        """Return what is to be said if the process dies now, or `None` where nobody watches."""

    def rest(self, looked: Snapshot | None) -> float | None:
        """Ask to be woken by the next change after that look; else return the seconds after which to look again."""

    def opening(self) -> None:
        """Hear that the card is about to appear on the screen."""

    def abandon(self, words: str | None = None) -> None:
        """End as stopped: the interpreter exits, or a signal ends it, which the words name."""


class _Over:
    """The source of a card that is through, which keeps no handle alive any more."""

    def snapshot(self) -> Snapshot | None:
        return None

    def transitions(self) -> int:
        return 0

    def last_words(self) -> LastWords | None:
        return None

    def rest(self, looked: Snapshot | None) -> float | None:
        return None

    def opening(self) -> None:
        return

    def abandon(self, words: str | None = None) -> None:
        return


_OVER = _Over()


class Account:
    """One API key at one address: its client, its minute, its slots. Beside `perform` used by the lane alone."""

    def __init__(self, api_key: str, base_url: str, runtime: Runtime) -> None:
        self._key, self.base_url = api_key, base_url
        self._transport = runtime.transport(api_key, base_url, ATTEMPT_SECONDS)
        self._sent: deque[float] = deque()
        self._closed_until = 0.0
        self._running: dict[Card, None] = {}
        self._waiting: dict[Card, None] = {}
        self._slots_closed_until = 0.0
        self.slots = SLOTS
        self.cards: dict[str, Card] = {}  # by their stream keys
        self.owed_ends: dict[str, Delivery] = {}  # of earlier processes, by their stream keys
        self.looked_for_owed = False

    @property
    def secret(self) -> str:
        """The API key, for the scrubber."""
        return self._key

    def perform(self, calls: Iterable[Call[Any]], seconds: float | None = None) -> Any:
        """Send requests one after the other, each in one attempt; on a crew's thread.

        Args:
            calls: the requests.
            seconds: what each may take at most; by default `ATTEMPT_SECONDS`.

        Returns:
            The answer to the last one.
        """
        return [self._transport.perform(call, seconds) for call in calls][-1]

    def close(self) -> None:
        """Close the connections; a next request opens new ones."""
        self._transport.close()

    def __del__(self) -> None:
        self.close()

    # -- the account's minute

    def note_request(self, now: float, requests: int = 1) -> None:
        """Count requests that are sent now."""
        self._sent.extend([now] * requests)

    def forget_requests(self, requests: int) -> None:
        """Take back what was counted last: it was not sent."""
        for _ in range(min(requests, len(self._sent))):
            self._sent.pop()

    def open_at(self, now: float, *, urgent: bool) -> float:
        """Return when the account's rate lets the next request through."""
        while self._sent and self._sent[0] <= now - 60.0:
            self._sent.popleft()
        most = REQUESTS_PER_MINUTE if urgent else REQUESTS_PER_MINUTE - RESERVED_FOR_ENDS
        full = self._sent[len(self._sent) - most] + 60.0 if len(self._sent) >= most else now
        return max(full, self._closed_until)

    def rate_limited(self, now: float, seconds: float | None) -> float:
        """Note a 429 and return when to try again."""
        self._closed_until = max(self._closed_until, now + (RATE_RETRY if seconds is None else seconds))
        return self._closed_until

    # -- its slots: first come, first served

    def slot(self, card: Card, now: float) -> bool:
        """Take a slot; where it is not the card's turn, the card is woken when it is."""
        if card in self._running:
            return True
        self._waiting.setdefault(card)
        if now < self._slots_closed_until or card not in self.next_ones():
            return False
        del self._waiting[card]
        self._running[card] = None
        return True

    def next_ones(self) -> list[Card]:
        """Return the waiting cards for which there is a slot, as soon as the service may be asked for it."""
        return list(itertools.islice(self._waiting, max(0, self.slots - len(self._running))))

    def slots_open_at(self, now: float) -> float | None:
        """Return when the service may be asked for a slot again, where it has refused one; `None` for now."""
        return self._slots_closed_until if now < self._slots_closed_until else None

    def waiting_ends(self) -> list[Ending]:
        """Return the ends of cards that wait for a slot, if only to be shown with how they ended."""
        return [card.ending for card in self._waiting if card.ending is not None]

    @property
    def frees_slots(self) -> bool:
        """True while a card that has a slot is about to give it back."""
        return any(card.ending is not None for card in self._running)

    def slots_full(self, card: Card, now: float, limit: int | None) -> float:
        """Note that the service refused a start; returns when to ask again."""
        self._running.pop(card, None)
        self._waiting = {card: None, **self._waiting}
        if limit is not None:
            self.slots = max(1, limit)
        self._slots_closed_until = now + SLOT_RETRY
        return self._slots_closed_until

    def release(self, card: Card) -> bool:
        """Give a slot, or the place in the queue for one, back; returns whether it may be another card's turn."""
        if card in self._waiting:
            del self._waiting[card]
            return True
        if card not in self._running:
            return False
        del self._running[card]
        self._slots_closed_until = 0.0
        return True


class Card:
    """One activity's mailbox: the task of the lane that has its latest state sent."""

    __slots__ = (
        "_deaf",
        "_epoch",
        "_errand",
        "_failures",
        "_looked",
        "_not_before",
        "_ranges",
        "_rotates",
        "_woken",
        "account",
        "courier",
        "ending",
        "flying",
        "guarded",
        "number",
        "pace",
        "predecessor",
        "refused",
        "sent",
        "settled",
        "source",
        "started",
        "stream_key",
        "successor",
    )

    def __init__(
        self,
        courier: Courier,
        account: Account,
        stream_key: str,
        source: Source,
        *,
        not_before: float,
        reserve: int,
        budget: Budget,
    ) -> None:
        self.courier, self.account, self.stream_key, self.source = courier, account, stream_key, source
        self.pace = Pace(reserve, budget)
        self.started = self.refused = False
        self.flying: Snapshot | None = None  # what is on its way
        self.sent: Snapshot | None = None
        self.ending: Ending | None = None
        self.predecessor: Card | None = None
        self.successor: Card | None = None
        self.settled = self._woken = self._deaf = False
        self._rotates = False  # its card is being changed for a fresh one
        self._not_before = not_before  # the card is held back until then, for a delay or after a failure
        self._looked: tuple[object, ...] | None = None
        self._ranges: dict[str, Range] | None = None  # of the numbers on it
        self._errand: Errand | None = None
        self._failures = 0
        self._epoch = courier.epoch
        self.number = next(courier.order)
        self.guarded: bool | None = None  # whether a watchdog knows of it

    @property
    def inherited(self) -> bool:
        """True in a forked child, for a card that is its parent's."""
        return self._epoch != self.courier.epoch

    @property
    def held(self) -> bool:
        """True while a delay keeps it off the screen."""
        return self.courier.clock() < self._not_before

    @property
    def must_wait(self) -> bool:
        """True while the end of an older run has not arrived, which would end this one's card."""
        older, owed = self.predecessor, self.account.owed_ends.get(self.stream_key)
        return (older is not None and not older.settled) or (owed is not None and owed.in_flight)

    # -- the user's side: never blocks

    def wake(self, *, transition: bool = False) -> None:
        """Have the state looked at; until that could change anything, once is enough."""
        if not self._woken and (transition or not self._deaf):
            self._woken = True
            self.courier.hand_in(self)

    def end(self, final: Final) -> None:
        """Hand in the last state, once; states after it are no longer sent."""
        if self.ending is None:
            self.ending = Ending(self, final)
            self.courier.hand_in(self.ending)

    # -- the lane's side

    def listen(self) -> None:
        """Have the next change looked at."""
        self._woken = self._deaf = False

    def run(self, now: float) -> float | None:
        """Have the latest state sent if pacing, slots and rate allow; see `Task.run`."""
        self._woken = True  # until it listens again: a job that changes all the time would be looked at all the time
        if self._errand is not None:
            if not self._errand.done:
                return None
            self._landed(now)
            self.courier.send_ready(now)
        if self.ending is not None or self.settled or self.refused:
            return None
        if self.guarded is None:
            self._guard()
            self.courier.look_for_owed(self.account)
        if now < self._not_before:
            return self._not_before
        if not self.started and self.must_wait:
            return None  # woken when the older run's end is through
        snapshot = self.source.snapshot()
        if snapshot is None:
            self.listen()
            snapshot = self.source.snapshot()  # it may have had the first thing to show meanwhile
        if snapshot is None or self.started:
            return self._wait(now, snapshot)
        self.courier.owe(self)
        if self.account.slot(self, now):
            self.courier.ready(self, now)
            return None
        return self.account.slots_open_at(now)  # else woken by the one that gives a slot back

    def _guard(self) -> None:
        """Tell the watchdog, where there is one, what to say if the process dies."""
        words = self.source.last_words()
        self.guarded = words is not None
        if words is None:
            return
        older = None if self.started or self.flying is not None else self.predecessor
        if older is not None and older.ending is not None and not older.settled:
            words = older.ending.final.body or words[0], words[1]  # what is on the screen is the older run's
        self.courier.keeper.guard(self.number, self.account, self.stream_key, words)

    def give_up(self) -> None:
        """Send no more states; see `Task.give_up`."""
        self.refused = True
        self.courier.settle(self)

    def _wait(self, now: float, snapshot: Snapshot | None) -> float | None:
        """Have a state sent if it is due; else return when to look again."""
        due = None if snapshot is None else self._update_at(now, snapshot)
        if due is not None and due <= now:
            self.courier.ready(self, now)
            return None
        looked, self._looked = self._looked, snapshot and snapshot[1:]
        if snapshot is not None and looked is not None and looked != self._looked:
            again: float | None = self._busy(now, snapshot, due)
        else:
            again = self._rest(now, snapshot, due)
        if snapshot is not None and not self._woken and self.source.transitions() != snapshot.transitions:
            return now  # it came before this card listened again
        return again

    def _busy(self, now: float, snapshot: Snapshot, due: float | None) -> float:
        """Return when to look again at a job that moves; until then its changes wake nobody, transitions excepted."""
        self._deaf = True
        self._woken = self.sent is not None and snapshot.transitions != self.sent.transitions
        return min(self.pace.look_at(now) if due is None else due, self.pace.rotate_at)

    def _rest(self, now: float, snapshot: Snapshot | None, due: float | None) -> float | None:
        """Have the next change looked at; returns when to look again without one."""
        self.listen()
        wait = self.source.rest(snapshot)
        ahead = [due, None if wait is None else now + wait, self.pace.rotate_at if self.started else None]
        return min((when for when in ahead if when is not None), default=None)

    def _update_at(self, now: float, snapshot: Snapshot) -> float | None:
        """Return when a state goes that differs from the one on the screen; `None` for not by itself."""
        sent = self.sent
        if sent is None or now >= self.pace.rotate_at:
            return now
        if snapshot.body == sent.body:
            return None
        if snapshot.transitions != sent.transitions:
            return self.pace.transition_at()
        if snapshot.fraction is not None and snapshot.fraction != sent.fraction:
            return self.pace.progress_at(now, snapshot.fraction)
        change = self._change(snapshot, sent)
        return self.pace.reading_at(change) if change else None  # what else has changed rides with the next update

    def _change(self, snapshot: Snapshot, sent: Snapshot) -> float:
        """Return how far the readings are from those on the screen, 0 to 1 of the range seen; 1 for another text."""
        if snapshot.detail != sent.detail:
            return 1.0
        changes = [0.0]
        for label, value in snapshot.numbers.items():
            self._ranges = self._ranges or {}
            seen = self._ranges.setdefault(label, Range())
            changes.append(seen.change(sent.numbers.get(label, value), value))
        return max(changes)

    def wrongness(self, now: float) -> float | None:
        """Return how wrong the screen is, 0 to 1, and more where a start or a transition is missing.

        `None` means that there is nothing to send any more.
        """
        snapshot = None if self.ending is not None or self.settled else self.source.snapshot()
        if snapshot is None or self._errand is not None or (not self.started and self.must_wait):
            return None
        sent = self.sent
        if sent is None or snapshot.transitions != sent.transitions:
            return 2.0
        if snapshot.body == sent.body and now < self.pace.rotate_at:
            return None
        if snapshot.fraction is None or sent.fraction is None:
            return self._change(snapshot, sent)
        return abs(snapshot.fraction - sent.fraction)

    def launch(self, now: float) -> None:
        """Send the state of this moment; before iOS ends the card, end it and begin it anew."""
        self._rotates = self._rotates or (self.started and now >= self.pace.rotate_at)
        begins = self._rotates or not self.started
        if begins:
            self.sent = None
            self.source.opening()
        snapshot = self.source.snapshot()
        if snapshot is None:
            return
        self.flying = snapshot
        self._guard()
        body = snapshot.body if begins else _without_opening(snapshot.body)
        self.account.note_request(now, 1 + self._rotates)
        opens = None if self.started else self.courier.keeper
        work = partial(_show, self.account, self.stream_key, body, rotates=self._rotates, opens=opens)
        self._errand = self.courier.lane.send(self.courier.update_crew, self, work)

    def _landed(self, now: float) -> None:
        """Take what came of a request."""
        errand, snapshot = self._errand, self.flying
        self._errand = self.flying = None
        if errand is not None and snapshot is not None:
            if errand.error is None:
                self._answered(errand.result, snapshot, now)
            else:
                self._failed(errand.error, snapshot, now)
        if self.ending is not None:
            self.courier.hand_in(self.ending)
        self.courier.wake_owed(self)

    def _answered(self, answer: StreamAnswer, snapshot: Snapshot, now: float) -> None:
        self._failures = 0
        if answer.operation in ("started", "rotated") or not self.started or self._rotates:
            self.pace.start(now, snapshot.fraction, fresh=answer.operation in ("started", "rotated"))
        elif answer.operation != "noop":
            before = self.sent
            self.pace.sent(
                now, snapshot.fraction, transition=before is not None and before.transitions != snapshot.transitions
            )
        if answer.warning:
            if self.pace.budget.by(0.0) <= DEFAULT_BUDGET.free:  # else the user knows of a larger one
                self.pace.warned(now)
            self.courier.tell_once(
                "warning", "ActivitySmith warns about updates of %s: %s", self.stream_key, answer.warning
            )
        if answer.operation == "paused":
            self.courier.tell_once(
                "paused", "the stream %s is paused in ActivitySmith: its card is not shown", self.stream_key
            )
        self._rotates = False
        if not self.started:
            self.started = True
            self.courier.wake_waiting(self.account)
        self.sent = snapshot
        self.courier.settle(self)

    def _failed(self, error: Exception, snapshot: Snapshot, now: float) -> None:
        from .errors import DeliveryError

        if isinstance(error, EndUnderWay):
            self.account.forget_requests(1)
            self._not_before = now + END_LOOK
            return
        self._failures += 1
        self.courier.tell_failure("an update", error)
        if isinstance(error, DeliveryError) and error.delivered is None and self.started:
            self.pace.sent(now, self.pace.shown)  # it may have arrived, and then it counts; who knows what is shown
        again = self._again_at(error, now)
        if again is None and self._rotates:
            again = now + ROTATION_RETRY
        if again is not None:
            self._not_before = again
            return
        if not self.started:
            self.refused = True
            self.courier.release(self)
            self.courier.look_for_owed(self.account, again=True)  # the older run's end, which this one was to replace
        self.sent = snapshot if self.started else None
        self.courier.settle(self)

    def _again_at(self, error: Exception, now: float) -> float | None:
        """Return when a request that failed is tried again, with what is true by then; `None` for never."""
        from .errors import ActivityLimitReached, NoRecipients, TooManyRequests

        if isinstance(error, ActivityLimitReached):
            return self.account.slots_full(self, now, error.limit)
        if isinstance(error, TooManyRequests):
            return self.account.rate_limited(now, error.retry_after)
        if isinstance(error, NoRecipients):
            if self.account.release(self):
                self.courier.wake_waiting(self.account)
            return now + RECIPIENT_RETRY
        return now + self.courier.backoff(self._failures) if passing(error) else None


class Dispatcher:
    """The task that sends what is ready: where not all of it may go, the card whose screen is most wrong first."""

    def __init__(self, courier: Courier) -> None:
        self._courier = courier
        self._ready: dict[Card, None] = {}

    def add(self, card: Card) -> None:
        """Have a card's state sent as soon as it may go."""
        self._ready[card] = None

    def run(self, now: float) -> float | None:
        """Send what may go; returns when the account's rate lets the next one through."""
        if not self._courier.update_crew.free:
            return None  # woken when a request has landed
        later: float | None = None
        for card in self._by_wrongness(now):
            open_at = card.account.open_at(now, urgent=False)
            if open_at > now:
                later = open_at if later is None else min(later, open_at)
            elif self._courier.update_crew.free:
                del self._ready[card]
                card.launch(now)
        return later

    def _by_wrongness(self, now: float) -> list[Card]:
        found = {card: card.wrongness(now) for card in self._ready}
        for card in [card for card, wrong in found.items() if wrong is None]:
            del self._ready[card]
            self._courier.lane.schedule(card, now)  # it listens again
        return sorted(self._ready, key=lambda card: -(found[card] or 0.0))

    def give_up(self) -> None:
        """Forget what was ready; each card is looked at again with its next change."""
        for card in self._ready:
            card.listen()
        self._ready.clear()


def _show(
    account: Account, stream_key: str, body: Mapping[str, Any], *, rotates: bool, opens: Keeper | None
) -> StreamAnswer:
    """Show a state, on a fresh card if the one on the screen is to go: the work of an errand."""
    from .client import end_stream_call, stream_call
    from .errors import NotFound

    if rotates:
        content = {**body["content_state"], "auto_dismiss_seconds": 0}
        content.pop("duration_seconds", None)
        with contextlib.suppress(NotFound):
            account.perform([end_stream_call(stream_key, None, {"content_state": content})])
    with contextlib.nullcontext() if opens is None else _in_place_of_older(opens, account, stream_key):
        answer: StreamAnswer = account.perform([stream_call(stream_key, None, body)])
    return answer


class EndUnderWay(Exception):
    """Another process is sending the end of an older run, which would end a card that is begun now."""


@contextlib.contextmanager
def _in_place_of_older(keeper: Keeper, account: Account, stream_key: str) -> Iterator[None]:
    """Begin a card; what an older run owes it is forgotten if that succeeds."""
    owed = keeper.cancel_ends(account, stream_key)
    if owed is None:
        raise EndUnderWay
    try:
        yield
    except Exception:
        keeper.put_back(owed)
        raise


def _without_opening(body: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what belongs to a start alone: its alert, and a duration, which would restart the timer."""
    state = {name: value for name, value in body["content_state"].items() if name != "duration_seconds"}
    return {**{name: value for name, value in body.items() if name != "alert"}, "content_state": state}


class Final(NamedTuple):
    """How a card ends.

    Attributes:
        body: the body of the last request.
        opening: the body that starts the card first, where it was never on the screen.
        show: False where a card that was never on the screen need not appear at all.
        keep: True to leave the card up with this state instead of ending it.
        not_before: the time until which it is held back, for a better one to take its place.
    """

    body: Mapping[str, Any]
    opening: Mapping[str, Any] | None = None
    show: bool = True
    keep: bool = False
    not_before: float = 0.0


class Parcel:
    """Something that must not be lost: it is sent until it has arrived, and kept on disk or elsewhere meanwhile."""

    __slots__ = ("_errand", "_failures", "account", "courier", "entry", "happened", "id", "keeper")

    def __init__(self, courier: Courier, account: Account, entry: Entry | None = None) -> None:
        self.courier, self.account = courier, account
        self.keeper = courier.keeper  # a courier that is closed begins with another one
        self.entry = entry  # the copy that is kept, if any
        self.happened = courier.runtime.wall() if entry is None else entry.happened
        self.id = courier.runtime.token() if entry is None else entry.id  # of the copy, should two threads make it
        self._errand: Errand | None = None
        self._failures = 0

    def run(self, now: float) -> float | None:
        """Send it as soon as it may go; see `Task.run`."""
        if self._errand is None:
            return self._next(now)
        if not self._errand.done:
            return None
        errand, self._errand = self._errand, None
        return self._done() if errand.error is None else self._failed(errand.error, now)

    def give_up(self) -> None:
        """Leave it undelivered; see `Task.give_up`."""
        self.courier.lost += 1
        self._done()

    @property
    def in_flight(self) -> bool:
        """True while nobody can tell whether it has arrived."""
        return self._errand is not None

    @property
    def may_have_arrived(self) -> bool:
        """True while an attempt at what is better lost than sent twice is on its way."""
        return False

    def _next(self, now: float) -> float | None:
        """Send it, or return when it may go."""
        raise NotImplementedError

    def _perform(self, seconds: float) -> None:
        """Send it: the work of an errand."""
        raise NotImplementedError

    def _failed(self, error: Exception, now: float) -> float | None:
        raise NotImplementedError

    def _done(self) -> float | None:
        raise NotImplementedError

    def copy(self, *, failed: bool = False) -> Entry | None:
        """Return what is to be kept of it, or `None` where it is better lost than sent twice.

        Args:
            failed: whether the attempt that is on its way has failed for certain.
        """
        raise NotImplementedError

    def _ahead(self, now: float) -> float | None:
        """Return when the account's rate lets it through; `None` for now."""
        open_at = self.account.open_at(now, urgent=True)
        return open_at if open_at > now and not self.courier.hurried else None

    def _send(self, now: float, requests: int = 1) -> None:
        self.account.note_request(now, requests)
        work = partial(self._attempt, self.courier.attempt_seconds())
        self._errand = self.courier.lane.send(self.courier.end_crew, self, work)

    def _attempt(self, seconds: float) -> None:
        """Send it, and see to the copy: made by the first failure, gone with the delivery."""
        keeper = self.keeper
        if self.entry is not None and keeper.begin(self.entry) is False:
            return  # a newer run has cancelled it, or another process delivers it
        try:
            self._perform(seconds)
        except Exception as error:
            if not self._is_owed_after(error):
                if self.entry is not None:
                    keeper.delivered(self.entry)
            elif self.entry is not None:
                keeper.over(self.account, self.entry)
            elif (entry := self.copy(failed=True)) is not None and keeper.keep(self.account, entry):
                self._has_copy(entry)
            raise
        if self.entry is not None:
            keeper.delivered(self.entry)

    def _has_copy(self, entry: Entry) -> None:
        """Note that it is kept."""
        self.entry = entry

    def _is_owed_after(self, error: Exception) -> bool:
        """Tell whether it is tried again after a failure."""
        from .errors import TooManyRequests

        return isinstance(error, TooManyRequests) or passing(error)


class Ending(Parcel):
    """The end of a card: a task that updates cannot hold up."""

    __slots__ = ("_asked", "_guarded", "_opens", "_overtook", "card", "final")

    def __init__(self, card: Card, final: Final) -> None:
        super().__init__(card.courier, card.account)
        self.card, self.final = card, final
        self._asked = card.courier.clock()
        self._overtook = self._opens = False
        self._guarded: Final | None = None  # what the watchdog says if the process is killed now

    def replace(self, final: Final) -> None:
        """Put another end in the place of one that is still held back."""
        self.final = final
        self.courier.hand_in(self)

    def _next(self, now: float) -> float | None:
        card, hurried = self.card, self.courier.hurried
        if card.settled:
            self.courier.settle(self)
            return None
        if card.guarded is None and self.keeper.watched:  # it has ended before it was looked at
            card.guarded = card.source.last_words() is not None
        if card.guarded and self.entry is None and self._guarded is not self.final:
            self._guarded = self.final  # killed from here on, it has ended as it did
            self.keeper.guard(card.number, card.account, card.stream_key, (self.final.body, None))
        if now < self.final.not_before and not hurried:
            return self.final.not_before
        if card.predecessor is not None and not card.predecessor.settled:
            return None
        if card.must_wait and not (card.started or card.refused):
            return None
        # An end before its card's start would find nothing, so it waits for that to the last, unless the job leaves.
        grace = self._asked + (GRACE if card.started or hurried else ATTEMPT_SECONDS)
        if card.flying is not None and now < grace:
            return grace
        if not card.started and card.flying is None and not self._may_show(now):
            return None if self._worth_showing and card.account.frees_slots else self._done()
        later = self._ahead(now)
        if later is None:
            self._overtook = card.flying is not None
            self._opens = not card.started and card.flying is None
            self._send(now, self._requests)
        return later

    @property
    def _requests(self) -> int:
        return 2 if self._opens and not self.final.keep else 1

    @property
    def kind(self) -> str:
        """What it is in the outbox; see `Entry`."""
        return "keep" if self.final.keep else "end"

    @property
    def _worth_showing(self) -> bool:
        """True where a card that was never on the screen is to appear with its end."""
        wanted = self.final.show and self.final.opening is not None
        return wanted and self.card.successor is None and not self.card.refused

    def _may_show(self, now: float) -> bool:
        return self._worth_showing and self.card.account.slot(self.card, now)

    def _perform(self, seconds: float) -> None:
        from .client import owed_call, stream_call

        card, final = self.card, self.final
        if self._opens:
            keeper, key = self.keeper, card.stream_key
            replaces = self.entry is None  # else its copy has taken the place of what an older run owed
            with _in_place_of_older(keeper, self.account, key) if replaces else contextlib.nullcontext():
                self.account.perform([stream_call(key, None, final.opening or {})], seconds)
            card.started, self._opens = True, False
            if final.keep:
                return
        body = late(final.body, self.happened, self.courier.runtime.wall(), self.kind)
        if final.keep:
            body = _without_opening(body)
        self.account.perform([owed_call(self.kind, card.stream_key, body)], seconds)

    def _has_copy(self, entry: Entry) -> None:
        super()._has_copy(entry)
        self.keeper.goodbye(self.card.number)

    def copy(self, *, failed: bool = False) -> Entry | None:
        """Return what is to be kept of it."""
        if not self.final.body:
            return None
        key = self.card.stream_key
        return self.keeper.entry(self.account, self.kind, self.final.body, self.happened, id=self.id, stream_key=key)

    def _failed(self, error: Exception, now: float) -> float | None:
        from .errors import ActivityLimitReached, NotFound, TooManyRequests

        card = self.card
        if isinstance(error, EndUnderWay):
            self.account.forget_requests(self._requests)
            return now + END_LOOK
        self._failures += 1
        if isinstance(error, ActivityLimitReached):
            return self._refused()  # no room for a card that has already ended
        if isinstance(error, NotFound):
            return self._done()  # nothing is on the screen
        card.courier.tell_failure("an end", error)
        if isinstance(error, TooManyRequests):
            return card.account.rate_limited(now, error.retry_after)
        if passing(error):
            return now + self.courier.backoff(self._failures if card.successor is None else WAITED_FOR)
        card.courier.lost += 1
        return self._refused()

    def _refused(self) -> float | None:
        if self._opens:
            self.courier.look_for_owed(self.account, again=True)  # the older run's end, whose place it was to take
        return self._done()

    def _done(self) -> float | None:
        """Owe nothing any more; but an end that overtook an update is owed again until that has landed.

        The update may be carried out after the end, and would wake the card.
        """
        card = self.card
        card.courier.settle(card)
        if self._overtook:
            self._overtook, self.entry, self._guarded = False, None, None
            return None if card.flying is not None else card.courier.clock()
        card.courier.settle(self)
        card.settled = True
        self.keeper.goodbye(card.number)
        card.courier.release(card)
        return None


class Delivery(Parcel):
    """A push on its way, or what an earlier process owed: a task that updates cannot hold up."""

    __slots__ = ("_begun", "_call", "at_least_once", "body", "failure", "kind", "not_before", "withdrawn")

    def __init__(
        self,
        courier: Courier,
        account: Account,
        body: Mapping[str, Any],
        *,
        at_least_once: bool,
        not_before: float = 0.0,
        entry: Entry | None = None,
    ) -> None:
        super().__init__(courier, account, entry)
        self.kind = "push" if entry is None else entry.kind
        self.body, self.at_least_once, self.not_before = body, at_least_once, not_before
        self.withdrawn = False
        self.failure: tuple[object, int] | None = None  # the exception's marks, and when the block failed
        self._call: Call[Any] | None = None
        self._begun = False  # an attempt may have reached the service

    def _next(self, now: float) -> float | None:
        # First the watchdog, for the job may be killed while it is held back; and that may wait for an import, while
        # an outer block takes it over.
        starting = not self.withdrawn and self._have_watched()
        if self.withdrawn:
            return self._done()
        if now < self.not_before and not self.courier.hurried:
            return min(self.not_before, now + START_LOOK) if starting else self.not_before
        newer = self._newer
        if newer is not None and newer.started and self.entry is not None:
            gone = partial(self.keeper.delivered, self.entry)  # the disk may be slow
            self._errand = self.courier.lane.send(self.courier.end_crew, self, gone)
            return None
        if newer is not None and (newer.flying is not None or (newer.ending is not None and newer.ending.in_flight)):
            return None  # woken when that has landed
        later = self._ahead(now)
        if later is None:
            self.failure, self._begun = None, False  # from here on nobody takes it over
            self._send(now)
        return later

    def _have_watched(self) -> bool:
        """Where a watchdog stands guard, have it deliver the push of a failure if the process dies now.

        Returns:
            True where it does not stand yet.
        """
        keeper = self.keeper
        if self.entry is not None or not self.at_least_once:
            return False
        if keeper.watched:
            entry = self.copy()
            with self.courier.taking_over:
                if entry is not None and not self.withdrawn and keeper.hand_over(self.account, entry):
                    self.entry = entry
        return keeper.prepares

    def _perform(self, seconds: float) -> None:
        from .client import owed_call

        self._begun = True
        body = late(self.body, self.happened, self.courier.runtime.wall(), self.kind)
        key = "" if self.entry is None else self.entry.stream_key or ""
        self._call = owed_call(self.kind, key, body, at_least_once=self.at_least_once)
        self.account.perform([self._call], seconds)

    def _is_owed_after(self, error: Exception) -> bool:
        from .client import worth_another_try

        may_repeat = self._call is not None and worth_another_try(self._call, error)
        return may_repeat or (self.at_least_once and super()._is_owed_after(error))

    @property
    def may_have_arrived(self) -> bool:
        """True while an attempt at what is better lost than sent twice is on its way."""
        return self.in_flight and self._begun and not self.at_least_once

    def copy(self, *, failed: bool = False) -> Entry | None:
        """Return what is to be kept of it; nothing where it was withdrawn, or may have arrived and need not twice."""
        if self.withdrawn or (self.may_have_arrived and not failed):
            return None
        return self.keeper.entry(
            self.account, "push", self.body, self.happened, id=self.id, at_least_once=self.at_least_once
        )

    def _failed(self, error: Exception, now: float) -> float | None:
        from .errors import NotFound, TooManyRequests

        self._failures += 1
        self._make_room()
        if isinstance(error, NotFound) and self.kind == "end":
            return self._done()  # nothing is on the screen
        self.courier.tell_failure("a push" if self.kind == "push" else "an end", error)
        if isinstance(error, TooManyRequests):
            return self.account.rate_limited(now, error.retry_after)
        if self._is_owed_after(error):
            return now + self.courier.backoff(self._failures)
        self.courier.lost += 1
        return self._done()

    @property
    def _newer(self) -> Card | None:
        """The card of a newer run under the same key, where this is the end of an older one's."""
        return None if self.entry is None else self.account.cards.get(self.entry.stream_key or "")

    def _make_room(self) -> None:
        """Have a newer run's card go on that has waited for this to land."""
        newer = self._newer
        while newer is not None:
            self.courier.wake_both(newer)
            newer = newer.predecessor

    def _done(self) -> float | None:
        self._make_room()
        if self.entry is not None and self.account.owed_ends.get(self.entry.stream_key or "") is self:
            del self.account.owed_ends[self.entry.stream_key or ""]
        self.courier.settle(self)
        return None


class Backlog:
    """The task that takes over what earlier processes owe an account."""

    def __init__(self, courier: Courier, account: Account) -> None:
        self._courier, self._account = courier, account
        self._errand: Errand | None = None

    def run(self, now: float) -> float | None:
        """Claim what is owed, and have it delivered; see `Task.run`."""
        courier = self._courier
        if self._errand is None:
            self._errand = courier.lane.send(courier.end_crew, self, partial(courier.keeper.claim, self._account))
            return None
        if not self._errand.done:
            return None
        errand, self._errand = self._errand, None
        owed = courier.owed_ids() if errand.result else set()
        for entry in errand.result or ():
            if entry.id in owed:
                continue  # it is this process's own, and the lease has run out meanwhile
            at_least_once = entry.at_least_once or entry.kind != "push"
            delivery = Delivery(courier, self._account, entry.body, at_least_once=at_least_once, entry=entry)
            if entry.stream_key is not None:
                self._account.owed_ends[entry.stream_key] = delivery
            courier.deliver(delivery)
        courier.settle(self)
        return None

    def give_up(self) -> None:
        """Leave it to a next process; see `Task.give_up`."""
        self._courier.settle(self)


def passing(error: Exception) -> bool:
    """Tell whether a failure may pass by itself, so that a repeatable request is worth another try.

    So may what the machine could not do for it: no memory, no thread, a client that was closed meanwhile.
    """
    from .errors import DeliveryError, InvalidAnswer, ServerError

    return isinstance(error, (DeliveryError, InvalidAnswer, ServerError, OSError, MemoryError, RuntimeError))


def backoff(failures: int, runtime: Runtime) -> float:
    """Return the seconds before the next attempt, half of it jitter.

    It is exponential, but what a short outage held up is not to stay wrong for long: in the first minute, about 15
    attempts, it stays at 4 seconds, and from there it grows by a tenth each time, which is a tenth of the outage.
    """
    whole = min(LONGEST_BACKOFF, 2.0 ** min(failures, 10), PROMPT_BACKOFF * 1.1 ** min(max(0, failures - 15), 30))
    return whole * runtime.uniform(0.5, 1.0)


class Courier:
    """The lanes, the crews, the accounts and what is still owed.

    Args:
        exit_timeout: returns the seconds that the interpreter's exit may wait.
        runtime: the world outside.
        leaves: the exit of the process, in which it takes part.
    """

    def __init__(
        self, exit_timeout: Callable[[], float], runtime: Runtime | None = None, leaves: Shutdown = shutdown
    ) -> None:
        self.exit_timeout, self.runtime, self._shutdown = exit_timeout, runtime or Runtime(), leaves
        self.order = itertools.count()  # of openings and failures
        self.epoch = 0
        self._fresh()
        self._retirement = Retirement(self)
        self.is_dropped = False
        self.refuses = False  # opens no more cards: its tracker is closed
        self._shutdown.add(self)

    @property
    def clock(self) -> Callable[[], float]:
        """Seconds of a clock that never goes back."""
        return self.runtime.now

    def _fresh(self) -> None:
        """Begin with nothing, as a new process or a forked child must."""
        runtime = self.runtime
        self.lane, self.samples = runtime.scheduler("courier"), runtime.scheduler("samples")
        self.update_crew = runtime.workers("updates", CREW, self.lane.report)
        self.end_crew = runtime.workers("ends", CREW, self.lane.report)
        self._dispatcher = Dispatcher(self)
        self.keeper = Keeper(runtime)
        self._signals: Signals | None = None
        self.lost = 0
        self.hurried = False
        self._deadline: float | None = None  # of the exit, once it has begun
        self._owed: dict[Task, None] = {}
        self._left: set[Parcel] = set()  # what the exit has left undelivered
        self._open: dict[Card, None] = {}
        self._accounts: dict[tuple[str, str], Account] = {}
        self._echoes: deque[Delivery] = deque(maxlen=64)
        self._waiters: list[Inbox[None]] = []
        self._lock = runtime.lock()  # short bookkeeping; reentrant for signal handlers
        self.taking_over = runtime.lock()  # a failure's push: by an outer block, or by the watchdog

    def after_fork(self) -> None:
        """Leave everything that was on its way to the parent, or to nobody."""
        self.epoch += 1
        self._fresh()

    def drop(self) -> None:
        """Let go of threads and connections as soon as nothing is open or owed any more; never blocks."""
        self.is_dropped = True
        if self.lane.runs:
            self.lane.wake(self._retirement)

    def close(self, timeout: float = CLOSE_SECONDS) -> None:
        """Stop the threads and forget what is on its way; the courier can be used again.

        Args:
            timeout: seconds to wait at most until the threads have ended; they do so by themselves later.
        """
        until = self.clock() + timeout
        for each in self._threads:  # first the lanes, which may yet start a thread of a crew that nobody would stop
            each.stop()
            each.join(max(0.0, until - self.clock()))
        self.keeper.stop()
        self.close_connections()
        self.runtime.forget_warnings()
        waiters = list(self._waiters)
        self.after_fork()
        for waiter in waiters:
            waiter.put(None)

    def let_go(self) -> None:
        """Let the threads end when they are done with what they do, and close the connections."""
        for each in self._threads:
            each.stop()
        self.keeper.stop()
        self.close_connections()

    @property
    def _threads(self) -> tuple[Lane | Crew, ...]:
        return self.samples, self.lane, self.update_crew, self.end_crew

    @property
    def lanes(self) -> tuple[Lane, Lane]:
        """The lanes, in the order in which one hands to the next."""
        return self.samples, self.lane

    # -- the user's side

    def account(self, api_key: str, base_url: str) -> Account:
        """Return what is kept for one key at one address."""
        key = api_key, base_url
        found = self._accounts.get(key)  # none is made in vain: what a signal handler raises in a `__del__` is lost
        return self._accounts.setdefault(key, Account(api_key, base_url, self.runtime)) if found is None else found

    def open(
        self,
        account: Account,
        stream_key: str,
        source: Source,
        *,
        delay: float = 0.0,
        reserve: int = 0,
        budget: Budget = DEFAULT_BUDGET,
    ) -> Card:
        """Give a handle its card; while another of the same key runs, the key gets `-2`, `-3` ..."""
        with self._lock:
            key, number = stream_key, 1
            if self.refuses:  # its tracker was closed while the block was opened
                card = Card(self, account, key, source, not_before=0.0, reserve=reserve, budget=budget)
                card.settled = True
                return card
            while (older := account.cards.get(key)) is not None and older.ending is None:
                number += 1
                key = f"{stream_key[:245]}-{number}"
            not_before = self.clock() + delay
            card = Card(self, account, key, source, not_before=not_before, reserve=reserve, budget=budget)
            card.predecessor = older
            if older is not None and older.ending is not None:
                older.successor = card
                self.lane.wake(older.ending)  # the newer run waits for it, so that it is tried again at once
            account.cards[key] = card
            self._open[card] = None
        return card

    def hand_in(self, task: Card | Ending) -> None:
        """Pass a card's state or end to its lane."""
        card = task.card if isinstance(task, Ending) else task
        if card.inherited or card.settled:
            return
        if isinstance(task, Ending):
            self._owed.setdefault(task, None)
        elif not (card.started or card.refused or card.ending or card.held):
            self._owed.setdefault(card, None)
        self._give(self.lane, task)

    def owe(self, card: Card) -> None:
        """Note that a card is to be on the screen; while its delay lasted it was not."""
        if not self.hurried:
            self._owed.setdefault(card, None)

    def push(
        self,
        account: Account,
        body: Mapping[str, Any],
        *,
        at_least_once: bool,
        failure: object = None,
    ) -> Delivery:
        """Send a push; one for a failure is held for a second, in which an outer block may take it over."""
        held = ECHO_SECONDS if failure is not None else 0.0
        delivery = Delivery(self, account, body, at_least_once=at_least_once, not_before=self.clock() + held)
        if failure is not None:
            delivery.failure = (failure, next(self.order))
            self._echoes.append(delivery)
        self.look_for_owed(account)
        return self.deliver(delivery)

    def deliver(self, delivery: Delivery) -> Delivery:
        """Have something sent that must not be lost."""
        self._owed[delivery] = None
        self._give(self.lane, delivery)
        return delivery

    def look_for_owed(self, account: Account, *, again: bool = False) -> None:
        """Have delivered what earlier processes owe an account, once unless asked again."""
        if account.looked_for_owed and not again:
            return
        account.looked_for_owed = True
        if not self.hurried:
            backlog = Backlog(self, account)
            self._owed[backlog] = None
            self._give(self.lane, backlog)

    def take_over(self, failure: object, opened: int) -> None:
        """Withdraw the push of the inner block that this exception left last, if it was opened inside this one."""
        for delivery in reversed(self._echoes.copy()):  # other threads may fail at the same time
            mark = delivery.failure
            if mark is not None and mark[0] == failure and mark[1] > opened:
                with self.taking_over:
                    delivery.failure, delivery.withdrawn = None, True
                if delivery.entry is not None:
                    self.keeper.delivered(delivery.entry)
                self.settle(delivery)
                self.lane.wake(delivery)
                return

    def sample(self, task: Task) -> None:
        """Have a sampling task looked at by the thread that all of them share."""
        self._give(self.samples, task)

    def look_after(self, task: Task) -> None:
        """Have a task of a handle's own looked at by the lane."""
        self._give(self.lane, task)

    def _give(self, lane: Lane, task: Task) -> None:
        lane.wake(task)
        self._shutdown.watch_children()
        if self._shutdown.has_left:
            if isinstance(task, Parcel) and not on_own_thread():
                self._shutdown.leave()  # nothing waits for it any more
        elif not lane.start() and not lane.too_late:
            self.tell_once("threads", "activitysmith_track cannot start its thread now; it will send at exit")

    # -- the lanes' side

    def settle(self, task: Task) -> None:
        """Note that nothing is owed for a task any more."""
        self._owed.pop(task, None)
        for waiter in list(self._waiters):
            waiter.put(None)
        if self.is_dropped:
            self.lane.wake(self._retirement)

    def release(self, card: Card) -> None:
        """Forget a card that is through, and wake those that waited for it."""
        with self._lock:
            self._open.pop(card, None)
            if card.account.cards.get(card.stream_key) is card:
                del card.account.cards[card.stream_key]
        self.lane.forget(card)
        self.wake_owed(card)
        card.predecessor = None
        if card.ending is not None:
            card.source = _OVER
        if card.account.release(card):
            self.wake_waiting(card.account)
            for ending in card.account.waiting_ends():
                self.lane.wake(ending)
        if card.successor is not None:
            self.wake_both(card.successor)

    def wake_owed(self, card: Card) -> None:
        """Look at the end that an earlier process owes, and that has waited for what became of a card."""
        owed = card.account.owed_ends.get(card.stream_key)
        if owed is not None:
            self.lane.wake(owed)

    def wake_waiting(self, account: Account) -> None:
        """Look at the cards for which there is a slot."""
        for card in account.next_ones():
            self.wake_both(card)

    def wake_both(self, card: Card) -> None:
        """Look at a card and at its end."""
        self.lane.wake(card)
        if card.ending is not None:
            self.lane.wake(card.ending)

    def ready(self, card: Card, now: float) -> None:
        """Have a card's state sent, when its turn has come."""
        self._dispatcher.add(card)
        self.send_ready(now)

    def send_ready(self, now: float) -> None:
        """Have what is ready sent, as far as it may go."""
        self.lane.schedule(self._dispatcher, now)

    def backoff(self, failures: int) -> float:
        """Return the seconds before the next attempt; see `backoff`."""
        return backoff(failures, self.runtime)

    def attempt_seconds(self) -> float:
        """Return how long one request may take: less when the interpreter is leaving.

        It is over a little before the exit goes on: what became of it is known then, and no thread wakes while the
        interpreter is taken down.
        """
        if self._deadline is None:
            return ATTEMPT_SECONDS
        return min(ATTEMPT_SECONDS, max(0.1, self._deadline - self.clock() - LANDING_SECONDS))

    def tell_once(self, kind: object, message: str, *details: object) -> None:
        """Log a warning, once for each kind."""
        self.runtime.warn_once(kind, message, *details)

    def tell_failure(self, what: str, error: Exception) -> None:
        """Log a failed delivery, once for each kind; a record that is kept keeps nothing of its frames alive."""
        kind = (what, type(error), getattr(error, "status", None))
        self.tell_once(kind, "activitysmith_track could not deliver %s (told once): %s", what, str(error))

    # -- waiting

    def flush(self, timeout: float, account: Account | None = None) -> bool:
        """Wait until nothing is owed; see `Tracker.flush`."""
        if account is not None:
            self.look_for_owed(account, again=True)
        self._wait_for_all(timeout)
        lost, self.lost = self.lost, 0
        return not self._owed and not lost

    def owed_ids(self) -> set[str]:
        """Return the ids of what this process is delivering that is kept elsewhere too."""
        parcels = [task for task in list(self._owed) if isinstance(task, Parcel)]
        return {parcel.entry.id for parcel in parcels if parcel.entry is not None}

    @property
    def owes(self) -> bool:
        """True while something is on its way that must not be lost."""
        return bool(self._owed)

    def _wait_for_all(self, timeout: float) -> None:
        until, waiters = self.clock() + timeout, self._waiters  # closing begins with others
        waiter = self.runtime.inbox()
        waiters.append(waiter)
        try:
            while self._owed and (left := until - self.clock()) > 0:
                with contextlib.suppress(Empty):
                    waiter.get(left)
        finally:
            waiters.remove(waiter)

    # -- a signal and the exit, which `_shutdown` leads

    def stop(self, words: str) -> None:
        """End all cards as stopped, here and wherever else the signal is heeded that the words name."""
        self._shutdown.stop(words, self)

    def hurry(self, seconds: float) -> None:
        """From now on holds and paces count no more, and all requests together have so many seconds."""
        self.hurried = True
        self._deadline = self.clock() + seconds

    @property
    def seconds_left(self) -> float:
        """The seconds that the exit may still wait for what is owed here, 0 or more."""
        return max(0.0, (self._deadline or 0.0) - self.clock())

    def end_open(self, words: str | None = None) -> None:
        """End all that is open as stopped; a signal is named by the words."""
        for card in list(self._open):
            if card.ending is None:
                card.source.abandon(words)

    def send_owed(self) -> None:
        """Have what must not be lost sent at once, and wait for nothing else."""
        for task in list(self._owed):
            if isinstance(task, Parcel):
                self.lane.wake(task)
            else:
                self._owed.pop(task, None)

    def drain(self, seconds: float) -> None:
        """Deliver what is owed on the calling thread, within so many seconds, where no thread can start any more."""
        self.lane.drain(self.clock() + seconds, lambda: self._owed)

    def wait(self, timeout: float) -> None:
        """Wait at most so many seconds until nothing is owed."""
        if self._owed:
            self._wait_for_all(max(0.0, timeout))

    def part(self, timeout: float, *, stays: bool = False) -> Parting:
        """Begin to have kept what could not be delivered; see `Keeper.part`."""
        parcels = [task for task in list(self._owed) if isinstance(task, Parcel)]
        new = [(parcel, entry) for parcel in parcels if parcel.entry is None and (entry := parcel.copy()) is not None]
        for parcel in parcels:
            if isinstance(parcel, Ending) and parcel.card.successor is not None:
                self.keeper.goodbye(parcel.card.number)  # a newer run has the card
        kept = [parcel.entry for parcel in parcels if parcel.entry is not None and not parcel.may_have_arrived]
        for parcel, entry in new:
            parcel._has_copy(entry)
        owed = [(parcel.account, entry) for parcel, entry in new]
        return self.keeper.part(owed, kept, timeout, stays=stays)

    def close_connections(self) -> None:
        """Close the connections; a next request opens new ones."""
        for account in list(self._accounts.values()):
            account.close()

    def count_left(self) -> int:
        """Return how many things the exit leaves undelivered that it has not counted before.

        What may have arrived, and is left to nobody since it may not come twice, is not counted.
        """
        left = {task for task in list(self._owed) if isinstance(task, Parcel) and not task.may_have_arrived}
        new, self._left = left - self._left, left
        return len(new)

    def refuse(self) -> None:
        """Open no more cards; those that are open by now are known by `end_open`."""
        with self._lock:
            self.refuses = True

    @property
    def is_idle(self) -> bool:
        """True while no card is open, and nothing is on its way that must not be lost."""
        return not self._open and not self._owed

    @property
    def signals(self) -> Signals:
        """What ends the cards when the process is told to leave."""
        if self._signals is None:
            with importing():
                from ._signals import Signals
            made = Signals(self.stop)
            with self._lock:
                self._signals = self._signals or made
        return self._signals

    @property
    def heeds_signals(self) -> bool:
        """True while a signal is to end its cards."""
        return self._signals is not None and self._signals.tracks


class Retirement:
    """The task that lets go of a courier whose tracker is gone, when nothing is open or owed any more."""

    def __init__(self, courier: Courier) -> None:
        self._courier = weakref.ref(courier)

    def run(self, now: float) -> float | None:
        """Let go, or wait for the next thing to be settled; see `Task.run`."""
        courier = self._courier()
        if courier is not None and courier.is_idle:
            courier.let_go()
        return None

    def give_up(self) -> None:
        """Leave the threads as they are; see `Task.give_up`."""


def _begin_anew() -> None:
    for courier in shutdown.couriers:
        courier.after_fork()


children.append(_begin_anew)
