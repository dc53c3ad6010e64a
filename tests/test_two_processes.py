"""An older run whose process lives on, and a newer one of the same name in another process: stories."""

from __future__ import annotations

from typing import Any

import pytest
from stories import Story
from world import Fate, Process

from activitysmith_track.client.requests import Call

Processes = tuple[Process, Process]


def two(story: Story, *, watched: bool) -> Processes:
    """Return the older run's process and the newer one's."""
    return Process(story.world, 0, watched=watched), Process(story.world, 1, watched=watched)


def the_first(story: Story, fate: Fate | str, method: str, after: float = 0.0, many: int = 1) -> None:
    """Say what becomes of the first requests of the older process from some time on."""
    left = [fate] * many

    def fates(process: Process, call: Call[Any]) -> Fate | str:
        is_it = process.number == 1 and call.method == method and story.now > after
        return left.pop() if is_it and left else "ok"

    story.goes(fates)


# ------------------------------------------------------------------------------- the newer run takes the end away


@pytest.mark.parametrize("watched", [False, True])
@pytest.mark.parametrize("length", [300, 1_200, 1_800])
def test_an_end_that_an_outage_has_held_up(story: Story, length: int, watched: bool) -> None:
    """The newer run begins right before the service is back."""
    story.goes(lambda process, call: "refused" if 5 < story.now < 5 + length else "ok")

    def work() -> None:
        one, other = two(story, watched=watched)
        older = story.block(one, "job", run="older")
        story.world.sleep(6)
        story.fail(older)
        story.world.sleep(4.5 + length - story.now)
        story.block(other, "job", run="newer")
        story.world.sleep(300)

    story.play(work)
    assert story.card() == (False, None, "newer")
    assert story.pushes == ["job failed"]


@pytest.mark.parametrize("kind", ["refused", "lost", "429"])
@pytest.mark.parametrize("watched", [False, True])
def test_an_older_run_that_leaves_in_order(story: Story, kind: str, watched: bool) -> None:
    """Neither its exit nor its watchdog says any more what a newer run has made untrue."""

    def fate(process: Process, call: Call[Any]) -> str:
        return kind if process.number == 1 and 69 < story.now < 200 and call.method == "DELETE" else "ok"

    story.goes(fate)

    def work() -> None:
        one, other = two(story, watched=watched)
        story.world.sleep(60)
        older = story.block(one, "job", run="older")
        story.world.sleep(10)
        story.fail(older)
        story.world.sleep(30)
        story.block(other, "job", run="newer")
        story.world.sleep(150)
        one.exit()
        story.world.sleep(300)

    story.play(work)
    assert story.card() == (False, None, "newer")


def test_an_older_run_that_is_killed_later(story: Story) -> None:
    """What has gone from the outbox by then stays gone."""
    story.goes(lambda process, call: "refused" if process.number == 1 and story.now > 69 else "ok")

    def work() -> None:
        one, other = two(story, watched=True)
        story.world.sleep(60)
        older = story.block(one, "job", run="older")
        story.world.sleep(10)
        story.fail(older)
        story.world.sleep(5)
        story.block(other, "job", run="newer")
        story.world.sleep(100)
        one.kill()
        story.world.sleep(300)

    story.play(work)
    assert story.card() == (False, None, "newer")


@pytest.mark.parametrize("watched", [False, True])
def test_an_end_that_waits_for_a_slot(story: Story, watched: bool) -> None:
    """It is kept where a newer run finds it although it has never been tried."""
    story.goes(lambda process, call: "503" if call.method == "DELETE" and story.now < 60 else "ok")

    def work() -> None:
        one, other = two(story, watched=watched)
        held = [story.block(one, f"other-{number}") for number in range(4)]
        story.world.sleep(1)
        older = story.block(one, "job", run="older")
        story.world.sleep(1)
        story.end(held[0])
        story.world.sleep(1)
        story.fail(older)
        story.world.sleep(20)
        story.world.service.slots = 5
        story.block(other, "job", run="newer")
        story.world.sleep(300)

    story.play(work)
    assert story.card() == (False, None, "newer")


@pytest.mark.parametrize("watched", [False, True])
def test_an_end_that_waits_for_that_of_an_older_block(story: Story, watched: bool) -> None:
    """So is one that waits because another one of its process has yet to arrive."""
    story.goes(lambda process, call: "503" if process.number == 1 and 69 < story.now < 420 else "ok")

    def work() -> None:
        one, other = two(story, watched=watched)
        story.world.sleep(60)
        first = story.block(one, "job", run="first")
        story.world.sleep(10)
        story.end(first)
        older = story.block(one, "job", run="older")
        story.world.sleep(0.5)
        story.fail(older)
        story.world.sleep(300)
        story.block(other, "job", run="newer")
        story.world.sleep(300)

    story.play(work)
    assert story.card() == (False, None, "newer")


# ------------------------------------------------------------------------------------------------- the watchdog


def test_what_a_killed_job_has_in_the_outbox_is_taken_over_at_once(story: Story) -> None:
    """Its watchdog waits for no lease to run out: neither with its own ends nor with what it had taken over."""
    story.goes(lambda process, call: "503" if story.now < 80 else "ok")
    story.owe(2)

    def work() -> None:
        process = Process(story.world, 0, watched=True)
        story.world.sleep(60)
        handle = story.block(process, "job", run="one")
        story.block(process, "other")
        story.world.sleep(5)
        story.fail(handle)
        story.world.sleep(14)
        process.kill()
        story.world.sleep(21)
        assert sorted(story.pushes) == ["job failed", "old 0", "old 1", "other failed"]
        assert story.owed == []

    story.play(work)


@pytest.mark.parametrize("leaves", [False, True])
def test_a_job_that_is_gone_owes_one_end(story: Story, leaves: bool) -> None:
    """What is in the outbox is delivered once, and says what it said."""
    story.goes(lambda process, call: "refused" if 65 < story.now < 120 else "ok")

    def work() -> None:
        process = Process(story.world, 0, watched=True)
        story.world.sleep(60)
        handle = story.block(process, "job", run="one")
        story.world.sleep(10)
        story.end(handle)
        story.world.sleep(10)
        process.exit() if leaves else process.kill()
        story.world.sleep(60)

    story.play(work)
    assert story.card() == (True, "green", "one")
    assert story.pushes == []
    assert story.owed == []
