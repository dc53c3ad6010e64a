"""Orders of what the service answers, and when, in which the phone lied once: stories on virtual time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from internals import fingerprint
from stories import Story
from world import CHANGED_AFTER, KEY, URL, Fate, Process, Row

from activitysmith_track.client.requests import Request
from activitysmith_track.delivery.entries import Entry
from activitysmith_track.delivery.outbox import Outbox

pytestmark = pytest.mark.once  # the simulated world is the same on every interpreter


def owed(story: Story, key: str = KEY, run: str = "older") -> Entry:
    """The green end of an older run, which another process owes."""
    body = {"content_state": {"title": "job", "type": "progress", "color": "green"}, "metadata": {"run": run}}
    wall = story.world.wall()
    return Entry(
        "end", fingerprint(key), URL, body, wall - 20.0, "job", run="old", id=f"old-{run}", began_at=wall - 60.0
    )


def late_start(story: Story, seconds: float = 4.5) -> None:
    """Have the first start of "job" carried out so many seconds after it was given up."""
    puts = iter([Fate("late", seconds, 0.0)])
    story.goes(
        lambda process, request: next(puts, "ok") if (request.method, request.path[-4:]) == ("PUT", "/job") else "ok"
    )


# -- the service does not show a card


@pytest.mark.parametrize("seconds", [0.0, 2.0])
def test_a_paused_stream(story: Story, seconds: float) -> None:
    """Where the stream is paused, before a block or within it, its end is through: nothing goes round and round."""
    handed: list[bool] = []

    def work() -> None:
        process = Process(story.world, 0)
        story.end(story.block(process, "job"))
        story.world.sleep(30.0)
        handle = story.block(process, "job") if seconds else None
        story.world.sleep(seconds)
        story.world.service.pause("job")
        story.end(handle or story.block(process, "job"))
        story.world.sleep(30.0)
        handed.append(process.dispatcher.ledger.owes)

    story.play(work)
    assert handed == [False]
    assert len(story.world.service.requests) < 8


def test_a_stream_that_is_paused_before_its_card_is_changed_for_a_fresh_one(story: Story) -> None:
    """The change is not tried again and again, whatever is known of the time at which the card began."""
    puts = iter(["lost"])
    story.goes(lambda process, request: next(puts, "ok") if request.method == "PUT" else "ok")

    def work() -> None:
        story.block(Process(story.world, 0), "night")
        story.world.sleep(20.0)
        story.world.service.pause("night")
        story.world.sleep(CHANGED_AFTER + 600.0)

    story.play(work)
    assert len(story.world.service.requests) < 10


@pytest.mark.parametrize("held_up", [0, 6])
def test_a_refused_start_whose_block_is_over(story: Story, held_up: int) -> None:
    """Its end goes nowhere, and ends no newer run's card."""
    story.goes_by_run(older_PUT=[Fate("401", 1.0, 1.0), *["503"] * held_up])

    def work() -> None:
        process = Process(story.world, 0)
        older = story.block(process, "job", run="older")
        story.world.sleep(1.5)
        story.fail(older)
        story.world.sleep(0.1)
        story.block(process, "job", run="newer")
        story.world.sleep(120.0)

    story.play(work)
    assert story.card() == (False, None, "newer")


def test_an_end_that_is_not_allowed_to_open_a_card(story: Story) -> None:
    """Where a start may have been carried out, the card is ended all the same."""
    puts = iter([Fate("cut", 0.1, 0.1), "401"])
    story.goes(lambda process, request: next(puts, "ok") if request.method == "PUT" else "ok")

    def work() -> None:
        handle = story.block(Process(story.world, 0), "job")
        story.world.sleep(0.5)
        story.fail(handle)
        story.world.sleep(60.0)

    story.play(work)
    assert story.card()[0]
    assert story.pushes == ["job failed"]


def test_an_end_that_may_not_open_a_card_in_the_place_of_an_older_end(story: Story) -> None:
    """Its copy has taken the place of the older run's, whose card is on the screen: that is ended all the same."""
    story.goes_by_run(newer_PUT=["503", "403"], older_DELETE=["503"] * 3)

    def work() -> None:
        older, newer = Process(story.world, 0), Process(story.world, 1)
        handle = story.block(older, "job", run="older")
        story.world.sleep(3.0)
        story.fail(handle)
        story.world.sleep(1.5)
        older.kill()
        story.end(story.block(newer, "job", run="newer"))
        story.world.sleep(60.0)

    story.play(work)
    assert story.card()[0]


