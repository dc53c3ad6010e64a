"""Looks once whether an older run in another process has ended the card of a newer run that had just begun.

The copy of an end is put on disk only when its first attempt has failed, when it has to go once more, or when it
meets a card that was there before its run. A newer run in another process that began before that has found no copy,
and the older run does not know of the newer one. So the newer run looks at the disk once more, when all requests that
were in flight at its start are over. While all goes well there is no file to look at, but for a short run on a card
that was there before.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from .older_ends import EndUnderWay
from .state import OnPhone
from .unanswered import through_by

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from .run import Run
    from .scheduler import Job


class Aftermath:
    """The task that looks for ends of older runs after an activity has begun.

    Args:
        activity: whose card it is.
        since: when its card appeared, on the runtime's clock.
    """

    def __init__(self, activity: Run, since: float) -> None:
        self._activity, self._since = activity, since
        dispatcher = activity.dispatcher
        self._persistence = dispatcher.persistence  # a dispatcher that is closed begins with another one
        self._due = through_by(dispatcher.clock(), dispatcher.runtime.attempt_seconds)
        self._job: Job | None = None

    def run(self, now: float) -> float | None:
        """Look when it is time, and have the card confirmed if an end was sent; see `Task.run`."""
        activity, job = self._activity, self._job
        if activity.is_inherited or (activity.has_ended and self._last_state is None):
            return None
        if job is None:
            if now < self._due:
                return self._due
            dispatcher, look_back = activity.dispatcher, self._persistence.held.look_back
            whose = activity.account.key, activity.stream_key, activity.began_at
            look = partial(look_back, *whose, self._since, offset=activity.wall_offset)
            self._job = dispatcher.scheduler.send(dispatcher.end_workers, self, look)
            return None
        if not job.done:
            return None
        self._job = None
        if job.result is None:
            self._due = now + EndUnderWay.seconds
            return self._due
        if job.result:
            self._found(job.result, now)
        return None

    @property
    def _last_state(self) -> Mapping[str, Any] | None:
        """What a card shows that stays up, after a run that is over; `None` for any other."""
        end = self._activity.end_delivery
        return end.last_state if end is not None and self._activity.on_phone is OnPhone.YES else None

    def _found(self, until: float, now: float) -> None:
        """Have the card confirmed, since an older run's end may have reached it.

        Args:
            until: when that end can arrive at the latest, on the runtime's clock.
            now: the time now, on the same clock.
        """
        activity, end = self._activity, self._activity.end_delivery
        if activity.has_ended:
            self._show_again()
        elif end is not None:
            if not end.repeats:  # an end that is repeated has looked into the outbox itself
                end.doubt()
        elif activity.on_phone is OnPhone.YES:
            certainty = activity.screen.certainty
            certainty.expect(until)
            certainty.check(now, may_have_ended=True)
            activity.dispatcher.scheduler.wake(activity)

    def _show_again(self) -> None:
        """Have the last state of a card that stays up shown once more, like what an earlier process owes."""
        activity, dispatcher, body = self._activity, self._activity.dispatcher, self._last_state
        if body is not None:
            entry = self._persistence.entry(
                activity.account.key,
                "keep",
                body,
                dispatcher.runtime.wall(),
                id=dispatcher.runtime.token(),
                stream_key=activity.stream_key,
                began_at=activity.began_at,
            )
            dispatcher.recover(activity.account, entry)

    def give_up(self) -> None:
        """Look no more; see `Task.give_up`."""
