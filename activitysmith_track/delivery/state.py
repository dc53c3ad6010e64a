"""What a handle offers to be shown, and the states that an activity and a delivery go through."""

from __future__ import annotations

from enum import Enum
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Mapping

    CrashState = tuple[Mapping[str, Any], Mapping[str, Any] | None]  # how an activity ends, and the push


class Digest(NamedTuple):
    """What tells one state of an activity from the next, and costs less to make than the state.

    Attributes:
        fraction: the part done, 0 to 1, or `None` where there is no such thing.
        transitions: how many transitions there were; a new one goes at once.
        detail: what else is worth an update of its own when it changes.
        numbers: the numbers on the card by their labels; the more they change, the sooner they are sent.
    """

    fraction: float | None = None
    transitions: int = 0
    detail: object = None
    numbers: Mapping[str, float] = MappingProxyType({})


class ActivityState(NamedTuple):
    """What an activity should show now.

    Attributes:
        body: the body of a stream PUT.
        digest: taken before it was built.
    """

    body: Mapping[str, Any]
    digest: Digest = Digest()


class EndState(NamedTuple):
    """How an activity ends.

    Attributes:
        body: the body of the last request.
        opening: the body that starts the activity first, where it was never on the screen.
        show: False where an activity that was never on the screen need not appear at all.
        keep: True to leave the card up with this state instead of ending it.
        not_before: until when it is held back, on the runtime's clock, since a better one may take its place.
    """

    body: Mapping[str, Any]
    opening: Mapping[str, Any] | None = None
    show: bool = True
    keep: bool = False
    not_before: float = 0.0


class StateProvider(Protocol):
    """What the delivery asks of a handle, on its own threads."""

    def snapshot(self) -> ActivityState | None:
        """Return the state to show, or `None` where there is nothing to show yet."""

    def digest(self) -> Digest:
        """Return what tells this state from the next."""

    def transitions(self) -> int:
        """Return how many transitions there have been so far."""

    def crash_state(self) -> CrashState | None:
        """Return what is to be sent if the process dies now, or `None` where no watchdog was asked for."""

    def rest(self, looked: Digest | None) -> float | None:
        """Let the next change after a look wake the activity; returns in how many seconds to look without one."""

    def opening(self) -> None:
        """Hear that the card is about to appear on the screen."""

    def abandon(self, words: str | None = None) -> None:
        """End as stopped, since the interpreter exits, or since a signal came, which the words name."""


class _Nothing:
    """Takes the place of a handle that has ended, so that the delivery holds no reference to it."""

    def snapshot(self) -> ActivityState | None:
        return None

    def digest(self) -> Digest:
        return Digest()

    def transitions(self) -> int:
        return 0

    def crash_state(self) -> CrashState | None:
        return None

    def rest(self, looked: Digest | None) -> float | None:
        return None

    def opening(self) -> None:
        return

    def abandon(self, words: str | None = None) -> None:
        return


NOTHING = _Nothing()


class Life(Enum):
    """The states of an activity's life."""

    WAITING = "waiting"  # to appear: for its time, a slot, or another run's end
    STARTING = "starting"  # the request that has it appear is in flight
    SHOWN = "shown"
    UPDATING = "updating"  # a newer state is in flight
    ENDING = "ending"  # the block is over; from here on its `EndDelivery` decides
    ENDED = "ended"
    REFUSED = "refused"  # the service will not show it


class OnPhone(Enum):
    """Whether the phone shows an activity, as far as is known."""

    NO = "no"
    MAYBE = "maybe"  # a start without an answer may have been carried out
    YES = "yes"


class Attention(Enum):
    """Which changes of a handle have its activity looked at."""

    ANY = "any"
    TRANSITIONS = "transitions"  # alone: all else is looked at soon in any case
    NONE = "none"  # nothing wakes it: it is looked at at a time that is set already


class Stage(Enum):
    """How far a delivery is."""

    HELD = "held"  # held back for a while
    OWED = "owed"  # to be sent as soon as it may go
    IN_FLIGHT = "in flight"
    DELIVERED = "delivered"
    WITHDRAWN = "withdrawn"  # it need not be sent
    LOST = "lost"  # refused for good

    @property
    def is_final(self) -> bool:
        """True where nothing follows. Of one that is withdrawn a copy may still have to be cleared."""
        return self in (Stage.DELIVERED, Stage.LOST)

    @property
    def is_owed(self) -> bool:
        """True while it is to be sent, or in flight."""
        return self in (Stage.HELD, Stage.OWED, Stage.IN_FLIGHT)


class CopyOwner(Enum):
    """Who else has a copy of what is to be delivered, for when this process is gone."""

    NOBODY = "nobody"
    WATCHDOG = "watchdog"
    OUTBOX = "outbox"


class Hold(Enum):
    """Who has the copy of what is about to be sent."""

    MINE = "mine"
    OTHERS = "others"  # another process sends it, or holds it back while a newer run begins
    SETTLED = "settled"  # another process has delivered it, or a newer run's card has replaced it
    GONE = "gone"  # it was lost: the file was damaged, or the clock was set, and it seemed too old
    UNKNOWN = "unknown"  # the outbox cannot be read


_LIVES = {
    Life.WAITING: {Life.STARTING, Life.REFUSED, Life.ENDING, Life.ENDED},
    Life.STARTING: {Life.SHOWN, Life.WAITING, Life.REFUSED, Life.ENDING},
    Life.SHOWN: {Life.UPDATING, Life.REFUSED, Life.ENDING},
    Life.UPDATING: {Life.SHOWN, Life.WAITING, Life.REFUSED, Life.ENDING},
    Life.REFUSED: {Life.ENDING, Life.REFUSED},
    Life.ENDING: {Life.ENDED},
    Life.ENDED: set[Life](),
}
_STAGES = {
    Stage.HELD: {Stage.OWED, Stage.IN_FLIGHT, Stage.WITHDRAWN, Stage.DELIVERED, Stage.LOST},
    Stage.OWED: {Stage.OWED, Stage.IN_FLIGHT, Stage.WITHDRAWN, Stage.DELIVERED, Stage.LOST},
    Stage.IN_FLIGHT: {Stage.OWED, Stage.DELIVERED, Stage.WITHDRAWN, Stage.LOST},
    Stage.DELIVERED: set[Stage](),
    Stage.WITHDRAWN: {Stage.WITHDRAWN, Stage.LOST},
    Stage.LOST: set[Stage](),
}

S = TypeVar("S", Life, Stage)


def moved(state: S, to: S) -> S:
    """Return the next state, if the tables above allow the change.

    Raises:
        RuntimeError: where they do not, which is a bug of this library.
    """
    table: Any = _LIVES if isinstance(state, Life) else _STAGES
    if to not in table[state]:
        raise RuntimeError(f"{type(state).__name__} cannot go from {state.value} to {to.value}")
    return to
