"""One API key at one address: what the service lets through, the slots, and the connections."""

from __future__ import annotations

import itertools
from collections import deque
from enum import Enum
from typing import TYPE_CHECKING, Any

from .._endpoint import AccountKey
from ..client import retry
from ..errors import TooManyRequests
from .unanswered import Unanswered

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Protocol

    from ..client.requests import Request
    from .run import Run
    from .runtime import Runtime
    from .scheduler import Task

    class Recovered(Task, Protocol):
        """The delivery of an end that an earlier process owed."""

        @property
        def is_in_flight(self) -> bool:
            """True while an attempt is in flight, so that nobody can tell whether it has arrived."""

    class Recovery(Task, Protocol):
        """What takes over what earlier processes owe.

        Attributes:
            looked_at: when it last looked, on the runtime's clock.
        """

        looked_at: float

        def ask(self) -> None:
            """Have it look, or look once more if it is looking now; the caller wakes it."""


REQUESTS_PER_MINUTE = 60  # the account's rate
SLOTS = 4  # Live Activities at once, until the service names another figure
SLOT_RETRY = 20.0  # seconds until a start that was refused for want of a slot is tried again
OUTAGE_AFTER = 3  # failures in a row after which one request at a time asks whether the service is back
DEBTS_AT_ONCE = 2  # deliveries for earlier processes that may be in flight at the same time


class Urgency(Enum):
    """How many of an account's requests a minute one kind of request leaves free for more urgent ones."""

    DEBT = 40  # what an earlier process owes: it never delays a request of this process
    UPDATE = 10
    START = 5  # of a card that is to appear, or that may no longer show what was last sent
    END = 0  # of a card, or a push


