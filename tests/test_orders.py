"""Orders of events in which the phone lied once, or something was lost: each told as a story, on virtual time."""

from __future__ import annotations

from typing import Any

import pytest
from internals import fingerprint
from stories import Story
from world import CHANGED_AFTER, KEY, URL, Fate, MemoryOutbox, Process, Row

from activitysmith_track.blocks.outcome import LOOKS
from activitysmith_track.client.requests import Request
from activitysmith_track.delivery.entries import Entry

pytestmark = pytest.mark.once  # the simulated world is the same on every interpreter


@pytest.mark.parametrize("page", ["302", "403", "404", "407", "408", "429", "502"])
def test_a_page_in_the_place_of_an_answer(story: Story, page: str) -> None:
    """What a proxy, a portal or a firewall answers is no answer: the end and the push go again."""
    story.goes(lambda process, request: f"page {page}" if 5.0 < story.now < 15.0 else "ok")

    def work() -> None:
        handle = story.block(Process(story.world, 0), "job")
        story.world.sleep(6.0)
        story.fail(handle)
        story.world.sleep(80.0)

    story.play(work)
    assert story.card()[:2] == (True, "red")
    assert story.pushes == ["job failed"]


@pytest.mark.parametrize("first", [False, True])
def test_what_is_carried_out_after_it_was_given_up(story: Story, first: bool) -> None:
    """An update, or a start, that the service carries out after the end does not leave the card running."""
    late = iter(["late"])
    story.goes(
        lambda process, request: next(late, "ok") if request.method == "PUT" and (first or story.now > 9) else "ok"
    )

    def work() -> None:
        handle = story.block(Process(story.world, 0), "job")
        if not first:
            story.world.sleep(10.0)
            handle.update(subtitle="half", important=True)
            story.world.sleep(5.2)
        story.fail(handle)
        story.world.sleep(30.0)

    story.play(work)
    assert story.card()[:2] == (True, "red")


def test_an_older_end_that_was_given_up_and_a_newer_run(story: Story) -> None:
    """An end that is carried out late ends the newer run's card: it is shown again."""
    late = iter(["late"])
    story.goes(lambda process, request: next(late, "ok") if request.method == "DELETE" else "ok")

    def work() -> None:
        process = Process(story.world, 0)
        older = story.block(process, "job", run="older")
        story.world.sleep(1.0)
        story.end(older)
        story.world.sleep(7.0)
        story.block(process, "job", run="newer")
        story.world.sleep(20.0)

    story.play(work)
    assert story.card() == (False, None, "newer")


def test_an_end_that_waits_is_known_to_other_processes(story: Story) -> None:
    """While a 429 holds an end back, another process begins a run of that name: the older end does not hit it."""
    story.goes(lambda process, request: "429" if process.number == 1 and 5 <= story.now < 6 else "ok")

    def work() -> None:
        one, other = Process(story.world, 0), Process(story.world, 1)
        older = story.block(one, "job", run="older")
        story.world.sleep(5.2)
        older.update(subtitle="x", important=True)
        story.world.sleep(0.5)
        story.end(older)
        story.world.sleep(0.5)
        story.block(other, "job", run="newer")
        story.world.sleep(600.0)

    story.play(work)
    assert story.card() == (False, None, "newer")


def test_an_end_that_a_newer_run_held_back(story: Story) -> None:
    """Where the newer run is never shown, the process whose end it was delivers it all the same."""
    story.goes(lambda process, request: "refused" if 5 < story.now < 30 else "ok")

    def work() -> None:
        one = Process(story.world, 0)
        older = story.block(one, "job", run="older")
        story.world.sleep(6.0)
        story.fail(older)
        story.world.sleep(1.5)
        other = Process(story.world, 0)
        story.block(other, "job", run="newer")
        story.world.sleep(8.0)
        other.kill()
        story.world.sleep(200.0)

    story.play(work)
    assert story.card() == (True, "red", "older")
    assert story.owed == []


