"""What the jobs of a simulated world do: drawn from a seed, as a list that can be shortened."""

from __future__ import annotations

import contextvars
import random
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any, NamedTuple

from world import KEY, OUTAGES, SECRET, Child, Process, Trap, World

from activitysmith_track import Metrics, Progress, Steps, Timer, _pacing, iteration


class Event(NamedTuple):
    """One thing that a line of programs does: after so many seconds, and two numbers from 0 to 1 that say how."""

    line: int
    after: float
    what: str
    x: float
    y: float


WEIGHTS = {
    "mixed": "advance 34 lower 1 grow 1 subtitle 7 important 6 step 6 reading 5 open 13 loop 2 close 10 raise 8 "
    "ends 5 flush 1 exit 4 kill 3 trap 4 exit_killed 2 fork 2 outage 5 heal 6 long 4 clock 1 pause 1",
    "restarts": "advance 10 important 3 open 22 close 12 raise 6 ends 2 exit 12 fork 6 kill 8 trap 10 exit_killed 5 "
    "outage 8 heal 4 long 1",
    "crowded": "advance 20 important 4 reading 4 open 30 close 14 raise 8 exit 3 kill 2 trap 2 outage 3 heal 3 "
    "long 2",
    "finishing": "finish_count 12 advance 10 subtitle 6 important 4 open 8 loop 4 close 6 raise 4 exit 2 "
    "outage 3 heal 3 long 6",
    "debts": "open 24 raise 24 close 8 outage 10 heal 1 exit 7 trap 3 advance 6",
}
SHAPES = ("mixed", "mixed", "mixed", "restarts", "restarts", "crowded", "finishing", "debts", "chatty", "night")


def draw(seed: int, events: int) -> list[Event]:
    """Draw what happens."""
    rng = random.Random(f"jobs {seed}")
    shape = rng.choice(SHAPES)
    if shape in ("chatty", "night"):
        return _chatty(rng, events) if shape == "chatty" else _night(rng, events)
    words = WEIGHTS[shape].split()
    names, weights = words[::2], [float(each) for each in words[1::2]]
    two = rng.random() < 0.4
    made = []
    for what in rng.choices(names, weights, k=events):
        after = rng.choice((0.0, 0.0, 0.001, 0.02, rng.random(), rng.random() * 5, rng.random() * 30))
        if what == "long":
            after = rng.choice((60.0, 60.0, 200.0, 200.0, 900.0, 900.0, 4_000.0, 30_000.0))
        made.append(Event(int(two and rng.random() < 0.4), after, what, rng.random(), rng.random()))
    return _some_live_on(made, seed)


def _some_live_on(made: list[Event], seed: int) -> list[Event]:
    """In one world of four have most programs live on beside the next ones of their names."""
    rng = random.Random(f"lives {seed}")
    if rng.random() < 0.75:
        return made
    some = []
    for each in made:
        lives = each.what in ("exit", "exit_killed", "kill", "trap", "fork") and rng.random() < 0.7
        some.append(each._replace(what="live_on") if lives else each)
        if lives and rng.random() < 0.7:
            after = rng.choice((0.0, 0.1, 1.0, 3.0, 8.0))
            some.append(Event(each.line, after, "open", rng.random(), rng.choice((0.13, 0.21, 0.85, 0.93))))
            some.append(Event(each.line, rng.choice((0.0, 5.0, 30.0, 120.0)), "long", 0.0, 0.0))
    return some


def _chatty(rng: random.Random, events: int) -> list[Event]:
    """Draw one job after the other under one name, with many transitions in a short time."""
    made = []
    for number in range(events):
        what = "open" if not number else rng.choices(("important", "step", "kill", "open"), (10, 5, 0.4, 0.8))[0]
        y = 0.13 if what == "open" else rng.random()
        made.append(Event(0, rng.choice((1.0, 3.0, 10.0, 60.0)), what, 0.5, y))
    return made


def _night(rng: random.Random, events: int) -> list[Event]:
    """Draw a card that is changed for a fresh one while a lot of short blocks fail."""
    made = [Event(0, 0.0, "open", 0.0, 0.15), Event(0, _pacing.ROTATE_AFTER - rng.random() * 10.0, "long", 0.0, 0.0)]
    for number in range(events - 2):
        what = "raise" if number % 2 else "open"
        after, y = rng.choice((0.0, 0.1, 0.5)), rng.choice((0.25, 0.35, 0.85, 0.95))
        made.append(Event(0, after, what, 0.01, y if what == "open" else 0.2))
    return made


