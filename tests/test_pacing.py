"""When an update may be sent: never outside the budget, prompt within it."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from activitysmith_track._pacing import FREE_UPDATES, SECONDS_PER_UPDATE, Pace, expected_left

gaps = st.lists(
    st.tuples(st.floats(0, 400), st.floats(0, 1), st.sampled_from(["transition", "detail", "progress"])), max_size=150
)


def within(number: int, seconds: float) -> bool:
    """Tell whether the n-th update after so many seconds is within the budget of iOS."""
    return number <= 12 or number <= seconds / 120


@settings(deadline=None)
@given(gaps, st.integers(0, 2), st.floats(0, 1e6))
def test_never_outside_the_budget(trace: list[tuple[float, float, str]], reserve: int, begin: float) -> None:
    """Whatever the job does, no update is sent outside the budget, and the reserve stays in hand."""
    pace = Pace(reserve)
    pace.start(begin, 0.0)
    now, sent = begin, 0
    for gap, fraction, kind in trace:
        now += gap
        due = {
            "transition": pace.transition_at,
            "detail": pace.detail_at,
            "progress": lambda now=now, fraction=fraction: pace.progress_at(now, fraction),
        }[kind]()
        if due <= now:
            pace.sent(now, fraction)
            sent += 1
            assert within(sent + reserve, now - begin)


def test_transitions_go_at_once_while_the_budget_allows() -> None:
    """The first twelve transitions wait for nothing, the thirteenth for minute 26."""
    pace = Pace()
    pace.start(100.0, None)
    for _ in range(FREE_UPDATES):
        assert pace.transition_at() <= 100.0
        pace.sent(100.0, None)
    assert pace.transition_at() == 100.0 + 13 * SECONDS_PER_UPDATE


def test_an_even_job_spends_its_updates_evenly() -> None:
    """A ten-minute job of even speed uses most of its updates, and none of its gaps is far from the mean."""
    pace = Pace()
    pace.start(0.0, 0.0)
    sent = [0.0]
    now = 0.0
    while now < 600:
        due = pace.progress_at(now, now / 600)
        if due <= now:
            pace.sent(now, now / 600)
            sent.append(now)
            now += 0.5
        else:
            now = max(due, now + 0.05)
    spans = [later - earlier for earlier, later in itertools.pairwise(sent)]
    assert 8 <= len(spans) <= 12
    assert max(spans[1:]) < 3 * (600 / 13)


def test_looks_again_in_time() -> None:
    """A percentage that is not worth an update yet is looked at again, neither at once nor much later."""
    pace = Pace()
    pace.start(0.0, 0.0)
    assert 10 < pace.progress_at(10.0, 0.01) <= 40.0
    assert 10 < pace.progress_at(10.0, 0.0) <= 40.0


def test_backwards_and_odd_times() -> None:
    """Progress that goes backwards is a change too, and a clock that jumps breaks nothing."""
    pace = Pace()
    pace.start(100.0, 0.9)
    assert pace.progress_at(110.0, 0.1) <= 110.0
    assert math.isfinite(pace.progress_at(50.0, 0.5))
    assert math.isfinite(pace.progress_at(100.0, 1.0))


def test_details_slow_down() -> None:
    """The first change of a reading goes at once, each later one waits longer, up to two minutes."""
    pace = Pace()
    pace.start(0.0, None)
    waits = []
    now = 0.0
    for _ in range(12):
        due = pace.detail_at()
        waits.append(round(max(due, now) - now, 6))
        now = max(due, now)
        pace.sent(now, None)
    assert waits[0] == 0
    assert waits[1:] == sorted(waits[1:])
    assert max(waits) == SECONDS_PER_UPDATE


def test_a_card_that_ran_before_has_no_free_updates() -> None:
    """Where the activity was there already, its free updates may be spent."""
    pace = Pace()
    pace.start(0.0, 0.0, fresh=False)
    assert pace.transition_at() == 13 * SECONDS_PER_UPDATE


def test_warnings_silence_ever_longer() -> None:
    """A warning of the service stops updates for ten minutes, the next one for twenty."""
    pace = Pace()
    pace.start(0.0, 0.0)
    pace.warned(10.0)
    assert pace.transition_at() == 610.0
    pace.warned(700.0)
    assert pace.transition_at() == 1900.0


@pytest.mark.parametrize(
    ("passed", "fraction", "low", "high"),
    [
        (0, 0.5, 0, 0),
        (10, 0, 0, 0),
        (10, 1, 0, 0),
        (10, 0.5, 10, 10),
        (10, 0.9, 1, 1.2),
        (10, 0.1, 10, 90),
        (1, 1e-300, 1, math.inf),
    ],
)
def test_expected_left(passed: float, fraction: float, low: float, high: float) -> None:
    """What is left is estimated from the speed so far, and dampened where that means much longer."""
    assert low <= expected_left(passed, fraction) <= high
