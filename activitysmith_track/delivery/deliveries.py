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

HELD_POLL = 2.0  # between two looks whether another process still has the copy of what this one owes
UNKEPT_SECONDS = 1.0  # that it may wait to be sent without a copy


class Postponed(Exception):
    """Another process is at it, so that nothing was sent; it is looked at again in so many seconds."""

    seconds: float


class HeldByAnother(Postponed):
    """Another process has the copy at this moment, and sends it, or keeps it back while a newer run begins."""

    seconds = HELD_POLL


class Delivery:
    """Something that must not be lost: it is sent until it has arrived, and kept on disk or elsewhere meanwhile.

    Attributes:
        stage: how far it is.
        copy_owner: who has a copy of it, for when this process is gone.
        entry: the copy.
        occurred_at: seconds since the epoch.
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

    is_debt = False  # of an earlier process, so that it delays nothing of this one

    def __init__(self, dispatcher: Dispatcher, account: Account, entry: Entry | None = None) -> None:
        self.dispatcher, self.account = dispatcher, account
        self.persistence = dispatcher.persistence  # a dispatcher that is closed begins with another one
        self.stage = Stage.HELD
        self.entry = entry
        self.copy_owner = CopyOwner.NOBODY if entry is None else CopyOwner.OUTBOX
        self.occurred_at = dispatcher.runtime.wall() if entry is None else entry.occurred_at
        self.id = dispatcher.runtime.token() if entry is None else entry.id  # of the copy, should two threads make it
        self.has_arrived = False  # and the scheduler may not know it yet
        self._was_kept = False  # a copy was made because it had to wait; tried once
        self._job: Job | None = None
        self._failures = 0

    def run(self, now: float) -> float | None:
        """Send it as soon as it may go; see `Task.run`."""
        if self.stage.is_final:
            self.dispatcher.settle(self)  # another thread may have handed it in once more just then
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
            self.dispatcher.retry_all(self.account)
        return self._failed(job.error, now)

    def _landed(self, error: Exception | None) -> None:
        """Note what is known of an attempt that is over."""

    def _arrived(self, *, was_sent: bool) -> None:
        """Note that the service has answered; or that nothing was sent, where it is through without this process."""
        if not was_sent:
            self.account.forget_requests(self._requests)
            self.dispatcher.retry_all(self.account)  # others wait for what this was to find out
            self.dispatcher.look_for_owed(self.account, again=True)  # whoever has taken its place may be gone
        elif self.account.answered():
            self.dispatcher.retry_all(self.account)

    def give_up(self) -> None:
        """Leave it undelivered; see `Task.give_up`."""
        self.dispatcher.lost += 1
        if not self.stage.is_final:
            self._done(Stage.LOST)

    @property
    def account_key(self) -> AccountKey:
        """To which account it goes."""
        return self.account.key

    @property
    def kind(self) -> str:
        """What it is in the outbox; see `Entry`."""
        raise NotImplementedError

    @property
    def is_in_flight(self) -> bool:
        """True while nobody can tell whether it has arrived."""
        return self.stage is Stage.IN_FLIGHT

    @property
    def is_withdrawn(self) -> bool:
        """True where it need not be sent: another one says it, or there is nothing on the screen to end."""
        return self.stage is Stage.WITHDRAWN

    @property
    def may_have_arrived(self) -> bool:
        """True while an attempt at what is better lost than sent twice is on its way."""
        return False

    @property
    def urgency(self) -> Urgency:
        """How much of the account's rate it leaves to others."""
        return Urgency.END

    @property
    def _requests(self) -> int:
        """How many requests it takes."""
        return 1

    def _next(self, now: float) -> float | None:
        """Send it, or return when it may go."""
        raise NotImplementedError

    def _postponed(self, why: Postponed, now: float) -> float | None:
        """Return when it is looked whether another process is still at it."""
        self.stage = moved(self.stage, Stage.OWED)
        return now + why.seconds

    def _perform(self, seconds: float) -> None:
        """Send it: the work of a job."""
        raise NotImplementedError

    def _failed(self, error: Exception, now: float) -> float | None:
        """Return when it is tried again; `None` for never."""
        raise NotImplementedError

    def _done(self, stage: Stage) -> float | None:
        """Owe nothing any more."""
        raise NotImplementedError

    def copy(self, *, failed: bool = False) -> Entry | None:
        """Return what is to be kept of it, or `None` where it is better lost than sent twice.

        Args:
            failed: whether the attempt that is on its way has failed for certain.
        """
        raise NotImplementedError

    def has_copy(self, entry: Entry, owner: CopyOwner) -> None:
        """Note who keeps a copy."""
        self.entry, self.copy_owner = entry, owner

    def _opens_at(self, now: float) -> float | None:
        """Return when the account lets it through; `None` for now."""
        open_at = self.account.open_at(now, self.urgency, self._requests)
        return open_at if open_at > now else None

    def _wait(self, now: float, until: float) -> float | None:
        """Return until when it waits to be sent; where that is long, there is a copy of it meanwhile."""
        if until - now <= UNKEPT_SECONDS or self._was_kept or self.persistence.has_row(self):
            return until
        self._was_kept = True
        self._job = self.dispatcher.scheduler.send(self.dispatcher.end_workers, self, self._keep)
        return None  # looked at again when that is done

    def _keep(self) -> None:
        entry = self.copy()
        if entry is not None:
            self.persistence.keep(self, entry, sent=self._may_come_late)

    @property
    def _may_come_late(self) -> bool:
        """True while something of what this belongs to may be carried out that was sent before."""
        return False

    def _send(self, now: float) -> None:
        self.stage = moved(self.stage, Stage.IN_FLIGHT)
        self.account.note_request(now, self._requests)
        work = partial(self._attempt, self.dispatcher.attempt_seconds())
        self._job = self.dispatcher.scheduler.send(self.dispatcher.end_workers, self, work)

    def _attempt(self, seconds: float) -> bool:
        """Send it, and see to the copy: made by the first failure, gone with the delivery.

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
                persistence.over(self, sent=retry.may_have_arrived(error) or self._may_come_late)
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
        """Owe nothing any more, since it need not be sent; what is on disk of it goes first, on a worker's thread."""
        if not self._is_on_disk:
            return self._done(Stage.WITHDRAWN)
        self.stage = moved(self.stage, Stage.WITHDRAWN)
        self._job = self.dispatcher.scheduler.send(self.dispatcher.end_workers, self, self._clear)
        return None

    @property
    def _is_on_disk(self) -> bool:
        """True while there is a copy, or something is held back for this."""
        return self.copy_owner is not CopyOwner.NOBODY

    def _clear(self) -> None:
        """Forget what is on disk of it."""
        self.persistence.forget_copy(self)

    def _again_at(self, now: float, failures: int) -> float:
        self.stage = moved(self.stage, Stage.OWED)
        return now + self.dispatcher.runtime.backoff(failures)

    def _silenced(self, error: TooManyRequests, now: float) -> float:
        self.stage = moved(self.stage, Stage.OWED)
        return self.account.rate_limited(now, error)

    def _is_owed_after(self, error: Exception) -> bool:
        """Tell whether it is tried again after a failure."""
        return self._may_pass(error)

    def _instead(self, error: Exception, body: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Return what goes in the place of what was refused, lest a card runs on or nobody hears; `None` for nothing.

        A card that was to stay up ends with that state, and one that may not end with it ends as it is. A push that
        must come goes without more than its words.
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
