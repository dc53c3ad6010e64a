"""A push: what it says, whether it may come twice, and until when an outer block may take it over."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .._text import annotate_delay
from ..client import retry
from ..client.requests import owed_request
from ..errors import TooManyRequests
from .deliveries import Delivery
from .messages import Message, simpler
from .state import CopyOwner, Stage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..client.requests import Request
    from .account import Account
    from .dispatcher import Dispatcher
    from .entries import Entry
    from .persistence import Persistence

WATCHDOG_POLL = 0.05  # seconds between two looks whether a watchdog that is being started is ready


class PushMessage(Message):
    """What a push says, and whether it may come twice.

    Attributes:
        at_least_once: whether it may come twice rather than not at all.
        may_have_begun: whether an attempt may have reached the service.
    """

    __slots__ = ("_request", "at_least_once", "body", "may_have_begun")

    kind, stream_key = "push", ""

    def __init__(
        self,
        account: Account,
        persistence: Persistence,
        body: Mapping[str, Any],
        *,
        at_least_once: bool,
        entry: Entry | None = None,
    ) -> None:
        super().__init__(account, persistence, entry)
        self.body, self.at_least_once, self.may_have_begun = body, at_least_once, False
        self._request: Request[Any] | None = None

    def simplify(self, error: Exception) -> bool:
        """Send its words alone from now on, where the rest may have been refused."""
        body = simpler(self.kind, self.body, error)
        self.body = self.body if body is None else body
        return body is not None

    @property
    def may_have_arrived(self) -> bool:
        """True while an attempt is in flight, and the push is better lost than sent twice."""
        return self.is_in_flight and self.may_have_begun and not self.at_least_once

    def copy(self, *, failed: bool = False) -> Entry | None:
        """Return the entry to keep; `None` where it was withdrawn, or may have arrived and is not to come twice."""
        if self.is_withdrawn or self.has_arrived or (self.may_have_arrived and not failed):
            return None
        return self.persistence.entry(
            self.account_key, "push", self.body, self.occurred_at, id=self.id, at_least_once=self.at_least_once
        )

    def _perform(self, seconds: float) -> None:
        self.may_have_begun = True
        body = annotate_delay(self.body, self.occurred_at, self.persistence.runtime.wall(), self.kind)
        self._request = owed_request(self.kind, self.stream_key, self._form(body), at_least_once=self.at_least_once)
        self.account.perform([self._request], seconds)

    def _form(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return what is sent of a body."""
        return body

    def is_owed_after(self, error: Exception) -> bool:
        """Tell whether it is still owed after a failure: not if it must not come twice, and may have arrived."""
        may_repeat = self._request is not None and retry.may_repeat(self._request, error)
        may_repeat = may_repeat or isinstance(error, TooManyRequests)  # which turns it away, for whatever reason
        may_repeat = may_repeat or simpler(self.kind, self.body, error) is not None
        return may_repeat or (self.at_least_once and super().is_owed_after(error))


class PushDelivery(Delivery):
    """The delivery of a push.

    Attributes:
        not_before: when it goes; until then an outer block may take it over.
        failure: the exception's marks, and the number of the failure; `None` when nobody can take it over any more.
    """

    __slots__ = ("failure", "not_before")

    message: PushMessage

    def __init__(
        self,
        dispatcher: Dispatcher,
        account: Account,
        body: Mapping[str, Any],
        *,
        at_least_once: bool,
        not_before: float = 0.0,
    ) -> None:
        super().__init__(dispatcher, PushMessage(account, dispatcher.persistence, body, at_least_once=at_least_once))
        self.not_before = not_before
        self.failure: tuple[object, int] | None = None

    def withdraw(self) -> None:
        """Withdraw it, since another push says the same."""
        self.failure = None
        self.message.move(Stage.WITHDRAWN)

    def _next(self, now: float) -> float | None:
        # First the watchdog, for the job may be killed while the push is held back. Entrusting it may wait for an
        # import, in which time an outer block may withdraw it.
        starting = self._entrust()
        if self.message.is_withdrawn:
            return self._withdraw()
        if now < self.not_before and not self.dispatcher.departure.draining:
            return min(self.not_before, now + WATCHDOG_POLL) if starting else self.not_before
        later = None if self.dispatcher.departure.draining else self._opens_at(now)
        if later is not None:
            return self._wait(now, later)
        with self.dispatcher.echoes.taking_over:
            if self.message.is_withdrawn:
                return self._done(Stage.WITHDRAWN)
            self.failure, self.message.may_have_begun = None, False  # from here on nobody takes it over
            self._send(now)
        return None

    def _entrust(self) -> bool:
        """Have the watchdog, if there is one, deliver the push of a failure if the process dies now.

        Returns:
            True while the watchdog is still being started.
        """
        message, persistence = self.message, self.message.persistence
        if message.copy_owner is not CopyOwner.NOBODY or not message.at_least_once:
            return False
        if persistence.guard.watches:
            entry = message.copy()
            with self.dispatcher.echoes.taking_over:
                if entry is not None and not message.is_withdrawn:
                    persistence.entrust(message, entry)
        return persistence.guard.prepares
