"""One activity: its mailbox, of which only the latest state ever travels, and which of several goes first."""

from __future__ import annotations

import contextlib
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from .._pacing import DEFAULT_BUDGET, Pacer, Range
from ..client import retry
from ..client.requests import end_stream_request, stream_request
from ..errors import ActivityLimitReached, BadRequest, NoRecipients, NotFound, ServerError, TooManyRequests
from .account import Urgency
from .aftermath import Aftermath
from .bodies import opens_anew, without_alert, without_opening
from .end_delivery import EndDelivery
from .older_ends import EndUnderWay, in_place_of_older
from .state import NOTHING, ActivityState, Attention, EndState, Life, Mark, OnPhone, StateProvider, moved
from .unanswered import landed_by, through_by

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from .._pacing import Budget
    from ..client.answers import StreamAnswer
    from .account import Account
    from .dispatcher import Dispatcher
    from .persistence import Persistence
    from .scheduler import Job
    from .unanswered import Unanswered

RECIPIENT_RETRY = 300.0  # seconds until a start that nobody would have received is tried again
REFUSAL_RETRY = 300.0  # until a state is tried again that the service refused to show
AS_IT_WAS_SECONDS = 30.0  # in which a start without an answer goes once more as it was
ROTATION_RETRY = 300.0  # until a card that the service refused to change for a fresh one is tried again
PAUSED_RETRY = 300.0  # until it is looked whether a paused stream has been resumed
MOST_REVIVED = 3  # times in a row that a card is made sure of that somebody else goes on to end
YOUNG_SECONDS = 30.0  # of a process, in which the watchdog of an earlier one may still end that one's cards


class _Change:
    """A change of a card for a fresh one: whether the old one has gone. The worker's while it is on its way."""

    __slots__ = ("is_begun",)

    def __init__(self) -> None:
        self.is_begun = False


class _Sending(NamedTuple):
    """A request on its way.

    Attributes:
        at: when it was sent, on the runtime's clock.
        state: what it shows.
        body: what was sent of that.
        begins: whether the card appears by it.
        rotates: whether the card takes the place of an older one of this activity.
        confirms: whether it makes sure that nothing else has changed the card.
        change: how far a change of the card for a fresh one is.
    """

    at: float
    state: ActivityState
    body: Mapping[str, Any]
    begins: bool
    rotates: bool
    confirms: bool
    change: _Change


