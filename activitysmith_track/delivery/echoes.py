"""Of the pushes that several blocks would send for one failure, only the outermost block's goes."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .push_delivery import PushDelivery
    from .runtime import Runtime


class Echoes:
    """The latest pushes for failures, which outer blocks may yet take over.

    Args:
        runtime: the world outside.

    Attributes:
        taking_over: held while such a push is withdrawn, entrusted to the watchdog, or sent.
    """

    seconds = 1.0  # within which an outer block takes over the failure push of an inner one

    def __init__(self, runtime: Runtime) -> None:
        self.taking_over = runtime.lock()
        self._pushes: deque[PushDelivery] = deque(maxlen=64)

    def note(self, delivery: PushDelivery) -> None:
        """Note a push for a failure; see `PushDelivery.failure`."""
        self._pushes.append(delivery)

    def take_over(self, failure: object, opened: int) -> PushDelivery | None:
        """Withdraw the newest push for the same exception, if an inner block made it while this one was open.

        Args:
            failure: the exception's marks.
            opened: the number of the outer block's opening; see `Dispatcher.order`.

        Returns:
            The push that was withdrawn, if any.
        """
        for delivery in reversed(self._pushes.copy()):  # other threads may fail at the same time
            known = delivery.failure
            if known is not None and known[0] == failure and known[1] > opened:
                with self.taking_over:
                    if delivery.failure is None:
                        continue  # it is being sent
                    delivery.withdraw()
                return delivery
        return None
