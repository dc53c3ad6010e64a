"""When an update may be sent: never outside the budget, prompt within it."""

from __future__ import annotations

import importlib.util
import itertools
import math
import random
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pacing_rule import Rule

from activitysmith_track._pacing import CARD_LIFE, DEFAULT_BUDGET, ROTATE_AFTER, Budget, Pacer, Range
from activitysmith_track.errors import InvalidRequest

FREE, EACH = DEFAULT_BUDGET.free, DEFAULT_BUDGET.seconds_per_update

budgets = st.builds(
    Budget,
    free=st.integers(1, 30),
    seconds_per_update=st.floats(0.5, 1000),
    min_interval=st.none() | st.floats(0, 500),
    every_change=st.booleans(),
)
odd = st.sampled_from([math.nan, math.inf, -math.inf, -1.0, 2.0])
traces = st.lists(
    st.tuples(
        st.floats(0, 400) | st.sampled_from([0.0, 1e-9, 3600.0, -3600.0, -0.5, 1e5]),
        st.floats(0, 1) | odd,
        st.sampled_from(["transition", "detail", "reading", "progress", "progress", "warned", "hold"]),
    ),
    max_size=150,
)


def within(budget: Budget, number: int, seconds: float) -> bool:
    """Tell whether the n-th update after so many seconds is within a budget."""
    return number <= budget.free or number <= seconds / budget.seconds_per_update + 1e-9


def run(
    job: Callable[[float], float], seconds: float, budget: Budget = DEFAULT_BUDGET, step: float = 0.5
) -> tuple[list[float], int]:
    """Drive a pace as the dispatcher does; return when updates went, and how often it was looked at."""
    pace = Pacer(0, budget)
    pace.start(0.0, job(0.0))
    now, sent, looks = 0.0, [], 0
    while now < seconds:
        looks += 1
        due = pace.progress_at(now, job(now))
        if due <= now:
            pace.sent(now, job(now))
            sent.append(now)
            continue
        if pace.wakes:  # the dispatcher is woken by the next change
            before = job(now)
            change = now
            while change < min(due, seconds) and job(change) == before:
                change += step
            due = min(due, change)
        assert due > now
        now = due
    return sent, looks


# -- the budget


@settings(deadline=None, max_examples=300)
@given(traces, budgets, st.integers(0, 2), st.floats(0, 1e6), st.booleans())
def test_never_outside_the_budget(
    trace: list[tuple[float, float, str]], budget: Budget, reserve: int, begin: float, fresh: bool
) -> None:
    """Whatever the job, the clock and the service do, no update goes outside the budget, and the reserve stays."""
    pace = Pacer(reserve, budget)
    pace.start(begin, 0.0, fresh=fresh)
    now, sent, silent = begin, 0 if fresh else budget.free + 1, -math.inf
    for gap, fraction, kind in trace:
        now += gap
        if kind == "warned":
            pace.warned(now)
            silent = max(silent, now + 600)
        elif kind == "hold":
            pace.hold(now + gap)
            silent = max(silent, now + gap)
        elif _due(pace, kind, now, fraction) <= now:
            pace.sent(now, fraction)
            sent += 1
            assert within(budget, sent + reserve, now - begin)
            assert now >= silent


def _due(pace: Pacer, kind: str, now: float, fraction: float) -> float:
    return {
        "transition": lambda: pace.transition_at(),
        "detail": lambda: pace.detail_at(),
        "reading": lambda: pace.reading_at(fraction),
        "progress": lambda: pace.progress_at(now, fraction),
    }[kind]()


@pytest.mark.parametrize("gap", [5e-324, 4e-243, 1e-160, 1e-9, 1e-6, 1e-3, 1e9])
def test_changes_of_any_distance(gap: float) -> None:
    """A job that does everything within no time at all, or in thirty years, is paced all the same."""
    pace = Pacer()
    pace.start(0.0, 0.0)
    for number in range(1, 6):
        due = pace.progress_at(number * gap, number / 5)
        assert not math.isnan(due)
        if due <= number * gap:
            pace.sent(number * gap, number / 5)
    assert pace.updates <= 12


