"""Settings that threads, signal handlers and blocks change at the same time."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from types import FrameType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from internals import CODE_OF_SETTINGS, before_settings_are_built
from patience import PATIENCE

from activitysmith_track import Settings, Tracker

Override = AbstractContextManager[Settings]

Change = Callable[[Tracker], object]


@contextmanager
def interrupted(number: int, interrupt: Callable[[], object]) -> Iterator[list[int]]:
    """Call something before the line of this number, of all that this thread runs of the two modules."""
    lines = [0]

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        if frame.f_code.co_filename not in CODE_OF_SETTINGS:
            return None
        if event == "line":
            lines[0] += 1
            if lines[0] == number:
                sys.settrace(None)
                interrupt()
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield lines
    finally:
        sys.settrace(before)


def enter(tracker: Tracker) -> Override:
    """Open an override that stays open."""
    override = tracker.override(tags=["mine"])
    override.__enter__()
    return override


CHANGES: dict[str, Change] = {
    "configure": lambda tracker: tracker.configure(tags=["mine"]),
    "enter": enter,
    "leave": lambda tracker: enter(tracker).__exit__(None, None, None),
}


def in_the_same_thread(use: Callable[[], object]) -> None:
    """As a signal handler does."""
    use()


def in_another_thread(use: Callable[[], object]) -> None:
    """As a thread does that comes between; it must not have to wait, since a forked child would do so for ever."""
    thread = threading.Thread(target=use, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    assert not thread.is_alive()


@pytest.mark.parametrize("where", [in_the_same_thread, in_another_thread])
@pytest.mark.parametrize("change", CHANGES)
def test_nothing_is_lost_between_two_lines(change: str, where: Callable[[Callable[[], object]], None]) -> None:
    """Whoever changes settings at any line of another change loses nothing, and takes nothing away."""
    expected = None if change == "leave" else ["mine"]
    number, lines = 0, [0]
    while number <= lines[0]:
        number += 1
        tracker = Tracker()
        other = tracker.override(channels=["over"])

        def interrupt(tracker: Tracker = tracker, other: Override = other) -> None:
            tracker.configure(exit_timeout=9.0)
            other.__enter__()

        with interrupted(number, lambda use=interrupt: where(use)) as lines:  # type: ignore[misc]
            CHANGES[change](tracker)
        if number <= lines[0]:
            seen = tracker.settings
            assert (seen.tags, seen.exit_timeout, seen.channels) == (expected, 9.0, ["over"]), number
            other.__exit__(None, None, None)
            assert tracker.settings == Settings(tags=expected, exit_timeout=9.0)
    assert number > 10


def test_a_change_that_another_one_overtook_begins_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two changes in the middle of a third one count, and so does the third."""
    tracker = Tracker()

    def overtake() -> None:
        tracker.configure(tags=["overtook"], exit_timeout=1.0)
        tracker.configure(exit_timeout=9.0)

    before_settings_are_built(monkeypatch, overtake)
    tracker.configure(channels=["late"])
    assert tracker.settings == Settings(tags=["overtook"], exit_timeout=9.0, channels=["late"])


def test_threads_that_change_at_once() -> None:
    """Many threads configure and override with all their might, and all of it counts."""
    tracker, begin = Tracker(), threading.Barrier(4)

    def change(name: str, values: list[Any]) -> None:
        begin.wait()
        for value in values:
            with tracker.override(exit_timeout=5.0), tracker.override(signals=True):
                tracker.configure(**{name: value})

    work: dict[str, list[Any]] = {
        "tags": [[str(number)] for number in range(200)],
        "channels": [[f"c-{number}"] for number in range(200)],
        "metadata": [{"n": number} for number in range(200)],
        "min_interval": list(range(200)),
    }
    threads = [threading.Thread(target=change, args=each, daemon=True) for each in work.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert tracker.settings == Settings(**{name: values[-1] for name, values in work.items()})


NAMES = ("tags", "channels", "exit_timeout")


KINDS = st.sampled_from(["configure", "enter", "leave"])
STEPS = st.tuples(KINDS, st.sets(st.sampled_from(NAMES)), st.integers(0, 9))


@settings(deadline=None)
@given(st.lists(STEPS))
def test_any_order(steps: list[tuple[str, set[str], int]]) -> None:
    """However blocks begin and end, each setting is that of the newest open one, or else what was configured."""
    tracker, expected = Tracker(), vars(Settings())
    blocks: list[tuple[dict[str, Any], Override]] = []
    for number, (step, names, which) in enumerate(steps):
        values = {name: float(number) if name == "exit_timeout" else [f"v-{number}"] for name in names}
        if step == "configure":
            tracker.configure(**values)
            expected = {**expected, **values}
        elif step == "enter":
            blocks.append((values, tracker.override(**values)))
            blocks[-1][1].__enter__()
        elif blocks:
            blocks.pop(which % len(blocks))[1].__exit__(None, None, None)
        in_force = dict(expected)
        for values, _ in blocks:
            in_force.update(values)
        assert vars(tracker.settings) == in_force
