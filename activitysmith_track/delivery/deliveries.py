"""What must arrive: the ends of activities, pushes, and what earlier processes could not deliver."""

from __future__ import annotations

import contextlib
from functools import partial
from typing import TYPE_CHECKING, Any

from .._text import annotate_delay
from ..client import retry
from ..client.requests import owed_call, stream_call
from ..errors import ActivityLimitReached, BadRequest, NotFound, RateLimited, TooManyRequests
from .account import Urgency
from .bodies import as_end, plain, without_alert, without_opening
from .persistence import Claimed
from .state import CopyOwner, EndState, Hold, Life, OnPhone, Stage, moved
from .unanswered import through_by

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from contextlib import AbstractContextManager

    from .._outbox import Entry
    from ..client.answers import StreamAnswer
    from ..client.requests import Call
    from .account import Account
    from .activity import Activity
    from .dispatcher import Dispatcher
    from .persistence import Persistence
    from .scheduler import Job

OLDER_END_POLL = 0.25  # seconds between two looks whether another process has sent an older run's end
WATCHDOG_POLL = 0.05  # between two looks whether a watchdog that is being started stands
OLDER_SECONDS = 15.0  # after a card has begun, in which an older run may end it without being known; see `Aftermath`
OVERTAKE_SECONDS = 1.0  # seconds that an end waits for an update of its own activity that is on its way
END_AGAIN_SECONDS = 30.0  # for which it tries to end a card once more that has ended already
HELD_POLL = 2.0  # between two looks whether another process still has the copy of what this one owes
UNKEPT_SECONDS = 1.0  # that it may wait to be sent without a copy
FEW = 10  # deliveries for earlier processes under way, below which more are taken over
CLAIM_POLL = 1.0  # seconds between two looks whether there are few
RENEWAL_SECONDS = 60.0  # between two renewals of the leases of what is tried
LOOK_AGAIN = 60.0  # seconds after which a new block has the outbox looked at again
PROMPT_FAILURES = 2  # as many as counted after which an end is tried again that a newer run waits for


class Postponed(Exception):
    """Another process is at it, so that nothing was sent; it is looked at again in so many seconds."""

    seconds: float


class EndUnderWay(Postponed):
    """Another process is sending the end of an older run, which would end a card that is begun now."""

    seconds = OLDER_END_POLL


class HeldByAnother(Postponed):
    """Another process has the copy at this moment, and sends it, or keeps it back while a newer run begins."""

    seconds = HELD_POLL


class OlderEnds:
    """What earlier runs owe the card of one that begins.

    Attributes:
        may_hit: whether something of an earlier run may yet reach the card.
    """

    def __init__(self, may_hit: bool) -> None:
        self.may_hit = may_hit


@contextlib.contextmanager
def in_place_of_older(persistence: Persistence, activity: Activity) -> Iterator[OlderEnds]:
    """Begin an activity: what an older run owes its card is kept from everybody, and forgotten if this succeeds.

    It stays so while a start may have been carried out, since the older end would then hit the newer card. A start
    that was refused gives it back, where none was given up before it.

    Args:
        persistence: who keeps it.
        activity: what begins, or ends, or is made sure of.

    Yields:
        What that is, as far as it is known; when it is over, all of it.

    Raises:
        EndUnderWay: where somebody else is sending it at this moment.
    """
    account, stream_key = activity.account, activity.stream_key
    now = persistence.runtime.now()
    until = persistence.hold_ends(account, stream_key, activity.older_began_by)
    if until is None:
        raise EndUnderWay
    older = OlderEnds(until > now)
    try:
        yield older
    except Exception as error:
        may_have_begun = activity.on_phone is not OnPhone.NO or retry.is_transient(error)
        if not (may_have_begun or isinstance(error, RateLimited)):
            persistence.let_go(account, stream_key)
        raise
    # The watchdog of an older run that was killed a moment ago may have stored its end only now, or be sending it.
    later = persistence.hold_ends(account, stream_key, activity.older_began_by)
    older.may_hit |= later is None or later > persistence.runtime.now()
    persistence.forget_held(account, stream_key)


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
        self.occurred_at = dispatcher.runtime.wall() if entry is None else entry.happened
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
            words = plain(body)
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


