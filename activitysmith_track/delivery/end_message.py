"""What the end of an activity says, who has a copy of it, and how one attempt sends it."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from .._text import annotate_delay
from ..client import retry
from ..client.requests import owed_request, stream_request
from ..errors import ActivityLimitReached, NotFound
from .bodies import as_end, without_opening
from .messages import HeldByAnother, Message, Postponed, simpler
from .older_ends import OlderEnds, in_place_of_older
from .state import CopyOwner, Hold, OnPhone, Stage
from .unanswered import through_by

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager
    from typing import Any

    from ..client.answers import StreamAnswer
    from .entries import Entry
    from .run import Run
    from .state import EndState

OLDER_SECONDS = 15.0  # after a card has begun, in which an older run may end it unnoticed; see `Aftermath`


class EndMessage(Message):
    """The end of an activity, or the last state of a card that stays up.

    Args:
        activity: whose end it is.
        state: what it says.

    Attributes:
        asked_at: when the block ended, on the runtime's clock.
        repeats_at: from when it is sent once more, on the runtime's clock; `None` until it has arrived once.
        last_attempt: the attempt that is in flight, or that was the last; a new one where the end goes once more.
        past: what the attempts so far have done to the card.
    """

    __slots__ = ("_armed", "activity", "asked_at", "last_attempt", "past", "repeats_at", "state")

    def __init__(self, activity: Run, state: EndState) -> None:
        super().__init__(activity.account, activity.dispatcher.persistence)
        self.activity, self.state = activity, state
        self.asked_at = self.persistence.runtime.now()
        self.repeats_at: float | None = None
        self.past, self.last_attempt = Past(), EndAttempt(self)
        self._armed: EndState | None = None  # the end that the watchdog knows of

    # -- what it is

    @property
    def kind(self) -> str:
        """`end`, or `keep` for the last state of a card that stays up."""
        return "keep" if self.state.keep else "end"

    @property
    def last_state(self) -> Mapping[str, Any] | None:
        """What it shows on a card that stays up; `None` where it ends the card."""
        return self.state.body if self.state.keep else None

    @property
    def requests(self) -> int:
        """How many requests an attempt takes: one more where the card appears first."""
        return 2 if self.last_attempt.opens and not self.state.keep else 1

    @property
    def is_worth_showing(self) -> bool:
        """True where an activity that was never on the screen is to appear with its end."""
        wanted = self.state.show and self.state.opening is not None
        return wanted and not self.activity.succession.is_followed and not self.activity.is_refused

    @property
    def may_appear_until(self) -> float:
        """Until when an unanswered request may have the card show something else, or end one that stays up."""
        known = self.account.known_unanswered(self.activity.stream_key)
        return max(known.may_appear_until(self.last_state), known.may_end_until if self.state.keep else 0.0)

    @property
    def may_come_late(self) -> bool:
        """True while the service may still carry out an earlier request for the card, or has just had it appear."""
        is_late = self.activity.is_in_flight or self.may_appear_until > self.persistence.runtime.now()
        return is_late or self.last_attempt.has_opened

    # -- its copies: in the outbox, and with the watchdog

    def copy(self, *, failed: bool = False) -> Entry | None:
        """Return the entry to keep as its copy, or `None` where there is nothing to end any more."""
        if not self.state.body or (self.has_arrived and self.last_attempt.repeats_at is None):
            return None
        key, body, began_at = self.activity.stream_key, self.state.body, self.activity.began_at
        return self.persistence.entry(
            self.account_key, self.kind, body, self.occurred_at, id=self.id, stream_key=key, began_at=began_at
        )

    def has_copy(self, entry: Entry, owner: CopyOwner) -> None:
        """Note a copy, and who keeps it; the watchdog need not be armed for the activity any more."""
        super().has_copy(entry, owner)
        self.persistence.guard.disarm(self.activity.number)

    def arm(self) -> None:
        """Have the watchdog, if there is one, end the activity in the same way if the process is killed now."""
        activity = self.activity
        if activity.is_armed is None and self.persistence.guard.watches:  # it ended before the scheduler looked
            activity.is_armed = activity.source.crash_state() is not None
        if activity.is_armed and self.copy_owner is CopyOwner.NOBODY and self._armed is not self.state:
            self._armed = self.state
            entry = self.copy() if self.state.keep else None
            if (entry is not None and self.persistence.entrust(self, entry)) or self.past.only_confirms:
                return
            words = as_end(self.state.body), None  # a watchdog that is still starting can only end a card
            key = activity.stream_key
            self.persistence.arm(activity.number, self.account_key, key, words, activity.began_at)

    @property
    def is_on_disk(self) -> bool:
        """True while there is a copy, or an older run's end is held back for this one."""
        return super().is_on_disk or self._holds

    @property
    def _holds(self) -> bool:
        """True while an older run's end is held back for this run, and not for a newer one."""
        key = self.activity.stream_key
        return not self.activity.succession.is_succeeded and self.persistence.held.holds_for(self.account_key, key)

    def clear(self) -> None:
        """Clear what is on disk because of it; a worker does that."""
        super().clear()  # its card has not replaced an older run's, whose end is to be sent after all
        if self._holds and self.persistence.held.let_go(self.account_key, self.activity.stream_key):
            self.activity.dispatcher.look_for_owed(self.account, again=True)

    # -- an attempt

    def go_once_more(self, at: float) -> None:
        """Note that it has arrived and will be sent once more from a time on: that attempt begins from nothing."""
        self.has_arrived = False  # first, since the exit may ask for a copy in this moment
        self.repeats_at = at
        self.last_attempt, self._armed = EndAttempt(self), None
        self.move(Stage.OWED)

    def _perform(self, seconds: float) -> None:
        self.last_attempt.perform(seconds)

    def _settle_copy(self) -> None:
        if self._holds:  # the card has ended, so the older run's end is not needed any more
            self.persistence.held.forget(self.account_key, self.activity.stream_key)
        if self.last_attempt.repeats_at is None:
            super()._settle_copy()
        else:
            # The copy stays, for a process that is killed before it repeats the end.
            self.persistence.over(self, shown=self.state.keep)

    def is_owed_after(self, error: Exception) -> bool:
        """Tell whether it is still owed, and so tried again, after a failure."""
        attempt = self.last_attempt
        attempt.note_room(error)
        if isinstance(error, NotFound) or (attempt.finds_no_room and not attempt.ends_unseen):
            return attempt.finds_nothing()  # nothing is on the screen, or not yet
        if attempt.ends_unseen or simpler(self.kind, self.state.body, error) is not None:
            return True
        return super().is_owed_after(error)

    def simplify(self, error: Exception) -> bool:
        """End the card without a state, or one that was to stay up with its last state, where that was refused."""
        body = simpler(self.kind, self.state.body, error)
        if body is not None:
            self.state = self.state._replace(keep=False, body=body)
        return body is not None


