"""Stories of cards that stay up: the last state that goes once more, who waits for it, and what is left of it."""

from __future__ import annotations

from typing import Any

import pytest
from stories import Story
from world import Fate, Process

from activitysmith_track.client.requests import Request

pytestmark = pytest.mark.once  # the simulated world is the same on every interpreter


def kept(story: Story, process: Process, run: str, seconds: float = 1.0, pause: float = 60.0) -> None:
    """Let a run go by whose card stays up."""
    block = story.block(process, "job", run=run, keep=True)
    story.world.sleep(seconds)
    story.end(block)
    story.world.sleep(pause)


def count(story: Story, run: str, method: str = "PUT") -> int:
    """Return how many requests of a run the service has carried out."""
    sent = [each for each in story.world.service.requests if each.method == method and each.body]
    return sum(each.body.get("metadata", {}).get("run") == run for each in sent if each.body)


@pytest.mark.parametrize("watched", [False, True])
@pytest.mark.parametrize(("seconds", "starts"), [(0.0, "ok"), (0.3, "503"), (0.07, Fate("ok", 0.05, 0.1))])
def test_a_last_state_that_stays_up_on_an_older_runs_card(
    story: Story, seconds: float, starts: Fate | str, watched: bool
) -> None:
    """The newer run is over before its start has landed; it is shown again when no older end can come any more."""
    story.goes_by_run(older_DELETE=[Fate("ok", 0.9, 0.1)], newer_PUT=[starts])

    def work() -> None:
        one, other = (Process(story.world, number, watched=watched) for number in (0, 1))
        story.world.sleep(60)
        older = story.block(one, "job", run="older")
        story.world.sleep(10)
        story.fail(older)
        story.world.sleep(0.1)
        newer = story.block(other, "job", run="newer", keep=True)
        story.world.sleep(seconds)
        story.end(newer)
        story.world.sleep(60)

    story.play(work)
    assert story.card() == (False, "green", "newer")


@pytest.mark.parametrize("seconds", [0.0, 2.0])
def test_nobody_waits_for_a_last_state_that_is_only_shown_once_more(story: Story, seconds: float) -> None:
    """A kept card that the next run finds is shown again to be sure; flushing is over when it was shown first."""
    told: list[tuple[bool, float, int]] = []
    changed: list[int] = []

    def work() -> None:
        process = Process(story.world, 0)
        for _ in range(2):
            block = story.block(process, "job", keep=True)
            story.world.sleep(seconds)
            story.end(block)
            began = story.world.now
            arrived = process.dispatcher.flush(60.0)
            told.append((arrived, story.world.now - began, len(story.world.service.requests)))
            story.world.sleep(60.0)
        changed.append(len(story.world.service.requests) - told[-1][2])

    story.play(work)
    assert [arrived for arrived, *_ in told] == [True, True]
    assert max(waited for _, waited, _ in told) < 2.0
    assert changed == [1]
    assert story.card()[:2] == (False, "green")


def test_a_last_state_that_has_overtaken_an_update_goes_before_the_exit(story: Story) -> None:
    """Else the late update would stand on the card of a job that is done."""
    story.goes_by_run(kept_PUT=["ok", Fate("ok", 1.5, 0.05)])
    waited: list[float] = []

    def work() -> None:
        process = Process(story.world, 0)
        block = story.block(process, "job", run="kept", keep=True)
        story.world.sleep(60)
        block.update(completed=10, important=True)
        story.world.sleep(0.1)
        story.end(block)
        began = story.now
        process.exit()
        waited.append(story.now - began)
        story.world.sleep(60)

    story.play(work)
    assert story.card()[:2] == (False, "green")
    assert waited[0] < 2.2


