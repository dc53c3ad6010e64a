"""The dispatcher, which sends states, ends and pushes to the service, so that the user's code never does.

A handle is given an `Activity`: its mailbox. The activity asks the handle for its state when something may be sent,
so only the latest state is ever sent. One scheduler decides; workers carry the requests: one pool the states,
another the ends and pushes, which must not wait behind a hanging update.
"""

from __future__ import annotations

import contextlib
import itertools
import weakref
from collections import deque
from queue import Empty
from typing import TYPE_CHECKING, Any

from .._fork import children, importing, on_own_thread
from .._pacing import DEFAULT_BUDGET, Budget
from .account import Account
from .activity import Activity
from .deliveries import Delivery
from .end_delivery import EndDelivery
from .persistence import Parting, Persistence
from .push_delivery import PushDelivery
from .recovery import LOOK_AGAIN, LeaseRenewal, OutboxRecovery
from .runtime import Runtime
from .shutdown import Shutdown, shutdown
from .state import CopyOwner, Life, StateProvider
from .update_queue import UpdateQueue

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .._inbox import Inbox
    from .messages import Message
    from .run import Run
    from .scheduler import Scheduler, Task, WorkerPool
    from .signals import Signals

WORKERS = 4  # threads of each pool at most: as many as there are slots
CLOSE_SECONDS = 0.5  # that `close` waits for requests in flight, unless it is given a timeout
LANDING_SECONDS = 0.1  # by which a request at the exit ends before the exit's deadline
ECHO_SECONDS = 1.0  # seconds within which an outer block takes over the failure push of an inner one


