"""Requests without an answer: what they may still do to a card, and as how many updates iOS may count them.

A request that was given up is carried out at once, a little later, behind newer ones, or never. So an update counts
as soon as it may have arrived. What is sent once more as it was changes nothing on the card, and does not count,
unless another state comes between the two; while that may happen, one update is kept in hand for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .bodies import opens_anew

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

LATE_SECONDS = 5.0  # in which a request that was given up may be carried out
STRAGGLER_SECONDS = 1.0  # more, after which nothing of an earlier process arrives any more


def landed_by(now: float, attempt_seconds: float) -> float:
    """Return when every request that another process has in flight now has arrived, or never will.

    Args:
        now: on any clock.
        attempt_seconds: what an attempt may take.
    """
    return now + attempt_seconds + STRAGGLER_SECONDS


def through_by(now: float, attempt_seconds: float) -> float:
    """Return when no request can be carried out any more that another process has in flight now, or then gives up."""
    return landed_by(now, attempt_seconds) + LATE_SECONDS


class _Late:
    """A request that may yet be carried out.

    Attributes:
        body: what it shows; `None` for one that ends the card.
        until: when it can no longer be.
        counts: whether it is among the updates that are counted.
        separates: whether it may still arrive between two sendings of the same state, so that the second one changes
            the card, and counts as an update.
    """

    __slots__ = ("body", "counts", "separates", "until")

    def __init__(self, body: Mapping[str, Any] | None, until: float, *, counts: bool = False) -> None:
        self.body, self.until, self.counts, self.separates = body, until, counts, True


class Unanswered:
    """The requests of one stream that were given up without an answer, whichever run sent them.

    Only the scheduler's thread changes it; a worker may ask until when something may arrive.

    Attributes:
        older_until: until when an end may arrive of a run that nobody here knows of, since a card was there already
            when one of this process's was to appear.
    """

    __slots__ = ("_last", "_last_at", "_late", "older_until")

    def __init__(self) -> None:
        self.older_until = 0.0
        self._late: list[_Late] = []
        self._last: Mapping[str, Any] | None = None  # sent last to the card, without an answer
        self._last_at = 0.0

    # -- what it may do

    def note(self, body: Mapping[str, Any] | None, now: float) -> None:
        """Take in a request that may be carried out later, and is no update of a card that is known to be there.

        Args:
            body: what it shows; `None` where it ends the card.
            now: when it was given up.
        """
        self._late.append(_Late(body, now + LATE_SECONDS))

    def expect_older(self, now: float, attempt_seconds: float) -> None:
        """Note that a card was taken over that another process may just have ended; see `through_by`."""
        self.older_until = max(self.older_until, through_by(now, attempt_seconds))

    def may_appear_until(self, other_than: Mapping[str, Any] | None = None) -> float:
        """Return until when an unanswered request may show the card, with any but a certain state."""
        return max((late.until for late in self._late if late.body not in (None, other_than)), default=0.0)

    @property
    def may_end_until(self) -> float:
        """Until when an unanswered request may end the card."""
        return max((late.until for late in self._late if late.body is None), default=0.0)

    @property
    def may_change_until(self) -> float:
        """Until when an unanswered request may change the card, or end it."""
        return max(self.may_appear_until(), self.may_end_until)

    def is_over(self, now: float) -> bool:
        """Tell whether none of them can arrive any more."""
        return now >= max(self.may_change_until, self.older_until)

    # -- how many updates iOS counts at most

    def began(self, body: Mapping[str, Any], at: float) -> int:
        """Note that the card has appeared by what was sent at a time.

        Returns:
            The updates that count already, since they may arrive after it.
        """
        self._sent(None, at)
        for late in self._late:
            late.counts, late.separates = late.body is not None and (late.body != body or opens_anew(body)), True
        return sum(late.counts for late in self._late)

    def failed(self, body: Mapping[str, Any], at: float, now: float, *, may_be_late: bool) -> int:
        """Note an update that may have been carried out.

        Args:
            body: what it shows.
            at: when it was sent.
            now: when it was given up.
            may_be_late: whether it may be carried out later than that.

        Returns:
            How many updates more iOS may have counted.
        """
        moved = self._move_between(body, at)
        counts = opens_anew(body) or body != self._last or self._is_separated(body)
        self._sent(body, at)
        if may_be_late:
            self._late.append(_Late(body, now + LATE_SECONDS, counts=counts))
        elif not counts:
            self._count_instead(body, most=1)
        return moved + counts

    def answered(self, body: Mapping[str, Any], at: float, *, changed: bool) -> int:
        """Note an update that was answered.

        Args:
            body: what it shows.
            at: when it was sent.
            changed: whether it has changed what the card shows.

        Returns:
            How many updates more iOS may have counted.
        """
        moved = self._move_between(body, at)
        counts = changed and (opens_anew(body) or body != self._last or self._is_separated(body))
        if changed and not counts:  # so the earlier request has not been carried out yet
            self._count_instead(body, most=len(self._late))
        self._sent(None, at)
        return moved + counts

    def is_free(self, body: Mapping[str, Any]) -> bool:
        """Tell whether sending a state changes nothing on the card, since that state was sent last."""
        return body == self._last and not opens_anew(body) and not any(self._between(body))

    @property
    def kept(self) -> tuple[int, float]:
        """How many updates to keep in hand, and until when, for late requests that count if another state comes."""
        kept = [late.until for late in self._late if late.body is not None and not late.counts]
        return len(kept), max(kept, default=0.0)

    def _sent(self, body: Mapping[str, Any] | None, at: float) -> None:
        self._last, self._last_at = body, at
        self._late = [late for late in self._late if late.until > at]

    def _count_instead(self, body: Mapping[str, Any], most: int) -> None:
        """Count this in the place of late requests with the same state, at most so many of them."""
        for late in [late for late in self._late if late.counts and late.body == body][:most]:
            late.counts = False

    def _move_between(self, body: Mapping[str, Any], at: float) -> int:
        """Count one late repetition that this other state now comes before; returns 0 or 1 more update."""
        for late in self._late:
            if late.until > at and late.body not in (None, body) and not late.counts:
                late.counts = True
                return 1
        return 0

    def _is_separated(self, body: Mapping[str, Any]) -> bool:
        """Tell whether another state may come between this one and its last sending; each of those does once."""
        for late in self._between(body):
            late.separates = False
            return True
        return False

    def _between(self, body: Mapping[str, Any]) -> Iterator[_Late]:
        """Yield the late requests whose other state may come between this state and its last sending."""
        for late in self._late:
            if late.until > self._last_at and late.body not in (None, body) and late.separates:
                yield late
