"""The end of an activity."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from .._text import annotate_delay
from ..client import retry
from ..client.requests import owed_request, stream_request
from ..errors import ActivityLimitReached, NotFound, TooManyRequests
from .bodies import as_end, without_opening
from .deliveries import Delivery
from .older_ends import OlderEnds, in_place_of_older
from .state import CopyOwner, Life, OnPhone, Stage, moved
from .unanswered import through_by

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager

    from ..client.answers import StreamAnswer
    from .activity import Activity
    from .entries import Entry
    from .state import EndState

OLDER_SECONDS = 15.0  # after a card has begun, in which an older run may end it unnoticed; see `Aftermath`
OVERTAKE_SECONDS = 1.0  # seconds that an end waits for an update of its own activity that is in flight
PROMPT_FAILURES = 2  # the failures that the backoff assumes for an end that a newer run waits for


class _EndAttempt:
    """One attempt at an end: what it is to do, and what came of it.

    While the attempt is in flight only the worker touches this, before and after that only the scheduler.

    Attributes:
        at: when it was sent, on the runtime's clock.
        opens: whether it has the card appear first.
        overtakes: whether an update of the same activity is in flight.
        has_opened: whether it has had the card appear.
        has_ended: whether it has sent the end, or the last state of a card that stays up.
        is_ignored: whether the card had been ended before.
        is_paused: whether the user has paused the stream, so that nothing is shown.
        repeats_at: when the end is sent once more, since an earlier request may arrive after it; `None` for never.
        may_be_hit: whether an older run may yet end the card that this has shown.
        later: until when a request of an older run in another process may arrive; 0 for none.
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
        """True while the card that it is to open has not appeared yet."""
        return self.opens and not self.has_opened


