"""The threads of a courier end with it."""

from __future__ import annotations

import threading

import pytest

from activitysmith_track._courier import Courier


def test_a_thread_that_starts_while_the_courier_closes(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the lane hands out at the last moment starts no thread that nobody stops."""
    courier = Courier(lambda: 0.0)
    lane, crew, done, stopped = courier.lane, courier.update_crew, threading.Event(), threading.Event()
    monkeypatch.setattr(courier.end_crew, "stop", stopped.set)  # the last one that is stopped

    class Late:
        def run(self, now: float) -> None:
            if not done.is_set():
                running.set()
                stopped.wait(0.3)  # in vain: no crew is stopped while a lane is still at work
                lane.send(crew, self, done.set)

        def give_up(self) -> None:
            return

    running = threading.Event()
    before = set(threading.enumerate())
    lane.wake(Late())
    assert lane.start()
    assert running.wait(60)
    courier.close(60.0)
    assert done.wait(60)
    assert set(threading.enumerate()) <= before
