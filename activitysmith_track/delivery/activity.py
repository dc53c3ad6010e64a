"""One activity, which is a Live Activity card: its mailbox, from which only the latest state is ever sent."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from .._pacing import DEFAULT_BUDGET
from ..client import retry
from ..errors import ActivityLimitReached, BadRequest, NoRecipients, ServerError, TooManyRequests
from .account import Urgency
from .aftermath import Aftermath
from .end_delivery import EndDelivery
from .older_ends import EndUnderWay
from .screen import Screen
from .state import NOTHING, ActivityState, Attention, EndState, Life, Mark, OnPhone, StateProvider, moved
from .succession import Succession
from .unanswered import landed_by, through_by
from .update_request import Change, Sending, put_state

if TYPE_CHECKING:
    from .._pacing import Budget
    from ..client.answers import StreamAnswer
    from .account import Account
    from .dispatcher import Dispatcher
    from .scheduler import Job
    from .unanswered import Unanswered

RECIPIENT_RETRY = 300.0  # seconds until a start that nobody would have received is tried again
REFUSAL_RETRY = 300.0  # until a state is tried again that the service refused to show
ROTATION_RETRY = 300.0  # until the service is asked again to replace a card by a fresh one, which it refused
PAUSED_RETRY = 300.0  # until a paused stream is tried again, which the user may have resumed
YOUNG_SECONDS = 30.0  # of this process, in which an earlier process's watchdog may still end that process's cards


class Activity(Succession):
    """One activity's mailbox: the task of the scheduler that has its latest state sent.

    Attributes:
        life: where it is in its life.
        attention: which changes of the handle have the scheduler look at it.
        is_armed: whether a watchdog is to guard it; `None` until the handle was asked.
        screen: what is known of its card.
        took_over_at: when it took over a card that was there already: an older run's, or a newer run's of another
            process.
    """

    __slots__ = (
        "_epoch",
        "_failures",
        "_is_in_doubt",
        "_job",
        "_looked",
        "_retry_at",
        "_sending",
        "_visible_at",
        "attention",
        "dispatcher",
        "is_armed",
        "life",
        "number",
        "screen",
        "source",
        "took_over_at",
    )

    def __init__(
        self,
        dispatcher: Dispatcher,
        account: Account,
        stream_key: str,
        source: StateProvider,
        *,
        visible_at: float,
        reserve: int,
        budget: Budget,
    ) -> None:
        super().__init__(account, stream_key, dispatcher.runtime.wall())
        self.dispatcher, self.source = dispatcher, source
        self.screen = Screen(account, stream_key, reserve, budget)
        self.life, self.attention = Life.WAITING, Attention.ANY
        self.end_delivery: EndDelivery | None = None
        self.number = next(dispatcher.order)
        self.is_armed: bool | None = None
        self._epoch = dispatcher.epoch
        self._visible_at = visible_at  # a delay keeps it off the screen until then
        self._retry_at = 0.0  # when a request that failed is tried again
        self._is_in_doubt = False  # a request of an earlier process may still arrive
        self._looked: Mark | None = None
        self._sending: Sending | None = None
        self._job: Job | None = None
        self._failures = 0
        self.took_over_at = float("-inf")

    @property
    def is_inherited(self) -> bool:
        """True where the dispatcher has begun anew since: in a forked child, or after `Dispatcher.close`."""
        return self._epoch != self.dispatcher.epoch

    @property
    def is_delayed(self) -> bool:
        """True while a delay keeps it off the screen."""
        return self.dispatcher.clock() < self._visible_at

    @property
    def unanswered(self) -> Unanswered:
        """The unanswered requests under its stream key, whichever run has sent them."""
        return self.account.unanswered(self.stream_key, self.dispatcher.clock())

    @property
    def is_in_flight(self) -> bool:
        """True while a request that shows it is in flight."""
        return self._sending is not None

    @property
    def has_ended(self) -> bool:
        """True when nothing more will be sent of it."""
        return self.life is Life.ENDED

    def unlink(self) -> None:
        """Leave the row of runs, whose newest the account knows. The caller holds the lock of `OpenActivities`."""
        older = self.predecessor
        super().unlink()
        if self.account.activities.get(self.stream_key) is self:
            if older is None:
                del self.account.activities[self.stream_key]
            else:
                self.account.activities[self.stream_key] = older

    # -- the user's side: never blocks

    def wake(self, *, transition: bool = False) -> None:
        """Have the scheduler look at the state, unless it is about to do so anyway."""
        attention = self.attention
        if attention is Attention.ANY or (transition and attention is Attention.TRANSITIONS):
            self.attention = Attention.NONE
            self.dispatcher.hand_in(self)

    def end(self, state: EndState) -> None:
        """Hand in the last state, once; states after it are no longer sent."""
        end = EndDelivery(self, state)
        if self.dispatcher.opened.takes(end):
            self.dispatcher.hand_in(end)

    # -- the scheduler's side

    def listen(self) -> None:
        """Have the scheduler look at the next change of the handle."""
        self.attention = Attention.ANY

    def run(self, now: float) -> float | None:
        """Have the latest state sent if pacing, slots and rate allow; see `Task.run`."""
        self.attention = Attention.NONE  # until it listens again: a busy job must not wake the scheduler all the time
        if self._job is not None:
            if not self._job.done:
                return None
            self._landed(now)
            self.dispatcher.updates.send_ready(now)
        if self.end_delivery is not None or self.life in (Life.ENDED, Life.REFUSED):
            return None
        if self.is_armed is None:
            self._arm()
            self.dispatcher.look_for_owed(self.account)
        not_before = max(self._visible_at, self._retry_at)
        if now < not_before:
            return not_before
        return self._wait(now) if self.on_phone is OnPhone.YES else self._appear_when_it_may(now)

    def _appear_when_it_may(self, now: float) -> float | None:
        """Have the card appear, once an older run's end has arrived and there is a state to show and a free slot."""
        if self.must_wait:
            return None  # woken when the older run's end is through
        if self.source.snapshot() is None:
            self.listen()
            if self.source.snapshot() is None:  # the first state may have come before it listened
                return self._rest(now, None, None)
        self.dispatcher.owe(self)
        if self.account.take_slot(self, now):
            self.dispatcher.updates.make_ready(self, now)
            return None
        return self.account.slots_open_at(now)  # `None`: it is woken when another activity gives its slot back

    def _arm(self, *, is_refused: bool = False) -> None:
        """Tell the watchdog, if there is one, what to send if the process dies: for a refused card only a push."""
        crash_state = self.source.crash_state()
        self.is_armed = crash_state is not None
        if crash_state is None:
            return
        if is_refused:
            crash_state = {}, crash_state[1]
        older = self.predecessor if self.on_phone is OnPhone.NO and self._sending is None else None
        if older is not None and older.end_delivery is not None and not older.has_ended:
            # the card on the screen is the older run's, so the watchdog ends it as that run has ended
            crash_state = older.end_delivery.state.body or crash_state[0], crash_state[1]
        persistence = self.dispatcher.persistence
        persistence.arm(self.number, self.account.key, self.stream_key, crash_state, self.began_at)

    def give_up(self) -> None:
        """Send no more states, and leave the card to its end; see `Task.give_up`."""
        if self.on_phone is OnPhone.NO and self.life is not Life.WAITING:
            self.on_phone = OnPhone.MAYBE
        self.life = Life.REFUSED
        self.dispatcher.settle(self)

    def retry_now(self) -> None:
        """Wait no more after a failure: the service is back."""
        self._retry_at = 0.0

    def _wait(self, now: float) -> float | None:
        """Have a state sent if it is due; else return when to look again."""
        mark = self.source.mark()
        due = self.screen.update_at(now, mark, self.source)
        if due is not None and due <= now:
            self.dispatcher.updates.make_ready(self, now)
            return None
        looked, self._looked = self._looked, mark
        again = self._rest(now, mark, due) if looked in (None, mark) else self._busy(now, mark, due)
        if self.attention is not Attention.NONE and self.source.transitions() != mark.transitions:
            return now  # the transition came before this activity listened, so it has woken nobody
        return again

    def _busy(self, now: float, mark: Mark, due: float | None) -> float:
        """Return when to look again at a job that keeps changing; until then at most its transitions wake anybody."""
        screen = self.screen
        is_behind = screen.sent is not None and mark.transitions != screen.sent.mark.transitions
        self.attention = Attention.NONE if is_behind else Attention.TRANSITIONS
        confirm = float("inf") if screen.certainty.is_due(now) else screen.certainty.check_at
        return min(screen.pace.look_at(now) if due is None else due, screen.rotate_at, confirm)

    def _rest(self, now: float, mark: Mark | None, due: float | None) -> float | None:
        """Listen for the next change; returns when to look again if none comes."""
        self.listen()
        wait = self.source.rest(mark)
        ahead = [due, None if wait is None else now + wait]
        if self.on_phone is OnPhone.YES:
            check_at = self.screen.certainty.check_at
            ahead += [self.screen.rotate_at, check_at if now < check_at < float("inf") else None]
        return min((when for when in ahead if when is not None), default=None)

    def state_to_send(self) -> ActivityState | None:
        """Return the current state, or `None` if there is nothing to send any more."""
        has_ended = self.end_delivery is not None or self.has_ended
        if has_ended or self._job is not None or (self.on_phone is not OnPhone.YES and self.must_wait):
            return None
        return self.source.snapshot()

    @property
    def urgency(self) -> Urgency:
        """How urgent its next request is: more while the card may be missing, or may not show what was last sent."""
        is_sure = self.on_phone is OnPhone.YES and not self.screen.certainty.is_due(self.dispatcher.clock())
        return Urgency.UPDATE if is_sure else Urgency.START

    def launch(self, state: ActivityState | None, now: float) -> None:
        """Send a state. Before iOS ends the card by itself, replace (rotate) it by a fresh one."""
        begins = self.on_phone is not OnPhone.YES
        screen = self.screen
        rotates = not begins and now >= screen.rotate_at
        confirms = begins or screen.certainty.is_due(now)
        state = screen.choose(state, now, self.source, begins=begins, rotates=rotates)
        if state is None:
            return
        screen.gives_way = False
        body = screen.body_of(state, begins=begins, rotates=rotates, confirms=confirms)
        self._sending = Sending(now, state, body, begins, rotates, confirms, Change())
        self.life = moved(self.life, Life.STARTING if begins else Life.UPDATING)
        self._arm()
        self.account.note_request(now, 1 + rotates)
        work = partial(put_state, self, self._sending, self.dispatcher.persistence)
        self._job = self.dispatcher.scheduler.send(self.dispatcher.update_workers, self, work)

    def _landed(self, now: float) -> None:
        """Handle the outcome of a request."""
        job, sending = self._job, self._sending
        self._job = self._sending = None
        if job is not None and sending is not None:
            if job.error is None:
                answer, may_be_hit = job.result
                self._answered(answer, may_be_hit, sending, now)
            else:
                self._failed(job.error, sending, now)
        if self.end_delivery is not None:
            self.dispatcher.hand_in(self.end_delivery)
        for other in (*self.older, *self.newer):
            self.dispatcher.turns.wake_both(other)
        self.dispatcher.turns.wake_recovered(self)

    def _move(self, to: Life) -> None:
        """Change `life`, unless the block is over: from then on its `EndDelivery` does that."""
        if self.life not in (Life.ENDING, Life.ENDED):
            self.life = moved(self.life, to)

    def _answered(self, answer: StreamAnswer, may_be_hit: bool, sending: Sending, now: float) -> None:
        self._failures, screen, is_over = 0, self.screen, self.end_delivery is not None
        screen.know()
        if answer.operation == "paused":
            self._paused(now)
            return
        if sending.confirms:
            screen.was_confirmed(sending, is_over=is_over)
        if sending.begins or sending.rotates or answer.operation in ("started", "rotated"):
            self._has_begun(answer, may_be_hit, sending, now)
        else:
            screen.has_changed(answer, sending, now)
        screen.check_behind(sending, now, is_over=is_over)
        if answer.warning:
            self._warned(answer.warning, now)
        if self.on_phone is not OnPhone.YES:
            self.appear()
            self.dispatcher.turns.wake_waiting(self.account)
        self._move(Life.SHOWN)
        screen.sent = sending.state
        if self.account.answered():
            self.dispatcher.turns.retry_all(self.account)
        self.dispatcher.settle(self)

    def _has_begun(self, answer: StreamAnswer, may_be_hit: bool, sending: Sending, now: float) -> None:
        """Note that the card has appeared, by this request or by an earlier one whose answer was lost."""
        is_fresh = answer.operation in ("started", "rotated")
        self.screen.count_start(answer, sending, now, is_fresh=is_fresh)
        if sending.begins:
            self._has_appeared(answer, sending, now, is_fresh=is_fresh)
            may_be_hit |= self.is_in_doubt
        if may_be_hit and self.end_delivery is not None:
            self.end_delivery.doubt()
        # If a card was there already, an older run may have ended a moment ago, and its end may still arrive. If none
        # was there although this activity had begun one, somebody else has ended it.
        is_as_expected = answer.operation == "started" and (sending.begins or sending.rotates)
        goes_on = self.screen.certainty.revives(is_revived=is_fresh and not is_as_expected)
        if (may_be_hit or not is_as_expected) and goes_on:
            self._check_after_others(now)

    def _has_appeared(self, answer: StreamAnswer, sending: Sending, now: float, *, is_fresh: bool) -> None:
        """Note since when the card is there, and look later whether an older run has ended it."""
        begun_at = self.screen.lost_starts.begun_at
        if not is_fresh and begun_at is not None:
            self.screen.pace.started = begun_at
        self.took_over_at = float("-inf") if answer.operation == "started" else now
        self.dispatcher.look_after(Aftermath(self, sending.at if begun_at is None else begun_at))

    def _check_after_others(self, now: float) -> None:
        """Have the card confirmed when no request of an older run can arrive any more."""
        certainty = self.screen.certainty
        certainty.may_have_ended |= self.end_delivery is None  # else its own end has ended it
        attempt_seconds = self.dispatcher.runtime.attempt_seconds
        certainty.check(landed_by(now, attempt_seconds))
        certainty.hit_until = through_by(now, attempt_seconds)

    def _warned(self, warning: str, now: float) -> None:
        """Heed the service's warning of too many updates."""
        if self.screen.pace.budget.by(0.0) <= DEFAULT_BUDGET.free:  # else the user has allowed more
            self.screen.pace.warned(now)
        self.dispatcher.runtime.warn_once(
            "warning", "ActivitySmith warns about updates of %s: %s", self.stream_key, warning
        )

    def _paused(self, now: float) -> None:
        """Note that the user has paused the stream: until it is resumed there is no card, and no updates to count."""
        self.dispatcher.runtime.warn_once(
            "paused", "the stream %s is paused in ActivitySmith: its card is not shown", self.stream_key
        )
        self.on_phone = OnPhone.NO
        self.screen.clear()
        self._retry_at = now + PAUSED_RETRY
        self._move(Life.WAITING)
        if self.account.release(self):
            self.dispatcher.turns.wake_waiting(self.account)
        if self.account.answered():
            self.dispatcher.turns.retry_all(self.account)
        self.dispatcher.settle(self)

    def appear(self) -> None:
        """Note that the phone shows this card, which replaces an older run's: that run's end need not be repeated."""
        self.on_phone = OnPhone.YES
        self.account.has_slot(self)
        for older in self.older:
            older.is_replaced = True
            if older.end_delivery is not None:
                self.dispatcher.scheduler.wake(older.end_delivery)

    def may_be_ended_until(self, until: float, now: float) -> None:
        """Have the card confirmed, since an older run has sent its end after this card had appeared.

        Args:
            until: when that end can arrive at the latest, on the runtime's clock.
            now: the time now, on the same clock.
        """
        if self.end_delivery is not None:
            if not self.end_delivery.repeats:  # an end that is repeated has looked into the outbox itself
                self.end_delivery.doubt()
        elif self.on_phone is OnPhone.YES:
            certainty = self.screen.certainty
            certainty.may_have_ended = True
            certainty.hit_until = max(certainty.hit_until, until)
            certainty.check(now)
            self.dispatcher.scheduler.wake(self)

    @property
    def is_in_doubt(self) -> bool:
        """True while a request may still arrive that an earlier process sent, and that this one does not know of.

        If a watchdog guards this run, one has guarded the earlier runs too, and a watchdog takes a moment to end the
        cards of a job that was killed.
        """
        if self._is_in_doubt or self.dispatcher.clock() >= self.dispatcher.begun_at + YOUNG_SECONDS:
            return self._is_in_doubt
        return self.source.crash_state() is not None if self.is_armed is None else self.is_armed

    def doubt(self) -> None:
        """Note that a request of an earlier process may still arrive and overwrite this card."""
        self._is_in_doubt = True

    def _failed(self, error: Exception, sending: Sending, now: float) -> None:
        if isinstance(error, EndUnderWay):
            self.account.forget_requests(1)
            self._retry_at = now + error.seconds
            self._is_in_doubt = True
            self._move(self._life_between_requests)
            return
        self._failures += 1
        self.dispatcher.runtime.tell_failure("an update", error)
        self._note_failure(error, sending, now)
        if self.account.failed(error, now):
            self.dispatcher.turns.retry_all(self.account)
        again = self._again_at(error, now)
        if again is None and sending.change.is_begun:
            again = now + ROTATION_RETRY
        elif again is None and sending.rotates:  # until then the old card is updated
            again, self.screen.stays_until = now, now + ROTATION_RETRY
        if again is not None:
            self._retry_at = again
            self._move(self._life_between_requests)
        elif self._is_missing(error, sending):
            self._move(Life.SHOWN)
            self.screen.certainty.miss(now)
        elif self.on_phone is OnPhone.YES:
            self._move(Life.SHOWN)
            if self.screen.refuse(error, sending, now + REFUSAL_RETRY):
                self._retry_at = now + REFUSAL_RETRY
            self.dispatcher.settle(self)
        else:
            self._refuse()
            self.dispatcher.settle(self)

    def _note_failure(self, error: Exception, sending: Sending, now: float) -> None:
        """Note what may be on the screen after a request that failed."""
        screen, may_have_arrived = self.screen, retry.may_have_arrived(error)
        if sending.change.is_begun:
            self.on_phone, screen.unknown, screen.lost_starts.is_own = OnPhone.NO, None, True
        elif sending.rotates and may_have_arrived:
            screen.certainty.may_have_ended = True
        if isinstance(error, BadRequest):
            screen.unknown = None  # a state that was refused is not what is shown
        elif isinstance(error, ServerError) and not error.foreign:
            # The service may fail on just this state, so that a newer one is tried, but less and less often: each may
            # count as an update.
            screen.gives_way = self._failures >= 4 and self._failures & (self._failures - 1) == 0
        if may_have_arrived:
            self._count(sending, now, may_be_late=retry.may_arrive_late(error))

    def _count(self, sending: Sending, now: float, *, may_be_late: bool) -> None:
        """Note a request that failed, but that the service may have carried out all the same."""
        if may_be_late and sending.rotates:
            self.unanswered.note(None, now)
        if self.on_phone is OnPhone.YES:
            self.screen.count_unknown(sending, now, may_be_late=may_be_late)
            return
        if may_be_late:
            self.unanswered.note(sending.body, now)
        begun_at = now - self.dispatcher.runtime.attempt_seconds
        self.screen.lost_starts.note(sending.state, begun_at, is_first=self.on_phone is OnPhone.NO)
        if self.on_phone is OnPhone.NO:
            self.on_phone = OnPhone.MAYBE

    def _refuse(self) -> None:
        """Note that the service will not show the card. If it may be there all the same, its end is still sent."""
        self.screen.certainty.settle()
        self._move(Life.REFUSED)
        if self.end_delivery is not None:
            self.end_delivery.refuse()
        elif self.on_phone is OnPhone.NO:
            self._arm(is_refused=True)
            self.dispatcher.turns.release(self)
        elif self.account.release(self):  # the card may be on the screen, so its end must still be sent
            self.dispatcher.turns.wake_waiting(self.account)
        self.dispatcher.look_for_owed(self.account, again=True)  # for the older run's end, which may go now
        self.screen.sent = None

    def _is_missing(self, error: Exception, sending: Sending) -> bool:
        """Tell whether an update may have been refused because the card is gone: then the card is begun anew."""
        opens = self.screen.body_of(sending.state, begins=False, rotates=True, confirms=True)
        return isinstance(error, BadRequest) and self.on_phone is OnPhone.YES and sending.body != opens

    @property
    def _life_between_requests(self) -> Life:
        return Life.SHOWN if self.on_phone is OnPhone.YES else Life.WAITING

    def _again_at(self, error: Exception, now: float) -> float | None:
        """Return when to try again after a request failed, with the state of that time; `None` for never."""
        if isinstance(error, ActivityLimitReached):
            if self.on_phone is OnPhone.MAYBE and now >= self.unanswered.may_appear_until():
                self.on_phone = OnPhone.NO  # on a card that is there the request would have been an update
                self.screen.lost_starts.lapse()
            self.dispatcher.look_for_owed(self.account, again=True)  # for an older run's end, which needs no slot
            return self.account.slots_full(self, now, error.limit)
        if isinstance(error, TooManyRequests):
            return self.account.rate_limited(now, error)
        if isinstance(error, NoRecipients):
            if self.account.release(self):
                self.dispatcher.turns.wake_waiting(self.account)
            return now + RECIPIENT_RETRY
        return now + self.dispatcher.runtime.backoff(self._failures) if retry.is_transient(error) else None

    def forget_handle(self) -> None:
        """Drop the reference to the user's handle."""
        self.source = NOTHING