def test_transitions_go_at_once_while_the_budget_allows() -> None:
    """The first twelve transitions wait for nothing, the thirteenth for minute 26."""
    pace = Pacer()
    pace.start(100.0, None)
    for _ in range(FREE):
        assert pace.transition_at() <= 100.0
        pace.sent(100.0, None)
    assert pace.transition_at() == 100.0 + 13 * EACH


def test_a_card_that_ran_before_has_no_free_updates() -> None:
    """Where the activity was there already, its free updates may be spent, and taking it over was one more."""
    pace = Pacer()
    pace.start(0.0, 0.0, fresh=False)
    assert pace.transition_at() == 14 * EACH


def test_warnings_silence_ever_longer() -> None:
    """A warning stops updates for ten minutes at least, the next one for twenty, and what was saved is gone."""
    pace = Pacer()
    pace.start(0.0, 0.0)
    pace.warned(7200.0)
    assert pace.transition_at() == 7800.0
    pace.warned(7900.0)
    assert pace.transition_at() == 9100.0
    early = Pacer()
    early.start(0.0, 0.0)
    early.warned(10.0)
    assert early.transition_at() == 14 * EACH


def test_a_hold_is_kept() -> None:
    """After a 429 nothing goes before the time that the service named; a shorter one changes nothing."""
    pace = Pacer()
    pace.start(0.0, 0.0)
    pace.hold(500.0)
    pace.hold(100.0)
    pace.hold(math.nan)
    assert pace.transition_at() == pace.progress_at(10.0, 0.5) == pace.detail_at() == 500.0


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *itertools.product(["free"], [0, -1, 1.5, True, None, "12"]),
        *itertools.product(["seconds_per_update"], [0, -120, math.nan, math.inf, None, "120", True]),
        *itertools.product(["min_interval"], [-1, math.nan, math.inf, "5", True]),
        *itertools.product(["every_change"], [1, None, "yes"]),
    ],
)
def test_a_budget_that_cannot_be_is_refused(field: str, value: object) -> None:
    """A budget of 0, a negative interval, NaN and what is no number are clear errors where they stand."""
    with pytest.raises(InvalidRequest) as caught:
        Budget(**{field: value})  # type: ignore[arg-type]
    assert caught.value.field == field


def test_the_least_budget() -> None:
    """One free update, parts of a second and an interval of 0 are budgets too."""
    assert Budget(free=1, seconds_per_update=0.5, min_interval=0.0).legal_at(2) == 1.0
    assert Budget(seconds_per_update=60, min_interval=5).by(0.0) == 12


@given(budgets, st.floats(-1e4, 1e6))
def test_how_many_updates_are_legal_by_a_time(budget: Budget, seconds: float) -> None:
    """As many are legal by a time as are legal one by one until then; before the start the free ones are."""
    count = budget.by(seconds)
    assert budget.legal_at(count) <= max(seconds, 0.0) * (1 + 1e-12)
    assert budget.legal_at(count + 1) > seconds * (1 - 1e-12)


def test_other_budgets() -> None:
    """A user with more frequent updates names another budget, and it is held."""
    frequent = Budget(free=40, seconds_per_update=15)
    sent, _ = run(lambda t: t / 3600, 3600, frequent)
    assert all(within(frequent, number, t) for number, t in enumerate(sent, 1))
    assert len(sent) > 200


def test_a_fixed_interval() -> None:
    """With `min_interval` a percentage goes whenever that has passed, until the budget says no."""
    sent, _ = run(lambda t: t / 300, 300, Budget(min_interval=20))
    assert sent == [20.0 * n for n in range(1, 13)]


