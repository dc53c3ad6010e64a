"""The ends that older runs owe, as far as this process holds them back in the outbox while newer runs begin."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .newer_card import AHEAD_SECONDS, NewerCard
from .outbox_place import address
from .unanswered import through_by

if TYPE_CHECKING:
    from .._endpoint import AccountKey
    from .entries import Entry
    from .leases import Leases
    from .outbox_place import OutboxPlace
    from .runtime import Runtime


class HeldEnds:
    """The older runs' ends that are held back, each for the card that it would end.

    Args:
        runtime: the world outside.
        place: where the outbox is.
        leases: those of this process, by which an end is held back.
    """

    def __init__(self, runtime: Runtime, place: OutboxPlace, leases: Leases) -> None:
        self._runtime, self._place, self._leases = runtime, place, leases
        # By the cards; each end with the latest time at which it may arrive.
        self._held: dict[tuple[AccountKey, str], dict[str, float]] = {}
        self._of_others: set[str] = set()  # those of them that a third process had

    def hold_back(self, account: AccountKey, stream_key: str, began_by: float = float("inf")) -> float | None:
        """Have nobody send the end that an older run owes a card, while a newer one begins under the same key.

        Call `forget` when that has begun, or `let_go` when it will not.

        Args:
            account: whose card it is.
            stream_key: the card.
            began_by: see `Outbox.hold_back_ends`.

        Returns:
            Until when an end may arrive that the older run has in flight now, on the runtime's clock; 0 where there
            is none. `None` where another process is sending it: ask again when that is over.
        """
        outbox, now, leases = self._place.used_outbox, self._runtime.now(), self._leases
        if outbox is None:
            return 0.0
        with leases.leaving:
            if leases.is_closed:  # it would take away the end of this very card that the exit has just left
                return 0.0
            held = outbox.hold_back_ends(*address(account), stream_key, leases.owner, leases.seconds, began_by)
            if held:
                leases.note(account, held)
                known = self._held.get((account, stream_key), {})
                gone_at = through_by(now, self._runtime.attempt_seconds)
                idle = {key: known.get(key, gone_at - each.seconds) for key, each in held.items()}
                self._held[account, stream_key] = idle
                self._of_others |= {key for key, each in held.items() if each.is_held}
        if held is None:
            return None
        return max(self._held[account, stream_key].values()) if held else 0.0

    def holds_for(self, account: AccountKey, stream_key: str) -> bool:
        """Tell whether something is held back for a card that is to begin."""
        return (account, stream_key) in self._held

    def forget(self, account: AccountKey, stream_key: str) -> None:
        """Forget the ends that were held back for a card: it has appeared, and replaces the older run's."""
        held = list(self._held.pop((account, stream_key), ()))
        self._of_others.difference_update(held)
        self.settle(held)

    def settle(self, ids: list[str]) -> None:
        """Have nobody send any more what was delivered, or what a newer run's card has replaced.

        If the disk does not take that, it is tried again with each renewal of the leases, and at the exit.
        """
        outbox = self._place.outbox if ids else None
        if outbox is not None and outbox.delivered(ids):
            self._leases.forget(ids)
        elif outbox is not None:
            self._leases.ids.update(ids)
            self._leases.unsettled.update(ids)

    def settle_again(self) -> None:
        """Try once more what the disk did not take."""
        self.settle(sorted(self._leases.unsettled))

    def let_go(self, account: AccountKey, stream_key: str) -> bool:
        """Let others send again what was held back for a card; returns whether there was anything.

        What a third process had is not sent at once: that may have begun a card whose answer it is waiting for.
        """
        held = list(self._held.pop((account, stream_key), ()))
        of_others = [key for key in held if key in self._of_others]
        outbox = self._place.outbox if held else None
        if outbox is not None:
            seconds = through_by(0.0, self._runtime.attempt_seconds)
            outbox.release(of_others, self._leases.owner, seconds=seconds)
            outbox.release([key for key in held if key not in of_others], self._leases.owner)
            self._leases.forget(held)
        self._of_others.difference_update(held)
        return bool(held)

    def look_back(
        self,
        account: AccountKey,
        stream_key: str,
        began_at: float,
        since: float,
        *,
        offset: float | None = None,
        end: Entry | None = None,
    ) -> float | None:
        """Look whether an older run has sent an end that may reach a card; forget the ends that it still owes.

        That is one sent since the card appeared, or so short a time before that it may arrive after it.

        Args:
            account: whose card it is.
            stream_key: the card.
            began_at: seconds since the epoch, when its run began.
            since: when the card appeared, on the runtime's clock.
            offset: see `Run.wall_offset`; what the clock was set by since then is found by it. `None` where there is
                nothing to compare with.
            end: its end, where this process is sending it for one that is gone; see `NewerCard`.

        Returns:
            Until when such an end may arrive, on the runtime's clock; 0 where none was sent, `None` where another
            process is sending one at this moment, or this process leaves.
        """
        outbox, runtime, owner = self._place.used_outbox, self._runtime, self._leases.owner
        if outbox is None:
            return 0.0
        if self._leases.is_closed:
            return None  # the exit has left it to others
        now, wall = runtime.now(), runtime.wall()
        offset = wall - now if offset is None else offset
        run, end_id = (owner, "") if end is None else (end.run, end.id)
        late = through_by(0.0, runtime.attempt_seconds)
        first, last = since + min(offset, wall - now), now + max(offset, wall - now)
        card = NewerCard(*address(account), stream_key, run, owner, began_at, first, last, late, end_id)
        sent = outbox.look_back(card)
        if not sent:
            return sent
        at = [sent - ahead for ahead in (offset, wall - now) if sent - ahead <= now + AHEAD_SECONDS]
        return through_by(max(at, default=now), runtime.attempt_seconds)

    def arrive_by(
        self,
        account: AccountKey,
        stream_key: str,
        began_at: float,
        since: float,
        *,
        offset: float | None = None,
        end: Entry | None = None,
    ) -> float:
        """Look back; where nobody can tell, take it that an older run's end was sent just now; see `look_back`."""
        found = self.look_back(account, stream_key, began_at, since, offset=offset, end=end)
        return through_by(self._runtime.now(), self._runtime.attempt_seconds) if found is None else found
