"""The threads that carry states, ends and pushes to the service, so that the user's code never does.

A handle is given a `Card`: its mailbox. The card asks it for its state when something may be sent, so only the latest
state ever travels. Two lanes run side by side, one daemon thread each: updates, and what must not wait behind a
hanging update (ends and pushes). User threads only put into a `SimpleQueue`, which is reentrant and never held
during I/O, so that a signal handler may call a handle as well.
"""

from __future__ import annotations

import atexit
import heapq
import itertools
import logging
import os
import random
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from ._pacing import Pace

if TYPE_CHECKING:
    from .client import ActivitySmith, Call, StreamAnswer

logger = logging.getLogger("activitysmith_track")

ATTEMPT_SECONDS = 5.0  # one request of the courier
REQUESTS_PER_MINUTE = 60  # the account's rate
RESERVED_FOR_ENDS = 10  # of those, what updates leave to ends and pushes
SLOTS = 4  # Live Activities at once, until the service names another figure
SLOT_RETRY, RECIPIENT_RETRY = 20.0, 300.0  # seconds until a start that was turned away is tried again
RATE_RETRY = 10.0  # seconds of silence after a 429 without Retry-After
LONGEST_BACKOFF = 60.0  # seconds between two attempts at an end or a push
GRACE = 1.0  # seconds that an end waits for an update of its own card that is on its way
ECHO_SECONDS = 1.0  # seconds within which an outer block takes over the failure push of an inner one


class Snapshot(NamedTuple):
    """What a card should show now.

    Attributes:
        body: the body of a stream PUT.
        fraction: the part done, 0 to 1, or `None` where there is no such thing.
        transitions: how many transitions there were; a new one goes at once.
        detail: what else is worth an update of its own when it changes.
    """

    body: Mapping[str, Any]
    fraction: float | None = None
    transitions: int = 0
    detail: object = None


class Source(Protocol):
    """What the courier asks of a handle, on its own threads."""

    def snapshot(self) -> Snapshot | None:
        """Return the state to show, or `None` where there is nothing to show yet."""

    def rest(self) -> float | None:
        """Ask to be woken by the next change; else return the seconds after which to look again."""

    def abandon(self) -> None:
        """End as stopped: the interpreter exits."""


class Task(Protocol):
    """Something that a lane does, now or later."""

    def run(self, now: float) -> float | None:
        """Do what is due; return when to come back, or `None` to wait for a wake-up."""

    def give_up(self) -> None:
        """Owe nothing any more: something unforeseen happened in `run`."""


