"""A simulated world around the library: its delivery in one thread, on virtual time, in an order drawn from a seed.

What the library takes from outside, its `Runtime`, is the world's here. Whatever may wait (a request, the disk, an
exit) is a `Fiber`, which waits for an event of the world; what the scheduler does, it does at once. A request is
carried out by the simulator's rules, without HTTP, at a moment of its own, whether or not somebody still waits for
its answer. A process may be killed between any two events. The same seed gives the same world.

`world_jobs` draws what the jobs do, and `world_judge` says what must never be seen.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import json
import random
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from greenlet import GreenletExit, getcurrent, greenlet
from internals import TrackerIn, accounts_of, dispatcher_of, is_idle, on_own_thread

from activitysmith_track.client.answers import read_answer
from activitysmith_track.client.requests import Request
from activitysmith_track.client.retry import LONGEST_FOREIGN
from activitysmith_track.delivery.entries import Entry, load_checks
from activitysmith_track.delivery.newer_card import AHEAD_SECONDS, NewerCard
from activitysmith_track.delivery.outbox import NOBODY, Idle, Outbox
from activitysmith_track.delivery.outbox_file import OutboxFile
from activitysmith_track.delivery.outbox_tables import (
    ATTEMPT_SECONDS,
    KEPT_ENTRIES,
    KEPT_SECONDS,
    LONGEST_LEASE,
    MARK_SECONDS,
)
from activitysmith_track.delivery.runtime import Runtime
from activitysmith_track.delivery.scheduler import Agenda, Job
from activitysmith_track.delivery.shutdown import Shutdown
from activitysmith_track.delivery.state import Hold
from activitysmith_track.delivery.unanswered import LATE_SECONDS
from activitysmith_track.delivery.watchdog.job_record import JobRecord, Owed
from activitysmith_track.delivery.watchdog.successor import Successor
from activitysmith_track.errors import ConnectionFailed, RequestTimedOut
from activitysmith_track.simulator.service import Service

if TYPE_CHECKING:
    from world_judge import Judge

KEY, URL = "world-key-0123456789", "http://127.0.0.1:1/api"
SECRET = "hunter2-of-the-world"  # a password that the jobs' errors name
EPOCH = 1_790_000_000.0  # seconds, when every world begins
CHANGED_AFTER = 7.75 * 3600.0  # seconds after which a card is changed for a fresh one, as `docs/pacing.md` has it


class Violation(BaseException):
    """Something that must never be seen; no `except Exception` of the library swallows it."""


class Fiber(greenlet):
    """Code that may wait, of a process or of nobody."""

    def __init__(self, work: Callable[[], object], parent: greenlet, process: Process | None) -> None:
        super().__init__(work, parent)
        self.process = process


# ------------------------------------------------------------------------------------------------------- the world


class World:
    """Virtual time, and everything in it.

    Args:
        seed: of all that is by chance.
        conditions: of the network and the disk.
        judge: looks at all that is carried out.
    """

    def __init__(self, seed: int, conditions: Conditions, outbox: str = "memory", directory: str = "") -> None:
        self.rng, self.now, self.jumped = random.Random(seed), 0.0, 0.0
        self.conditions, self.kind_of_outbox, self.directory = conditions, outbox, directory
        self.hub = getcurrent()
        self._events: list[tuple[float, float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self.shelf = Shelf()  # of the outbox in memory
        self.processes: list[Process] = []
        self.fibers: list[Fiber] = []
        self.requests = 0
        self.outage: str | None = None
        self.keys = {KEY}
        self.silent_until = 0.0  # as a 429 has asked for
        self.late_until = 0.0  # when what is carried out late has been, as far as a client can tell
        self.trace: list[str] | None = None
        self.traps: list[Trap] = []
        self.fates: Callable[[Process, Request[Any]], Fate | str | None] = lambda process, request: None
        self.service = Service(api_key=KEY, slots=conditions.slots, requests_per_minute=10**6, clock=lambda: self.now)
        self.judge: Judge

    def wall(self) -> float:
        """Return seconds since the epoch, of a clock that somebody may set."""
        return EPOCH + self.now + self.jumped

    # -- events

    def at(self, when: float, event: Callable[[], None]) -> None:
        """Have something happen at a time; what happens at the same time does so in any order."""
        heapq.heappush(self._events, (when, self.rng.random(), next(self._order), event))

    def run(self, until: float) -> None:
        """Let everything happen up to a time."""
        events = self._events
        while events and events[0][0] <= until:
            when, _, _, event = heapq.heappop(events)
            self.now = max(self.now, when)
            event()
        self.now = max(self.now, until)

    def run_while(self, goes_on: Callable[[], bool], most: float) -> None:
        """Let everything happen while something holds, for so many seconds at most."""
        until, events = self.now + most, self._events
        while goes_on() and events and events[0][0] <= until:
            when, _, _, event = heapq.heappop(events)
            self.now = max(self.now, when)
            event()
        if goes_on():
            raise Violation("hangs: the jobs do not come to their end")

    def log(self, text: str) -> None:
        """Note something for whoever reads a failing schedule."""
        if self.trace is not None:
            self.trace.append(f"{self.now:11.3f} {text}")

    # -- what waits

    def spawn(self, process: Process | None, work: Callable[[], object]) -> Fiber:
        """Have code begin that may wait."""
        fiber = Fiber(work, self.hub, process)
        self.fibers.append(fiber)
        self.at(self.now, lambda: self.resume(fiber))
        return fiber

    def resume(self, fiber: Fiber) -> None:
        """Let a fiber go on, unless its process is gone."""
        if not fiber.dead and (fiber.process is None or not fiber.process.dead):
            fiber.switch()

    def waker(self) -> Callable[[], None]:
        """Return what lets the running fiber go on, once."""
        fiber, used = getcurrent(), []

        def wake() -> None:
            if not used:
                used.append(True)
                self.at(self.now, lambda: self.resume(fiber))

        return wake

    def wait(self) -> None:
        """Wait for a waker."""
        if getcurrent() is self.hub:
            raise Violation("waits: the scheduler waits for something")
        self.die_if_dead()
        self.hub.switch()
        self.die_if_dead()

    def sleep(self, seconds: float) -> None:
        """Let a fiber wait for a time."""
        self.at(self.now + seconds, self.waker())
        self.wait()

    @staticmethod
    def die_if_dead() -> None:
        """End a fiber whose process is gone: nothing of it happens any more."""
        process = getattr(getcurrent(), "process", None)
        if process is not None and process.dead:
            raise GreenletExit

    def close(self) -> None:
        """Let go of everything."""
        for process in self.processes:
            process.dead = True
            tracker = getattr(process, "tracker", None)
            if tracker is not None:
                tracker.abandon()  # which would keep this world alive
        for fiber in self.fibers:
            if not fiber.dead and fiber:
                fiber.throw(GreenletExit)
        self._events.clear()

    # -- the disk

    def disk(self) -> None:
        """Let a call to the disk take its time: most of them none, a few long."""
        self.die_if_dead()
        self.spring("disk")
        chance = self.rng.random()
        if chance < self.conditions.slow_disk:
            self.sleep(self.rng.random() * (0.01 if chance < 0.9 * self.conditions.slow_disk else 1.0))

    def spring(self, place: str) -> None:
        """Kill a process where a trap was laid: before or after so many calls of the disk or the network."""
        process = getattr(getcurrent(), "process", None)
        for trap in self.traps:
            if trap.process is process and process is not None and not process.dead:
                trap.left -= 1
                if trap.left < 0:
                    self.traps.remove(trap)
                    self.log(f"p{process.number} * killed at a call of the {place}")
                    process.kill()
                    raise GreenletExit

    # -- the network

    def fate(self, process: Process, request: Request[Any]) -> Fate:
        """Say what becomes of a request, or draw it."""
        told = self.fates(process, request)
        if told is not None:
            return told if isinstance(told, Fate) else Fate(told, 2.0 if told == "late" else 0.05, 0.05)
        conditions, rng = self.conditions, self.rng
        quick = rng.random() * 0.15, rng.random() * 0.15
        if self.outage is not None:
            return Fate(rng.choice(OUTAGES) if self.outage == "mixed" else self.outage, *quick)
        if rng.random() >= conditions.faults:
            slow = conditions.latency
            return Fate("ok", rng.random() ** 3 * slow, rng.random() ** 3 * slow) if slow else Fate("ok", *quick)
        kind = rng.choice(FAULTS)
        if kind == "403" and request.method != "PUT":
            kind = "503"
        return Fate(kind, rng.random() * LATEST if kind == "late" else quick[0], quick[1])

    def request(self, process: Process, request: Request[Any], seconds: float) -> Any:
        """Carry a request to the service and its answer back, for who waits for it."""
        self.die_if_dead()
        self.spring("network")
        self.requests += 1
        self.judge.sends(process, request)
        fate = self.fate(process, request)
        if fate.kind == "refused":
            self.sleep(min(fate.there, seconds))
            raise ConnectionFailed("refused", delivered=False)
        if fate.kind == "reset":
            self.sleep(min(fate.there, seconds))
            raise ConnectionFailed("reset", delivered=None)
        if fate.kind in ("swallowed", "late"):
            if fate.kind == "late":  # it is carried out when nobody waits for it any more
                moment = self.now + seconds + fate.there
                self.at(moment, lambda: self.judge.carry_out(process, request, is_late=True))
                self.late_until = max(self.late_until, self.now + seconds + LATE_SECONDS)
            self.sleep(seconds)
            raise RequestTimedOut("timed out", delivered=None)
        answers: list[tuple[int, dict[str, str], bytes]] = []
        wake = self.waker()
        if fate.there <= seconds:  # else it is given up before it has arrived
            self.at(self.now + fate.there, lambda: self._arrive(process, request, fate, answers, wake))
        self.at(self.now + seconds, wake)
        self.wait()
        if not answers:
            raise RequestTimedOut("timed out", delivered=None)
        status, headers, content = answers[0]
        if status == 0:
            raise ConnectionFailed("the connection broke", delivered=None)
        self.spring("network")
        answer = read_answer(request.answer, status, headers, content, self.wall())
        self.judge.hears(process, request)
        return answer

    def _arrive(
        self,
        process: Process,
        request: Request[Any],
        fate: Fate,
        answers: list[tuple[int, dict[str, str], bytes]],
        wake: Callable[[], None],
    ) -> None:
        status, headers, content = 200, dict[str, str](), b""
        if fate.kind in CARRIED_OUT:
            status, body = self.judge.carry_out(process, request)
            content = json.dumps(body).encode()
        if fate.kind == "lost":
            return
        if fate.kind == "cut":
            status = 0
        elif fate.kind in ("502 after", "html"):
            status, content = (502 if fate.kind == "502 after" else 200), b"<html>not the service</html>"
        elif fate.kind.startswith("page"):
            status, content = int(fate.kind.split()[1]), b"<html>not the service</html>"
            if status == 429:
                headers = {"retry-after": "3600"}
                self.silent_until = max(self.silent_until, self.now + fate.back + LONGEST_FOREIGN)
        elif fate.kind == "429":
            wait = self.rng.choice((None, 1, 4))
            status, content = 429, b'{"error": "Rate limit exceeded", "code": "rate_limited"}'
            headers = {} if wait is None else {"retry-after": str(wait)}
            self.silent_until = max(self.silent_until, self.now + fate.back + (10 if wait is None else wait))
        elif fate.kind not in CARRIED_OUT:
            if fate.kind == "403":
                self.judge.hidden.add(request.path.rpartition("/")[2])
            status, content = int(fate.kind), b'{"error": "Service trouble"}'
        if self.trace is not None:
            self.log(f"p{process.number} {request.method} {request.path.rpartition('/')[2]}: {fate.kind}, {status}")

        def answered() -> None:
            answers.append((status, headers, content))
            wake()

        self.at(self.now + fate.back, answered)


class Conditions(NamedTuple):
    """What a world is like.

    Attributes:
        name: of the profile.
        faults: the share of requests that something strikes.
        latency: seconds that a request and its answer may take each; 0 for a fraction of one.
        slow_disk: the share of calls to the disk that take time.
        slots: Live Activities at once.
        watched: the share of processes with a watchdog.
    """

    name: str = "calm"
    faults: float = 0.0
    latency: float = 0.0
    slow_disk: float = 0.35
    slots: int = 4
    watched: float = 0.0


PROFILES = (
    Conditions("calm"),
    Conditions("calm"),
    Conditions("slow", latency=4.0),
    Conditions("flaky", faults=0.25),
    Conditions("flaky and slow", faults=0.25, latency=3.0),
    Conditions("storm", faults=0.6, latency=3.0),
)


class Fate(NamedTuple):
    """What becomes of a request, and the seconds until it arrives and until its answer does.

    One that is late arrives so many seconds after it was given up.
    """

    kind: str
    there: float
    back: float


PAGES = ("page 302", "page 403", "page 404", "page 407", "page 408")  # of a proxy, a portal, a firewall
OUTAGES = ("refused", "swallowed", "503", "reset", "html", *PAGES[:3])
FAULTS = ("refused", "swallowed", "reset", "503", "503", "500", "429", "html", "lost", "lost", "cut", "502 after")
FAULTS += (*PAGES, "page 429", "late", "late", "late", "403")
LATEST = LATE_SECONDS - 0.5  # seconds after a request was given up in which it may be carried out
CARRIED_OUT = frozenset({"ok", "lost", "cut", "502 after"})


class Trap:
    """Kills a process at a call of the disk or the network, a few calls later."""

    def __init__(self, process: Process, left: int) -> None:
        self.process, self.left = process, left


# ------------------------------------------------------------------------------------------------------- processes


class Process:
    """A program with the library in it.

    Args:
        world: where it runs.
        line: which line of programs it belongs to, that run one after the other under the same names.
    """

    def __init__(self, world: World, line: int, *, watched: bool = False) -> None:
        self.world, self.line, self.dead, self.killed, self.left_debts = world, line, False, False, False
        self.is_watched, self.watchdog = watched, None
        self.leaves_at = self.lives_on_at = self.gone_at = float("inf")
        self.number = len(world.processes) + 1
        world.processes.append(self)
        self.sent: deque[float] = deque()
        self.spoken: deque[tuple[float, bool]] = deque(maxlen=100)  # when, and whether for itself
        self.mourners: list[Callable[[], None]] = []  # what waits for something of it
        self.runtime = WorldRuntime(self)
        self.leaves = Shutdown(self.runtime)
        self._begin()

    watchdog: WorldWatchdog | None
    was_guarded = False  # when it was killed

    def _begin(self) -> None:
        self.tracker = WorldTracker(self)
        self.dispatcher = self.tracker.dispatcher

    @property
    def is_guarded(self) -> bool:
        """True where a watchdog stands that will speak for it."""
        return self.watchdog is not None and self.watchdog.alive

    def kill(self) -> None:
        """Be gone at once; nothing of it happens any more, but what is on the wire goes on."""
        self.was_guarded = self.is_guarded
        if not self.dead:
            self.dead, self.killed, self.gone_at = True, True, self.world.now
            for wake in self.mourners:
                wake()
            if self.watchdog is not None:
                self.watchdog.hear_of_the_end()

    def exit(self) -> None:
        """Leave in order."""
        self.leaves_at = self.world.now
        self.leaves.at_exit()
        self.left_debts = self.dispatcher.ledger.owes
        self.world.sleep(self.world.rng.random() * 0.1)  # until the interpreter is taken down, threads go on
        self.world.judge.has_left(self)
        self.dead, self.gone_at = True, self.world.now
        if self.watchdog is not None:
            self.watchdog.hear_of_the_end()


class Child(Process):
    """A child that a program has forked, as the program itself goes by `os._exit`: its objects live on in the child.

    That the parent lives on, too, is another world: it and the child share nothing then but the card of the parent.
    """

    def __init__(self, parent: Process) -> None:
        self._parent = parent
        super().__init__(parent.world, parent.line, watched=parent.is_watched)

    def _begin(self) -> None:
        parent = self._parent
        parent.kill()
        self.tracker, self.dispatcher, self.runtime, self.leaves = (
            parent.tracker,
            parent.dispatcher,
            parent.runtime,
            parent.leaves,
        )
        self.runtime.process = self
        self.leaves.after_in_child()
        self.dispatcher.after_fork()


class Heir(Process):
    """The process of a watchdog whose job is gone."""

    def __init__(self, job: Process, owed: list[Owed], leases: list[tuple[tuple[str, str], str]]) -> None:
        self._owed, self._leases = owed, leases
        super().__init__(job.world, job.line)

    def _begin(self) -> None:
        successor = Successor(self.runtime, self.world.kind_of_outbox != "none")
        self.dispatcher = dispatcher_of(successor)
        until = self.world.now + 3_600.0
        self.world.spawn(self, lambda: (successor.deliver(self._owed, lambda: until, self._leases), self._leave()))

    def _leave(self) -> None:
        self.dead, self.gone_at = True, self.world.now


class WorldWatchdog:
    """Hears what the job says a moment later, and speaks for it when it is gone."""

    starts = False

    def __init__(self, process: Process) -> None:
        self._process, self._world = process, process.world
        self._record = JobRecord()
        self.stands_at = process.world.now + 0.05 + process.world.rng.random() * 0.3
        self._heard_at = 0.0

    @property
    def alive(self) -> bool:
        return self._world.now >= self.stands_at

    def _say(self, kind: str, **fields: Any) -> None:
        """Have a frame arrive, after those that were said before."""
        frame = {"frame": kind, **fields}
        content = json.dumps(frame).encode()
        self._world.judge.has_no_secret(content.decode(), f"a watchdog's {kind}")
        soon = self._world.now + self._world.rng.random() * 0.003
        moment = max(self._heard_at + 1e-9, self.stands_at, soon)  # one after the other
        self._heard_at = moment

        def arrive() -> None:
            if not self._process.dead or self._process.gone_at >= moment:
                self._record.take(frame, content)

        self._world.at(moment, arrive)

    def arm(
        self, card: int, api_key: str, base_url: str, stream_key: str, *, end: Any, push: Any, began_at: float
    ) -> None:
        accounts_of(self._record)[1] = api_key, base_url
        words = {"end": dict(end), "push": None if push is None else dict(push), "began_at": began_at}
        self._say("card", id=card, account=1, stream_key=stream_key, **words)

    def disarm(self, card: int) -> None:
        self._say("disarm", id=card)

    def entrust(
        self, owed: int, api_key: str, base_url: str, method: str, body: Any, *, occurred_at: float, **more: Any
    ) -> None:
        accounts_of(self._record)[1] = api_key, base_url
        self._say("owed", id=owed, account=1, method=method, body=dict(body), occurred_at=occurred_at, **more)

    def ack(self, owed: int) -> None:
        self._say("ack", id=owed)

    def leases(self, api_key: str, base_url: str, owner: str) -> None:
        accounts_of(self._record)[1] = api_key, base_url
        self._say("leases", id=1, account=1, owner=owner)

    def returned(self, api_key: str, base_url: str) -> None:
        self._say("returned", id=1)

    def begin_close(self, timeout: float) -> Callable[[float], bool]:
        self._say("bye")
        return self._hears

    def begin_tell(self) -> Callable[[float], bool]:
        return self._hears

    def _hears(self, timeout: float) -> bool:
        wait = max(0.0, self._heard_at - self._world.now)
        self._world.sleep(min(wait, timeout))
        return wait <= timeout

    def hear_of_the_end(self) -> None:
        """Notice that the job is gone, and do what is left to do."""
        self._world.at(self._world.now + 0.01 + self._world.rng.random() * 0.05, self._take_over)

    def _take_over(self) -> None:
        owed = self._record.owed(self._world.wall())
        if self._record.owes and self.alive:
            Heir(self._process, owed, self._record.leases())


class WorldTracker(TrackerIn):
    """A tracker whose dispatcher takes everything from the world."""

    def __init__(self, process: Process) -> None:
        given = {**SETTINGS, "outbox": process.world.kind_of_outbox != "none", "watchdog": process.is_watched}
        super().__init__(process.runtime, process.leaves, **given)


SETTINGS = {"api_key": KEY, "base_url": URL, "enabled": True, "all_ranks": True}


class WorldRuntime(Runtime):
    """What a process takes from outside, of the world's."""

    def __init__(self, process: Process) -> None:
        self.process, self._world = process, process.world
        # No two processes begin in the same instant, by which older and newer runs are told apart.
        super().__init__(lambda: process.world.now, lambda: process.world.wall() + process.number * 1e-6)
        self.attempt_seconds = 5.0  # however patient the other tests are
        self.interpreter = WorldInterpreter()  # type: ignore[assignment]

    def uniform(self, low: float, high: float) -> float:
        return self._world.rng.uniform(low, high)

    def token(self) -> str:
        return f"{self._world.rng.getrandbits(96):024x}"

    def scheduler(self, name: str) -> Any:
        return WorldScheduler(name, self.process)

    def workers(self, name: str, most: int, report: Callable[[Job], None]) -> Any:
        return WorldWorkers(self.process, most, report)

    def lock(self) -> Any:
        return WorldLock(self._world)

    def inbox(self) -> Any:
        return WorldInbox(self._world)

    def transport(self, api_key: str, base_url: str, seconds: float) -> Any:
        assert api_key in self._world.keys
        assert base_url == URL
        return WorldTransport(self.process, seconds)

    def outbox(self, directory: Any) -> Any:
        world = self._world
        if world.kind_of_outbox == "none":  # a watchdog's own
            return MemoryOutbox(world, Shelf())
        return MemoryOutbox(world) if world.kind_of_outbox == "memory" else DiskOutbox(world)

    def watchdog(self, outbox: Any) -> Any:
        made = self.process.watchdog = WorldWatchdog(self.process)
        return made

    def warn_once(self, kind: object, message: str, *details: object) -> None:
        if self._world.trace is not None and kind not in self._warned:
            self._warned[kind] = kind
            self._world.log(f"p{self.process.number} warns: {message % details if details else message}")


