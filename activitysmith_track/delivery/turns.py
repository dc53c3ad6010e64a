"""Who is looked at again when something has changed that others wait for: an end, a slot, an outage."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .account import Account
    from .ledger import Ledger
    from .open_activities import OpenActivities
    from .run import Run
    from .scheduler import Scheduler
    from .update_queue import UpdateQueue


class Turns:
    """Wakes those whose turn it may be; called on the scheduler's thread.

    Args:
        scheduler: runs what is woken.
        updates: the states that are ready.
        opened: the open activities.
        ledger: what is owed.
    """

    def __init__(self, scheduler: Scheduler, updates: UpdateQueue, opened: OpenActivities, ledger: Ledger) -> None:
        self._scheduler, self._updates, self._opened, self._ledger = scheduler, updates, opened, ledger

    def release(self, activity: Run) -> None:
        """Forget an activity that has ended, and wake those that waited for it."""
        others = self._opened.remove(activity)
        self._scheduler.forget(activity)
        self.wake_recovered(activity)
        if activity.end_delivery is not None:
            activity.forget_handle()
        if activity.account.release(activity):
            self.wake_waiting(activity.account)
            for end in activity.account.waiting_ends():
                self._scheduler.wake(end)
        self.wake_all(others)

    def wake_recovered(self, activity: Run) -> None:
        """Wake the end that an earlier process owes the same card: it may have waited for this activity."""
        owed = activity.account.recovered.get(activity.stream_key)
        if owed is not None:
            self._scheduler.wake(owed)

    def wake_waiting(self, account: Account) -> None:
        """Wake the activities for which there is a slot."""
        self.wake_all(account.next_ones())

    def wake_both(self, activity: Run) -> None:
        """Wake an activity and its end."""
        self._scheduler.wake(activity)
        if activity.end_delivery is not None:
            self._scheduler.wake(activity.end_delivery)

    def wake_all(self, activities: Iterable[Run]) -> None:
        """Wake activities and their ends."""
        for activity in list(activities):
            self.wake_both(activity)

    def retry_all(self, account: Account) -> None:
        """Have everything tried again at once that waits for the end of an account's outage."""
        for activity in self._opened:
            if activity.account is account:
                activity.retry_at = 0.0
                self._scheduler.wake(activity)
        for delivery in self._ledger.deliveries:
            if delivery.account is account:
                self._scheduler.wake(delivery)
        self._scheduler.wake(self._updates)