def test_a_job_is_killed_whose_card_was_refused(story: Story) -> None:
    """Pushes get through, so that somebody hears of it."""
    puts = iter(["401"])
    story.goes(lambda process, request: next(puts, "ok") if request.method == "PUT" else "ok")

    def work() -> None:
        process = Process(story.world, 0, watched=True)
        story.block(process, "job")
        story.world.sleep(100.0)
        process.kill()
        story.world.sleep(60.0)

    story.play(work)
    assert story.pushes == ["job failed"]
    assert not story.world.service.cards


# -- a start that was given up, and is carried out later


@pytest.mark.parametrize("delay", [0.0, 60.0])
def test_a_late_start_that_finds_a_slot(story: Story, delay: float) -> None:
    """Of a start, or of an end that has the card appear: the next try found no slot, and it is not left running."""
    late_start(story)

    def work() -> None:
        neighbour, process = Process(story.world, 1), Process(story.world, 0)
        held = [story.block(neighbour, f"other-{number}") for number in range(4)]
        story.world.sleep(1.0)
        handle = story.block(process, "job", delay=delay)  # given up at 6, carried out at 10.5
        story.world.sleep(0.1 if delay else 7.9)
        story.fail(handle)
        story.world.sleep(9.0 - (story.now - 1.0))
        story.end(held[0])
        story.world.sleep(60.0)

    story.play(work)
    assert story.card()[0]


@pytest.mark.parametrize("fails", ["503", "401", "full"])
def test_a_late_start_and_a_newer_one_that_comes_to_nothing(story: Story, fails: str) -> None:
    """The older end goes once more although a newer start was on its way by then."""
    refused: list[Fate | str] = [Fate("ok", 0.55, 1.0)] if fails == "full" else [Fate(fails, 1.1, 0.1), *["503"] * 3]
    story.goes_by_run(older_PUT=[Fate("late", 4.95, 0.0)], newer_PUT=refused)

    def work() -> None:
        neighbour, process = Process(story.world, 1), Process(story.world, 0)
        held = [story.block(neighbour, f"other-{number}", run="other") for number in range(3)]
        older = story.block(process, "job", run="older")  # its start is given up at 5, and carried out at 9.95
        story.world.sleep(0.5)
        story.fail(older)
        story.world.sleep(7.0 - story.now)
        if fails == "full":
            held.append(story.block(neighbour, "other-3", run="other"))
        story.world.sleep(8.95 - story.now)
        newer = story.block(process, "job", run="newer")
        story.world.sleep(9.6 - story.now)
        story.end(held[0])
        story.world.sleep(10.8 - story.now)
        story.stop(newer)
        story.world.sleep(60.0)

    story.play(work)
    assert story.card()[0]


@pytest.mark.parametrize("what", ["alert", "countdown"])
def test_a_late_start_that_changes_the_card_whatever_it_shows(story: Story, what: str) -> None:
    """It rings, or begins a countdown anew: that is an update, although the card shows the very same."""
    late_start(story, 4.0)

    def work() -> None:
        process = Process(story.world, 0)
        alert = {"alert": {"title": "begun", "body": "it begins"}} if what == "alert" else {}
        handle = story.timer(process, "job") if what == "countdown" else story.block(process, "job", **alert)
        story.world.sleep(30.0)
        for number in range(20):
            handle.update(subtitle=f"now {number}", important=True)
            story.world.sleep(5.0)

    story.play(work)
    card = story.world.service.cards["job"]
    assert not card.over_budget
    assert card.updates == 12


def test_a_newer_run_waits_for_an_update_of_an_older_one(story: Story) -> None:
    """It is shown as soon as that has landed, not when the older end has gone once more."""
    story.goes_by_run(older_PUT=["ok", "swallowed"])

    def work() -> None:
        process = Process(story.world, 0)
        older = story.block(process, "job", run="older")
        story.world.sleep(3.0)
        older.update(subtitle="half", important=True)  # until 8.0
        story.world.sleep(0.1)
        story.end(older)
        story.world.sleep(2.0)
        story.block(process, "job", run="newer")
        story.world.sleep(8.5 - story.now)
        assert story.card() == (False, None, "newer")

    story.play(work)