class EndDelivery(Delivery):
    """The end of an activity: a task of its own, so that no update holds it up."""

    __slots__ = (
        "_armed",
        "_asked",
        "_attempted",
        "_confirms",
        "_has_hit",
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
        self._opened_at = float("-inf")  # when the attempt was sent that had the card appear
        self._has_tried = False  # an attempt may have ended the card already
        self._has_hit = False  # an attempt has
        self._may_be_hit = False  # an older run may yet end the card, or have ended it
        self._is_overruled = False  # something else has ended the card
        self._repeats_at = 0.0  # when an end that has arrived is sent once more; 0 for never
        self._confirms = False  # it is repeated since an older run may have ended a card that stays up
        self._was_refused = False  # the service would not show the activity
        self._was_said = False  # the last attempt has arrived
        self._armed: EndState | None = None  # the end that the watchdog knows of

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
        activity = self.activity
        if activity.has_ended:
            self.dispatcher.settle(self)
            return None
        if activity.life is not Life.ENDING:
            self._was_refused = activity.life is Life.REFUSED
            activity.life = moved(activity.life, Life.ENDING)
        self._arm()
        if now < self.state.not_before and not self.dispatcher.departure.draining:
            return self.state.not_before
        self.stage = moved(self.stage, Stage.OWED)
        if self._is_preceded:
            return self._wait_for_others(now)
        if activity.is_in_flight and now < self._overtakes_at:
            return self._overtakes_at
        if self._repeats_at:
            if activity.is_replaced:
                return self._withdraw()
            if activity.is_succeeded:
                return None  # woken when the newer run is on the screen, or has come to nothing
            repeats_at = max(self._repeats_at, self._may_appear_until)
            if now < repeats_at:
                return self._rest(now, repeats_at)
        return self._try(now)

    @property
    def _is_preceded(self) -> bool:
        """True while the end of an older run has to arrive first: it would end the card that this one opens."""
        opens = self.activity.on_phone is OnPhone.NO and not self._was_refused
        return self.activity.is_preceded or (opens and self.activity.must_wait)

    @property
    def _overtakes_at(self) -> float:
        """When it is sent although a request of its activity is still in flight.

        An end that arrives before the start would find nothing to end, so it waits until the start must be over,
        unless the exit has begun.
        """
        is_soon = self.activity.on_phone is OnPhone.YES or self.dispatcher.departure.draining
        return self._asked + (OVERTAKE_SECONDS if is_soon else self.dispatcher.runtime.attempt_seconds)

    def _try(self, now: float) -> float | None:
        """Send it, after its card if that is to appear first; or wait for a slot, or for the rate."""
        activity = self.activity
        self._may_be_hit |= activity.screen.certainty.may_have_ended
        activity.screen.certainty.may_have_ended = False  # this attempt sees to that
        can_open = activity.on_phone is not OnPhone.YES and not activity.is_in_flight
        opens = can_open and self._takes_slot(now)
        if activity.on_phone is OnPhone.NO and can_open and not opens:
            if self._is_worth_showing and self.account.frees_slots:
                return self._wait_for_others(now)
            if self.copy_owner is not CopyOwner.OUTBOX:
                return self._withdraw()
            # Else the copy has replaced an older run's end in the outbox, whose card may still be on the screen.
        self._attempted = _EndAttempt(now, opens=opens, overtakes=activity.is_in_flight)
        self._attempted.may_be_hit = opens and activity.is_in_doubt
        later = None if self.dispatcher.departure.draining else self._opens_at(now)
        if later is not None:
            return self._wait(now, later)
        self._send(now)
        return None

    def _wait_for_others(self, now: float) -> float | None:
        """Wait to be woken; if that takes long, have a copy made, which a newer run finds."""
        unkept_until = self._asked + self.dispatcher.runtime.attempt_seconds
        if self.activity.on_phone is OnPhone.NO and not self._is_worth_showing:
            return None  # it is about to be withdrawn
        if now < unkept_until and not self.persistence.has_row(self):
            return unkept_until
        self._wait(now, float("inf"))
        return None

    def _rest(self, now: float, until: float) -> float:
        """Return when it is sent once more; no exit waits long for that if it has arrived, and there is a copy."""
        is_safe = self._was_said and self.copy_owner is not CopyOwner.NOBODY
        if is_safe and self.dispatcher.departure.draining and until > now + self.dispatcher.departure.seconds_left:
            self.dispatcher.settle(self)
        return until

    @property
    def repeats(self) -> bool:
        """True where it has arrived and is sent once more, so that a newer run need not wait for it."""
        return bool(self._repeats_at)

    def _arm(self) -> None:
        """Have the watchdog, if there is one, end the activity in the same way if the process is killed now."""
        activity = self.activity
        if activity.is_armed is None and self.persistence.guard.watches:  # it ended before the scheduler looked
            activity.is_armed = activity.source.crash_state() is not None
        if activity.is_armed and self.copy_owner is CopyOwner.NOBODY and self._armed is not self.state:
            self._armed = self.state
            entry = self.copy() if self.state.keep else None
            if entry is not None and self.persistence.entrust(self, entry):
                return
            words = as_end(self.state.body), None  # a watchdog that is still starting can only end a card
            key = activity.stream_key
            self.persistence.arm(activity.number, self.account_key, key, words, activity.began_at)

    @property
    def _requests(self) -> int:
        return 2 if self._attempted.opens and not self.state.keep else 1

    @property
    def kind(self) -> str:
        """`end`, or `keep` for the last state of a card that stays up."""
        return "keep" if self.state.keep else "end"

    @property
    def _last_state(self) -> Mapping[str, Any] | None:
        """What it shows on a card that stays up; `None` where it ends the card."""
        return self.state.body if self.state.keep else None

    @property
    def _may_appear_until(self) -> float:
        """Until when an unanswered request may have the card show something else."""
        known = self.account.known_unanswered(self.activity.stream_key)
        return known.may_appear_until(self._last_state)

    @property
    def may_come_late(self) -> bool:
        """True while the service may still carry out an earlier request for the same card."""
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
        """Wake the newer runs, which may have waited for this end."""
        for newer in self.activity.newer:
            self.dispatcher.turns.wake_both(newer)

    def _takes_slot(self, now: float) -> bool:
        return self._is_worth_showing and self.account.take_slot(self.activity, now)

    def _perform(self, seconds: float) -> None:
        self._show_and_end(seconds)
        self._attempted.repeats_at = self._repeat_at()

    def _show_and_end(self, seconds: float) -> None:
        attempt, key, state = self._attempted, self.activity.stream_key, self.state
        takes_over = self.dispatcher.clock() < self.activity.took_over_at + OLDER_SECONDS
        if attempt.opens:
            # A copy that is in the outbox has replaced an older run's end there.
            with self._in_place_of_older(self.copy_owner is not CopyOwner.OUTBOX) as older:
                answer: StreamAnswer = self.account.perform([stream_request(key, None, state.opening or {})], seconds)
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
            answer = self.account.perform([owed_request(self.kind, key, body)], seconds)
        attempt.may_be_hit |= older.may_hit
        attempt.is_ignored, attempt.is_paused = bool(answer.ignored), answer.operation == "paused"
        attempt.later = self._look_back()
        attempt.may_be_hit |= attempt.later > 0.0 and not self._repeats_at

    def _look_back(self) -> float:
        """Look whether an older run in another process has sent an end for a card that appeared a short time ago.

        Such an end, even one sent before that, may arrive after the card's start, and after this end.

        Returns:
            Until when it may arrive; 0 where none was sent.
        """
        attempt, now = self._attempted, self.dispatcher.clock()
        since = attempt.at if attempt.opens else max(self._opened_at, self.activity.screen.pace.started)
        if now >= since + OLDER_SECONDS:
            return 0.0
        later = through_by(0.0, self.dispatcher.runtime.attempt_seconds)
        key, began_at = self.activity.stream_key, self.activity.began_at
        found = self.persistence.held.look_back(self.account_key, key, began_at, since, later)
        return now + later if found is None else found

    def _show_to_newer(self) -> None:
        """Put a copy into the outbox, since the card was there before: it may be a newer run's, which looks there."""
        entry = None if self.copy_owner is CopyOwner.OUTBOX else self.copy()
        if entry is not None:
            self.persistence.keep(self, entry, sent=True)

    def _repeat_at(self) -> float | None:
        """Return when an end that has arrived is sent once more; `None` for never.

        An update that it has overtaken, or that was given up, may arrive after it and bring the card back. A card
        that stays up is shown once more where an older run's end may arrive after it.
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
        if self._holds:  # the card has ended, so the older run's end is not needed any more
            self.persistence.held.forget(self.account_key, self.activity.stream_key)
        if self._attempted.repeats_at is None:
            super()._settle_copy()
        else:
            self.persistence.over(self)  # the copy stays, for a process that is killed before it repeats the end

    def _in_place_of_older(self, replaces: bool) -> AbstractContextManager[OlderEnds]:
        if not replaces:
            return contextlib.nullcontext(OlderEnds(False))
        return in_place_of_older(self.persistence, self.activity)

    def has_copy(self, entry: Entry, owner: CopyOwner) -> None:
        """Note a copy, and who keeps it; the watchdog need not be armed for the activity any more."""
        super().has_copy(entry, owner)
        self.persistence.guard.disarm(self.activity.number)

    @property
    def _is_on_disk(self) -> bool:
        return super()._is_on_disk or self._holds

    @property
    def _holds(self) -> bool:
        """True while an older run's end is held back for this run, and not for a newer one."""
        return not self.activity.is_succeeded and self.persistence.held.holds_for(
            self.account_key, self.activity.stream_key
        )

    def _clear(self) -> None:
        super()._clear()  # its card has not replaced an older run's, whose end is to be sent after all
        if self._holds and self.persistence.held.let_go(self.account_key, self.activity.stream_key):
            self.dispatcher.look_for_owed(self.account, again=True)

    def copy(self, *, failed: bool = False) -> Entry | None:
        """Return the entry to keep as its copy, or `None` where there is nothing to end any more."""
        if not self.state.body or (self.has_arrived and self._attempted.repeats_at is None):
            return None
        key, body, began_at = self.activity.stream_key, self.state.body, self.activity.began_at
        return self.persistence.entry(
            self.account_key, self.kind, body, self.occurred_at, id=self.id, stream_key=key, began_at=began_at
        )

    def _is_owed_after(self, error: Exception) -> bool:
        if isinstance(error, NotFound):  # nothing is on the screen, or not yet
            self._attempted.repeats_at = self._repeat_at()
            return self._attempted.repeats_at is not None
        if self._ends_unseen or self._instead(error, self.state.body) is not None:
            return True
        return super()._is_owed_after(error) and not self._finds_no_room(error)

    @property
    def _ends_unseen(self) -> bool:
        """True where the end is sent although the card that it was to open was refused.

        There may be a card all the same: this run's own, or that of an older run whose end this one has replaced in
        the outbox.
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
            self._opened_at, self._has_tried, self._has_hit = attempt.at, False, False
        self._may_be_hit |= attempt.may_be_hit
        recent = max(self.activity.screen.pace.started + OLDER_SECONDS, self.activity.unanswered.may_change_until)
        is_first = not self._has_tried and (self._opened_at > float("-inf") or attempt.at < recent)
        # Had an older run shown the card a moment before, its end is as likely as an attempt of this one.
        is_others = is_first or not (self._has_hit or self._asked >= self.activity.took_over_at + OLDER_SECONDS)
        self._is_overruled = attempt.is_ignored and (self._may_be_hit or is_others)
        self._has_hit |= attempt.has_ended and self._was_said
        self._has_tried |= attempt.has_ended and (error is None or retry.may_have_arrived(error))
        if self._repeats_at:
            self._make_room()
        for older in self.activity.older:
            self.dispatcher.turns.wake_both(older)

    def _failed(self, error: Exception, now: float) -> float | None:
        self._failures += 1
        self._note_failure(error, now)
        finds_no_room = self._finds_no_room(error)
        if self._ends_unseen and (finds_no_room or not self._may_pass(error)):
            self.dispatcher.runtime.tell_failure("an end", error)
            self._was_refused = True
            return self._again_at(now, 1)
        if finds_no_room:
            return self._refused(Stage.DELIVERED)
        if isinstance(error, NotFound):
            return self._done(Stage.DELIVERED)  # nothing is on the screen
        self.dispatcher.runtime.tell_failure("an end", error)
        if isinstance(error, TooManyRequests):
            return self._silenced(error, now)
        if retry.is_transient(error):
            return self._again_at(now, PROMPT_FAILURES if self._has_newer else self._failures)
        instead = self._instead(error, self.state.body)
        if instead is None:
            self.dispatcher.ledger.lost += 1
            return self._refused(Stage.LOST)
        self.state = self.state._replace(keep=False, body=instead)
        return self._again_at(now, 1)

    def _note_failure(self, error: Exception, now: float) -> None:
        """Note what may be on the screen after an attempt that failed, or may come late."""
        is_opening = self._attempted.is_opening
        if is_opening and self.activity.on_phone is OnPhone.NO and retry.may_have_arrived(error):
            self.activity.on_phone = OnPhone.MAYBE
        if retry.may_arrive_late(error):
            shown = (self.state.opening or {}) if is_opening else self._last_state
            self.activity.unanswered.note(shown, now)

    def _refused(self, stage: Stage) -> float | None:
        if self._attempted.is_opening:
            self.dispatcher.look_for_owed(self.account, again=True)  # the older run's end may go now
        return self._done(stage)

    def _done(self, stage: Stage) -> float | None:
        """Settle it, unless it is sent once more.

        If an older run's end seems to have arrived first, the card appears once more, to end as this run did.
        """
        activity, dispatcher = self.activity, self.dispatcher
        dispatcher.settle(activity)
        now, late = dispatcher.clock(), self._may_appear_until
        attempt = self._attempted
        self._confirms, self._may_be_hit = self.state.keep and self._may_be_hit, False
        repeats_at = attempt.repeats_at
        if self._is_overruled and not self.persistence.leases.is_closed:  # else nobody would end the card again
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
        self.persistence.guard.disarm(activity.number)
        dispatcher.turns.release(activity)
        dispatcher.settle(self)  # last: an exit that waits for this relies on all of the above
        return None
