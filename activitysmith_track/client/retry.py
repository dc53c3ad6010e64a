"""The one retry policy: which requests may be repeated, which failures may pass by themselves, how long to wait.

These are the rules. `client.transport` applies them to a call, `delivery.landing` to an update of a card,
`Delivery._failed` with `Message.is_owed_after` to an end or a push, in the watchdog's process too. Once a request has
failed nothing is imported here, since the failure may be that something cannot be imported.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from ..errors import DeliveryError, InvalidAnswer, RateLimited, ServerError, StatusError, TooManyRequests

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from tenacity import RetryCallState

    from .requests import Request

FIRST_SECONDS = 2.0  # before the second attempt
STEADY_SECONDS, LONGEST_SECONDS = 4.0, 60.0  # between two attempts: for about a minute, and at most
CALL_FIRST_SECONDS, CALL_LONGEST_SECONDS = 0.5, 8.0  # the same for a call that somebody waits for: first, longest
STEADY_FAILURES = 15  # before the wait grows beyond the steady seconds
SILENCE_SECONDS = 10.0  # after a 429 without Retry-After
LEAST_SILENCE = 1.0  # seconds after a 429 that asks for less: else one after the other would use up the minute's rate
LONGEST_FOREIGN = 60.0  # seconds of silence at most after a 429 that a proxy or the like sent, not the service


def may_repeat(request: Request[Any], error: BaseException) -> bool:
    """Decide whether a request that failed may be sent again.

    One that surely did not reach the service, or that the rate limit turned away, may always be. One that may have
    been carried out may be only if it is `repeatable`.
    """
    if isinstance(error, DeliveryError):
        return request.repeatable or error.delivered is False
    if isinstance(error, RateLimited) or (isinstance(error, StatusError) and error.foreign and error.status < 500):
        return True
    return isinstance(error, StatusError) and error.status in (502, 503, 504) and request.repeatable


def is_transient(error: Exception) -> bool:
    """Tell whether a failure may pass by itself, so that a repeatable request is worth another try.

    A failure of this machine may pass, too: no memory, no thread, a client that was closed meanwhile. So may an
    answer of something in front of the service, such as a proxy: the service itself was not asked then.
    """
    if isinstance(error, StatusError) and error.foreign:
        return True
    return isinstance(error, (DeliveryError, InvalidAnswer, ServerError, OSError, MemoryError, RuntimeError))


def may_pass(error: Exception) -> bool:
    """Tell whether a request that failed is worth another try: the failure is transient, or there were too many."""
    return isinstance(error, TooManyRequests) or is_transient(error)


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


def may_arrive_late(error: Exception) -> bool:
    """Tell whether a request that failed may be carried out at some later time: nobody knows where it is."""
    if isinstance(error, DeliveryError):
        return error.delivered is not False
    return isinstance(error, ServerError) and error.status in (502, 504)


def was_answered(error: Exception) -> bool:
    """Tell whether a failure is the service's own answer, so that the service can be reached."""
    return isinstance(error, StatusError) and not isinstance(error, ServerError) and not error.foreign


def backoff(
    failures: int,
    uniform: Callable[[float, float], float] = random.uniform,
    *,
    first: float = FIRST_SECONDS,
    steady: float = STEADY_SECONDS,
    longest: float = LONGEST_SECONDS,
) -> float:
    """Return the seconds before the next attempt, half of it jitter.

    The wait grows exponentially up to `steady` seconds and stays there until 15 attempts have failed, which takes
    about a minute: so nothing stays wrong for long after a short outage. From then on it grows by a tenth each time,
    up to `longest`, so that it stays about a tenth of the outage.

    Args:
        failures: how many attempts have failed by now, 1 or more.
        uniform: draws a number between two others.
        first: seconds before the second attempt.
        steady: seconds at which it stays for a while.
        longest: seconds between two attempts at most.
    """
    late = min(max(0, failures - STEADY_FAILURES), 30)
    whole = min(longest, first * 2.0 ** min(failures - 1, 9), steady * 1.1**late)
    return whole * uniform(0.5, 1.0)


def silence(error: TooManyRequests) -> float:
    """Return the seconds for which an account sends nothing after a 429."""
    seconds = SILENCE_SECONDS if error.retry_after is None else max(LEAST_SILENCE, error.retry_after)
    return min(LONGEST_FOREIGN, seconds) if error.foreign else seconds


def wait(state: RetryCallState) -> float:
    """Return the seconds before the next attempt of a call that somebody waits for: the `wait` of tenacity.

    A longer `Retry-After` counts instead.
    """
    error = state.outcome.exception() if state.outcome else None
    longest = CALL_LONGEST_SECONDS
    seconds = backoff(state.attempt_number, first=CALL_FIRST_SECONDS, steady=longest, longest=longest)
    return max(seconds, getattr(error, "retry_after", None) or 0.0)