class Lane:
    """One daemon thread that runs tasks when they are due, started by the first of them."""

    def __init__(self, name: str, clock: Callable[[], float]) -> None:
        self._name, self._clock = name, clock
        self._inbox: SimpleQueue[Task | None] = SimpleQueue()
        self._heap: list[tuple[float, int, Task]] = []
        self._due: dict[Task, float] = {}
        self._order = itertools.count()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None
        self.too_late = False  # True once the interpreter has refused a thread because it leaves
        self.ran = 0  # tasks, so that a test can tell whether anything happens

    def wake(self, task: Task) -> None:
        """Have a task looked at; never blocks."""
        self._inbox.put(task)

    def start(self) -> bool:
        """Start the thread if it does not run yet; False where the interpreter no longer lets threads start."""
        if self._thread is not None:
            return True
        if not self._starting.acquire(blocking=False):
            return True  # another thread, or the code that a signal handler interrupted, is at it
        try:
            if self._thread is None:
                thread = threading.Thread(target=self._serve, name=f"activitysmith-{self._name}", daemon=True)
                thread.start()
                self._thread = thread
        except RuntimeError as error:
            self.too_late = "interpreter shutdown" in str(error)
            return False
        finally:
            self._starting.release()
        return True

    @property
    def runs(self) -> bool:
        """True once the lane has its thread."""
        return self._thread is not None

    @property
    def has_due(self) -> bool:
        """True while something could be run at once; asked on the lane's own thread."""
        return self._timeout() == 0.0

    def next_due(self) -> float | None:
        """Return when the lane's next task is due, as far as it knows by now."""
        return min(self._due.copy().values(), default=None)

    def stop(self) -> None:
        """Let the thread end."""
        self._inbox.put(None)

    def _serve(self) -> None:
        _loading.load()
        while self._take(self._timeout()):
            self._run_due()

    def drain(self, until: float) -> None:
        """Run what is due on the calling thread, where the lane has none."""
        _loading.load()
        while self._clock() < until and (not self._inbox.empty() or self._timeout() is not None):
            self._take(min(self._timeout() or 0.0, max(0.0, until - self._clock())))
            self._run_due()

    def _timeout(self) -> float | None:
        while self._heap and self._due.get(self._heap[0][2]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        if not self._inbox.empty():
            return 0.0
        return max(0.0, self._heap[0][0] - self._clock()) if self._heap else None

    def _take(self, timeout: float | None) -> bool:
        """Move what was woken to the heap; False when the lane is told to stop."""
        try:
            task = self._inbox.get(timeout=None if timeout is None else min(timeout, threading.TIMEOUT_MAX))
            while task is not None:
                self._schedule(task, self._clock())
                task = self._inbox.get_nowait()
        except Empty:
            return True
        return False

    def _schedule(self, task: Task, due: float) -> None:
        self._due[task] = due
        heapq.heappush(self._heap, (due, next(self._order), task))

    def _run_due(self) -> None:
        now = self._clock()
        while self._heap and self._heap[0][0] <= now:
            due, _, task = heapq.heappop(self._heap)
            if self._due.get(task) != due:
                continue
            del self._due[task]
            self.ran += 1
            try:
                again = task.run(self._clock())
            except Exception:
                logger.exception("activitysmith_track: internal error in the %s lane", self._name)
                task.give_up()
                again = None
            if again is not None:
                self._schedule(task, again)
            if not self._inbox.empty():
                return


class Account:
    """One API key at one address: its client, its minute, its slots. Used by the lanes alone."""

    def __init__(self, api_key: str, base_url: str, clock: Callable[[], float]) -> None:
        self._key, self.base_url, self._clock = api_key, base_url, clock
        self._lock = threading.Lock()  # never held during I/O
        self._client: ActivitySmith | None = None
        self._sent: deque[float] = deque()
        self._closed_until = 0.0
        self._running: set[Card] = set()
        self._waiting: list[Card] = []
        self._slots_closed_until = 0.0
        self.slots = SLOTS

    @property
    def secret(self) -> str:
        """The API key, for the scrubber."""
        return self._key

    def perform(self, call: Call[Any], seconds: float = ATTEMPT_SECONDS) -> Any:
        """Send one request, in one attempt of at most so many seconds."""
        from .client import ActivitySmith

        with self._lock:
            self._sent.append(self._clock())
        if seconds < ATTEMPT_SECONDS:
            with ActivitySmith(self._key, base_url=self.base_url, timeout=seconds, max_attempts=1) as client:
                return client.perform(call)
        with _loading.lock:
            if self._client is None:
                self._client = ActivitySmith(self._key, base_url=self.base_url, timeout=seconds, max_attempts=1)
        return self._client.perform(call)

    def close(self) -> None:
        """Close the connections; a next request opens new ones."""
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def __del__(self) -> None:
        self.close()

    def open_at(self, now: float, *, urgent: bool) -> float:
        """Return when the account's rate lets the next request through."""
        with self._lock:
            while self._sent and self._sent[0] <= now - 60.0:
                self._sent.popleft()
            most = REQUESTS_PER_MINUTE if urgent else REQUESTS_PER_MINUTE - RESERVED_FOR_ENDS
            full = self._sent[len(self._sent) - most] + 60.0 if len(self._sent) >= most else now
            return max(full, self._closed_until)

    def rate_limited(self, now: float, seconds: float | None) -> float:
        """Note a 429 and return when to try again."""
        with self._lock:
            self._closed_until = max(self._closed_until, now + (RATE_RETRY if seconds is None else seconds))
            return self._closed_until

    def slot(self, card: Card, now: float) -> float | None:
        """Take a slot; returns `None` when it was given, or when to ask again. First come, first served."""
        with self._lock:
            if card in self._running:
                return None
            if card not in self._waiting:
                self._waiting.append(card)
            free = self.slots - len(self._running)
            if now >= self._slots_closed_until and card in self._waiting[: max(0, free)]:
                self._waiting.remove(card)
                self._running.add(card)
                return None
            return max(self._slots_closed_until, now + SLOT_RETRY)

    def slots_full(self, card: Card, now: float, limit: int | None) -> float:
        """Note that the service refused a start; returns when to ask again."""
        with self._lock:
            self._running.discard(card)
            self._waiting.insert(0, card)
            if limit is not None:
                self.slots = max(1, limit)
            self._slots_closed_until = now + SLOT_RETRY
            return self._slots_closed_until

    def release(self, card: Card) -> list[Card]:
        """Give a slot back; returns the cards that wait for one."""
        with self._lock:
            if card in self._waiting:
                self._waiting.remove(card)
            if card not in self._running:
                return []
            self._running.discard(card)
            self._slots_closed_until = 0.0
            return list(self._waiting)


class Card:
    """One activity's mailbox: the task of the update lane that sends its latest state."""

    def __init__(
        self, courier: Courier, account: Account, stream_key: str, source: Source, *, not_before: float, reserve: int
    ) -> None:
        self.courier, self.account, self.stream_key, self.source = courier, account, stream_key, source
        self.pace = Pace(reserve)
        self.not_before = not_before  # the card is held back until then
        self.started = self.flying = self.refused = False
        self.sent: Snapshot | None = None
        self.ending: Ending | None = None
        self.predecessor: Card | None = None
        self.successor: Card | None = None
        self.settled = self._woken = False
        self._failures = 0
        self._epoch = courier.epoch

    @property
    def inherited(self) -> bool:
        """True in a forked child, for a card that is its parent's."""
        return self._epoch != self.courier.epoch

    # -- the user's side: never blocks

    def wake(self) -> None:
        """Have the state looked at; until that has happened, once is enough."""
        if not self._woken:
            self._woken = True
            self.courier.hand_in(self)

    def end(self, final: Final) -> None:
        """Hand in the last state; states after it are no longer sent."""
        self.ending = Ending(self, final)
        self.courier.hand_in(self.ending)

    # -- the update lane's side

    def run(self, now: float) -> float | None:
        """Send the latest state if pacing, slots and rate allow; see `Task.run`."""
        self._woken = False  # before the state is read: a change after that wakes again
        if self.ending is not None or self.settled or self.refused:
            return None
        if now < self.not_before:
            return self.not_before
        if self.predecessor is not None and not self.predecessor.settled:
            return None  # woken when the older run's end is through
        snapshot = self.source.snapshot()
        if snapshot is None:
            return self._rest(now)
        due = self._start_at(now) if not self.started else self._update_at(now, snapshot)
        if due is None:
            return self._rest(now)
        return due if due > now else self._send(snapshot)

    def give_up(self) -> None:
        """Send no more states; see `Task.give_up`."""
        self.refused = True
        self.courier.settle(self)

    def _rest(self, now: float) -> float | None:
        wait = self.source.rest()
        return None if wait is None else now + wait

    def _start_at(self, now: float) -> float:
        waits = self.account.slot(self, now)
        return waits if waits is not None else self.account.open_at(now, urgent=False)

    def _update_at(self, now: float, snapshot: Snapshot) -> float | None:
        sent = self.sent
        if sent is None:
            return None
        moved = snapshot.fraction is not None and snapshot.fraction != sent.fraction
        if snapshot.body == sent.body:  # it moved by less than can be seen, and the looks at it stay few
            return max(self._progress_at(now, snapshot), self.pace.look_at(now)) if moved else None
        if snapshot.transitions != sent.transitions:
            due = self.pace.transition_at()
        elif snapshot.detail != sent.detail:
            due = self.pace.detail_at()
        elif moved:
            due = self._progress_at(now, snapshot)
        else:
            return None  # what else has changed rides with the next update
        return max(due, self.account.open_at(now, urgent=False))

    def _progress_at(self, now: float, snapshot: Snapshot) -> float:
        """Return when a percentage goes or is looked at again; where it rests, its next change wakes the card."""
        fraction = snapshot.fraction or 0.0
        due = self.pace.progress_at(now, fraction)
        if due <= now or not self.pace.wakes:
            return due
        wait = self.source.rest()
        latest = self.source.snapshot()  # a change before `rest` has woken nobody
        if latest is None or latest.fraction != snapshot.fraction:
            return self.pace.look_at(now)
        return due if wait is None else min(due, now + wait)

    def _send(self, snapshot: Snapshot) -> float | None:
        """Send a state; its answer decides when the card is looked at again."""
        self.flying = True
        try:
            if self.ending is not None:
                return None
            return self._answered(self._put(snapshot.body), snapshot)
        except Exception as error:
            return self._failed(error, snapshot)
        finally:
            self.flying = False
            if self.ending is not None:
                self.courier.hand_in(self.ending)

    def _put(self, body: Mapping[str, Any]) -> StreamAnswer:
        from .client import stream_call

        if self.started:
            body = _without_opening(body)
        answer: StreamAnswer = self.account.perform(stream_call(self.stream_key, None, body))
        return answer

    def _answered(self, answer: StreamAnswer, snapshot: Snapshot) -> float:
        now = self.courier.clock()
        self._failures = 0
        if answer.operation in ("started", "rotated") or not self.started:
            self.pace.start(now, snapshot.fraction, fresh=answer.operation in ("started", "rotated"))
        elif answer.operation != "noop":
            changed = self.sent is not None and snapshot.transitions != self.sent.transitions
            self.pace.sent(now, snapshot.fraction, transition=changed)
        if answer.warning:
            self.pace.warned(now)
            self.courier.tell_once(
                "warning", "ActivitySmith warns about updates of %s: %s", self.stream_key, answer.warning
            )
        if answer.operation == "paused":
            self.courier.tell_once(
                "paused", "the stream %s is paused in ActivitySmith: its card is not shown", self.stream_key
            )
        self.started = True
        self.sent = snapshot
        self.courier.settle(self)
        return now

    def _failed(self, error: Exception, snapshot: Snapshot) -> float | None:
        from .errors import ActivityLimitReached, DeliveryError, NoRecipients, TooManyRequests

        now = self.courier.clock()
        self._failures += 1
        self.courier.tell_failure("an update", error)
        if isinstance(error, DeliveryError) and error.delivered is None and self.started:
            self.pace.sent(now, snapshot.fraction)  # it may have arrived, and then it counts
        if isinstance(error, ActivityLimitReached):
            return self.account.slots_full(self, now, error.limit)
        if isinstance(error, TooManyRequests):
            return self.account.rate_limited(now, error.retry_after)
        if isinstance(error, NoRecipients):
            self.account.release(self)
            return now + RECIPIENT_RETRY
        if passing(error):
            return now + backoff(self._failures)
        if not self.started:
            self.refused = True
            self.courier.release(self)
        self.sent = snapshot if self.started else None
        self.courier.settle(self)
        return None


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


class Ending:
    """The end of a card: a task of the lane that updates cannot hold up."""

    def __init__(self, card: Card, final: Final) -> None:
        self.card, self.final = card, final
        self._grace = card.courier.clock() + GRACE
        self._failures = 0
        self._overtook = False

    def replace(self, final: Final) -> None:
        """Put another end in the place of one that is still held back."""
        self.final = final
        self.card.courier.hand_in(self)

    def run(self, now: float) -> float | None:
        """Send the end as soon as it may go; see `Task.run`."""
        card, courier = self.card, self.card.courier
        if card.settled:
            courier.settle(self)
            return None
        hurried = courier.hurried
        if now < self.final.not_before and not hurried:
            return self.final.not_before
        if card.predecessor is not None and not card.predecessor.settled:
            return None
        if card.flying and now < self._grace:
            return self._grace
        if not card.started and not card.flying and not self._worth_showing(now):
            return self._done()
        open_at = card.account.open_at(now, urgent=True)
        return open_at if open_at > now and not hurried else self._send()

    def give_up(self) -> None:
        """Leave the end undelivered; see `Task.give_up`."""
        self.card.courier.lost += 1
        self._done()

    def _worth_showing(self, now: float) -> bool:
        wanted = self.final.show and self.final.opening is not None and self.card.successor is None
        return wanted and not self.card.refused and self.card.account.slot(self.card, now) is None

    def _send(self) -> float | None:
        card = self.card
        self._overtook = card.flying
        try:
            if not card.started and not card.flying:
                self._perform(self.final.opening or {}, put=True)
                card.started = True
                if self.final.keep:
                    return self._done()
            self._perform(self.final.body, put=self.final.keep)
        except Exception as error:
            return self._failed(error)
        return self._done()

    def _perform(self, body: Mapping[str, Any], *, put: bool) -> None:
        from .client import end_stream_call, stream_call

        card = self.card
        if put and card.started:
            body = _without_opening(body)
        build = stream_call if put else end_stream_call
        card.account.perform(build(card.stream_key, None, body), self._seconds())

    def _seconds(self) -> float:
        return self.card.courier.attempt_seconds()

    def _failed(self, error: Exception) -> float | None:
        from .errors import ActivityLimitReached, NotFound, TooManyRequests

        card, now = self.card, self.card.courier.clock()
        self._failures += 1
        if isinstance(error, ActivityLimitReached):
            return self._done()  # no room for a card that has already ended
        if isinstance(error, NotFound):
            return self._done()  # nothing is on the screen
        card.courier.tell_failure("an end", error)
        if isinstance(error, TooManyRequests):
            return card.account.rate_limited(now, error.retry_after)
        if passing(error) and card.successor is None:
            return now + backoff(self._failures)
        card.courier.lost += card.successor is None
        return self._done()

    def _done(self) -> float | None:
        """Owe nothing any more; but an end that overtook an update is sent again once that has landed.

        The update may be carried out after the end, and would wake the card.
        """
        card = self.card
        card.courier.settle(self)
        card.courier.settle(card)
        if self._overtook:
            self._overtook = False
            return None if card.flying else card.courier.clock()
        card.settled = True
        card.courier.release(card)
        return None


class Delivery:
    """A push on its way: a task of the lane that updates cannot hold up."""

    def __init__(
        self, courier: Courier, account: Account, body: Mapping[str, Any], *, at_least_once: bool, not_before: float
    ) -> None:
        self.courier, self.account, self.body = courier, account, body
        self.at_least_once, self.not_before = at_least_once, not_before
        self.withdrawn = False
        self.failure: tuple[object, int] | None = None  # the exception's marks, and when the block failed
        self._failures = 0

    def run(self, now: float) -> float | None:
        """Send the push as soon as it may go; see `Task.run`."""
        if self.withdrawn:
            return self._done()
        if now < self.not_before and not self.courier.hurried:
            return self.not_before
        open_at = self.account.open_at(now, urgent=True)
        return open_at if open_at > now and not self.courier.hurried else self._send()

    def give_up(self) -> None:
        """Leave the push undelivered; see `Task.give_up`."""
        self.courier.lost += 1
        self._done()

    def _send(self) -> float | None:
        from .client import send_call

        self.failure = None  # from here on nobody takes it over
        call = send_call(None, self.body, at_least_once=self.at_least_once)
        try:
            self.account.perform(call, self.courier.attempt_seconds())
        except Exception as error:
            return self._failed(error, call)
        return self._done()

    def _failed(self, error: Exception, call: Call[Any]) -> float | None:
        from .client import worth_another_try
        from .errors import TooManyRequests

        now = self.courier.clock()
        self._failures += 1
        self.courier.tell_failure("a push", error)
        if isinstance(error, TooManyRequests):
            return self.account.rate_limited(now, error.retry_after)
        if worth_another_try(call, error) or (self.at_least_once and passing(error)):
            return now + backoff(self._failures)
        self.courier.lost += 1
        return self._done()

    def _done(self) -> float | None:
        self.courier.settle(self)
        return None


def passing(error: Exception) -> bool:
    """Tell whether a failure may pass by itself, so that a repeatable request is worth another try."""
    from .errors import DeliveryError, InvalidAnswer, ServerError

    return isinstance(error, (DeliveryError, InvalidAnswer, ServerError))


def backoff(failures: int) -> float:
    """Return the seconds before the next attempt: exponential, half of it jitter."""
    whole = min(LONGEST_BACKOFF, 2.0 ** min(failures, 10))
    return whole * random.uniform(0.5, 1.0)


class Courier:
    """The lanes, the accounts and what is still owed.

    Args:
        exit_timeout: returns the seconds that the interpreter's exit may wait.
        clock: seconds, monotonic.
    """

    def __init__(self, exit_timeout: Callable[[], float], clock: Callable[[], float] = time.monotonic) -> None:
        self.exit_timeout, self.clock = exit_timeout, clock
        self.order = itertools.count()  # of openings and failures
        self.epoch = 0
        self._told: set[object] = set()
        self._fresh()
        _couriers.add(self)
        atexit.register(_leave, weakref.ref(self))

    def _fresh(self) -> None:
        """Begin with nothing, as a new process or a forked child must."""
        self.updates, self.ends, self.samples = (Lane(name, self.clock) for name in ("updates", "ends", "samples"))
        self.lost = 0
        self.hurried = False
        self._deadline: float | None = None
        self._owed: dict[Task, None] = {}
        self._open: dict[Card, None] = {}
        self._keys: dict[tuple[Account, str], Card] = {}
        self._accounts: dict[tuple[str, str], Account] = {}
        self._echoes: deque[Delivery] = deque(maxlen=64)
        self._waiters: list[SimpleQueue[None]] = []
        self._lock = threading.RLock()  # short bookkeeping; reentrant for signal handlers
        self._registered = False

    def after_fork(self) -> None:
        """Leave everything that was on its way to the parent, or to nobody."""
        self.epoch += 1
        self._fresh()

    def close(self) -> None:
        """Stop the lanes and forget what is on its way; the courier can be used again."""
        for lane in self.lanes:
            lane.stop()
        for account in self._accounts.values():
            account.close()
        self._told.clear()
        self.after_fork()

    @property
    def lanes(self) -> tuple[Lane, Lane, Lane]:
        """The three lanes, in the order in which one hands to the next."""
        return self.samples, self.updates, self.ends

    # -- the user's side

    def account(self, api_key: str, base_url: str) -> Account:
        """Return what is kept for one key at one address."""
        made = Account(api_key, base_url, self.clock)
        return self._accounts.setdefault((api_key, base_url), made)

    def open(
        self,
        account: Account,
        stream_key: str,
        source: Source,
        *,
        delay: float = 0.0,
        reserve: int = 0,
        number: int = 1,
    ) -> Card:
        """Give a handle its card; while another of the same key runs, the key gets `-2`, `-3` ..."""
        with self._lock:
            key = stream_key if number == 1 else f"{stream_key[:250]}-{number}"
            older = self._keys.get((account, key))
            if older is not None and older.ending is None:
                return self.open(account, stream_key, source, delay=delay, reserve=reserve, number=number + 1)
            card = Card(self, account, key, source, not_before=self.clock() + delay, reserve=reserve)
            card.predecessor = older
            if older is not None:
                older.successor = card
            self._keys[account, key] = card
            self._open[card] = None
        return card

    def hand_in(self, task: Card | Ending) -> None:
        """Pass a card's state or end to its lane."""
        card = task.card if isinstance(task, Ending) else task
        if card.inherited or card.settled:
            return
        if isinstance(task, Ending):
            self._owed.setdefault(task, None)
            self._give(self.ends, task)
        else:
            if not (card.started or card.refused or card.ending or self.clock() < card.not_before):
                self._owed.setdefault(card, None)
            self._give(self.updates, task)

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
        self._owed[delivery] = None
        self._give(self.ends, delivery)
        return delivery

    def take_over(self, failure: object, opened: int) -> None:
        """Withdraw the push of the inner block that this exception left last, if it was opened inside this one."""
        for delivery in reversed(self._echoes):
            mark = delivery.failure
            if mark is not None and mark[0] == failure and mark[1] > opened:
                delivery.failure = None
                delivery.withdrawn = True
                self.ends.wake(delivery)
                return

    def sample(self, task: Task) -> None:
        """Have a sampling task looked at by the thread that all of them share."""
        self._give(self.samples, task)

    def _give(self, lane: Lane, task: Task) -> None:
        lane.wake(task)
        self._watch_children()
        if self._deadline is None and lane.start() and (lane is self.samples or self.ends.start()):
            return
        if self._deadline is None and not (lane.too_late or self.ends.too_late):
            self.tell_once("threads", "activitysmith_track cannot start its thread now; it will send at exit")
        elif lane is self.ends:
            self._send_at_exit()

    def _send_at_exit(self) -> None:
        """Deliver what comes when the interpreter is leaving already, where no thread can start any more."""
        self._hurry()
        if not self.ends.runs:
            self.ends.drain(self._deadline or 0.0)

    def _hurry(self) -> None:
        """From now on holds and paces count no more, and all requests together have `exit_timeout`."""
        if self._deadline is None:
            self._deadline = self.clock() + self.exit_timeout()
            self.hurried = True

    def _watch_children(self) -> None:
        """See to it that a child of multiprocessing, which leaves without atexit, delivers what is owed."""
        if self._registered:
            return
        self._registered = True
        util = sys.modules.get("multiprocessing.util")
        process = sys.modules.get("multiprocessing.process")
        if util is not None and process is not None and process.parent_process() is not None:
            util.Finalize(None, self.at_exit, exitpriority=0)

    # -- the lanes' side

    def settle(self, task: Task) -> None:
        """Note that nothing is owed for a task any more."""
        self._owed.pop(task, None)
        for waiter in list(self._waiters):
            waiter.put(None)

    def release(self, card: Card) -> None:
        """Forget a card that is through, and wake those that waited for it."""
        with self._lock:
            self._open.pop(card, None)
            if self._keys.get((card.account, card.stream_key)) is card:
                del self._keys[card.account, card.stream_key]
        card.predecessor = None
        freed = card.account.release(card)
        if card.successor is not None:
            freed.append(card.successor)
        for waiting in freed:
            self.updates.wake(waiting)
            if waiting.ending is not None:
                self.ends.wake(waiting.ending)

    def attempt_seconds(self) -> float:
        """Return how long one request may take: less when the interpreter is leaving."""
        if self._deadline is None:
            return ATTEMPT_SECONDS
        return min(ATTEMPT_SECONDS, max(0.1, self._deadline - self.clock()))

    def tell_once(self, kind: object, message: str, *details: object) -> None:
        """Log a warning, once for each kind."""
        if kind not in self._told:
            self._told.add(kind)
            logger.warning(message, *details)

    def tell_failure(self, what: str, error: Exception) -> None:
        """Log a failed delivery, once for each kind."""
        kind = (what, type(error), getattr(error, "status", None))
        self.tell_once(kind, "activitysmith_track could not deliver %s (told once): %s", what, error)

    # -- waiting

    def flush(self, timeout: float) -> bool:
        """Wait until nothing is owed; see `Tracker.flush`."""
        self._wait_for_all(timeout)
        lost, self.lost = self.lost, 0
        return not self._owed and not lost

    @property
    def owes(self) -> bool:
        """True while something is on its way that must not be lost."""
        return bool(self._owed)

    def _wait_for_all(self, timeout: float) -> None:
        until = time.monotonic() + timeout
        waiter: SimpleQueue[None] = SimpleQueue()
        self._waiters.append(waiter)
        try:
            while self._owed and (left := until - time.monotonic()) > 0:
                self._wait(waiter, left)
        finally:
            self._waiters.remove(waiter)

    @staticmethod
    def _wait(waiter: SimpleQueue[None], seconds: float) -> None:
        try:
            waiter.get(timeout=min(seconds, threading.TIMEOUT_MAX))
        except Empty:
            return

    def at_exit(self) -> None:
        """Deliver what is owed, within `exit_timeout` in all, when the interpreter leaves."""
        self._hurry()
        until = self._deadline or 0.0
        for card in list(self._open):
            if card.ending is None:
                card.source.abandon()
        for task in list(self._owed):
            if isinstance(task, Card):
                self._owed.pop(task, None)
            else:
                self.ends.wake(task)
        if self._owed and not self.ends.runs:
            self.ends.drain(until)
        if self._owed and not self.flush(max(0.0, until - self.clock())):
            count = len(self._owed)
            logger.warning("activitysmith_track: %d ends and pushes were not delivered before the exit", count)
        elif not self._open:
            for account in self._accounts.values():
                account.close()


def _leave(reference: weakref.ref[Courier]) -> None:
    courier = reference()
    if courier is not None:
        courier.at_exit()


class _Loading:
    """Keeps a fork from happening while a lane imports httpx.

    A child would inherit modules that are imported by half, with nobody left to finish them, and so would the user's
    own imports there. The wait is for a fraction of a second, once in a process.
    """

    FORK_SECONDS = 5.0  # a fork waits no longer than this

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._held = False

    def load(self) -> None:
        """Import what sending needs."""
        with self.lock:
            import encodings.idna  # noqa: F401  # else imported by the first connection

            from . import client  # noqa: F401

    def before_fork(self) -> None:
        """Wait until nothing is being imported."""
        self._held = self.lock.acquire(timeout=self.FORK_SECONDS)

    def after_in_parent(self) -> None:
        """Let the lanes go on."""
        if self._held:
            self.lock.release()

    def after_in_child(self) -> None:
        """Begin with nothing."""
        self.lock = threading.Lock()
        for courier in list(_couriers):
            courier.after_fork()


_loading = _Loading()
_couriers: weakref.WeakSet[Courier] = weakref.WeakSet()

if hasattr(os, "register_at_fork"):  # pragma: no branch  # Windows has no fork
    os.register_at_fork(
        before=_loading.before_fork,
        after_in_parent=_loading.after_in_parent,
        after_in_child=_loading.after_in_child,
    )
