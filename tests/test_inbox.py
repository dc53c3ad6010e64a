"""The queue that a lane and the exit wait at."""

from __future__ import annotations

import signal
import threading
import time
from queue import Empty

import pytest
from patience import PATIENCE

from activitysmith_track._inbox import Inbox


def test_first_in_first_out() -> None:
    """What was put in comes out in its order, and nothing after that."""
    inbox: Inbox[int] = Inbox()
    assert inbox.empty()
    for number in range(3):
        inbox.put(number)
    assert not inbox.empty()
    assert [inbox.get(), inbox.get(1.0), inbox.get_nowait()] == [0, 1, 2]
    for attempt in (inbox.get_nowait, lambda: inbox.get(0.0), lambda: inbox.get(0.01)):
        with pytest.raises(Empty):
            attempt()


def test_writers_lose_nothing() -> None:
    """Each thing that many threads put in comes out once, while the reader waits for the next one."""
    inbox: Inbox[tuple[int, int]] = Inbox()
    threads = [
        threading.Thread(target=lambda number=number: [inbox.put((number, each)) for each in range(500)])
        for number in range(4)
    ]
    for each in threads:
        each.start()
    found = [inbox.get(PATIENCE) for _ in range(2_000)]
    for each in threads:
        each.join()
    assert sorted(found) == [(number, each) for number in range(4) for each in range(500)]
    assert inbox.empty()


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="this platform has no such signals")
def test_a_signal_handler_may_take_longer_than_the_wait() -> None:
    """The wait is over then; up to Python 3.12 that of a `SimpleQueue` would go on for ever."""
    inbox: Inbox[None] = Inbox()
    handled = list[int]()
    before = signal.signal(signal.SIGUSR1, lambda number, frame: (time.sleep(0.5), handled.append(number)))
    main = threading.main_thread().ident
    assert main is not None
    timer = threading.Timer(0.1, lambda: signal.pthread_kill(main, signal.SIGUSR1))
    timer.start()
    try:
        with pytest.raises(Empty):
            inbox.get(0.3)
        timer.join()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert handled == [signal.SIGUSR1]


def test_a_signal_handler_may_put_something_in() -> None:
    """It interrupts the reader anywhere, and what it puts in comes out."""
    inbox: Inbox[int] = Inbox()
    before = signal.signal(signal.SIGINT, lambda number, frame: inbox.put(number))
    try:
        for _ in range(100):
            signal.raise_signal(signal.SIGINT)
            assert inbox.get(PATIENCE) == signal.SIGINT
    finally:
        signal.signal(signal.SIGINT, before)
