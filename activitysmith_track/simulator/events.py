"""The page's server-sent events: what is drawn, whenever it changed, and the requests as they come."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator

from .views import Views
from .wire import as_json

__all__ = ["Feed"]

FRAME_SECONDS, SCREEN_LOOK_SECONDS, HEARTBEAT_SECONDS = 0.1, 0.5, 15.0


class Feed:
    """Server-sent events: a `state` whenever the screen changed, and the `requests` since the last ones.

    One task makes the frames, ten a second at most, and each is written once, whatever the number of subscribers; one
    that reads slowly gets fewer of them, never a backlog.

    Args:
        views: what writes the state.

    Attributes:
        run: tells a page that reconnects whether it knows this history.
    """

    def __init__(self, views: Views) -> None:
        self._views = views
        self.run = uuid.uuid4().hex
        self._subscribers = 0
        self._frame, self._number = b"", 0
        self._drawn: object = None  # the key of the frame's drawing
        self._rows: dict[int, tuple[int, bytes]] = {}  # written once for all who stand at the same request
        self._next: asyncio.Event | None = None
        self._woken: asyncio.Event | None = None
        self._pump_task: asyncio.Task[None] | None = None

    def wake(self) -> None:
        """Look whether there is a new frame; called on the event loop."""
        if self._woken is not None:
            self._woken.set()

    def events(self, last_event_id: str) -> AsyncIterator[bytes]:
        """Return the events of one subscriber.

        Args:
            last_event_id: the id of the last event that it has seen, as its `Last-Event-ID` header says; empty, or
                that of another run, for one that has seen nothing.
        """
        run, _, last = last_event_id.partition(":")
        known = run == self.run and last.isascii() and last.isdigit() and len(last) < 16
        return self._events(int(last) if known else 0)

    async def _events(self, after: int) -> AsyncIterator[bytes]:
        self._subscribers += 1
        if self._pump_task is None or self._pump_task.done():
            self._woken = asyncio.Event()
            self._pump_task = asyncio.create_task(self._pump())
        self._make(unless=None)  # a fresh one: it says what time it is
        try:
            yield b"retry: 500\nevent: run\ndata: %b\n\n" % as_json(self.run)
            seen = -1
            while True:
                frame = self._number
                after, event = self._requests_after(after)
                if frame != seen:
                    event += self._frame
                    seen = frame
                yield event or b": still here\n\n"
                await self._wait(seen)
        finally:
            self._subscribers -= 1
            self.wake()

    def _requests_after(self, after: int) -> tuple[int, bytes]:
        """Return the number of the last request, and the event that tells those after a number."""
        if after not in self._rows:
            rows = self._views.rows(after)
            last = rows[-1]["number"] if rows else after
            event = b"event: requests\nid: %b:%d\ndata: %b\n\n" % (self.run.encode(), last, as_json(rows))
            self._rows[after] = (last, event if rows else b"")
        return self._rows[after]

    async def _wait(self, seen: int) -> None:
        assert self._next is not None
        if self._number == seen:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._next.wait(), HEARTBEAT_SECONDS)

    async def _pump(self) -> None:
        assert self._woken is not None
        while self._subscribers:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._woken.wait(), SCREEN_LOOK_SECONDS)
            self._woken.clear()
            if self._make(unless=self._drawn):
                await asyncio.sleep(FRAME_SECONDS)

    def _make(self, unless: object) -> bool:
        """Write the next frame, if there is anything new to draw."""
        drawing = self._views.drawing(unless)
        if drawing is None:
            return False
        self._drawn = drawing.key
        self._frame = b"event: state\ndata: %b\n\n" % as_json(drawing.content)
        self._number += 1
        self._rows.clear()
        if self._next is not None:
            self._next.set()
        self._next = asyncio.Event()
        return True