def test_every_change() -> None:
    """With `every_change` each change goes at once, until the budget says no; the interval counts no more."""
    sent, _ = run(lambda t: math.floor(t) / 1600, 1600, Budget(every_change=True, min_interval=50))
    assert sent == [*range(1, 13), 1560]


def test_a_fixed_interval_needs_no_wake_up() -> None:
    """What goes at a known time is not looked at before; what is on the screen is looked at when it changes."""
    for budget, due in ((Budget(min_interval=20), 20.0), (Budget(every_change=True), 0.0)):
        pace = Pacer(0, budget)
        pace.start(0.0, 0.0)
        assert (pace.progress_at(0.0, 0.0), pace.wakes) == (math.inf, True)
        assert (pace.progress_at(5.0, 0.5), pace.wakes) == (due, False)


def test_a_reserve_is_kept() -> None:
    """A last state that must not wait finds its update: with two in hand, ten of twelve go at once."""
    pace = Pacer(2)
    pace.start(100.0, None)
    for _ in range(10):
        assert pace.transition_at() == 100.0
        pace.sent(100.0, None)
    assert pace.transition_at() == 100.0 + 13 * EACH
    pace.sent(100.0, None)
    assert pace.allowed_at(1) == 100.0
    assert pace.allowed_at(2) == 100.0 + 13 * EACH


# -- percentages


def test_an_even_job_spends_its_updates_evenly() -> None:
    """A ten-minute job of even speed uses most of its updates, and none of its gaps is far from the mean."""
    sent, _ = run(lambda t: t / 600, 600)
    spans = [later - earlier for earlier, later in itertools.pairwise(sent)]
    assert 8 <= len(spans) <= 12
    assert max(spans[1:]) < 3 * (600 / 13)


def test_few_steps_are_all_sent_at_once() -> None:
    """Where all changes fit into the budget, each goes in the moment it comes, for ten seconds as for hours."""
    for seconds in (10, 600, 20000):
        sent, _ = run(lambda t, span=seconds: math.floor(12 * t / span) / 12, seconds, step=seconds / 1200)
        assert len(sent) == 11
        assert all(abs(t - (n + 1) * seconds / 12) <= seconds / 600 for n, t in enumerate(sent))


def test_steps_are_shared_out_by_their_number() -> None:
    """Of thirty even steps with twelve updates none is shown between two, and never more than three wait."""
    sent, _ = run(lambda t: math.floor(t / 20) / 30, 600)
    assert len(sent) == FREE
    assert all(t % 20 <= 0.5 for t in sent)
    assert max(later - earlier for earlier, later in itertools.pairwise(sent)) <= 60.5


@pytest.mark.parametrize("seconds", [10, 60, 3600, ROTATE_AFTER, 86400])
def test_looks_are_few(seconds: float) -> None:
    """However often a job changes, it is looked at a few thousand times at most."""
    _, looks = run(lambda t: t / seconds, seconds)
    assert looks < 6000


def test_a_job_at_rest_is_left_alone() -> None:
    """While nothing moves there is one timed look, at which the stalled value goes, and then none."""
    pace = Pacer()
    pace.start(0.0, 0.0)
    assert (pace.progress_at(0.0, 0.0), pace.wakes) == (math.inf, True)
    now = 60.0
    while (due := pace.progress_at(now, 0.02)) > now and not pace.wakes:
        now = due
    assert due > now
    assert pace.progress_at(due, 0.02) <= due
    pace.sent(due, 0.02)
    assert (pace.progress_at(due, 0.02), pace.wakes) == (math.inf, True)
    assert pace.progress_at(due + 1e6, 0.02) == math.inf


def test_asking_again_before_the_time_changes_nothing() -> None:
    """A dispatcher that asks too early gets the same time again."""
    pace = Pacer()
    pace.start(0.0, 0.0)
    pace.progress_at(60.0, 0.02)
    due = pace.progress_at(61.0, 0.02)
    assert pace.wakes
    assert pace.progress_at(62.0, 0.02) == due


