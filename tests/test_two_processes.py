"""An older run whose process lives on, and a newer one of the same name in another process: stories."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from stories import Story
from world import Fate, MemoryOutbox, Process

from activitysmith_track.client.requests import Request

pytestmark = pytest.mark.once  # the simulated world is the same on every interpreter

Processes = tuple[Process, Process]


def two(story: Story, *, watched: bool) -> Processes:
    """Return the older run's process and the newer one's."""
    return Process(story.world, 0, watched=watched), Process(story.world, 1, watched=watched)


def the_first(story: Story, fate: Fate | str, method: str, after: float = 0.0, many: int = 1) -> None:
    """Say what becomes of the first requests of the older process from some time on."""
    left = [fate] * many

    def fates(process: Process, request: Request[Any]) -> Fate | str:
        is_it = process.number == 1 and request.method == method and story.now > after
        return left.pop() if is_it and left else "ok"

    story.goes(fates)


# ------------------------------------------------------------------------------- the newer run takes the end away


@pytest.mark.parametrize("watched", [False, True])
@pytest.mark.parametrize("length", [300, 1_200, 1_800])
def test_an_end_that_an_outage_has_held_up(story: Story, length: int, watched: bool) -> None:
    """The newer run begins right before the service is back."""
    story.goes(lambda process, request: "refused" if 5 < story.now < 5 + length else "ok")

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

    def fate(process: Process, request: Request[Any]) -> str:
        return kind if process.number == 1 and 69 < story.now < 200 and request.method == "DELETE" else "ok"

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
    story.goes(lambda process, request: "refused" if process.number == 1 and story.now > 69 else "ok")

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
    story.goes(lambda process, request: "503" if request.method == "DELETE" and story.now < 60 else "ok")

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
    story.goes(lambda process, request: "503" if process.number == 1 and 69 < story.now < 420 else "ok")

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
    story.goes(lambda process, request: "503" if story.now < 80 else "ok")
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
    story.goes(lambda process, request: "refused" if 65 < story.now < 120 else "ok")

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


# ------------------------------------------------------------------- the newer run looks what has met it meanwhile


@pytest.mark.parametrize("watched", [False, True])
def test_an_end_whose_answer_was_lost(story: Story, watched: bool) -> None:
    """It was not kept yet when the newer run began: that run's card is made sure of some seconds later."""
    the_first(story, "lost", "DELETE")

    def work() -> None:
        one, other = two(story, watched=watched)
        story.world.sleep(60)
        older = story.block(one, "job", run="older")
        story.world.sleep(10)
        story.fail(older)  # carried out at 70.05, given up at 75, and goes again at about 77
        story.world.sleep(1)
        story.block(other, "job", run="newer")  # the service says "started", as if nothing were to come
        story.world.sleep(14)
        assert story.card() == (False, None, "newer")
        story.world.sleep(600)

    story.play(work)
    assert story.card() == (False, None, "newer")


@pytest.mark.parametrize("opens", ["the block", "its end"])
@pytest.mark.parametrize("watched", [False, True])
def test_an_older_run_whose_start_was_slower(story: Story, opens: str, watched: bool) -> None:
    """It begins on the newer run's card, and ends that, although nothing goes wrong."""
    story.goes_by_run(older_PUT=[Fate("ok", 0.5, 0.05)])

    def work() -> None:
        one, other = two(story, watched=watched)
        story.world.sleep(60)
        older = story.block(one, "job", run="older", delay=0.0 if opens == "the block" else 60.0)
        story.world.sleep(0.01)
        story.fail(older)
        story.block(other, "job", run="newer")
        story.world.sleep(30)

    story.play(work)
    assert story.card() == (False, None, "newer")


@pytest.mark.parametrize("watched", [False, True])
def test_an_end_that_may_have_been_carried_out_and_an_older_one(story: Story, watched: bool) -> None:
    """The card had ended when the newer run's end came: by the older one, not by its own attempt before."""
    story.goes_by_run(older_PUT=[Fate("ok", 0.5, 0.05)], newer_DELETE=["500", "500"])

    def work() -> None:
        one, other = two(story, watched=watched)
        story.world.sleep(60)
        older = story.block(one, "job", run="older", delay=60.0)
        story.world.sleep(0.01)
        story.fail(older)
        newer = story.block(other, "job", run="newer")
        story.world.sleep(0.2)
        story.end(newer)
        story.world.sleep(30)

    story.play(work)
    assert story.card() == (True, "green", "newer")


