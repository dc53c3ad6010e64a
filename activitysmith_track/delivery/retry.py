"""The one policy of trying again: what may be repeated, what may pass by itself, and how long to wait."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import DeliveryError, InvalidAnswer, ServerError, StatusError

if TYPE_CHECKING:
    from collections.abc import Callable

FIRST_SECONDS = 2.0  # before the second attempt
PROMPT_SECONDS, LONGEST_SECONDS = 4.0, 60.0  # between two attempts, in the first minute and later


def is_transient(error: Exception) -> bool:
    """Tell whether a failure may pass by itself, so that a repeatable request is worth another try.

    So may what the machine could not do for it: no memory, no thread, a client that was closed meanwhile.
    """
    return isinstance(error, (DeliveryError, InvalidAnswer, ServerError, OSError, MemoryError, RuntimeError))


def may_have_arrived(error: Exception) -> bool:
    """Tell whether a request that failed may have been carried out all the same.

    A gateway that lost the answer says 502 or 504. "Not available" means that it was not carried out, and so does a
    page in the place of an answer: a portal's or a firewall's.
    """
    if isinstance(error, DeliveryError):
        return error.delivered is not False
    if isinstance(error, InvalidAnswer):
        return not error.text.lstrip().startswith("<")
    return isinstance(error, ServerError) and error.status != 503


def was_answered(error: Exception) -> bool:
    """Tell whether a failure is the service's own answer, so that the service can be reached."""
    return isinstance(error, StatusError) and not isinstance(error, ServerError)


def backoff(failures: int, uniform: Callable[[float, float], float]) -> float:
    """Return the seconds before the next attempt, half of it jitter.

    It is exponential, but what a short outage held up is not to stay wrong for long: in the first minute, about 15
    attempts, it stays at 4 seconds, and from there it grows by a tenth each time, which is a tenth of the outage.

    Args:
        failures: how many attempts have failed by now, 1 or more.
        uniform: draws a number between two others.
    """
    late = min(max(0, failures - 15), 30)
    whole = min(LONGEST_SECONDS, FIRST_SECONDS ** min(failures, 10), PROMPT_SECONDS * 1.1**late)
    return whole * uniform(0.5, 1.0)
