"""Stories: a test says what happens in the simulated world, and what becomes of each request."""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from typing import Any

from internals import fingerprint
from world import KEY, URL, Conditions, Fate, Process, Row, World
from world_judge import Judge

from activitysmith_track import Progress, Timer
from activitysmith_track.client.requests import Request
from activitysmith_track.delivery.entries import Entry


class Witness(Judge):
    """Carries out what the service is asked, and leaves the judging to the test."""

    def sends(self, process: Process, request: Request[Any]) -> None:
        return

    def _look(self, *args: Any, **more: Any) -> None:
        return


class Story:
    """A world in which a test says what happens."""

    def __init__(self) -> None:
        self.world = World(1, Conditions(slow_disk=0.0))
        self.world.judge = Witness(self.world)
        self.world.fates = lambda process, request: "ok"

    @property
    def now(self) -> float:
        return self.world.now

    def goes(self, fates: Callable[[Process, Request[Any]], Fate | str | None]) -> None:
        """Say what becomes of each request."""
        self.world.fates = fates

    def play(self, work: Callable[[], None]) -> None:
        """Let it happen."""
        done: list[bool] = []
        self.world.spawn(None, lambda: (work(), done.append(True)))
        self.world.run_while(lambda: not done, 1e6)

    def goes_by_run(self, **fates: list[Fate | str]) -> None:
        """Say what becomes of the first requests of each run, by its method: `older_PUT=[...]`."""
        left = {name: iter(each) for name, each in fates.items()}

        def fate(process: Process, request: Request[Any]) -> Fate | str:
            run = dict(request.body or {}).get("metadata", {}).get("run")
            return next(left.get(f"{run}_{request.method}", iter(())), "ok")

        self.goes(fate)

    def block(self, process: Process, name: str, run: str = "", **options: Any) -> Any:
        """Begin a block, in a context of its own."""
        options |= {"metadata": {"run": run}} if run else {}
        return self.begin(Progress(name, total=20, options={"tracker": process.tracker, **options}))

    def timer(self, process: Process, name: str, run: str = "", duration: float = 600.0, **options: Any) -> Any:
        """Begin a countdown, in a context of its own."""
        options |= {"metadata": {"run": run}} if run else {}
        return self.begin(Timer(name, duration=duration, options={"tracker": process.tracker, **options}))

    def begin(self, handle: Any) -> Any:
        """Begin what a handle shows, in a context of its own."""
        contextvars.Context().run(handle.__enter__)
        return handle

    def fail(self, handle: Any) -> None:
        """Let a block fail."""
        error = RuntimeError("boom")
        contextvars.Context().run(handle.__exit__, RuntimeError, error, None)

    def stop(self, handle: Any) -> None:
        """Have a block stopped by Ctrl-C."""
        contextvars.Context().run(handle.__exit__, KeyboardInterrupt, KeyboardInterrupt(), None)

    def end(self, handle: Any) -> None:
        """Let a block end well."""
        contextvars.Context().run(handle.__exit__, None, None, None)

    def owe(self, count: int) -> None:
        """Have processes that are gone owe so many pushes."""
        for number in range(count):
            body = {"title": f"old {number}"}
            row = Row(
                Entry("push", fingerprint(KEY), URL, body, self.world.wall() - 60.0, run="old", id=f"old-{number}")
            )
            self.world.shelf.rows.append(row)

    def card(self, key: str = "job") -> tuple[bool, str | None, object]:
        """Return of the newest card of a key: whether it has ended, its colour, and whose it is."""
        card = self.world.service.cards[key]
        return card.ended, card.state.get("color"), card.metadata.get("run")

    @property
    def pushes(self) -> list[str]:
        """The titles of the pushes, in their order."""
        return [str(push.body["title"]) for push in self.world.service.pushes.values()]

    @property
    def owed(self) -> list[str]:
        """What is in the outbox."""
        return [row.entry.kind for row in self.world.shelf.rows]