@pytest.mark.parametrize("watched", [False, True])
def test_an_older_start_that_is_carried_out_behind_a_newer_end(story: Story, watched: bool) -> None:
    """Nobody but the newer run's end is left to end that card: it goes once more."""
    story.goes_by_run(older_PUT=["502 after", Fate("late", 4.5, 0.0)], newer_DELETE=["refused"] * 2)

    def work() -> None:
        one, other = two(story, watched=watched)
        story.world.sleep(60)
        older = story.block(one, "job", run="older")
        story.world.sleep(0.05)
        story.end(older)
        story.world.sleep(1)
        newer = story.block(other, "job", run="newer")
        story.world.sleep(0.2)
        story.end(newer)
        story.world.sleep(30)

    story.play(work)
    assert story.card()[0]


@pytest.mark.parametrize("watched", [False, True])
def test_an_older_update_that_is_carried_out_behind_a_newer_end(story: Story, watched: bool) -> None:
    """The newer run has taken the older end away, and is over before that update comes."""
    late = Fate("late", 4.0, 0.0)
    story.goes_by_run(older_PUT=["ok", late], older_DELETE=["503"])

    def work() -> None:
        one, other = two(story, watched=watched)
        story.world.sleep(60)
        older = story.block(one, "job", run="older")
        story.world.sleep(5)
        older.update(subtitle="half", important=True)  # given up at 70, carried out at 74
        story.world.sleep(1)
        story.end(older)  # refused at 67
        story.world.sleep(1.2)
        newer = story.block(other, "job", run="newer")
        story.world.sleep(0.2)
        story.end(newer)
        story.world.sleep(30)

    story.play(work)
    assert story.card()[0]


@pytest.mark.parametrize("seconds", [6.5, 8.0, 10.5, 11.5])
@pytest.mark.parametrize("watched", [False, True])
def test_a_newer_run_that_is_over_soon(story: Story, seconds: float, watched: bool) -> None:
    """The card says how that one ended, whether it was looked after by then or not."""
    the_first(story, "lost", "DELETE")

    def work() -> None:
        one, other = two(story, watched=watched)
        story.world.sleep(60)
        older = story.block(one, "job", run="older")
        story.world.sleep(10)
        story.fail(older)
        story.world.sleep(1)
        newer = story.block(other, "job", run="newer")
        story.world.sleep(seconds)
        story.end(newer)
        story.world.sleep(60)

    story.play(work)
    assert story.card() == (True, "green", "newer")


@pytest.mark.parametrize(("watched", "back"), [(True, 0.05), (True, 4.0), (False, 0.05), (False, 4.0)])
def test_an_end_that_goes_once_more(story: Story, watched: bool, back: float) -> None:
    """The update before it was given up, so that it goes once more; the newer run began in between."""

    def fate(process: Process, request: Request[Any]) -> Fate | str:
        if process.number == 1 and request.method == "PUT" and story.now > 62:
            return "swallowed"
        return Fate("ok", 0.05, back) if request.method == "DELETE" and story.now < 70 else "ok"

    story.goes(fate)

    def work() -> None:
        one, other = two(story, watched=watched)
        story.world.sleep(60)
        older = story.block(one, "job", run="older")
        story.world.sleep(3)
        older.update(subtitle="x", important=True)
        story.world.sleep(5.1)
        story.end(older)
        story.world.sleep(1.0)
        story.block(other, "job", run="newer")
        story.world.sleep(600)

    story.play(work)
    assert story.card() == (False, None, "newer")


@pytest.mark.parametrize("losses", [1, 2, 3])
@pytest.mark.parametrize("watched", [False, True])
def test_the_last_state_of_a_card_that_stays(story: Story, losses: int, watched: bool) -> None:
    """It goes again over the newer run's card, which shows a running job all the same."""
    the_first(story, "lost", "PUT", after=69, many=losses)

    def work() -> None:
        one, other = two(story, watched=watched)
        story.world.sleep(60)
        older = story.block(one, "job", run="older", keep=True)
        story.world.sleep(10)
        older.advance(20)
        story.end(older)
        story.world.sleep(1)
        story.block(other, "job", run="newer", keep=True)
        story.world.sleep(600)

    story.play(work)
    assert story.card() == (False, None, "newer")