class Run:
    """One tracked block, and what is true of it.

    Attributes:
        kind: how it ended, or `None` while it has not.
        most: the highest percentage that has been true.
        falls: whether the user lowered its count, or its total grew.
    """

    def __init__(self, number: int, name: str, process: Process, handle: Any, around: Run | None) -> None:
        self.number, self.name, self.process, self.handle, self.around = number, name, process, handle, around
        self.began, self.ended, self.kind = process.world.now, 0.0, None
        self.most, self.falls, self.shown = 0, False, None
        self._seen, self.changed_at, self.failed_at = -1, self.began, 0.0
        self.has_card = self.owes_push = self.is_late = self.is_taken_over = self.is_delayed = False
        self.key: str | None = None
        self.items: Any = None  # of a loop

    def look(self) -> None:
        """Note what percentage is true now."""
        if self.handle.type == "progress" and self.handle.percentage != self._seen:
            self._seen, self.changed_at = self.handle.percentage, self.process.world.now
        self.most = max(self.most, self.handle.percentage) if self.handle.type == "progress" else 100

    @property
    def keeps_card(self) -> bool:
        """True where it went well, and its card is to stay up."""
        return self.kind == "done" and bool(self.handle._options.get("keep"))

    def end(self, kind: str, now: float) -> None:
        """Note how it ended, if it has not."""
        if self.kind is None:
            self.kind, self.ended = kind, now
            if kind == "done":
                self.most = 100


