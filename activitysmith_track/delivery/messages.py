"""What must arrive is a message: an end or a push, how far it is, and who else has a copy of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..client import retry
from ..errors import BadRequest, NotFound
from .bodies import as_end, words_alone
from .state import CopyOwner, Hold, Stage, moved

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .account import Account
    from .entries import Entry
    from .persistence import Persistence

HELD_POLL = 2.0  # seconds between two looks whether another process still has the lease of a message's copy


class Postponed(Exception):
    """Another process is sending the same thing, so that this one has sent nothing.

    Attributes:
        seconds: after which to look again.
    """

    seconds: float


class HeldByAnother(Postponed):
    """Another process has the lease of the copy: it sends it, or holds it back while a newer run begins."""

    seconds = HELD_POLL


class Message:
    """An end or a push, which must not be lost: what it says, how far it is, and who has a copy of it.

    Workers attempt it; when they do, its `Delivery` decides.

    Args:
        account: for whom.
        persistence: keeps its copy.
        entry: what it was made from, if that is in the outbox.

    Attributes:
        account_key: the account that it goes to.
        stage: how far it is.
        copy_owner: who has a copy of it, for when this process is gone.
        entry: the copy.
        id: of the copy; the same where two threads make one.
        occurred_at: when the block ended, in seconds since the epoch.
        has_arrived: whether it has, which a worker notes before the scheduler knows of it.
    """

    __slots__ = (
        *("account", "account_key", "copy_owner", "entry", "has_arrived", "id", "occurred_at", "persistence"),
        "stage",
    )

    def __init__(self, account: Account, persistence: Persistence, entry: Entry | None = None) -> None:
        runtime = persistence.runtime
        self.account, self.account_key, self.persistence = account, account.key, persistence
        self.stage = Stage.HELD
        self.entry = entry
        self.copy_owner = CopyOwner.NOBODY if entry is None else CopyOwner.OUTBOX
        self.occurred_at = runtime.wall() if entry is None else entry.occurred_at
        self.id = runtime.token() if entry is None else entry.id
        self.has_arrived = False

    # -- what it is

    @property
    def kind(self) -> str:
        """The kind of its entry in the outbox: `end`, `keep` or `push`; see `Entry`."""
        raise NotImplementedError

    def simplify(self, error: Exception) -> bool:
        """Send a simpler body from now on, in place of one that was refused, if there is one; see `simpler`."""
        raise NotImplementedError

    @property
    def requests(self) -> int:
        """How many requests an attempt takes."""
        return 1

    # -- how far it is

    def move(self, to: Stage) -> None:
        """Note a change of its stage."""
        self.stage = moved(self.stage, to)

    @property
    def is_in_flight(self) -> bool:
        """True while an attempt is in flight, so that nobody can tell whether it has arrived."""
        return self.stage is Stage.IN_FLIGHT

    @property
    def is_withdrawn(self) -> bool:
        """True where it need not be sent: another push says the same, or nothing is on the screen to end."""
        return self.stage is Stage.WITHDRAWN

    @property
    def may_have_arrived(self) -> bool:
        """True while an attempt is in flight, and what it sends is better lost than sent twice."""
        return False

    @property
    def may_come_late(self) -> bool:
        """True while the service may still carry out an earlier request for the same card."""
        return False

    # -- its copy

    def copy(self, *, failed: bool = False) -> Entry | None:
        """Return the entry to keep as its copy, or `None` where nobody else is to send it.

        Args:
            failed: whether the attempt that was in flight has surely failed.
        """
        raise NotImplementedError

    def has_copy(self, entry: Entry, owner: CopyOwner) -> None:
        """Note a copy, and who keeps it."""
        self.entry, self.copy_owner = entry, owner

    def keep(self) -> None:
        """Have a copy made, since it has to wait; a worker does that."""
        entry = self.copy()
        if entry is not None:
            self.persistence.keep(self, entry, sent=self.may_come_late)

    @property
    def is_on_disk(self) -> bool:
        """True while there is a copy, or an older run's end is held back for this message."""
        return self.copy_owner is not CopyOwner.NOBODY

    def clear(self) -> None:
        """Clear what is on disk because of it; a worker does that."""
        self.persistence.forget_copy(self)

    # -- an attempt, on a worker's thread

    def attempt(self, seconds: float) -> bool:
        """Send it, and see to its copy, which is made after a failure and forgotten once the message has arrived.

        Args:
            seconds: what each request may take at most.

        Returns:
            False where it was not sent: a newer run has taken its place, or another process has delivered it.

        Raises:
            Postponed: where another process is at it.
        """
        persistence = self.persistence
        hold = persistence.begin(self)
        if hold is Hold.OTHERS:
            raise HeldByAnother
        if hold is Hold.SETTLED:
            self.clear()
            return False
        try:
            self._perform(seconds)
        except Postponed:
            raise  # nothing was sent, and the copy stays what it is
        except Exception as error:
            if self.is_owed_after(error):
                persistence.over(self, sent=retry.may_have_arrived(error) or self.may_come_late)
            else:
                self.clear()
            raise
        self.has_arrived = True
        self._settle_copy()
        return True

    def _perform(self, seconds: float) -> None:
        """Send its requests."""
        raise NotImplementedError

    def _settle_copy(self) -> None:
        """Have the copy of what has arrived forgotten."""
        self.persistence.forget_copy(self)

    def is_owed_after(self, error: Exception) -> bool:
        """Tell whether it is still owed, and so tried again, after a failure."""
        return retry.may_pass(error)


def simpler(kind: str, body: Mapping[str, Any], error: Exception) -> Mapping[str, Any] | None:
    """Return a simpler body to send in place of one that was refused, or `None`.

    So no card is left running and no push is lost. A card that was to stay up is ended with its last state; one whose
    end was refused is ended without a state; a push goes with its words alone.

    Args:
        kind: what it is; see `Entry`.
        body: what was refused.
        error: how.
    """
    if kind == "push":
        words = words_alone(body)
        return words if isinstance(error, BadRequest) and words != body else None
    if kind == "keep":
        return None if retry.may_pass(error) or isinstance(error, NotFound) else as_end(body)
    return {} if body and isinstance(error, BadRequest) else None
