"""Which of several cards is updated first, where not all may be: the one that is most wrong on the screen."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .activity import Activity
    from .scheduler import Scheduler, WorkerPool
    from .state import ActivityState


class UpdateQueue:
    """The task that sends the states that are ready, that of the card that is most wrong on the screen first.

    Args:
        scheduler: runs it.
        workers: carry the states.
    """

    def __init__(self, scheduler: Scheduler, workers: WorkerPool) -> None:
        self._scheduler, self._workers = scheduler, workers
        self._ready: dict[Activity, None] = {}

    def make_ready(self, activity: Activity, now: float) -> None:
        """Have an activity's state sent, when its turn has come."""
        self._ready[activity] = None
        self.send_ready(now)

    def send_ready(self, now: float) -> None:
        """Have the states that are ready sent, as far as rate and workers allow."""
        self._scheduler.schedule(self, now)

    def run(self, now: float) -> float | None:
        """Send what may go; returns when the account lets the next one through."""
        if not self._workers.free:
            return None  # woken when a request has landed
        later: float | None = None
        for activity, state in self._by_staleness(now):
            open_at = activity.account.open_at(now, activity.urgency)
            if open_at > now:
                later = open_at if later is None else min(later, open_at)
            elif self._workers.free:
                del self._ready[activity]
                activity.launch(state, now)
        return later

    def _by_staleness(self, now: float) -> list[tuple[Activity, ActivityState]]:
        """Return the ready activities with their states, the one that is most wrong on the screen first."""
        found: list[tuple[float, Activity, ActivityState]] = []
        for activity in list(self._ready):
            state = activity.state_to_send()
            stale = None if state is None else activity.screen.staleness(state, now)
            if state is None or stale is None:
                del self._ready[activity]
                self._scheduler.schedule(activity, now)  # so that it listens again
            else:
                found.append((stale, activity, state))
        found.sort(key=lambda each: -each[0])
        return [(activity, state) for _, activity, state in found]

    def give_up(self) -> None:
        """Forget what was ready; each activity is looked at again with its next change."""
        for activity in self._ready:
            activity.listen()
        self._ready.clear()