# -- a card that is changed for a fresh one, or begins anew


@pytest.mark.parametrize("answer", ["503", "401"])
def test_half_a_change_for_a_fresh_card(story: Story, answer: str) -> None:
    """The old card has gone, and the fresh one did not come before the job failed: its end shows itself."""
    failed: list[str] = []

    def fate(process: Process, request: Request[Any]) -> str:
        if request.method == "PUT" and story.now > CHANGED_AFTER - 5.0 and not failed:
            failed.append(answer)
            return answer
        return "ok"

    story.goes(fate)

    def work() -> None:
        handle = story.block(Process(story.world, 0), "night")
        while not failed:
            story.world.sleep(0.2)
        story.world.sleep(0.3)
        story.fail(handle)
        story.world.sleep(60.0)

    story.play(work)
    assert story.card("night")[:2] == (True, "red")


def test_half_a_change_for_a_fresh_card_of_a_job_that_goes_on(story: Story) -> None:
    """The fresh one comes soon."""
    failed = iter(["503"])
    story.goes(
        lambda process, request: next(failed, "ok") if request.method == "PUT" and story.now > 20_000.0 else "ok"
    )

    def work() -> None:
        story.block(Process(story.world, 0), "night")
        story.world.sleep(CHANGED_AFTER + 10.0)

    story.play(work)
    card = story.world.service.cards["night"]
    assert (card.ended, card.started_at > 20_000.0) == (False, True)


def test_a_card_that_is_changed_for_a_fresh_one_rings_once(story: Story) -> None:
    """Its alert belongs to the start of the job."""

    def work() -> None:
        story.block(Process(story.world, 0), "job", alert={"title": "begun", "body": "it begins"})
        story.world.sleep(CHANGED_AFTER + 60.0)

    story.play(work)
    assert len([each for each in story.world.service.requests if (each.body or {}).get("alert")]) == 1


@pytest.mark.parametrize("duration", [None, 600.0])
def test_a_timer_that_an_older_end_hits(story: Story, duration: float | None) -> None:
    """A late end of an older run ends the card of a timer: it appears again with what is left, or has passed."""
    late = iter([Fate("late", 4.0, 0.0)])
    story.goes(lambda process, request: next(late, "ok") if request.method == "DELETE" else "ok")

    def work() -> None:
        process = Process(story.world, 0)
        older = story.block(process, "job", run="older")
        story.world.sleep(1.0)
        story.end(older)
        story.world.sleep(7.0)
        story.timer(process, "job", run="newer", duration=duration)
        story.world.sleep(60.0)

    story.play(work)
    assert story.card() == (False, None, "newer")
    assert all(each.status == 200 for each in story.world.service.requests)


def test_a_countdown_that_stays_up_and_was_never_shown(story: Story) -> None:
    """Its last state starts the activity, which takes a duration."""

    def work() -> None:
        process = Process(story.world, 0)
        handle = story.timer(process, "job", keep=True, delay=5.0)
        story.world.sleep(1.0)
        story.end(handle)
        story.world.sleep(60.0)

    story.play(work)
    assert [each.status for each in story.world.service.requests] == [200]


def test_an_outage_costs_the_budget_one_update(story: Story) -> None:
    """While nobody knows what is shown, that goes once more, which is no further update; then the newest."""
    story.goes(lambda process, request: "lost" if 20.0 < story.now < 320.0 else "ok")

    def work() -> None:
        handle = story.block(Process(story.world, 0), "job")
        story.world.sleep(15.0)
        for number in range(62):
            handle.update(subtitle=f"now {number}", important=True)
            story.world.sleep(5.0 if number else 7.0)
        handle.update(subtitle="after all", important=True)
        story.world.sleep(60.0)
        assert story.world.service.cards["job"].state["subtitle"] == "after all"

    story.play(work)
    card = story.world.service.cards["job"]
    assert card.updates < 6


# -- clocks, disks, watchdogs and keys