def test_a_refusal_after_a_start_without_an_answer(story: Story) -> None:
    """A card that may be on the screen keeps its key, so that its end hits no newer run's card."""
    fates = iter(["lost", "401"])
    story.goes(lambda process, request: next(fates, "ok"))

    def work() -> None:
        process = Process(story.world, 0)
        older = story.block(process, "job", run="older")
        story.world.sleep(15.0)
        newer = story.block(process, "job", run="newer")
        story.world.sleep(20.0)
        story.fail(older)
        story.world.sleep(30.0)
        assert newer.is_open

    story.play(work)
    assert story.card("job") == (True, "red", "older")
    assert story.card("job-2") == (False, None, "newer")


def test_a_refused_card_is_no_concern_of_the_watchdog(story: Story) -> None:
    """What was never shown is not ended as crashed in the place of a newer run's end."""
    refused = iter(["401"])

    def fates(process: Process, request: Request[Any]) -> str:
        return "refused" if 20 < story.now < 40 else next(refused, "ok") if request.method == "PUT" else "ok"

    story.goes(fates)

    def work() -> None:
        process = Process(story.world, 0, watched=True)
        story.block(process, "job", run="refused")
        story.world.sleep(3.0)
        done = story.block(process, "job", run="done")
        story.world.sleep(17.5)
        done.advance(20)
        story.end(done)
        story.world.sleep(3.0)
        process.exit()
        story.world.sleep(60.0)

    story.play(work)
    assert story.card() == (True, "green", "done")


