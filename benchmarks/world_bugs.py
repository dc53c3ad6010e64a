"""Plant a bug on purpose, and count the simulated worlds that it takes to be found.

python benchmarks/world_bugs.py                       # each of them, up to 20,000 worlds of 50 events
python benchmarks/world_bugs.py --bug budget          # one of them
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from world_runs import run_many

from activitysmith_track import _pacing
from activitysmith_track.blocks.progress import ProgressBuilder
from activitysmith_track.delivery import (
    account,
    activity,
    dispatcher,
    end_delivery,
    end_message,
    guard,
    landing,
    parting,
    push_delivery,
    recovery,
    scheduler,
)
from activitysmith_track.delivery.state import OnPhone
from activitysmith_track.errors import ServerError

EVENTS = 50


def end_before_its_start() -> None:
    """An end does not wait for the start of its own activity, and is not sent again after it."""
    send = end_delivery.EndDelivery._send

    def hurried(self: Any, now: float) -> None:
        self.message.last_attempt.overtakes = False
        send(self, now)

    end_delivery.EndDelivery._send = hurried  # type: ignore[method-assign]
    end_delivery.OVERTAKE_SECONDS = -1e9
    end_delivery.EndDelivery._next = _without_grace(end_delivery.EndDelivery._next)  # type: ignore[method-assign]


def _without_grace(following: Callable[..., Any]) -> Callable[..., Any]:
    def chosen(self: Any, now: float) -> Any:
        self._asked = -1e9
        return following(self, now)

    return chosen


def lost_take_over() -> None:
    """An outer block does not take over the push of an inner one."""
    dispatcher.Dispatcher.take_over = lambda self, failure, opened: None  # type: ignore[method-assign, assignment]


def push_dropped() -> None:
    """A push is given up where the service is not available."""
    is_owed = push_delivery.PushMessage.is_owed_after

    def dropped(self: Any, error: Exception) -> bool:
        return is_owed(self, error) and not (isinstance(error, ServerError) and error.status == 503)

    push_delivery.PushMessage.is_owed_after = dropped  # type: ignore[method-assign]


def budget() -> None:
    """One update more than iOS shows."""
    legal_at = _pacing.Budget.legal_at
    _pacing.Budget.legal_at = lambda self, number: legal_at(self, number - 1)  # type: ignore[method-assign]


def lease() -> None:
    """A process that leaves does not give back what it had under a lease."""
    parting.Parting.leases = property(lambda self: [])  # type: ignore[assignment]


def older_end() -> None:
    """What an earlier run owes is sent although a newer one has the card."""
    recovery.RecoveredDelivery._newer = property(lambda self: iter(()))  # type: ignore[assignment]


def full_too_early() -> None:
    """A running job is shown at 100 %."""
    percent = lambda self, handle: round(100 * min(1.0, self.fraction(handle)))  # noqa: E731
    ProgressBuilder.percent = percent  # type: ignore


def retry_of_what_arrived() -> None:
    """A push that was delivered goes once more."""
    done = push_delivery.PushDelivery._done

    def again(self: Any, stage: Any) -> Any:
        message = self.message
        if message.has_arrived and not message.occurred_at < 0:
            message.has_arrived, message.occurred_at = False, -message.occurred_at
            message.stage = type(stage).OWED
            return self.dispatcher.clock()
        return done(self, stage)

    push_delivery.PushDelivery._done = again  # type: ignore[method-assign]


def rate_after_rotation() -> None:
    """The account's minute is forgotten when a card is changed for a fresh one."""
    answered = landing.Landing.answered

    def forgets(self: Any, answer: Any, older_may_end: bool) -> None:
        answered(self, answer, older_may_end)
        if self._sending.rotates:
            self._account._sent.clear()

    landing.Landing.answered = forgets  # type: ignore[method-assign]


def crash_state() -> None:
    """The watchdog is not told that a card has ended."""
    guard.Guard.disarm = lambda self, number: None  # type: ignore[method-assign, assignment]
    end_message.EndMessage.arm = lambda self: None  # type: ignore[method-assign, assignment]


def percentage_goes_back() -> None:
    """Now and then the state before the last is sent."""
    launch = activity.Activity.launch
    states: dict[int, list[Any]] = {}

    def stale(self: Any, state: Any, now: float) -> None:
        seen = states.setdefault(id(self), [])
        seen.append(state)
        is_stale = self.on_phone is OnPhone.YES and len(seen) % 4 == 3 and seen[-3] is not None
        launch(self, seen[-3] if is_stale else state, now)

    activity.Activity.launch = stale  # type: ignore[method-assign]


def debt_first() -> None:
    """What earlier processes owe goes before the ends of this one."""
    account.DEBTS_AT_ONCE = 1_000
    recovery.RecoveredDelivery.urgency = property(lambda self: account.Urgency.END)  # type: ignore
    run_due = scheduler.Agenda.run_due

    def debts_first(self: Any) -> None:
        for task in list(self._due):
            if isinstance(task, end_delivery.EndDelivery) and any(
                isinstance(each, recovery.RecoveredDelivery) and not each.message.stage.is_final
                for each in task.dispatcher.ledger.debts
            ):
                self.schedule(task, self._clock() + 0.5)
        run_due(self)

    scheduler.Agenda.run_due = debts_first  # type: ignore[method-assign]


BUGS: dict[str, Callable[[], None]] = {
    each.__name__: each
    for each in (
        end_before_its_start,
        lost_take_over,
        push_dropped,
        budget,
        lease,
        older_end,
        full_too_early,
        retry_of_what_arrived,
        rate_after_rotation,
        crash_state,
        percentage_goes_back,
        debt_first,
    )
}


def hunt(name: str, most: int) -> tuple[str, int, str, float]:
    """Plant a bug in this process, and return how many worlds it took to find it, or 0."""
    BUGS[name]()
    begun = time.perf_counter()
    for number, found in enumerate(run_many(range(most), EVENTS), 1):
        if found.violation:
            return name, number, f"seed {found.seed}: {found.violation}", time.perf_counter() - begun
    return name, 0, "not found", time.perf_counter() - begun


def main() -> None:
    """Hunt each bug in a process of its own."""
    parser = argparse.ArgumentParser(description="Plant bugs, and count the worlds that it takes to find them.")
    parser.add_argument("--bug", choices=BUGS)
    parser.add_argument("--most", type=int, default=20_000)
    parser.add_argument("--processes", type=int, default=2)
    given = parser.parse_args()
    names = [given.bug] if given.bug else list(BUGS)
    with ProcessPoolExecutor(given.processes, max_tasks_per_child=1) as pool:
        for name, number, told, seconds in pool.map(hunt, names, [given.most] * len(names)):
            print(f"{name:24} {number or 'not found':>9} worlds {seconds:7.1f} s  {told}", flush=True)


if __name__ == "__main__":
    main()
