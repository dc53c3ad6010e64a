"""Stories of what nobody knows: what is shown after a request without an answer, a refusal, a pause, a change."""

from __future__ import annotations

from typing import Any

import pytest
from internals import opened_by
from stories import Story
from test_orders_of_answers import owed
from world import CHANGED_AFTER, Fate, Process, Row

from activitysmith_track import Metrics, Push, Steps
from activitysmith_track.client.requests import Request

pytestmark = pytest.mark.once  # the simulated world is the same on every interpreter


@pytest.mark.parametrize("kind", ["lost", "502 after"])
def test_a_countdown_that_begins_anew_counts_each_time(story: Story, kind: str) -> None:
    """Each time it is sent is an update for iOS, whether or not it was answered."""

    def fate(process: Process, request: Request[Any]) -> str:
        if request.method == "DELETE" and story.now < 3:
            return "swallowed"
        return kind if 10 < story.now < 310 else "ok"

    story.goes(fate)

    def work() -> None:
        process = Process(story.world, 0)
        older = story.block(process, "job", run="older")
        story.world.sleep(1)
        story.end(older)
        story.world.sleep(7)
        story.timer(process, "job", run="newer", duration=600.0)
        story.world.sleep(400)

    story.play(work)
    card = story.world.service.cards["job"]
    assert (card.updates <= 12, card.over_budget) == (True, False), card.updates


@pytest.mark.parametrize("length", [300, 3000])
def test_a_countdown_after_an_outage(story: Story, length: int) -> None:
    """It shows what is left by then, not what was left when it was first tried."""
    story.goes(
        lambda process, request: (
            "swallowed" if (request.method == "DELETE" and story.now < 3) or 10 < story.now < 10 + length else "ok"
        )
    )

    def work() -> None:
        process = Process(story.world, 0)
        older = story.block(process, "job", run="older")
        story.world.sleep(1)
        story.end(older)
        story.world.sleep(7)
        story.timer(process, "job", run="newer", duration=4000.0)
        story.world.sleep(length + 200)

    story.play(work)
    shown = story.world.service.cards["job"].shown.window.reading(story.now)
    assert shown == pytest.approx(4000.0 - (story.now - 8.0), abs=15.0)


def test_a_pause_that_never_arrived(story: Story) -> None:
    """It is not sent when the job knows that it is over and the budget lets nothing follow."""
    story.goes(lambda process, request: "swallowed" if 99 < story.now < 160 else "ok")
    wrong: list[float] = []

    def work() -> None:
        handle = story.timer(Process(story.world, 0), "job", duration=7200.0)
        story.world.sleep(10)
        for number in range(10):
            (handle.resume if number % 2 else handle.pause)()
            story.world.sleep(7)
        handle.update(subtitle="x", important=True)
        story.world.sleep(100.5 - story.now)
        handle.pause()
        story.world.sleep(10)
        handle.resume()
        story.world.sleep(100.0)
        while story.now < 2000:
            story.world.sleep(10)
            if not story.world.service.cards["job"].shown.window.running:
                wrong.append(story.now)

    story.play(work)
    assert wrong == [], f"the clock stands from {wrong[0]} to {wrong[-1]}, and the job's runs"


@pytest.mark.parametrize("kind", ["500", "502"])
def test_one_state_that_the_service_cannot_take(story: Story, kind: str) -> None:
    """A newer one is tried in its place."""
    bad = "b \U0001f4a5"
    story.goes(
        lambda process, request: (
            kind if request.method == "PUT" and bad in str((request.body or {}).get("content_state")) else "ok"
        )
    )

    def work() -> None:
        process = Process(story.world, 0)
        handle = story.begin(Steps("job", steps=["a", bad, "c"], options={"tracker": process.tracker}))
        for name in (bad, "c"):
            story.world.sleep(10)
            handle.step(name)
        story.world.sleep(3600)

    story.play(work)
    assert story.world.service.cards["job"].state["subtitle"] == "c"


