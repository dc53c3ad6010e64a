"""Which activities are open, under which key each runs, and which older run it follows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .state import Life

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .account import Account
    from .activity import Activity
    from .end_delivery import EndDelivery
    from .run import Run
    from .runtime import Runtime


class OpenActivities:
    """The activities that have not ended. To iterate goes over a copy, for other threads open and release meanwhile.

    Args:
        runtime: the world outside.
        refuses: True to open no more of them.
    """

    def __init__(self, runtime: Runtime, *, refuses: bool = False) -> None:
        self._open: dict[Run, None] = {}
        self.refuses = refuses
        self._lock = runtime.lock()  # short bookkeeping; reentrant for signal handlers

    def __iter__(self) -> Iterator[Run]:
        return iter(list(self._open))

    def __len__(self) -> int:
        return len(self._open)

    def add(self, account: Account, stream_key: str, make: Callable[[str], Activity]) -> Activity:
        """Open an activity; while another of the same key runs, the key gets `-2`, `-3` ...

        Args:
            account: for whom.
            stream_key: the key that it is to have.
            make: makes it, under the key that it gets.
        """
        with self._lock:
            if self.refuses:  # its tracker was closed while the block was opened
                activity = make(stream_key)
                activity.life = Life.ENDED
                return activity
            key, number = stream_key, 1
            while (older := account.activities.get(key)) is not None and older.end_delivery is None:
                number += 1
                key = f"{stream_key[:245]}-{number}"
            activity = make(key)
            if older is not None:
                activity.succession.follow(older)
            account.activities[key] = activity
            self._open[activity] = None
        return activity

    def takes(self, end: EndDelivery) -> bool:
        """Make this the end of its activity; False where another thread has ended it before."""
        with self._lock:
            activity = end.activity
            if activity.end_delivery is None:
                # Where the clock was set back, it would seem to have ended before it began.
                activity.began_at = min(activity.began_at, end.message.occurred_at)
                activity.end_delivery = end
        return end.activity.end_delivery is end

    def remove(self, activity: Run) -> list[Run]:
        """Forget an activity that has ended; returns the others of its succession, which may have waited for it."""
        with self._lock:
            self._open.pop(activity, None)
            older = activity.succession.predecessor
            others = [*activity.succession.older, *activity.succession.newer]
            activity.succession.unlink()
            newest = activity.account.activities
            if newest.get(activity.stream_key) is activity:
                if older is None:
                    del newest[activity.stream_key]
                else:
                    newest[activity.stream_key] = older
        return others

    def all_begun(self) -> list[Run]:
        """Return the open activities, with those that other threads have begun to open."""
        with self._lock:
            return list(self._open)

    def refuse(self) -> None:
        """Open no more; `all_begun` knows all that were opened before."""
        with self._lock:
            self.refuses = True
