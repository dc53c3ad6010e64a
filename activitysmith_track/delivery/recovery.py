"""What earlier processes owed: it is taken over from the outbox, and delivered after what this one owes itself."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from ..client import retry
from ..errors import ActivityLimitReached, NotFound
from .account import Urgency
from .bodies import as_end, without_alert
from .deliveries import Delivery
from .messages import HELD_POLL, Postponed, simpler
from .persistence import Claimed
from .push_delivery import PushMessage
from .state import CopyOwner, OnPhone, Stage
from .succession import may_be_seen
from .unanswered import through_by

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from .account import Account
    from .dispatcher import Dispatcher
    from .entries import Entry
    from .persistence import Persistence
    from .run import Run
    from .scheduler import Job

END_AGAIN_SECONDS = 30.0  # seconds for which it tries to repeat an end that has arrived
FEW = 10  # unfinished deliveries of earlier processes, below which more are claimed
CLAIM_POLL = 1.0  # seconds between two looks whether there are so few
RENEWAL_SECONDS = 60.0  # seconds between two renewals of this process's leases
LOOK_AGAIN = 60.0  # seconds after which a new block has the outbox looked at again


class RecoveredMessage(PushMessage):
    """What an earlier process owed, as its entry says.

    Attributes:
        kind: see `Entry`.
        stream_key: the card, for an end and the last state of a card that stays up.
        ends_left: how often it is sent once more at least, to be sure.
        sure_from: when the last of these is sent, since nothing can bring the card back after that.
        repeats_at: when the next of these is sent; 0 before the first attempt has arrived.
        tries_until: until when each is tried. All three are times on the runtime's clock.
    """

    __slots__ = ("_has_looked", "ends_left", "kind", "repeats_at", "stream_key", "sure_from", "tries_until")

    def __init__(self, account: Account, persistence: Persistence, entry: Entry, *, is_recent: bool) -> None:
        runtime = persistence.runtime
        at_least_once = entry.at_least_once or entry.kind != "push"
        super().__init__(account, persistence, entry.body, at_least_once=at_least_once, entry=entry)
        self.kind, self.stream_key = entry.kind, entry.stream_key or ""
        # An update of a process that has just gone may arrive after its end and bring the card back: it ends again.
        self.ends_left = 2 if is_recent and entry.kind != "push" else 0
        self._has_looked = is_recent or entry.kind == "push"  # for other requests that may bring the card back
        self.sure_from = through_by(runtime.now(), runtime.attempt_seconds)
        self.repeats_at, self.tries_until = 0.0, float("inf")

    @property
    def began_at(self) -> float:
        """When the run began whose end it is, in seconds since the epoch."""
        return 0.0 if self.entry is None else self.entry.began_at

    def simplify(self, error: Exception) -> bool:
        """Send a simpler body from now on, if there is one; for a card, as its end."""
        is_simpler = super().simplify(error)
        if is_simpler and self.stream_key:
            self.kind = "end"
        return is_simpler

    def copy(self, *, failed: bool = False) -> Entry | None:
        """Return the entry that it was made from, if that is to be kept still."""
        return None if super().copy(failed=failed) is None else self.entry

    def _form(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        if self.kind == "push":
            return body
        return as_end(body) if self.kind == "end" else without_alert(body)

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
        now, arrive_by = self.persistence.runtime.now(), self.persistence.held.arrive_by
        until = arrive_by(self.account_key, self.stream_key, self.began_at, now, end=self.entry)
        if until > now:
            self.ends_left, self.sure_from = 1, until

    def _settle_copy(self) -> None:
        self._look_for_late_requests()
        if self.ends_left:
            self.persistence.over(self, shown=self.kind == "keep")
        else:
            super()._settle_copy()

    def is_owed_after(self, error: Exception) -> bool:
        """Tell whether it is still owed after a failure."""
        if self.ends_left and isinstance(error, NotFound):
            return True
        if simpler(self.kind, self.body, error) is not None:
            return True
        return not self.is_settled_by(error, self.persistence.runtime.now()) and super().is_owed_after(error)

    def is_settled_by(self, error: Exception, now: float) -> bool:
        """Tell whether a failure leaves nothing to do.

        It may mean that nothing is on the screen, so that nothing there can be wrong. And an end that is repeated
        only to be sure may have been tried for long enough.
        """
        if self.kind == "end" and isinstance(error, NotFound):
            return True
        return (self.kind == "keep" and isinstance(error, ActivityLimitReached)) or now >= self.tries_until


class RecoveredDelivery(Delivery):
    """The delivery of what an earlier process owed: an end, the last state of a card that stays up, or a push.

    Args:
        dispatcher: has it delivered.
        account: for whom.
        entry: what it is.
        is_recent: True where that process may still have a request in flight.
    """

    __slots__ = ()

    message: RecoveredMessage

    is_debt = True

    def __init__(self, dispatcher: Dispatcher, account: Account, entry: Entry, *, is_recent: bool = False) -> None:
        message = RecoveredMessage(account, dispatcher.persistence, entry, is_recent=is_recent)
        super().__init__(dispatcher, message)

    @property
    def urgency(self) -> Urgency:
        """How urgent its requests are: as an end of its own where this process delivers nothing else."""
        return Urgency.END if self.account.only_debts else Urgency.DEBT

    @property
    def _beside(self) -> Iterator[Run]:
        """The activities of this process under the same stream key, the newest first; none for a push."""
        stream_key = self.message.stream_key
        newest = self.account.activities.get(stream_key) if stream_key else None
        if newest is not None:
            yield newest
            yield from newest.succession.older

    @property
    def _newer(self) -> Iterator[Run]:
        """Those of them that are newer: still open, or begun no earlier than the run whose end this is."""
        began_at = self.message.began_at
        return (each for each in self._beside if each.end_delivery is None or each.began_at >= began_at)

    def _next(self, now: float) -> float | None:
        self.message.move(Stage.OWED)
        for newer in self._newer:
            newer.doubt()
            if newer.on_phone is OnPhone.YES:
                return self._withdraw()
            if may_be_seen(newer):
                return None  # woken when that activity's request has landed
        if now < self.message.repeats_at:
            return self._rest(self.message.repeats_at)
        if self.dispatcher.departure.draining and self.dispatcher.ledger.owes_own:
            return None  # woken when nothing of this process is owed any more
        later = self._opens_at(now)
        if later is None and self.account.take_debt(self):
            self.message.may_have_begun = False
            self._send(now)
        return later

    def run(self, now: float) -> float | None:
        """Send it as soon as it may go; see `Task.run`."""
        try:
            return super().run(now)
        finally:
            if self._job is None:  # nothing is in flight any more
                for other in self.account.give_debt_back(self):
                    self.dispatcher.scheduler.wake(other)

    def _failed(self, error: Exception, now: float) -> float | None:
        message = self.message
        if message.stream_key and retry.may_arrive_late(error):
            shown = None if message.kind == "end" else message.body
            self.account.unanswered(message.stream_key, now).note(shown, now)
        self._make_room()
        if message.stream_key and message.simplify(error):
            return self._again_at(error, now, 1)
        if message.is_settled_by(error, now):
            return self._done(Stage.DELIVERED)
        return super()._failed(error, now)

    def _postponed(self, why: Postponed, now: float) -> float | None:
        self.message.copy_owner = CopyOwner.NOBODY  # the process that has it delivers it
        return self._done(Stage.WITHDRAWN)

    def _make_room(self) -> None:
        """Wake the activities that may have waited for this."""
        for each in self._beside:
            self.dispatcher.turns.wake_both(each)

    def _done(self, stage: Stage) -> float | None:
        message = self.message
        if message.ends_left and message.may_have_begun and stage is Stage.DELIVERED:
            message.ends_left, message.has_arrived = message.ends_left - 1, False
            if message.copy_owner is CopyOwner.OUTBOX:  # else a newer run's card might be ended
                now = self.dispatcher.clock()
                soon = now + self.dispatcher.runtime.attempt_seconds
                message.move(Stage.OWED)
                again = soon if message.ends_left else max(now, message.sure_from)
                message.repeats_at, message.tries_until = again, again + END_AGAIN_SECONDS
                self._make_room()
                return self._rest(again)
        self._make_room()
        if self.account.recovered.get(message.stream_key) is self:
            del self.account.recovered[message.stream_key]
        return super()._done(stage)

    def _rest(self, until: float) -> float:
        """Return when it is sent once more; no exit waits for that, since its copy tells the next process of it."""
        if self.dispatcher.departure.draining and self.message.copy_owner is CopyOwner.OUTBOX:
            self.dispatcher.task_done(self)
        return until


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
        self._dispatcher.task_done(self)
        return None if claimed.again_in is None else now + claimed.again_in

    def _look(self, now: float) -> float | None:
        """Look into the outbox, unless enough of what was found there is under way."""
        self._under_way = {each for each in self._under_way if each.message.stage.is_owed}
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
        self._dispatcher.task_done(self)


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