class Dispatcher:
    """The schedulers, the workers, the accounts and what is still owed.

    Args:
        exit_timeout: returns the seconds that the interpreter's exit may wait.
        runtime: the world outside.
        leaves: the exit of the process, in which it takes part.
    """

    def __init__(
        self, exit_timeout: Callable[[], float], runtime: Runtime | None = None, leaves: Shutdown = shutdown
    ) -> None:
        self.exit_timeout, self.runtime, self._shutdown = exit_timeout, runtime or Runtime(), leaves
        self.order = itertools.count()  # of openings and failures
        self.epoch = 0
        self._fresh()
        self._retirement = Retirement(self)
        self.is_dropped = False
        self.refuses = False  # opens no more activities: its tracker is closed
        self._shutdown.add(self)

    @property
    def clock(self) -> Callable[[], float]:
        """Seconds of a clock that never goes back."""
        return self.runtime.now

    def _fresh(self) -> None:
        """Begin with nothing, as a new process or a forked child must."""
        runtime = self.runtime
        self.scheduler, self.sampling = runtime.scheduler("dispatcher"), runtime.scheduler("samples")
        self.update_workers = runtime.workers("updates", WORKERS, self.scheduler.report)
        self.end_workers = runtime.workers("ends", WORKERS, self.scheduler.report)
        self._updates = UpdateQueue(self)
        self.persistence = Persistence(runtime)
        self._leases = LeaseRenewal(self)
        self._signals: Signals | None = None
        self.begun_at = runtime.now()
        self.lost = 0
        self.draining = False
        self._deadline: float | None = None  # of the exit, once it has begun
        self._owed: dict[Task, None] = {}  # by this process
        self._debts: dict[Task, None] = {}  # of earlier ones
        self._left: set[Delivery] = set()  # what the exit has left undelivered
        self._parted: set[Delivery] | None = None  # what `part` has left to others
        self._open: dict[Run, None] = {}
        self._accounts: dict[tuple[str, str], Account] = {}
        self._echoes: deque[PushDelivery] = deque(maxlen=64)
        self._waiters: list[Inbox[None]] = []
        self._lock = runtime.lock()  # short bookkeeping; reentrant for signal handlers
        self.taking_over = runtime.lock()  # held while a failure's push is withdrawn, entrusted or sent

    def after_fork(self) -> None:
        """Begin anew: what was owed is left to the parent, or to nobody."""
        self.epoch += 1
        self._fresh()

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
        for each in self._threads:  # first the schedulers, which may yet start a worker that nobody would stop
            each.stop()
            each.join(max(0.0, until - self.clock()))
        self.persistence.stop()
        self.close_connections()
        self.runtime.forget_warnings()
        waiters, owed, parted = self._waiters, self._owed, self._parted
        self.after_fork()
        for waiter in list(waiters):  # one that waits later finds that nothing is owed
            waiter.put(None)
        for task in list(owed):
            if isinstance(task, Delivery) and parted is not None and task not in parted and not task.is_in_flight:
                self.deliver(task)  # another thread has handed it in since `part`

    def let_go(self) -> None:
        """Let the threads end when they are done with what they do, and close the connections."""
        for each in self._threads:
            each.stop()
        self.persistence.stop()
        self.close_connections()

    @property
    def _threads(self) -> tuple[Scheduler | WorkerPool, ...]:
        return self.sampling, self.scheduler, self.update_workers, self.end_workers

    @property
    def schedulers(self) -> tuple[Scheduler, Scheduler]:
        """The schedulers: that of the samples first, since it hands work to the other."""
        return self.sampling, self.scheduler

    # -- the user's side

    def account(self, api_key: str, base_url: str) -> Account:
        """Return the account of one key at one address, made on first use."""
        key = api_key, base_url
        found = self._accounts.get(key)  # first: what a signal handler raises in a spare account's `__del__` is lost
        return self._accounts.setdefault(key, Account(api_key, base_url, self.runtime)) if found is None else found

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
        with self._lock:
            key, number = stream_key, 1
            if self.refuses:  # its tracker was closed while the block was opened
                activity = Activity(self, account, key, source, visible_at=0.0, reserve=reserve, budget=budget)
                activity.life = Life.ENDED
                return activity
            while (older := account.activities.get(key)) is not None and older.end_delivery is None:
                number += 1
                key = f"{stream_key[:245]}-{number}"
            # While another thread runs the exit, nobody would end this card: so it appears only with its end.
            visible_at = self.clock() + delay if self._shutdown.stays_here else float("inf")
            activity = Activity(self, account, key, source, visible_at=visible_at, reserve=reserve, budget=budget)
            if older is not None and older.end_delivery is not None:
                activity.row.follow(older)
                self.scheduler.wake(older.end_delivery)  # it is tried at once: the newer run waits for it
            account.activities[key] = activity
            self._open[activity] = None
        return activity

    def takes(self, end: EndDelivery) -> bool:
        """Make this the end of its activity; False where another thread has ended it before."""
        with self._lock:
            if end.activity.end_delivery is None:
                end.activity.end_delivery = end
        return end.activity.end_delivery is end

    def hand_in(self, task: Activity | EndDelivery) -> None:
        """Pass an activity's state or end to its scheduler."""
        activity = task.activity if isinstance(task, EndDelivery) else task
        if activity.is_inherited or activity.has_ended:
            return
        if isinstance(task, EndDelivery):
            self._owed.setdefault(task, None)
        elif task.life in (Life.WAITING, Life.STARTING) and not (task.end_delivery or task.is_delayed):
            self._owed.setdefault(activity, None)
            if activity.life not in (Life.WAITING, Life.STARTING):
                self.settle(activity)  # it has appeared meanwhile
        self._give(self.scheduler, task)

    def owe(self, activity: Activity) -> None:
        """Note that an activity is to appear, so that `flush` waits for it; during its delay it is not owed."""
        if not self.draining:
            self._owed.setdefault(activity, None)

    def push(
        self,
        account: Account,
        body: Mapping[str, Any],
        *,
        at_least_once: bool,
        failure: object = None,
    ) -> PushDelivery:
        """Send a push; one for a failure is held for a second, in which an outer block may take it over."""
        held = ECHO_SECONDS if failure is not None else 0.0
        delivery = PushDelivery(self, account, body, at_least_once=at_least_once, not_before=self.clock() + held)
        if failure is not None:
            delivery.failure = (failure, next(self.order))
            self._echoes.append(delivery)
        self.look_for_owed(account)
        self.deliver(delivery)
        return delivery

    def deliver(self, delivery: Delivery) -> None:
        """Have something sent that must not be lost."""
        (self._debts if delivery.is_debt else self._owed)[delivery] = None
        self._give(self.scheduler, delivery)

    def look_for_owed(self, account: Account, *, again: bool = False) -> None:
        """Have what earlier processes owe an account looked for in the outbox, and delivered.

        Args:
            account: the account.
            again: True to look even if that was done lately.
        """
        recovery = account.recovery
        if self.draining or (recovery is not None and not again and self.clock() < recovery.looked_at + LOOK_AGAIN):
            return
        if recovery is None:
            recovery = account.recovery = OutboxRecovery(self, account)
        recovery.ask()
        self._debts[recovery] = None
        self._give(self.scheduler, recovery)

    def take_over(self, failure: object, opened: int) -> None:
        """Withdraw the newest push for the same exception, if an inner block made it while this one was open.

        Args:
            failure: the exception's marks.
            opened: the number of the outer block's opening; see `order`.
        """
        for delivery in reversed(self._echoes.copy()):  # other threads may fail at the same time
            mark = delivery.failure
            if mark is not None and mark[0] == failure and mark[1] > opened:
                with self.taking_over:
                    if delivery.failure is None:
                        continue  # it is being sent
                    delivery.withdraw()
                if delivery.message.copy_owner is CopyOwner.OUTBOX:
                    self.scheduler.wake(delivery)  # a worker clears the copy: this thread must not touch the disk
                    return
                self.persistence.forget_copy(delivery.message)
                self.settle(delivery)
                self.scheduler.wake(delivery)
                return

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

    def settle(self, task: Task) -> None:
        """Note that nothing is owed for a task any more."""
        was_last = task in self._owed and len(self._owed) == 1
        self._owed.pop(task, None)
        self._debts.pop(task, None)
        if was_last and self.draining:
            for debt in list(self._debts):
                self.scheduler.wake(debt)
        for waiter in list(self._waiters):
            waiter.put(None)
        if self.is_dropped:
            self.scheduler.wake(self._retirement)

    def release(self, activity: Run) -> None:
        """Forget an activity that has ended, and wake those that waited for it."""
        with self._lock:
            self._open.pop(activity, None)
            older = activity.row.predecessor
            others = [*activity.row.older, *activity.row.newer]
            activity.row.unlink()
            newest = activity.account.activities
            if newest.get(activity.stream_key) is activity:
                if older is None:
                    del newest[activity.stream_key]
                else:
                    newest[activity.stream_key] = older
        self.scheduler.forget(activity)
        self.wake_recovered(activity)
        if activity.end_delivery is not None:
            activity.forget_handle()
        if activity.account.release(activity):
            self.wake_waiting(activity.account)
            for end in activity.account.waiting_ends():
                self.scheduler.wake(end)
        for other in others:
            self.wake_both(other)

    def look_after_leases(self) -> None:
        """Have this process's leases in the outbox renewed, if it has any."""
        if self.persistence.has_leases:
            self.scheduler.schedule(self._leases, self.clock())

    def wake_recovered(self, activity: Run) -> None:
        """Wake the end that an earlier process owes the same card: it may have waited for this activity."""
        owed = activity.account.recovered.get(activity.stream_key)
        if owed is not None:
            self.scheduler.wake(owed)

    def wake_waiting(self, account: Account) -> None:
        """Wake the activities for which there is a slot."""
        for activity in account.next_ones():
            self.wake_both(activity)

    def wake_both(self, activity: Run) -> None:
        """Wake an activity and its end."""
        self.scheduler.wake(activity)
        if activity.end_delivery is not None:
            self.scheduler.wake(activity.end_delivery)

    def retry_all(self, account: Account) -> None:
        """Have everything tried again at once that waits for the end of an account's outage."""
        for activity in list(self._open):
            if activity.account is account:
                activity.retry_at = 0.0
                self.scheduler.wake(activity)
        for delivery in self._deliveries():
            if delivery.account is account:
                self.scheduler.wake(delivery)
        self.scheduler.wake(self._updates)

    def make_ready(self, activity: Activity, now: float) -> None:
        """Have an activity's state sent, when its turn has come."""
        self._updates.add(activity)
        self.send_ready(now)

    def send_ready(self, now: float) -> None:
        """Have the states that are ready sent, as far as rate and workers allow."""
        self.scheduler.schedule(self._updates, now)

    def attempt_seconds(self) -> float:
        """Return how long one request may take: less when the interpreter is leaving.

        At the exit it ends a little before the deadline. So its outcome is known in time, and no thread wakes while
        the interpreter is taken down.
        """
        if self._deadline is None:
            return self.runtime.attempt_seconds
        return min(self.runtime.attempt_seconds, max(0.1, self._deadline - self.clock() - LANDING_SECONDS))

    def tell_failure(self, what: str, error: Exception) -> None:
        """Log a failed delivery, once for each kind; as text, for a log record would keep its frames alive."""
        kind = (what, type(error), getattr(error, "status", None))
        self.runtime.warn_once(kind, "activitysmith_track could not deliver %s (told once): %s", what, str(error))

    # -- waiting

    def flush(self, timeout: float, account: Account | None = None, *, of_others: bool = False) -> bool:
        """Wait until nothing is owed; see `Tracker.flush`.

        Args:
            timeout: seconds to wait at most.
            account: what the outbox holds for it is delivered, too.
            of_others: True where this process only delivers what others owe. Then it also waits for what is under the
                lease of another process, which may be gone.
        """
        if account is not None:
            account.only_debts |= of_others
            self.look_for_owed(account, again=True)
        self._wait_for_all(timeout)
        lost, self.lost = self.lost, 0
        return not self.owes and not lost

    def owed_ids(self) -> set[str]:
        """Return the ids of the deliveries of this process that have a copy."""
        return {each.message.entry.id for each in self._deliveries() if each.message.entry is not None}

    def _deliveries(self) -> list[Delivery]:
        """Return the deliveries that are owed, this process's own first."""
        return [task for task in [*list(self._owed), *list(self._debts)] if isinstance(task, Delivery)]

    @property
    def owes(self) -> bool:
        """True while something is owed: an end, a push, a card that is to appear, or a look into the outbox."""
        return bool(self._owed or self._debts)

    @property
    def owes_own(self) -> bool:
        """True while this process owes something of its own."""
        return bool(self._owed)

    def _wait_for_all(self, timeout: float) -> None:
        until, waiters = self.clock() + timeout, self._waiters  # `close` makes a new list
        waiter = self.runtime.inbox()
        waiters.append(waiter)
        try:
            while self.owes and (left := until - self.clock()) > 0:
                with contextlib.suppress(Empty):
                    waiter.get(left)
        finally:
            waiters.remove(waiter)

    # -- a signal and the exit, which `shutdown` leads

    def stop(self, words: str) -> None:
        """End all activities as stopped, here and in all other dispatchers that heed signals.

        Args:
            words: name the signal.
        """
        self._shutdown.stop(words, self)

    def start_draining(self, seconds: float) -> None:
        """From now on no hold and no pacing delays anything, and all requests together have so many seconds."""
        self.draining = True
        self._deadline = self.clock() + seconds

    @property
    def seconds_left(self) -> float:
        """The seconds that the exit may still wait for what is owed here, 0 or more."""
        return max(0.0, (self._deadline or 0.0) - self.clock())

    def end_open(self, words: str | None = None) -> None:
        """End all open activities as stopped; if a signal is the reason, the words name it."""
        with self._lock:  # an `open` that another thread has begun is over by then
            opened = list(self._open)
        for activity in opened:
            if activity.end_delivery is None:
                activity.source.abandon(words)
            elif not activity.has_ended:  # its own thread may not have handed the end in yet
                self._owed.setdefault(activity.end_delivery, None)
                self.scheduler.wake(activity.end_delivery)

    def send_owed(self) -> None:
        """Have all ends and pushes sent at once, and owe nothing else any more."""
        for owed in (self._owed, self._debts):
            for task in list(owed):
                if isinstance(task, Delivery):
                    self.scheduler.wake(task)
                else:
                    owed.pop(task, None)

    def drain_here(self, seconds: float) -> None:
        """Deliver what is owed on the calling thread, within so many seconds, where no thread can start any more."""
        self.scheduler.drain(self.clock() + seconds, lambda: self.owes)

    def wait(self, timeout: float) -> None:
        """Wait at most so many seconds until nothing is owed."""
        if self.owes:
            self._wait_for_all(max(0.0, timeout))

    def part(self, timeout: float, *, stays: bool = False) -> Parting:
        """Begin to leave to others what was not delivered; see `Persistence.part`."""
        for delivery in self._deliveries():
            if isinstance(delivery, EndDelivery) and delivery.activity.row.has_newer:
                self.persistence.disarm(delivery.activity.number)  # a newer run has the card
        return self.persistence.part(self._all_owed, timeout, stays=stays)

    def _all_owed(self) -> list[Message]:
        """Return what `part` leaves to others, and note it: `close` delivers what is handed in later."""
        deliveries = self._deliveries()
        self._parted = set(deliveries)
        return [each.message for each in deliveries]

    def close_connections(self) -> None:
        """Close the connections; a next request opens new ones."""
        for account in list(self._accounts.values()):
            account.close()

    def count_left(self) -> int:
        """Return how many deliveries the exit leaves undelivered, except those that it has counted before.

        A push that may have arrived, and is better lost than sent twice, is left to nobody and not counted.
        """
        left = {delivery for delivery in self._deliveries() if not delivery.message.may_have_arrived}
        new, self._left = left - self._left, left
        return len(new)

    def refuse(self) -> None:
        """Open no more activities; `end_open` knows all that were opened before."""
        with self._lock:
            self.refuses = True

    @property
    def is_idle(self) -> bool:
        """True while no activity is open and nothing is owed."""
        return not self._open and not self.owes

    @property
    def signals(self) -> Signals:
        """The handlers that end the activities when a signal tells the process to leave."""
        if self._signals is None:
            with importing():
                from .signals import Signals
            made = Signals(self.stop)
            with self._lock:
                self._signals = self._signals or made
        return self._signals

    @property
    def heeds_signals(self) -> bool:
        """True while a signal would end this dispatcher's activities."""
        return self._signals is not None and self._signals.tracks


class Retirement:
    """The task that lets go of a dispatcher whose tracker is gone, when nothing is open or owed any more."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = weakref.ref(dispatcher)

    def run(self, now: float) -> float | None:
        """Let go, or wait for the next thing to be settled; see `Task.run`."""
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