def test_a_stall_is_shown_in_the_end() -> None:
    """A job that stops moving has its last value shown, long before it has stood for as long again."""
    sent, _ = run(lambda t: min(t, 300.0) / 1000, 3000)
    assert 300 <= sent[-1] < 600


def test_a_stall_has_an_end() -> None:
    """What stands still goes after four times the job's age, though it is worth no update by then, and later too."""
    pace = Pacer(0, Budget(free=1, seconds_per_update=1e6))
    pace.start(0.0, 0.0)
    pace.progress_at(600.0, 1e-4)
    assert pace.progress_at(600.0, 1e-4) == pytest.approx(600.0 + 4 * 600)
    assert pace.progress_at(2999.0, 1e-4) > 2999.0
    for now in (3000.1, 5000.0):
        assert pace.progress_at(now, 1e-4) == now


def test_progress_that_goes_backwards() -> None:
    """A total that grows takes the percentage back; that is a change like any other, and the next ones go on."""
    sent, _ = run(lambda t: t / 600 if t < 300 else t / 1200, 1200)
    assert any(300 <= t < 360 for t in sent)
    assert 4 <= sum(t > 360 for t in sent) <= 8
    pace = Pacer()
    pace.start(0.0, 0.9)
    pace.progress_at(1.0, 0.95)
    assert pace.progress_at(10.0, 0.1) <= 10.0


@pytest.mark.parametrize(
    ("value", "counts_as"), [(math.nan, 0.03), (math.inf, 1.0), (-math.inf, 0.0), (7.0, 1.0), (-3.0, 0.0)]
)
def test_fractions_that_are_none(value: float, counts_as: float) -> None:
    """NaN changes nothing, what is beyond 0 to 1 is clamped, and nothing raises."""
    told = []
    for fraction in (value, counts_as):
        pace = Pacer()
        pace.start(0.0, 0.0)
        told.append([pace.progress_at(10.0, 0.03), pace.progress_at(20.0, fraction), pace.progress_at(30.0, 0.6)])
    assert told[0] == told[1]


def test_a_clock_that_jumps() -> None:
    """Hours forwards or backwards raise nothing and break nothing."""
    pace = Pacer()
    pace.start(1000.0, 0.0)
    for now in (1010.0, 20000.0, 10.0, -5000.0, 1020.0, 1e9, 1030.0):
        for fraction in (0.2, 0.2, 0.3, 1.0, 1e-300):
            assert not math.isnan(pace.progress_at(now, fraction))
    assert pace.transition_at() <= 1030.0


def test_a_clock_that_goes_back() -> None:
    """What was seen twice because a clock went back counts once: the next update goes when it would have gone."""
    due = []
    for clock in ([], [10.0, 100.0], [-5000.0]):
        pace = Pacer()
        pace.start(0.0, 0.0)
        for now in range(0, 200, 10):
            pace.progress_at(float(now), now / 2000)
        for now in clock:
            pace.progress_at(now, 0.095)
        due.append(pace.progress_at(200.0, 0.095))
    assert due[1:] == due[:1] * 2


def test_before_the_start() -> None:
    """A pace that was never started answers too, and learns from its first look on."""
    assert not Pacer().wakes
    assert Pacer().progress_at(5.0, 0.0) > 5.0
    assert Pacer().transition_at() <= 0.0
    assert Pacer().look_at(5.0) == 5.05
    started, unstarted = Pacer(), Pacer()
    started.start(0.0, 0.0)
    for now in range(0, 60, 5):
        assert started.progress_at(now, 0.1 + now / 200) == unstarted.progress_at(now, 0.1 + now / 200)


