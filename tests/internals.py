"""What tests see of the library's inside, and no user does: the private names that they reach through stand here."""

from __future__ import annotations

from typing import Any

from activitysmith_track.delivery.dispatcher import Dispatcher


def locks(dispatcher: Dispatcher) -> tuple[Any, ...]:
    """Return the locks that another thread may have to wait for."""
    departure, opened, echoes = dispatcher.departure, dispatcher.opened, dispatcher.echoes
    return opened._lock, echoes.taking_over, departure._lock, dispatcher.scheduler._starting


def waiters(dispatcher: Dispatcher) -> list[Any]:
    """Return the inboxes of the threads that wait until nothing is owed."""
    return dispatcher.ledger._waiters
