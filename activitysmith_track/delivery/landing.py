"""What follows when a request that showed a state has been answered, or has failed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._pacing import DEFAULT_BUDGET
from ..client import retry
from ..errors import ActivityLimitReached, BadRequest, NoRecipients, ServerError, TooManyRequests
from .aftermath import Aftermath
from .older_ends import EndUnderWay
from .state import Life, OnPhone
from .unanswered import landed_by, through_by

if TYPE_CHECKING:
    from ..client.answers import StreamAnswer
    from .run import Run
    from .update_request import UpdateRequest

RECIPIENT_RETRY = 300.0  # seconds until a start that nobody would have received is tried again
REFUSAL_RETRY = 300.0  # until a state is tried again that the service refused to show
ROTATION_RETRY = 300.0  # until the service is asked again to replace a card by a fresh one, which it refused
PAUSED_RETRY = 300.0  # until a paused stream is tried again, which the user may have resumed


class Landing:
    """What became of a request that showed a state: what it means for the card, and when the next one may go.

    Args:
        activity: whose card it is.
        update: the request.
        now: when that is noticed, on the runtime's clock.
    """

    def __init__(self, activity: Run, update: UpdateRequest, now: float) -> None:
        self._activity, self._update, self._now = activity, update, now
        self._dispatcher, self._screen, self._account = activity.dispatcher, activity.screen, activity.account

    # -- an answer

    def answered(self, answer: StreamAnswer, older_may_end: bool) -> None:
        """Note an answer.

        Args:
            answer: what the service said.
            older_may_end: whether an older run's end may still reach the card.
        """
        activity, screen = self._activity, self._screen
        activity.failures = 0
        screen.know()
        if answer.operation == "paused":
            self._paused()
        else:
            self._shown(answer, older_may_end)
        if self._account.answered():
            self._dispatcher.turns.retry_all(self._account)
        self._dispatcher.task_done(activity)

    def _shown(self, answer: StreamAnswer, older_may_end: bool) -> None:
        """Note that the phone shows the state."""
        activity, screen, update, now = self._activity, self._screen, self._update, self._now
        is_over = activity.end_delivery is not None
        if update.confirms:
            screen.was_confirmed(update, is_over=is_over)
        if update.begins or update.rotates or answer.operation in ("started", "rotated"):
            self._has_begun(answer, older_may_end)
        else:
            screen.has_changed(answer, update, now)
        screen.check_behind(update, now, is_over=is_over)
        if answer.warning:
            self._warned(answer.warning)
        if activity.on_phone is not OnPhone.YES:
            activity.appear()
            self._dispatcher.turns.wake_waiting(self._account)
        activity.move(Life.SHOWN)
        screen.sent = update.state

    def _has_begun(self, answer: StreamAnswer, older_may_end: bool) -> None:
        """Note that the card has appeared, by this request or by an earlier one whose answer was lost."""
        activity, update, now = self._activity, self._update, self._now
        certainty, end = self._screen.certainty, activity.end_delivery
        is_fresh = answer.operation in ("started", "rotated")
        self._screen.count_start(answer, update, now, is_fresh=is_fresh)
        if update.begins:
            older_may_end |= activity.is_in_doubt
            self._has_appeared(answer, is_fresh=is_fresh)
        # If a card was there already, an older run may have ended a moment ago, and its end may still arrive. If none
        # was there although this activity had begun one, somebody else has ended it.
        is_as_expected = answer.operation == "started" and (update.begins or update.rotates)
        if end is not None and (older_may_end or not (is_as_expected or end.repeats)):
            end.doubt()
        certainty.count_revival(is_revival=is_fresh and not is_as_expected)
        if (older_may_end or not is_as_expected) and not certainty.is_contested:
            # It is confirmed when no request of an older run can arrive any more. Where the block is over, its own
            # end sees to a card that was ended.
            attempt_seconds = self._dispatcher.runtime.attempt_seconds
            certainty.check(landed_by(now, attempt_seconds), may_have_ended=end is None)
            certainty.expect(through_by(now, attempt_seconds))

    def _has_appeared(self, answer: StreamAnswer, *, is_fresh: bool) -> None:
        """Note since when the card is there, and look later whether an older run has ended it."""
        activity, begun_at = self._activity, self._screen.lost_starts.begun_at
        if not is_fresh and begun_at is not None:
            self._screen.pace.started = begun_at
        activity.took_over_at = float("-inf") if answer.operation == "started" else self._now
        if answer.operation != "started":
            attempt_seconds = self._dispatcher.runtime.attempt_seconds
            self._screen.unanswered(self._now).expect_older(self._now, attempt_seconds)
        self._dispatcher.look_after(Aftermath(activity, self._update.at if begun_at is None else begun_at))

    def _warned(self, warning: str) -> None:
        """Heed the service's warning of too many updates."""
        pace, stream_key = self._screen.pace, self._activity.stream_key
        if pace.budget.by(0.0) <= DEFAULT_BUDGET.free:  # else the user has allowed more
            pace.warned(self._now)
        self._dispatcher.runtime.warn_once(
            "warning", "ActivitySmith warns about updates of %s: %s", stream_key, warning
        )

    def _paused(self) -> None:
        """Note that the user has paused the stream: until it is resumed there is no card, and no updates to count."""
        activity = self._activity
        self._dispatcher.runtime.warn_once(
            "paused", "the stream %s is paused in ActivitySmith: its card is not shown", activity.stream_key
        )
        activity.on_phone = OnPhone.NO
        self._screen.clear()
        activity.retry_at = self._now + PAUSED_RETRY
        activity.move(Life.WAITING)
        self._give_slot_back()

    # -- a failure

    def failed(self, error: Exception) -> None:
        """Note a failure."""
        activity, now = self._activity, self._now
        if isinstance(error, EndUnderWay):
            self._account.forget_requests(1)
            activity.doubt()
            self._try_again_at(now + error.seconds)
            return
        activity.failures += 1
        self._dispatcher.runtime.tell_failure("an update", error)
        self._note_failure(error)
        if self._account.failed(error, now):
            self._dispatcher.turns.retry_all(self._account)
        again = self._again_at(error)
        if again is not None:
            self._try_again_at(again)
        elif self._update.change.is_begun:
            self._try_again_at(now + ROTATION_RETRY)
        elif self._update.rotates:  # until then the old card is updated
            self._screen.stays_until = now + ROTATION_RETRY
            self._try_again_at(now)
        elif self._is_missing(error):
            activity.move(Life.SHOWN)
            self._screen.certainty.miss(now)
        else:
            self._refused(error)
            self._dispatcher.task_done(activity)

    def _try_again_at(self, when: float) -> None:
        self._activity.retry_at = when
        self._activity.move(Life.SHOWN if self._activity.on_phone is OnPhone.YES else Life.WAITING)

    def _again_at(self, error: Exception) -> float | None:
        """Return when to try again after a request failed, with the state of that time; `None` for never."""
        activity, account, now = self._activity, self._account, self._now
        if isinstance(error, ActivityLimitReached):
            if activity.on_phone is OnPhone.MAYBE and now >= self._screen.unanswered(now).may_appear_until():
                activity.on_phone = OnPhone.NO  # on a card that is there the request would have been an update
                self._screen.lost_starts.lapse()
            self._dispatcher.look_for_owed(account, again=True)  # for an older run's end, which needs no slot
            return account.slots_full(activity, now, error.limit)
        if isinstance(error, TooManyRequests):
            return account.rate_limited(now, error)
        if isinstance(error, NoRecipients):
            self._give_slot_back()
            return now + RECIPIENT_RETRY
        return now + self._dispatcher.runtime.backoff(activity.failures) if retry.is_transient(error) else None

    def _note_failure(self, error: Exception) -> None:
        """Note what may be on the screen after a request that failed."""
        activity, screen, update = self._activity, self._screen, self._update
        may_have_arrived, failures = retry.may_have_arrived(error), activity.failures
        if update.change.is_begun:
            activity.on_phone, screen.unknown, screen.lost_starts.is_own = OnPhone.NO, None, True
        elif update.rotates and may_have_arrived:
            screen.certainty.may_have_ended = True
        if isinstance(error, BadRequest):
            screen.unknown = None  # a state that was refused is not what is shown
        elif isinstance(error, ServerError) and not error.foreign:
            # The service may fail on just this state, so that a newer one is tried, but less and less often: each may
            # count as an update.
            screen.gives_way = failures >= 4 and failures & (failures - 1) == 0
        if may_have_arrived:
            self._count(may_be_late=retry.may_arrive_late(error))

    def _count(self, *, may_be_late: bool) -> None:
        """Note a request that failed, but that the service may have carried out all the same."""
        activity, screen, update, now = self._activity, self._screen, self._update, self._now
        if may_be_late and update.rotates:
            screen.unanswered(now).note(None, now)
        if activity.on_phone is OnPhone.YES:
            screen.count_unknown(update, now, may_be_late=may_be_late)
            return
        if may_be_late:
            screen.unanswered(now).note(update.body, now)
        begun_at = now - self._dispatcher.runtime.attempt_seconds
        screen.lost_starts.note(update.state, begun_at, is_first=activity.on_phone is OnPhone.NO)
        if activity.on_phone is OnPhone.NO:
            activity.on_phone = OnPhone.MAYBE

    def _is_missing(self, error: Exception) -> bool:
        """Tell whether an update may have been refused because the card is gone: then the card is begun anew."""
        update = self._update
        opens = self._screen.body_of(update.state, begins=False, rotates=True, confirms=True)
        return isinstance(error, BadRequest) and self._activity.on_phone is OnPhone.YES and update.body != opens

    def _refused(self, error: Exception) -> None:
        """Note that the service will not show the state, or not even the card."""
        activity, screen, until = self._activity, self._screen, self._now + REFUSAL_RETRY
        if activity.on_phone is OnPhone.YES:
            activity.move(Life.SHOWN)
            if screen.refuse(error, self._update, until):
                activity.retry_at = until
            return
        screen.certainty.clear()
        activity.refuse()
        if activity.end_delivery is None and activity.on_phone is OnPhone.NO:
            activity.arm()
            self._dispatcher.turns.release(activity)
        elif activity.end_delivery is None:
            self._give_slot_back()  # the card may be on the screen, so its end must still be sent
        self._dispatcher.look_for_owed(self._account, again=True)  # for the older run's end, which may go now
        screen.sent = None

    def _give_slot_back(self) -> None:
        if self._account.release(self._activity):
            self._dispatcher.turns.wake_waiting(self._account)
