"""One run of a job under a stream key: what this process knows of it and its card, and tells others of the key."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .screen import Screen
from .state import NOTHING, Life, OnPhone, StateProvider, moved
from .succession import Succession

if TYPE_CHECKING:
    from .._pacing import Budget
    from .account import Account
    from .dispatcher import Dispatcher
    from .succession import Ending
    from .update_request import UpdateRequest

YOUNG_SECONDS = 30.0  # of this process, in which an earlier process's watchdog may still end that process's cards


class Run:
    """One run of a job, and its card.

    Args:
        dispatcher: has its states and its end sent.
        account: for whom.
        stream_key: the card.
        source: its handle.
        reserve: see `Pacer`.
        budget: the same.

    Attributes:
        began_at: when it began, in seconds since the epoch.
        wall_offset: by how much that clock was ahead of the runtime's then; it may be set later.
        number: what the watchdog knows it by.
        life: where it is in its life.
        on_phone: whether the phone shows its card, as far as is known.
        is_refused: whether the service will not show it.
        update: its request in flight; `None` for none.
        end_delivery: its end, when the block is over.
        succession: its place among the runs of the same stream key.
        screen: what is known of its card.
        is_armed: whether a watchdog is to guard it; `None` until the handle was asked.
        failures: how many requests in a row have failed.
        retry_at: when one that failed is tried again, on the runtime's clock.
        took_over_at: when it took over a card that was there already: an older run's, or a newer run's of another
            process.
    """

    __slots__ = (
        *("_epoch", "_is_in_doubt", "account", "began_at", "dispatcher", "end_delivery", "failures", "is_armed"),
        *("is_refused", "life", "number", "on_phone", "retry_at", "screen", "source", "stream_key", "succession"),
        *("took_over_at", "update", "wall_offset"),
    )

    def __init__(
        self,
        dispatcher: Dispatcher,
        account: Account,
        stream_key: str,
        source: StateProvider,
        *,
        reserve: int,
        budget: Budget,
    ) -> None:
        self.dispatcher, self.account, self.stream_key, self.source = dispatcher, account, stream_key, source
        self.began_at = dispatcher.runtime.wall()
        self.wall_offset = self.began_at - dispatcher.clock()
        self.number = next(dispatcher.order)
        self.life, self.on_phone, self.is_refused = Life.WAITING, OnPhone.NO, False
        self.update: UpdateRequest | None = None
        self.end_delivery: Ending | None = None
        self.succession: Succession[Run] = Succession(self)
        self.screen = Screen(account, stream_key, reserve, budget)
        self.is_armed: bool | None = None
        self.failures, self.retry_at, self.took_over_at = 0, 0.0, float("-inf")
        self._epoch = dispatcher.epoch
        self._is_in_doubt = False

    def run(self, now: float) -> float | None:
        """Have the latest state sent if it may go; see `Task.run`."""
        raise NotImplementedError

    def give_up(self) -> None:
        """Send no more states; see `Task.give_up`."""
        raise NotImplementedError

    @property
    def is_inherited(self) -> bool:
        """True where the dispatcher has begun anew since: in a forked child, or after `Dispatcher.close`."""
        return self._epoch != self.dispatcher.epoch

    @property
    def is_in_flight(self) -> bool:
        """True while a request that shows it is in flight."""
        return self.update is not None

    @property
    def has_ended(self) -> bool:
        """True when nothing more will be sent of it."""
        return self.life is Life.ENDED

    def move(self, to: Life) -> None:
        """Change `life`, unless the block is over: from then on its `EndDelivery` does that."""
        if self.life not in (Life.ENDING, Life.ENDED):
            self.life = moved(self.life, to)

    def appear(self) -> None:
        """Note that the phone shows this card, which replaces an older run's: that run's end need not be repeated."""
        self.on_phone = OnPhone.YES
        self.account.has_slot(self)
        for older in self.succession.older:
            older.succession.is_replaced = True
            if older.end_delivery is not None:
                self.dispatcher.scheduler.wake(older.end_delivery)

    def refuse(self) -> None:
        """Note that the service will not show the card. If it may be there all the same, its end is still sent."""
        self.is_refused = True
        self.move(Life.REFUSED)

    def arm(self) -> None:
        """Tell the watchdog, if there is one, what to send if the process dies: for a refused card only a push."""
        crash_state = self.source.crash_state()
        self.is_armed = crash_state is not None
        if crash_state is None:
            return
        if self.is_refused:
            crash_state = {}, crash_state[1]
        older = self.succession.predecessor if self.on_phone is OnPhone.NO and not self.is_in_flight else None
        if older is not None and older.end_delivery is not None and not older.has_ended:
            # the card on the screen is the older run's, so the watchdog ends it as that run has ended
            crash_state = older.end_delivery.body or crash_state[0], crash_state[1]
        persistence = self.dispatcher.persistence
        persistence.arm(self.number, self.account.key, self.stream_key, crash_state, self.began_at)

    @property
    def is_in_doubt(self) -> bool:
        """True while a request may still arrive that another process sent, and that this one does not know of.

        If a watchdog guards this run, one has guarded the earlier runs too, and a watchdog takes a moment to end the
        cards of a job that was killed.
        """
        now = self.dispatcher.clock()
        if self._is_in_doubt or now < self.account.known_unanswered(self.stream_key).older_until:
            return True
        if now >= self.dispatcher.begun_at + YOUNG_SECONDS:
            return False
        return self.source.crash_state() is not None if self.is_armed is None else self.is_armed

    def doubt(self) -> None:
        """Note that a request of an earlier process may still arrive and overwrite this card."""
        self._is_in_doubt = True

    def forget_handle(self) -> None:
        """Drop the reference to the user's handle."""
        self.source = NOTHING