def test_a_429_after_a_lost_answer(story: Story) -> None:
    """It does not tell what is shown: the clock of a job that goes on does not stand still."""
    fates = iter(["lost", "429"])
    story.goes(lambda process, request: next(fates, "ok") if story.now > 30 else "ok")

    def work() -> None:
        handle = story.timer(Process(story.world, 0), "job", duration=7200.0)
        story.world.sleep(10)
        handle.pause()
        story.world.sleep(10)
        handle.resume()
        story.world.sleep(20)
        handle.pause()  # carried out, its answer is lost
        story.world.sleep(6)
        handle.resume()
        story.world.sleep(3000)

    story.play(work)
    assert story.world.service.cards["job"].shown.window.running


def test_a_429_after_a_lost_answer_of_a_reading(story: Story) -> None:
    """It does not tell what is shown: a reading that is back where it was is sent."""
    fates = iter(["lost", "429"])
    story.goes(lambda process, request: next(fates, "ok") if story.now > 30 else "ok")

    def work() -> None:
        process = Process(story.world, 0)
        handle = story.begin(Metrics("job", {"CPU": 10}, options={"tracker": process.tracker}))
        story.world.sleep(40)
        handle.set(CPU=90)
        story.world.sleep(6)
        handle.set(CPU=10)
        story.world.sleep(3000)

    story.play(work)
    assert story.world.service.cards["job"].state["metrics"][0]["value"] == 10


@pytest.mark.parametrize("watched", [False, True])
def test_an_end_whose_words_are_refused(story: Story, watched: bool) -> None:
    """The card ends without them."""
    story.goes(
        lambda process, request: (
            "400" if request.method == "DELETE" and "content_state" in (request.body or {}) else "ok"
        )
    )

    def work() -> None:
        process = Process(story.world, 0, watched=watched)
        handle = story.block(process, "job")
        story.world.sleep(10)
        process.kill() if watched else story.fail(handle)
        story.world.sleep(600)

    story.play(work)
    assert story.card()[0]


@pytest.mark.parametrize("status", ["401", "402", "403", "422"])
def test_a_kept_card_that_is_refused_its_last_state(story: Story, status: str) -> None:
    """It ends, whatever the refusal."""
    story.goes(lambda process, request: status if story.now > 5 and request.method == "PUT" else "ok")

    def work() -> None:
        handle = story.block(Process(story.world, 0), "job", keep=True)
        story.world.sleep(2)
        handle.advance(5)
        story.world.sleep(10)
        story.end(handle)
        story.world.sleep(600)

    story.play(work)
    card = story.world.service.cards["job"]
    assert card.ended or "color" in card.state, card.state


def test_the_clock_of_a_timer_that_stays_up(story: Story) -> None:
    """It stands still when the job is done."""

    def work() -> None:
        handle = story.timer(Process(story.world, 0), "job", duration=None, keep=True)
        story.world.sleep(100)
        story.end(handle)
        story.world.sleep(3600)

    story.play(work)
    window = story.world.service.cards["job"].shown.window
    assert not window.running, window.reading(story.now)


@pytest.mark.parametrize("seconds", [15.0, 60.0])
def test_a_stream_that_is_resumed_soon_after_a_block_began(story: Story, seconds: float) -> None:
    """The card appears within minutes."""

    def work() -> None:
        handle = story.block(Process(story.world, 0), "job")
        story.world.sleep(seconds)
        story.world.service.resume("job")
        for number in range(1, 16):
            handle.advance()
            handle.update(subtitle=f"step {number}", important=True)
            story.world.sleep(60)

    story.world.service.pause("job")
    story.play(work)
    card = story.world.service.cards.get("job")
    assert card is not None
    assert not card.ended


def test_a_stream_that_is_paused_for_two_minutes(story: Story) -> None:
    """What was sent to nobody uses up no budget."""

    def work() -> None:
        handle = story.block(Process(story.world, 0), "job")
        story.world.sleep(20)
        story.world.service.pause("job")
        for number in range(1, 14):
            handle.update(subtitle=f"step {number}", important=True)
            story.world.sleep(10)
        story.world.service.resume("job")
        for number in range(14, 24):
            handle.update(subtitle=f"step {number}", important=True)
            story.world.sleep(60)

    story.play(work)
    assert not story.world.service.cards["job"].ended


