"""One activity, which is a Live Activity card: its mailbox, from which only the latest state is ever sent."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from .account import Urgency
from .end_delivery import EndDelivery
from .landing import Landing
from .run import Run
from .state import ActivityState, Attention, Digest, EndState, Life, OnPhone, StateProvider, moved
from .update_request import Change, UpdateRequest, put_state

if TYPE_CHECKING:
    from .._pacing import Budget
    from .account import Account
    from .dispatcher import Dispatcher
    from .scheduler import Job


class Activity(Run):
    """One activity's mailbox: the task of the scheduler that has its latest state sent.

    Args:
        dispatcher: see `Run`.
        account: the same.
        stream_key: the same.
        source: the same.
        visible_at: until when a delay keeps it off the screen, on the runtime's clock.
        reserve: see `Pacer`.
        budget: the same.

    Attributes:
        attention: which changes of the handle have the scheduler look at it.
    """

    __slots__ = ("_job", "_looked", "_visible_at", "attention")

    end_delivery: EndDelivery | None

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
        super().__init__(dispatcher, account, stream_key, source, reserve=reserve, budget=budget)
        self.attention = Attention.ANY
        self._visible_at = visible_at
        self._looked: Digest | None = None
        self._job: Job | None = None

    @property
    def is_delayed(self) -> bool:
        """True while a delay keeps it off the screen."""
        return self.dispatcher.clock() < self._visible_at

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
            self.arm()
            self.dispatcher.look_for_owed(self.account)
        not_before = max(self._visible_at, self.retry_at)
        if now < not_before:
            return not_before
        return self._wait(now) if self.on_phone is OnPhone.YES else self._appear_when_it_may(now)

    def _appear_when_it_may(self, now: float) -> float | None:
        """Have the card appear, once an older run's end has arrived and there is a state to show and a free slot."""
        if self.succession.must_wait(opens=True):
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

    def give_up(self) -> None:
        """Send no more states, and leave the card to its end; see `Task.give_up`."""
        if self.on_phone is OnPhone.NO and self.life is not Life.WAITING:
            self.on_phone = OnPhone.MAYBE
        self.life, self.is_refused = Life.REFUSED, True
        self.dispatcher.task_done(self)

    def _wait(self, now: float) -> float | None:
        """Have a state sent if it is due; else return when to look again."""
        digest = self.source.digest()
        due = self.screen.update_at(now, digest, self.source)
        if due is not None and due <= now:
            self.dispatcher.updates.make_ready(self, now)
            return None
        looked, self._looked = self._looked, digest
        again = self._rest(now, digest, due) if looked in (None, digest) else self._busy(now, digest, due)
        if self.attention is not Attention.NONE and self.source.transitions() != digest.transitions:
            return now  # the transition came before this activity listened, so it has woken nobody
        return again

    def _busy(self, now: float, digest: Digest, due: float | None) -> float:
        """Return when to look again at a job that keeps changing; until then at most its transitions wake anybody."""
        screen = self.screen
        is_behind = screen.sent is not None and digest.transitions != screen.sent.digest.transitions
        self.attention = Attention.NONE if is_behind else Attention.TRANSITIONS
        confirm = float("inf") if screen.certainty.is_due(now) else screen.certainty.check_at
        return min(screen.pace.look_at(now) if due is None else due, screen.rotate_at, confirm)

    def _rest(self, now: float, digest: Digest | None, due: float | None) -> float | None:
        """Listen for the next change; returns when to look again if none comes."""
        self.listen()
        wait = self.source.rest(digest)
        ahead = [due, None if wait is None else now + wait]
        if self.on_phone is OnPhone.YES:
            check_at = self.screen.certainty.check_at
            ahead += [self.screen.rotate_at, check_at if now < check_at < float("inf") else None]
        return min((when for when in ahead if when is not None), default=None)

    def state_to_send(self) -> ActivityState | None:
        """Return the current state, or `None` if there is nothing to send any more."""
        if self.end_delivery is not None or self.has_ended or self._job is not None:
            return None
        if self.on_phone is not OnPhone.YES and self.succession.must_wait(opens=True):
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
        self.update = UpdateRequest(now, state, body, begins, rotates, confirms, Change())
        self.life = moved(self.life, Life.STARTING if begins else Life.UPDATING)
        self.arm()
        self.account.note_request(now, 1 + rotates)
        work = partial(put_state, self, self.update, self.dispatcher.persistence)
        self._job = self.dispatcher.scheduler.send(self.dispatcher.update_workers, self, work)

    def _landed(self, now: float) -> None:
        """Handle the outcome of a request."""
        job, update = self._job, self.update
        self._job = self.update = None
        if job is not None and update is not None:
            landing = Landing(self, update, now)
            if job.error is None:
                landing.answered(*job.result)
            else:
                landing.failed(job.error)
        if self.end_delivery is not None:
            self.dispatcher.hand_in(self.end_delivery)
        for other in (*self.succession.older, *self.succession.newer):
            self.dispatcher.turns.wake_both(other)
        self.dispatcher.turns.wake_recovered(self)
