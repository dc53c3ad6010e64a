"""The row of runs under one stream key. A new run, which has the card, may begin before an older one is over."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from .state import OnPhone

if TYPE_CHECKING:
    from collections.abc import Iterator

    from typing_extensions import Self

    from .account import Account


class Ending(Protocol):
    """The end of a run, as far as others of its stream key wait for it."""

    @property
    def is_in_flight(self) -> bool:
        """True while an attempt is in flight, so that nobody can tell whether it has arrived."""

    @property
    def repeats(self) -> bool:
        """True where it has arrived and is sent once more, so that a newer run need not wait for it."""


class Succession:
    """One run in the row of those that this process has under one stream key, and that are not over.

    Args:
        account: for whom.
        stream_key: the card.
        began_at: seconds since the epoch.

    Attributes:
        on_phone: whether the phone shows it, as far as is known.
        end_delivery: its end, when the block is over.
        predecessor: the next older run in the row.
        successor: the next newer one.
        is_replaced: whether a newer run has taken its place on the screen.
    """

    __slots__ = (
        *("account", "began_at", "end_delivery", "is_replaced", "on_phone", "predecessor", "stream_key"),
        "successor",
    )

    def __init__(self, account: Account, stream_key: str, began_at: float) -> None:
        self.account, self.stream_key, self.began_at = account, stream_key, began_at
        self.on_phone = OnPhone.NO
        self.end_delivery: Ending | None = None
        self.predecessor: Self | None = None
        self.successor: Self | None = None
        self.is_replaced = False

    @property
    def is_in_flight(self) -> bool:
        """True while a request that shows it is in flight."""
        raise NotImplementedError

    @property
    def older(self) -> Iterator[Self]:
        """The older runs in the row, the newest first."""
        older = self.predecessor
        while older is not None:
            yield older
            older = older.predecessor

    @property
    def newer(self) -> Iterator[Self]:
        """The newer runs in the row, the oldest first."""
        newer = self.successor
        while newer is not None:
            yield newer
            newer = newer.successor

    @property
    def is_preceded(self) -> bool:
        """True while the end of an older run in this process has yet to arrive, or is in flight once more."""
        for older in self.older:
            end = older.end_delivery
            if older.is_in_flight or end is None or end.is_in_flight or not end.repeats:
                return True
        return False

    @property
    def must_wait(self) -> bool:
        """True while the end of an older run has not arrived, which would end this one's card."""
        recovered = self.account.recovered.get(self.stream_key)
        return self.is_preceded or (recovered is not None and recovered.is_in_flight)

    @property
    def may_be_seen(self) -> bool:
        """True where it may be on the screen, because of a state, or of an end that has it appear first."""
        end = self.end_delivery
        return self.on_phone is not OnPhone.NO or self.is_in_flight or (end is not None and end.is_in_flight)

    @property
    def is_succeeded(self) -> bool:
        """True where a newer run has the card, or is about to."""
        return self.is_replaced or any(each.may_be_seen for each in self.newer)

    @property
    def older_began_by(self) -> float:
        """When a run has begun at the latest that counts as older, in seconds since the epoch; a worker may ask.

        While this run goes on every other one counts, since even one that began later is over by now.
        """
        return float("inf") if self.end_delivery is None else self.began_at

    def unlink(self) -> None:
        """Leave the row. The caller holds the lock of `OpenActivities`."""
        older, newer = self.predecessor, self.successor
        if newer is not None:
            newer.predecessor = older
        if older is not None:
            older.successor = newer
        self.predecessor = self.successor = None
