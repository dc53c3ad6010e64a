"""How cards are paced: real handles and dispatcher, a simulated phone, a clock that is moved by hand."""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from internals import activity_of, default_account, default_dispatcher, use_up_rate

import activitysmith_track as at
from activitysmith_track import Budget
from activitysmith_track.blocks.handle import Provider
from activitysmith_track.errors import InvalidRequest, RateLimited
from activitysmith_track.simulator import Device
from activitysmith_track.testing import Phone, capture


@pytest.fixture
def phone() -> Iterator[Phone]:
    """A phone on a clock that stands."""
    with capture() as captured:
        yield captured


def run(phone: Phone, progress: Any, seconds: int, step: int = 30) -> None:
    """Let a job run evenly."""
    for _ in range(seconds // step):
        progress.advance(step)
        phone.advance(step)


def cards(phone: Phone, key: str) -> list[Any]:
    """Return the cards that a stream had, the oldest first."""
    phone.settle()
    return [card for card in phone.simulator.activities.values() if card.stream_key == key]


def test_a_long_job_changes_cards_before_ios_ends_them(phone: Phone) -> None:
    """A job of 20 hours has three cards one after the other, each within its budget, none ended by iOS."""
    seconds = 20 * 3600
    with at.live_progress("long", total=seconds) as progress:
        run(phone, progress, seconds, 60)
    found = cards(phone, "long")
    assert len(found) == 3
    assert {card.ended_by for card in found} == {"request"}
    assert not any(card.over_budget for card in found)
    assert len(phone.on_screen) == 1
    lives = [(card.ended_at or 0) - card.started_at for card in found]
    assert max(lives) < 8 * 3600
    assert [card.updates > 100 for card in found] == [True, True, True]
    assert found[-1].percentage == 100


def test_a_quiet_card_changes_too(phone: Phone) -> None:
    """A card that shows nothing new is begun anew all the same, with what it showed, and without its alert."""
    with at.live_value("quiet", alert="Look") as value:
        value.set(7)
        phone.advance(hours=9)
        older, newer = cards(phone, "quiet")
        assert (older.ended_by, newer.value, newer.ended) == ("request", 7, False)


def test_a_change_of_cards_that_fails_is_tried_again(phone: Phone) -> None:
    """A card whose end fails when it is to be changed for a fresh one is changed a little later."""
    with at.live_value("quiet") as value:
        value.set(7)
        phone.advance(hours=7, minutes=40)
        phone.simulator.fault("status", status=503, times=1, method="DELETE")
        phone.advance(minutes=10)
        older, newer = cards(phone, "quiet")
        assert (older.ended_by, newer.value, newer.ended) == ("request", 7, False)


@pytest.mark.parametrize("kind", ["reset", "truncate", "garbage"])
def test_a_card_goes_on_after_an_update_that_may_have_arrived(phone: Phone, kind: str) -> None:
    """What is shown after that nobody knows; a job of long steps is shown all the same as it goes on."""
    with at.live_progress("job", total=1000) as progress:
        for _ in range(5):
            progress.advance(10)
            phone.advance(10)
        with phone.fault(kind, times=1) as fault:
            for _ in range(30):
                progress.advance(10 * (not fault.hits))
                phone.advance(1)
            assert fault.hits == 1
        phone.advance(30)
        for _ in range(12):
            progress.advance(20)
            phone.advance(600)
            assert abs(phone.card("job").percentage - progress.percentage) <= 4
        assert not phone.card("job").over_budget


def test_a_card_behind_its_delay_is_owed(phone: Phone) -> None:
    """Once its delay is over, a card that has no slot yet is waited for, though it was not at its first change."""
    phone.simulator.service.slots = 1
    with at.live_progress("first", key="first", total=9):
        phone.advance(1)
        with at.live_steps("second", key="second", delay=5, steps=["x", "y"]) as steps:
            assert at.flush(60)
            phone.advance(30)
            steps.step("y")
            phone.settle()
            assert "second" not in phone.cards
            assert not at.flush(0.1)


def test_a_clock_keeps_its_time_over_a_change_of_cards(phone: Phone) -> None:
    """A countdown goes on from what is left; a clock that counts up says what passed before."""
    with at.live_timer("down", duration=10 * 3600), at.live_timer("up", key="up"):
        phone.advance(hours=9)
        down, up = phone.card("down"), phone.card("up")
        assert down.shown.window.reading(phone.clock()) == pytest.approx(3600, abs=5)
        assert up.subtitle == "plus 7 h 45 min"
        assert up.shown.window.reading(phone.clock()) == pytest.approx(1.25 * 3600, abs=5)


def test_a_clock_that_appears_late_says_so() -> None:
    """What waited for a slot is not shown as if it had just begun."""
    with capture(slots=1) as phone, at.live_value("first", key="first") as value:
        value.set(1)
        phone.settle()
        with at.live_timer("bake", key="bake", duration=600) as timer:
            phone.advance(100)
            timer.pause()
            phone.advance(100)
            timer.resume()
            value.finish()
            phone.advance(1)
            card = phone.card("bake")
            assert card.shown.window.reading(phone.clock()) == pytest.approx(500, abs=3)


def test_a_change_of_cards_that_fails_halfway_is_made_up(phone: Phone) -> None:
    """Where the old card is gone and the new one is refused, it is tried again."""
    with at.live_value("job") as value:
        value.set(1)
        phone.advance(hours=7.7)
        with phone.fault("status", status=503, method="PUT"):
            phone.advance(minutes=6)
        phone.advance(minutes=5)
        assert not phone.card("job").ended
        value.set(2)
    assert [card.ended for card in cards(phone, "job")] == [True, True]


def test_transitions_go_at_once_and_some_are_kept(phone: Phone) -> None:
    """Beside a percentage that moves, a transition still goes at once."""
    with at.live_progress("job", total=3600) as progress:
        for minute in range(30):
            run(phone, progress, 60, 10)
            if minute in (5, 12, 20):
                progress.update(subtitle=f"phase {minute}", important=True)
                phone.advance(0.1)
                assert phone.card("job").subtitle == f"phase {minute}"
        assert not phone.card("job").over_budget


def test_steps_faster_than_the_budget(phone: Phone) -> None:
    """Of a hundred steps in a minute twelve show, and the end."""
    with at.live_steps("job", steps=100) as steps:
        for number in range(100):
            steps.step(f"step {number}")
            phone.advance(0.6)
    card = phone.card("job")
    assert (card.updates, card.over_budget, card.current_step, card.color) == (12, False, 100, "green")


def test_readings_go_by_how_much_they_change(phone: Phone) -> None:
    """A large change of a reading is shown sooner than a small one."""
    waited = []
    with at.live_metrics("load") as metrics:
        metrics.set(CPU=0)
        phone.advance(1)
        for value in (100, 0, 100, 0):  # a range to compare with
            metrics.set(CPU=value)
            phone.advance(minutes=10)
        for change in (5, 95):
            before, began = phone.card("load").updates, phone.clock()
            metrics.set(CPU=change)
            while phone.card("load").updates == before and phone.clock() < began + 3600:
                phone.advance(1)
            waited.append(phone.clock() - began)
            phone.advance(minutes=20)
        assert not phone.card("load").over_budget
    assert waited[0] >= waited[1]


def test_another_budget_and_an_interval() -> None:
    """A phone that is allowed more gets more; a fixed interval and each change are held within the budget."""
    generous = Device(free_updates=50, seconds_per_update=30)
    updates = {}
    for name, settings, device in (
        ("usual", {}, Device()),
        ("generous", {"budget": Budget(free=50, seconds_per_update=30)}, generous),
        ("interval", {"min_interval": 300}, Device()),
        ("every change", {"min_interval": "every change"}, Device()),
    ):
        with capture(device=device) as phone, at.override(**settings), at.live_progress("job", total=3600) as job:
            run(phone, job, 3600)
            card = phone.card("job")
            assert not card.over_budget
            updates[name] = card.updates
    assert updates["generous"] > updates["usual"] > updates["interval"]
    assert updates["interval"] == pytest.approx(3600 / 300, abs=1)
    assert updates["every change"] >= 29


@pytest.mark.parametrize(
    "settings",
    [
        {"budget": 12},
        {"budget": "more"},
        {"min_interval": -1},
        {"min_interval": float("nan")},
        {"min_interval": float("inf")},
        {"min_interval": "often"},
        {"min_interval": True},
    ],
)
def test_impossible_pacing_is_refused(settings: dict[str, Any]) -> None:
    """A budget or an interval that cannot be is said where it is set."""
    with pytest.raises(InvalidRequest):
        at.configure(**settings)


@pytest.mark.parametrize("given", [{"free": 0}, {"seconds_per_update": 0}, {"seconds_per_update": float("nan")}])
def test_an_impossible_budget_is_refused(given: dict[str, Any]) -> None:
    """So is one of no updates."""
    with pytest.raises(InvalidRequest):
        Budget(**given)


def test_nan_and_a_clock_that_jumps(phone: Phone) -> None:
    """Progress that is no number is skipped, and a suspended laptop breaks no budget."""
    with at.live_progress("job", total=100) as progress:
        for number in range(60):
            progress.update(percentage=float("nan"))
            progress.advance(float("nan"))
            progress.advance(1)
            phone.advance(5 if number % 20 else 7_000)
        assert progress.completed == 60
    assert not any(card.over_budget for card in cards(phone, "job"))
    assert phone.card("job").color == "green"


def test_the_most_wrong_screen_goes_first(phone: Phone) -> None:
    """Where the account's rate lets one through, it is the one of the card that is furthest off."""
    names = ("a", "b", "c", "d")
    with contextlib.ExitStack() as stack:
        handles = [stack.enter_context(at.live_progress(name, key=name, total=100)) for name in names]
        phone.advance(1)
        account = default_account()
        account.rate_limited(phone.clock(), RateLimited(429, {}, retry_after=100))
        for handle, done in zip(handles, (20, 80, 40, 60), strict=True):
            handle.advance(done)
        phone.advance(50)
        before = len(phone.requests)
        use_up_rate(account, phone.clock(), 49)  # the minute has room for one more
        phone.advance(51)
        sent = [request.path.rpartition("/")[2] for request in phone.requests[before:]]
        assert sent[0] == "b"
        phone.advance(120)
        sent = [request.path.rpartition("/")[2] for request in phone.requests[before:]]
        assert sent[0] == "b"
        assert sorted(sent[:4]) == list(names)


def test_waiting_cards_are_not_polled() -> None:
    """However many cards wait for a slot, nobody looks at them until one is free."""
    with capture(slots=2) as phone, contextlib.ExitStack() as stack:
        handles = [stack.enter_context(at.live_progress("j", key=f"j{number}", total=9)) for number in range(50)]
        phone.settle()
        lane = default_dispatcher().scheduler
        before = lane.ran
        phone.advance(minutes=30)
        assert lane.ran - before < 40  # the phone's own barriers, and a look at each of the running cards
        handles[0].finish()
        phone.advance(1)
        assert len([card for card in phone.cards.values() if not card.ended]) == 2


def test_a_million_changes_of_any_kind_are_few_looks(phone: Phone) -> None:
    """Readings, steps and important updates in a tight loop are looked at when pacing asks, not as they come."""
    with at.live_value("v", key="v") as value, at.live_steps("s", key="s") as steps, at.live_progress("p") as job:
        phone.advance(1)
        lane = default_dispatcher().scheduler
        before = lane.ran
        for number in range(20_000):
            value.set(number)
            steps.step(str(number))
            job.advance()
            job.update(important=True)
        phone.settle()
        assert lane.ran - before < 300


class Changing:
    """What a handle offers, where it changes just after each look at it."""

    def __init__(self, handle: Any, change: Callable[[], object]) -> None:
        self._handle, self._change = handle, change

    def __getattr__(self, name: str) -> Any:
        return getattr(self._handle, name)

    def digest(self) -> Any:
        looked = self._handle.digest()
        self._change()
        return looked


def test_a_job_that_changes_during_each_look_is_not_looked_at_again_and_again(
    phone: Phone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a busy machine a look takes so long that the job always goes on meanwhile."""
    with at.live_value("v", key="v") as value, at.live_steps("s", key="s") as steps, at.live_progress("p") as job:
        numbers = itertools.count()

        def then(handle: Any, change: Any) -> None:
            card: Any = activity_of(handle)
            monkeypatch.setattr(card, "source", Changing(card.source, lambda: change(next(numbers))))

        then(value, value.set)
        then(steps, lambda number: steps.step(str(number)))
        phone.advance(1)
        lane = default_dispatcher().scheduler
        before = lane.ran
        for number in range(20):
            value.set(-number)
            job.advance()
            job.update(important=True)
            phone.settle()
        assert lane.ran - before < 200
        phone.advance(minutes=5)
        assert lane.ran - before < 600


@pytest.mark.parametrize("why", ["delay", "failure"])
def test_a_card_that_is_held_back_is_not_looked_at(phone: Phone, why: str) -> None:
    """However often it changes: it is looked at when its time comes, and shows what is true by then."""
    fault = phone.fault("status", status=503) if why == "failure" else contextlib.nullcontext()
    with at.live_value("v", delay=3 if why == "delay" else 0) as value:
        with fault:
            value.set(0)
            phone.settle()
        lane = default_dispatcher().scheduler
        before = lane.ran
        for number in range(200):
            value.set(number)
            phone.settle()
        assert lane.ran - before == 200  # the phone's own barriers
        assert not phone.cards
        phone.advance(5)
        assert phone.card("v").value == 199


def test_a_transition_during_a_look_is_shown(phone: Phone, monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes after a state was read, and before the card listens again, is not overlooked."""
    with at.live_steps("s", steps=["a", "b", "c"]) as steps:
        steps.step("a")
        phone.advance(60)
        names = iter(["b"])
        card: Any = activity_of(steps)
        changing = Changing(card.source, lambda: [steps.step(name) for name in names])
        monkeypatch.setattr(card, "source", changing)
        default_dispatcher().scheduler.schedule(card, phone.clock())
        phone.settle()
        assert phone.card("s").current_step == 2


def test_a_first_reading_during_a_look_is_shown(phone: Phone, monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes after a card was found to have nothing to show is not overlooked."""
    with at.live_value("v", key="v") as value:
        readings = iter([7])

        class Late(Provider):
            def snapshot(self) -> Any:
                looked = super().snapshot()
                for reading in readings:
                    value.set(reading)
                return looked

        monkeypatch.setattr(activity_of(value), "source", Late(value))
        value.update(title="other", important=True)
        phone.settle()
        assert phone.card("v").value == 7


def test_no_count_is_lost_between_threads() -> None:
    """Eight threads that advance one handle, with the interpreter switching between them all the time."""
    import sys

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with at.live_progress("job", total=1) as progress:
            workers = [
                threading.Thread(target=lambda: [progress.advance() for _ in itertools.repeat(None, 50_000)])
                for _ in range(8)
            ]
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()
            assert progress.completed == 400_000
    finally:
        sys.setswitchinterval(before)
