"""Stories of an end that goes once more, of copies that are lost, and of processes that leave meanwhile."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from internals import disk_is_full
from stories import Story
from world import DiskFile, DiskOutbox, Fate, Process

from activitysmith_track import Push
from activitysmith_track.client.requests import Request
from activitysmith_track.delivery.newer_card import NewerCard

pytestmark = pytest.mark.once  # the simulated world is the same on every interpreter

LATE = Fate("late", 4.5, 0.0)  # carried out 9.5 s after it was sent: it sits in a proxy


# ---------------------------------------------------------------------- an end that goes once more


def test_a_process_that_leaves_before_it_has_repeated_an_end(story: Story) -> None:
    """It repeats nothing too early: the next process does that, after the late start that brings the card back."""
    story.goes_by_run(older_PUT=[LATE], older_DELETE=["503"] * 2)

    def work() -> None:
        one, other = Process(story.world, 0), Process(story.world, 1)
        older = story.block(one, "job", run="older")
        story.world.sleep(5.2)
        story.fail(older)
        one.exit()  # at 7.3; the end is in the outbox
        story.world.sleep(0.1)
        another = story.block(other, "another")
        story.world.sleep(1.2)
        story.end(another)
        other.exit()  # at 8.8; the start is carried out at 9.5
        story.world.sleep(60)
        story.block(Process(story.world, 2), "a third")
        story.world.sleep(300)

    story.play(work)
    assert story.card()[0], "the card of a job that is gone is running"


def test_an_outage_that_is_over_before_an_end_is_repeated(story: Story) -> None:
    """All that waits for the service is tried at once then, but not what waits for a late request."""
    older_puts = iter([LATE])

    def fate(process: Process, request: Request[Any]) -> Fate | str:
        if process.number == 1 and request.method != "POST":
            return next(older_puts, "ok") if request.method == "PUT" else "503"
        return "503" if 6.5 < story.now < 7.0 and request.method == "PUT" else "ok"

    story.goes(fate)

    def work() -> None:
        one, other = Process(story.world, 0), Process(story.world, 1)
        one.dispatcher.exit_timeout = lambda: 0.2
        older = story.block(one, "job", run="older")
        story.world.sleep(5.1)
        story.fail(older)
        one.exit()
        story.world.sleep(5.5 - story.now)
        handles = [story.block(other, f"other-{number}") for number in range(3)]
        story.world.sleep(6.6 - story.now)
        for handle in handles:
            handle.update(subtitle="x", important=True)
        story.world.sleep(60)
        story.block(Process(story.world, 2), "a third")
        story.world.sleep(300)

    story.play(work)
    assert story.card()[0], "the card of a job that is gone is running"


# --------------------------------------------------- a job that was killed with its start on the wire, and a watchdog


@pytest.mark.parametrize("what", ["start", "update"])
def test_a_late_request_of_a_killed_job_and_a_newer_run_that_is_over_soon(story: Story, what: str) -> None:
    """The newer run's end goes once more when nothing of the killed job can come any more."""
    if what == "start":
        story.goes_by_run(older_PUT=[LATE])
    else:
        story.goes_by_run(older_PUT=["ok", LATE], older_DELETE=["503"] * 9)

    def work() -> None:
        one, other = Process(story.world, 0, watched=True), Process(story.world, 1)
        story.world.sleep(60)
        older = story.block(one, "job", run="older")  # late: carried out at 69.5
        if what == "update":
            story.world.sleep(2)
            older.update(subtitle="half", important=True)  # late: carried out at 71.5
        story.world.sleep(1)
        one.kill()
        story.world.sleep(5.6 if what == "start" else 7.6)
        newer = story.block(other, "job", run="newer")
        story.world.sleep(0.5)
        story.end(newer)
        story.world.sleep(60)
        story.block(Process(story.world, 2), "a third")
        story.world.sleep(300)

    story.play(work)
    assert story.card()[0], f"{story.card()[2]} is running"


