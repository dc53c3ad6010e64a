"""What earlier processes owed: it is taken over from the outbox, and delivered after what this one owes itself."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from ..client import retry
from ..errors import ActivityLimitReached, NotFound
from .account import Urgency
from .deliveries import HELD_POLL, Postponed
from .persistence import Claimed
from .push_delivery import PushDelivery
from .state import CopyOwner, OnPhone, Stage, moved
from .unanswered import through_by

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .account import Account
    from .activity import Activity
    from .dispatcher import Dispatcher
    from .entries import Entry
    from .scheduler import Job

END_AGAIN_SECONDS = 30.0  # seconds for which it tries to repeat an end that has arrived
FEW = 10  # unfinished deliveries of earlier processes, below which more are claimed
CLAIM_POLL = 1.0  # seconds between two looks whether there are so few
RENEWAL_SECONDS = 60.0  # seconds between two renewals of this process's leases
LOOK_AGAIN = 60.0  # seconds after which a new block has the outbox looked at again


class RecoveredDelivery(PushDelivery):
    """What an earlier process owed: an end, the last state of a card that stays up, or a push.

    Args:
        dispatcher: what delivers it.
        account: for whom.
        entry: what it is.
        is_recent: True where that process may still have a request in flight.
    """

    __slots__ = ("_ends_left", "_has_looked", "_sure_from", "_tries_until", "kind", "stream_key")

    is_debt = True

    def __init__(self, dispatcher: Dispatcher, account: Account, entry: Entry, *, is_recent: bool = False) -> None:
        at_least_once = entry.at_least_once or entry.kind != "push"
        super().__init__(dispatcher, account, entry.body, at_least_once=at_least_once, entry=entry)
        self.kind, self.stream_key = entry.kind, entry.stream_key or ""
        # An update of a process that has just gone may arrive after its end and bring the card back: it ends again.
        self._ends_left = 2 if is_recent and entry.kind == "end" else 0
        self._has_looked = is_recent or entry.kind == "push"  # for other requests that may bring the card back
        self._sure_from = through_by(dispatcher.clock(), dispatcher.runtime.attempt_seconds)
        self._tries_until = float("inf")

    @property
    def urgency(self) -> Urgency:
        """How urgent its requests are: as an end of its own where this process delivers nothing else."""
        return Urgency.END if self.account.only_debts else Urgency.DEBT

    @property
    def _beside(self) -> Iterator[Activity]:
        """The activities of this process under the same stream key, the newest first; none for a push."""
        newest = self.account.activities.get(self.stream_key) if self.stream_key else None
        if newest is not None:
            yield newest
            yield from newest.older

    @property
    def _newer(self) -> Iterator[Activity]:
        """Those of them that are newer: still open, or begun no earlier than the run whose end this is."""
        began_at = 0.0 if self.entry is None else self.entry.began_at
        return (each for each in self._beside if each.end_delivery is None or each.began_at >= began_at)

    def _next(self, now: float) -> float | None:
        self.stage = moved(self.stage, Stage.OWED)
        for newer in self._newer:
            newer.doubt()
            if newer.on_phone is OnPhone.YES:
                return self._withdraw()
            if newer.may_be_seen:
                return None  # woken when that activity's request has landed
        if self.dispatcher.departure.draining and self.dispatcher.ledger.owes_own:
            return None  # woken when nothing of this process is owed any more
        later = self._opens_at(now)
        if later is None and self.account.take_debt(self):
            self._may_have_begun = False
            self._send(now)
        return later

    def copy(self, *, failed: bool = False) -> Entry | None:
        """Return the entry that it was made from, if that is to be kept still."""
        return None if super().copy(failed=failed) is None else self.entry

    def run(self, now: float) -> float | None:
        """Send it as soon as it may go; see `Task.run`."""
        try:
            return super().run(now)
        finally:
            if self._job is None:  # nothing is in flight any more
                for other in self.account.give_debt_back(self):
                    self.dispatcher.scheduler.wake(other)

    def _failed(self, error: Exception, now: float) -> float | None:
        if self.stream_key and retry.may_arrive_late(error):
            self.account.unanswered(self.stream_key, now).note(None if self.kind == "end" else self.body, now)
        self._make_room()
        instead = self._instead(error, self.body) if self.stream_key else None
        if instead is not None:
            self.kind, self.body = "end", instead
            return self._again_at(now, 1)
        if self._is_moot(error) or self._is_late(now):
            return self._done(Stage.DELIVERED)
        return super()._failed(error, now)

    def _postponed(self, why: Postponed, now: float) -> float | None:
        self.copy_owner = CopyOwner.NOBODY  # the process that has it delivers it
        return self._done(Stage.WITHDRAWN)

    def _is_late(self, now: float) -> bool:
        """Tell whether an end that is repeated only to be sure has been tried for long enough."""
        return now >= self._tries_until

    def _is_owed_after(self, error: Exception) -> bool:
        if (self._ends_left and isinstance(error, NotFound)) or self._instead(error, self.body) is not None:
            return True
        if self._is_moot(error) or self._is_late(self.dispatcher.clock()):
            return False
        return super()._is_owed_after(error)

    def _is_moot(self, error: Exception) -> bool:
        """Tell whether a failure means that nothing is on the screen, so that nothing there can be wrong."""
        if self.kind == "end":
            return isinstance(error, NotFound)
        return self.kind == "keep" and isinstance(error, ActivityLimitReached)

    def _make_room(self) -> None:
        """Wake the activities that may have waited for this."""
        for each in self._beside:
            self.dispatcher.turns.wake_both(each)

    def _perform(self, seconds: float) -> None:
        try:
            super()._perform(seconds)
        except NotFound:
            self._look_for_late_requests()
            raise

    def _look_for_late_requests(self) -> None:
        """Have it sent once more if a request of its own run, or of an older one, may yet bring the card back.

        An older run's end is not sent any more, since this one has taken its place in the outbox.
        """
        if self._has_looked or self.entry is None:
            return
        self._has_looked = True
        now, later = self.dispatcher.clock(), through_by(0.0, self.dispatcher.runtime.attempt_seconds)
        key, began_at = self.stream_key, self.entry.began_at
        found = self.persistence.held.look_back(self.account_key, key, began_at, now, later, self.entry)
        until = now + later if found is None else found
        if until > now:
            self._ends_left, self._sure_from = 1, until

    def _settle_copy(self) -> None:
        self._look_for_late_requests()
        if self._ends_left:
            self.persistence.over(self)
        else:
            super()._settle_copy()

    def _done(self, stage: Stage) -> float | None:
        if self._ends_left and self._may_have_begun and stage is Stage.DELIVERED:
            self._ends_left, self.has_arrived = self._ends_left - 1, False
            if self.copy_owner is CopyOwner.OUTBOX:  # else a newer run's card might be ended
                now = self.dispatcher.clock()
                soon = now + self.dispatcher.runtime.attempt_seconds
                self.stage = moved(self.stage, Stage.OWED)
                again = soon if self._ends_left else max(now, self._sure_from)
                self._tries_until = again + END_AGAIN_SECONDS
                return again
        self._make_room()
        if self.account.recovered.get(self.stream_key) is self:
            del self.account.recovered[self.stream_key]
        return super()._done(stage)


class OutboxRecovery:
    """The task that takes over what earlier processes owe an account: all of it, a few at a time.

    When another process's lease runs out it looks again, since that process may be gone.
    """

    is_debt = True

    def __init__(self, dispatcher: Dispatcher, account: Account) -> None:
        self._dispatcher, self._account = dispatcher, account
        self._persistence = dispatcher.persistence  # a dispatcher that is closed begins with another one
        self._job: Job | None = None
        self._under_way: set[RecoveredDelivery] = set()
        self._is_asked = False  # to look once more, even if it is looking now
        self.looked_at = dispatcher.clock()

    def ask(self) -> None:
        """Have it look, or look once more if it is looking now; the caller wakes it."""
        self._is_asked = True

    def run(self, now: float) -> float | None:
        """Claim what is owed, and have it delivered; see `Task.run`."""
        if self._job is None:
            return self._look(now)
        if not self._job.done or self._dispatcher.persistence is not self._persistence:
            return None
        job, self._job = self._job, None
        self._dispatcher.look_after_leases()
        claimed: Claimed = job.result or Claimed()
        self._take_over(claimed)
        if claimed.is_part or self._is_asked:
            return now + (CLAIM_POLL if claimed.is_part else 0.0)
        if claimed.again_in is not None and self._account.only_debts:
            return now + min(claimed.again_in, HELD_POLL)  # its owner may be done before that
        self._dispatcher.settle(self)
        return None if claimed.again_in is None else now + claimed.again_in

    def _look(self, now: float) -> float | None:
        """Look into the outbox, unless enough of what was found there is under way."""
        self._under_way = {each for each in self._under_way if not (each.stage.is_final or each.is_withdrawn)}
        if len(self._under_way) >= FEW:
            return now + CLAIM_POLL
        self.looked_at, self._is_asked = now, False
        work = partial(self._persistence.claim, self._account.key)
        self._job = self._dispatcher.scheduler.send(self._dispatcher.end_workers, self, work)
        return None

    def _take_over(self, claimed: Claimed) -> None:
        """Have delivered what was found."""
        dispatcher = self._dispatcher
        owed = dispatcher.ledger.owed_ids() if claimed.entries else set()
        for entry in claimed.entries:
            if entry.id in owed:
                continue  # this process delivers it already; its lease had run out
            delivery = RecoveredDelivery(dispatcher, self._account, entry)
            if entry.stream_key is not None:
                self._account.recovered[entry.stream_key] = delivery
            self._under_way.add(delivery)
            dispatcher.deliver(delivery)

    def give_up(self) -> None:
        """Leave it to a next process; see `Task.give_up`."""
        self._dispatcher.settle(self)


class LeaseRenewal:
    """The task that renews the leases of what this process still tries to deliver, while there are any.

    In an outage some of it is not tried for a long time, and others must not take it for abandoned.
    """

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher, self._persistence = dispatcher, dispatcher.persistence
        self._job: Job | None = None
        self._due: float | None = None

    def run(self, now: float) -> float | None:
        """Renew them where it is time; see `Task.run`."""
        if self._job is not None and not self._job.done:
            return None
        self._job = None
        if not self._persistence.leases.ids:
            self._due = None
            return None
        if self._due is None:
            self._due = now + RENEWAL_SECONDS
        if now >= self._due:
            self._due = None
            scheduler, workers = self._dispatcher.scheduler, self._dispatcher.end_workers
            self._job = scheduler.send(workers, self, self._persistence.renew)
        return self._due

    def give_up(self) -> None:
        """Let them run out; see `Task.give_up`."""