@pytest.mark.parametrize("kind", ["memory", "none"])
def test_an_exit_that_leaves_a_last_state_that_was_shown(
    story: Story, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It does not wait for the next time, and does not say that anything was lost."""
    story.world.kind_of_outbox = kind
    waited: list[float] = []

    def work() -> None:
        for number in range(2):
            process = Process(story.world, number)
            kept(story, process, f"{number}", pause=1.0)
            began = story.now
            if number:
                assert process.leaves.close(process.dispatcher), "all of it was delivered"
            process.exit()
            waited.append(story.now - began)

    story.play(work)
    assert max(waited) < 0.5
    assert "not delivered" not in caplog.text
    assert story.card() == (False, "green", "1")


@pytest.mark.parametrize("outage", [False, True])
def test_nobody_waits_for_a_last_state_that_goes_once_more_in_vain(
    story: Story, outage: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """It was shown before, whatever becomes of the next time: an outage, or a newer run that holds it back."""
    told: list[bool] = []
    if outage:
        story.goes(lambda process, request: "503" if story.now > 70 else "ok")
    else:
        story.goes_by_run(third_PUT=["swallowed"] * 6)

    def work() -> None:
        process = Process(story.world, 0)
        kept(story, process, "first")
        kept(story, process, "second", pause=8.0)
        if not outage:
            story.block(Process(story.world, 1), "job", run="third")
        story.world.sleep(6)
        began = story.now
        told.append(process.dispatcher.flush(10.0))
        process.exit()
        told.append(story.now - began < 1.0)

    story.play(work)
    assert told == [True, True]
    assert "not delivered" not in caplog.text


@pytest.mark.parametrize("seconds", [120.0, 3600.0])
def test_a_last_state_that_was_shown_long_ago_is_not_shown_again(story: Story, seconds: float) -> None:
    """A process that left before the next time has left a copy; who finds that much later drops it."""
    shown: list[int] = []

    def work() -> None:
        for number in range(2):
            process = Process(story.world, number)
            kept(story, process, f"{number}", pause=0.1)
            process.exit()
            story.world.sleep(60)
        before = count(story, "1")
        story.world.sleep(seconds)
        story.block(Process(story.world, 2), "another")
        story.world.sleep(60)
        shown.append(count(story, "1") - before)

    story.play(work)
    assert shown == [1 if seconds < 300 else 0]
    assert story.owed == []


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("kind", ["memory", "none"])
def test_a_block_behind_the_exit_on_a_card_that_is_there(story: Story, kind: str, keep: bool) -> None:
    """What the exit has left to others is not asked for; its end is sent at once."""
    story.world.kind_of_outbox = kind
    waited: list[float] = []

    def work() -> None:
        kept(story, Process(story.world, 0), "first", pause=3600)
        process = Process(story.world, 1)
        process.leaves.at_exit()
        block = story.block(process, "job", run="second", keep=keep)
        story.world.sleep(0.5)
        began = story.now
        story.end(block)
        process.leaves.leave()
        waited.append(story.now - began)

    story.play(work)
    assert story.card() == (not keep, "green", "second")
    assert waited[0] < 1.5


def test_an_ended_card_is_not_opened_again_by_its_own_end(story: Story) -> None:
    """A start that was slow has brought the card back, and this run's own end has ended it since."""

    def fate(process: Process, request: Request[Any]) -> Fate | str:
        return Fate("ok", 0.05, 1.5) if process.number == 1 and request.method == "PUT" and story.now > 59 else "ok"

    story.goes(fate)

    def work() -> None:
        one, other = Process(story.world, 0), Process(story.world, 1)
        long = story.block(one, "job", run="long")
        story.world.sleep(30)
        short = story.block(other, "job", run="short")
        story.world.sleep(2)
        story.end(short)
        story.world.sleep(28)
        long.update(completed=10, important=True)
        story.world.sleep(0.2)
        story.end(long)
        story.world.sleep(60)

    story.play(work)
    assert story.card() == (True, "green", "long")
    assert count(story, "long") == 2


@pytest.mark.parametrize("watched", [False, True])
def test_a_last_state_that_finds_no_slot_is_sent_once(story: Story, watched: bool) -> None:
    """Nothing is on the screen that it could end, whatever the disk keeps of it."""

    def work() -> None:
        for number in range(4):
            story.block(Process(story.world, 0), f"other-{number}")
        story.world.sleep(5)
        process = Process(story.world, 1, watched=watched)
        story.world.sleep(1)
        block = story.block(process, "job", run="kept", keep=True, delay=5.0)
        story.world.sleep(1)
        story.end(block)
        story.world.sleep(9)

    story.play(work)
    asked = [each for each in story.world.service.requests if each.path.endswith("/job")]
    assert [each.status for each in asked] == [429]


@pytest.mark.parametrize("seed", range(4))  # by which it is there sooner or later
@pytest.mark.parametrize("killed", [False, True])
def test_a_watchdog_that_is_still_starting_does_not_end_a_card_that_stays_up(
    story: Story, seed: int, killed: bool
) -> None:
    """It can only end cards; this one shows its last state already."""
    story.world.kind_of_outbox = "none"
    story.world.rng.seed(seed)

    def work() -> None:
        process = Process(story.world, 0, watched=True)
        block = story.block(process, "job", run="kept", keep=True)
        story.world.sleep(0.01)
        story.end(block)
        if killed:
            story.world.sleep(0.15)
            process.kill()
        else:
            process.exit()
        story.world.sleep(60)

    story.play(work)
    assert story.card() == (False, "green", "kept")


@pytest.mark.parametrize("late", [2.5, 3.85, 4.5])
def test_an_older_end_of_this_process_that_is_carried_out_late(story: Story, late: float) -> None:
    """A card that stays up is shown once more when that end cannot come any more."""
    story.goes_by_run(older_DELETE=[Fate("late", late, 0.0)])

    def work() -> None:
        process = Process(story.world, 0)
        story.world.sleep(60)
        story.fail(story.block(process, "job", run="older"))
        story.world.sleep(2)
        kept(story, process, "newer")

    story.play(work)
    assert story.card() == (False, "green", "newer")


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize(("start", "seconds"), [(Fate("ok", 1.5, 0.1), 0.3), ("swallowed", 1.0), ("swallowed", 0.3)])
def test_an_older_run_whose_start_is_slow(story: Story, start: Fate | str, seconds: float, keep: bool) -> None:
    """Its card, and then its end, come behind a newer run in another process, which was over by then."""
    story.goes_by_run(older_PUT=[start])

    def work() -> None:
        one, other = Process(story.world, 0), Process(story.world, 1)
        story.world.sleep(60)
        story.fail(story.block(one, "job", run="older", keep=keep))
        story.world.sleep(0.5)
        kept(story, other, "newer", seconds)

    story.play(work)
    assert story.card() == (False, "green", "newer")
