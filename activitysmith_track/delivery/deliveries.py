"""What must arrive: the ends of activities, pushes, and what earlier processes could not deliver."""

from __future__ import annotations

import contextlib
from functools import partial
from typing import TYPE_CHECKING, Any

from .._failure import late
from ..errors import ActivityLimitReached, NotFound, RateLimited, TooManyRequests
from . import retry
from .account import Urgency
from .state import CopyOwner, EndState, Life, OnPhone, Stage, moved

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from .._outbox import Entry
    from ..client import Call
    from .account import Account
    from .activity import Activity
    from .dispatcher import Dispatcher
    from .persistence import Persistence
    from .scheduler import Job

END_LOOK = 0.25  # seconds between two looks whether another process has sent an older run's end
START_LOOK = 0.05  # between two looks whether a watchdog that is being started stands
GRACE = 1.0  # seconds that an end waits for an update of its own activity that is on its way
AGAIN_SECONDS = 30.0  # for which it tries to end a card once more that has ended already
WAITED_FOR = 2  # failures after which an end that a newer run waits for is tried again, however many there were


class EndUnderWay(Exception):
    """Another process is sending the end of an older run, which would end a card that is begun now."""


class OlderEnds:
    """What earlier runs owe the card of one that begins.

    Attributes:
        ids: of what is kept from everybody meanwhile.
        may_hit: whether something of an earlier run may yet reach the card.
    """

    def __init__(self, ids: list[str]) -> None:
        self.ids, self.may_hit = ids, bool(ids)


@contextlib.contextmanager
def in_place_of_older(persistence: Persistence, account: Account, stream_key: str) -> Iterator[OlderEnds]:
    """Begin an activity: what an older run owes its card is kept from everybody, and forgotten if this succeeds.

    It stays so while the start may have been carried out, since the older end would then hit the newer card. A start
    that was refused gives it back.

    Yields:
        What that is, as far as it is known; when it is over, all of it.

    Raises:
        EndUnderWay: where somebody else is sending it at this moment.
    """
    held = persistence.hold_ends(account, stream_key)
    if held is None:
        raise EndUnderWay
    older = OlderEnds(held)
    try:
        yield older
    except Exception as error:
        if not (retry.is_transient(error) or isinstance(error, RateLimited)):
            persistence.give_back(held)
        raise
    # The watchdog of an older run that was killed a moment ago may have stored its end only now, or be sending it.
    later = persistence.hold_ends(account, stream_key)
    older.may_hit = older.may_hit or later != []
    persistence.forget([*held, *(later or [])])


