"""What older runs of other processes owe the card of a run that begins, and how that takes its place."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from ..client import retry
from ..errors import RateLimited
from .deliveries import Postponed
from .state import OnPhone

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .persistence import Persistence
    from .succession import Succession

OLDER_END_POLL = 0.25  # seconds between two looks whether another process has sent an older run's end


class EndUnderWay(Postponed):
    """Another process is sending the end of an older run, which would end a card that is begun now."""

    seconds = OLDER_END_POLL


class OlderEnds:
    """What earlier runs owe the card of one that begins.

    Attributes:
        may_hit: whether something of an earlier run may yet reach the card.
    """

    def __init__(self, may_hit: bool) -> None:
        self.may_hit = may_hit


@contextlib.contextmanager
def in_place_of_older(persistence: Persistence, run: Succession) -> Iterator[OlderEnds]:
    """Begin an activity: what an older run owes its card is kept from everybody, and forgotten if this succeeds.

    It stays so while a start may have been carried out, since the older end would then hit the newer card. A start
    that was refused gives it back, where none was given up before it.

    Args:
        persistence: who keeps it.
        run: what begins, or ends, or is made sure of.

    Yields:
        What that is, as far as it is known; when it is over, all of it.

    Raises:
        EndUnderWay: where somebody else is sending it at this moment.
    """
    account, stream_key = run.account.key, run.stream_key
    now = persistence.runtime.now()
    until = persistence.hold_ends(account, stream_key, run.older_began_by)
    if until is None:
        raise EndUnderWay
    older = OlderEnds(until > now)
    try:
        yield older
    except Exception as error:
        may_have_begun = run.on_phone is not OnPhone.NO or retry.is_transient(error)
        if not (may_have_begun or isinstance(error, RateLimited)):
            persistence.let_go(account, stream_key)
        raise
    # The watchdog of an older run that was killed a moment ago may have stored its end only now, or be sending it.
    later = persistence.hold_ends(account, stream_key, run.older_began_by)
    older.may_hit |= later is None or later > persistence.runtime.now()
    persistence.forget_held(account, stream_key)