def test_percentages_leave_some_for_transitions() -> None:
    """Where transitions came before, percentages keep as many in hand as are to be expected."""
    spent = []
    for transitions in (0, 3):
        pace = Pacer()
        pace.start(0.0, 0.0)
        for _ in range(transitions):
            pace.sent(1.0, 0.0, transition=True)
        count, now = 0, 1.0
        while now < 300:
            if pace.progress_at(now, now / 600) <= now:
                pace.sent(now, now / 600)
                count += 1
            now += 1.0
        spent.append((count, FREE - pace.updates))
    (plain, _), (thrifty, left) = spent
    assert thrifty < plain
    assert left >= 3


def test_transitions_leave_half_for_percentages() -> None:
    """However many transitions came, percentages plan with half of what is left, and begin well before the middle."""
    pace, now = Pacer(), 1.0
    pace.start(0.0, 0.0)
    for _ in range(6):
        pace.sent(0.0, 0.0, transition=True)
    while (due := pace.progress_at(now, now / 600)) > now:
        now = due
    assert now < 600 / 4


def test_a_card_that_is_replaced_spends_its_own_budget() -> None:
    """The updates of a card have to last until it is replaced, and not until the end of a job of four days."""
    seldom = Budget(free=12, seconds_per_update=1e5)
    sent, _ = run(lambda t: t / 3.6e5, ROTATE_AFTER, seldom, step=60)
    assert len(sent) == 12


def test_free_updates_last_until_more_are_legal() -> None:
    """A job of hours that begins fast does not spend its free updates long before the thirteenth is legal."""
    sent, _ = run(lambda t: 0.3 * min(t, 60.0) / 60 + 0.7 * max(t - 60.0, 0.0) / 7200, 13 * EACH)
    assert len(sent) == FREE
    assert 13 * EACH - sent[-1] < EACH


def test_a_total_that_grows_shrinks_what_was_done() -> None:
    """After the total has doubled, a job is forecast as if it had done all of its past at half the speed."""
    times = []
    for doubles in (True, False):
        pace = Pacer()
        pace.start(0.0, 0.0)
        for now in range(1, 301):
            pace.progress_at(float(now), now / (600 if doubles else 1200))
        pace.progress_at(301.0, 0.25)
        pace.sent(301.0, 0.25)
        now, sent = 302.0, []
        while now < 900:
            fraction = 0.25 + (now - 301) / 1200
            due = pace.progress_at(now, fraction)
            if due <= now:
                pace.sent(now, fraction)
                sent.append(now)
            now = max(due, now + 1)
        times.append(sent)
    assert len(times[0]) > 2
    assert times[0] == pytest.approx(times[1])


def test_a_job_that_nearly_stopped_has_a_forecast() -> None:
    """However little happened of late, the speed counts as a thousandth of the average one at least."""
    pace = Pacer()
    pace.start(0.0, 0.0)
    pace.progress_at(1.0, 0.5)
    pace.progress_at(1e6, 0.5 + 1e-9)
    assert pace._forecast.seconds_left(1e6, 0.5) == pytest.approx(1e6 * 1000**0.7)


@pytest.mark.parametrize(("age", "seconds"), [(0, 0.05), (15, 0.05), (60, 0.2), (3000, 10), (9000, 30), (1e6, 30)])
def test_when_a_moving_job_is_looked_at(age: float, seconds: float) -> None:
    """A look follows after 1/300 of the job's age, no sooner than 50 ms and no later than 30 s."""
    pace = Pacer()
    pace.start(100.0, 0.0)
    assert pace.look_at(100.0 + age) == pytest.approx(100.0 + age + seconds)


# -- the rule of docs/pacing.md


def jobs(seed: int, count: int) -> Iterator[list[tuple[float, float]]]:
    """Yield jobs as (seconds since the look before, fraction): of any speed, with rests, falls and odd clocks.

    The first is at the start, and has no look before it.
    """
    rng = random.Random(seed)
    for _ in range(count):
        scale, size = 10 ** rng.uniform(-1, 3), 10 ** rng.uniform(-4, -0.7)
        fraction = rng.choice([0.0, 0.0, 0.3])
        looks = [(0.0, fraction)]
        for _ in range(60):
            kind = rng.random()
            if kind < 0.7:
                fraction += rng.expovariate(1 / size)
            elif kind < 0.73:
                fraction *= rng.choice([0.0, rng.random()])
            elif kind < 0.75:
                fraction, scale = fraction + rng.random() / 2, scale * 10 ** rng.uniform(-1, 2)
            looks.append((rng.expovariate(1 / scale) * rng.choice([1, 1, 1, 1, 0, -1 / 4]), min(fraction, 1.0)))
        yield looks