def without_opening(body: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what belongs to a start alone: its alert, and a duration, which would restart the timer."""
    state = {name: value for name, value in body["content_state"].items() if name != "duration_seconds"}
    return {**{name: value for name, value in body.items() if name != "alert"}, "content_state": state}


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

    urgency = Urgency.END

    def __init__(self, dispatcher: Dispatcher, account: Account, entry: Entry | None = None) -> None:
        self.dispatcher, self.account = dispatcher, account
        self.persistence = dispatcher.persistence  # a dispatcher that is closed begins with another one
        self.stage = Stage.HELD
        self.entry = entry
        self.copy_owner = CopyOwner.NOBODY if entry is None else CopyOwner.OUTBOX
        self.occurred_at = dispatcher.runtime.wall() if entry is None else entry.happened
        self.id = dispatcher.runtime.token() if entry is None else entry.id  # of the copy, should two threads make it
        self.has_arrived = False  # and the scheduler may not know it yet
        self._job: Job | None = None
        self._failures = 0

    def run(self, now: float) -> float | None:
        """Send it as soon as it may go; see `Task.run`."""
        if self.stage.is_final:
            self.dispatcher.settle(self)  # another thread may have handed it in once more just then
            return None
        if self._job is None:
            return self._next(now)
        if not self._job.done:
            return None
        job, self._job = self._job, None
        if job.error is None:
            self._arrived(was_sent=job.result)
            return self._done(Stage.DELIVERED)
        if self.account.failed(job.error, now):
            self.dispatcher.retry_all(self.account)
        return self._failed(job.error, now)

    def _arrived(self, *, was_sent: bool | None) -> None:
        """Note that the service has answered; or that nothing was sent, where somebody else has it (False)."""
        if was_sent:
            if self.account.answered():
                self.dispatcher.retry_all(self.account)
        elif was_sent is False:
            self.account.forget_requests(1)

    def give_up(self) -> None:
        """Leave it undelivered; see `Task.give_up`."""
        self.dispatcher.lost += 1
        if not self.stage.is_final:
            self._done(Stage.LOST)

    @property
    def is_in_flight(self) -> bool:
        """True while nobody can tell whether it has arrived."""
        return self._job is not None

    @property
    def may_have_arrived(self) -> bool:
        """True while an attempt at what is better lost than sent twice is on its way."""
        return False

    def _next(self, now: float) -> float | None:
        """Send it, or return when it may go."""
        raise NotImplementedError

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
        open_at = self.account.open_at(now, self.urgency)
        return open_at if open_at > now and not self.dispatcher.draining else None

    def _send(self, now: float, requests: int = 1) -> None:
        self.stage = moved(self.stage, Stage.IN_FLIGHT)
        self.account.note_request(now, requests)
        work = partial(self._attempt, self.dispatcher.attempt_seconds())
        self._job = self.dispatcher.scheduler.send(self.dispatcher.end_workers, self, work)

    def _attempt(self, seconds: float) -> bool:
        """Send it, and see to the copy: made by the first failure, gone with the delivery.

        Returns:
            False where it was not sent: a newer run has taken it away, or another process delivers it.
        """
        persistence = self.persistence
        if self.entry is not None and persistence.begin(self) is False:
            return False
        try:
            self._perform(seconds)
        except Exception as error:
            if not self._is_owed_after(error):
                persistence.forget_copy(self)
            elif self.entry is not None:
                persistence.over(self)
            elif (entry := self.copy(failed=True)) is not None:
                persistence.keep(self, entry)
            raise
        self.has_arrived = True
        self._settle_copy()
        return True

    def _settle_copy(self) -> None:
        """Have the copy of what was delivered forgotten."""
        self.persistence.forget_copy(self)

    def _drop(self, stage: Stage = Stage.DELIVERED) -> float | None:
        """Owe nothing any more, since it need not be said; a copy is forgotten first, on a worker's thread."""
        if self.copy_owner is CopyOwner.NOBODY:
            return self._done(stage)
        self.stage = moved(self.stage, Stage.IN_FLIGHT)
        work = partial(self.persistence.forget_copy, self)
        self._job = self.dispatcher.scheduler.send(self.dispatcher.end_workers, self, work)
        return None

    def _again_at(self, now: float, failures: int) -> float:
        self.stage = moved(self.stage, Stage.OWED)
        return now + self.dispatcher.runtime.backoff(failures)

    def _silenced(self, error: TooManyRequests, now: float) -> float:
        self.stage = moved(self.stage, Stage.OWED)
        return self.account.rate_limited(now, error.retry_after)

    def _is_owed_after(self, error: Exception) -> bool:
        """Tell whether it is tried again after a failure."""
        return isinstance(error, TooManyRequests) or retry.is_transient(error)


class EndDelivery(Delivery):
    """The end of an activity: a task that updates cannot hold up."""

    __slots__ = ("_armed", "_asked", "_opens", "_overtook", "_was_refused", "activity", "state")

    def __init__(self, activity: Activity, state: EndState) -> None:
        super().__init__(activity.dispatcher, activity.account)
        self.activity, self.state = activity, state
        self._asked = activity.dispatcher.clock()
        self._overtook = False  # it was sent while an update of its own activity was on its way
        self._opens = False  # it has the card appear first
        self._was_refused = False  # the service would not show the activity
        self._armed: EndState | None = None  # what the watchdog says if the process is killed now

    def replace(self, state: EndState) -> None:
        """Put another end in the place of one that is still held back."""
        self.state = state
        self.dispatcher.hand_in(self)

    def _next(self, now: float) -> float | None:
        activity, draining = self.activity, self.dispatcher.draining
        if activity.has_ended:
            self.dispatcher.settle(self)
            return None
        if activity.life is not Life.ENDING:
            self._was_refused = activity.life is Life.REFUSED
            activity.life = moved(activity.life, Life.ENDING)
        self._arm()
        if now < self.state.not_before and not draining:
            return self.state.not_before
        self.stage = moved(self.stage, Stage.OWED)
        if activity.predecessor is not None and not activity.predecessor.has_ended:
            return None
        if activity.must_wait and activity.on_phone is OnPhone.NO and not self._was_refused:
            return None
        # An end before the start would find nothing, so it waits for that to the last, unless the job leaves.
        is_soon = activity.on_phone is OnPhone.YES or draining
        grace = self._asked + (GRACE if is_soon else self.dispatcher.runtime.attempt_seconds)
        if activity.is_in_flight and now < grace:
            return grace
        is_unseen = activity.on_phone is OnPhone.NO and not activity.is_in_flight
        if is_unseen and not self._may_show(now):
            if self._is_worth_showing and self.account.frees_slots:
                return None
            if self.copy_owner is not CopyOwner.OUTBOX or self.state.keep:
                return self._drop()
            # Else the copy has taken the place of what an older run owed, whose card may still be on the screen.
        later = self._opens_at(now)
        if later is None:
            self._overtook = activity.is_in_flight
            is_shown = activity.on_phone is OnPhone.YES
            self._opens = not is_shown and not activity.is_in_flight and self._may_show(now)
            self._send(now, self._requests)
        return later

    def _arm(self) -> None:
        """Where a watchdog stands guard, have it end the activity as it did, should the process be killed by now."""
        activity = self.activity
        if activity.is_armed is None and self.persistence.watched:  # it has ended before it was looked at
            activity.is_armed = activity.source.last_words() is not None
        if activity.is_armed and self.copy_owner is CopyOwner.NOBODY and self._armed is not self.state:
            self._armed = self.state
            self.persistence.guard(activity.number, activity.account, activity.stream_key, (self.state.body, None))

    @property
    def _requests(self) -> int:
        return 2 if self._opens and not self.state.keep else 1

    @property
    def kind(self) -> str:
        """What it is in the outbox; see `Entry`."""
        return "keep" if self.state.keep else "end"

    @property
    def _is_worth_showing(self) -> bool:
        """True where an activity that was never on the screen is to appear with its end."""
        wanted = self.state.show and self.state.opening is not None
        return wanted and self.activity.successor is None and not self._was_refused

    def _may_show(self, now: float) -> bool:
        return self._is_worth_showing and self.account.take_slot(self.activity, now)

    def _perform(self, seconds: float) -> None:
        from ..client import owed_call, stream_call

        activity, state = self.activity, self.state
        if self._opens:
            replaces = self.copy_owner is not CopyOwner.OUTBOX  # else it has taken an older run's place there
            older = in_place_of_older(self.persistence, self.account, activity.stream_key)
            with older if replaces else contextlib.nullcontext():
                try:
                    self.account.perform([stream_call(activity.stream_key, None, state.opening or {})], seconds)
                except Exception as error:
                    if retry.may_have_arrived(error):
                        activity.on_phone = OnPhone.MAYBE
                    raise
            activity.on_phone, self._opens = OnPhone.YES, False
            if state.keep:
                return
        body = late(state.body, self.occurred_at, self.dispatcher.runtime.wall(), self.kind)
        if state.keep:
            body = without_opening(body)
        self.account.perform([owed_call(self.kind, activity.stream_key, body)], seconds)

    def has_copy(self, entry: Entry, owner: CopyOwner) -> None:
        """Note who keeps a copy: the watchdog need not say any more how the activity ended."""
        super().has_copy(entry, owner)
        self.persistence.goodbye(self.activity.number)

    def copy(self, *, failed: bool = False) -> Entry | None:
        """Return what is to be kept of it."""
        if not self.state.body or (self.has_arrived and not self._overtook):
            return None
        key, body = self.activity.stream_key, self.state.body
        return self.persistence.entry(self.account, self.kind, body, self.occurred_at, id=self.id, stream_key=key)

    def _is_owed_after(self, error: Exception) -> bool:
        return super()._is_owed_after(error) and not isinstance(error, ActivityLimitReached)

    def _failed(self, error: Exception, now: float) -> float | None:
        if isinstance(error, EndUnderWay):
            self.account.forget_requests(self._requests)
            self.stage = moved(self.stage, Stage.OWED)
            return now + END_LOOK
        self._failures += 1
        if isinstance(error, ActivityLimitReached):
            return self._refused(Stage.DELIVERED)  # no room for a card that has already ended
        if isinstance(error, NotFound):
            return self._done(Stage.DELIVERED)  # nothing is on the screen
        self.dispatcher.tell_failure("an end", error)
        if isinstance(error, TooManyRequests):
            return self._silenced(error, now)
        if retry.is_transient(error):
            return self._again_at(now, self._failures if self.activity.successor is None else WAITED_FOR)
        self.dispatcher.lost += 1
        return self._refused(Stage.LOST)

    def _refused(self, stage: Stage) -> float | None:
        if self._opens:
            self.dispatcher.look_for_owed(self.account, again=True)  # the older run's end, whose place it was to take
        return self._done(stage)

    def _done(self, stage: Stage) -> float | None:
        """Owe nothing any more; but an end that overtook an update is owed again until that has landed.

        The update may be carried out after the end, and would wake the card.
        """
        activity, dispatcher = self.activity, self.dispatcher
        dispatcher.settle(activity)
        if self._overtook:
            self._overtook, self.has_arrived, self.entry, self._armed = False, False, None, None
            self.stage, self.copy_owner = Stage.OWED, CopyOwner.NOBODY
            return None if activity.is_in_flight else dispatcher.clock()
        self.stage = moved(self.stage, stage)
        activity.life = Life.ENDED
        self.persistence.goodbye(activity.number)
        dispatcher.release(activity)
        dispatcher.settle(self)  # at last: the exit, which waits for it, counts on the rest
        return None


class PushDelivery(Delivery):
    """A push.

    Attributes:
        at_least_once: whether it may come twice rather than not at all.
        not_before: when it goes; until then an outer block may take it over.
        failure: the exception's marks, and when the block failed; `None` when nobody can take it over any more.
    """

    __slots__ = ("_call", "_may_have_begun", "at_least_once", "body", "failure", "not_before")

    kind = "push"

    def __init__(
        self,
        dispatcher: Dispatcher,
        account: Account,
        body: Mapping[str, Any],
        *,
        at_least_once: bool,
        not_before: float = 0.0,
        entry: Entry | None = None,
    ) -> None:
        super().__init__(dispatcher, account, entry)
        self.body, self.at_least_once, self.not_before = body, at_least_once, not_before
        self.failure: tuple[object, int] | None = None
        self._call: Call[Any] | None = None
        self._may_have_begun = False  # an attempt may have reached the service

    @property
    def is_withdrawn(self) -> bool:
        """True where another push says it."""
        return self.stage is Stage.WITHDRAWN

    def withdraw(self) -> None:
        """Have it not sent: another one says it."""
        self.failure, self.stage = None, moved(self.stage, Stage.WITHDRAWN)

    def _next(self, now: float) -> float | None:
        # First the watchdog, for the job may be killed while it is held back; and that may wait for an import, while
        # an outer block takes it over.
        starting = not self.is_withdrawn and self._entrust()
        if self.is_withdrawn:
            return self._drop(Stage.WITHDRAWN)
        if now < self.not_before and not self.dispatcher.draining:
            return min(self.not_before, now + START_LOOK) if starting else self.not_before
        later = self._opens_at(now)
        if later is None:
            with self.dispatcher.taking_over:
                if self.is_withdrawn:
                    return self._done(Stage.WITHDRAWN)
                self.failure, self._may_have_begun = None, False  # from here on nobody takes it over
                self._send(now)
        return later

    def _entrust(self) -> bool:
        """Where a watchdog stands guard, have it deliver the push of a failure if the process dies now.

        Returns:
            True where it does not stand yet.
        """
        persistence = self.persistence
        if self.copy_owner is not CopyOwner.NOBODY or not self.at_least_once:
            return False
        if persistence.watched:
            entry = self.copy()
            with self.dispatcher.taking_over:
                if entry is not None and not self.is_withdrawn:
                    persistence.hand_over(self, entry)
        return persistence.prepares

    def _perform(self, seconds: float) -> None:
        from ..client import owed_call

        self._may_have_begun = True
        body = late(self.body, self.occurred_at, self.dispatcher.runtime.wall(), self.kind)
        self._call = owed_call(self.kind, "", body, at_least_once=self.at_least_once)
        self.account.perform([self._call], seconds)

    def _is_owed_after(self, error: Exception) -> bool:
        from ..client import worth_another_try

        may_repeat = self._call is not None and worth_another_try(self._call, error)
        return may_repeat or (self.at_least_once and super()._is_owed_after(error))

    @property
    def may_have_arrived(self) -> bool:
        """True while an attempt at what is better lost than sent twice is on its way."""
        return self.is_in_flight and self._may_have_begun and not self.at_least_once

    def copy(self, *, failed: bool = False) -> Entry | None:
        """Return what is to be kept of it; nothing where it was withdrawn, or may have arrived and need not twice."""
        if self.is_withdrawn or self.has_arrived or (self.may_have_arrived and not failed):
            return None
        return self.persistence.entry(
            self.account, "push", self.body, self.occurred_at, id=self.id, at_least_once=self.at_least_once
        )

    def _failed(self, error: Exception, now: float) -> float | None:
        self._failures += 1
        self.dispatcher.tell_failure("a push", error)
        if isinstance(error, TooManyRequests):
            return self._silenced(error, now)
        if self._is_owed_after(error):
            return self._again_at(now, self._failures)
        self.dispatcher.lost += 1
        return self._done(Stage.LOST)

    def _done(self, stage: Stage) -> float | None:
        self.stage = moved(self.stage, stage)
        self.dispatcher.settle(self)
        return None


class RecoveredDelivery(PushDelivery):
    """What an earlier process owed: an end, the last state of a card that stays up, or a push.

    Args:
        dispatcher: what delivers it.
        account: for whom.
        entry: what it is.
        is_recent: True where the process may have something on its way yet.
    """

    __slots__ = ("_goes_again", "_has_turn", "_tries_until", "kind", "stream_key")

    urgency = Urgency.DEBT

    def __init__(self, dispatcher: Dispatcher, account: Account, entry: Entry, *, is_recent: bool = False) -> None:
        at_least_once = entry.at_least_once or entry.kind != "push"
        super().__init__(dispatcher, account, entry.body, at_least_once=at_least_once, entry=entry)
        self.kind, self.stream_key = entry.kind, entry.stream_key or ""
        self._has_turn = False
        # Its end goes twice: an update of a process that has just gone may come after the first, and wake the card.
        self._goes_again = is_recent and entry.kind == "end"
        self._tries_until = float("inf")

    @property
    def _newer(self) -> Activity | None:
        """The activity of a newer run under the same key, where this is the end of an older one's."""
        return self.account.activities.get(self.stream_key) if self.stream_key else None

    def _next(self, now: float) -> float | None:
        self.stage = moved(self.stage, Stage.OWED)
        newer = self._newer
        if newer is not None:
            newer.doubt()
            if newer.on_phone is OnPhone.YES:
                return self._drop()
            is_ending = newer.end_delivery is not None and newer.end_delivery.is_in_flight
            if newer.on_phone is OnPhone.MAYBE or newer.is_in_flight or is_ending:
                return None  # woken when that has landed
        later = self._opens_at(now)
        if later is None:
            self._has_turn = self.dispatcher.draining or self._has_turn or self.account.take_debt(self)
            if self._has_turn:
                self._may_have_begun = False
                self._send(now)
        return later

    def _perform(self, seconds: float) -> None:
        from ..client import owed_call

        self._may_have_begun = True
        body = late(self.body, self.occurred_at, self.dispatcher.runtime.wall(), self.kind)
        self._call = owed_call(self.kind, self.stream_key, body, at_least_once=self.at_least_once)
        self.account.perform([self._call], seconds)

    def run(self, now: float) -> float | None:
        """Send it as soon as it may go; see `Task.run`."""
        has_landed = self._job is not None and self._job.done
        again = super().run(now)
        if has_landed and self._has_turn and self._job is None:
            self._has_turn = False
            other = self.account.give_debt_back()
            if other is not None:
                self.dispatcher.scheduler.wake(other)
        return again

    def _failed(self, error: Exception, now: float) -> float | None:
        self._make_room()
        is_moot = isinstance(error, NotFound) and self.kind == "end"  # nothing is on the screen, or not yet
        if is_moot or self._is_late(now):
            return self._done(Stage.DELIVERED)
        return super()._failed(error, now)

    def _is_late(self, now: float) -> bool:
        """Tell whether an end that goes once more, to be sure, has been tried for long enough."""
        return now >= self._tries_until

    def _is_owed_after(self, error: Exception) -> bool:
        if self._goes_again and isinstance(error, NotFound):
            return True
        return super()._is_owed_after(error) and not self._is_late(self.dispatcher.clock())

    def _make_room(self) -> None:
        """Have a newer run's activity go on that has waited for this to land."""
        newer = self._newer
        while newer is not None:
            self.dispatcher.wake_both(newer)
            newer = newer.predecessor

    def _settle_copy(self) -> None:
        if self._goes_again:
            self.persistence.over(self)
        else:
            super()._settle_copy()

    def _done(self, stage: Stage) -> float | None:
        if self._goes_again and self._may_have_begun and stage is Stage.DELIVERED:
            self._goes_again = self.has_arrived = False
            if self.copy_owner is CopyOwner.OUTBOX:  # else nobody could tell whether a newer run has the card by then
                now = self.dispatcher.clock()
                self.stage, self._tries_until = moved(self.stage, Stage.OWED), now + AGAIN_SECONDS
                return now + self.dispatcher.runtime.attempt_seconds
        self._make_room()
        if self.account.recovered.get(self.stream_key) is self:
            del self.account.recovered[self.stream_key]
        return super()._done(stage)


class OutboxRecovery:
    """The task that takes over what earlier processes owe an account."""

    def __init__(self, dispatcher: Dispatcher, account: Account) -> None:
        self._dispatcher, self._account = dispatcher, account
        self._job: Job | None = None

    def run(self, now: float) -> float | None:
        """Claim what is owed, and have it delivered; see `Task.run`."""
        dispatcher = self._dispatcher
        if self._job is None:
            work = partial(dispatcher.persistence.claim, self._account)
            self._job = dispatcher.scheduler.send(dispatcher.end_workers, self, work)
            return None
        if not self._job.done:
            return None
        job, self._job = self._job, None
        owed = dispatcher.owed_ids() if job.result else set()
        for entry in job.result or ():
            if entry.id in owed:
                continue  # it is this process's own, and the lease has run out meanwhile
            delivery = RecoveredDelivery(dispatcher, self._account, entry)
            if entry.stream_key is not None:
                self._account.recovered[entry.stream_key] = delivery
            dispatcher.deliver(delivery)
        dispatcher.settle(self)
        return None

    def give_up(self) -> None:
        """Leave it to a next process; see `Task.give_up`."""
        self._dispatcher.settle(self)