class _EndAttempt:
    """One attempt at an end: what it is to do, and what came of it.

    It is the worker's while it is on its way, and the scheduler's before and after.

    Attributes:
        at: when it was sent, on the runtime's clock.
        opens: it has the card appear first.
        overtakes: an update of the same activity is on its way.
        has_opened: the card has appeared by it.
        has_ended: it has asked for the end, or for the last state of a card that stays up.
        is_ignored: the card had been ended before.
        is_paused: the user has paused the stream, so that nothing is shown.
        repeats_at: when it goes once more, since something may be carried out behind it; `None` for never.
        may_be_hit: an older run may yet end the card that it has shown.
        later: until when something of an older run of another process may come, 0 for none.
    """

    __slots__ = (
        *("at", "has_ended", "has_opened", "is_ignored", "is_paused", "later", "may_be_hit", "opens", "overtakes"),
        "repeats_at",
    )

    def __init__(self, at: float = 0.0, *, opens: bool = False, overtakes: bool = False) -> None:
        self.at, self.opens, self.overtakes = at, opens, overtakes
        self.has_opened = self.has_ended = self.is_ignored = self.is_paused = self.may_be_hit = False
        self.later = 0.0
        self.repeats_at: float | None = None

    @property
    def is_opening(self) -> bool:
        """True until the card has appeared that it is to open."""
        return self.opens and not self.has_opened


