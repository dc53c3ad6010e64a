"""What the library offers to its users' tests."""

from __future__ import annotations

import dataclasses
import os
import threading
from collections.abc import Iterator

import pytest
from internals import default_dispatcher, default_settings
from patience import PATIENCE

from activitysmith_track import (
    InvalidRequest,
    Tracker,
    configure,
    flush,
    live_metrics,
    live_progress,
    live_steps,
    live_timer,
    notify,
    track,
)
from activitysmith_track.simulator import Device
from activitysmith_track.testing import Phone, capture

pytest_plugins = ["pytester"]


@pytest.fixture
def phone() -> Iterator[Phone]:
    """The plugin's phone, in place of the one on real time that other tests here use."""
    with capture() as captured:
        yield captured


def test_percentages(phone: Phone) -> None:
    """What the phone shows after a while is where the job was."""
    with live_progress("Re-index it", total=200) as progress:
        progress.advance(84)
        phone.advance(60)
        assert phone.card("Re-index it").percentage == 42
    assert (phone.card("re-index-it").color, phone.card("re-index-it").percentage) == ("green", 50 - 8)


def test_an_hour_passes_at_once(phone: Phone) -> None:
    """Time moves only by hand, and what is due on the way happens on the way, within the budget."""
    with live_progress("job", total=360) as progress:
        for _ in range(360):
            progress.advance()
            phone.advance(10)
        card = phone.card("job")
        assert phone.clock() == pytest.approx(3600, abs=1)
        assert (card.dropped, card.over_budget) == (0, False)
        assert 25 <= card.updates <= 30
        assert card.percentage >= 90
    assert phone.card("job").percentage == 100


def test_one_failure_is_one_push(phone: Phone) -> None:
    """The second in which an outer block may take a push over passes by itself."""
    with pytest.raises(ValueError, match="boom"), live_steps("outer"), live_progress("inner", key="inner"):
        raise ValueError("boom")
    assert phone.push().title == "outer failed"
    assert phone.push("outer failed").message.startswith("ValueError: boom")
    assert {key: card.color for key, card in phone.cards.items()} == {"outer": "red", "inner": "red"}


def test_flush_does_not_wait(phone: Phone) -> None:
    """`flush` lets simulated time pass."""

    @notify(on="failure")
    def job() -> None:
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        job()
    assert flush(60)
    assert phone.clock() < 2
    assert len(phone.pushes) == 1


def test_retries_wait_for_the_clock(phone: Phone) -> None:
    """An end that failed is tried again when its time has come, not before."""
    with phone.fault("status", status=503, method="DELETE"):
        with live_progress("job"):
            pass
        assert not phone.card("job").ended
    assert not flush(0)
    phone.advance(minutes=1)
    assert phone.card("job").color == "green"


def test_sampled_metrics(phone: Phone) -> None:
    """Samples are taken when they are due."""
    values = iter(range(1_000))
    with live_metrics("load", sample=lambda: {"Load": next(values)}, every=60):
        phone.advance(minutes=10)
        shown = phone.card("load").metrics[0]["value"]
        assert shown >= 5
        assert next(values) == pytest.approx(11, abs=1)


def test_on_screen_and_timers(phone: Phone) -> None:
    """The Lock Screen is emptied as time passes."""
    with live_timer("bake", duration=600):
        phone.advance(minutes=4)
        (card,) = phone.on_screen
        assert card.shown.window is not None
        assert card.shown.window.reading(phone.clock()) == pytest.approx(360, abs=0.1)
    assert [each.ended for each in phone.on_screen] == [True]
    phone.advance(hours=1)
    assert phone.on_screen == []


def test_messages(phone: Phone) -> None:
    """A card or a push that is not there is named together with those that are."""
    with pytest.raises(AssertionError, match="0 cards are called 'job'; there are: none at all"):
        phone.card("job")
    with pytest.raises(AssertionError, match="0 pushes; there are: none at all"):
        phone.push()
    with live_progress("one", title="Same"), live_progress("two", key="two", title="Same"):
        assert phone.card("two").title == "Same"
        with pytest.raises(
            AssertionError, match=r"2 cards are called 'Same'; there are: one \('Same'\), two \('Same'\)"
        ):
            phone.card("Same")
    assert [request.verdict for request in phone.requests] == ["sent"] * 4
    assert repr(phone).startswith("<Phone at http://127.0.0.1:")
    assert (phone.badge, phone.metrics) == (None, {})