class Line:
    """Programs that run one after the other under the same names."""

    def __init__(self, world: World, number: int, events: Iterable[Event]) -> None:
        self.world, self.number, self.events = world, number, list(events)
        self.process: Process | None = None
        self.threads: list[Any] = []
        self.is_over = False

    def drive(self) -> None:
        """Do what was drawn."""
        for event in self.events:
            if event.after:
                self.world.sleep(event.after)
            if self.process is None or self.process.dead:
                self._start(
                    Process(self.world, self.number, watched=self.world.rng.random() < self.world.conditions.watched)
                )
            if self.world.trace is not None:
                self.world.log(f"p{self.process.number} * {event.what} {event.x:.2f} {event.y:.2f}")
            self.world.judge.look_along()
            getattr(self, f"do_{event.what}")(event.x, event.y)
        self.is_over = True

    def _start(self, process: Process) -> None:
        self.process = process
        self.threads = [SimpleNamespace(context=contextvars.Context(), open=[]) for _ in range(2)]

    def _thread(self, x: float) -> Any:
        return self.threads[int(x * 100) % 2]

    def _innermost(self, x: float) -> Run | None:
        return next(reversed(self._thread(x).open), None)

    # -- blocks

    def do_open(self, x: float, y: float) -> None:
        around = self._innermost(x)
        if len(self._thread(x).open) >= 3:
            return
        name = "ab"[int(y * 10) % 2] + str(self.number)
        options: dict[str, Any] = {"key": f"{name}-own"} if y > 0.8 else {}
        if y < 0.1:
            options["delay"] = 2.0
        if 0.5 < y < 0.55:
            options["stall_after"] = 60.0
        if 0.6 < y < 0.63:
            options["keep"] = True
        if 0.7 < y < 0.76:
            options["alert"] = {"title": name, "body": "begun"}
        self._enter(x, name, self._make(name, int(y * 1_000) % 8, options), around, "delay" in options)

    def _make(self, name: str, which: int, options: dict[str, Any]) -> Any:
        assert self.process is not None
        options |= {"tracker": self.process.tracker, "metadata": {"run": len(self.world.judge.runs) + 1}}
        if which < 4:
            return Progress(name, total=20, options=options)
        if which < 6:
            return Steps(name, steps=["one", "two", "three"], options=options)
        if which == 6:
            return Metrics(name, {"loss": 1.0}, options=options)
        options.pop("stall_after", None)
        return Timer(name, duration=self.world.rng.choice((None, 5.0, 900.0)), options=options)

    def _enter(self, x: float, name: str, handle: Any, around: Run | None, is_delayed: bool = False) -> Run:
        assert self.process is not None
        runs = self.world.judge.runs
        run = runs[len(runs) + 1] = Run(len(runs) + 1, name, self.process, handle, around)
        thread = self._thread(x)
        thread.context.run(handle.__enter__)
        run.has_card, run.is_delayed = handle._display.card is not None, is_delayed
        run.key = handle._display.card.stream_key if handle._display.card is not None else None
        thread.open.append(run)
        run.look()
        return run

    def do_loop(self, x: float, y: float) -> None:
        """Begin a loop over twenty items; `advance` goes on with it."""
        thread, around = self._thread(x), self._innermost(x)
        assert self.process is not None
        if len(thread.open) >= 3:
            return
        runs = self.world.judge.runs
        number, name = len(runs) + 1, f"loop{self.number}"
        options = {"tracker": self.process.tracker, "metadata": {"run": number}}
        track = iteration.Track(range(20), name, total=None, initial=0, unit="", options=options)
        loops: list[Any] = []
        opened = track._open
        track._open = lambda items, frame: loops.append(opened(items, frame)) or loops[0]  # type: ignore
        run = runs[number] = Run(number, name, self.process, None, around)
        run.items = thread.context.run(iter, track)
        run.handle = loops[0].handle
        run.has_card = run.handle._display.card is not None
        run.key = run.handle._display.card.stream_key if run.has_card else None
        thread.open.append(run)
        thread.context.run(next, run.items)
        run.look()

    def do_advance(self, x: float, y: float) -> None:
        run = self._innermost(x)
        if run is None:
            return
        times = 1 + int(y * 3)
        if run.items is None:
            run.handle.advance(times if run.handle.type == "progress" else 1)
        else:
            for _ in range(times):
                if self._thread(x).context.run(next, run.items, None) is None:
                    self._leave(x, "done")
                    return
        run.look()

    def do_finish_count(self, x: float, y: float) -> None:
        """Count up to the total, and go on running."""
        run = self._innermost(x)
        if run is not None and run.handle.type == "progress" and run.items is None:
            run.handle.update(completed=20 + int(y * 3))
            run.look()

    def do_lower(self, x: float, y: float) -> None:
        run = self._innermost(x)
        if run is not None and run.handle.type == "progress" and run.items is None:
            run.falls = True
            run.handle.update(completed=run.handle.completed * y)
            run.look()

    def do_grow(self, x: float, y: float) -> None:
        run = self._innermost(x)
        if run is not None and run.handle.type == "progress" and run.items is None:
            run.falls = True
            run.handle.update(total=run.handle.total * (1 + y))
            run.look()

    def do_subtitle(self, x: float, y: float) -> None:
        run = self._innermost(x)
        if run is not None:
            run.handle.update(subtitle=f"file {y:.2f}")

    def do_important(self, x: float, y: float) -> None:
        run = self._innermost(x)
        if run is not None:
            run.handle.update(subtitle=f"now {y:.2f}", important=True)

    def do_step(self, x: float, y: float) -> None:
        run = self._innermost(x)
        if run is not None and isinstance(run.handle, Steps):
            run.handle.step(("two", "three", "extra")[int(y * 3)])

    def do_reading(self, x: float, y: float) -> None:
        run = self._innermost(x)
        if run is not None and isinstance(run.handle, Metrics):
            run.handle.set(loss=y * 3)

    # -- ends

    def _leave(self, x: float, kind: str) -> None:
        run = self._thread(x).open.pop()
        run.end(kind, self.world.now)

    def do_close(self, x: float, y: float) -> None:
        """Leave the innermost block well; leave a loop early."""
        run, thread = self._innermost(x), self._thread(x)
        if run is None:
            return
        if run.items is not None:
            self._leave(x, "stopped")
            run.items = None  # a `break`, since nothing else refers to the iterator
        else:
            self._leave(x, "done")
            thread.context.run(run.handle.__exit__, None, None, None)

    def do_raise(self, x: float, y: float) -> None:
        """Let an exception pass one to three blocks; one in seven is Ctrl-C."""
        thread = self._thread(x)
        kind = KeyboardInterrupt if y < 0.15 else RuntimeError
        told = f" at https://user:{SECRET}@host/ with key={KEY}" if int(y * 100) % 3 == 0 else ""
        try:
            raise kind(f"x{y}{told}")
        except BaseException as caught:
            error = caught
        passed: list[Run] = []
        for _ in range(1 + int(y * 3)):
            run = self._innermost(x)
            if run is None or run.items is not None:
                break
            was = run.kind
            self._leave(x, "stopped" if kind is KeyboardInterrupt else "failed")
            if kind is RuntimeError and was != "failed":  # one that comes after the outcome is told too
                run.is_late = was is not None
                passed.append(run)
            thread.context.run(run.handle.__exit__, kind, error, error.__traceback__)
        for run in passed[:-1]:
            run.is_taken_over = True
        if passed:
            passed[-1].owes_push, passed[-1].failed_at = True, self.world.now

    def do_ends(self, x: float, y: float) -> None:
        """End the innermost block by a call, and stay in it."""
        run = self._innermost(x)
        if run is None or run.items is not None:
            return
        which, was = int(y * 3), run.kind
        run.end(("done", "failed", "stopped")[which], self.world.now)
        run.owes_push |= was is None and which == 1
        (run.handle.finish, run.handle.fail, run.handle.cancel)[which]()

    # -- processes

    def _stop_all(self) -> None:
        for thread in self.threads:
            for run in thread.open:
                run.end("stopped", self.world.now)

    def _wait_for(self, work: Any, most: float) -> None:
        """Let the process do something that may wait; it may also be killed meanwhile."""
        process, world = self.process, self.world
        assert process is not None
        wake = world.waker()
        process.mourners.append(wake)
        world.spawn(process, lambda: (work(), wake()))
        begun = world.now
        world.at(begun + most, wake)
        world.wait()
        if world.now >= begun + most:
            world.judge.wrong("something hangs", process=process.number, what=str(work))

    def do_flush(self, x: float, y: float) -> None:
        assert self.process is not None
        dispatcher = self.process.dispatcher
        self._wait_for(lambda: dispatcher.flush(y * 10), 30.0)

    def do_exit(self, x: float, y: float) -> None:
        assert self.process is not None
        self._stop_all()
        self._wait_for(self.process.exit, 12.0)

    def do_exit_killed(self, x: float, y: float) -> None:
        """Leave in order, and be killed meanwhile."""
        self._stop_all()
        process = self.process
        assert process is not None
        self.world.spawn(process, process.exit)
        self.world.sleep(y * 2.2)
        process.kill()

    def do_live_on(self, x: float, y: float) -> None:
        """End all blocks, and live on with nothing but what is owed, while the next program of the line begins."""
        for thread in (0.0, 0.01):
            while (run := self._innermost(thread)) is not None:
                if y < 0.5 or run.items is not None:
                    self.do_close(thread, y)
                else:
                    self.do_raise(thread, y)
        self.process.lives_on_at = self.world.now
        self.process = None

    def do_kill(self, x: float, y: float) -> None:
        assert self.process is not None
        self.process.kill()

    def do_trap(self, x: float, y: float) -> None:
        """Be killed at one of the next calls of the disk or the network."""
        assert self.process is not None
        self.world.traps.append(Trap(self.process, int(y * 6)))

    def do_fork(self, x: float, y: float) -> None:
        """Go on in a child; its parent is gone."""
        assert self.process is not None
        self.process = Child(self.process)
        inherited = [run for thread in self.threads for run in thread.open]
        for thread in self.threads:
            thread.open.clear()
        for run in inherited:
            if run.items is None and y < 0.5:  # the child ends what is its parent's, of which nobody is to hear
                run.handle.__exit__(None, None, None)

    # -- the world

    def do_outage(self, x: float, y: float) -> None:
        seconds = (1.0, 4.0, 8.0, 30.0, 50.0, 50.0, 600.0, 7_200.0)[int(y * 8)]
        self.world.judge.outage((*OUTAGES, "mixed", "mixed")[int(x * 7)], seconds)

    def do_heal(self, x: float, y: float) -> None:
        self.world.judge.heal()

    def do_clock(self, x: float, y: float) -> None:
        """Set the clock of the machine ahead or back."""
        self.world.jumped += (x - 0.5) * (60.0 if y < 0.5 else 7_200.0)

    def do_pause(self, x: float, y: float) -> None:
        """Pause the stream of a block on the phone."""
        run = self._innermost(x)
        if run is not None and run.key is not None:
            self.world.judge.hidden.add(run.key)
            self.world.service.pause(run.key)

    def do_long(self, x: float, y: float) -> None:
        return
