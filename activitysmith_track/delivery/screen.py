"""What is known of one card on the screen, and what follows: when to send a state, which one, and in which form.

It sends nothing, and knows nothing of slots, rates and other cards.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .._pacing import Pacer, Range
from ..errors import BadRequest
from .bodies import without_alert, without_opening
from .certainty import Certainty
from .lost_starts import LostStarts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .._pacing import Budget
    from ..client.answers import StreamAnswer
    from .account import Account
    from .state import ActivityState, Digest, StateProvider
    from .unanswered import Unanswered
    from .update_request import UpdateRequest


class Screen:
    """What is known of one card on the screen.

    Args:
        account: knows the unanswered requests of the stream.
        stream_key: the stream.
        reserve: see `Pacer`.
        budget: the same.

    Attributes:
        pace: when the next update may go.
        sent: the state that the card shows, as far as is known.
        unknown: the state that was sent last, if it got no answer, so that nobody knows whether it is shown.
        gives_way: whether a newer state goes in the place of `unknown`, on which the service seems to fail.
        certainty: whether the card is still what was sent.
        lost_starts: starts that got no answer.
        stays_until: until when it is not replaced by a fresh one, since the service refused to end it.
    """

    __slots__ = (
        *("_account", "_ranges", "_refused", "_refused_until", "_stream_key", "certainty", "gives_way"),
        *("lost_starts", "pace", "sent", "stays_until", "unknown"),
    )

    def __init__(self, account: Account, stream_key: str, reserve: int, budget: Budget) -> None:
        self._account, self._stream_key = account, stream_key
        self.pace = Pacer(reserve, budget)
        self.certainty, self.lost_starts = Certainty(), LostStarts()
        self.sent: ActivityState | None = None
        self.unknown: ActivityState | None = None
        self.gives_way = False
        self.stays_until = 0.0
        self._refused: ActivityState | None = None  # the state that the service has refused
        self._refused_until = 0.0  # when that state is tried again
        self._ranges: dict[str, Range] | None = None  # of the numbers on the card, by their labels

    def unanswered(self, now: float) -> Unanswered:
        """Return the unanswered requests under the stream key, whichever run has sent them."""
        return self._account.unanswered(self._stream_key, now)

    @property
    def rotate_at(self) -> float:
        """When the card is replaced by a fresh one."""
        return max(self.pace.rotate_at, self.stays_until)

    def update_at(self, now: float, digest: Digest, source: StateProvider) -> float | None:
        """Return when to send a state; `None` to wait for a change. A state is built only if it might go now."""
        sent = self.sent
        if sent is None or now >= self.rotate_at:
            return now
        if self.unknown is not None:
            is_due = digest == self.unknown.digest or self._may_begin_anew(now)
            is_as_it_was = is_due and self._goes_as_it_was(now)
            return now if is_as_it_was else max(now, self.pace.transition_at())
        confirm = self._confirm_due(now)
        if confirm is not None and confirm <= now:
            return confirm
        change = self._visible_change_at(now, digest, sent, source)
        return min((due for due in (confirm, change) if due is not None), default=None)

    def _visible_change_at(
        self, now: float, digest: Digest, sent: ActivityState, source: StateProvider
    ) -> float | None:
        """Return when to send a state that looks different from the one on the screen; `None` for not by itself."""
        change = self._change_at(now, digest, sent.digest)
        if change is None or change > now:
            return change
        state = source.snapshot()
        if state is None or state.body == sent.body:
            return None
        return self._refused_until if self._is_refused(state, now) else change

    def _goes_as_it_was(self, now: float) -> bool:
        """Tell whether the state without an answer is sent once more unchanged: that is no further update.

        Its answer tells what the card shows, at no cost to the budget, and the current state follows at once. If the
        card may have been ended, a timer is built anew, for its clock has gone on; any other state begins the card as
        well as the current one would.
        """
        unknown = self.unknown
        if unknown is None or self.gives_way:
            return False
        if self._may_begin_anew(now) and unknown.body["content_state"].get("type") == "timer":
            return False
        return self.unanswered(now).is_free(without_opening(unknown.body))

    def _is_refused(self, state: ActivityState, now: float) -> bool:
        """Tell whether the service has refused just this state, and it is too early to ask again."""
        return self._refused is not None and now < self._refused_until and state.body == self._refused.body

    def _confirm_due(self, now: float) -> float | None:
        """Return when to confirm the card; `None` if it is not time yet.

        If only an older state may have arrived late, that takes an update, which the budget must allow. A card that
        may have been ended begins anew.
        """
        if not self.certainty.is_due(now):
            return None
        return now if self.certainty.may_have_ended else self.pace.transition_at()

    def _may_begin_anew(self, now: float) -> bool:
        """Tell whether it is time to confirm a card that may have been ended."""
        return self.certainty.may_have_ended and self.certainty.is_due(now)

    def _change_at(self, now: float, digest: Digest, sent: Digest) -> float | None:
        """Return when a state with another digest may be sent; `None` for not by itself."""
        if digest.transitions != sent.transitions:
            return self.pace.transition_at()
        if digest.fraction is not None and digest.fraction != sent.fraction:
            return self.pace.progress_at(now, digest.fraction)
        change = self._change(digest, sent)
        return self.pace.reading_at(change) if change else None  # all else goes with the next update

    def _change(self, digest: Digest, sent: Digest) -> float:
        """Return how far the readings are from those on the screen, 0 to 1 of the range seen; 1 for another text."""
        if digest.detail != sent.detail:
            return 1.0
        changes = [0.0]
        for label, value in digest.numbers.items():
            self._ranges = self._ranges or {}
            seen = self._ranges.setdefault(label, Range())
            changes.append(seen.change(sent.numbers.get(label, value), value))
        return max(changes)

    def staleness(self, state: ActivityState, now: float) -> float | None:
        """Return how wrong the screen is, 0 to 1, and more where a start or a transition is missing.

        `None` means that there is nothing to send any more.
        """
        sent = self.sent
        if sent is None or self.unknown is not None:
            return 2.0
        is_due = now >= self.rotate_at or self.certainty.is_due(now)
        if not is_due and (state.body == sent.body or self._is_refused(state, now)):
            return None
        if state.digest.transitions != sent.digest.transitions:
            return 2.0
        if state.digest.fraction is None or sent.digest.fraction is None:
            return self._change(state.digest, sent.digest)
        return abs(state.digest.fraction - sent.digest.fraction)

    def choose(
        self, state: ActivityState | None, now: float, source: StateProvider, *, begins: bool, rotates: bool
    ) -> ActivityState | None:
        """Return which state to send: the current one, or one that was sent before, which is no update.

        Args:
            state: the current one.
            now: on the runtime's clock.
            source: whose state it is, where a card begins.
            begins: whether the card is to appear by it.
            rotates: whether the card is replaced by a fresh one.
        """
        if not rotates and self._goes_as_it_was(now):
            return self.unknown
        before = self.lost_starts.again(now) if begins else None
        if before is not None:
            return before
        is_fresh = begins or rotates
        if not is_fresh and self._may_go_again(state, now):
            return self.sent  # no update, if the card still shows it
        if is_fresh or self._may_begin_anew(now):
            self.sent = None if is_fresh else self.sent
            source.opening()
            return source.snapshot()  # what a card opens with
        return state

    def _may_go_again(self, state: ActivityState | None, now: float) -> bool:
        """Tell whether the card is confirmed with the state that it shows.

        It goes as it was where the job has not changed since (an estimate made between two changes would be a worse
        one), and where the budget allows no update yet; never where that would restart a countdown.
        """
        if self.sent is None or "duration_seconds" in self.sent.body["content_state"]:
            return False
        is_clock = self.sent.body["content_state"].get("type") == "timer"  # which has gone on
        is_same = state is not None and state.digest == self.sent.digest and not is_clock
        return self.certainty.is_due(now) and (is_same or now < self.pace.transition_at())

    def body_of(self, state: ActivityState, *, begins: bool, rotates: bool, confirms: bool) -> Mapping[str, Any]:
        """Return what is sent of a state: all of it where the card begins, or may have to begin anew."""
        if begins and not self.lost_starts.is_own:
            return state.body
        if begins or rotates or (confirms and self.certainty.may_have_ended):
            return without_alert(state.body)  # an earlier start has rung
        return without_opening(state.body)

    def was_confirmed(self, update: UpdateRequest, *, is_over: bool) -> None:
        """Note that the card was confirmed; that is repeated if an older run's request may still arrive."""
        certainty = self.certainty
        certainty.clear()
        if update.at < certainty.older_until and not is_over:
            certainty.check(certainty.older_until, may_have_ended=True)

    def count_start(self, answer: StreamAnswer, update: UpdateRequest, now: float, *, is_fresh: bool) -> None:
        """Count updates from here on, with those as which iOS may have counted starts without an answer."""
        lost_starts, fraction = self.lost_starts, update.state.digest.fraction
        is_own = lost_starts.is_own or (answer.operation == "noop" and lost_starts.count > 0)
        self.pace.start(now, fraction, fresh=is_fresh or is_own)
        lost = max(0, lost_starts.count - 1) if is_own else 0  # each may have been an update
        updates = lost + (is_own and answer.operation == "updated")
        self.pace.sent(now, fraction, updates=updates + self.unanswered(now).began(update.body, update.at))
        lost_starts.forget()

    def has_changed(self, answer: StreamAnswer, update: UpdateRequest, now: float) -> None:
        """Note an update of a card that is there."""
        self.certainty.count_revival(is_revival=False)
        before, digest = self.sent, update.state.digest
        is_transition = before is not None and before.digest.transitions != digest.transitions
        updates = self.unanswered(now).answered(update.body, update.at, changed=answer.operation != "noop")
        self.pace.sent(now, digest.fraction, transition=is_transition, updates=updates)

    def refuse(self, error: Exception, update: UpdateRequest, until: float) -> bool:
        """Note that the service would not show a state on a card that is there: it is asked again after a while.

        Returns:
            True where what the card shows is not known, so that no other state can go before `until`.
        """
        self._refused, self._refused_until = update.state, until
        if isinstance(error, BadRequest):
            self.certainty.clear()  # the service would refuse to confirm the card as well
        elif update.confirms:
            self.certainty.check_at = until
        return self.sent is None or self.unknown is not None

    def count_unknown(self, update: UpdateRequest, now: float, *, may_be_late: bool) -> None:
        """Note an update that may have been carried out: nobody knows what the card shows."""
        unanswered = self.unanswered(now)
        updates = unanswered.failed(update.body, update.at, now, may_be_late=may_be_late)
        self.pace.sent(now, self.pace.shown, updates=updates)
        self.pace.withhold(*unanswered.kept)
        self.unknown = None if update.rotates else update.state

    def know(self) -> None:
        """Note that the service has answered: what is on the screen is known."""
        self.unknown = self._refused = None

    def check_behind(self, update: UpdateRequest, now: float, *, is_over: bool) -> None:
        """Have the card confirmed when no unanswered request can arrive after this one any more."""
        unanswered = self.unanswered(now)
        self.pace.withhold(*unanswered.kept)
        late = unanswered.may_change_until
        if update.at < late:
            may_have_ended = update.at < unanswered.may_end_until and not is_over
            self.certainty.check(max(now, late), may_have_ended=may_have_ended)

    def clear(self) -> None:
        """Note that nothing is on the screen, and nothing can be."""
        self.sent = None
        self.certainty.clear()
        self.lost_starts.forget()
