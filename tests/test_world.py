"""Simulated worlds: thousands of schedules in each of which nothing untrue is ever seen."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from world import KEY, SECRET, Conditions, DiskOutbox, MemoryOutbox, Violation, World
from world_judge import Judge
from world_runs import run, run_many, tell

from activitysmith_track.delivery.entries import Entry
from activitysmith_track.delivery.newer_card import NewerCard

SEED = int(os.environ.get("WORLD_SEED", "0"))
RUNS, PARTS = 3_000, 10


@pytest.mark.once
@pytest.mark.first
@pytest.mark.parametrize("part", range(PARTS))
def test_nothing_untrue_is_ever_seen(part: int) -> None:
    """Whatever happens in whatever order, the phone tells the truth and nothing is lost; see `world_judge`."""
    each = RUNS // PARTS
    seeds = range(SEED + part * each, SEED + (part + 1) * each)
    wrong = [found for found in run_many(seeds, 50) if found.violation]
    assert not wrong, "\n\n".join(tell(found, 50) for found in wrong[:3])


def test_the_judge_counts_failures() -> None:
    """A failure has rung, or is counted in the push of another one of its name in its process."""
    judge = Judge(World(0, Conditions()))
    process = SimpleNamespace(killed=False)
    for number, name in enumerate(("job", "job", "job", "other"), 1):
        made: Any = SimpleNamespace(number=number, name=name, process=process, owes_push=True)
        made.kind, made.is_taken_over = "failed", False
        judge.runs[number] = made
    runs = list(judge.runs.values())
    for title, told in (
        ("job failed", [True, False, False, False]),
        ("job failed 2 times, last: boom", [True, False, False, False]),  # one of two, and nobody knows which
        ("job failed 3 times, last: boom", [True, True, True, False]),
    ):
        judge.hear_push(runs[0], {"title": title})
        assert [judge.is_told(each) for each in runs] == told


def test_the_judge_finds_secrets() -> None:
    """Whatever is sent or kept is searched for the key and for a password that errors name."""
    judge = Judge(World(0, Conditions()))
    judge.has_no_secret("nothing", "a body")
    for secret in (KEY, SECRET):
        with pytest.raises(Violation, match="a secret"):
            judge.has_no_secret(f"with {secret} in it", "a body")


def test_a_seed_gives_the_same_world_twice() -> None:
    """A failing schedule can be replayed."""
    for seed in range(40):
        assert run(seed, 30) == run(seed, 30)


def test_the_outboxes_make_the_same_world() -> None:
    """The outbox in memory that most worlds have keeps the rules of the real one."""
    for seed in range(40):
        memory, disk = (run(seed, 30, outbox=kind) for kind in ("memory", "disk"))
        assert memory == disk, seed


def test_the_outboxes_answer_alike(tmp_path: Path) -> None:
    """Call by call, the real outbox and the one in memory answer the same, and keep the same."""
    rng = random.Random(20261127)
    for _ in range(60):
        world = World(0, Conditions(slow_disk=0.0), "disk", str(tmp_path / f"{rng.random()}"))
        world.judge = Judge(world)
        memory, disk = MemoryOutbox(world), DiskOutbox(world)
        ids: list[str] = []
        for _ in range(60):
            world.now += rng.choice((0.0, 1.0, 10.0, 100.0))
            name, given = _call(world, ids, rng)
            options = {"put": ("sent",), "over": ("sent", "shown"), "begin": ("goes_on",)}.get(name, ())
            more: dict[str, Any] = {option: rng.random() < 0.5 for option in options}
            if name == "release":
                more["seconds"] = rng.choice((0.0, 11.0))
            answers = [getattr(box, name)(*given, **more) for box in (memory, disk)]
            assert answers[0] == answers[1], (name, given)
            assert memory.exists() == disk.exists()
        world.close()


def _call(world: World, ids: list[str], rng: random.Random) -> tuple[str, Sequence[Any]]:
    """Draw a call of an outbox."""
    owner, some = rng.choice("abc"), rng.sample(ids, min(len(ids), rng.randint(0, 2)))
    one = rng.choice(ids) if ids else "none"
    calls: dict[str, Sequence[Any]] = {
        "put": ([_entry(world, ids, rng)], owner, rng.choice((0.0, 60.0, 180.0))),
        "leave": ([_entry(world, ids, rng)], [(each, owner) for each in some], some[:1], some[1:]),
        "claim": ("fingerprint", "http://127.0.0.1/api", owner, world.wall(), 60.0),
        "begin": (one, owner, 60.0),
        "inherit": ("fingerprint", "http://127.0.0.1/api", rng.choice("abc"), owner, 60.0),
        "renew": (owner, 60.0),
        "next_lease_end": ("fingerprint", "http://127.0.0.1/api", owner),
        "look_back": (
            NewerCard(
                *("fingerprint", "http://127.0.0.1/api", rng.choice("xy"), rng.choice("abc"), owner),
                world.wall() - rng.choice((0, 6)),
                *(world.wall() - 20.0, world.wall() + rng.choice((0.0, 0.0, 60.0))),
                *(rng.choice((0.0, 13.0)), rng.choice(("", one))),
            ),
        ),
        "over": (one, owner),
        "delivered": (some,),
        "release": (some, owner),
        "hold_back_ends": (
            *("fingerprint", "http://127.0.0.1/api", rng.choice("xy"), owner, 60.0),
            *rng.choice(((), (world.wall() - 6.0,))),
        ),
    }
    name = rng.choice(list(calls))
    return name, calls[name]


def _entry(world: World, ids: list[str], rng: random.Random) -> Entry:
    kind = rng.choice(("end", "keep", "push"))
    state = {"title": "t", "type": "progress", "percentage": 10}
    body = {"title": "t"} if kind == "push" else {"content_state": state}
    key = None if kind == "push" else rng.choice("xy")
    once = kind == "push" and rng.random() < 0.5
    made = Entry(
        kind,
        "fingerprint",
        "http://127.0.0.1/api",
        body,
        world.wall() - rng.choice((0, 5)),
        key,
        not once,
        began_at=world.wall() - rng.choice((-600, 3, 9)),
        run=rng.choice("abc"),
        id=f"{len(ids)}",
    )
    ids.append(made.id)
    return made