@pytest.mark.parametrize("after", [0.005, 0.015, 0.03, 0.05])
def test_an_end_that_is_answered_while_its_process_is_taken_down(story: Story, after: float) -> None:
    """What it has left to others stays there, although the answer has come."""

    def fate(process: Process, request: Request[Any]) -> Fate | str:
        if process.number == 1:
            return LATE if request.method == "PUT" and 62 < story.now < 64 else "ok"
        if process.number == 2 and request.path.endswith("another"):
            return "swallowed"  # so that its exit takes all of its time
        return Fate("ok", 0.05, leaves_at[0] - story.now - 0.05 + after) if process.number == 2 else "ok"

    leaves_at = [0.0]
    story.goes(fate)

    def work() -> None:
        one, other = Process(story.world, 0), Process(story.world, 1)
        story.world.sleep(60)
        older = story.block(one, "job", run="older")
        story.world.sleep(3)
        older.update(subtitle="half", important=True)  # carried out at 72.5
        story.world.sleep(0.5)
        story.end(older)
        one.exit()  # the end has arrived; it is to go once more, and stays in the outbox
        story.world.sleep(3)
        another = story.block(other, "another")
        leaves_at[0] = story.now + 2.1
        story.world.sleep(0.1)
        story.end(another)
        other.exit()
        story.world.sleep(60)
        story.block(Process(story.world, 2), "a third")
        story.world.sleep(300)

    story.play(work)
    assert story.card()[0], "the card of a job that is gone is running"


# ----------------------------------------------------------------------------------------- a card that stays up


@pytest.mark.parametrize("watched", [False, True])
def test_a_late_update_and_a_card_that_stays_up(story: Story, watched: bool) -> None:
    """Its last state is shown once more, by the watchdog where there is one."""

    def fate(process: Process, request: Request[Any]) -> Fate | str:
        return LATE if process.number == 1 and 62.5 < story.now < 63.4 else "ok"

    story.goes(fate)

    def work() -> None:
        one = Process(story.world, 0, watched=watched)
        story.world.sleep(60)
        handle = story.block(one, "job", keep=True)
        story.world.sleep(3)
        handle.update(subtitle="half", important=True)  # carried out at 72.5
        story.world.sleep(0.5)
        story.end(handle)  # arrives at 64.5
        one.exit()
        story.world.sleep(1)
        story.block(Process(story.world, 1), "another")
        story.world.sleep(300)

    story.play(work)
    assert story.card()[1] == "green", story.world.service.cards["job"].state


@pytest.mark.parametrize("kind", ["swallowed", "lost"])
def test_a_card_that_stays_up_and_a_newer_run_that_has_failed(story: Story, kind: str) -> None:
    """The older run's last state, which got no answer, is not shown any more."""
    story.goes_by_run(older_PUT=["ok", kind])

    def work() -> None:
        one, other = Process(story.world, 0), Process(story.world, 1)
        story.world.sleep(60)
        older = story.block(one, "job", run="older", keep=True)
        story.world.sleep(10)
        story.end(older)
        story.world.sleep(0.5)
        newer = story.block(other, "job", run="newer")
        story.world.sleep(1)
        story.fail(newer)
        story.world.sleep(300)

    story.play(work)
    assert story.card() == (True, "red", "newer")


# ----------------------------------------------------------------------------- the outbox's file is lost in an outage


@pytest.mark.parametrize("damage", ["deleted", "overwritten"])
@pytest.mark.parametrize(("leaves", "watched"), [(True, False), (True, True), (False, True)])
def test_an_outbox_that_is_lost_while_something_is_owed(
    story: Story, leaves: bool, damage: str, watched: bool, tmp_path: Path
) -> None:
    """A process that learns that its copies are gone makes others."""
    story.world.kind_of_outbox, story.world.directory = "disk", str(tmp_path)
    story.goes(lambda process, request: "refused" if process.number == 1 and story.now > 69 else "ok")

    def work() -> None:
        one = Process(story.world, 0, watched=watched)
        story.world.sleep(60)
        older = story.block(one, "job", run="older")
        story.world.sleep(10)
        story.fail(older)
        story.world.sleep(5)
        (file,) = tmp_path.iterdir()
        if damage == "deleted":
            file.unlink()
        else:
            file.write_bytes(b"x" * 9000)
        story.world.sleep(60)  # in which it is tried some fifteen times
        if leaves:
            one.exit()
        else:
            one.kill()
        story.world.sleep(30)
        story.block(Process(story.world, 1), "another")
        story.world.sleep(300)

    story.play(work)
    assert (story.card()[:2], story.pushes) == ((True, "red"), ["job failed"])


