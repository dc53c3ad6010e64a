"""A queue of one reader, which writers and signal handlers never wait for.

`queue.SimpleQueue` would be it, but up to Python 3.12 a `get` with a timeout waits for ever when a signal handler
takes longer than the timeout, or a signal comes in its last moment.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from queue import Empty
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Inbox(Generic[Item]):
    """What one thread waits for, and any number of others put in; all of them may be interrupted at any point."""

    def __init__(self) -> None:
        self._items: deque[Item] = deque()
        self._wakes = threading.Lock()  # released by whoever puts something in
        self._wakes.acquire()

    def put(self, item: Item) -> None:
        """Put something in; never blocks."""
        self._items.append(item)
        with contextlib.suppress(RuntimeError):  # it is released already
            self._wakes.release()

    def get(self, timeout: float | None = None) -> Item:
        """Take out what was put in first, and wait for it.

        Args:
            timeout: seconds to wait at most; `None` for any time.

        Raises:
            Empty: when there is nothing by then.
        """
        if self._items:  # nobody else takes anything out
            return self._items.popleft()
        until = None if timeout is None else time.monotonic() + timeout
        while True:
            if self._items:
                return self._items.popleft()
            left = -1.0 if until is None else until - time.monotonic()
            if until is not None and left <= 0:
                raise Empty
            self._wakes.acquire(timeout=min(left, threading.TIMEOUT_MAX))

    def get_nowait(self) -> Item:
        """Take out what was put in first.

        Raises:
            Empty: when there is nothing.
        """
        if not self._items:
            raise Empty
        return self._items.popleft()

    def empty(self) -> bool:
        """Tell whether there is nothing."""
        return not self._items