class WorldInterpreter:
    """An interpreter that leaves when it is told to."""

    def call_at_exit(self, handler: Callable[[], None]) -> bool:
        return False

    def call_in_worker_process(self, handler: Callable[[], None]) -> bool:
        return False

    def is_exiting(self) -> bool:
        return False

    def thread(self) -> int:
        return id(getcurrent())

    def has_other_threads(self) -> bool:
        return False

    def open_gates(self) -> None:
        return

    def shut_gates(self) -> None:
        return

    def interrupts_later(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def keep_interrupt(self) -> None:
        return


class WorldScheduler(Agenda):
    """Runs tasks in the world's own thread, a moment after they were woken."""

    runs, too_late = True, False

    def __init__(self, name: str, process: Process) -> None:
        super().__init__(name, process.runtime.now)
        self._process, self._world, self._planned = process, process.world, float("inf")

    def start(self) -> bool:
        return True

    def stop(self) -> None:
        return

    def join(self, timeout: float) -> None:
        return

    def wake(self, task: Any) -> None:
        super().wake(task)
        self._plan_soon()

    def report(self, job: Job) -> None:
        super().report(job)
        self._plan_soon()

    def _plan_soon(self) -> None:
        rng = self._world.rng
        self._plan(self._world.now + (0.0 if rng.random() < 0.7 else rng.random() * 0.003))

    def _plan(self, when: float) -> None:
        if when < self._planned:
            self._planned = when
            self._world.at(when, lambda: self._turn(when))

    def _turn(self, planned: float) -> None:
        if self._process.dead or planned != self._planned:
            return  # it is gone, or has had an earlier turn since
        self._planned = float("inf")
        with on_own_thread():
            if not is_idle(self):
                self.take_in()
            self.run_due()
        due = self.seconds_until_due()
        if due is not None:
            self._plan(self._world.now + due)


class WorldWorkers:
    """Do what may take long, each in a fiber of its own."""

    def __init__(self, process: Process, most: int, report: Callable[[Job], None]) -> None:
        self._process, self._most, self._report = process, most, report
        self._waiting: deque[Job] = deque()
        self._at_work = self.busy = 0

    @property
    def free(self) -> bool:
        return self.busy < self._most

    def send(self, task: Any, work: Callable[[], Any]) -> Job:
        job = Job(task, self, work)  # type: ignore[arg-type]
        self.busy += 1
        if self._at_work < self._most:
            self._at_work += 1
            self._process.world.spawn(self._process, lambda: self._serve(job))
        else:
            self._waiting.append(job)
        return job

    def _serve(self, job: Job) -> None:
        while True:
            job.do()
            if isinstance(job.error, (NameError, AttributeError, LookupError, AssertionError)):
                raise Violation(f"an internal error: {job.error!r}")
            self._report(job)
            if not self._waiting:
                break
            job = self._waiting.popleft()
        self._at_work -= 1

    def stop(self) -> None:
        return

    def join(self, timeout: float) -> None:
        return


class WorldLock:
    """A lock whose holders are fibers; whoever holds it may take it again."""

    def __init__(self, world: World) -> None:
        self._world, self._owner, self._times = world, None, 0
        self._waiting: deque[Callable[[], None]] = deque()

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        me, world = getcurrent(), self._world
        until = world.now + timeout if timeout >= 0 else float("inf")
        while self._owner not in (None, me):
            if world.now >= until or not blocking:
                return False
            wake = world.waker()
            self._waiting.append(wake)
            if until < float("inf"):
                world.at(until, wake)
            world.wait()
        self._owner, self._times = me, self._times + 1
        return True

    def release(self) -> None:
        self._times -= 1
        if not self._times:
            self._owner = None
            while self._waiting:
                self._waiting.popleft()()

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()


class WorldInbox:
    """What a fiber waits for."""

    def __init__(self, world: World) -> None:
        self._world, self._items = world, deque[Any]()
        self._wake: Callable[[], None] = lambda: None

    def put(self, item: Any) -> None:
        self._items.append(item)
        self._wake()

    def get(self, timeout: float) -> Any:
        if not self._items:
            self._wake = self._world.waker()
            self._world.at(self._world.now + timeout, self._wake)
            self._world.wait()
        if not self._items:
            from queue import Empty

            raise Empty
        return self._items.popleft()


class WorldTransport:
    """Carries requests through the world's network."""

    def __init__(self, process: Process, seconds: float) -> None:
        self._process, self._seconds = process, seconds

    def perform(self, request: Request[Any], seconds: float | None = None) -> Any:
        return self._process.world.request(self._process, request, self._seconds if seconds is None else seconds)

    def close(self) -> None:
        return


# ------------------------------------------------------------------------------------------------------ the outbox


class Row:
    """An entry of the outbox in memory, and who has it."""

    __slots__ = ("begun", "entry", "owner", "until")

    def __init__(self, entry: Entry, until: float = 0.0) -> None:
        self.entry, self.owner, self.until, self.begun = entry, None, until, 0

    def free(self, now: float) -> None:
        """Give the lease back."""
        self.owner, self.until, self.begun = None, now, 0
        self.entry = replace(self.entry, attempts=self.entry.attempts + 1)


class Mark:
    """What is known of an end, also when it is gone."""

    __slots__ = ("answered", "before", "entry", "sent", "settled", "until")

    def __init__(self, entry: Entry) -> None:
        self.entry, self.settled, self.until = entry, False, 0.0
        self.sent = self.before = self.answered = 0.0


class Shelf:
    """What an outbox in memory holds: it outlives the processes."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.marks: dict[str, Mark] = {}  # by the entries' ids
        self.was_used = False


class MemoryOutbox:
    """The outbox's rules over a list; a test compares it with the real one."""

    def __init__(self, world: World, shelf: Shelf | None = None) -> None:
        self._world, self._now, self._shelf = world, world.wall, shelf or world.shelf

    def _free(self, row: Row) -> bool:
        return row.owner is None or not self._now() <= row.until <= self._now() + LONGEST_LEASE

    def _find(self, ids: Iterable[str]) -> Iterator[Row]:
        wanted = set(ids)
        return (row for row in self._shelf.rows if row.entry.id in wanted)

    def _keep_if(self, holds: Callable[[Row], bool]) -> None:
        self._shelf.rows[:] = [row for row in self._shelf.rows if holds(row)]

    def _prune(self) -> None:
        now = self._now()
        self._keep_if(lambda row: abs(now - row.entry.occurred_at) <= KEPT_SECONDS)
        for key, mark in list(self._shelf.marks.items()):
            if now <= mark.until <= now + KEPT_SECONDS:
                continue
            shown = [row for row in self._find([key]) if mark.answered and row.entry.kind == "keep"]
            for row in filter(self._free, shown):
                self._shelf.rows.remove(row)
            if not any(not self._free(row) for row in shown):
                del self._shelf.marks[key]

    def _note(
        self, row: Row, *, sent: bool = False, goes_on: bool = False, settled: bool = False, awaited: bool = False
    ) -> None:
        entry, now = row.entry, self._now()
        if entry.kind == "push" and (row.owner == entry.run or not settled):
            return
        mark = self._shelf.marks.setdefault(entry.id, Mark(entry))
        mark.settled = settled
        if sent:
            mark.sent, mark.before, mark.answered = now, mark.before if goes_on else mark.sent, 0.0
        mark.until = max(mark.until, now + (KEPT_SECONDS if awaited else MARK_SECONDS))

    def _settle(self, row: Row, *, awaited: bool = False) -> None:
        self._note(row, settled=True, awaited=awaited)
        self._shelf.rows.remove(row)

    def exists(self) -> bool:
        return bool(self._shelf.rows or self._shelf.marks)

    def put(
        self, entries: Iterable[Entry], owner: str | None = None, lease_seconds: float = 0.0, *, sent: bool = False
    ) -> bool:
        until = self._now() + min(lease_seconds, LONGEST_LEASE)
        self._world.disk()
        entries = list(entries)
        self.insert(entries, {entry.id for entry in entries} if sent else ())
        if owner is not None:
            for row in self._find(entry.id for entry in entries):
                row.owner, row.until = owner, until
        return True

    def insert(self, entries: Iterable[Entry], sent: Collection[str] = ()) -> None:
        self._shelf.was_used = True
        self._prune()
        rows = self._shelf.rows
        for entry in (replace(each, began_at=min(each.began_at, each.occurred_at)) for each in entries):
            known = next(self._find([entry.id]), None)
            if known is not None:
                if entry.id in sent:
                    self._note(known, sent=True)
                continue
            older = next((row for row in rows if _is_same_card(row.entry, entry)), None)
            times = entry.began_at, entry.occurred_at
            self._world.judge.has_no_secret(repr(entry), "the outbox")
            made = Row(entry, self._now())
            if entry.id in sent:
                self._note(made, sent=True)
            if self._was_ended_by_newer(entry) or (
                older
                and times < (older.entry.began_at, older.entry.occurred_at)
                and older.entry.occurred_at <= self._now() + AHEAD_SECONDS
            ):
                self._note(made, settled=True, awaited=True)
                continue
            if older is not None:
                self._settle(older, awaited=not self._free(older))
            rows.append(made)
        del rows[: max(0, len(rows) - KEPT_ENTRIES)]

    def _was_ended_by_newer(self, entry: Entry) -> bool:
        if entry.kind != "keep":
            return False
        newer = [mark for mark in self._shelf.marks.values() if mark.entry.began_at > entry.began_at]
        return any(mark.entry.stream_key == entry.stream_key and 0 < mark.answered <= self._now() for mark in newer)

    def leave(
        self,
        entries: Iterable[Entry],
        leases: Iterable[tuple[str, str]],
        in_flight: Collection[str] = (),
        late: Collection[str] = (),
    ) -> bool:
        self._world.disk()
        entries, sent = list(entries), {*in_flight, *late}
        self.insert(entries, sent)
        for each, owner in leases:
            for row in self._find([each]):
                if row.owner == owner:
                    row.free(self._now())
        for row in self._find(in_flight):
            row.begun = int(self._now()) if row.entry.kind != "push" else row.begun
        for row in self._find(sent - {entry.id for entry in entries}):
            self._note(row, sent=True)
        return True

    def claim(
        self, key_fingerprint: str, base_url: str, owner: str, now: float, lease_seconds: float, *, most: int = 50
    ) -> list[Entry]:
        self._world.disk()
        self._prune()
        self._keep_if(lambda row: not (_comes_once(row.entry) and row.begun and self._free(row)))
        rows = self._shelf.rows[::-1]
        newest = sorted(rows, key=lambda row: row.entry.kind == "push")
        found = [row for row in newest if self._free(row)][:most]
        for row in found:
            row.owner, row.until, row.begun = owner, now + min(lease_seconds, LONGEST_LEASE), 0
        return [row.entry for row in found]

    def renew(self, owner: str, lease_seconds: float) -> bool:
        until = self._now() + min(lease_seconds, LONGEST_LEASE)
        self._world.disk()
        for row in self._shelf.rows:
            if row.owner == owner:
                row.until = until
        return self._shelf.was_used

    def next_lease_end(self, key_fingerprint: str, base_url: str, owner: str) -> float | None:
        if not self.exists():
            return None
        self._world.disk()
        return min(
            (row.until for row in self._shelf.rows if row.owner != owner and not self._free(row)), default=None
        )

    def inherit(
        self, key_fingerprint: str, base_url: str, gone: str, owner: str, lease_seconds: float
    ) -> list[Entry]:
        if not self.exists():
            return []
        self._world.disk()
        until = self._now() + min(lease_seconds, LONGEST_LEASE)

        def is_left(row: Row) -> bool:
            return row.owner == gone or (row.entry.run == gone and self._free(row))

        self._keep_if(lambda row: not (is_left(row) and _comes_once(row.entry) and row.begun))
        found = sorted(filter(is_left, self._shelf.rows[::-1]), key=lambda row: row.entry.kind == "push")
        for row in found:
            row.owner, row.until = owner, until
        return [row.entry for row in found]

    def begin(self, entry_id: str, owner: str, lease_seconds: float, *, goes_on: bool = False) -> Hold:
        until = self._now() + min(lease_seconds, LONGEST_LEASE)
        self._world.disk()
        for row in self._find([entry_id]):
            if row.owner == owner or self._free(row):
                row.owner, row.begun = owner, int(self._now())
                row.until = until
                self._note(row, sent=True, goes_on=goes_on)
                return Hold.MINE
            return Hold.OTHERS
        mark = self._shelf.marks.get(entry_id)
        if mark is not None and mark.settled:
            mark.until = min(mark.until, self._now() + MARK_SECONDS)
            return Hold.SETTLED
        return Hold.GONE if self._shelf.was_used else Hold.UNKNOWN

    def over(self, entry_id: str, owner: str, *, sent: bool = True, shown: bool = False) -> bool:
        self._world.disk()
        found = [row for row in self._find([entry_id]) if row.owner == owner]
        for row in found:
            mark = self._shelf.marks.get(entry_id)
            if mark is not None and (shown or (row.begun and not sent)):
                mark.sent, mark.before = mark.before, 0.0
                mark.answered = self._now() if shown else mark.answered
            row.begun = 0
        return bool(found)

    def delivered(self, ids: Iterable[str]) -> bool:
        self._world.disk()
        gone = set(ids)
        for row in list(self._find(gone)):
            self._settle(row)
            mark = self._shelf.marks.get(row.entry.id)
            if mark is not None and row.begun:
                mark.sent, mark.before, mark.answered = mark.before, 0.0, self._now()
        return self._shelf.was_used or not gone

    def release(self, ids: Iterable[str], owner: str | None = None, *, seconds: float = 0.0) -> bool:
        if not list(ids):
            return True
        self._world.disk()
        for row in self._find(ids):
            if owner in (None, row.owner):
                row.free(self._now() + seconds)
                row.owner = NOBODY if seconds else None
        return self._shelf.was_used

    def hold_back_ends(
        self,
        key_fingerprint: str,
        base_url: str,
        stream_key: str,
        owner: str,
        lease_seconds: float,
        began_by: float = float("inf"),
    ) -> dict[str, Idle] | None:
        now, seconds = self._now(), min(lease_seconds, LONGEST_LEASE)
        self._world.disk()
        ends = [row for row in self._shelf.rows if row.entry.kind != "push" and row.entry.run != owner]
        of_card = [row for row in ends if row.entry.stream_key == stream_key]
        same = [row for row in of_card if self._is_older(row.entry, began_by)]
        if self._is_under_way(same, owner):
            return None
        idle = {}
        for row in same:
            self._note(row, awaited=row.owner != owner and not self._free(row))
            is_held = row.owner not in (owner, row.entry.run) and not self._free(row)
            unsent = max(0.0, now - (row.until - (seconds if row.owner is not None else 0.0)))
            idle[row.entry.id] = Idle(unsent, is_held)
            row.owner, row.begun, row.until = owner, 0, now + seconds
        return idle

    def _is_older(self, entry: Entry, began_by: float) -> bool:
        return not began_by < entry.began_at <= self._now() + AHEAD_SECONDS

    def _is_under_way(self, rows: Iterable[Row], owner: str) -> bool:
        now = self._now()
        return any(row.owner != owner and now - ATTEMPT_SECONDS <= row.begun <= now + 1.0 for row in rows)

    def look_back(self, card: NewerCard) -> float | None:
        if not self.exists():
            return 0.0
        self._world.disk()
        is_same: Callable[[Entry], bool] = lambda entry: entry.stream_key == card.stream_key and entry.run != card.run  # noqa: E731
        same = [row for row in self._shelf.rows if row.entry.kind != "push" and is_same(row.entry)]
        if self._is_under_way(same, card.owner):
            return None
        for row in same:
            if self._is_older(row.entry, card.began_at):
                self._settle(row, awaited=not self._free(row))
        known = self._shelf.marks.values()
        marks = [mark for mark in known if is_same(mark.entry) and self._is_older(mark.entry, card.began_at)]
        sent = [mark.sent for mark in marks]
        if card.end_id in self._shelf.marks:
            sent.append(self._shelf.marks[card.end_id].before)
        unanswered = [at for at in sent if card.since - card.late <= at <= card.until]
        answered = [mark.answered for mark in marks if card.since <= mark.answered <= card.until]
        return max([0.0, *unanswered, *answered])


def _is_same_card(one: Entry, other: Entry) -> bool:
    return "push" not in (one.kind, other.kind) and one.stream_key == other.stream_key


def _comes_once(entry: Entry) -> bool:
    return entry.kind == "push" and not entry.at_least_once


class DiskOutbox(Outbox):
    """The real outbox, whose calls take the world's time."""

    def __init__(self, world: World) -> None:
        super().__init__(world.directory, clock=world.wall)
        self.file = DiskFile(world)


class DiskFile(OutboxFile):
    """The file of a real outbox, whose transactions take the world's time."""

    def __init__(self, world: World) -> None:
        super().__init__(world.directory, load_more=load_checks)
        self._world = world

    def transact(self, work: Any, nothing: Any, *, create: bool = False) -> Any:
        self._world.disk()
        return super().transact(work, nothing, create=create)
