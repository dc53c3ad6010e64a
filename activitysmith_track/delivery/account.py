"""One API key at one address: what the service lets through, the slots, and the connections."""

from __future__ import annotations

import itertools
from collections import deque
from enum import Enum
from typing import TYPE_CHECKING, Any

from .._endpoint import AccountKey
from ..client import retry
from .unanswered import Unanswered

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..client.requests import Request
    from ..errors import TooManyRequests
    from .activity import Activity
    from .end_delivery import EndDelivery
    from .recovery import OutboxRecovery, RecoveredDelivery
    from .runtime import Runtime

REQUESTS_PER_MINUTE = 60  # the account's rate
SLOTS = 4  # Live Activities at once, until the service names another figure
SLOT_RETRY = 20.0  # seconds until a start that was refused for want of a slot is tried again
RATE_RETRY = 10.0  # seconds of silence after a 429 without Retry-After
LONGEST_FOREIGN = 60.0  # seconds of silence after a 429 that is not the service's own
OUTAGE_AFTER = 3  # failures in a row after which one request at a time asks whether the service is back
DEBTS_AT_ONCE = 2  # requests for earlier processes that may be on their way at the same time


class Urgency(Enum):
    """How many of the account's requests a minute something leaves to what is more urgent."""

    DEBT = 40  # what an earlier process owes: it never delays what this one has to say
    UPDATE = 10
    START = 5  # of a card that is to appear, or that may show something else by now
    END = 0  # and pushes


