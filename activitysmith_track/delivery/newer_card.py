"""The card of a run that has begun, as the outbox has to know it to tell whether an older run's end may reach it."""

from __future__ import annotations

from typing import NamedTuple

# By which another machine's clock may be ahead; what is later was noted before a clock was set back.
AHEAD_SECONDS = 1.0


class NewerCard(NamedTuple):
    """A newer run's card, for a look at the ends of older runs that may have ended it, or may yet do so.

    Attributes:
        key_fingerprint: of the API key at hand; see `_endpoint`.
        base_url: the service's address.
        stream_key: the card.
        run: names the process that the newer run is of, whose own ends are left out.
        owner: names the process that asks.
        began_at: seconds since the epoch, when the newer run began.
        since: seconds since the epoch, when it got the card; for the end of a run that is gone, when that is asked.
            If the clock was set since the run began, the earlier time of the two clocks.
        until: seconds since the epoch, when that is asked; the later time of the two clocks.
        late: for how many seconds a request may be on its way. An end that was sent so short a time before the newer
            run got the card, and never answered, may still arrive.
        end_id: the id of the newer run's end where the process that asks sends it for one that is gone. What that had
            sent before may arrive as well, and bring the card back. Empty where a process asks for a run of its own.
    """

    key_fingerprint: str
    base_url: str
    stream_key: str
    run: str
    owner: str
    began_at: float
    since: float
    until: float
    late: float
    end_id: str = ""