def test_an_end_that_is_carried_out_behind_its_repetition(story: Story) -> None:
    """What was given up is waited for: the newer card is made sure of when it can come no more."""
    fates = iter(["lost", "late"])
    story.goes(
        lambda process, request: next(fates, "503") if process.number == 1 and request.method == "DELETE" else "ok"
    )

    def work() -> None:
        one, other = two(story, watched=False)
        story.world.sleep(60)
        older = story.block(one, "job", run="older")
        story.world.sleep(10)
        story.fail(older)
        story.world.sleep(1)
        story.block(other, "job", run="newer")
        story.world.sleep(60)

    story.play(work)
    assert next(fates, None) is None
    assert story.card() == (False, None, "newer")


@pytest.mark.parametrize("kind", ["memory", "disk"])
def test_while_all_goes_well_nothing_is_looked_for(story: Story, kind: str, tmp_path: Path) -> None:
    """One start is one request, and no file is written."""
    story.world.kind_of_outbox, story.world.directory = kind, str(tmp_path)

    def work() -> None:
        one, other = two(story, watched=False)
        story.end(story.block(one, "job", run="older"))
        story.world.sleep(10)
        story.block(other, "job", run="newer")
        story.world.sleep(100)

    story.play(work)
    assert [each.method for each in story.world.service.requests if each.body] == ["PUT", "DELETE", "PUT"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["memory", "disk"])
def test_an_end_that_was_delivered_before_a_newer_run_began(story: Story, kind: str, tmp_path: Path) -> None:
    """The mark that it leaves costs the newer run no request."""
    story.world.kind_of_outbox, story.world.directory = kind, str(tmp_path)
    the_first(story, "503", "DELETE")

    def work() -> None:
        one, other = two(story, watched=False)
        story.world.sleep(1)
        older = story.block(one, "job", run="older")
        story.world.sleep(10)
        story.end(older)
        story.world.sleep(20)
        story.block(other, "job", run="newer")
        story.world.sleep(100)

    story.play(work)
    assert len([each for each in story.world.service.requests if each.method == "PUT"]) == 2


@pytest.mark.parametrize("watched", [False, True])
def test_an_older_start_that_lands_when_both_runs_are_over(story: Story, watched: bool) -> None:
    """An older run that has ended meanwhile takes nothing away from one that began after it."""
    story.goes_by_run(older_PUT=[Fate("ok", 1.0, 0.3)], newer_PUT=["reset"])

    def work() -> None:
        one, other = two(story, watched=watched)
        older = story.block(one, "job", run="older")
        story.world.sleep(0.2)
        story.fail(older)
        newer = story.block(other, "job", run="newer")
        story.fail(newer)
        story.world.sleep(60)

    story.play(work)
    assert story.card() == (True, "red", "newer")


def test_a_start_that_was_given_up_and_then_refused(story: Story) -> None:
    """It may be carried out yet, so that the older run's end stays held back until the newer run is over."""
    starts = iter([Fate("late", 3.0, 0.0), "403"])

    def fate(process: Process, request: Request[Any]) -> Fate | str:
        if process.number == 1 and request.method == "DELETE":
            return "refused"
        return next(starts, "ok") if process.number == 2 and request.method == "PUT" else "ok"

    story.goes(fate)

    def work() -> None:
        one, other = two(story, watched=False)
        older = story.block(one, "job", run="older")
        story.world.sleep(10)
        story.fail(older)
        one.exit()
        story.world.sleep(10)
        newer = story.block(other, "job", run="newer")
        story.world.sleep(6.8)
        third = Process(story.world, 2)
        story.block(third, "another")
        story.world.sleep(300)
        assert story.card() == (False, None, "newer")
        story.end(newer)
        story.world.sleep(60)

    story.play(work)
    assert story.card() == (True, "green", "newer")
    ends = [each.body["metadata"]["run"] for each in story.world.service.requests if each.method == "DELETE"]
    assert (ends, story.owed) == (["newer"], [])


def test_an_end_that_looked_for_itself_is_seen_once(story: Story) -> None:
    """It goes once more, when an update of the older run can come no more; the card does not appear for that."""

    def work() -> None:
        one, other = two(story, watched=True)
        story.block(one, "job", run="older")
        story.world.sleep(10)
        one.kill()
        story.world.sleep(0.02)
        newer = story.block(other, "job", run="newer")
        story.world.sleep(1)
        story.fail(newer)
        story.world.sleep(60)

    story.play(work)
    assert story.card() == (True, "red", "newer")
    shown = [each for each in story.world.service.activities.values() if each.metadata.get("run") == "newer"]
    assert len(shown) == 1


