"""What is tried again, when, and how an account asks whether the service is back."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest

from activitysmith_track.client import retry
from activitysmith_track.delivery.account import DEBTS_AT_ONCE, OUTAGE_AFTER, Account, Urgency
from activitysmith_track.delivery.runtime import Runtime
from activitysmith_track.delivery.state import Life, Stage, moved
from activitysmith_track.errors import ConnectionFailed, InvalidAnswer, RequestTimedOut, status_error


def status(number: int) -> Exception:
    """An answer of the service."""
    return status_error(number, {"error": "x"})


def page(number: int) -> Exception:
    """A page of something on the way, in the place of an answer."""
    return status_error(number, None)


@pytest.mark.parametrize(
    ("error", "transient", "arrived", "late", "answered"),
    [
        (ConnectionFailed("refused", delivered=False), True, False, False, False),
        (ConnectionFailed("reset"), True, True, True, False),
        (RequestTimedOut("slow"), True, True, True, False),
        (InvalidAnswer("no object", status=200, text="<html>a portal"), True, False, False, False),
        (InvalidAnswer("no object", status=200, text='{"cut'), True, True, False, False),
        (status(500), True, True, False, False),
        (status(502), True, True, True, False),
        (status(503), True, False, False, False),
        (status(504), True, True, True, False),
        (status(429), False, False, False, True),
        (status(404), False, False, False, True),
        (status(403), False, False, False, True),
        (MemoryError(), True, False, False, False),
        (OSError(), True, False, False, False),
        (ValueError(), False, False, False, False),
        *((page(number), True, False, False, False) for number in (302, 403, 404, 407, 408, 421, 425, 429)),
        (page(502), True, True, True, False),
        (page(503), True, False, False, False),
    ],
)
def test_what_a_failure_means(error: Exception, transient: bool, arrived: bool, late: bool, answered: bool) -> None:
    """Whether it may pass, whether the request was or may yet be carried out, and whether the service has spoken."""
    asked = retry.is_transient, retry.may_have_arrived, retry.may_arrive_late, retry.was_answered
    assert [ask(error) for ask in asked] == [transient, arrived, late, answered]


@pytest.mark.parametrize(("failures", "longest"), [(1, 2.0), (2, 4.0), (15, 4.0), (16, 4.4), (40, 43.3), (100, 60.0)])
def test_how_long_it_waits(failures: int, longest: float) -> None:
    """Prompt in the first minute, and then a tenth of the outage; half of it is by chance."""
    ends: list[Callable[[float, float], float]] = [lambda low, high: low, lambda low, high: high]
    shortest, found = (retry.backoff(failures, end) for end in ends)
    assert found == pytest.approx(longest, abs=0.1)
    assert shortest == pytest.approx(found / 2)


class Calm(Runtime):
    """A world without chance, whose clock stands."""

    def uniform(self, low: float, high: float) -> float:
        return high


def test_one_request_at_a_time_asks_whether_the_service_is_back() -> None:
    """After a few failures in a row, whoever wants to send; and a first answer lets everything through."""
    account = Account("key", "http://localhost:1", Calm(lambda: 0.0))
    for _ in range(OUTAGE_AFTER):
        assert account.open_at(0.0, Urgency.END) == 0.0
        assert not account.failed(ConnectionFailed("refused"), 0.0)
    assert account.open_at(0.0, Urgency.END) == 2.0
    account.note_request(2.0)
    assert account.open_at(2.0, Urgency.END) == pytest.approx(2.0 + 4.0)
    account.forget_requests(1)  # it came to nothing
    assert account.open_at(2.0, Urgency.END) == 2.0
    assert not account.failed(ValueError(), 2.0)
    assert account.failed(status(404), 2.0)
    assert account.open_at(2.0, Urgency.END) == 2.0
    assert not account.answered()
    account.close()


def test_what_earlier_processes_owe_goes_a_little_at_a_time() -> None:
    """Two requests at once, and at most a third of the account's minute; nobody who waits is forgotten."""
    account = Account("key", "http://localhost:1", Calm(lambda: 0.0))
    debts: list[Any] = [object() for _ in range(DEBTS_AT_ONCE + 2)]
    assert [account.take_debt(each) for each in debts] == [True] * DEBTS_AT_ONCE + [False, False]
    assert not account.take_debt(debts[-1])
    assert account.take_debt(debts[0])  # it has its turn
    assert account.give_debt_back(debts[-1]) == []  # it had none
    assert account.give_debt_back(debts[0]) == debts[-2:]
    assert account.take_debt(debts[-1])  # though the other one was asked first
    assert not account.take_debt(debts[-2])
    assert account.give_debt_back(debts[1]) == [debts[-2]]
    for sent, closed in ((20, Urgency.DEBT), (30, Urgency.UPDATE), (5, Urgency.START), (5, Urgency.END)):
        assert account.open_at(0.0, closed) == 0.0
        account.note_request(0.0, sent)
        assert account.open_at(0.0, closed) == 60.0
    account.close()


def test_no_state_follows_where_it_cannot() -> None:
    """Whatever has ended stays so."""
    finals = [Life.ENDED, Stage.DELIVERED, Stage.LOST]
    for final in finals:
        for to in type(final):
            with pytest.raises(RuntimeError, match="cannot go"):
                moved(final, to)  # type: ignore[type-var]
    reached = {Life.WAITING}
    for _ in Life:
        reached |= {to for each, to in itertools.product(reached, Life) if _can(each, to)}
    assert reached == set(Life)


def _can(each: Life, to: Life) -> bool:
    try:
        return moved(each, to) is to
    except RuntimeError:
        return False