def test_it_is_on_whatever_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CI that turns the library off does not turn off its tests, and everything is as it was afterwards."""
    monkeypatch.setenv("ACTIVITYSMITH_TRACK", "off")
    dispatcher, settings = default_dispatcher(), default_settings()
    before = set(threading.enumerate())
    with capture() as phone:
        for _ in track([1], "loop"):
            pass
        assert phone.card("loop").color == "green"
    assert (default_dispatcher(), default_settings()) == (dispatcher, settings)
    for thread in set(threading.enumerate()) - before:
        thread.join(PATIENCE)
    assert set(threading.enumerate()) <= before


def test_what_a_test_configures_outlives_capture_and_nothing_else_does() -> None:
    """`configure` inside `capture` leaves neither the simulator's key nor its address behind."""
    before, dispatcher = default_settings(), default_dispatcher()
    with capture() as phone:
        configure(tags=["new"])
        with live_progress("job"):
            pass
        assert (phone.requests[-1].body or {})["tags"] == ["new"]
    assert (default_settings(), default_dispatcher()) == (dataclasses.replace(before, tags=["new"]), dispatcher)


@pytest.mark.parametrize("first", [0, 1])
def test_captures_that_overlap(first: int) -> None:
    """Captures of one tracker, as those of two threads, may end in any order: the one that is open goes on."""
    tracker = Tracker()
    before, dispatcher = tracker.settings, tracker.dispatcher
    blocks = [capture(tracker=tracker), capture(tracker=tracker)]
    phones = [block.__enter__() for block in blocks]
    blocks.pop(first).__exit__(None, None, None)
    left = phones[1 - first]
    with tracker.live_progress("job"):
        assert left.card("job").percentage == 0
    assert tracker.settings.api_key == left.simulator.api_key
    blocks.pop().__exit__(None, None, None)
    assert (tracker.settings, tracker.dispatcher) == (before, dispatcher)


def test_rules_and_trackers() -> None:
    """The simulator's rules and a tracker of one's own can be given; a clock cannot."""
    tracker = Tracker()
    with capture(tracker=tracker, slots=1, device=Device(cards=1)) as phone:
        with tracker.live_progress("a"):
            phone.settle()
            with tracker.live_progress("b", key="b"):
                assert set(phone.cards) == {"a"}
        assert len(phone.on_screen) == 1
    with pytest.raises(InvalidRequest, match="clock"), capture(clock=None):
        pass


def test_a_negative_time_is_refused(phone: Phone) -> None:
    """Time does not go back."""
    with pytest.raises(InvalidRequest, match="seconds"):
        phone.advance(-1)


def test_a_hanging_service_is_an_error(phone: Phone, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the library cannot come to rest, the test is told rather than held up for ever."""
    monkeypatch.setattr("activitysmith_track.testing.SETTLE_SECONDS", 0.2)
    with phone.fault("hang"), live_progress("job"):
        with pytest.raises(TimeoutError, match="did not come to rest"):
            phone.settle()
        monkeypatch.undo()


def test_the_plugin(pytester: pytest.Pytester) -> None:
    """The fixture is there without an import, in a project that knows nothing else of the library."""
    pytester.makepyfile(
        """
        import pytest
        from activitysmith_track import live_steps, step

        def deploy():
            with live_steps("deploy", steps=["Build", "Ship"]):
                step("Ship")
                raise RuntimeError("no route")

        def test_deploy(phone):
            with pytest.raises(RuntimeError):
                deploy()
            card = phone.card("deploy")
            assert (card.color, card.current_step) == ("red", 2)
            assert "no route" in phone.push("deploy failed").message
            assert phone.clock() < 2
        """
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    for name in set(os.environ) - set(environment):
        pytester._monkeypatch.delenv(name)  # noqa: SLF001
    pytester.runpytest_subprocess("-W", "error").assert_outcomes(passed=1)