def test_a_countdown_that_another_process_has_ended(story: Story) -> None:
    """Its next change finds no card, and begins it anew at once: what a running one takes is not asked for again."""

    def work() -> None:
        one, other = two(story, watched=False)
        older = story.block(one, "job", run="older")
        story.world.sleep(30)
        newer = story.timer(other, "job", run="newer")
        story.world.sleep(0.06)
        story.end(older)
        story.world.sleep(0.2)
        newer.update(subtitle="half", important=True)
        story.world.sleep(60)

    story.play(work)
    assert story.card() == (False, None, "newer")
    assert len([each for each in story.world.service.requests if each.method == "PUT"]) < 8


@pytest.mark.parametrize("answer", ["cut", "lost"])
def test_a_card_that_an_older_end_hits_twice(story: Story, answer: str) -> None:
    """The newer run has brought it back in between, and knows of no answer; it shows nothing new for a long time."""
    story.goes_by_run(
        older_DELETE=[Fate("late", 2.2, 0.0), Fate("late", 4.4, 0.0)], newer_PUT=["ok", "page 404", answer]
    )

    def work() -> None:
        one, other = two(story, watched=False)
        older = story.block(one, "job", run="older")
        story.world.sleep(60)
        story.fail(older)
        story.world.sleep(3.6)
        story.block(other, "job", run="newer")
        story.world.sleep(60)

    story.play(work)
    assert story.card() == (False, None, "newer")


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("newer_first", [False, True])
def test_an_older_start_that_lands_when_a_third_process_has_ended_the_newer_run(
    story: Story, newer_first: bool, keep: bool
) -> None:
    """The newer run's end has taken the older one's place in the outbox, and goes once more."""
    starts = iter([Fate("late", 4.5, 0.0)])

    def fate(process: Process, request: Request[Any]) -> Fate | str:
        if process.number == 1 and request.method != "POST":
            return next(starts, "503")
        return "503" if process.number == 2 and request.method == "DELETE" else "ok"

    story.goes(fate)

    def work() -> None:
        one, other = two(story, watched=False)
        older = story.block(one, "job", run="older")
        story.world.sleep(0.01)
        newer = story.block(other, "job", run="newer", keep=keep)
        story.world.sleep(0.02)
        for handle in (newer, older) if newer_first else (older, newer):
            story.fail(handle)
            story.world.sleep(1)
        other.exit()
        story.world.sleep(5.23 - story.now)
        story.block(Process(story.world, 2), "another")
        story.world.sleep(300)

    story.play(work)
    assert story.card() == (True, "red", "newer")


@pytest.mark.parametrize("seconds", [0.1, 4.0, 5.2])
def test_a_start_that_lands_when_another_process_has_ended_the_card(story: Story, seconds: float) -> None:
    """The process that has left could not wait for its start, so its end goes once more."""
    story.goes_by_run(older_PUT=[Fate("late", 4.5, 0.0)], older_DELETE=["503"] * 3)

    def work() -> None:
        one, other = two(story, watched=False)
        older = story.block(one, "job", run="older")
        story.world.sleep(seconds)
        story.fail(older)
        one.exit()
        story.world.sleep(0.5)
        story.block(other, "another")
        story.world.sleep(300)

    story.play(work)
    assert story.card() == (True, "red", "older")
    assert story.owed == []


@pytest.mark.parametrize("lost", ["swallowed", "lost"])
def test_an_end_whose_first_attempt_is_lost_while_an_older_end_arrives(story: Story, lost: str) -> None:
    """The card had been the older run's, and says how that ended; so it appears once more."""
    story.goes_by_run(older_DELETE=[Fate("ok", 1.5, 0.1)], newer_DELETE=[Fate(lost, 1.9, 0.0)])

    def work() -> None:
        one, other = two(story, watched=False)
        older = story.block(one, "job", run="older")
        story.world.sleep(60)
        story.fail(older)
        story.world.sleep(0.02)
        newer = story.block(other, "job", run="newer")
        story.world.sleep(0.1)
        story.end(newer)
        story.world.sleep(60)

    story.play(work)
    assert story.card() == (True, "green", "newer")
    assert story.owed == []