class Activity:
    """One activity's mailbox: the task of the scheduler that has its latest state sent.

    Attributes:
        life: where it is in its life.
        on_phone: whether the phone shows it, as far as is known.
        sent: what it shows.
        attention: what change of the handle has it looked at.
        is_armed: whether a watchdog knows of it; `None` before that was asked.
        began_at: seconds since the epoch.
        may_have_ended: whether something of an earlier process may have ended its card, which is made sure of later.
        is_replaced: whether a newer run has taken its place on the screen.
        predecessor: the next older one under the same stream key that is not through.
        successor: the next newer one.
        took_over_at: when it began on a card that was there: of an older run, or of a newer one in another process.
    """

    __slots__ = (
        "_began_with",
        "_confirm_at",
        "_epoch",
        "_failures",
        "_gives_way",
        "_hit_until",
        "_is_in_doubt",
        "_is_own",
        "_job",
        "_looked",
        "_lost_starts",
        "_may_have_begun_at",
        "_ranges",
        "_refused",
        "_refused_until",
        "_retry_at",
        "_revived",
        "_sending",
        "_stays_until",
        "_unknown",
        "_visible_at",
        "account",
        "attention",
        "began_at",
        "dispatcher",
        "end_delivery",
        "is_armed",
        "is_replaced",
        "life",
        "may_have_ended",
        "number",
        "on_phone",
        "pace",
        "predecessor",
        "sent",
        "source",
        "stream_key",
        "successor",
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
        self.dispatcher, self.account, self.stream_key, self.source = dispatcher, account, stream_key, source
        self.pace = Pacer(reserve, budget)
        self.life, self.on_phone, self.attention = Life.WAITING, OnPhone.NO, Attention.ANY
        self.sent: ActivityState | None = None
        self.end_delivery: EndDelivery | None = None
        self.predecessor: Activity | None = None
        self.successor: Activity | None = None
        self.is_replaced = False
        self.number = next(dispatcher.order)
        self.began_at = dispatcher.runtime.wall()
        self.is_armed: bool | None = None
        self._epoch = dispatcher.epoch
        self._visible_at = visible_at  # a delay keeps it off the screen until then
        self._retry_at = 0.0  # when a request that failed is tried again
        self._confirm_at = float("inf")  # when to make sure that nothing of an earlier process has overwritten it
        self._may_have_begun_at: float | None = None  # by a start of which nobody knows whether it was carried out
        self.may_have_ended = False
        self._is_in_doubt = False  # an earlier process may yet have something on its way
        self._looked: Mark | None = None
        self._ranges: dict[str, Range] | None = None  # of the numbers on it
        self._unknown: ActivityState | None = None  # sent last, and nobody knows whether it is shown
        self._gives_way = False  # that to a newer one, since the service seems to be unable to take it
        self._refused: ActivityState | None = None  # by the service
        self._refused_until = 0.0  # when that is tried again
        self._stays_until = 0.0  # since the service refused to end it for a fresh one
        self._is_own = False  # what may be on the screen can be no older run's card
        self._began_with: ActivityState | None = None  # by the first start of which nobody knows
        self._lost_starts = 0  # of which nobody knows
        self._sending: _Sending | None = None
        self._job: Job | None = None
        self._failures = 0
        self._revived = 0  # how many times in a row somebody else had ended the card
        self._hit_until = 0.0  # until when something of an earlier process may come that was given up there
        self.took_over_at = float("-inf")

    @property
    def is_inherited(self) -> bool:
        """True in a forked child, for an activity that is its parent's."""
        return self._epoch != self.dispatcher.epoch

    @property
    def is_delayed(self) -> bool:
        """True while a delay keeps it off the screen."""
        return self.dispatcher.clock() < self._visible_at

    @property
    def unanswered(self) -> Unanswered:
        """What was given up under its stream key, by whatever run."""
        return self.account.unanswered(self.stream_key, self.dispatcher.clock())

    @property
    def is_in_flight(self) -> bool:
        """True while a request that shows it is on its way."""
        return self._sending is not None

    @property
    def has_ended(self) -> bool:
        """True when nothing more will be sent of it."""
        return self.life is Life.ENDED

    @property
    def must_wait(self) -> bool:
        """True while the end of an older run has not arrived, which would end this one's card."""
        recovered = self.account.recovered.get(self.stream_key)
        return self.is_preceded or (recovered is not None and recovered.is_in_flight)

    @property
    def is_preceded(self) -> bool:
        """True while the end of an older run in this process has yet to arrive, or is on its way once more."""
        for older in self.older:
            end = older.end_delivery
            if older.is_in_flight or end is None or end.is_in_flight or not end.repeats:
                return True
        return False

    @property
    def older(self) -> Iterator[Activity]:
        """Those of older runs under the same stream key that are not through, the newest first."""
        older = self.predecessor
        while older is not None:
            yield older
            older = older.predecessor

    @property
    def newer(self) -> Iterator[Activity]:
        """Those of newer runs under the same stream key that are not through, the oldest first."""
        newer = self.successor
        while newer is not None:
            yield newer
            newer = newer.successor

    @property
    def _rotate_at(self) -> float:
        """When the card is changed for a fresh one."""
        return max(self.pace.rotate_at, self._stays_until)

    @property
    def may_be_seen(self) -> bool:
        """True where it may be on the screen by now, by a state or by an end that has it appear."""
        end = self.end_delivery
        return self.on_phone is not OnPhone.NO or self.is_in_flight or (end is not None and end.is_in_flight)

    @property
    def is_succeeded(self) -> bool:
        """True where a newer run has the card, or is about to."""
        return self.is_replaced or any(each.may_be_seen for each in self.newer)

    def unlink(self) -> None:
        """Leave the row of those under the same stream key; the dispatcher's lock is held."""
        older, newer = self.predecessor, self.successor
        if newer is not None:
            newer.predecessor = older
        if older is not None:
            older.successor = newer
        if self.account.activities.get(self.stream_key) is self:
            if older is None:
                del self.account.activities[self.stream_key]
            else:
                self.account.activities[self.stream_key] = older
        self.predecessor = self.successor = None

    # -- the user's side: never blocks

    def wake(self, *, transition: bool = False) -> None:
        """Have the state looked at; until that could change anything, once is enough."""
        attention = self.attention
        if attention is Attention.ANY or (transition and attention is Attention.TRANSITIONS):
            self.attention = Attention.NONE
            self.dispatcher.hand_in(self)

    def end(self, state: EndState) -> None:
        """Hand in the last state, once; states after it are no longer sent."""
        end = EndDelivery(self, state)
        if self.dispatcher.takes(end):
            self.dispatcher.hand_in(end)

    # -- the scheduler's side

    def listen(self) -> None:
        """Have the next change looked at."""
        self.attention = Attention.ANY

    def run(self, now: float) -> float | None:
        """Have the latest state sent if pacing, slots and rate allow; see `Task.run`."""
        self.attention = Attention.NONE  # until it listens again, lest a busy job were looked at all the time
        if self._job is not None:
            if not self._job.done:
                return None
            self._landed(now)
            self.dispatcher.send_ready(now)
        if self.end_delivery is not None or self.life in (Life.ENDED, Life.REFUSED):
            return None
        if self.is_armed is None:
            self._arm()
            self.dispatcher.look_for_owed(self.account)
        not_before = max(self._visible_at, self._retry_at)
        if now < not_before:
            return not_before
        is_shown = self.on_phone is OnPhone.YES
        if not is_shown and self.must_wait:
            return None  # woken when the older run's end is through
        if is_shown:
            return self._wait(now)
        if self.source.snapshot() is None:
            self.listen()
            if self.source.snapshot() is None:  # it may have had the first thing to show meanwhile
                return self._rest(now, None, None)
        self.dispatcher.owe(self)
        if self.account.take_slot(self, now):
            self.dispatcher.make_ready(self, now)
            return None
        return self.account.slots_open_at(now)  # else woken by the one that gives a slot back

    def _arm(self, *, is_refused: bool = False) -> None:
        """Tell the watchdog, where there is one, what to say if the process dies; of a refused card a push alone."""
        crash_state = self.source.crash_state()
        self.is_armed = crash_state is not None
        if crash_state is None:
            return
        if is_refused:
            crash_state = {}, crash_state[1]
        older = self.predecessor if self.on_phone is OnPhone.NO and self._sending is None else None
        if older is not None and older.end_delivery is not None and not older.has_ended:
            # what is on the screen is the older run's
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
        due = self._update_at(now, mark)
        if due is not None and due <= now:
            self.dispatcher.make_ready(self, now)
            return None
        looked, self._looked = self._looked, mark
        again = self._rest(now, mark, due) if looked in (None, mark) else self._busy(now, mark, due)
        if self.attention is not Attention.NONE and self.source.transitions() != mark.transitions:
            return now  # it came before this activity listened again
        return again

    def _busy(self, now: float, mark: Mark, due: float | None) -> float:
        """Return when to look again at a job that moves; until then its changes wake nobody, transitions excepted."""
        is_behind = self.sent is not None and mark.transitions != self.sent.mark.transitions
        self.attention = Attention.NONE if is_behind else Attention.TRANSITIONS
        confirm = self._confirm_at if self._confirm_at > now else float("inf")
        return min(self.pace.look_at(now) if due is None else due, self._rotate_at, confirm)

    def _rest(self, now: float, mark: Mark | None, due: float | None) -> float | None:
        """Have the next change looked at; returns when to look again without one."""
        self.listen()
        wait = self.source.rest(mark)
        ahead = [due, None if wait is None else now + wait]
        if self.on_phone is OnPhone.YES:
            ahead += [self._rotate_at, self._confirm_at if now < self._confirm_at < float("inf") else None]
        return min((when for when in ahead if when is not None), default=None)

    def _update_at(self, now: float, mark: Mark) -> float | None:
        """Return when a state goes; `None` for not by itself. It is built where that would be now."""
        sent = self.sent
        if sent is None or now >= self._rotate_at:
            return now
        if self._unknown is not None:
            is_as_it_was = self._goes_as_it_was(now) and mark == self._unknown.mark
            return now if is_as_it_was else max(now, self.pace.transition_at())
        confirm = self._confirm_due(now)
        if confirm is not None and confirm <= now:
            return confirm
        change = self._change_at(now, mark, sent.mark)
        if change is not None and change <= now:
            state = self.source.snapshot()
            if state is None or state.body == sent.body:
                return confirm
            if self._is_refused(state, now):
                change = self._refused_until
        return min((due for due in (confirm, change) if due is not None), default=None)

    def _goes_as_it_was(self, now: float) -> bool:
        """Tell whether what was sent last, and may be shown, goes once more: it is no further update.

        What is true by then follows at once. A card that may have to begin anew is built anew.
        """
        unknown = self._unknown
        if unknown is None or self._gives_way or (self.may_have_ended and now >= self._confirm_at):
            return False
        return self.unanswered.is_free(without_opening(unknown.body))

    def _is_refused(self, state: ActivityState, now: float) -> bool:
        """Tell whether the service has refused just this, and is not asked again by now."""
        return self._refused is not None and now < self._refused_until and state.body == self._refused.body

    def _confirm_due(self, now: float) -> float | None:
        """Return when the card is shown once more to be sure of it; `None` for not by now.

        Where only an older state may have come late, that is an update, for which the budget must allow. A card that
        may have been ended begins anew.
        """
        if now < self._confirm_at:
            return None
        return now if self.may_have_ended else self.pace.transition_at()

    def _change_at(self, now: float, mark: Mark, sent: Mark) -> float | None:
        """Return when a state goes that differs from the one on the screen; `None` for not by itself."""
        if mark.transitions != sent.transitions:
            return self.pace.transition_at()
        if mark.fraction is not None and mark.fraction != sent.fraction:
            return self.pace.progress_at(now, mark.fraction)
        change = self._change(mark, sent)
        return self.pace.reading_at(change) if change else None  # what else has changed rides with the next update

    def _change(self, mark: Mark, sent: Mark) -> float:
        """Return how far the readings are from those on the screen, 0 to 1 of the range seen; 1 for another text."""
        if mark.detail != sent.detail:
            return 1.0
        changes = [0.0]
        for label, value in mark.numbers.items():
            self._ranges = self._ranges or {}
            seen = self._ranges.setdefault(label, Range())
            changes.append(seen.change(sent.numbers.get(label, value), value))
        return max(changes)

    def state_to_send(self) -> ActivityState | None:
        """Return the state of this moment, or `None` where nothing is to be sent by now."""
        has_ended = self.end_delivery is not None or self.has_ended
        if has_ended or self._job is not None or (self.on_phone is not OnPhone.YES and self.must_wait):
            return None
        return self.source.snapshot()

    @property
    def urgency(self) -> Urgency:
        """How much of the account's rate it leaves to others: less where something else may be on the screen."""
        is_sure = self.on_phone is OnPhone.YES and self.dispatcher.clock() < self._confirm_at
        return Urgency.UPDATE if is_sure else Urgency.START

    def staleness(self, state: ActivityState, now: float) -> float | None:
        """Return how wrong the screen is, 0 to 1, and more where a start or a transition is missing.

        `None` means that there is nothing to send any more.
        """
        sent = self.sent
        if sent is None or self._unknown is not None:
            return 2.0
        is_due = now >= min(self._rotate_at, self._confirm_at)
        if not is_due and (state.body == sent.body or self._is_refused(state, now)):
            return None
        if state.mark.transitions != sent.mark.transitions:
            return 2.0
        if state.mark.fraction is None or sent.mark.fraction is None:
            return self._change(state.mark, sent.mark)
        return abs(state.mark.fraction - sent.mark.fraction)

    def launch(self, state: ActivityState | None, now: float) -> None:
        """Send the state of this moment; before iOS ends the card, end it and begin it anew."""
        is_shown = self.on_phone is OnPhone.YES
        rotates = is_shown and now >= self._rotate_at
        confirms = not is_shown or now >= self._confirm_at
        sent = self.sent if is_shown and not rotates and now < self.pace.transition_at() else None
        if self._unknown is not None and not rotates and self._goes_as_it_was(now):
            state = self._unknown
        elif not is_shown and self._begins_as_it_did(now):
            state = self._began_with
        elif confirms and sent is not None and "duration_seconds" not in sent.body["content_state"]:
            state = sent  # which is no update where it still stands there
        elif rotates or not is_shown or (confirms and self.may_have_ended):
            self.sent = self.sent if is_shown and not rotates else None
            self.source.opening()
            state = self.source.snapshot()  # what a card opens with
        if state is None:
            return
        self._gives_way = False
        body, change = self._body_of(state, is_shown, rotates, confirms), _Change()
        self._sending = _Sending(now, state, body, not is_shown, rotates, confirms, change)
        self.life = moved(self.life, Life.UPDATING if is_shown else Life.STARTING)
        self._arm()
        self.account.note_request(now, 1 + rotates)
        persistence = self.dispatcher.persistence if confirms else None
        replaces = change if rotates else None
        work = partial(_put_state, self.account, self.stream_key, body, replaces=replaces, persistence=persistence)
        self._job = self.dispatcher.scheduler.send(self.dispatcher.update_workers, self, work)

    def _begins_as_it_did(self, now: float) -> bool:
        """Tell whether a start of which nobody knows whether it was carried out goes once more as it was.

        So its answer tells whose card is there; what is true by then follows at once.
        """
        begun, before = self._may_have_begun_at, self._began_with
        if begun is None or before is None or self.on_phone is not OnPhone.MAYBE or opens_anew(before.body):
            return False
        return now < begun + AS_IT_WAS_SECONDS

    def _body_of(self, state: ActivityState, is_shown: bool, rotates: bool, confirms: bool) -> Mapping[str, Any]:
        """Return what is sent of a state: all of it where the card begins, or may have to begin anew."""
        if not is_shown and not self._is_own:
            return state.body
        if not is_shown or rotates or (confirms and self.may_have_ended):
            return without_alert(state.body)  # the one before has rung
        return without_opening(state.body)

    def _landed(self, now: float) -> None:
        """Take what came of a request."""
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
            self.dispatcher.wake_both(other)
        self.dispatcher.wake_recovered(self)

    def _move(self, to: Life) -> None:
        """Go on in life, unless the block is over and its end decides."""
        if self.life not in (Life.ENDING, Life.ENDED):
            self.life = moved(self.life, to)

    def _answered(self, answer: StreamAnswer, may_be_hit: bool, sending: _Sending, now: float) -> None:
        self._failures, self._unknown, self._refused = 0, None, None
        if answer.operation == "paused":
            self._paused(now)
            return
        unanswered, fraction = self.unanswered, sending.state.mark.fraction
        if sending.confirms:
            self._confirm_at, self.may_have_ended = float("inf"), False
            if sending.at < self._hit_until and self.end_delivery is None:
                self.may_have_ended = True
                self._confirm(self._hit_until)
        is_fresh = answer.operation in ("started", "rotated")
        if is_fresh or sending.begins or sending.rotates:
            is_own = self._is_own or (answer.operation == "noop" and self._lost_starts > 0)
            self.pace.start(now, fraction, fresh=is_fresh or is_own)
            lost = max(0, self._lost_starts - 1) if is_own else 0  # each of which may have changed it
            updates = lost + (is_own and answer.operation == "updated")
            self.pace.sent(now, fraction, updates=updates + unanswered.began(sending.body, sending.at))
            self._is_own, self._lost_starts, self._began_with = False, 0, None
            # Where there was a card before this, an older run of it may have ended a moment ago; where there was none
            # although this one had begun, something has ended it.
            is_as_expected = answer.operation == "started" and (sending.begins or sending.rotates)
            if not is_fresh and sending.begins and self._may_have_begun_at is not None:
                self.pace.started = self._may_have_begun_at
            may_be_hit = may_be_hit or (sending.begins and self.is_in_doubt)
            if may_be_hit and self.end_delivery is not None:
                self.end_delivery.doubt()
            if sending.begins:
                self.took_over_at = float("-inf") if answer.operation == "started" else now
                since = sending.at if self._may_have_begun_at is None else self._may_have_begun_at
                self.dispatcher.look_after(Aftermath(self, since))
            self._revived = 0 if is_as_expected or not is_fresh else self._revived + 1
            if (may_be_hit or not is_as_expected) and self._revived <= MOST_REVIVED:
                self.may_have_ended |= self.end_delivery is None  # else it was this one's own end
                attempt_seconds = self.dispatcher.runtime.attempt_seconds
                self._confirm(landed_by(now, attempt_seconds))
                self._hit_until = through_by(now, attempt_seconds)
        else:
            self._revived = 0
            before = self.sent
            is_transition = before is not None and before.mark.transitions != sending.state.mark.transitions
            updates = unanswered.answered(sending.body, sending.at, changed=answer.operation != "noop")
            self.pace.sent(now, fraction, transition=is_transition, updates=updates)
        self.pace.withhold(*unanswered.kept)
        late = unanswered.may_change_until
        if sending.at < late:
            self._confirm(max(now, late))
            self.may_have_ended |= sending.at < unanswered.may_end_until and self.end_delivery is None
        if answer.warning:
            if self.pace.budget.by(0.0) <= DEFAULT_BUDGET.free:  # else the user knows of a larger one
                self.pace.warned(now)
            self.dispatcher.runtime.warn_once(
                "warning", "ActivitySmith warns about updates of %s: %s", self.stream_key, answer.warning
            )
        if self.on_phone is not OnPhone.YES:
            self.appear()
            self.dispatcher.wake_waiting(self.account)
        self._move(Life.SHOWN)
        self.sent = sending.state
        if self.account.answered():
            self.dispatcher.retry_all(self.account)
        self.dispatcher.settle(self)

    def _paused(self, now: float) -> None:
        """Note that the user has paused the stream: there is no card until it is resumed, and none counts updates."""
        self.dispatcher.runtime.warn_once(
            "paused", "the stream %s is paused in ActivitySmith: its card is not shown", self.stream_key
        )
        self.on_phone, self.sent = OnPhone.NO, None
        self._confirm_at, self.may_have_ended = float("inf"), False
        self._is_own, self._lost_starts, self._began_with = False, 0, None
        self._retry_at = now + PAUSED_RETRY
        self._move(Life.WAITING)
        if self.account.release(self):
            self.dispatcher.wake_waiting(self.account)
        if self.account.answered():
            self.dispatcher.retry_all(self.account)
        self.dispatcher.settle(self)

    def appear(self) -> None:
        """Note that the phone shows it: what an older run's end would do once more is done by that."""
        self.on_phone = OnPhone.YES
        self.account.has_slot(self)
        for older in self.older:
            older.is_replaced = True
            if older.end_delivery is not None:
                self.dispatcher.scheduler.wake(older.end_delivery)

    def may_be_ended_until(self, until: float, now: float) -> None:
        """Make sure of the card: an older run's end was sent since it is there, and may come until then."""
        if self.end_delivery is not None:
            self.end_delivery.doubt()
        elif self.on_phone is OnPhone.YES:
            self.may_have_ended = True
            self._hit_until = max(self._hit_until, until)
            self._confirm(now)
            self.dispatcher.scheduler.wake(self)

    def _confirm(self, when: float) -> None:
        """Have the card shown once more then, after all that may change it."""
        self._confirm_at = when if self._confirm_at == float("inf") else max(when, self._confirm_at)

    @property
    def is_in_doubt(self) -> bool:
        """True while an earlier process may have something on its way that nobody here knows of.

        Where this one is watched an earlier one was, and a watchdog takes a moment to say that its job was killed.
        """
        if self._is_in_doubt or self.dispatcher.clock() >= self.dispatcher.begun_at + YOUNG_SECONDS:
            return self._is_in_doubt
        return self.source.crash_state() is not None if self.is_armed is None else self.is_armed

    def doubt(self) -> None:
        """Note that an earlier process may have something on its way that would overwrite this."""
        self._is_in_doubt = True

    def _failed(self, error: Exception, sending: _Sending, now: float) -> None:
        if isinstance(error, EndUnderWay):
            self.account.forget_requests(1)
            self._retry_at = now + error.seconds
            self._is_in_doubt = True
            self._move(self._life_between_requests)
            return
        self._failures += 1
        self.dispatcher.tell_failure("an update", error)
        if sending.change.is_begun:
            self.on_phone, self._unknown, self._is_own = OnPhone.NO, None, True
        elif sending.rotates and retry.may_have_arrived(error):
            self.may_have_ended = True
        if isinstance(error, BadRequest):
            self._unknown = None  # it cannot be what is shown
        elif isinstance(error, ServerError) and not error.foreign:
            # The service may be unable to take just this; fewer and fewer others are tried, since each may count.
            self._gives_way = self._failures >= 4 and self._failures & (self._failures - 1) == 0
        if retry.may_have_arrived(error):
            self._count(sending, now, may_be_late=retry.may_arrive_late(error))
        if self.account.failed(error, now):
            self.dispatcher.retry_all(self.account)
        again = self._again_at(error, now)
        if again is None and sending.change.is_begun:
            again = now + ROTATION_RETRY
        elif again is None and sending.rotates:  # until then the old card goes on
            again, self._stays_until = now, now + ROTATION_RETRY
        if again is not None:
            self._retry_at = again
            self._move(self._life_between_requests)
            return
        if self._is_missing(error, sending):
            self._move(Life.SHOWN)
            self.may_have_ended = True
            self._confirm(now)
            return
        if self.on_phone is OnPhone.YES:
            self._move(Life.SHOWN)
            self._note_refusal(error, sending, now)
        else:
            self._confirm_at, self.may_have_ended = float("inf"), False
            self._move(Life.REFUSED)
            if self.end_delivery is not None:
                self.end_delivery.refuse()
            elif self.on_phone is OnPhone.NO:
                self._arm(is_refused=True)
                self.dispatcher.release(self)
            elif self.account.release(self):  # it may be on the screen, so that its end must be sent
                self.dispatcher.wake_waiting(self.account)
            self.dispatcher.look_for_owed(self.account, again=True)  # the older run's end, which this was to replace
            self.sent = None
        self.dispatcher.settle(self)

    def _note_refusal(self, error: Exception, sending: _Sending, now: float) -> None:
        """Note that the service would not show a state on a card that is there: it is asked again after a while."""
        again = now + REFUSAL_RETRY
        self._refused, self._refused_until = sending.state, again
        if isinstance(error, BadRequest):
            self._confirm_at, self.may_have_ended = float("inf"), False  # as little as this can be confirmed
        elif sending.confirms:
            self._confirm_at = again
        if self.sent is None or self._unknown is not None:
            self._retry_at = again

    def _count(self, sending: _Sending, now: float, *, may_be_late: bool) -> None:
        """Note a request that may have been carried out, although nobody knows what is shown."""
        unanswered = self.unanswered
        if may_be_late and sending.rotates:
            unanswered.note(None, now)
        if self.on_phone is OnPhone.YES:
            updates = unanswered.failed(sending.body, sending.at, now, may_be_late=may_be_late)
            self.pace.sent(now, self.pace.shown, updates=updates)
            self.pace.withhold(*unanswered.kept)
            self._unknown = None if sending.rotates else sending.state
            return
        if may_be_late:
            unanswered.note(sending.body, now)
        self._lost_starts += 1
        if self.on_phone is OnPhone.NO:
            self.on_phone, self._began_with = OnPhone.MAYBE, sending.state
            self._may_have_begun_at = now - self.dispatcher.runtime.attempt_seconds

    def _is_missing(self, error: Exception, sending: _Sending) -> bool:
        """Tell whether a card was refused what changes it because it is not there: what begins one is tried then."""
        opens = self._body_of(sending.state, is_shown=True, rotates=True, confirms=True)
        return isinstance(error, BadRequest) and self.on_phone is OnPhone.YES and sending.body != opens

    @property
    def _life_between_requests(self) -> Life:
        return Life.SHOWN if self.on_phone is OnPhone.YES else Life.WAITING

    def _again_at(self, error: Exception, now: float) -> float | None:
        """Return when a request that failed is tried again, with what is true by then; `None` for never."""
        if isinstance(error, ActivityLimitReached):
            if self.on_phone is OnPhone.MAYBE and now >= self.unanswered.may_appear_until():
                self.on_phone, self._lost_starts = OnPhone.NO, 0  # else this had been an update
            self.dispatcher.look_for_owed(self.account, again=True)  # an older run's end need not wait for that
            return self.account.slots_full(self, now, error.limit)
        if isinstance(error, TooManyRequests):
            return self.account.rate_limited(now, error)
        if isinstance(error, NoRecipients):
            if self.account.release(self):
                self.dispatcher.wake_waiting(self.account)
            return now + RECIPIENT_RETRY
        return now + self.dispatcher.runtime.backoff(self._failures) if retry.is_transient(error) else None

    def forget_handle(self) -> None:
        """Keep the user's handle alive no more."""
        self.source = NOTHING


class UpdateQueue:
    """The task that sends what is ready: where not all of it may go, what is most wrong on the screen first."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher
        self._ready: dict[Activity, None] = {}

    def add(self, activity: Activity) -> None:
        """Have an activity's state sent as soon as it may go."""
        self._ready[activity] = None

    def run(self, now: float) -> float | None:
        """Send what may go; returns when the account lets the next one through."""
        if not self._dispatcher.update_workers.free:
            return None  # woken when a request has landed
        later: float | None = None
        for activity, state in self._by_staleness(now):
            open_at = activity.account.open_at(now, activity.urgency)
            if open_at > now:
                later = open_at if later is None else min(later, open_at)
            elif self._dispatcher.update_workers.free:
                del self._ready[activity]
                activity.launch(state, now)
        return later

    def _by_staleness(self, now: float) -> list[tuple[Activity, ActivityState]]:
        """Return what is ready, with its state, what is most wrong on the screen first."""
        found: list[tuple[float, Activity, ActivityState]] = []
        for activity in list(self._ready):
            state = activity.state_to_send()
            stale = None if state is None else activity.staleness(state, now)
            if state is None or stale is None:
                del self._ready[activity]
                self._dispatcher.scheduler.schedule(activity, now)  # it listens again
            else:
                found.append((stale, activity, state))
        found.sort(key=lambda each: -each[0])
        return [(activity, state) for _, activity, state in found]

    def give_up(self) -> None:
        """Forget what was ready; each activity is looked at again with its next change."""
        for activity in self._ready:
            activity.listen()
        self._ready.clear()


def _put_state(
    account: Account,
    stream_key: str,
    body: Mapping[str, Any],
    *,
    replaces: _Change | None,
    persistence: Persistence | None,
) -> tuple[StreamAnswer, bool]:
    """Show a state, on a fresh card if the one on the screen is to go: the work of a job.

    Returns:
        The answer, and whether something of an older run may yet reach the card.
    """
    if persistence is None:
        _take_down(account, stream_key, body, replaces)
        return account.perform([stream_request(stream_key, None, body)]), False
    with in_place_of_older(persistence, account.key, stream_key) as older:
        _take_down(account, stream_key, body, replaces)
        answer: StreamAnswer = account.perform([stream_request(stream_key, None, body)])
    return answer, older.may_hit


def _take_down(account: Account, stream_key: str, body: Mapping[str, Any], replaces: _Change | None) -> None:
    """End the card that is to go for a fresh one, if there is one."""
    if replaces is None:
        return
    content = {**body["content_state"], "auto_dismiss_seconds": 0}
    content.pop("duration_seconds", None)
    with contextlib.suppress(NotFound):
        account.perform([end_stream_request(stream_key, None, {"content_state": content})])
    replaces.is_begun = True