class Account:
    """One API key at one address.

    The scheduler's thread alone changes what it knows; workers call `perform` and `known_unanswered`, and any thread
    may call `close`.

    Args:
        api_key: the key.
        base_url: the service's address.
        runtime: the world outside.

    Attributes:
        key: tells it from other accounts.
    """

    def __init__(self, api_key: str, base_url: str, runtime: Runtime) -> None:
        self.key, self._runtime = AccountKey(api_key, base_url), runtime
        self._transport = runtime.transport(api_key, base_url, runtime.attempt_seconds)
        self._sent: deque[float] = deque()
        self._closed_until = 0.0
        self._failures = 0  # in a row
        self._limited = 0  # 429s in a row
        self._probe_at = 0.0  # when the next request may ask whether the service is back
        self._running: dict[Run, None] = {}
        self._waiting: dict[Run, None] = {}
        self._slots_closed_until = 0.0
        self._is_full = False  # the service has refused a slot: one activity asks again for all that wait
        self._asks: Run | None = None  # the activity that asks
        self._debts: dict[Task, None] = {}  # of earlier processes, with requests that may be in flight
        self._debts_waiting: dict[Task, None] = {}
        self.slots = SLOTS
        self.activities: dict[str, Run] = {}  # the newest by their stream keys
        self.recovered: dict[str, Recovered] = {}  # ends of earlier processes, by their stream keys
        self.recovery: Recovery | None = None
        self.only_debts = False  # this process only delivers what others owe
        self._unanswered: dict[str, Unanswered] = {}  # by their stream keys

    @property
    def secret(self) -> str:
        """The API key, for the scrubber."""
        return self.key.api_key

    def perform(self, requests: Iterable[Request[Any]], seconds: float | None = None) -> Any:
        """Send requests one after the other, each in one attempt; on a worker's thread.

        Args:
            requests: what to send.
            seconds: what each may take at most; by default the runtime's `attempt_seconds`.

        Returns:
            The answer to the last one.
        """
        return [self._transport.perform(request, seconds) for request in requests][-1]

    def close(self) -> None:
        """Close the connections; a next request opens new ones."""
        self._transport.close()

    def __del__(self) -> None:
        self.close()

    # -- when a request may go: the rate, the wait after a 429, an outage

    def note_request(self, now: float, requests: int = 1) -> None:
        """Count requests that are sent now."""
        self._sent.extend([now] * requests)
        if self._is_out:
            self._probe_at = now + self._runtime.backoff(self._failures)

    def forget_requests(self, requests: int) -> None:
        """Take back the requests counted last: they were not sent, so none has probed whether the service is back."""
        for _ in range(min(requests, len(self._sent))):
            self._sent.pop()
        self._probe_at = 0.0

    def open_at(self, now: float, urgency: Urgency, requests: int = 1) -> float:
        """Return from when on so many requests of this urgency may be sent."""
        while self._sent and self._sent[0] <= now - 60.0:
            self._sent.popleft()
        above = len(self._sent) + requests - (REQUESTS_PER_MINUTE - urgency.value)
        opens = self._sent[min(above, len(self._sent)) - 1] + 60.0 if above > 0 and self._sent else now
        if self._is_out:
            opens = max(opens, self._probe_at)
        return max(opens, self._closed_until)

    @property
    def _is_out(self) -> bool:
        """True while the service seems out of reach: then one request at a time probes it on behalf of all."""
        return self._failures >= OUTAGE_AFTER

    def answered(self) -> bool:
        """Note that the service has answered; returns whether it had been out of reach."""
        was_out, self._failures, self._limited = self._is_out, 0, 0
        return was_out

    def failed(self, error: Exception, now: float) -> bool:
        """Note a request that failed; returns whether it ends an outage, since a refusal is an answer."""
        if retry.was_answered(error):
            limited, ends_outage = self._limited, self.answered()
            self._limited = limited if isinstance(error, TooManyRequests) else 0
            return ends_outage
        if retry.is_transient(error):
            self._failures += 1
            if self._failures == OUTAGE_AFTER:
                self._probe_at = now + self._runtime.backoff(1)
        return False

    def rate_limited(self, now: float, error: TooManyRequests) -> float:
        """Note a 429 and return when to try again."""
        if now >= self._closed_until:  # else it was sent before the last one was answered
            self._limited += 1
        waits = self._runtime.backoff(self._limited) if self._limited > 1 else 0.0
        self._closed_until = max(self._closed_until, now + max(retry.silence(error), waits))
        return self._closed_until

    def known_unanswered(self, stream_key: str) -> Unanswered:
        """Return the unanswered requests of a stream, to be read only; a worker may call this."""
        return self._unanswered.get(stream_key) or Unanswered()

    def unanswered(self, stream_key: str, now: float) -> Unanswered:
        """Return the unanswered requests of a stream; a new record drops those of streams that need none any more."""
        found = self._unanswered.get(stream_key)
        if found is None:
            for key, each in list(self._unanswered.items()):
                if key not in self.activities and each.is_over(now):
                    self._unanswered.pop(key, None)
            found = self._unanswered[stream_key] = Unanswered()
        return found

    # -- what earlier processes owe is sent a little at a time

    def take_debt(self, delivery: Task) -> bool:
        """Return whether a delivery of an earlier process may go now; otherwise it is woken later to ask again."""
        if delivery not in self._debts:
            if len(self._debts) >= DEBTS_AT_ONCE and not self.only_debts:
                self._debts_waiting[delivery] = None
                return False
            self._debts[delivery] = None
        return True

    def give_debt_back(self, delivery: Task) -> list[Task]:
        """Note that a delivery has no request in flight any more; returns the deliveries to wake for its turn.

        All that wait are woken, since the first of them may have something else to wait for now.
        """
        if delivery not in self._debts:
            return []
        del self._debts[delivery]
        waiting, self._debts_waiting = list(self._debts_waiting), {}
        return waiting

    # -- its slots: first come, first served

    def take_slot(self, activity: Run, now: float) -> bool:
        """Take a slot; returns False while it is not the activity's turn, which wakes it when it comes."""
        if activity in self._running:
            return True
        self._waiting.setdefault(activity)
        if now < self._slots_closed_until or activity not in self.next_ones():
            return False
        del self._waiting[activity]
        self._running[activity] = None
        self._asks = activity if self._is_full else None
        return True

    def next_ones(self) -> list[Run]:
        """Return the waiting activities for which there is a slot, even if the service may not be asked yet."""
        free = max(0, self.slots - len(self._running))
        if self._is_full:
            free = min(free, 0 if self._asks is not None else 1)
        return list(itertools.islice(self._waiting, free))

    def has_slot(self, activity: Run) -> None:
        """Note that an activity is on the screen: if it was the one that asked for a slot, others may ask again."""
        if activity is self._asks:
            self._asks, self._is_full = None, False

    def slots_open_at(self, now: float) -> float | None:
        """Return when the service may be asked for a slot again after a refusal; `None` if it may be now."""
        return self._slots_closed_until if now < self._slots_closed_until else None

    def waiting_ends(self) -> list[Task]:
        """Return the ends of activities whose block is over while they still wait for a slot."""
        return [activity.end_delivery for activity in self._waiting if activity.end_delivery is not None]

    @property
    def frees_slots(self) -> bool:
        """True while an activity that has a slot is about to give it back."""
        return any(activity.end_delivery is not None for activity in self._running)

    def slots_full(self, activity: Run, now: float, limit: int | None) -> float:
        """Note that the service refused a start for want of a slot; returns when to ask again."""
        self._running.pop(activity, None)
        self._asks, self._is_full = None, True
        self._waiting = {activity: None, **self._waiting}
        if limit is not None:
            self.slots = max(1, limit)
        self._slots_closed_until = now + SLOT_RETRY
        return self._slots_closed_until

    def release(self, activity: Run) -> bool:
        """Give back a slot, or the place in the queue for one; returns whether another may have its turn now."""
        if activity is self._asks:
            self._asks = None
        if activity in self._waiting:
            del self._waiting[activity]
            return True
        if activity not in self._running:
            return False
        del self._running[activity]
        self._slots_closed_until = 0.0
        return True