@pytest.mark.parametrize("reserve", [0, 1])
@pytest.mark.parametrize("budget", [DEFAULT_BUDGET, Budget(free=2, seconds_per_update=40)], ids=["default", "tight"])
@pytest.mark.parametrize("seed", range(3))
def test_updates_go_when_the_rule_says(seed: int, budget: Budget, reserve: int) -> None:
    """At each look the pace decides as the page's rule does that knows the whole history."""
    rng = random.Random(seed)
    for job in jobs(seed, 15):
        pace, now = Pacer(reserve, budget), rng.choice([0.0, 1000.0, 1e6])
        (_, first), *looks = job
        pace.start(now, first)
        rule, stalled_until = Rule(pace, now, first), math.inf
        for gap, fraction in looks:
            now, woken, moved, event = now + gap, pace.wakes, fraction != rule.seen, rng.random()
            if event < 0.03:  # a transition, or a fresh card
                pace.sent(now, pace.shown, transition=True) if event < 0.02 else pace.start(now, rule.seen)
                rule.area, stalled_until = 0.0, math.inf
            due = pace.progress_at(now, fraction)
            rule.look(now, fraction, woken=woken)
            stalled_until = judge(pace, rule, now, due, math.inf if moved else stalled_until, moved)
            if due <= now:
                pace.sent(now, fraction)
                rule.area, stalled_until = 0.0, math.inf


def judge(pace: Pacer, rule: Rule, now: float, due: float, stalled_until: float, moved: bool) -> float:
    """Compare when an update goes with when it is due by the rule; return when a value goes that stays as it is."""
    excess, allowed = rule.excess(now), pace.transition_at()
    if rule.seen == pace.shown:
        assert (due, pace.wakes) == (math.inf, True)
    elif allowed > now:
        assert (due, pace.wakes) == (allowed, False)
    elif excess > 1e-9 or now >= stalled_until:
        assert due == now
    elif excess < -1e-9 and moved:
        assert (due, pace.wakes) == (pace.look_at(now), False)
    elif excess < -1e-9:
        assert pace.wakes
        if stalled_until < math.inf:
            assert due == stalled_until
            return due
        longest = now + 4 * max(now - rule.begun, 60.0)
        if due == pytest.approx(longest):  # a value that is never due, or only when it stands for very long
            assert rule.excess(now + (longest - now) / 3) < 1e-6
        else:
            assert due < longest
            assert rule.excess(due - 1e-6 * (due - now)) < 1e-6
            assert rule.excess(due) > -1e-6
        return due
    return stalled_until


# -- readings


def test_details_slow_down() -> None:
    """The first change of a reading goes at once, each later one waits longer, up to two minutes."""
    pace = Pacer()
    pace.start(0.0, None)
    waits = []
    now = 0.0
    for _ in range(12):
        due = pace.detail_at()
        waits.append(round(max(due, now) - now, 6))
        now = max(due, now)
        pace.sent(now, None)
    assert waits[:4] == [0, 2, 3.6, 6.48]
    assert waits[1:] == sorted(waits[1:])
    assert waits[-4:] == [EACH] * 4


def test_details_of_a_long_life() -> None:
    """A budget of many thousand updates is no reason to raise."""
    pace = Pacer(0, Budget(free=10**5))
    pace.start(0.0, None)
    for _ in range(5_000):
        pace.sent(7.0, None)
    assert pace.detail_at() == 7.0 + EACH