@pytest.mark.parametrize("kind", ["memory", "disk"])
@pytest.mark.parametrize("ahead", [2 * 86_400.0, -2 * 86_400.0])
def test_a_clock_that_is_set_while_something_is_owed(story: Story, kind: str, ahead: float, tmp_path: Path) -> None:
    """What the process has in memory does not depend on what the disk keeps."""
    story.world.kind_of_outbox, story.world.directory = kind, str(tmp_path)
    story.goes(lambda process, request: "refused" if 5.0 < story.now < 300.0 else "ok")

    def work() -> None:
        process = Process(story.world, 0)
        handle = story.block(process, "job")
        story.world.sleep(6.0)
        story.fail(handle)
        story.world.sleep(20.0)
        story.world.jumped += ahead
        story.world.sleep(70.0)
        story.block(process, "other")
        story.world.sleep(600.0)

    story.play(work)
    assert story.card()[:2] == (True, "red")
    assert len(story.pushes) == 1


@pytest.mark.parametrize("kind", ["memory", "disk"])
@pytest.mark.parametrize("back", [0.0, 3_600.0])
def test_a_clock_that_was_set_back_since_an_older_run(story: Story, kind: str, back: float, tmp_path: Path) -> None:
    """The older run's owed end does not take the place of the newer one's, though it seems to be yet to happen."""
    story.world.kind_of_outbox, story.world.directory = kind, str(tmp_path)
    if kind == "disk":
        assert Outbox(tmp_path, clock=story.world.wall).put([owed(story)])
    else:
        story.world.shelf.rows.append(Row(owed(story)))
    story.world.jumped -= back

    def fate(process: Process, request: Request[Any]) -> Fate | str:
        if story.now < 60.0:
            return Fate("cut", 0.1, 0.1) if request.method == "PUT" and story.now < 1.0 else "503"
        return "ok"

    story.goes(fate)

    def work() -> None:
        handle = story.block(Process(story.world, 0), "job", run="newer")
        story.world.sleep(3.0)
        story.fail(handle)
        story.world.sleep(600.0)

    story.play(work)
    assert story.card() == (True, "red", "newer")


@pytest.mark.parametrize("more", [{}, {"channels": ["ops"]}, {"alert": {"title": "begun", "body": "it begins"}}])
def test_killed_while_a_card_that_stays_is_shown_for_the_last_time(story: Story, more: dict[str, Any]) -> None:
    """The watchdog shows the last state, and ends nothing."""
    story.goes(lambda process, request: "swallowed" if process.number == 1 and story.now > 5.9 else "ok")

    def work() -> None:
        process = Process(story.world, 0, watched=True)
        handle = story.block(process, "job", keep=True, **more)
        story.world.sleep(6.0)
        handle.advance(20)
        story.end(handle)
        story.world.sleep(2.0)
        process.kill()
        story.world.sleep(60.0)

    story.play(work)
    assert story.card()[:2] == (False, "green")
    assert story.pushes == []
    assert len([each for each in story.world.service.requests if (each.body or {}).get("alert")]) <= 1


@pytest.mark.parametrize("watched", [False, True])
@pytest.mark.parametrize("keep", [False, True])
def test_the_exit_of_a_short_job(story: Story, watched: bool, keep: bool) -> None:
    """Where all is well nothing keeps it."""
    took: list[float] = []

    def work() -> None:
        process = Process(story.world, 0, watched=watched)
        story.world.sleep(0.5)
        handle = story.block(process, "job", keep=keep)
        story.world.sleep(0.02)
        story.end(handle)
        begun = story.now
        process.exit()
        took.append(story.now - begun)

    story.play(work)
    assert took[0] < 1.0