@pytest.mark.parametrize("owed", [40, 120])
def test_a_lot_that_is_owed(story: Story, owed: int) -> None:
    """All of it is delivered, and flushing waits for that."""
    story.owe(owed)
    told: list[bool] = []

    def work() -> None:
        process = Process(story.world, 0)
        told.append(process.dispatcher.flush(600.0, process.tracker.account()))

    story.play(work)
    assert (told, len(story.pushes), story.owed) == ([True], owed, [])
    assert story.now == pytest.approx(60.0 * ((owed - 1) // 20), abs=5.0)  # a third of the account's rate


def test_a_lot_that_a_flush_delivers(story: Story) -> None:
    """A process that is there for that alone has all of the account's rate."""
    story.owe(120)
    told: list[bool] = []

    def work() -> None:
        process = Process(story.world, 0)
        told.append(process.dispatcher.flush(600.0, process.tracker.account(), of_others=True))

    story.play(work)
    assert (told, len(story.pushes), story.owed) == ([True], 120, [])
    assert story.now < 75.0


@pytest.mark.parametrize("owed", [10, 50])
def test_what_is_owed_waits_for_what_a_process_has_to_say_when_it_leaves(story: Story, owed: int) -> None:
    """At the exit a failure of this process goes first, and the rest keeps to the account's rate."""
    story.goes(lambda process, request: Fate("ok", 0.15, 0.15))
    story.owe(owed)

    def work() -> None:
        process = Process(story.world, 0)
        handle = story.block(process, "new")
        story.world.sleep(1.0)
        story.fail(handle)
        process.exit()

    story.play(work)
    assert "new failed" in story.pushes
    assert story.card("new")[:2] == (True, "red")
    assert len(story.pushes) <= 31


@pytest.mark.parametrize("pause", [1.0, 200.0])
def test_what_a_killed_process_owed(story: Story, pause: float) -> None:
    """The next process delivers it as soon as the lease of the killed one has run out."""
    story.goes(lambda process, request: "refused" if story.now < 20 else "ok")

    def work() -> None:
        killed = Process(story.world, 0)
        handle = story.block(killed, "nightly")
        story.world.sleep(1.0)
        story.fail(handle)
        story.world.sleep(8.0)
        killed.kill()
        story.world.sleep(pause)
        story.block(Process(story.world, 0), "another")
        story.world.sleep(200.0)

    story.play(work)
    assert (story.pushes, story.owed) == (["nightly failed"], [])


@pytest.mark.parametrize(("seconds", "delivered"), [(30.0, False), (300.0, True)])
def test_a_flush_waits_for_what_a_killed_process_has(story: Story, seconds: float, delivered: bool) -> None:
    """The command says that nothing is owed any more where that is so, and not because a dead process has it."""
    story.goes(lambda process, request: "refused" if process.number == 1 else "ok")
    told: list[bool] = []

    def work() -> None:
        killed = Process(story.world, 0)
        story.fail(story.block(killed, "nightly"))
        story.world.sleep(8.0)
        killed.kill()
        process = Process(story.world, 0)
        told.append(process.dispatcher.flush(seconds, process.tracker.account(), of_others=True))

    story.play(work)
    assert (told, story.pushes == ["nightly failed"]) == ([delivered], delivered)


def test_a_flush_hears_that_another_process_is_through(story: Story) -> None:
    """Where a living process delivers what it owes itself, the command says so soon after, and waits for no lease."""
    story.goes(lambda process, request: "refused" if story.now < 20 else "ok")
    told: list[bool] = []

    def work() -> None:
        story.fail(story.block(Process(story.world, 0), "nightly"))
        story.world.sleep(10.0)
        process = Process(story.world, 0)
        told.append(process.dispatcher.flush(100.0, process.tracker.account(), of_others=True))

    story.play(work)
    assert (told, story.pushes, story.owed) == ([True], ["nightly failed"], [])
    assert story.now < 40.0


def test_a_process_that_leaves_while_it_takes_over(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a claim brings while its process leaves is anybody's again."""
    claim = MemoryOutbox.claim

    def slowly(self: MemoryOutbox, *args: Any, **more: Any) -> list[Entry]:
        self._world.sleep(0.8)
        return claim(self, *args, **more)

    monkeypatch.setattr(MemoryOutbox, "claim", slowly)
    story.goes(lambda process, request: "swallowed")
    story.owe(3)

    def work() -> None:
        process = Process(story.world, 0)
        story.block(process, "job")
        story.world.sleep(0.02)
        process.leaves.close(process.dispatcher, 0.5)
        story.world.sleep(9.0)
        process.dead = True

    story.play(work)
    assert [row.owner for row in story.world.shelf.rows] == [None] * len(story.world.shelf.rows)
    assert story.owed.count("push") == 3


@pytest.mark.parametrize(
    ("first", "lasts", "quick"),
    [
        ("ok", 0.0, 0.05),
        ("503", 0.0, 0.05),
        ("ok", 0.02, 0.05),  # its start is on its way when it ends
        ("ok", 0.0, 0.005),  # it has been shown before the watchdog says anything
    ],
)
def test_a_card_that_stays_up_after_a_killed_run(story: Story, first: str, lasts: float, quick: float) -> None:
    """A block of the next run that ends at once, and whose card stays: the end of the killed run comes behind it."""
    fates = iter([Fate(first, 1.0, 0.05)])
    story.goes(lambda process, request: next(fates, "ok") if request.method == "DELETE" else Fate("ok", quick, quick))

    def work() -> None:
        older = Process(story.world, 0, watched=True)
        story.block(older, "job", run="older")
        story.world.sleep(5.0)
        older.kill()
        story.world.sleep(0.001)
        process = Process(story.world, 0, watched=True)
        handle = story.block(process, "job", run="newer", keep=True)
        if lasts:
            story.world.sleep(lasts)
        story.end(handle)
        story.block(process, "next")
        story.world.sleep(60.0)

    story.play(work)
    assert story.card() == (False, LOOKS["done"][0], "newer")


@pytest.mark.parametrize("shown", [False, True])
def test_an_answer_that_comes_after_a_late_request(story: Story, shown: bool) -> None:
    """A state that was given up is carried out behind the end, whose answer takes longer still: it goes again."""
    puts, ends = iter([Fate("late", 4.0, 0.0)]), iter([Fate("ok", 0.1, 4.85)])

    def fate(process: Process, request: Request[Any]) -> Fate | str:
        if shown and story.now < 6.0:
            return "ok"
        return next({"PUT": puts, "DELETE": ends}.get(request.method, iter(())), "ok")

    story.goes(fate)

    def work() -> None:
        handle = story.block(Process(story.world, 0), "job", delay=0.0 if shown else 60.0)
        if shown:
            story.world.sleep(6.0)
            handle.update(subtitle="half", important=True)
            story.world.sleep(5.5)
        story.fail(handle)
        story.world.sleep(60.0)

    story.play(work)
    assert story.card()[:2] == (True, "red")


@pytest.mark.parametrize(
    ("failed", "seconds"), [(["503"], 0.0), (["502 after"], 0.0), (["503", "502 after", *["503"] * 8], 0.05)]
)
def test_an_end_that_finds_the_card_ended_after_failed_attempts(
    story: Story, failed: list[str], seconds: float
) -> None:
    """An older run's watchdog may have ended the card, or an attempt of this end: it is shown to be sure.

    That may have been long before the attempt that was answered.
    """
    ends = iter([Fate("ok", 0.9, 0.05), *(Fate(each, 1.0, 0.05) for each in failed)])
    story.goes(lambda process, request: next(ends, "ok") if request.method == "DELETE" else "ok")

    def work() -> None:
        older, process = (Process(story.world, line, watched=True) for line in (0, 1))
        story.block(older, "job", run="older")
        story.block(process, "another")
        story.world.sleep(5.0)
        older.kill()
        story.world.sleep(0.001)
        newer = story.block(process, "job", run="newer")
        story.world.sleep(seconds)
        story.fail(newer)
        story.world.sleep(60.0)

    story.play(work)
    card = story.world.service.cards["job"]
    assert (card.metadata["run"], card.state["color"], card.ended) == ("newer", "red", True)
    assert str(card.state["subtitle"]).startswith("Failed at 0 %")


@pytest.mark.parametrize(
    "what",
    [
        [Fate("late", 2.0, 0.0)],  # a start behind another start
        ["ok", "cut", Fate("late", 4.0, 0.0)],  # an old update behind a newer one
        ["ok", Fate("late", 4.0, 0.0), "cut", Fate("late", 4.0, 0.0)],  # one between another and its repetition
    ],
)
def test_what_is_carried_out_late_counts(story: Story, what: list[Fate | str]) -> None:
    """What iOS takes for an update more counts, though nobody was told of it."""
    fates = iter(what)
    story.goes(lambda process, request: next(fates, "ok"))

    def work() -> None:
        handle = story.block(Process(story.world, 0), "job")
        story.world.sleep(1.0)
        handle.update(subtitle="first", important=True)
        story.world.sleep(9.0)
        for number in range(30):
            handle.update(subtitle=f"now {number}", important=True)
            story.world.sleep(25.0 if number == 1 else 5.3)

    story.play(work)
    assert all(not card.over_budget for card in story.world.service.activities.values())


def test_a_state_that_was_sent_once_more_and_comes_behind_a_newer_one(story: Story) -> None:
    """It may be the update too many: one is kept in hand while it may come."""
    requests = 0

    def fates(process: Process, request: Request[Any]) -> Fate | str:
        nonlocal requests
        requests += 1
        return {12: "cut", 13: Fate("late", 4.9, 0.0)}.get(requests, "ok")

    story.goes(fates)

    def work() -> None:
        handle = story.block(Process(story.world, 0), "job")
        for number in range(12):
            story.world.sleep(1.0)
            handle.update(subtitle=f"now {number}", important=True)
            while requests < 14 and number == 10:
                story.world.sleep(0.01)
        story.world.sleep(60.0)

    story.play(work)
    card = story.world.service.cards["job"]
    assert (card.updates, card.over_budget) == (12, False)
    assert card.state["subtitle"] == "now 11"


def test_a_card_that_was_taken_over_is_made_sure_of_within_its_budget(story: Story) -> None:
    """What may have been ended is shown once more as it was, where another update would be one too many."""
    story.goes(lambda process, request: "503" if request.method == "DELETE" and process.number == 1 else "ok")

    def work() -> None:
        older, newer = Process(story.world, 0), Process(story.world, 0)
        handle = story.block(older, "job", run="older")
        for number in range(11):
            story.world.sleep(1.0)
            handle.update(subtitle=f"now {number}", important=True)
        story.world.sleep(1.0)
        story.end(handle)
        older.exit()
        handle = story.block(newer, "job", run="newer")
        story.world.sleep(2.0)
        handle.update(subtitle="half", important=True)
        story.world.sleep(60.0)
        assert story.card() == (False, None, "newer")
        story.world.sleep(2000.0)

    story.play(work)
    card = story.world.service.cards["job"]
    assert (card.over_budget, card.ended, card.state["subtitle"]) == (False, False, "half")


def test_the_death_of_an_older_run_is_known_late(story: Story) -> None:
    """A watchdog hears that a job was killed when its next run is over already, whose end is the newer one."""
    story.goes(lambda process, request: "503" if story.now < 8.0 and process.number > 1 else "ok")

    def work() -> None:
        older = Process(story.world, 0, watched=True)
        story.block(older, "job", run="older")
        story.world.sleep(5.0)
        older.kill()
        story.world.sleep(0.001)
        story.end(story.block(Process(story.world, 0), "job", run="newer"))
        story.world.sleep(60.0)

    story.play(work)
    assert story.card() == (True, LOOKS["done"][0], "newer")


def test_killed_while_an_end_is_to_go_once_more(story: Story) -> None:
    """What the end of a block waits for, to go again behind it, the watchdog does instead where the job is killed."""
    puts, ends = iter([Fate("late", 4.0, 0.0)]), iter(["503"])

    def fate(process: Process, request: Request[Any]) -> Fate | str:
        return next({"PUT": puts, "DELETE": ends}.get(request.method, iter(())), "ok") if story.now > 5.0 else "ok"

    story.goes(fate)

    def work() -> None:
        process = Process(story.world, 0, watched=True)
        handle = story.block(process, "job")
        story.block(process, "other")
        story.world.sleep(6.0)
        handle.update(subtitle="half", important=True)
        story.world.sleep(5.5)
        story.end(handle)
        story.world.sleep(2.8)  # by then the end has arrived
        assert story.card()[0]
        process.kill()
        story.world.sleep(60.0)

    story.play(work)
    assert story.card()[:2] == (True, LOOKS["done"][0])


def test_a_card_that_is_to_appear_while_much_is_sent(story: Story) -> None:
    """Where old debts and updates have taken most of the minute, a new card appears all the same."""
    story.owe(60)

    def work() -> None:
        process = Process(story.world, 0)
        handles = [story.block(process, f"job {number}") for number in range(3)]
        for number in range(12):
            story.world.sleep(2.0)
            for handle in handles:
                handle.update(subtitle=f"now {number}", important=True)
        story.block(process, "new")
        story.world.sleep(2.0)

    story.play(work)
    assert story.now < 30.0
    assert not story.card("new")[0]


def test_a_card_that_its_own_change_for_a_fresh_one_may_have_ended(story: Story) -> None:
    """The end of the old card that was given up ends the fresh one: it appears again, however much else is sent."""
    ends = iter([Fate("late", 4.0, 0.0)])
    night = "DELETE", "/live-activity/stream/night"
    story.goes(lambda process, request: next(ends, "ok") if (request.method, request.path) == night else "ok")

    def work() -> None:
        process = Process(story.world, 0)
        story.block(process, "night")
        story.world.sleep(CHANGED_AFTER - 10.0)
        for number in range(25):
            story.world.sleep(0.4 if number != 22 else 8.0)
            story.end(story.block(process, f"short {number}"))
        story.world.sleep(10.0)

    story.play(work)
    assert next(ends, None) is None
    assert not story.card("night")[0]


def test_an_outage_in_which_a_job_goes_on(story: Story) -> None:
    """Each update that may have arrived counts once, whatever it showed: afterwards the card goes on."""
    story.goes(lambda process, request: "swallowed" if 1.0 < story.now < 45.0 else "ok")

    def work() -> None:
        handle = story.block(Process(story.world, 0), "job")
        story.world.sleep(1.5)
        for _ in range(19):
            handle.advance()
            story.world.sleep(5.0)

    story.play(work)
    assert story.world.service.cards["job"].state["percentage"] >= 75


def test_a_late_start_and_a_next_block_that_is_never_shown(story: Story) -> None:
    """A block that ends before its delay is over does not take the place of the one before it."""
    puts = iter([Fate("late", 4.0, 0.0)])
    story.goes(lambda process, request: next(puts, "ok") if request.method == "PUT" else "ok")

    def work() -> None:
        process = Process(story.world, 0)
        handle = story.block(process, "job")
        story.world.sleep(0.02)
        story.fail(handle)
        story.end(story.block(process, "job", delay=60.0))
        story.world.sleep(60.0)

    story.play(work)
    assert story.card()[:2] == (True, "red")


def test_a_late_end_of_a_killed_run(story: Story) -> None:
    """What the watchdog of an older run has given up may still end the card of a newer one: it appears again."""
    ends = iter([Fate("late", 4.0, 0.0)])
    story.goes(lambda process, request: next(ends, "ok") if request.method == "DELETE" else "ok")

    def work() -> None:
        older = Process(story.world, 0, watched=True)
        story.block(older, "job", run="older")
        story.world.sleep(5.0)
        older.kill()
        story.world.sleep(0.001)
        story.block(Process(story.world, 0, watched=True), "job", run="newer")
        story.world.sleep(15.0)

    story.play(work)
    assert next(ends, None) is None
    assert story.card() == (False, None, "newer")


def test_a_late_start_and_a_next_block_whose_card_stays(story: Story) -> None:
    """What an older block's end would do once more, a newer one that has been shown does by itself."""
    puts = iter([Fate("late", 4.0, 0.0)])
    story.goes(lambda process, request: next(puts, "ok") if request.method == "PUT" else "ok")

    def work() -> None:
        process = Process(story.world, 0)
        handle = story.block(process, "job", run="older")
        story.world.sleep(0.02)
        story.fail(handle)
        story.world.sleep(5.2)
        story.end(story.block(process, "job", run="newer", keep=True))
        story.world.sleep(60.0)

    story.play(work)
    assert story.card() == (False, LOOKS["done"][0], "newer")


def test_what_an_older_run_owes_and_two_newer_ones(story: Story) -> None:
    """Where the newer one may be on the screen, its end waits, though there is a yet newer one that is not."""
    puts = iter([Fate("lost", 3.0, 0.0)])
    body = {"content_state": {"title": "job", "type": "progress", "color": "red"}, "metadata": {"run": "older"}}
    entry = Entry("end", fingerprint(KEY), URL, body, story.world.wall() - 60.0, "job", run="old", id="old")
    story.world.shelf.rows.append(Row(entry))

    def work() -> None:
        process = Process(story.world, 0)
        story.block(process, "other")
        story.world.sleep(0.5)
        story.goes(lambda process, request: next(puts, "ok") if request.method == "PUT" else "ok")
        handle = story.block(process, "job", run="newer", keep=True)
        story.world.sleep(0.02)
        story.end(handle)
        story.world.sleep(0.5)
        story.block(process, "job", run="newest", delay=60.0)
        story.world.sleep(30.0)

    story.goes(lambda process, request: "503" if request.method == "DELETE" else "ok")
    story.play(work)
    assert story.card() == (False, LOOKS["done"][0], "newer")
    assert not [each for each in story.world.service.requests if each.method == "DELETE"]