def test_a_clock_whose_stream_is_resumed(story: Story) -> None:
    """The card of a job that has nothing to change appears all the same."""

    def work() -> None:
        story.world.service.pause("job")
        story.timer(Process(story.world, 0), "job", duration=7200.0)
        story.world.sleep(30)
        story.world.service.resume("job")
        story.world.sleep(7000)

    story.play(work)
    card = story.world.service.cards.get("job")
    assert card is not None
    assert not card.ended


def test_one_lost_answer_in_a_change_for_a_fresh_card(story: Story) -> None:
    """The old card was ended, so that what is there is fresh and has all its budget."""
    lost: list[int] = []

    def fate(process: Process, request: Request[Any]) -> Fate | str:
        if request.method == "PUT" and story.now > CHANGED_AFTER - 1 and not lost:
            lost.append(1)
            return "lost"
        return "ok"

    story.goes(fate)

    def work() -> None:
        handle = story.block(Process(story.world, 0), "job")
        story.world.sleep(CHANGED_AFTER + 60)
        for number in range(10):
            handle.update(subtitle=f"step {number}", important=True)
            story.world.sleep(60)

    story.play(work)
    assert story.world.service.cards["job"].state.get("subtitle") == "step 9"


def test_a_change_for_a_fresh_card_while_an_older_end_is_under_way(story: Story) -> None:
    """The old card stays until the new one may begin. The moment is forced."""

    def work() -> None:
        process = Process(story.world, 0)
        story.block(process, "job")
        story.world.sleep(CHANGED_AFTER - 1.1)
        activity = next(iter(opened_by(process.dispatcher)))
        activity.screen.certainty.check_at = story.now + 1.0
        row = Row(owed(story))
        row.owner, row.until, row.begun = "x", story.world.wall() + 100, int(story.world.wall()) + 2
        story.world.shelf.rows.append(row)
        story.world.sleep(60)

    story.play(work)
    assert len(story.world.service.requests) < 8


def test_blocks_that_wait_for_a_slot(story: Story) -> None:
    """One asks for all of them."""

    def work() -> None:
        process, other = Process(story.world, 0), Process(story.world, 1)
        for number in range(4):
            story.block(other, f"other-{number}")
        story.world.sleep(5)
        for number in range(4):
            story.block(process, f"job-{number}")
        story.world.sleep(600)

    story.play(work)
    refused = [each for each in story.world.service.requests if each.status == 429]
    assert len(refused) <= 4 + 30


def test_an_exit_with_a_kept_card_whose_stream_is_paused(story: Story) -> None:
    """There is nothing to be sure of, and nothing to wait for."""
    story.world.kind_of_outbox = "none"
    took: list[float] = []

    def work() -> None:
        process = Process(story.world, 0)
        story.world.service.pause("job")
        handle = story.block(process, "job", keep=True)
        story.world.sleep(6.5)
        story.end(handle)
        begun = story.now
        process.exit()
        took.append(story.now - begun)

    story.play(work)
    assert took[0] < 1.0, took


def test_one_lost_answer_of_a_start(story: Story) -> None:
    """Sent once more as it was, it tells whose card is there."""
    puts = iter(["lost"])
    story.goes(lambda process, request: next(puts, "ok") if request.method == "PUT" else "ok")
    shown: list[float] = []

    def work() -> None:
        handle = story.block(Process(story.world, 0), "job")
        for _ in range(19):
            story.world.sleep(60)
            handle.advance()
            shown.append(story.world.service.cards["job"].state["percentage"])

    story.play(work)
    assert max(shown) > 50


@pytest.mark.parametrize("status", ["400", "401", "403", "422"])
def test_a_step_that_is_refused_once(story: Story, status: str) -> None:
    """It does not count as shown, and is tried again after some minutes."""
    fates = iter([status])
    story.goes(lambda process, request: next(fates, "ok") if story.now > 10 else "ok")

    def work() -> None:
        process = Process(story.world, 0)
        handle = story.begin(Steps("job", steps=["a", "b", "c"], options={"tracker": process.tracker}))
        story.world.sleep(11)
        handle.step("b")
        story.world.sleep(7000)

    story.play(work)
    assert story.world.service.cards["job"].state["current_step"] == 2