def test_two_keys_and_one_name(story: Story, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is held back for a card under one key is not what is held back under another."""
    story.world.kind_of_outbox, story.world.directory = "disk", str(tmp_path)
    another = "another-key-0123456789"
    story.world.keys.add(another)
    box = Outbox(tmp_path, clock=story.world.wall)
    assert box.put([owed(story)])
    assert box.put([owed(story, another, "older, another")])
    slow: dict[str, list[Fate | str]] = {"one_PUT": [Fate("ok", 1.0, 0.5)], "two_PUT": [Fate("401", 1.2, 0.9)]}
    story.goes_by_run(**slow)

    def work() -> None:
        process = Process(story.world, 0)
        story.block(process, "job", run="one")
        story.world.sleep(0.2)
        with process.tracker.override(api_key=another):
            story.block(process, "job", run="two")
        story.world.sleep(600.0)

    story.play(work)
    ended = [each.body["metadata"]["run"] for each in story.world.service.requests if each.method == "DELETE"]
    assert ended == ["older, another"]
    wall = story.world.wall() + 1_000.0  # when every lease is over
    assert [box.claim(fingerprint(key), URL, "nobody", wall, 60.0) for key in (KEY, another)] == [[], []]


# -- what goes once more


@pytest.mark.parametrize("watched", [False, True])
@pytest.mark.parametrize("fails", [False, True])
def test_what_goes_once_more_has_no_second_card_appear(story: Story, watched: bool, fails: bool) -> None:
    """A start whose answer was lost, and a job that ends a little later: one card, which ends once."""
    puts = iter(["lost"])
    story.goes(lambda process, request: next(puts, "ok") if request.method == "PUT" else "ok")

    def work() -> None:
        handle = story.block(Process(story.world, 0, watched=watched), "job")
        story.world.sleep(8.0)
        (story.fail if fails else story.end)(handle)
        story.world.sleep(30.0)

    story.play(work)
    (card,) = story.world.service.activities.values()
    assert (card.ended, card.state["color"]) == (True, "red" if fails else "green")


@pytest.mark.parametrize("pause", [3.0, 15.0, 3_600.0])
def test_a_job_that_comes_back_to_its_card_after_one_lost_answer(story: Story, pause: float) -> None:
    """The next runs are not kept by it, nor warned of."""
    puts, took = iter(["lost"]), list[float]()
    story.goes(lambda process, request: next(puts, "ok") if request.method == "PUT" else "ok")

    def work() -> None:
        for _ in range(5):
            process = Process(story.world, 0)
            handle = story.block(process, "job", keep=True)
            story.world.sleep(0.2)
            handle.advance(20)
            story.end(handle)
            begun = story.now
            process.exit()
            took.append(story.now - begun)
            story.world.sleep(pause)

    story.play(work)
    assert max(took[1:]) < 1.0
    assert not story.world.service.cards["job"].over_budget


@pytest.mark.parametrize("seconds", [6, 10])
def test_a_watched_job_that_ends_soon_keeps_to_its_budget(story: Story, seconds: int) -> None:
    """Its end is no update, although an older run might have ended the card."""

    def work() -> None:
        handle = story.block(Process(story.world, 0, watched=True), "job")
        for number in range(40):
            story.world.sleep(seconds / 40)
            handle.update(subtitle=f"now {number}", important=True)
        story.end(handle)
        story.world.sleep(30.0)

    story.play(work)
    (card,) = story.world.service.activities.values()
    assert (card.over_budget, card.ended, card.state["color"]) == (False, True, "green")


def test_a_last_state_that_stays_up_and_finds_no_slot(story: Story) -> None:
    """No card is there, so it is not asked for again and again; its copy may have replaced an older run's end."""
    story.goes_by_run(kept_PUT=["503"])

    def work() -> None:
        process = Process(story.world, 0)
        for number in range(4):
            story.block(process, f"other-{number}")
        story.world.sleep(5)
        story.end(story.block(Process(story.world, 1), "job", run="kept", keep=True))
        story.world.sleep(120)

    story.play(work)
    asked = [each for each in story.world.service.requests if dict(each.body or {}).get("metadata")]
    assert 1 <= len(asked) <= 3, asked
    assert story.owed == []


@pytest.mark.parametrize("slot_at", [None, 13.0])
def test_a_last_state_that_finds_no_slot_before_its_start_comes_late(story: Story, slot_at: float | None) -> None:
    """It goes once more when that start can be carried out no more: else the card would say that the job goes on."""
    story.goes_by_run(kept_PUT=[Fate("late", 4.5, 0.0)])

    def work() -> None:
        others = [story.block(Process(story.world, 0), f"other-{number}") for number in range(4)]
        story.world.sleep(5)
        kept = story.block(Process(story.world, 1), "job", run="kept", keep=True)
        story.world.sleep(5.6)
        story.end(kept)
        if slot_at is not None:
            story.world.sleep(slot_at - story.now)
            story.end(others[0])
        story.world.sleep(60)

    story.play(work)
    assert ("job" in story.world.service.cards) is (slot_at is not None)
    if slot_at is not None:
        assert story.card() == (False, "green", "kept")
    assert story.owed == []