@pytest.mark.parametrize("exits", [True, False])
def test_a_disk_that_is_full_when_an_end_arrives(
    story: Story, exits: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the disk does not take at once is tried again, so that nobody sends the end later."""
    disk_is_full(monkeypatch, lambda: 75 < story.now < 130)
    story.world.kind_of_outbox, story.world.directory = "disk", str(tmp_path)
    story.goes(lambda process, request: "refused" if process.number == 1 and 69 < story.now < 80 else "ok")

    def work() -> None:
        one, other = Process(story.world, 0), Process(story.world, 1)
        story.world.sleep(60)
        older = story.block(one, "job", run="older")
        story.world.sleep(10)
        story.fail(older)  # delivered at about 82, when the disk is full
        story.world.sleep(15)
        story.block(other, "job", run="newer")
        story.world.sleep(130)  # the disk has been well for a minute and a half
        if exits:
            one.exit()
        story.block(Process(story.world, 2), "another")
        story.world.sleep(300)

    story.play(work)
    assert story.card() == (False, None, "newer")


# ----------------------------------------------------------------------------------------------------------- the exit


def test_an_exit_shows_an_ended_card_once_more(story: Story) -> None:
    """An end that was answered has found a card, which need not appear first when it goes once more."""
    puts = iter(["lost"])
    story.goes(lambda process, request: next(puts, "ok") if request.method == "PUT" else "ok")

    def work() -> None:
        process = Process(story.world, 0)
        process.dispatcher.exit_timeout = lambda: 30.0
        handle = story.block(process, "job", alert={"title": "It runs", "body": "now"})
        story.world.sleep(1)
        story.end(handle)
        process.exit()
        story.world.sleep(60)

    story.play(work)
    assert len(story.world.service.activities) == 1
    rings = [each for each in story.world.service.requests if b'"alert"' in each.content]
    assert len(rings) == 1


def test_an_exit_that_has_delivered_an_older_end(story: Story, caplog: pytest.LogCaptureFixture) -> None:
    """That this is to go once more holds up no exit, and is no failure to deliver."""
    story.goes_by_run(older_PUT=[LATE], older_DELETE=["503"] * 3)
    took: list[float] = []

    def work() -> None:
        one, other = Process(story.world, 0), Process(story.world, 1)
        older = story.block(one, "job", run="older")
        story.world.sleep(5.2)
        story.fail(older)
        one.exit()
        story.world.sleep(0.1)
        caplog.clear()
        other.dispatcher.exit_timeout = lambda: 60.0
        another = story.block(other, "another")
        story.world.sleep(1.2)
        story.end(another)
        before = story.now
        other.exit()
        took.append(story.now - before)

    story.play(work)
    assert took[0] < 1.0
    assert "not delivered in time" not in caplog.text


@pytest.mark.parametrize(
    ("timeout", "watched", "longest"), [(2.0, False, 2.2), (60.0, False, 10.5), (2.0, True, 1.7), (60.0, True, 1.7)]
)
def test_an_exit_while_an_update_hangs_and_the_end_has_arrived(
    story: Story, timeout: float, watched: bool, longest: float, caplog: pytest.LogCaptureFixture
) -> None:
    """It waits, as long as it may, until the update can bring nothing back; with a watchdog for its answer alone."""
    puts = iter(["ok", "swallowed"])
    story.goes(lambda process, request: next(puts, "ok") if request.method == "PUT" else "ok")
    took: list[float] = []

    def work() -> None:
        process = Process(story.world, 0, watched=watched)
        process.dispatcher.exit_timeout = lambda: timeout
        handle = story.block(process, "job")
        story.world.sleep(1)
        handle.update(subtitle="half", important=True)
        story.world.sleep(0.3)
        story.end(handle)
        before = story.now
        process.exit()
        took.append(story.now - before)
        story.world.sleep(30)

    story.play(work)
    assert story.card()[0]
    assert "not delivered in time" not in caplog.text
    assert took[0] < longest


# -------------------------------------------------------------------------------------------------------- 429 at once


def test_a_429_that_asks_to_come_again_at_once_for_minutes(story: Story) -> None:
    """It is asked less and less often, so that other processes of the account get through."""
    choose, sent = story.world.rng.choice, list[float]()
    story.world.rng.choice = lambda some: 0 if some == (None, 1, 4) else choose(some)  # type: ignore[method-assign]

    def fate(process: Process, request: Request[Any]) -> str:
        sent.append(story.now)
        return "429" if 5 < story.now < 185 else "ok"

    story.goes(fate)

    def work() -> None:
        handle = story.block(Process(story.world, 0), "job")
        story.world.sleep(6)
        story.fail(handle)
        story.world.sleep(300)

    story.play(work)
    assert story.card()[0]
    assert len([at for at in sent if 60 <= at < 120]) < 50


# ----------------------------------------------------------------------------------------- a push that was refused


def test_a_quiet_push_that_is_refused_rings_then(story: Story) -> None:
    """What goes in its place is as quiet."""
    push = Push(title="job is over", redirection="https://host.example/log", interruption_level="passive")
    story.goes(lambda process, request: "400" if "redirection" in dict(request.body or {}) else "ok")

    def work() -> None:
        handle = story.block(Process(story.world, 0), "job", on_failure=push)
        story.world.sleep(10)
        story.fail(handle)
        story.world.sleep(60)

    story.play(work)
    (sent,) = story.world.service.pushes.values()
    assert sent.body.get("interruption_level") == "passive"


# ------------------------------------------------------------------------------------------ looks at the right moment


@pytest.mark.parametrize("step", range(12))
def test_an_older_end_that_is_being_sent_when_a_newer_run_looks(story: Story, step: int) -> None:
    """It looks again when that attempt is over, and has its card back."""
    began = 70.0 + step * 0.5

    def fate(process: Process, request: Request[Any]) -> Fate | str:
        if process.number != 1 or request.method != "DELETE":
            return "ok"
        return "503" if story.now < began + 8.0 else Fate("ok", 2.5, 0.1)

    story.goes(fate)

    def work() -> None:
        one, other = Process(story.world, 0), Process(story.world, 1)
        story.world.sleep(60)
        older = story.block(one, "job", run="older")
        story.world.sleep(began - story.now)
        story.block(other, "job", run="newer")
        story.world.sleep(0.01)
        story.fail(older)
        story.world.sleep(60)

    story.play(work)
    assert story.card() == (False, None, "newer")


@pytest.mark.parametrize("step", range(10))
def test_an_end_that_a_watchdog_stores_while_a_newer_run_begins(story: Story, step: int) -> None:
    """The newer run looks once more when its card has appeared, so that the end is sent no more."""
    story.goes(
        lambda process, request: Fate("ok", 0.6, 0.1) if process.number == 2 and request.method == "PUT" else "ok"
    )

    def work() -> None:
        one, other = Process(story.world, 0, watched=True), Process(story.world, 1)
        story.world.sleep(60)
        story.block(one, "job", run="older")
        story.world.sleep(10)
        one.kill()
        story.world.sleep(step * 0.1)
        story.block(other, "job", run="newer")
        story.world.sleep(30)

    story.play(work)
    assert story.card() == (False, None, "newer")


def test_a_process_that_is_killed_before_it_has_repeated_an_end(story: Story) -> None:
    """The end had found nothing, for the start came late; its copy is there for the next process."""
    story.goes_by_run(older_PUT=[LATE], older_DELETE=["ok"])

    def work() -> None:
        one = Process(story.world, 0)
        older = story.block(one, "job", run="older")
        story.world.sleep(5.2)
        story.stop(older)
        story.world.sleep(1.5)
        one.kill()
        story.world.sleep(60)
        story.block(Process(story.world, 1), "another")
        story.world.sleep(300)

    story.play(work)
    assert story.card()[0]


def test_a_newer_run_waits_for_no_end_that_only_goes_once_more(story: Story) -> None:
    """It waits for the attempt that is in flight, and its card appears as soon as that is over."""
    story.goes_by_run(older_PUT=[LATE], older_DELETE=["503"])

    def work() -> None:
        one, other = Process(story.world, 0), Process(story.world, 1)
        older = story.block(one, "job", run="older")
        story.world.sleep(5.2)
        story.fail(older)
        one.exit()
        story.block(other, "another")
        story.world.sleep(0.06)  # the older run's end is in flight
        story.block(other, "job", run="newer")
        story.world.sleep(1)
        assert story.card() == (False, None, "newer")
        story.world.sleep(60)

    story.play(work)
    assert story.card() == (False, None, "newer")


# ------------------------------------------------------------------------ ends that overtake, or are long under way


@pytest.mark.parametrize("watched", [False, True])
@pytest.mark.parametrize(("there", "gaps"), [(0.3, (0.02, 0.0, 0.12)), (4.8, (0.1, 0.3, 0.5))])
@pytest.mark.parametrize("same", [False, True])
def test_a_slow_end_a_run_that_is_over_soon_and_a_newer_one(
    story: Story, there: float, gaps: tuple[float, float, float], same: bool, watched: bool
) -> None:
    """The older end, of which nothing is on disk, ends the third card; the one in between has met the first."""
    story.goes_by_run(older_DELETE=[Fate("ok", there, 0.05)])

    def work() -> None:
        one, other, third = (Process(story.world, number, watched=watched) for number in range(3))
        story.world.sleep(60)
        older = story.block(one, "job", run="older")
        story.world.sleep(60)
        story.fail(older)
        story.world.sleep(gaps[0])
        middle = story.block(other, "job", run="middle")
        story.world.sleep(gaps[1])
        story.end(middle)
        story.world.sleep(gaps[2])
        story.block(other if same else third, "job", run="newer")
        story.world.sleep(60)

    story.play(work)
    assert story.card() == (False, None, "newer")


@pytest.mark.parametrize("gap", [0.1, 0.2, 0.3, 13.9])
def test_an_end_that_has_its_card_appear_first(story: Story, gap: float) -> None:
    """Its second request goes up to five seconds after the first, and that counts for a newer run."""
    puts, ends = iter([Fate("503", 0.05, 0.5), Fate("ok", 4.8, 0.1)]), iter([Fate("late", 4.5, 0.0)])

    def fate(process: Process, request: Request[Any]) -> Fate | str:
        if process.number != 1 or request.method == "POST":
            return "ok"
        return next(ends if request.method == "DELETE" else puts, "ok")

    story.goes(fate)

    def work() -> None:
        one, other = Process(story.world, 0), Process(story.world, 1)
        story.world.sleep(60)
        older = story.block(one, "job", run="older", delay=60.0)
        story.world.sleep(0.01)
        story.fail(older)
        story.world.sleep(gap)
        story.block(other, "job", run="newer")
        story.world.sleep(60)

    story.play(work)
    assert story.card() == (False, None, "newer")


def test_an_end_while_the_disk_is_slow_for_who_looks_back(
    story: Story, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It is sent and answered before the disk answers, and is no later one for that."""
    story.world.kind_of_outbox, story.world.directory = "disk", str(tmp_path)
    looked: list[float] = []
    look_back, transact = DiskOutbox.look_back, DiskFile.transact
    first = iter([Fate("503", 0.05, 4.5)])

    def fate(process: Process, request: Request[Any]) -> Fate | str:
        if process.number != 1 or request.method != "DELETE":
            return "ok"
        return next(first, "ok" if looked else "503")

    def look(self: DiskOutbox, card: NewerCard) -> float | None:
        if story.now > 75.0:
            looked.append(story.now)
        return look_back(self, card)

    def slowly(self: DiskFile, *args: Any, **more: Any) -> Any:
        if looked and looked[-1] == story.now:
            story.world.sleep(0.9)
        return transact(self, *args, **more)

    story.goes(fate)
    monkeypatch.setattr(DiskOutbox, "look_back", look)
    monkeypatch.setattr(DiskFile, "transact", slowly)

    def work() -> None:
        one, other = Process(story.world, 0), Process(story.world, 1)
        story.world.sleep(30)
        older = story.block(one, "job", run="older")
        story.world.sleep(40)
        story.fail(older)
        story.world.sleep(0.1)
        middle = story.block(other, "job", run="middle")
        story.world.sleep(0.2)
        story.end(middle)
        story.world.sleep(0.75)
        story.block(Process(story.world, 2), "job", run="newer")
        story.world.sleep(60)

    story.play(work)
    assert looked
    assert story.card() == (False, None, "newer")


def test_a_clock_that_is_set_back_before_a_newer_run_begins(story: Story) -> None:
    """The older run's mark lies in the future, and is an older run's all the same."""
    story.goes_by_run(older_DELETE=["lost"])

    def work() -> None:
        one, other = Process(story.world, 0), Process(story.world, 1)
        story.world.sleep(60)
        older = story.block(one, "job", run="older")
        story.world.sleep(10)
        story.fail(older)
        story.world.sleep(0.5)
        story.world.jumped -= 600
        story.world.sleep(0.5)
        story.block(other, "job", run="newer")
        story.world.sleep(60)

    story.play(work)
    assert story.card() == (False, None, "newer")


def test_a_third_run_that_is_refused_while_the_second_one_s_start_is_slow(story: Story) -> None:
    """What the first one owes is not sent then: it would end the card that the second one has begun."""

    def fate(process: Process, request: Request[Any]) -> Fate | str:
        if request.method == "DELETE":
            return "503" if story.now < 70 else "ok"
        newest = Fate("403", 0.1, 0.1) if process.number == 3 and request.method == "PUT" else "ok"
        return Fate("ok", 0.1, 4.0) if process.number == 2 else newest

    story.goes(fate)

    def work() -> None:
        one, other, third = (Process(story.world, number) for number in range(3))
        older = story.block(one, "job", run="older")
        story.world.sleep(60)
        story.fail(older)
        story.world.sleep(2)
        one.kill()
        story.world.sleep(20)
        newer = story.block(other, "job", run="newer")
        story.world.sleep(2)
        story.fail(story.block(third, "job", run="newest"))
        story.world.sleep(1)
        cards.append(story.card())
        story.world.sleep(60)
        cards.append(story.card())
        story.end(newer)
        story.world.sleep(60)

    cards: list[Any] = []
    story.play(work)
    assert cards == [(False, None, "newer")] * 2
    assert story.owed == []


@pytest.mark.parametrize("seconds", [3_600.0, 60.0, -60.0, -3_600.0])
@pytest.mark.parametrize("is_over", [False, True])
@pytest.mark.parametrize("keep", [False, True])
def test_a_clock_that_is_set_after_an_older_end(story: Story, seconds: float, is_over: bool, keep: bool) -> None:
    """What that has done to a newer run's card is found by the clock that it was noted with, and not for ever."""
    story.goes_by_run(newer_PUT=["ok"], older_PUT=[Fate("ok", 0.2, 0.05)])

    def work() -> None:
        one, other = Process(story.world, 0), Process(story.world, 1)
        story.world.sleep(60)
        story.fail(story.block(one, "job", run="oldest"))
        story.world.sleep(5)
        story.fail(story.block(one, "job", run="older"))
        newer = story.block(other, "job", run="newer", keep=keep)
        story.world.sleep(1)
        story.world.jumped += seconds
        if is_over:
            story.end(newer)
        story.world.sleep(300)

    story.play(work)
    assert story.card() == (is_over and not keep, "green" if is_over else None, "newer")
    assert len(story.world.service.requests) < 20


@pytest.mark.parametrize("watched", [False, True])
def test_a_clock_that_is_set_back_while_the_older_run_goes_on(story: Story, watched: bool) -> None:
    """That run seems to have begun after the newer one, whose end it leaves alone all the same."""
    story.goes_by_run(older_PUT=["503", Fate("ok", 3.0, 0.1)], newer_DELETE=["503"] * 2)

    def work() -> None:
        one, other = Process(story.world, 0, watched=watched), Process(story.world, 1, watched=watched)
        story.world.sleep(60)
        older = story.block(one, "job", run="older")
        story.world.sleep(0.5)
        story.world.jumped -= 600
        story.world.sleep(0.05)
        story.fail(older)
        story.world.sleep(0.05)
        newer = story.block(other, "job", run="newer")
        story.world.sleep(0.4)
        story.end(newer)
        story.world.sleep(120)

    story.play(work)
    assert story.card() == (True, "green", "newer")