@pytest.mark.parametrize("late", [1.0, 4.0])
@pytest.mark.parametrize("how", ["killed", "exits"])
def test_an_update_of_a_dead_job_that_comes_late(story: Story, how: str, late: float) -> None:
    """The card is ended once more after all that may come."""
    puts = iter([Fate("late", late, 0.0)])
    story.goes(lambda process, request: next(puts, "ok") if request.method == "PUT" and story.now > 30 else "ok")

    def work() -> None:
        process = Process(story.world, 0, watched=True)
        handle = story.block(process, "job")
        story.world.sleep(40)
        handle.update(subtitle="half", important=True)
        story.world.sleep(0.2)
        if how == "killed":
            process.kill()
        else:
            story.end(handle)
            process.exit()
        story.world.sleep(120)

    story.play(work)
    assert story.card()[0]


def test_an_older_end_that_goes_once_more_while_a_newer_one_is_on_its_way(story: Story) -> None:
    """The newer one has had its card appear, so that the older one's has nothing more to end."""
    story.goes_by_run(older_PUT=["reset"], newer_DELETE=["swallowed"])

    def work() -> None:
        process = Process(story.world, 0)
        older = story.block(process, "job", run="older")
        story.world.sleep(0.5)
        story.end(older)
        story.world.sleep(3.0)
        newer = story.block(process, "job", run="newer")
        story.fail(newer)
        story.world.sleep(60)

    story.play(work)
    ends = [each for each in story.world.service.requests if each.method == "DELETE" and b"older" in each.content]
    assert len(ends) == 1
    assert story.card() == (True, "red", "newer")


@pytest.mark.parametrize("how", ["fails", "ends", "is owed"])
def test_a_push_that_is_refused_for_more_than_its_words(story: Story, how: str) -> None:
    """It goes without what the service may object to, once: who waits for it hears of it."""
    push = Push(title="job is over", redirection="https://host.example/log")
    refused: list[float] = []

    def fate(process: Process, request: Request[Any]) -> str:
        if request.method != "POST":
            return "ok"
        if how == "is owed" and process.number == 1:
            return "refused"
        if "redirection" in dict(request.body or {}):
            refused.append(story.now)
            return "400"
        return "ok"

    story.goes(fate)

    def work() -> None:
        process = Process(story.world, 0)
        handle = story.block(process, "job", on_failure=push, on_success=push)
        story.world.sleep(10)
        (story.end if how == "ends" else story.fail)(handle)
        if how == "is owed":
            process.exit()
            story.block(Process(story.world, 0), "another")
        story.world.sleep(60)

    story.play(work)
    assert story.pushes == ["job is over"]
    assert len(refused) == 1


@pytest.mark.parametrize("status", ["401", "403"])
def test_a_card_that_may_not_be_changed_for_a_fresh_one(story: Story, status: str) -> None:
    """The old one goes on with what is new, and the change is tried again after some minutes."""
    tried: list[float] = []

    def fate(process: Process, request: Request[Any]) -> str:
        if request.method == "DELETE":
            tried.append(story.now)
        return status if request.method == "DELETE" else "ok"

    story.goes(fate)

    def work() -> None:
        handle = story.block(Process(story.world, 0), "job")
        story.world.sleep(CHANGED_AFTER + 60)
        handle.update(subtitle="new", important=True)
        story.world.sleep(600)

    story.play(work)
    assert story.world.service.cards["job"].state["subtitle"] == "new"
    assert 2 <= len(tried) <= 4


def test_a_card_that_is_confirmed_keeps_its_estimate(story: Story) -> None:
    """What has not changed is sent once more as it was: it is no update, and tells no other time that is left."""

    def work() -> None:
        process = Process(story.world, 0, watched=True)
        handle = story.block(process, "job")
        story.world.sleep(3)
        handle.advance(5)
        story.world.sleep(30)

    story.play(work)
    shown = [each.body["content_state"] for each in story.world.service.requests if each.method == "PUT"]
    assert len(shown) >= 4, "it is confirmed twice, since a watchdog might yet end the card of an earlier job"
    assert [each for number, each in enumerate(shown) if each != shown[number - 1]] == [shown[0], shown[1]], shown
