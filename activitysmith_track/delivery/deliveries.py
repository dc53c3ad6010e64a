"""A delivery is the scheduler's task that sends a message until it has arrived."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from ..errors import TooManyRequests
from .account import Urgency
from .messages import Postponed
from .state import Stage

if TYPE_CHECKING:
    from .dispatcher import Dispatcher
    from .messages import Message
    from .scheduler import Job

UNKEPT_SECONDS = 1.0  # that a message may wait to be sent without a copy


class Delivery:
    """The task that has a message sent until it has arrived: it decides when, and what follows a failure.

    Attributes:
        message: what is sent, how far it is, and who has a copy of it.
    """

    __slots__ = ("_failures", "_job", "_was_kept", "account", "dispatcher", "message")

    is_debt = False  # True for one of an earlier process, which delays nothing of this one

    def __init__(self, dispatcher: Dispatcher, message: Message) -> None:
        self.dispatcher, self.account, self.message = dispatcher, message.account, message
        self._was_kept = False  # it has tried to have a copy made, since the message had to wait
        self._job: Job | None = None
        self._failures = 0

    def run(self, now: float) -> float | None:
        """Send it as soon as it may go; see `Task.run`."""
        message = self.message
        if message.stage.is_final:
            self.dispatcher.task_done(self)  # another thread may have handed it in again meanwhile
            return None
        if self._job is not None and not self._job.done:
            return None
        job, self._job = self._job, None
        if message.is_withdrawn:
            return self._withdraw()
        if job is not None:
            self.dispatcher.look_after_leases()
        if job is None or not message.is_in_flight:
            return self._next(now)
        self._landed(job.error)
        if job.error is None:
            self._arrived(was_sent=job.result)
            return self._done(Stage.DELIVERED)
        if isinstance(job.error, Postponed):
            self.account.forget_requests(message.requests)
            return self._postponed(job.error, now)
        if self.account.failed(job.error, now):
            self.dispatcher.turns.retry_all(self.account)
        return self._failed(job.error, now)

    def give_up(self) -> None:
        """Leave it undelivered; see `Task.give_up`."""
        self.dispatcher.ledger.lost += 1
        if not self.message.stage.is_final:
            self._done(Stage.LOST)

    @property
    def is_in_flight(self) -> bool:
        """True while an attempt is in flight, so that nobody can tell whether it has arrived."""
        return self.message.is_in_flight

    @property
    def is_safe(self) -> bool:
        """True where it has arrived, and what is left to do others would do as well."""
        return False

    @property
    def is_awaited(self) -> bool:
        """True where `flush` and the exit wait for it."""
        return True

    # -- when it goes

    def _next(self, now: float) -> float | None:
        """Send it, or return when it may go."""
        raise NotImplementedError

    @property
    def urgency(self) -> Urgency:
        """How urgent its requests are; see `Urgency`."""
        return Urgency.END

    def _opens_at(self, now: float) -> float | None:
        """Return when the account lets it through; `None` for now."""
        open_at = self.account.open_at(now, self.urgency, self.message.requests)
        return open_at if open_at > now else None

    def _wait(self, now: float, until: float) -> float | None:
        """Return until when it waits to be sent; where that is long, have a copy made meanwhile."""
        message = self.message
        if until - now <= UNKEPT_SECONDS or self._was_kept or message.persistence.has_row(message):
            return until
        self._was_kept = True
        self._job = self.dispatcher.scheduler.send(self.dispatcher.end_workers, self, message.keep)
        return None  # woken when the copy is made

    def _send(self, now: float) -> None:
        self.message.move(Stage.IN_FLIGHT)
        self.account.note_request(now, self.message.requests)
        work = partial(self.message.attempt, self.dispatcher.departure.attempt_seconds())
        self._job = self.dispatcher.scheduler.send(self.dispatcher.end_workers, self, work)

    def _withdraw(self) -> float | None:
        """Be done with it without sending it; if there is something on disk, a worker clears that first."""
        if not self.message.is_on_disk:
            return self._done(Stage.WITHDRAWN)
        self.message.move(Stage.WITHDRAWN)
        self._job = self.dispatcher.scheduler.send(self.dispatcher.end_workers, self, self.message.clear)
        return None

    # -- what follows an attempt

    def _landed(self, error: Exception | None) -> None:
        """Note the outcome of an attempt."""

    def _arrived(self, *, was_sent: bool) -> None:
        """Note that nothing is owed any more: the service has answered, or nothing had to be sent."""
        if not was_sent:
            self.account.forget_requests(self.message.requests)
            self.dispatcher.turns.retry_all(self.account)  # this has not probed for the service: others may
            self.dispatcher.look_for_owed(self.account, again=True)  # the process that has its place may be gone
        elif self.account.answered():
            self.dispatcher.turns.retry_all(self.account)

    def _postponed(self, why: Postponed, now: float) -> float | None:
        """Return when to look whether another process is still sending it."""
        self.message.move(Stage.OWED)
        return now + why.seconds

    def _failed(self, error: Exception, now: float) -> float | None:
        """Handle a failure; returns when it is tried again, `None` for never."""
        message = self.message
        self._failures += 1
        self.dispatcher.runtime.tell_failure("a push" if message.kind == "push" else "an end", error)
        if isinstance(error, TooManyRequests) or message.is_owed_after(error):
            message.simplify(error)
            return self._again_at(error, now, self._failures)
        self.dispatcher.ledger.lost += 1
        return self._done(Stage.LOST)

    def _again_at(self, error: Exception, now: float, failures: int) -> float:
        """Return when it is tried again: after the silence that a 429 asks for, else after a backoff."""
        self.message.move(Stage.OWED)
        if isinstance(error, TooManyRequests):
            return self.account.rate_limited(now, error)
        return now + self.dispatcher.runtime.backoff(failures)

    def _done(self, stage: Stage) -> float | None:
        """Be done with it, in the stage that it has come to."""
        self.message.move(stage)
        self.dispatcher.task_done(self)
        return None
