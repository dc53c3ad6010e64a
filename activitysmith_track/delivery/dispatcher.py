"""The dispatcher, which sends states, ends and pushes to the service, so that the user's code never does.

A handle is given an `Activity`: its mailbox. The activity asks the handle for its state when something may be sent,
so only the latest state is ever sent. One scheduler decides; workers carry the requests: one pool the states,
another the ends and pushes, which must not wait behind a hanging update.
"""

from __future__ import annotations

import itertools
import weakref
from typing import TYPE_CHECKING, Any

from .._fork import children, on_own_thread
from .._pacing import DEFAULT_BUDGET, Budget
from .accounts import Accounts
from .activity import Activity
from .deliveries import Delivery
from .departure import Departure
from .echoes import Echoes
from .end_delivery import EndDelivery
from .ledger import Ledger
from .open_activities import OpenActivities
from .persistence import Persistence
from .push_delivery import PushDelivery
from .recovery import LOOK_AGAIN, LeaseRenewal, OutboxRecovery, RecoveredDelivery
from .runtime import Runtime
from .shutdown import Shutdown, shutdown
from .state import CopyOwner, Life, StateProvider
from .turns import Turns
from .update_queue import UpdateQueue

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .account import Account
    from .entries import Entry
    from .scheduler import Scheduler, Task

WORKERS = 4  # threads of each pool at most: as many as there are slots
CLOSE_SECONDS = 0.5  # that `close` waits for requests in flight, unless it is given a timeout