def test_an_older_end_that_has_shown_itself_on_a_newer_card(story: Story) -> None:
    """Its card appears with it, in the place of the newer run's; that the end itself is refused changes nothing."""

    def fate(process: Process, request: Request[Any]) -> Fate | str:
        if process.number != 1 or request.method == "POST":
            return "ok"
        if request.method == "PUT":
            return Fate("503", 0.05, 0.5) if story.now < 68 else Fate("ok", 0.7, 0.05)
        return "page 404"

    story.goes(fate)

    def work() -> None:
        one, other = two(story, watched=False)
        story.world.sleep(60)
        older = story.block(one, "job", run="older", delay=60.0)
        story.world.sleep(0.01)
        story.fail(older)
        story.block(other, "job", run="newer")
        story.world.sleep(60)

    story.play(work)
    assert story.card() == (False, None, "newer")


def test_an_end_that_takes_long_after_an_older_one_has_arrived(story: Story) -> None:
    """The older run's end, of which only a mark tells, has ended the card; so that appears once more."""
    story.goes_by_run(
        older_DELETE=[Fate("late", 3.9, 0.0)],
        middle_PUT=["page 408"],
        middle_DELETE=[Fate("ok", 1.6, 0.05)],
        newer_DELETE=["page 407", "refused", "swallowed", "swallowed"],
    )

    def work() -> None:
        one, other = two(story, watched=False)
        older = story.block(one, "job", run="older")
        story.world.sleep(60)
        story.end(older)
        story.world.sleep(3.14)
        story.end(story.block(other, "job", run="middle"))
        story.world.sleep(0.02)
        newer = story.timer(other, "job", run="newer")
        story.end(newer)
        story.world.sleep(120)

    story.play(work)
    assert story.card() == (True, "green", "newer")


@pytest.mark.parametrize("watched", [False, True])
@pytest.mark.parametrize("late", [3.5, 4.5])
def test_an_end_whose_first_attempt_lands_after_its_second(story: Story, late: float, watched: bool) -> None:
    """The end is delivered when the newer run begins, so that only its mark tells of the first attempt."""
    the_first(story, Fate("late", late, 0.0), "DELETE", after=60)

    def work() -> None:
        one, other = two(story, watched=watched)
        story.world.sleep(60)
        older = story.block(one, "job", run="older")
        story.world.sleep(10)
        story.end(older)
        story.world.sleep(8)
        story.block(other, "job", run="newer")
        story.world.sleep(300)

    story.play(work)
    assert story.card() == (False, None, "newer")


@pytest.mark.parametrize("gap", [7.0, 8.0])
def test_an_end_of_a_killed_run_whose_first_attempt_lands_after_its_second(story: Story, gap: float) -> None:
    """So it is where the watchdog of the older run sends both."""
    left: list[Fate | str] = [Fate("late", 4.5, 0.0)]
    story.goes(lambda process, request: left.pop() if left and request.method == "DELETE" else "ok")

    def work() -> None:
        one, other = two(story, watched=True)
        story.world.sleep(60)
        story.block(one, "job", run="older")
        story.world.sleep(10)
        one.kill()
        story.world.sleep(gap)
        story.block(other, "job", run="newer")
        story.world.sleep(300)

    story.play(work)
    assert not left
    assert story.card() == (False, None, "newer")


@pytest.mark.parametrize("watched", [False, True])
def test_an_end_that_is_owed_when_the_disk_answers_the_older_run(
    story: Story, monkeypatch: pytest.MonkeyPatch, watched: bool
) -> None:
    """That run was going on when it asked. By now both are over, and the newer one's end is no older run's."""
    hold_back, ends = MemoryOutbox.hold_back_ends, iter(["500"])
    story.goes(lambda process, request: next(ends, "ok") if process.number == 2 else "ok")

    def work() -> None:
        one, other = two(story, watched=watched)
        story.owe(1)  # there is a file to look at

        def slowly(self: MemoryOutbox, *args: Any, **more: Any) -> dict[str, float] | None:
            if args[3] == one.dispatcher.persistence.leases.owner:
                story.world.sleep(0.5)
            return hold_back(self, *args, **more)

        monkeypatch.setattr(MemoryOutbox, "hold_back_ends", slowly)
        story.world.sleep(60)
        older = story.block(one, "job", run="older")
        story.world.sleep(0.02)
        story.end(older)
        story.world.sleep(0.1)
        newer = story.block(other, "job", run="newer")
        story.fail(newer)
        story.world.sleep(300)

    story.play(work)
    assert story.card() == (True, "red", "newer")
