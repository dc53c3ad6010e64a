"""What iOS counts at most of requests of which nobody knows what became, held against every order of events."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from activitysmith_track.delivery.unanswered import LATE_SECONDS, Unanswered

TOOK = 0.2  # seconds until a request is over


class Sent(NamedTuple):
    """A request: its state, when it was sent, and whether it was answered, or may be carried out late."""

    body: str
    at: float
    is_sure: bool = False
    may_be_late: bool = False

    @property
    def until(self) -> float:
        return self.at + TOOK + LATE_SECONDS


def orders(requests: list[Sent]) -> Iterator[list[str]]:
    """All orders in which what was sent may be carried out."""
    places: list[list[tuple[float, int] | None]] = []
    for number, request in enumerate(requests):
        at_once: list[tuple[float, int] | None] = [(float(number), number)]
        if not request.is_sure:
            at_once.append(None)
            if request.may_be_late:
                later = [each for each in range(number, len(requests)) if requests[each].at < request.until]
                at_once += [(each + 0.5, number) for each in later]
        places.append(at_once)
    for chosen in itertools.product(*places):
        carried_out = [place for place in chosen if place is not None]
        slots = [list(slot) for _, slot in itertools.groupby(sorted(carried_out), key=lambda place: place[0])]
        for order in itertools.product(*(itertools.permutations(slot) for slot in slots)):
            yield [requests[number].body for _, number in itertools.chain.from_iterable(order)]


def most(requests: list[Sent]) -> int:
    """Return how many times the card may change, in the worst order."""
    return max(sum(a != b for a, b in itertools.pairwise(["", *order])) for order in orders(requests))


def counted(requests: list[Sent]) -> int:
    """Return what is counted of them by now, and kept in hand."""
    unanswered, updates = Unanswered(), 0
    unanswered.began({"state": ""}, -1.0)
    for request in requests:
        kept, until = unanswered.kept
        room = updates + 1 + (kept if request.at < until else 0)
        body, over = {"state": request.body}, request.at + TOOK
        if request.is_sure:
            updates += unanswered.answered(body, request.at, changed=True)
        else:
            updates += unanswered.failed(body, request.at, over, may_be_late=request.may_be_late)
        assert updates <= room, "what is kept in hand was not enough"
    return updates + unanswered.kept[0]


@pytest.mark.parametrize("seed", range(4))
def test_no_order_of_events_changes_the_card_more_often_than_is_counted(seed: int) -> None:
    """The count holds in the worst order, is right in most cases, and never far off."""
    rng, right, trials = random.Random(seed), 0, 400
    for _ in range(trials):
        at, requests = 0.0, []
        for _ in range(rng.randint(1, 5)):
            at += rng.choice([0.5, 3.0, 6.0])
            is_sure, may_be_late = rng.choice([(True, False), (False, False), (False, True), (False, True)])
            requests.append(Sent(rng.choice("AABC"), at, is_sure, may_be_late))
        count, worst = counted(requests), most(requests)
        assert worst <= count <= worst + 3, requests
        right += count == worst
    assert right > 0.7 * trials


@pytest.mark.parametrize(
    ("requests", "count"),
    [
        ([Sent("A", 1.0), Sent("A", 2.0)], 1),
        ([Sent("A", 1.0, may_be_late=True), Sent("A", 2.0), Sent("B", 3.0)], 3),
        ([Sent("A", 1.0, may_be_late=True), Sent("A", 2.0), Sent("B", 30.0)], 2),
        ([Sent("B", 1.0, may_be_late=True), Sent("A", 2.0), Sent("A", 3.0)], 3),
        ([Sent("A", 1.0), Sent("A", 2.0, is_sure=True)], 1),
    ],
)
def test_what_is_sent_once_more(requests: list[Sent], count: int) -> None:
    """The same state once more is no further update, unless another one may come between the two."""
    assert counted(requests) == most(requests) == count


def test_a_card_that_begins_anew() -> None:
    """What an older run has given up may still come, and is an update then; its end is none."""
    unanswered = Unanswered()
    for body, given_up in (({"state": "older"}, 0.0), ({"state": "old"}, 4.0), (None, 4.0), ({"state": "new"}, 4.0)):
        unanswered.note(body, given_up)
    assert unanswered.began({"state": "new"}, 5.0 + 1.0) == 1
    assert unanswered.kept == (1, 9.0)
    assert (unanswered.may_appear_until(), unanswered.may_end_until) == (9.0, 9.0)
    assert (unanswered.is_over(8.9), unanswered.is_over(9.0)) == (False, True)


def test_an_update_that_changes_nothing() -> None:
    """One that is answered with "nothing new" does not count."""
    unanswered = Unanswered()
    assert unanswered.answered({"state": "A"}, 1.0, changed=False) == 0
