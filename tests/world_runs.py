"""Runs simulated worlds: one from a seed, many of them, or the shortest that still goes wrong.

python tests/world_runs.py --runs 3000                # judge so many schedules, and say how fast that was
python tests/world_runs.py --only 4711 --shrink       # the shortest one that still goes wrong, event by event
"""

from __future__ import annotations

import gc
import logging
import os
import random
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from internals import fingerprint
from world import KEY, PROFILES, URL, Conditions, Heir, MemoryOutbox, Process, Violation, World
from world_jobs import Event, Line, draw
from world_judge import LEASE, OLD, SOON, Judge

from activitysmith_track.delivery.entries import Entry
from activitysmith_track.delivery.outbox import Outbox
from activitysmith_track.delivery.outbox_tables import LONGEST_LEASE


class Alarm(logging.Handler):
    """Takes an internal error that the library logs for what it is."""

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        raise Violation(f"an internal error: {record.getMessage()}: {error!r}")


logger = logging.getLogger("activitysmith_track")
OUTBOXES = ("memory",) * 17 + ("none", "none", "disk")


class Outcome(NamedTuple):
    """What came of a schedule."""

    seed: int
    violation: str
    requests: int
    seconds: float  # of the world's time
    chance: float  # the next number of its generator, by which two runs are known to be the same
    trace: Sequence[str] = ()

    @property
    def kind(self) -> str:
        """Of the violation."""
        return self.violation.partition(":")[0]


def conditions_of(seed: int) -> tuple[Conditions, str]:
    """Draw what a world is like."""
    rng = random.Random(f"world {seed}")
    return rng.choice(PROFILES)._replace(
        slots=rng.choice((4, 4, 50)), watched=rng.choice((0.0, 0.0, 1.0))
    ), rng.choice(OUTBOXES)


def run(
    seed: int, events: int = 20, schedule: Sequence[Event] | None = None, *, outbox: str = "", traced: bool = False
) -> Outcome:
    """Run one schedule, and judge it.

    Args:
        seed: of everything.
        events: how many are drawn.
        schedule: what happens instead.
        outbox: `"memory"`, `"disk"` or `"none"`; drawn by default.
        traced: True to write down what happens.
    """
    conditions, drawn = conditions_of(seed)
    outbox = outbox or drawn
    directory = tempfile.mkdtemp(prefix="world-", dir=_memory()) if outbox == "disk" else ""
    world = World(seed, conditions, outbox, directory)
    world.judge = Judge(world)
    world.trace = [] if traced else None
    violation, alarm = "", Alarm(logging.ERROR)
    logger.addHandler(alarm)
    propagates, logger.propagate = logger.propagate, False
    try:
        _play(world, draw(seed, events) if schedule is None else schedule)
    except Violation as found:
        violation = str(found)
    finally:
        chance = world.rng.random()
        world.close()
        logger.removeHandler(alarm)
        logger.propagate = propagates
        if directory:
            shutil.rmtree(directory)
    return Outcome(seed, violation, world.requests, world.now, chance, world.trace or ())


def _memory() -> str | None:
    return "/dev/shm" if os.path.isdir("/dev/shm") else None


def _play(world: World, schedule: Sequence[Event]) -> None:
    lines = [Line(world, number, [each for each in schedule if each.line == number]) for number in (0, 1)]
    for line in lines:
        world.spawn(None, line.drive)
    leave_old(world)
    world.run_while(lambda: not all(line.is_over for line in lines), 1e7)
    judge, leaving = world.judge, []
    for process in world.processes:  # half of those that are left leave in order
        if not process.dead and not isinstance(process, Heir) and world.rng.random() < 0.5:
            for line in lines:
                if line.process is process:
                    line.stop_all()
            world.spawn(process, process.exit)
            leaving.append(process)
    world.run_while(lambda: not all(process.dead for process in leaving), 60.0)
    judge.heal()
    world.traps.clear()
    world.conditions = world.conditions._replace(faults=0.0, latency=0.0)
    world.run(world.now + 6.0)  # until all that was on its way by then has landed
    world.run(max(world.now, world.silent_until, world.late_until))  # as long as the service has asked for
    heir = Process(world, 9)
    account = heir.tracker.account()
    heir.dispatcher.look_for_owed(account, again=True)
    world.run(world.now + judge.soon)
    judge.look_at_the_disk()
    judge.look_at_the_phone()
    world.run(world.now + 60.0)  # the minute of the account that debts may have to wait for
    if judge.old:
        world.run(world.now + 400.0)
    judge.look_at_the_phone(debts=True)
    if any(process.killed for process in world.processes):
        world.run(world.now + (LEASE if not world.jumped else LONGEST_LEASE))
        heir.dispatcher.look_for_owed(account, again=True)
        world.run(world.now + SOON)
        judge.look_at_the_phone(debts=True, after_leases=True)
        # An older run's end waits as long as a job goes on whose card was refused, and may be there all the same.
        left = [row for row in world.shelf.rows if row.entry.stream_key not in judge.hidden]
        if left:
            judge.wrong("something is left in the outbox", entries=len(left))


def leave_old(world: World) -> None:
    """Have processes that were gone before all of this owe a lot, in one world of seven."""
    rng = random.Random(f"old {world.rng.random()}")
    if world.kind_of_outbox == "none" or rng.random() > 1 / 7:
        return
    count = rng.choice((3, 30, 120))
    entries = []
    for number in range(count):
        body: dict[str, Any] = {"title": f"old {number}", "metadata": {"run": OLD, "number": number}}
        kind, key = "push", None
        if rng.random() < 0.3:
            kind, key = "end", f"old-{number}"
            body = {"content_state": {"title": "old", "type": "progress"}, "metadata": body["metadata"]}
        entries.append(
            Entry(kind, fingerprint(KEY), URL, body, world.wall() - 60.0, key, run="old", id=f"old-{number}")
        )
        if kind == "push":
            world.judge.old.add(number)  # an end finds nothing
    if world.kind_of_outbox == "memory":
        MemoryOutbox(world).insert(entries)
    else:
        Outbox(world.directory, clock=world.wall).put(entries)


def shrink(found: Outcome, events: int = 20) -> list[Event]:
    """Return the shortest part of a failing schedule that still goes wrong in the same way."""
    schedule = draw(found.seed, events)
    size = max(1, len(schedule) // 2)
    while size:
        at = 0
        while at < len(schedule):
            shorter = schedule[:at] + schedule[at + size :]
            if run(found.seed, events, shorter).kind == found.kind:
                schedule = shorter
            else:
                at += size
        size //= 2
    return schedule


def tell(found: Outcome, events: int = 20) -> str:
    """Say what went wrong, with the shortest schedule that shows it."""
    schedule = shrink(found, events)
    again = run(found.seed, events, schedule, traced=True)
    conditions = conditions_of(found.seed)
    lines = [f"seed {found.seed}, {events} events: {found.violation}", f"shortened: {again.violation}"]
    return "\n".join([*lines, f"{conditions}", *map(str, schedule), *again.trace])


def run_many(seeds: Iterator[int] | Sequence[int], events: int = 20) -> Iterator[Outcome]:
    """Run schedules one after the other."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        for number, seed in enumerate(seeds):
            yield run(seed, events)
            if number % 200 == 199:
                gc.collect()
    finally:
        gc.enable()
        gc.unfreeze()
