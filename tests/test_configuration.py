"""Settings: where they come from, and who wins."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest

import activitysmith_track as at
from activitysmith_track import InvalidRequest
from activitysmith_track._tracker import default_tracker
from activitysmith_track.simulator import Simulator


def works(**options: Any) -> bool:
    """Tell whether a block reaches the service now."""
    handle = at.live_progress("job", **options)
    with handle:
        return handle._display.card is not None


def test_no_key_no_noise(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Without a key the library is off, after one line that says how to turn it on."""
    tracker = at.Tracker()
    for _ in range(3):
        assert not works(tracker=tracker)
    assert caplog.text.count("no API key") == 1
    assert "ACTIVITYSMITH_API_KEY" in caplog.text
    assert tracker.flush(0)


def test_environment_is_read_when_used(sim: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the environment says counts when a block opens; settings win over it."""
    tracker = at.Tracker()
    monkeypatch.setenv("ACTIVITYSMITH_API_KEY", sim.api_key)
    monkeypatch.setenv("ACTIVITYSMITH_BASE_URL", sim.base_url)
    assert works(tracker=tracker)
    assert tracker.flush(60)
    assert sim.cards["job"].ended
    tracker.configure(enabled=False)
    assert not works(tracker=tracker)


@pytest.mark.parametrize("text", ["off", "0", "no", "False", " OFF ", "disabled", "n", "f"])
def test_switched_off(phone: Simulator, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Any usual spelling turns it off, silently; `enabled=True` overrules it."""
    monkeypatch.setenv("ACTIVITYSMITH_TRACK", text)
    assert not works()
    with at.override(enabled=True):
        assert works()


@pytest.mark.parametrize("text", ["on", "1", "yes", "TRUE", "", "perhaps"])
def test_left_on(phone: Simulator, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Everything else leaves it on."""
    monkeypatch.setenv("ACTIVITYSMITH_TRACK", text)
    assert works()


@pytest.mark.parametrize("name", ["RANK", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK", "PMI_RANK"])
def test_ranks(phone: Simulator, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Rank 0 shows and tells, the others by choice only; what is no number is no rank."""
    for text, shown in (("0", True), ("3", False), ("x", True)):
        monkeypatch.setenv(name, text)
        assert works() is shown
    monkeypatch.setenv(name, "3")
    with at.override(all_ranks=True):
        assert works()


def test_a_rank_that_is_left_out_is_told(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """A rank that shows nothing names its variable once, at the level of information: there may be hundreds."""
    monkeypatch.setenv("SLURM_PROCID", "3")
    tracker = at.Tracker(api_key="key")
    with caplog.at_level("INFO", "activitysmith_track"):
        for _ in range(2):
            assert not works(tracker=tracker)
    said = "activitysmith_track is off here: SLURM_PROCID=3, and only rank 0 shows and tells (or all_ranks=True)"
    assert [(each.levelname, each.getMessage()) for each in caplog.records] == [("INFO", said)]


def test_a_bad_environment_is_told_once(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """An address or a key from the environment that cannot work turns it off, and never breaks the job."""
    tracker = at.Tracker()
    monkeypatch.setenv("ACTIVITYSMITH_API_KEY", "key-ä")
    assert not works(tracker=tracker)
    monkeypatch.setenv("ACTIVITYSMITH_API_KEY", "key")
    monkeypatch.setenv("ACTIVITYSMITH_BASE_URL", "http://u:secret@far.example")
    assert not works(tracker=tracker)
    assert caplog.text.count("activitysmith_track is off") == 1
    assert "secret" not in caplog.text
    assert "key-ä" not in caplog.text


@pytest.mark.parametrize(
    "settings",
    [
        {"api_key": "secret-ä"},
        {"api_key": 3},
        {"base_url": "http://far.example"},
        {"base_url": 3},
        {"enabled": "no"},
        {"channels": []},
        {"tags": ["t" * 65]},
        {"metadata": {"k": None}},
        {"redact": "x"},
        {"exit_timeout": -1},
        {"exit_timeout": float("nan")},
        {"exit_timeout": True},
    ],
)
def test_bad_settings(settings: dict[str, Any]) -> None:
    """A setting that cannot work is refused, and changes nothing."""
    before = default_tracker().settings
    for change in (at.configure, at.override, at.Tracker):
        with pytest.raises(InvalidRequest) as caught:
            change(**settings)
        assert "secret" not in str(caught.value)
    assert default_tracker().settings is before


def test_unknown_settings() -> None:
    """An unknown setting names the nearest, and the function that was called."""
    for change in (at.configure, at.override, at.Tracker):
        with pytest.raises(TypeError, match=rf"^{change.__name__}\(\) .* did you mean 'base_url'"):
            change(baseurl="x")


def test_what_an_open_block_keeps(phone: Simulator) -> None:
    """What goes with every request counts at once; an open block keeps its key, its address and its card."""
    with at.live_progress("job", total=2) as p:
        assert at.flush(60)
        with (
            at.override(tags=["new"], enabled=False),
            at.override(api_key="another", base_url="http://127.0.0.1:9/api"),
        ):
            p.update(subtitle="on", important=True)
            assert phone.wait_for(lambda sim: sim.cards["job"].subtitle == "on")
            assert (phone.requests[-1].body or {})["tags"] == ["new"]


def test_overrides_nest_and_end_in_any_order() -> None:
    """Each override takes away only what it brought."""
    tracker = at.Tracker(tags=["base"])
    first, second = tracker.override(tags=["first"]), tracker.override(tags=["second"])
    first.__enter__()
    second.__enter__()
    assert tracker.settings.tags == ["second"]
    first.__exit__(None, None, None)
    assert tracker.settings.tags == ["second"]
    second.__exit__(None, None, None)
    assert tracker.settings.tags == ["base"]
    tracker.configure(tags=["new"])
    assert tracker.settings.tags == ["new"]


def test_configure_within_an_override_outlives_it() -> None:
    """What is configured inside an override stays, and what that one had changed for a while does not."""
    tracker = at.Tracker(tags=["base"])
    with tracker.override(tags=["mine"], enabled=False):
        tracker.configure(exit_timeout=9.0)
        assert (tracker.settings.tags, tracker.settings.exit_timeout) == (["mine"], 9.0)
    assert (tracker.settings.tags, tracker.settings.enabled, tracker.settings.exit_timeout) == (["base"], None, 9.0)


def test_an_override_keeps_what_it_names() -> None:
    """What is configured inside an override that names it too counts when that has ended."""
    tracker = at.Tracker(tags=["base"])
    with tracker.override(tags=["mine"]):
        tracker.configure(tags=["new"])
        assert tracker.settings.tags == ["mine"]
        with tracker.override(enabled=False):
            assert tracker.settings.tags == ["mine"]
    assert tracker.settings == at.Settings(tags=["new"])


def test_one_override_is_entered_again() -> None:
    """The same object may be entered within itself, and after it has ended; to end it once too often is an error."""
    tracker = at.Tracker(tags=["base"])
    again, between = tracker.override(tags=["again"]), tracker.override(tags=["between"])
    with again:
        with between:
            with again:
                assert tracker.settings.tags == ["again"]
            assert tracker.settings.tags == ["between"]
        assert tracker.settings.tags == ["again"]
    with again:
        assert tracker.settings.tags == ["again"]
    assert tracker.settings.tags == ["base"]
    with pytest.raises(RuntimeError, match="not open"):
        again.__exit__(None, None, None)


def test_one_override_in_several_threads() -> None:
    """Each thread that enters the same object takes away its own entry, not another one's."""
    tracker = at.Tracker()
    shared, inner = tracker.override(tags=["shared"]), tracker.override(tags=["inner"])

    def elsewhere(use: Callable[[], object]) -> None:
        thread = threading.Thread(target=use)
        thread.start()
        thread.join()

    shared.__enter__()
    elsewhere(lambda: (inner.__enter__(), shared.__enter__()))
    shared.__exit__(None, None, None)
    assert tracker.settings.tags == ["shared"]  # of the other thread, above `inner`
    elsewhere(lambda: shared.__exit__(None, None, None))
    assert tracker.settings.tags == ["inner"]
    inner.__exit__(None, None, None)  # not in the thread that entered it, as where a generator is closed
    assert tracker.settings.tags is None


def test_the_end_of_an_override_raises_nothing_of_its_own() -> None:
    """A list that is no longer valid by then belongs to whoever changed it; the block's own exception comes out."""
    tags = ["fine"]
    tracker = at.Tracker(tags=tags)
    other = tracker.override(exit_timeout=1.0)
    other.__enter__()
    with pytest.raises(KeyError), tracker.override(enabled=False):
        tags.append("t" * 65)
        raise KeyError
    other.__exit__(None, None, None)
    assert tracker.settings.enabled is None


def test_a_tracker_that_nobody_holds_is_gone() -> None:
    """Neither the dispatcher nor an override keeps the tracker alive."""
    tracker = at.Tracker()
    kept, reference = (tracker.dispatcher, tracker.override(tags=["a"])), weakref.ref(tracker)
    del tracker
    gc.collect()
    assert reference() is None
    assert kept[0].exit_timeout() == 2.0


def test_overrides_reach_other_threads() -> None:
    """An override holds in every thread while it is open."""
    seen = []
    with at.override(tags=["here"]):
        thread = threading.Thread(target=lambda: seen.append(default_tracker().settings.tags))
        thread.start()
        thread.join()
    assert seen == [["here"]]


def test_trackers_are_apart(sim: Simulator) -> None:
    """A tracker has settings and a dispatcher of its own, and every function as a method."""
    tracker = at.Tracker(api_key=sim.api_key, base_url=sim.base_url)
    with tracker.live_progress("job", total=1) as p:
        p.advance()
    assert list(tracker.track([1], "loop")) == [1]

    @tracker.track_steps("steps")
    def job() -> None:
        at.step("x")

    job()
    with tracker.notify("note", on="success"):
        pass
    with tracker.live_steps("a"), tracker.live_timer("b", key="b"), tracker.live_metrics("c", {"x": 1}, key="c"):
        pass
    with tracker.live_stats("d", {"x": 1}), tracker.live_value("e") as e, tracker.live_alert("f", key="f") as f:
        e.set(1)
        f.set("x")
    assert tracker.flush(60)
    assert {"job", "loop", "steps", "a", "b", "c", "d", "f"} == set(sim.cards)
    assert len(sim.pushes) == 1
    assert at.configure() is None
    tracker.dispatcher.scheduler.stop()


def test_the_key_is_in_no_repr() -> None:
    """Settings can be printed."""
    shown = repr(at.Settings(api_key="my-secret", tags=["a"]))
    assert "my-secret" not in shown
    assert "tags=['a']" in shown
    assert "api_key=None" in repr(at.Settings())


def test_flush_takes_seconds() -> None:
    """A timeout that is no duration is refused."""
    with pytest.raises(InvalidRequest):
        at.flush(-1)