class Past:
    """What the attempts at an end have done to its card so far, and others may have.

    Attributes:
        opened_at: when the attempt was sent that had the card appear, on the runtime's clock; -inf for none.
        has_tried: whether an attempt may have ended the card already.
        has_ended_it: whether an attempt has, for certain.
        took_over: whether the card had been an older run's a moment before, whose end is as likely to have ended it.
        was_said: whether the last attempt was answered, and not as one that had nothing to end.
        older_may_end: whether an older run may yet end the card, or has ended it.
        confirms: whether a card that stays up is shown once more, since an older run may have ended it.
        only_confirms: whether that is all that is left to do.
    """

    __slots__ = (
        *("confirms", "has_ended_it", "has_tried", "older_may_end", "only_confirms", "opened_at", "took_over"),
        "was_said",
    )

    def __init__(self) -> None:
        self.opened_at = float("-inf")
        self.has_tried = self.has_ended_it = self.took_over = False
        self.was_said = self.older_may_end = self.confirms = self.only_confirms = False


class EndAttempt:
    """One attempt at an end: what it is to do, what it does, and what came of it.

    While the attempt is in flight only the worker touches this, before and after that only the scheduler.

    Attributes:
        at: when it was sent, on the runtime's clock.
        opens: whether it has the card appear first.
        overtakes: whether an update of the same activity is in flight.
        has_opened: whether it has had the card appear.
        has_ended: whether it has sent the end, or the last state of a card that stays up and was there.
        finds_no_room: whether there was no slot for the card, which so is not there.
        ends_unseen: whether the end is sent although the card that it was to open was refused. There may be a card
            all the same: this run's own, or that of an older run whose end this one has replaced in the outbox.
        only_confirms: whether it goes once more only because an older run may yet end the card.
        is_ignored: whether the card had been ended before.
        is_paused: whether the user has paused the stream, so that nothing is shown.
        repeats_at: when the end is sent once more, since an earlier request may arrive after it; `None` for never.
        takes_over: whether the card had been there before this run showed it, a moment ago.
        older_may_end: whether an older run may yet end the card that this has shown.
        later: until when a request of an older run in another process may arrive; 0 for none.
        is_overruled: whether something else than an attempt of this end has ended the card.
    """

    __slots__ = (
        *("_end", "at", "ends_unseen", "finds_no_room", "has_ended", "has_opened", "is_ignored", "is_overruled"),
        *("is_paused", "later", "older_may_end", "only_confirms", "opens", "overtakes", "repeats_at", "takes_over"),
    )

    def __init__(self, end: EndMessage, at: float = 0.0, *, opens: bool = False, overtakes: bool = False) -> None:
        self._end, self.at, self.opens, self.overtakes = end, at, opens, overtakes
        self.older_may_end = opens and end.activity.is_in_doubt
        self.takes_over = end.activity.took_over_at + OLDER_SECONDS > at
        self.has_opened = self.has_ended = self.is_ignored = self.is_paused = self.is_overruled = False
        self.ends_unseen = self.finds_no_room = self.only_confirms = False
        self.later = 0.0
        self.repeats_at: float | None = None

    @property
    def is_opening(self) -> bool:
        """True while the card that it is to open has not appeared yet."""
        return self.opens and not self.has_opened

    # -- on a worker's thread

    def perform(self, seconds: float) -> None:
        """Have the card appear if that is to be so, and end it; each request in at most so many seconds."""
        self._show_and_end(seconds)
        self.repeats_at = self._repeat_at()

    def note_room(self, error: Exception) -> None:
        """Note whether the card is missing that the attempt was to open, since it was refused."""
        end, on_phone = self._end, self._end.activity.on_phone
        would_open = self.is_opening or (end.state.keep and on_phone is not OnPhone.YES)
        self.finds_no_room = would_open and isinstance(error, ActivityLimitReached)
        self.ends_unseen = self.is_opening and (on_phone is OnPhone.MAYBE or end.copy_owner is CopyOwner.OUTBOX)

    def finds_nothing(self) -> bool:
        """Note that there is nothing to end, or not yet; returns whether the end goes once more."""
        self.repeats_at = self._repeat_at()
        return self.repeats_at is not None

    def _show_and_end(self, seconds: float) -> None:
        end, activity = self._end, self._end.activity
        key, state = activity.stream_key, end.state
        if self.opens:
            # A copy that is in the outbox has replaced an older run's end there.
            with self._in_place_of_older(end.copy_owner is not CopyOwner.OUTBOX) as older:
                answer: StreamAnswer = end.account.perform([stream_request(key, None, state.opening or {})], seconds)
                self.is_paused = answer.operation == "paused"
                self.has_opened = not self.is_paused
            self.takes_over = answer.operation != "started"
            self.older_may_end |= older.may_arrive or (state.keep and self.takes_over)
            if state.keep or not self.has_opened:
                return
        body = annotate_delay(state.body, end.occurred_at, end.persistence.runtime.wall(), end.kind)
        if state.keep:
            body = without_opening(body)
        elif not self._show_to_newer():
            return
        with self._in_place_of_older(end.past.confirms) as older:
            self.has_ended = True
            answer = end.account.perform([owed_request(end.kind, key, body)], seconds)
        self.older_may_end |= older.may_arrive
        self.is_ignored, self.is_paused = bool(answer.ignored), answer.operation == "paused"
        self.later = self._look_back()
        self.older_may_end |= self.later > 0.0 and end.repeats_at is None

    def _in_place_of_older(self, replaces: bool) -> AbstractContextManager[OlderEnds]:
        if not replaces:
            return contextlib.nullcontext(OlderEnds(False))
        return in_place_of_older(self._end.persistence, self._end.activity)

    def _show_to_newer(self) -> bool:
        """Have a newer run in another process find in the outbox that the end is sent now.

        If the card was there before, it may be a newer run's, which looks there; and an older end may be on its way,
        of which a newer run can learn only from this one: its mark tells that something may arrive late, even when
        this end has been answered. Where there was a copy already, its mark tells only when the request was sent that
        has the card appear, so the time of this one is noted too.

        Returns:
            False where it need not be sent, since a newer run's end is there already.

        Raises:
            HeldByAnother: where a newer run has taken it away meanwhile.
        """
        end, has_copy = self._end, self._end.copy_owner is CopyOwner.OUTBOX
        if not (self.opens if has_copy else self.takes_over):
            return True
        if not has_copy:
            entry = end.copy()
            if entry is None:
                return True
            end.persistence.keep(end, entry, sent=True)
        hold = end.persistence.begin(end, goes_on=has_copy, has_begun=True)
        if hold is Hold.OTHERS:
            raise HeldByAnother
        return hold is not Hold.SETTLED

    def _look_back(self) -> float:
        """Look whether an older run in another process has sent an end for a card that appeared a short time ago.

        Such an end, even one sent before that, may arrive after the card's start, and after this end.

        Returns:
            Until when it may arrive; 0 where none was sent.
        """
        end, activity = self._end, self._end.activity
        since = self.at if self.opens else max(end.past.opened_at, activity.screen.pace.started)
        if end.asked_at >= since + OLDER_SECONDS:
            return 0.0
        arrive_by = end.persistence.held.arrive_by
        offset = activity.wall_offset
        return arrive_by(end.account_key, activity.stream_key, activity.began_at, since, offset=offset)

    def _repeat_at(self) -> float | None:
        """Return when an end that has arrived is sent once more; `None` for never.

        An update that it has overtaken, or that was given up, may arrive after it and bring the card back. A card
        that stays up is shown once more where an older run's end may arrive after it.
        """
        end, runtime = self._end, self._end.persistence.runtime
        now = runtime.now()
        if self.is_paused:
            return None
        repeats_at = now if self.overtakes else None
        late = end.may_appear_until
        if self.at < late:
            repeats_at = max(now, late)
        if self.later > now:
            repeats_at = max(repeats_at or now, self.later)
        if end.state.keep and (end.past.older_may_end or self.older_may_end):
            self.only_confirms = repeats_at is None
            repeats_at = max(late, through_by(now, runtime.attempt_seconds))
        return repeats_at

    # -- on the scheduler's thread, when it has landed

    def note(self, error: Exception | None) -> None:
        """Note what the attempt has done to the card."""
        past, activity, runtime = self._end.past, self._end.activity, self._end.persistence.runtime
        if not isinstance(error, Postponed):  # else nothing was sent
            past.was_said = error is None and not self.is_ignored
        if self.has_opened:
            past.opened_at = self.at
            past.has_tried = past.has_ended_it = past.took_over = False
            if self.takes_over:
                now, seconds = runtime.now(), runtime.attempt_seconds
                self._end.account.unanswered(activity.stream_key, now).expect_older(now, seconds)
        past.older_may_end |= self.older_may_end
        past.took_over |= self.takes_over
        past.has_ended_it |= self.has_ended and past.was_said
        self.is_overruled = self.is_ignored and (past.older_may_end or self._was_ended_by_others())
        if past.has_ended_it:
            activity.on_phone = OnPhone.YES  # a start that was given up has been carried out
        past.has_tried |= self.has_ended and (error is None or retry.may_have_arrived(error))

    def _was_ended_by_others(self) -> bool:
        """Tell whether a card that had been ended before this attempt was ended by something else than this run."""
        past, screen = self._end.past, self._end.activity.screen
        late = screen.unanswered(self._end.persistence.runtime.now()).may_change_until
        recent = max(screen.pace.started + OLDER_SECONDS, late)
        is_first = not past.has_tried and (past.opened_at > float("-inf") or self.at < recent)
        return is_first or (past.took_over and not past.has_ended_it)

    def note_failure(self, error: Exception, now: float) -> None:
        """Note what may be on the screen after an attempt that failed, or may come late."""
        activity = self._end.activity
        if self.is_opening and activity.on_phone is OnPhone.NO and retry.may_have_arrived(error):
            activity.on_phone = OnPhone.MAYBE
        if retry.may_arrive_late(error):
            shown = (self._end.state.opening or {}) if self.is_opening else self._end.last_state
            activity.screen.unanswered(now).note(shown, now)
