"""The end of an activity: when it goes, and what follows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..client import retry
from ..errors import NotFound
from .deliveries import Delivery
from .end_message import EndAttempt, EndMessage
from .state import CopyOwner, Life, OnPhone, Stage, moved

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .run import Run
    from .state import EndState

OVERTAKE_SECONDS = 1.0  # seconds that an end waits for an update of its own activity that is in flight
PROMPT_FAILURES = 2  # the failures that the backoff assumes for an end that a newer run waits for


class EndDelivery(Delivery):
    """The delivery of an activity's end: a task of its own, so that no update holds it up."""

    __slots__ = ("activity",)

    message: EndMessage

    def __init__(self, activity: Run, state: EndState) -> None:
        super().__init__(activity.dispatcher, EndMessage(activity, state))
        self.activity = activity

    def replace(self, state: EndState) -> None:
        """Put another end in the place of one that is still held back."""
        self.message.state = state
        self.dispatcher.hand_in(self)

    @property
    def body(self) -> Mapping[str, Any]:
        """The body of the last request."""
        return self.message.state.body

    @property
    def last_state(self) -> Mapping[str, Any] | None:
        """What it shows on a card that stays up; `None` where it ends the card."""
        return self.message.last_state

    def doubt(self) -> None:
        """Note that an older run may yet end the card, or has ended it."""
        self.message.past.older_may_end = True

    @property
    def repeats(self) -> bool:
        """True where it has arrived and is sent once more, so that a newer run need not wait for it."""
        return self.message.repeats_at is not None

    # -- when it goes

    def _next(self, now: float) -> float | None:
        activity, message = self.activity, self.message
        if activity.has_ended:
            self.dispatcher.task_done(self)
            return None
        if activity.life is not Life.ENDING:
            activity.life = moved(activity.life, Life.ENDING)
        message.arm()
        if now < message.state.not_before and not self.dispatcher.departure.draining:
            return message.state.not_before
        message.move(Stage.OWED)
        if activity.succession.must_wait(opens=activity.on_phone is OnPhone.NO and not activity.is_refused):
            return self._wait_for_others(now)
        if now < self._overtakes_at:
            return self._overtakes_at
        if message.repeats_at is not None:
            if activity.succession.is_replaced:
                return self._withdraw()
            if activity.succession.is_succeeded:
                return None  # woken when the newer run is on the screen, or has come to nothing
            repeats_at = max(message.repeats_at, message.may_appear_until)
            if now < repeats_at:
                return self._rest(now, repeats_at)
        return self._try(now)

    @property
    def _overtakes_at(self) -> float:
        """From when it is sent although a request of its activity is still in flight, if one is.

        An end that arrives before the start would find nothing to end, so it waits until the start must be over,
        unless the exit has begun.
        """
        if not self.activity.is_in_flight:
            return self.message.asked_at
        is_soon = self.activity.on_phone is OnPhone.YES or self.dispatcher.departure.draining
        return self.message.asked_at + (OVERTAKE_SECONDS if is_soon else self.dispatcher.runtime.attempt_seconds)

    def _try(self, now: float) -> float | None:
        """Send it, after its card if that is to appear first; or wait for a slot, or for the rate."""
        activity, message = self.activity, self.message
        message.past.older_may_end |= activity.screen.certainty.may_have_ended
        activity.screen.certainty.may_have_ended = False  # this attempt sees to that
        can_open = activity.on_phone is not OnPhone.YES and not activity.is_in_flight
        opens = can_open and message.is_worth_showing and self.account.take_slot(activity, now)
        if activity.on_phone is OnPhone.NO and can_open and not opens:
            if message.is_worth_showing and self.account.frees_slots:
                return self._wait_for_others(now)
            if message.copy_owner is not CopyOwner.OUTBOX:
                return self._withdraw()
            # Else the copy has replaced an older run's end in the outbox, whose card may still be on the screen.
        message.last_attempt = EndAttempt(message, now, opens=opens, overtakes=activity.is_in_flight)
        later = None if self.dispatcher.departure.draining else self._opens_at(now)
        if later is not None:
            return self._wait(now, later)
        self._send(now)
        return None

    def _wait_for_others(self, now: float) -> float | None:
        """Wait to be woken; if that takes long, have a copy made, which a newer run finds."""
        message = self.message
        unkept_until = self.message.asked_at + self.dispatcher.runtime.attempt_seconds
        if self.activity.on_phone is OnPhone.NO and not message.is_worth_showing:
            return None  # it is about to be withdrawn
        if now < unkept_until and not message.persistence.has_row(message):
            return unkept_until
        self._wait(now, float("inf"))
        return None

    def _rest(self, now: float, until: float) -> float:
        """Return when it is sent once more.

        If it has arrived, and somebody has a copy, the exit waits only as long as it may, and not for a watchdog. A
        process that has left its copies to others sends none of them any more.
        """
        departure, persistence = self.dispatcher.departure, self.message.persistence
        if self.is_safe and departure.draining:
            is_late = until > now + departure.seconds_left or not self.is_awaited
            if is_late or persistence.guard.watches or persistence.leases.is_closed:
                self.dispatcher.task_done(self)
        return until

    @property
    def is_safe(self) -> bool:
        """True where it has arrived and only goes once more, which others would see to."""
        message = self.message
        was_said = self.repeats and message.past.was_said and message.copy_owner is not CopyOwner.NOBODY
        return was_said or not self.is_awaited

    @property
    def is_awaited(self) -> bool:
        """False where a card that stays up shows its last state, which only goes once more to be sure.

        That is where an older run in another process may yet end the card, and no request of this one can change it.
        """
        return not (self.repeats and self.message.past.only_confirms)

    # -- what follows an attempt

    def _landed(self, error: Exception | None) -> None:
        attempt = self.message.last_attempt
        if attempt.has_opened:
            self.activity.appear()
        attempt.note(error)
        succession, turns = self.activity.succession, self.dispatcher.turns
        if self.repeats:
            turns.wake_all(succession.newer)  # which may have waited for this end
        turns.wake_all(succession.older)

    def _failed(self, error: Exception, now: float) -> float | None:
        self._failures += 1
        message, attempt = self.message, self.message.last_attempt
        attempt.note_failure(error, now)
        finds_no_room, ends_unseen = attempt.finds_no_room, attempt.ends_unseen
        if not ends_unseen and (finds_no_room or isinstance(error, NotFound)):  # nothing is on the screen
            if finds_no_room:
                self.dispatcher.look_for_owed(self.account, again=True)  # the older run's end may go now
            return self._done(Stage.DELIVERED)
        self.dispatcher.runtime.tell_failure("an end", error)
        if ends_unseen and (finds_no_room or not retry.may_pass(error)):
            self.activity.is_refused = True
            message.move(Stage.OWED)
            return now + self.dispatcher.runtime.backoff(1)
        if retry.may_pass(error):
            failures = PROMPT_FAILURES if self.activity.succession.is_followed else self._failures
            return self._again_at(error, now, failures)
        if message.simplify(error):
            return self._again_at(error, now, 1)
        if attempt.is_opening:
            self.dispatcher.look_for_owed(self.account, again=True)
        self.dispatcher.ledger.lost += 1
        return self._done(Stage.LOST)

    def _done(self, stage: Stage) -> float | None:
        """Be done with it, unless it is sent once more.

        If an older run's end seems to have arrived first, the card appears once more, to end as this run did.
        """
        activity, dispatcher, message = self.activity, self.dispatcher, self.message
        dispatcher.task_done(activity)
        attempt, past = message.last_attempt, message.past
        now, late = dispatcher.clock(), message.may_appear_until
        past.confirms, past.older_may_end = message.state.keep and past.older_may_end, False
        repeats_at = None if stage is Stage.WITHDRAWN else attempt.repeats_at
        if attempt.is_overruled and not message.persistence.leases.is_closed:  # else nobody would end the card again
            activity.on_phone = OnPhone.NO
            if not activity.succession.is_followed:
                repeats_at = max(now, late)
        past.only_confirms |= attempt.only_confirms and past.was_said
        if past.only_confirms and message.copy_owner is CopyOwner.NOBODY:
            message.persistence.guard.disarm(activity.number)  # a watchdog that is still starting would end the card
        if repeats_at is not None:
            message.go_once_more(repeats_at)
            dispatcher.turns.wake_all(activity.succession.newer)
            dispatcher.ledger.wake_waiters()
            until = self._rest(now, repeats_at)
            return None if activity.is_in_flight else until
        message.move(stage)
        activity.life = Life.ENDED
        message.persistence.guard.disarm(activity.number)
        dispatcher.turns.release(activity)
        dispatcher.task_done(self)  # last: an exit that waits for this relies on all of the above
        return None