class Dispatcher:
    """The schedulers, the workers, and what they share; all of it begins anew in a forked child, and after `close`.

    Args:
        exit_timeout: returns the seconds that the interpreter's exit may wait.
        runtime: the world outside.
        leaves: the exit of the process, in which it takes part.

    Attributes:
        scheduler: decides what is sent, and when.
        sampling: runs the samples of the user's functions.
        schedulers: both, that of the samples first, since it hands work to the other.
        update_workers: carry the states.
        end_workers: carry the ends and the pushes, and do what touches the disk.
        accounts: to which it sends.
        opened: the open activities.
        ledger: what is owed.
        updates: the states that are ready to be sent.
        turns: wakes what waits for others.
        echoes: the failures' pushes, as far as others may take them over.
        persistence: keeps copies of what is owed.
        departure: what it does when it leaves.
    """

    def __init__(
        self, exit_timeout: Callable[[], float], runtime: Runtime | None = None, leaves: Shutdown = shutdown
    ) -> None:
        self.exit_timeout, self.runtime, self._shutdown = exit_timeout, runtime or Runtime(), leaves
        self.order = itertools.count()  # of openings and failures
        self.epoch = 0
        self._fresh(OpenActivities(self.runtime))
        self._retirement = Retirement(self)
        self.is_dropped = False
        self._shutdown.add(self)

    @property
    def clock(self) -> Callable[[], float]:
        """Seconds of a clock that never goes back."""
        return self.runtime.now

    def _fresh(self, opened: OpenActivities) -> None:
        """Begin with nothing, as a new process or a forked child must."""
        runtime = self.runtime
        self.scheduler, self.sampling = runtime.scheduler("dispatcher"), runtime.scheduler("samples")
        self.schedulers = self.sampling, self.scheduler
        self.update_workers = runtime.workers("updates", WORKERS, self.scheduler.report)
        self.end_workers = runtime.workers("ends", WORKERS, self.scheduler.report)
        # First the schedulers, which may yet start a worker that nobody would stop.
        self._threads = *self.schedulers, self.update_workers, self.end_workers
        self.accounts, self.opened, self.ledger = Accounts(runtime), opened, Ledger(runtime)
        self.updates = UpdateQueue(self.scheduler, self.update_workers)
        self.turns = Turns(self.scheduler, self.updates, opened, self.ledger)
        self.echoes, self.persistence = Echoes(runtime), Persistence(runtime)
        self.departure = Departure(runtime, self.scheduler, self.ledger, opened, self.persistence, self.stop)
        self._leases = LeaseRenewal(self)
        self.begun_at = runtime.now()

    def after_fork(self) -> None:
        """Begin anew: what was owed is left to the parent, or to nobody."""
        before = self.ledger
        self.epoch += 1
        self._fresh(OpenActivities(self.runtime, refuses=self.opened.refuses))
        before.close()

    def drop(self) -> None:
        """Let go of threads and connections as soon as nothing is open or owed any more; never blocks."""
        self.is_dropped = True
        if self.scheduler.runs:
            self.scheduler.wake(self._retirement)

    def close(self, timeout: float = CLOSE_SECONDS) -> None:
        """Stop the threads and forget what is in flight; the dispatcher can be used again.

        Args:
            timeout: seconds to wait at most until the threads have ended; those that have not will end by themselves.
        """
        until = self.clock() + timeout
        for each in self._threads:
            each.stop()
            each.join(max(0.0, until - self.clock()))
        self.persistence.guard.let_go()
        self.accounts.close()
        self.runtime.forget_warnings()
        departure = self.departure
        self.after_fork()
        for delivery in departure.come_late():
            self.deliver(delivery)

    def let_go(self) -> None:
        """Let the threads end when they are done with what they do, and close the connections."""
        for each in self._threads:
            each.stop()
        self.persistence.guard.let_go()
        self.accounts.close()

    # -- the user's side

    def account(self, api_key: str, base_url: str) -> Account:
        """Return the account of one key at one address, made on first use."""
        return self.accounts.of(api_key, base_url)

    def open(
        self,
        account: Account,
        stream_key: str,
        source: StateProvider,
        *,
        delay: float = 0.0,
        reserve: int = 0,
        budget: Budget = DEFAULT_BUDGET,
    ) -> Activity:
        """Give a handle its activity; while another of the same key runs, the key gets `-2`, `-3` ..."""

        def make(key: str) -> Activity:
            # While another thread runs the exit, nobody would end this card: so it appears only with its end.
            visible_at = self.clock() + delay if self._shutdown.stays_here else float("inf")
            return Activity(self, account, key, source, visible_at=visible_at, reserve=reserve, budget=budget)

        activity = self.opened.add(account, stream_key, make)
        older = activity.succession.predecessor
        if older is not None and older.end_delivery is not None:
            self.scheduler.wake(older.end_delivery)  # it is tried at once: the newer run waits for it
        return activity

    def hand_in(self, task: Activity | EndDelivery) -> None:
        """Pass an activity's state or end to its scheduler."""
        activity = task.activity if isinstance(task, EndDelivery) else task
        if activity.is_inherited or activity.has_ended:
            return
        if isinstance(task, EndDelivery):
            self.ledger.owe(task)
        elif task.life in (Life.WAITING, Life.STARTING) and not (task.end_delivery or task.is_delayed):
            self.ledger.owe(activity)
            if activity.life not in (Life.WAITING, Life.STARTING):
                self.task_done(activity)  # it has appeared meanwhile
        self._give(self.scheduler, task)

    def owe(self, activity: Activity) -> None:
        """Note that an activity is to appear, so that `flush` waits for it; during its delay it is not owed."""
        if not self.departure.draining:
            self.ledger.owe(activity)

    def push(
        self,
        account: Account,
        body: Mapping[str, Any],
        *,
        at_least_once: bool,
        failure: object = None,
    ) -> PushDelivery:
        """Send a push; one for a failure is held for a second, in which an outer block may take it over."""
        held = Echoes.seconds if failure is not None else 0.0
        delivery = PushDelivery(self, account, body, at_least_once=at_least_once, not_before=self.clock() + held)
        if failure is not None:
            delivery.failure = (failure, next(self.order))
            self.echoes.note(delivery)
        self.look_for_owed(account)
        self.deliver(delivery)
        return delivery

    def deliver(self, delivery: Delivery) -> None:
        """Have something sent that must not be lost."""
        self.ledger.owe(delivery, is_debt=delivery.is_debt)
        self._give(self.scheduler, delivery)

    def recover(self, account: Account, entry: Entry) -> None:
        """Have something delivered for a run that is over; see `RecoveredDelivery`."""
        self.deliver(RecoveredDelivery(self, account, entry))

    def look_for_owed(self, account: Account, *, again: bool = False) -> None:
        """Have what earlier processes owe an account looked for in the outbox, and delivered.

        Args:
            account: the account.
            again: True to look even if that was done lately.
        """
        recovery = account.recovery
        is_recent = recovery is not None and self.clock() < recovery.looked_at + LOOK_AGAIN
        if self.departure.draining or (is_recent and not again):
            return
        if recovery is None:
            recovery = account.recovery = OutboxRecovery(self, account)
        recovery.ask()
        self.ledger.owe(recovery, is_debt=True)
        self._give(self.scheduler, recovery)

    def take_over(self, failure: object, opened: int) -> None:
        """Have no push sent that an inner block made for the same exception; see `Echoes.take_over`."""
        withdrawn = self.echoes.take_over(failure, opened)
        if withdrawn is None:
            return
        if withdrawn.message.copy_owner is not CopyOwner.OUTBOX:
            self.persistence.forget_copy(withdrawn.message)
            self.task_done(withdrawn)
        self.scheduler.wake(withdrawn)  # a worker clears a copy in the outbox: this thread must not touch the disk

    def sample(self, task: Task) -> None:
        """Wake a sampling task, on the thread that all of them share."""
        self._give(self.sampling, task)

    def look_after(self, task: Task) -> None:
        """Wake a task of a handle's own, on the scheduler's thread."""
        self._give(self.scheduler, task)

    def _give(self, scheduler: Scheduler, task: Task) -> None:
        scheduler.wake(task)
        self._shutdown.watch_children()
        if self._shutdown.has_left:
            if isinstance(task, Delivery) and not on_own_thread():
                self._shutdown.leave()  # the exit is over: this thread waits for the delivery itself
        elif not scheduler.start() and not scheduler.too_late:
            self.runtime.warn_once("threads", "activitysmith_track cannot start its thread now; it will send at exit")

    # -- the schedulers' side

    def task_done(self, task: Task) -> None:
        """Note that nothing is owed for a task any more, and wake whoever waited for that."""
        if self.ledger.remove(task) and self.departure.draining:
            for debt in self.ledger.debts:
                self.scheduler.wake(debt)
        self.ledger.wake_waiters()
        if self.is_dropped:
            self.scheduler.wake(self._retirement)

    def look_after_leases(self) -> None:
        """Have this process's leases in the outbox renewed, if it has any."""
        if self.persistence.leases.ids:
            self.scheduler.schedule(self._leases, self.clock())

    # -- waiting

    def flush(self, timeout: float, account: Account | None = None, *, of_others: bool = False) -> bool:
        """Wait until nothing is owed that anybody waits for; see `Tracker.flush`.

        Args:
            timeout: seconds to wait at most.
            account: what the outbox holds for it is delivered, too.
            of_others: True where this process only delivers what others owe. Then it also waits for what is under the
                lease of another process, which may be gone.
        """
        if account is not None:
            account.only_debts |= of_others
            self.look_for_owed(account, again=True)
        self.wait(timeout)
        lost, self.ledger.lost = self.ledger.lost, 0
        return not self.ledger.is_awaited and not lost

    def wait(self, timeout: float) -> None:
        """Wait at most so many seconds until nothing is owed that anybody waits for."""
        self.ledger.wait(timeout)

    @property
    def is_idle(self) -> bool:
        """True while no activity is open and nothing is owed."""
        return not self.opened and not self.ledger.owes

    @property
    def has_delivered(self) -> bool:
        """True while nothing is owed that anybody waits for, and no card is open but one that is only shown again."""
        ends = [activity.end_delivery for activity in self.opened]
        return not self.ledger.is_awaited and all(end is not None and not end.is_awaited for end in ends)

    # -- a signal

    def stop(self, words: str) -> None:
        """End all activities as stopped, here and in all other dispatchers that heed signals.

        Args:
            words: name the signal.
        """
        self._shutdown.stop(words, self)


class Retirement:
    """The task that lets go of a dispatcher whose tracker is gone, when nothing is open or owed any more."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = weakref.ref(dispatcher)

    def run(self, now: float) -> float | None:
        """Let go, or wait until the next thing is done; see `Task.run`."""
        dispatcher = self._dispatcher()
        if dispatcher is not None and dispatcher.is_idle:
            dispatcher.let_go()
        return None

    def give_up(self) -> None:
        """Leave the threads as they are; see `Task.give_up`."""


def _begin_anew() -> None:
    for dispatcher in shutdown.dispatchers:
        dispatcher.after_fork()


children.append(_begin_anew)