class Account:
    """One API key at one address. Beside `perform` and `close` used by the scheduler alone.

    Args:
        api_key: the key.
        base_url: the service's address.
        runtime: the world outside.

    Attributes:
        key: what tells it from others.
    """

    def __init__(self, api_key: str, base_url: str, runtime: Runtime) -> None:
        self.key, self._runtime = AccountKey(api_key, base_url), runtime
        self._transport = runtime.transport(api_key, base_url, runtime.attempt_seconds)
        self._sent: deque[float] = deque()
        self._closed_until = 0.0
        self._failures = 0  # in a row
        self._probe_at = 0.0  # when the next request may ask whether the service is back
        self._running: dict[Activity, None] = {}
        self._waiting: dict[Activity, None] = {}
        self._slots_closed_until = 0.0
        self._is_full = False  # as far as is known, so that one asks for all that wait
        self._asks: Activity | None = None  # which one that is
        self._debts: dict[RecoveredDelivery, None] = {}  # of earlier processes, that may be on their way
        self._debts_waiting: dict[RecoveredDelivery, None] = {}
        self.slots = SLOTS
        self.activities: dict[str, Activity] = {}  # the newest by their stream keys
        self.recovered: dict[str, RecoveredDelivery] = {}  # ends of earlier processes, by their stream keys
        self.recovery: OutboxRecovery | None = None
        self.only_debts = False  # this process is there for what others owe, and has nothing to say itself
        self._unanswered: dict[str, Unanswered] = {}  # by their stream keys

    @property
    def secret(self) -> str:
        """The API key, for the scrubber."""
        return self.key.api_key

    def perform(self, requests: Iterable[Request[Any]], seconds: float | None = None) -> Any:
        """Send requests one after the other, each in one attempt; on a worker's thread.

        Args:
            requests: what to send.
            seconds: what each may take at most; by default what the runtime says.

        Returns:
            The answer to the last one.
        """
        return [self._transport.perform(request, seconds) for request in requests][-1]

    def close(self) -> None:
        """Close the connections; a next request opens new ones."""
        self._transport.close()

    def __del__(self) -> None:
        self.close()

    # -- what may go: the rate, a silence that was asked for, an outage

    def note_request(self, now: float, requests: int = 1) -> None:
        """Count requests that are sent now."""
        self._sent.extend([now] * requests)
        if self._is_out:
            self._probe_at = now + self._runtime.backoff(self._failures)

    def forget_requests(self, requests: int) -> None:
        """Take back what was counted last: it was not sent, and asked nobody whether the service is back."""
        for _ in range(min(requests, len(self._sent))):
            self._sent.pop()
        self._probe_at = 0.0

    def open_at(self, now: float, urgency: Urgency, requests: int = 1) -> float:
        """Return when so many requests may go."""
        while self._sent and self._sent[0] <= now - 60.0:
            self._sent.popleft()
        above = len(self._sent) + requests - (REQUESTS_PER_MINUTE - urgency.value)
        opens = self._sent[min(above, len(self._sent)) - 1] + 60.0 if above > 0 and self._sent else now
        if self._is_out:
            opens = max(opens, self._probe_at)
        return max(opens, self._closed_until)

    @property
    def _is_out(self) -> bool:
        """True while the service seems to be out of reach, so that not everything need find that out for itself."""
        return self._failures >= OUTAGE_AFTER

    def answered(self) -> bool:
        """Note that the service has answered; returns whether it had been out of reach."""
        was_out, self._failures = self._is_out, 0
        return was_out

    def failed(self, error: Exception, now: float) -> bool:
        """Note a request that failed; returns whether it tells that the service is back, as a refusal does."""
        if retry.was_answered(error):
            return self.answered()
        if retry.is_transient(error):
            self._failures += 1
            if self._failures == OUTAGE_AFTER:
                self._probe_at = now + self._runtime.backoff(1)
        return False

    def rate_limited(self, now: float, error: TooManyRequests) -> float:
        """Note a 429 and return when to try again."""
        seconds = RATE_RETRY if error.retry_after is None else error.retry_after
        if error.foreign:
            seconds = min(LONGEST_FOREIGN, seconds)
        self._closed_until = max(self._closed_until, now + seconds)
        return self._closed_until

    def known_unanswered(self, stream_key: str) -> Unanswered:
        """Return what was given up of a stream, to be read only; workers may ask for it."""
        return self._unanswered.get(stream_key) or Unanswered()

    def unanswered(self, stream_key: str, now: float) -> Unanswered:
        """Return what was given up of a stream; of those that nobody needs to know of any more, nothing is kept."""
        found = self._unanswered.get(stream_key)
        if found is None:
            for key, each in list(self._unanswered.items()):
                if key not in self.activities and each.is_over(now):
                    self._unanswered.pop(key, None)
            found = self._unanswered[stream_key] = Unanswered()
        return found

    # -- what earlier processes owe goes a little at a time

    def take_debt(self, delivery: RecoveredDelivery) -> bool:
        """Let something that an earlier process owes go; where it is not its turn, it is woken to ask again."""
        if delivery not in self._debts:
            if len(self._debts) >= DEBTS_AT_ONCE and not self.only_debts:
                self._debts_waiting[delivery] = None
                return False
            self._debts[delivery] = None
        return True

    def give_debt_back(self, delivery: RecoveredDelivery) -> list[RecoveredDelivery]:
        """Note that nothing of a delivery is on its way any more; returns those that are to ask for its turn.

        These are all that wait: any one of them may have something else to wait for by now.
        """
        if delivery not in self._debts:
            return []
        del self._debts[delivery]
        waiting, self._debts_waiting = list(self._debts_waiting), {}
        return waiting

    # -- its slots: first come, first served

    def take_slot(self, activity: Activity, now: float) -> bool:
        """Take a slot; where it is not the activity's turn, it is woken when it is."""
        if activity in self._running:
            return True
        self._waiting.setdefault(activity)
        if now < self._slots_closed_until or activity not in self.next_ones():
            return False
        del self._waiting[activity]
        self._running[activity] = None
        self._asks = activity if self._is_full else None
        return True

    def next_ones(self) -> list[Activity]:
        """Return the waiting activities for which there is a slot, as soon as the service may be asked for it."""
        free = max(0, self.slots - len(self._running))
        if self._is_full:
            free = min(free, 0 if self._asks is not None else 1)
        return list(itertools.islice(self._waiting, free))

    def has_slot(self, activity: Activity) -> None:
        """Note that an activity is on the screen: where it has asked for others too, these may ask as well."""
        if activity is self._asks:
            self._asks, self._is_full = None, False

    def slots_open_at(self, now: float) -> float | None:
        """Return when the service may be asked for a slot again, where it has refused one; `None` for now."""
        return self._slots_closed_until if now < self._slots_closed_until else None

    def waiting_ends(self) -> list[EndDelivery]:
        """Return the ends of activities that wait for a slot, if only to be shown with how they ended."""
        return [activity.end_delivery for activity in self._waiting if activity.end_delivery is not None]

    @property
    def frees_slots(self) -> bool:
        """True while an activity that has a slot is about to give it back."""
        return any(activity.end_delivery is not None for activity in self._running)

    def slots_full(self, activity: Activity, now: float, limit: int | None) -> float:
        """Note that the service refused a start; returns when to ask again."""
        self._running.pop(activity, None)
        self._asks, self._is_full = None, True
        self._waiting = {activity: None, **self._waiting}
        if limit is not None:
            self.slots = max(1, limit)
        self._slots_closed_until = now + SLOT_RETRY
        return self._slots_closed_until

    def release(self, activity: Activity) -> bool:
        """Give a slot, or the place in the queue for one, back; returns whether it may be another activity's turn."""
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
