"""The threads of a dispatcher end with it."""

from __future__ import annotations

import threading

import pytest

from activitysmith_track.delivery.dispatcher import Dispatcher


def test_a_thread_that_starts_while_the_dispatcher_closes(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the lane hands out at the last moment starts no thread that nobody stops."""
    dispatcher = Dispatcher(lambda: 0.0)
    lane, crew, done, stopped = dispatcher.scheduler, dispatcher.update_workers, threading.Event(), threading.Event()
    monkeypatch.setattr(dispatcher.end_workers, "stop", stopped.set)  # the last one that is stopped

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
    dispatcher.close(60.0)
    assert done.wait(60)
    assert set(threading.enumerate()) <= before
