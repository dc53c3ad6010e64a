"""A push."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .._text import annotate_delay
from ..client import retry
from ..client.requests import owed_request
from ..errors import TooManyRequests
from .bodies import as_end, without_alert
from .deliveries import Delivery
from .state import CopyOwner, Stage, moved

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..client.requests import Request
    from .account import Account
    from .dispatcher import Dispatcher
    from .entries import Entry

WATCHDOG_POLL = 0.05  # seconds between two looks whether a watchdog that is being started is ready


class PushDelivery(Delivery):
    """A push.

    Attributes:
        at_least_once: whether it may come twice rather than not at all.
        not_before: when it goes; until then an outer block may take it over.
        failure: the exception's marks, and the number of the failure; `None` when nobody can take it over any more.
    """

    __slots__ = ("_may_have_begun", "_request", "at_least_once", "body", "failure", "not_before")

    kind, stream_key = "push", ""

    def __init__(
        self,
        dispatcher: Dispatcher,
        account: Account,
        body: Mapping[str, Any],
        *,
        at_least_once: bool,
        not_before: float = 0.0,
        entry: Entry | None = None,
    ) -> None:
        super().__init__(dispatcher, account, entry)
        self.body, self.at_least_once, self.not_before = body, at_least_once, not_before
        self.failure: tuple[object, int] | None = None
        self._request: Request[Any] | None = None
        self._may_have_begun = False  # an attempt may have reached the service

    def withdraw(self) -> None:
        """Withdraw it, since another push says the same."""
        self.failure, self.stage = None, moved(self.stage, Stage.WITHDRAWN)

    def _next(self, now: float) -> float | None:
        # First the watchdog, for the job may be killed while the push is held back. Entrusting it may wait for an
        # import, in which time an outer block may withdraw it.
        starting = self._entrust()
        if self.is_withdrawn:
            return self._withdraw()
        if now < self.not_before and not self.dispatcher.departure.draining:
            return min(self.not_before, now + WATCHDOG_POLL) if starting else self.not_before
        later = None if self.dispatcher.departure.draining else self._opens_at(now)
        if later is not None:
            return self._wait(now, later)
        with self.dispatcher.echoes.taking_over:
            if self.is_withdrawn:
                return self._done(Stage.WITHDRAWN)
            self.failure, self._may_have_begun = None, False  # from here on nobody takes it over
            self._send(now)
        return None

    def _entrust(self) -> bool:
        """Have the watchdog, if there is one, deliver the push of a failure if the process dies now.

        Returns:
            True while the watchdog is still being started.
        """
        persistence = self.persistence
        if self.copy_owner is not CopyOwner.NOBODY or not self.at_least_once:
            return False
        if persistence.guard.watches:
            entry = self.copy()
            with self.dispatcher.echoes.taking_over:
                if entry is not None and not self.is_withdrawn:
                    persistence.entrust(self, entry)
        return persistence.guard.prepares

    def _perform(self, seconds: float) -> None:
        self._may_have_begun = True
        body = annotate_delay(self.body, self.occurred_at, self.dispatcher.runtime.wall(), self.kind)
        if self.kind != "push":
            body = as_end(body) if self.kind == "end" else without_alert(body)
        self._request = owed_request(self.kind, self.stream_key, body, at_least_once=self.at_least_once)
        self.account.perform([self._request], seconds)

    def _is_owed_after(self, error: Exception) -> bool:
        may_repeat = self._request is not None and retry.may_repeat(self._request, error)
        may_repeat = may_repeat or self._instead(error, self.body) is not None
        return may_repeat or (self.at_least_once and super()._is_owed_after(error))

    @property
    def may_have_arrived(self) -> bool:
        """True while an attempt is in flight, and the push is better lost than sent twice."""
        return self.is_in_flight and self._may_have_begun and not self.at_least_once

    def copy(self, *, failed: bool = False) -> Entry | None:
        """Return the entry to keep; `None` where it was withdrawn, or may have arrived and is not to come twice."""
        if self.is_withdrawn or self.has_arrived or (self.may_have_arrived and not failed):
            return None
        return self.persistence.entry(
            self.account_key, "push", self.body, self.occurred_at, id=self.id, at_least_once=self.at_least_once
        )

    def _failed(self, error: Exception, now: float) -> float | None:
        self._failures += 1
        self.dispatcher.runtime.tell_failure("a push" if self.kind == "push" else "an end", error)
        if isinstance(error, TooManyRequests):
            return self._silenced(error, now)
        if self._is_owed_after(error):
            self.body = self._instead(error, self.body) or self.body
            return self._again_at(now, self._failures)
        self.dispatcher.ledger.lost += 1
        return self._done(Stage.LOST)

    def _done(self, stage: Stage) -> float | None:
        self.stage = moved(self.stage, stage)
        self.dispatcher.settle(self)
        return None
