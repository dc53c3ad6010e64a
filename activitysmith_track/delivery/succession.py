"""The runs under one stream key, in order. A newer one, which has the card, may begin before an older one is over."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from .state import OnPhone

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from .account import Account
    from .scheduler import Task

    class Ending(Task, Protocol):
        """The end of a run, as far as others of its stream key, and its card, have to do with it."""

        @property
        def body(self) -> Mapping[str, Any]:
            """The body of the last request."""

        @property
        def last_state(self) -> Mapping[str, Any] | None:
            """What it shows on a card that stays up; `None` where it ends the card."""

        @property
        def is_in_flight(self) -> bool:
            """True while an attempt is in flight, so that nobody can tell whether it has arrived."""

        @property
        def repeats(self) -> bool:
            """True where it has arrived and is sent once more, so that a newer run need not wait for it."""

        @property
        def is_awaited(self) -> bool:
            """True where `flush` and the exit wait for it."""

        def doubt(self) -> None:
            """Note that an older run may yet end the card, or has ended it."""


class Neighbour(Protocol):
    """A run, as others of its succession see it.

    Attributes:
        on_phone: whether the phone shows its card, as far as is known.
    """

    on_phone: OnPhone

    @property
    def account(self) -> Account:
        """For whom it is."""

    @property
    def stream_key(self) -> str:
        """The card."""

    @property
    def began_at(self) -> float:
        """When it began, in seconds since the epoch."""

    @property
    def end_delivery(self) -> Ending | None:
        """Its end, when the block is over."""

    @property
    def is_in_flight(self) -> bool:
        """True while a request that shows it is in flight."""

    @property
    def succession(self) -> Succession[Any]:
        """Its place among the others."""


R = TypeVar("R", bound=Neighbour)


class Succession(Generic[R]):
    """The place of a run among those that this process has under one stream key, and that are not over.

    Args:
        run: whose place it is.

    Attributes:
        is_replaced: whether a newer run has taken its place on the screen.
    """

    __slots__ = ("_next", "_run", "is_replaced", "predecessor")

    def __init__(self, run: R) -> None:
        self._run = run
        self.predecessor: R | None = None  # the next older run in it
        self._next: R | None = None  # the next newer one
        self.is_replaced = False

    def follow(self, older: R) -> None:
        """Take the place behind the newest run so far. The caller holds the dispatcher's lock."""
        self.predecessor = older
        older.succession._next = self._run

    def unlink(self) -> None:
        """Leave the others. The caller holds the dispatcher's lock."""
        older, newer = self.predecessor, self._next
        if newer is not None:
            newer.succession.predecessor = older
        if older is not None:
            older.succession._next = newer
        self.predecessor = self._next = None

    @property
    def older(self) -> Iterator[R]:
        """The older runs in the succession, the newest first."""
        older = self.predecessor
        while older is not None:
            yield older
            older = older.succession.predecessor

    @property
    def newer(self) -> Iterator[R]:
        """The newer runs in the succession, the oldest first."""
        newer = self._next
        while newer is not None:
            yield newer
            newer = newer.succession._next

    @property
    def has_newer(self) -> bool:
        """True where there is a newer run that is not over."""
        return self._next is not None

    @property
    def is_followed(self) -> bool:
        """True where there is a newer run, which has the card or is to have it."""
        return self.is_replaced or self.has_newer

    def must_wait(self, *, opens: bool) -> bool:
        """Tell whether the end of an older run has to arrive first, or arrives once more just now.

        Args:
            opens: whether this run's card is to appear, which the end that an earlier process owes would end as well.
        """
        for older in self.older:
            end = older.end_delivery
            if older.is_in_flight or end is None or end.is_in_flight or not end.repeats:
                return True
        recovered = self._run.account.recovered.get(self._run.stream_key) if opens else None
        return recovered is not None and recovered.is_in_flight

    @property
    def is_succeeded(self) -> bool:
        """True where a newer run has the card, or is about to."""
        return self.is_replaced or any(may_be_seen(each) for each in self.newer)


def may_be_seen(run: Neighbour) -> bool:
    """Tell whether a run may be on the screen, because of a state, or of an end that has it appear first."""
    end = run.end_delivery
    return run.on_phone is not OnPhone.NO or run.is_in_flight or (end is not None and end.is_in_flight)


def older_began_by(run: Neighbour, now: float) -> float:
    """Return when a run has begun at the latest that counts as older than this one; a worker may ask.

    While this run goes on every other one counts, since one that began later, and owes its end, is over already. By
    the time at which the disk has answered this run may be over as well, and a newer one may have begun and ended.

    Args:
        run: this one.
        now: seconds since the epoch, taken a moment before.

    Returns:
        Seconds since the epoch.
    """
    return now if run.end_delivery is None else run.began_at