def test_small_changes_of_a_reading_wait_longer() -> None:
    """A change across the whole range seen goes first, a small one waits up to four times as long."""
    pace = Pacer()
    pace.start(0.0, None)
    pace.sent(0.0, None)
    times = [pace.reading_at(change) for change in (7.0, 1.0, 0.5, 0.25, 0.01, 0.0)]
    assert times == [2, 2, 4, 8, 8, 8]
    assert pace.reading_at(math.nan) == times[0]


def test_the_range_of_a_reading() -> None:
    """A change counts by the range of the numbers seen, the new one included; no number is a change as a whole."""
    seen = Range()
    assert seen.change(5.0, 5.0) == 0.0
    assert seen.change(5.0, 7.0) == 1.0
    assert seen.change(7.0, 6.0) == 0.5
    assert seen.change(6.0, 16.0) == pytest.approx(10 / 11)
    assert seen.change(6.0, math.nan) == 1.0
    assert seen.change(math.inf, float("inf")) == 0.0


# -- what the pacing is measured by


def least_by_trying(p: list[float], free: int, each: int) -> float:
    """Return the least mean error in percentage points of all schedules within a budget, each one tried."""
    errors = []
    for number in range(len(p)):
        for times in itertools.combinations(range(1, len(p)), number):
            if all(n <= free or n * each <= t for n, t in enumerate(times, 1)):
                shown = [p[max((at for at in times if at <= t), default=0)] for t in range(len(p))]
                errors.append(100 * sum(abs(true - seen) for true, seen in zip(p, shown, strict=True)) / len(p))
    return min(errors)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.floats(0, 1), min_size=2, max_size=9).map(sorted), st.integers(1, 3), st.integers(1, 4))
def test_the_optimum_is_what_trying_every_schedule_finds(p: list[float], free: int, each: int) -> None:
    """Nothing within the budget does better than the optimum of the benchmark, and its schedule does as well."""
    numpy: Any = pytest.importorskip("numpy")
    path = Path(__file__).parents[1] / "benchmarks" / "pacing_optimum.py"
    spec = importlib.util.spec_from_file_location("pacing_optimum", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.FREE_UPDATES, module.SECONDS_PER_UPDATE = free, each
    least = least_by_trying(p, free, each)
    assert max(module.optimum(numpy.array(p)), 0.25) == pytest.approx(max(least, 0.25))
    sent = dict(module.schedule(numpy.array(p)))
    assert all(n <= free or n * each <= t for n, t in enumerate(sorted(sent), 1))
    shown = list(itertools.accumulate(range(1, len(p)), lambda seen, t: sent.get(t, seen), initial=p[0]))
    mean = 100 * sum(abs(true - seen) for true, seen in zip(p, shown, strict=True)) / len(p)
    assert mean == pytest.approx(least, abs=1e-9)


# -- the life of a card


def test_a_card_is_replaced_before_ios_ends_it() -> None:
    """A card is rotated a quarter of an hour before its eight hours; the fresh one has a budget of its own."""
    pace = Pacer()
    pace.start(100.0, 0.0)
    assert CARD_LIFE == 8 * 3600
    assert pace.rotate_at == 100.0 + 7.75 * 3600
    for _ in range(FREE):
        pace.sent(200.0, 0.1)
    pace.start(pace.rotate_at, 0.1)
    assert pace.transition_at() <= pace.started
    assert pace.rotate_at == 100.0 + 2 * ROTATE_AFTER


def test_small_in_memory() -> None:
    """Ten thousand paces in use need less than 600 bytes each."""
    paces = [Pacer() for _ in range(1000)]
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    more = [Pacer() for _ in range(1000)]
    for pace in more:
        pace.start(1.5, 0.0)
        for t in range(2, 12):
            if pace.progress_at(t * 1.1, t / 100) <= t * 1.1:
                pace.sent(t * 1.1, t / 100)
    used = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert len(paces) == len(more)
    assert used / len(more) < 600
