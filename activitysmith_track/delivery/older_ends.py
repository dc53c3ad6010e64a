"""The ends that older runs in other processes still owe a card, and how a newer run takes their place."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from ..client import retry
from ..errors import RateLimited
from .messages import Postponed
from .state import OnPhone
from .succession import older_began_by

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .persistence import Persistence
    from .succession import Neighbour

OLDER_END_POLL = 0.25  # seconds between two looks whether another process has sent an older run's end


class EndUnderWay(Postponed):
    """Another process is sending the end of an older run, which would end a card that is begun now."""

    seconds = OLDER_END_POLL


class OlderEnds:
    """What is known of the ends that older runs owe a card.

    Attributes:
        may_arrive: whether one of them may still reach the card.
    """

    def __init__(self, may_arrive: bool) -> None:
        self.may_arrive = may_arrive


@contextlib.contextmanager
def in_place_of_older(persistence: Persistence, run: Neighbour) -> Iterator[OlderEnds]:
    """Hold back the ends that older runs owe a card while the `with` block sends for it; forget them if it succeeds.

    They stay held back while a start may have been carried out, since an older end would end the newer card. If a
    start is refused, and none was given up before it, they are given back for others to send.

    Args:
        persistence: holds them back.
        run: the run that begins the card, ends it, or confirms it.

    Yields:
        What is known of these ends; after the block, with those that have come meanwhile.

    Raises:
        EndUnderWay: where another process is sending one of them at this moment.
    """
    account, stream_key, runtime = run.account.key, run.stream_key, persistence.runtime
    now = runtime.now()
    until = persistence.held.hold_back(account, stream_key, older_began_by(run, runtime.wall()))
    if until is None:
        raise EndUnderWay
    older = OlderEnds(until > now)
    try:
        yield older
    except Exception as error:
        may_have_begun = run.on_phone is not OnPhone.NO or retry.is_transient(error)
        if not (may_have_begun or isinstance(error, RateLimited)):
            persistence.held.let_go(account, stream_key)
        raise
    # The watchdog of an older run that was killed a moment ago may have stored its end only now, or be sending it.
    later = persistence.held.hold_back(account, stream_key, older_began_by(run, runtime.wall()))
    older.may_arrive |= later is None or later > runtime.now()
    persistence.held.forget(account, stream_key)