class EndDelivery(Delivery):
    """The end of an activity: a task that updates cannot hold up."""

    __slots__ = (
        "_armed",
        "_asked",
        "_attempted",
        "_confirms",
        "_has_tried",
        "_is_overruled",
        "_may_be_hit",
        "_opened_at",
        "_repeats_at",
        "_was_refused",
        "_was_said",
        "activity",
        "state",
    )

    def __init__(self, activity: Activity, state: EndState) -> None:
        super().__init__(activity.dispatcher, activity.account)
        self.activity, self.state = activity, state
        self._asked = activity.dispatcher.clock()
        self._attempted = _EndAttempt()
        self._opened_at = float("-inf")  # when it was sent that the card has appeared by
        self._has_tried = False  # to end the card, so that it may be ended already
        self._may_be_hit = False  # an older run may yet end the card, or have ended it
        self._is_overruled = False  # something else has ended the card
        self._repeats_at = 0.0  # when it goes once more: it has arrived, and something may be carried out behind it
        self._confirms = False  # it does so because an older run may have ended the card that stays up
        self._was_refused = False  # the service would not show the activity
        self._was_said = False  # the last attempt has arrived
        self._armed: EndState | None = None  # what the watchdog says if the process is killed now

    def replace(self, state: EndState) -> None:
        """Put another end in the place of one that is still held back."""
        self.state = state
        self.dispatcher.hand_in(self)

    def refuse(self) -> None:
        """Note that the service would not show the activity."""
        self._was_refused = True

    def doubt(self) -> None:
        """Note that an older run may yet end the card, or has ended it."""
        self._may_be_hit = True

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
        if activity.is_preceded:
            return self._wait_for_others(now)
        if activity.must_wait and activity.on_phone is OnPhone.NO and not self._was_refused:
            return self._wait_for_others(now)
        # An end before the start would find nothing, so it waits for that to the last, unless the job leaves.
        is_soon = activity.on_phone is OnPhone.YES or draining
        grace = self._asked + (OVERTAKE_SECONDS if is_soon else self.dispatcher.runtime.attempt_seconds)
        if activity.is_in_flight and now < grace:
            return grace
        if self._repeats_at:
            if activity.is_replaced:
                return self._withdraw()
            if activity.is_succeeded:
                return None  # woken when the newer run is on the screen, or has come to nothing
            repeats_at = max(self._repeats_at, self._may_appear_until)
            if now < repeats_at:
                return self._rest(now, repeats_at)
        self._may_be_hit |= activity.may_have_ended
        activity.may_have_ended = False  # which this makes sure of now
        can_open = activity.on_phone is not OnPhone.YES and not activity.is_in_flight
        opens = can_open and self._takes_slot(now)
        if activity.on_phone is OnPhone.NO and can_open and not opens:
            if self._is_worth_showing and self.account.frees_slots:
                return self._wait_for_others(now)
            if self.copy_owner is not CopyOwner.OUTBOX:
                return self._withdraw()
            # Else the copy has taken the place of what an older run owed, whose card may still be on the screen.
        self._attempted = _EndAttempt(now, opens=opens, overtakes=activity.is_in_flight)
        self._attempted.may_be_hit = opens and activity.is_in_doubt
        later = None if draining else self._opens_at(now)
        if later is not None:
            return self._wait(now, later)
        self._send(now)
        return None

    def _wait_for_others(self, now: float) -> float | None:
        """Wait until it is woken: soon, or else there is a copy of it where a newer run finds it."""
        unkept_until = self._asked + self.dispatcher.runtime.attempt_seconds
        if self.activity.on_phone is OnPhone.NO and not self._is_worth_showing:
            return None  # it is about to be withdrawn
        if now < unkept_until and not self.persistence.has_row(self):
            return unkept_until
        self._wait(now, float("inf"))
        return None

    def _rest(self, now: float, until: float) -> float:
        """Return when it goes once more; no exit waits long for what has been said, and of which there is a copy."""
        is_safe = self._was_said and self.copy_owner is not CopyOwner.NOBODY
        if is_safe and self.dispatcher.draining and until > now + self.dispatcher.seconds_left:
            self.dispatcher.settle(self)
        return until

    @property
    def repeats(self) -> bool:
        """True where it has arrived and goes once more, so that a newer run need not wait for it."""
        return bool(self._repeats_at)

    def _arm(self) -> None:
        """Where a watchdog stands guard, have it end the activity as it did, should the process be killed by now."""
        activity = self.activity
        if activity.is_armed is None and self.persistence.watched:  # it has ended before it was looked at
            activity.is_armed = activity.source.last_words() is not None
        if activity.is_armed and self.copy_owner is CopyOwner.NOBODY and self._armed is not self.state:
            self._armed = self.state
            entry = self.copy() if self.state.keep else None
            if entry is not None and self.persistence.hand_over(self, entry):
                return
            words = as_end(self.state.body), None  # where the watchdog is just being started it ends what was to stay
            key = activity.stream_key
            self.persistence.guard(activity.number, self.account, key, words, activity.began_at)

    @property
    def _requests(self) -> int:
        return 2 if self._attempted.opens and not self.state.keep else 1

    @property
    def kind(self) -> str:
        """An end, or the last state of a card that stays up."""
        return "keep" if self.state.keep else "end"

    @property
    def _last_state(self) -> Mapping[str, Any] | None:
        """What it shows on a card that stays up; `None` where it ends the card."""
        return self.state.body if self.state.keep else None

    @property
    def _may_appear_until(self) -> float:
        """Until when something else may appear by what was given up."""
        known = self.account.known_unanswered(self.activity.stream_key)
        return known.may_appear_until(self._last_state)

    @property
    def _may_come_late(self) -> bool:
        return self.activity.is_in_flight or self._may_appear_until > self.dispatcher.clock()

    @property
    def _is_worth_showing(self) -> bool:
        """True where an activity that was never on the screen is to appear with its end."""
        wanted = self.state.show and self.state.opening is not None
        return wanted and not self._has_newer and not self._was_refused

    @property
    def _has_newer(self) -> bool:
        """True where there is a newer run, which has the card or is to have it."""
        return self.activity.is_replaced or self.activity.successor is not None

    def _make_room(self) -> None:
        """Have those look again that have waited for what became of this."""
        for newer in self.activity.newer:
            self.dispatcher.wake_both(newer)

    def _takes_slot(self, now: float) -> bool:
        return self._is_worth_showing and self.account.take_slot(self.activity, now)

    def _perform(self, seconds: float) -> None:
        self._show_and_end(seconds)
        self._attempted.repeats_at = self._repeat_at()

    def _show_and_end(self, seconds: float) -> None:
        attempt, key, state = self._attempted, self.activity.stream_key, self.state
        takes_over = self.dispatcher.clock() < self.activity.took_over_at + OLDER_SECONDS
        if attempt.opens:
            # The copy in the outbox has taken an older run's place there.
            with self._in_place_of_older(self.copy_owner is not CopyOwner.OUTBOX) as older:
                answer: StreamAnswer = self.account.perform([stream_call(key, None, state.opening or {})], seconds)
                attempt.is_paused = answer.operation == "paused"
                attempt.has_opened = not attempt.is_paused
            takes_over = answer.operation != "started"
            attempt.may_be_hit |= older.may_hit
            if state.keep or not attempt.has_opened:
                return
        body = annotate_delay(state.body, self.occurred_at, self.dispatcher.runtime.wall(), self.kind)
        if state.keep:
            body = without_opening(body)
        elif takes_over:
            self._show_to_newer()
        with self._in_place_of_older(self._confirms) as older:
            attempt.has_ended = True
            answer = self.account.perform([owed_call(self.kind, key, body)], seconds)
        attempt.may_be_hit |= older.may_hit
        attempt.is_ignored, attempt.is_paused = bool(answer.ignored), answer.operation == "paused"
        attempt.later = self._look_back()
        attempt.may_be_hit |= attempt.later > 0.0 and not self._repeats_at

    def _look_back(self) -> float:
        """Look whether an older run of another process has met the card that has been there for a short time only.

        What that sent before may come behind the card's beginning, and behind this.

        Returns:
            Until when something of that may come, 0 where nothing was sent.
        """
        attempt, now = self._attempted, self.dispatcher.clock()
        since = attempt.at if attempt.opens else max(self._opened_at, self.activity.pace.started)
        if now >= since + OLDER_SECONDS:
            return 0.0
        later = through_by(0.0, self.dispatcher.runtime.attempt_seconds)
        key, began_at = self.activity.stream_key, self.activity.began_at
        found = self.persistence.look_back(self.account, key, began_at, since, later)
        return now + later if found is None else found

    def _show_to_newer(self) -> None:
        """Keep a copy of an end for a card that was there before: a newer run looks there, whose card it may be."""
        entry = None if self.copy_owner is CopyOwner.OUTBOX else self.copy()
        if entry is not None:
            self.persistence.keep(self, entry, sent=True)

    def _repeat_at(self) -> float | None:
        """Return when an end that has arrived goes once more, after what may be carried out behind it.

        That is an update that it has overtaken, or one that was given up: it would wake the card. A card that stays
        up is shown once more where an older run's end may be behind it.
        """
        attempt, now = self._attempted, self.dispatcher.clock()
        if attempt.is_paused:
            return None
        repeats_at = now if attempt.overtakes else None
        late = self._may_appear_until
        if attempt.at < late:
            repeats_at = max(now, late)
        if attempt.later > now:
            repeats_at = max(repeats_at or now, attempt.later)
        if self.state.keep and (self._may_be_hit or attempt.may_be_hit):
            repeats_at = max(late, through_by(now, self.dispatcher.runtime.attempt_seconds))
        return repeats_at

    def _settle_copy(self) -> None:
        if self._holds:  # the card was ended that a start may have shown which was given up
            self.persistence.forget_held(self.account, self.activity.stream_key)
        if self._attempted.repeats_at is None:
            super()._settle_copy()
        else:
            self.persistence.over(self)  # should this process be killed before it has gone once more

    def _in_place_of_older(self, replaces: bool) -> AbstractContextManager[OlderEnds]:
        if not replaces:
            return contextlib.nullcontext(OlderEnds(False))
        return in_place_of_older(self.persistence, self.activity)

    def has_copy(self, entry: Entry, owner: CopyOwner) -> None:
        """Note who keeps a copy: the watchdog need not say any more how the activity ended."""
        super().has_copy(entry, owner)
        self.persistence.goodbye(self.activity.number)

    @property
    def _is_on_disk(self) -> bool:
        return super()._is_on_disk or self._holds

    @property
    def _holds(self) -> bool:
        """True while something of an older run is held back for this, and not for a newer run."""
        return not self.activity.is_succeeded and self.persistence.holds_for(self.account, self.activity.stream_key)

    def _clear(self) -> None:
        super()._clear()  # it was not shown in the place of an older run, so that what that owes is to be sent
        if self._holds and self.persistence.let_go(self.account, self.activity.stream_key):
            self.dispatcher.look_for_owed(self.account, again=True)

    def copy(self, *, failed: bool = False) -> Entry | None:
        """Return what is to be kept of it."""
        if not self.state.body or (self.has_arrived and self._attempted.repeats_at is None):
            return None
        key, body, began = self.activity.stream_key, self.state.body, self.activity.began_at
        return self.persistence.entry(
            self.account, self.kind, body, self.occurred_at, id=self.id, stream_key=key, began=began
        )

    def _is_owed_after(self, error: Exception) -> bool:
        if isinstance(error, NotFound):  # nothing is on the screen, yet
            self._attempted.repeats_at = self._repeat_at()
            return self._attempted.repeats_at is not None
        if self._ends_unseen or self._instead(error, self.state.body) is not None:
            return True
        return super()._is_owed_after(error) and not self._finds_no_room(error)

    @property
    def _ends_unseen(self) -> bool:
        """True where an end goes although the card was refused that it was to open: there may be one all the same.

        That is this run's own, or an older one's, whose owed end this one has taken the place of in the outbox.
        """
        may_be_there = self.activity.on_phone is OnPhone.MAYBE or self.copy_owner is CopyOwner.OUTBOX
        return self._attempted.is_opening and may_be_there

    def _finds_no_room(self, error: Exception) -> bool:
        """Tell whether there is no slot for a card that has already ended."""
        return self._attempted.is_opening and isinstance(error, ActivityLimitReached)

    def _landed(self, error: Exception | None) -> None:
        attempt = self._attempted
        self._was_said = error is None and not attempt.is_ignored
        if attempt.has_opened:
            self.activity.appear()
            self._opened_at, self._has_tried = attempt.at, False
        self._may_be_hit |= attempt.may_be_hit
        recent = max(self.activity.pace.started + OLDER_SECONDS, self.activity.unanswered.may_change_until)
        is_others = not self._has_tried and (self._opened_at > float("-inf") or attempt.at < recent)
        self._is_overruled = attempt.is_ignored and (self._may_be_hit or is_others)
        self._has_tried |= attempt.has_ended and (error is None or retry.may_have_arrived(error))
        if self._repeats_at:
            self._make_room()
        for older in self.activity.older:
            self.dispatcher.wake_both(older)

    def _failed(self, error: Exception, now: float) -> float | None:
        self._failures += 1
        is_opening = self._attempted.is_opening
        if is_opening and self.activity.on_phone is OnPhone.NO and retry.may_have_arrived(error):
            self.activity.on_phone = OnPhone.MAYBE
        if retry.may_arrive_late(error):
            shown = (self.state.opening or {}) if is_opening else self._last_state
            self.activity.unanswered.note(shown, now)
        is_refused = self._finds_no_room(error) or not self._may_pass(error)
        if is_refused and self._ends_unseen:
            self.dispatcher.tell_failure("an end", error)
            self._was_refused = True
            return self._again_at(now, 1)
        if self._finds_no_room(error):
            return self._refused(Stage.DELIVERED)
        if isinstance(error, NotFound):
            return self._done(Stage.DELIVERED)  # nothing is on the screen
        self.dispatcher.tell_failure("an end", error)
        if isinstance(error, TooManyRequests):
            return self._silenced(error, now)
        if retry.is_transient(error):
            return self._again_at(now, PROMPT_FAILURES if self._has_newer else self._failures)
        instead = self._instead(error, self.state.body)
        if instead is not None:
            self.state = self.state._replace(keep=False, body=instead)
            return self._again_at(now, 1)
        self.dispatcher.lost += 1
        return self._refused(Stage.LOST)

    def _refused(self, stage: Stage) -> float | None:
        if self._attempted.is_opening:
            self.dispatcher.look_for_owed(self.account, again=True)  # the older run's end, whose place it was to take
        return self._done(stage)

    def _done(self, stage: Stage) -> float | None:
        """Owe nothing any more, unless it goes once more.

        Where the end of an older run seems to have come first, the card appears once more to end as this run did.
        """
        activity, dispatcher = self.activity, self.dispatcher
        dispatcher.settle(activity)
        now, late = dispatcher.clock(), self._may_appear_until
        attempt = self._attempted
        self._confirms, self._may_be_hit = self.state.keep and self._may_be_hit, False
        repeats_at = attempt.repeats_at
        if self._is_overruled and not self.persistence.is_closed:  # else nobody would end it again
            activity.on_phone = OnPhone.NO
            if not self._has_newer:
                repeats_at = max(now, late)
        self._is_overruled = False
        if repeats_at is not None:
            self.has_arrived = False  # first, since the exit may ask for a copy in this moment
            self._attempted, self._armed = _EndAttempt(), None
            self.stage, self._repeats_at = Stage.OWED, repeats_at
            self._make_room()
            return None if activity.is_in_flight else self._rest(now, repeats_at)
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

    kind, stream_key = "push", ""

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

    def withdraw(self) -> None:
        """Have it not sent: another one says it."""
        self.failure, self.stage = None, moved(self.stage, Stage.WITHDRAWN)

    def _next(self, now: float) -> float | None:
        # First the watchdog, for the job may be killed while it is held back; and that may wait for an import, while
        # an outer block takes it over.
        starting = self._entrust()
        if self.is_withdrawn:
            return self._withdraw()
        if now < self.not_before and not self.dispatcher.draining:
            return min(self.not_before, now + WATCHDOG_POLL) if starting else self.not_before
        later = None if self.dispatcher.draining else self._opens_at(now)
        if later is not None:
            return self._wait(now, later)
        with self.dispatcher.taking_over:
            if self.is_withdrawn:
                return self._done(Stage.WITHDRAWN)
            self.failure, self._may_have_begun = None, False  # from here on nobody takes it over
            self._send(now)
        return None

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
        self._may_have_begun = True
        body = annotate_delay(self.body, self.occurred_at, self.dispatcher.runtime.wall(), self.kind)
        if self.kind != "push":
            body = as_end(body) if self.kind == "end" else without_alert(body)
        self._call = owed_call(self.kind, self.stream_key, body, at_least_once=self.at_least_once)
        self.account.perform([self._call], seconds)

    def _is_owed_after(self, error: Exception) -> bool:
        may_repeat = self._call is not None and retry.may_repeat(self._call, error)
        may_repeat = may_repeat or self._instead(error, self.body) is not None
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
        self.dispatcher.tell_failure("a push" if self.kind == "push" else "an end", error)
        if isinstance(error, TooManyRequests):
            return self._silenced(error, now)
        if self._is_owed_after(error):
            self.body = self._instead(error, self.body) or self.body
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

    __slots__ = ("_ends_left", "_sure_from", "_tries_until", "kind", "stream_key")

    is_debt = True

    def __init__(self, dispatcher: Dispatcher, account: Account, entry: Entry, *, is_recent: bool = False) -> None:
        at_least_once = entry.at_least_once or entry.kind != "push"
        super().__init__(dispatcher, account, entry.body, at_least_once=at_least_once, entry=entry)
        self.kind, self.stream_key = entry.kind, entry.stream_key or ""
        # An update of a process that has just gone may come after its end, soon or late, and wake the card.
        self._ends_left = 2 if is_recent and entry.kind == "end" else 0
        self._sure_from = through_by(dispatcher.clock(), dispatcher.runtime.attempt_seconds)
        self._tries_until = float("inf")

    @property
    def urgency(self) -> Urgency:
        """How much of the account's rate it leaves to others: nothing where there is nothing else to say."""
        return Urgency.END if self.account.only_debts else Urgency.DEBT

    @property
    def _beside(self) -> Iterator[Activity]:
        """The activities of this process under the same key, where this is the end of another one's."""
        newest = self.account.activities.get(self.stream_key) if self.stream_key else None
        if newest is not None:
            yield newest
            yield from newest.older

    @property
    def _newer(self) -> Iterator[Activity]:
        """Those of them that are newer: not one that is over and has begun before this was left."""
        began = 0.0 if self.entry is None else self.entry.began
        return (each for each in self._beside if each.end_delivery is None or each.began_at >= began)

    def _next(self, now: float) -> float | None:
        self.stage = moved(self.stage, Stage.OWED)
        for newer in self._newer:
            newer.doubt()
            if newer.on_phone is OnPhone.YES:
                return self._withdraw()
            if newer.may_be_seen:
                return None  # woken when that has landed
        if self.dispatcher.draining and self.dispatcher.owes_own:
            return None  # woken when nothing of this process is owed any more
        later = self._opens_at(now)
        if later is None and self.account.take_debt(self):
            self._may_have_begun = False
            self._send(now)
        return later

    def copy(self, *, failed: bool = False) -> Entry | None:
        """Return what is to be kept of it: what it was made of."""
        return None if super().copy(failed=failed) is None else self.entry

    def run(self, now: float) -> float | None:
        """Send it as soon as it may go; see `Task.run`."""
        try:
            return super().run(now)
        finally:
            if self._job is None:  # nothing is on its way any more
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
        self.copy_owner = CopyOwner.NOBODY  # whoever has it delivers it
        return self._done(Stage.WITHDRAWN)

    def _is_late(self, now: float) -> bool:
        """Tell whether an end that goes once more, to be sure, has been tried for long enough."""
        return now >= self._tries_until

    def _is_owed_after(self, error: Exception) -> bool:
        if (self._ends_left and isinstance(error, NotFound)) or self._instead(error, self.body) is not None:
            return True
        if self._is_moot(error) or self._is_late(self.dispatcher.clock()):
            return False
        return super()._is_owed_after(error)

    def _is_moot(self, error: Exception) -> bool:
        """Tell whether nothing is on the screen, or not yet, so that nothing there can be wrong."""
        if self.kind == "end":
            return isinstance(error, NotFound)
        return self.kind == "keep" and isinstance(error, ActivityLimitReached)

    def _make_room(self) -> None:
        """Have an activity go on that has waited for this to land."""
        for each in self._beside:
            self.dispatcher.wake_both(each)

    def _settle_copy(self) -> None:
        if self._ends_left:
            self.persistence.over(self)
        else:
            super()._settle_copy()

    def _done(self, stage: Stage) -> float | None:
        if self._ends_left and self._may_have_begun and stage is Stage.DELIVERED:
            self._ends_left, self.has_arrived = self._ends_left - 1, False
            if self.copy_owner is CopyOwner.OUTBOX:  # else nobody could tell whether a newer run has the card by then
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

    What is under the lease of a process that may be gone it looks for again when that runs out.
    """

    is_debt = True

    def __init__(self, dispatcher: Dispatcher, account: Account) -> None:
        self._dispatcher, self._account = dispatcher, account
        self._persistence = dispatcher.persistence  # a dispatcher that is closed begins with another one
        self._job: Job | None = None
        self._under_way: set[RecoveredDelivery] = set()
        self._is_asked = False  # to look once more, whatever it is doing
        self.looked_at = dispatcher.clock()

    def ask(self) -> None:
        """Have it look, once more where it is looking at this moment; it is woken for that."""
        self._is_asked = True

    def run(self, now: float) -> float | None:
        """Claim what is owed, and have it delivered; see `Task.run`."""
        dispatcher = self._dispatcher
        if self._job is None:
            self._under_way = {each for each in self._under_way if not (each.stage.is_final or each.is_withdrawn)}
            if len(self._under_way) >= FEW:
                return now + CLAIM_POLL
            self.looked_at, self._is_asked = now, False
            work = partial(self._persistence.claim, self._account)
            self._job = dispatcher.scheduler.send(dispatcher.end_workers, self, work)
            return None
        if not self._job.done or dispatcher.persistence is not self._persistence:
            return None
        job, self._job = self._job, None
        dispatcher.look_after_leases()
        claimed: Claimed = job.result or Claimed()
        owed = dispatcher.owed_ids() if claimed.entries else set()
        for entry in claimed.entries:
            if entry.id in owed:
                continue  # it is this process's own, and the lease has run out meanwhile
            delivery = RecoveredDelivery(dispatcher, self._account, entry)
            if entry.stream_key is not None:
                self._account.recovered[entry.stream_key] = delivery
            self._under_way.add(delivery)
            dispatcher.deliver(delivery)
        if claimed.is_part or self._is_asked:
            return now + (CLAIM_POLL if claimed.is_part else 0.0)
        if claimed.again_in is not None and self._account.only_debts:
            return now + min(claimed.again_in, HELD_POLL)  # who has it may be through long before the lease is over
        dispatcher.settle(self)
        return None if claimed.again_in is None else now + claimed.again_in

    def give_up(self) -> None:
        """Leave it to a next process; see `Task.give_up`."""
        self._dispatcher.settle(self)


class LeaseRenewal:
    """The task that renews the leases of what this process still tries to deliver, while there are any.

    In an outage much of it is not tried for a long time: others are not to take it for left behind.
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
        if not self._persistence.has_leases:
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
