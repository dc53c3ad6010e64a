"""What must arrive is a delivery: it is sent until it has arrived, and a copy of it outlives the process."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from ..client import retry
from ..errors import ActivityLimitReached, BadRequest, NotFound, TooManyRequests
from .account import Urgency
from .bodies import as_end, words_alone
from .state import CopyOwner, Hold, Stage, moved

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .._endpoint import AccountKey
    from .account import Account
    from .dispatcher import Dispatcher
    from .entries import Entry
    from .scheduler import Job

HELD_POLL = 2.0  # seconds between two looks whether another process still has the lease of a delivery's copy
UNKEPT_SECONDS = 1.0  # that a delivery may wait to be sent without a copy


class Postponed(Exception):
    """Another process is sending the same thing, so that this one has sent nothing.

    Attributes:
        seconds: after which to look again.
    """

    seconds: float


class HeldByAnother(Postponed):
    """Another process has the lease of the copy: it sends it, or holds it back while a newer run begins."""

    seconds = HELD_POLL


class Delivery:
    """An end or a push, which must not be lost: it is sent until it has arrived, and a copy is kept meanwhile.

    Attributes:
        stage: how far it is.
        copy_owner: who has a copy of it, for when this process is gone.
        entry: the copy.
        occurred_at: when the block ended, in seconds since the epoch.
    """

    __slots__ = (
        "_failures",
        "_job",
        "_was_kept",
        "account",
        "copy_owner",
        "dispatcher",
        "entry",
        "has_arrived",
        "id",
        "occurred_at",
        "persistence",
        "stage",
    )

    is_debt = False  # True for one of an earlier process, which delays nothing of this one

    def __init__(self, dispatcher: Dispatcher, account: Account, entry: Entry | None = None) -> None:
        self.dispatcher, self.account = dispatcher, account
        self.persistence = dispatcher.persistence  # a dispatcher that is closed begins with another one
        self.stage = Stage.HELD
        self.entry = entry
        self.copy_owner = CopyOwner.NOBODY if entry is None else CopyOwner.OUTBOX
        self.occurred_at = dispatcher.runtime.wall() if entry is None else entry.occurred_at
        self.id = dispatcher.runtime.token() if entry is None else entry.id  # of the copy, if two threads make it
        self.has_arrived = False  # set by a worker before the scheduler knows of it
        self._was_kept = False  # it has tried to have a copy made, since it had to wait
        self._job: Job | None = None
        self._failures = 0

    def run(self, now: float) -> float | None:
        """Send it as soon as it may go; see `Task.run`."""
        if self.stage.is_final:
            self.dispatcher.settle(self)  # another thread may have handed it in again while it was settled
            return None
        if self._job is not None and not self._job.done:
            return None
        job, self._job = self._job, None
        if self.is_withdrawn:
            return self._withdraw()
        if job is not None:
            self.dispatcher.look_after_leases()
        if job is None or self.stage is not Stage.IN_FLIGHT:
            return self._next(now)
        self._landed(job.error)
        if job.error is None:
            self._arrived(was_sent=job.result)
            return self._done(Stage.DELIVERED)
        if isinstance(job.error, Postponed):
            self.account.forget_requests(self._requests)
            return self._postponed(job.error, now)
        if self.account.failed(job.error, now):
            self.dispatcher.turns.retry_all(self.account)
        return self._failed(job.error, now)

    def _landed(self, error: Exception | None) -> None:
        """Note the outcome of an attempt."""

    def _arrived(self, *, was_sent: bool) -> None:
        """Note that nothing is owed any more: the service has answered, or nothing had to be sent."""
        if not was_sent:
            self.account.forget_requests(self._requests)
            self.dispatcher.turns.retry_all(self.account)  # this has not probed for the service: others may
            self.dispatcher.look_for_owed(self.account, again=True)  # the process that has its place may be gone
        elif self.account.answered():
            self.dispatcher.turns.retry_all(self.account)

    def give_up(self) -> None:
        """Leave it undelivered; see `Task.give_up`."""
        self.dispatcher.ledger.lost += 1
        if not self.stage.is_final:
            self._done(Stage.LOST)

    @property
    def account_key(self) -> AccountKey:
        """The account that it goes to."""
        return self.account.key

    @property
    def kind(self) -> str:
        """The kind of its entry in the outbox: `end`, `keep` or `push`; see `Entry`."""
        raise NotImplementedError

    @property
    def is_in_flight(self) -> bool:
        """True while an attempt is in flight, so that nobody can tell whether it has arrived."""
        return self.stage is Stage.IN_FLIGHT

    @property
    def is_withdrawn(self) -> bool:
        """True where it need not be sent: another push says the same, or nothing is on the screen to end."""
        return self.stage is Stage.WITHDRAWN

    @property
    def may_have_arrived(self) -> bool:
        """True while an attempt is in flight, and what it sends is better lost than sent twice."""
        return False

    @property
    def urgency(self) -> Urgency:
        """How urgent its requests are; see `Urgency`."""
        return Urgency.END

    @property
    def _requests(self) -> int:
        """How many requests it takes."""
        return 1

    def _next(self, now: float) -> float | None:
        """Send it, or return when it may go."""
        raise NotImplementedError

    def _postponed(self, why: Postponed, now: float) -> float | None:
        """Return when to look whether another process is still sending it."""
        self.stage = moved(self.stage, Stage.OWED)
        return now + why.seconds

    def _perform(self, seconds: float) -> None:
        """Send it: the work of a job."""
        raise NotImplementedError

    def _failed(self, error: Exception, now: float) -> float | None:
        """Handle a failure; returns when it is tried again, `None` for never."""
        raise NotImplementedError

    def _done(self, stage: Stage) -> float | None:
        """Settle it, in the stage that it has come to."""
        raise NotImplementedError

    def copy(self, *, failed: bool = False) -> Entry | None:
        """Return the entry to keep as its copy, or `None` where nobody else is to send it.

        Args:
            failed: whether the attempt that was in flight has surely failed.
        """
        raise NotImplementedError

    def has_copy(self, entry: Entry, owner: CopyOwner) -> None:
        """Note a copy, and who keeps it."""
        self.entry, self.copy_owner = entry, owner

    def _opens_at(self, now: float) -> float | None:
        """Return when the account lets it through; `None` for now."""
        open_at = self.account.open_at(now, self.urgency, self._requests)
        return open_at if open_at > now else None

    def _wait(self, now: float, until: float) -> float | None:
        """Return until when it waits to be sent; where that is long, have a copy made meanwhile."""
        if until - now <= UNKEPT_SECONDS or self._was_kept or self.persistence.has_row(self):
            return until
        self._was_kept = True
        self._job = self.dispatcher.scheduler.send(self.dispatcher.end_workers, self, self._keep)
        return None  # woken when the copy is made

    def _keep(self) -> None:
        entry = self.copy()
        if entry is not None:
            self.persistence.keep(self, entry, sent=self.may_come_late)

    @property
    def may_come_late(self) -> bool:
        """True while the service may still carry out an earlier request for the same card."""
        return False

    def _send(self, now: float) -> None:
        self.stage = moved(self.stage, Stage.IN_FLIGHT)
        self.account.note_request(now, self._requests)
        work = partial(self._attempt, self.dispatcher.departure.attempt_seconds())
        self._job = self.dispatcher.scheduler.send(self.dispatcher.end_workers, self, work)

    def _attempt(self, seconds: float) -> bool:
        """Send it, and see to its copy, which is made after a failure and forgotten once the delivery has arrived.

        Returns:
            False where it was not sent: a newer run has taken its place, or another process has delivered it.

        Raises:
            Postponed: where another process is at it.
        """
        persistence = self.persistence
        hold = persistence.begin(self)
        if hold is Hold.OTHERS:
            raise HeldByAnother
        if hold is Hold.SETTLED:
            self._clear()
            return False
        try:
            self._perform(seconds)
        except Postponed:
            raise  # nothing was sent, and the copy stays what it is
        except Exception as error:
            if self._is_owed_after(error):
                persistence.over(self, sent=retry.may_have_arrived(error) or self.may_come_late)
            else:
                self._clear()
            raise
        self.has_arrived = True
        self._settle_copy()
        return True

    def _settle_copy(self) -> None:
        """Have the copy of what was delivered forgotten."""
        self.persistence.forget_copy(self)

    def _withdraw(self) -> float | None:
        """Settle it without sending it; if there is something on disk, a worker clears that first."""
        if not self._is_on_disk:
            return self._done(Stage.WITHDRAWN)
        self.stage = moved(self.stage, Stage.WITHDRAWN)
        self._job = self.dispatcher.scheduler.send(self.dispatcher.end_workers, self, self._clear)
        return None

    @property
    def _is_on_disk(self) -> bool:
        """True while there is a copy, or an older run's end is held back for this delivery."""
        return self.copy_owner is not CopyOwner.NOBODY

    def _clear(self) -> None:
        """Clear what is on disk because of it."""
        self.persistence.forget_copy(self)

    def _again_at(self, now: float, failures: int) -> float:
        self.stage = moved(self.stage, Stage.OWED)
        return now + self.dispatcher.runtime.backoff(failures)

    def _silenced(self, error: TooManyRequests, now: float) -> float:
        self.stage = moved(self.stage, Stage.OWED)
        return self.account.rate_limited(now, error)

    def _is_owed_after(self, error: Exception) -> bool:
        """Tell whether it is still owed, and so tried again, after a failure."""
        return self._may_pass(error)

    def _instead(self, error: Exception, body: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Return a simpler body to send in place of one that was refused, or `None`.

        So no card is left running and no push is lost. A card that was to stay up is ended with its last state; one
        whose end was refused is ended without a state; a push goes with its words alone.
        """
        if self.kind == "push":
            words = words_alone(body)
            return words if isinstance(error, BadRequest) and words != body else None
        if (
            self.kind == "keep"
            and not self._may_pass(error)
            and not isinstance(error, (NotFound, ActivityLimitReached))
        ):
            return as_end(body)
        return {} if self.kind == "end" and body and isinstance(error, BadRequest) else None

    @staticmethod
    def _may_pass(error: Exception) -> bool:
        """Tell whether a failure may pass by itself."""
        return isinstance(error, TooManyRequests) or retry.is_transient(error)
