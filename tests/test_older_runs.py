"""Older and newer runs of one card, and what is kept while it is on its way: nothing lies, nothing comes twice."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from internals import attempt, default_account, default_dispatcher, fingerprint, requests_of_last_minute, use_watchdog
from owed import Owed, is_drained, leave
from patience import PatientSimulator, until
from scripted import Script

import activitysmith_track as at
from activitysmith_track import ActivitySmith
from activitysmith_track.delivery import outbox_tables
from activitysmith_track.delivery.account import DEBTS_AT_ONCE, Account
from activitysmith_track.delivery.entries import Entry
from activitysmith_track.delivery.older_ends import EndUnderWay
from activitysmith_track.delivery.outbox import Outbox
from activitysmith_track.delivery.persistence import Persistence
from activitysmith_track.delivery.push_delivery import PushDelivery
from activitysmith_track.delivery.runtime import Runtime
from activitysmith_track.delivery.state import CopyOwner, Hold


@pytest.fixture(autouse=True)
def prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test waits long for another attempt."""
    monkeypatch.setattr("activitysmith_track.delivery.runtime.Runtime.backoff", lambda self, failures: 0.2)


@pytest.fixture
def box(tmp_path: Path) -> Outbox:
    """The outbox of the scripted service's account."""
    return Outbox(tmp_path / "box")


@pytest.fixture
def script(box: Outbox, tmp_path: Path) -> Iterator[Script]:
    """A scripted service that the library is configured for, with an outbox of its own."""
    made = Script()
    with at.override(api_key="script-key", base_url=made.url, outbox=tmp_path / "box"):
        yield made
        made.answer = lambda method, path, body: (200, made.fine(method))
        assert at.flush(60), "what the test has sent was not delivered"
    made.close()


class Idle:
    """A handle that has nothing to show."""

    def snapshot(self) -> None:
        return

    def crash_state(self) -> None:
        return

    def rest(self, looked: object) -> None:
        return

    def opening(self) -> None:
        return

    def abandon(self, words: str | None = None) -> None:
        return


def owed(script: Script, kind: str = "end", key: str = "job", **more: Any) -> Entry:
    """Make an end that an earlier process owes the card of the job."""
    body = {"content_state": {"title": key, "subtitle": "Failed"}}
    return Entry(kind, fingerprint("script-key"), script.url, body, time.time(), key, **more)


def methods(script: Script) -> list[str]:
    """Return the methods of the requests that came."""
    return [method for method, _, _ in script.asked]


# -------------------------------------------------------------------------------------------------------- slots


def test_a_card_behind_a_refused_one_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the service had no room for one card, those behind it are shown as soon as it has."""
    monkeypatch.setattr("activitysmith_track.delivery.account.SLOT_RETRY", 0.3)
    with PatientSimulator(slots=1) as sim, at.override(api_key=sim.api_key, base_url=sim.base_url):
        with ActivitySmith(sim.api_key, base_url=sim.base_url) as other:
            other.live_activities.stream("other", title="other", type="progress", percentage=1)
            refused = at.live_progress("refused", key="refused")
            refused.__enter__()
            assert sim.wait_for(lambda phone: phone.requests[-1].status == 429)
            refused.__exit__(None, None, None)
            with at.live_progress("behind", key="behind"):
                other.live_activities.end_stream("other", title="other", type="progress", percentage=100)
                assert sim.wait_for(lambda phone: "behind" in phone.cards)
        assert at.flush(60)


def test_the_place_of_a_card_that_leaves_the_queue() -> None:
    """Who waits behind a refused card is next when that is gone, as soon as the service may be asked again."""
    dispatcher = default_dispatcher()
    account = Account("key", "http://localhost:1/api", dispatcher.runtime)
    account.slots = 1
    first, second = (dispatcher.open(account, name, Idle()) for name in "ab")
    assert account.take_slot(first, 0.0)
    assert not account.take_slot(second, 0.0)
    assert account.slots_open_at(0.0) is None
    again = account.slots_full(first, 0.0, 1)
    assert account.release(first)
    assert account.next_ones() == [second]
    assert not account.take_slot(second, again - 1)
    assert account.slots_open_at(again - 1) == again
    assert account.take_slot(second, again)
    account.close()


# ---------------------------------------------------------------------------------- an older run of this process


def test_an_end_is_owed_until_a_newer_run_is_shown(script: Script) -> None:
    """An end that failed is tried again although a newer run has begun, where that one is never shown."""
    ends = iter([(503, {})])

    def answer(method: str, path: str, body: Any) -> tuple[int, Any]:
        fine = 200, script.fine(method)
        return next(ends, fine) if method == "DELETE" else fine

    with at.live_progress("job"):
        assert script.wait(1)
        script.answer = answer
    with at.live_progress("job", delay=60):
        assert script.wait(1, "DELETE")
    assert at.flush(60)
    assert methods(script) == ["PUT", "DELETE", "DELETE"]


def test_a_newer_run_waits_for_the_older_ones_end(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    """An end that failed is tried again as soon as a newer run wants the card, and never after that is shown."""
    monkeypatch.setattr("activitysmith_track.delivery.account.OUTAGE_AFTER", 1_000)  # no wait but that of the end
    monkeypatch.setattr(
        "activitysmith_track.delivery.runtime.Runtime.backoff", lambda self, failures: 60.0 if failures == 1 else 0.2
    )
    with at.live_progress("job"):
        assert script.wait(1)
        script.answer = lambda method, path, body: (503, {}) if method == "DELETE" else (200, script.fine(method))
    assert script.wait(1, "DELETE")
    with at.live_progress("job", total=10):
        assert script.wait(3, "DELETE")
        assert methods(script).count("PUT") == 1
        script.answer = lambda method, path, body: (200, script.fine(method))
        assert script.wait(2, "PUT")
    assert at.flush(60)
    assert methods(script)[-3:] == ["DELETE", "PUT", "DELETE"]


def test_an_ended_card_is_looked_at_when_another_takes_the_slot(script: Script) -> None:
    """A card that ended while it waited for a slot owes nothing for ever, where another one takes that slot."""
    go = threading.Event()
    default = default_dispatcher()

    def slowly(method: str, path: str, body: Any) -> tuple[int, Any]:
        if method == "DELETE" and path.endswith("/first"):
            go.wait(60)
        return 200, script.fine(method)

    script.answer = slowly
    account = default_account()
    account.slots = 1
    with at.live_progress("first", key="first"):
        assert script.wait(1, "PUT")
        waits = at.live_progress("waits", key="waits")
        waits.__enter__()
    assert script.wait(1, "DELETE")
    with at.live_progress("ended", key="ended"):
        pass
    go.set()
    assert script.wait(2, "PUT")
    assert until(lambda: not default.ledger.owes)
    waits.__exit__(None, None, None)


# -------------------------------------------------------------------------------- an older run of another process


def test_a_run_that_is_refused_leaves_the_older_end_owed(script: Script, box: Outbox) -> None:
    """What a newer run was to replace is delivered where the service does not take that one."""
    assert box.put([owed(script)])
    script.answer = lambda method, path, body: (403, {}) if method == "PUT" else (200, script.fine(method))
    with at.live_progress("job"):
        assert script.wait(1, "DELETE")
    assert at.flush(60)
    assert methods(script).count("DELETE") == 1
    assert is_drained(box)


def test_what_is_owed_goes_on_when_newer_runs_take_what_waits(script: Script, box: Outbox) -> None:
    """A turn that a newer run's card has made idle passes to what waits behind it."""
    assert box.put([owed(script, key=key) for key in "abcdef"])
    go, held = threading.Event(), itertools.count()

    def slowly(method: str, path: str, body: Any) -> tuple[int, Any]:
        if method == "DELETE" and next(held) < DEBTS_AT_ONCE:
            go.wait(60)
        return 200, script.fine(method)

    script.answer = slowly
    at.flush(0.0)  # which has the outbox looked at
    assert script.wait(DEBTS_AT_ONCE, "DELETE")
    with at.live_progress("c", key="c"), at.live_progress("d", key="d"):
        assert script.wait(2, "PUT")
        assert until(lambda: len(default_account().recovered) == 4)
        go.set()
        assert script.wait(4, "DELETE")
    assert at.flush(60)
    assert sorted(path.rpartition("/")[2] for _, path, _ in script.sent("DELETE")) == list("abcdef")
    assert is_drained(box)


def test_a_short_run_that_is_refused_leaves_the_older_end_owed(script: Script, box: Outbox) -> None:
    """So does one that is over before it could be shown."""
    assert box.put([owed(script)])
    script.answer = lambda method, path, body: (422, {}) if method == "PUT" else (200, script.fine(method))
    with pytest.raises(ValueError), at.live_progress("job", delay=60):
        raise ValueError
    assert script.wait(1, "DELETE")
    assert at.flush(60) is False  # the end of the short run is lost
    assert is_drained(box)


def test_waiting_for_another_process_leaves_the_copy_where_it_is(script: Script) -> None:
    """Nothing was sent, so that whoever has a copy still speaks for a process that is killed now."""

    def waits(seconds: float) -> None:
        raise EndUnderWay

    delivery = PushDelivery(default_dispatcher(), default_account(), {"title": "x"}, at_least_once=True)
    message = delivery.message
    entry = message.copy()
    assert entry is not None
    message.has_copy(entry, CopyOwner.WATCHDOG)
    with pytest.raises(EndUnderWay):
        attempt(delivery, waits)
    assert message.copy_owner is CopyOwner.WATCHDOG


def test_waiting_for_another_process_costs_nothing_of_the_rate(
    script: Script, box: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looks that send nothing are no requests, and an attempt that has failed is no obstacle."""
    monkeypatch.setattr(outbox_tables, "ATTEMPT_SECONDS", 600.0)
    entry = owed(script)
    another = Persistence(Runtime())
    another.place.directory = box.path().parent
    account = default_account()
    delivery: Any = Owed(account, entry)
    assert another.keep(delivery, entry)
    assert another.begin(delivery) is Hold.MINE
    with at.live_progress("job"):
        time.sleep(0.8)
        assert script.asked == []
        assert until(lambda: not requests_of_last_minute(account))
        another.over(delivery, sent=False)
        assert script.wait(1, "PUT")


def test_a_start_waits_for_an_end_that_another_process_sends(
    script: Script, box: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An end that is on its way at this moment would end the newer run's card."""
    monkeypatch.setattr(outbox_tables, "ATTEMPT_SECONDS", 600.0)
    entry = owed(script)
    assert box.put([entry], "another", 60)
    assert box.begin(entry.id, "another", 60) is Hold.MINE
    with at.live_progress("job"):
        time.sleep(0.8)
        assert script.asked == []
        assert box.delivered([entry.id])
        assert script.wait(1, "PUT")


def test_a_start_waits_for_an_end_that_this_process_sends(script: Script, box: Outbox) -> None:
    """The end that an earlier process owes the card is over before a newer run's state is sent."""
    assert box.put([owed(script)])
    go = threading.Event()

    def slowly(method: str, path: str, body: Any) -> tuple[int, Any]:
        if method == "DELETE":
            go.wait(60)
        return 200, script.fine(method)

    script.answer = slowly
    account = default_account()
    default_dispatcher().look_for_owed(account, again=True)
    assert script.wait(1, "DELETE")
    with at.live_progress("job", delay=0):
        time.sleep(0.5)
        assert methods(script) == ["DELETE"]
        go.set()
        assert script.wait(1, "PUT")
    assert at.flush(60)
    assert methods(script) == ["DELETE", "PUT", "DELETE"]


def test_short_runs_while_an_older_end_is_on_its_way(script: Script, box: Outbox) -> None:
    """Runs that begin and end while this process sends an older one's end keep each other waiting no longer."""
    assert box.put([owed(script)])
    go = threading.Event()

    def slowly(method: str, path: str, body: Any) -> tuple[int, Any]:
        if method == "DELETE":
            go.wait(60)
        return 200, script.fine(method)

    script.answer = slowly
    account = default_account()
    default_dispatcher().look_for_owed(account, again=True)
    assert script.wait(1, "DELETE")
    for _ in range(2):
        with at.live_progress("job"):
            time.sleep(0.1)
    go.set()
    assert at.flush(60)
    assert methods(script).count("PUT") == methods(script).count("DELETE") - 1


def test_what_is_being_sent_is_not_taken_away(box: Outbox) -> None:
    """An attempt of another process is waited for, for as long as one may take; one's own is not."""
    entry = Entry("end", "h", "http://localhost/api", {"content_state": {"title": "t"}}, time.time(), "job")
    assert box.put([entry], "another", 60)
    assert box.begin(entry.id, "another", 60) is Hold.MINE
    assert box.hold_back_ends("h", entry.base_url, "job", "newer", 60) is None
    assert list(box.hold_back_ends("h", entry.base_url, "job", "another", 60) or ()) == [entry.id]
    assert box.begin(entry.id, "another", 60) is Hold.MINE
    assert box.over(entry.id, "another")
    assert list(box.hold_back_ends("h", entry.base_url, "job", "newer", 60) or ()) == [entry.id]
    assert box.begin(entry.id, "another", 60) is not Hold.MINE
    assert box.begin(entry.id, "newer", 60) is Hold.MINE
    later = Outbox(box.path().parent, clock=lambda: time.time() + 10)
    assert list(later.hold_back_ends("h", entry.base_url, "job", "newest", 60) or ()) == [entry.id]


def test_what_the_exit_left_on_its_way_is_waited_for(box: Outbox) -> None:
    """The end that a process had sent when it left may yet arrive, and would end a newer run's card."""
    entry = Entry("end", "h", "http://localhost/api", {"content_state": {"title": "t"}}, time.time(), "job")
    assert box.leave([entry], [(entry.id, "older")], [entry.id])
    assert box.hold_back_ends("h", entry.base_url, "job", "newer", 60) is None
    later = Outbox(box.path().parent, clock=lambda: time.time() + 10)
    assert list(later.hold_back_ends("h", entry.base_url, "job", "newer", 60) or ()) == [entry.id]


def test_what_was_released_is_taken_again(box: Outbox) -> None:
    """What a process has left to others and goes on trying after all is its own again, until another one has it."""
    entry = Entry("push", "h", "http://localhost/api", {"title": "t"}, time.time())
    assert box.put([entry], "mine", 60)
    assert box.release([entry.id], "mine")
    assert box.begin(entry.id, "mine", 60) is Hold.MINE
    assert box.begin(entry.id, "another", 60) is not Hold.MINE


# ------------------------------------------------------------------- what comes late from a process that is gone


@pytest.fixture
def soon_confirmed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A card that an earlier run may yet touch is looked after half a second later."""
    wait = 0.5 - Runtime.attempt_seconds
    monkeypatch.setattr("activitysmith_track.delivery.unanswered.STRAGGLER_SECONDS", wait)


@pytest.mark.usefixtures("soon_confirmed")
def test_a_card_that_something_late_has_ended_is_shown_again() -> None:
    """A run that takes a card over makes sure that nothing of the run before has ended it meanwhile."""
    with PatientSimulator() as sim, ActivitySmith(sim.api_key, base_url=sim.base_url) as older:
        older.live_activities.stream("job", title="job", type="progress", percentage=50)
        with at.override(api_key=sim.api_key, base_url=sim.base_url), at.live_progress("job"):
            assert sim.wait_for(lambda phone: phone.cards["job"].percentage == 0)
            older.live_activities.end_stream("job", title="job", type="progress", percentage=50, color="red")
            assert sim.wait_for(lambda phone: not phone.cards["job"].ended)
            assert sim.cards["job"].percentage == 0
            assert at.flush(60)


@pytest.mark.usefixtures("soon_confirmed")
def test_what_is_refused_is_not_confirmed_again(script: Script) -> None:
    """The service may refuse to be shown the same once more; that is asked once."""
    answers = iter([(200, {"success": True, "operation": "updated"})])
    script.answer = lambda method, path, body: (
        next(answers, (403, {})) if method == "PUT" else (200, script.fine(method))
    )
    with at.live_progress("job"):
        assert script.wait(2, "PUT")
        time.sleep(0.5)  # only time tells that no third one follows
        assert len(script.sent("PUT")) == 2
    assert at.flush(60)


@pytest.mark.usefixtures("soon_confirmed")
def test_a_late_end_that_is_being_sent_is_waited_for(
    script: Script, box: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The card is shown once more when an older run's end is through that was stored after it began."""
    monkeypatch.setattr(outbox_tables, "ATTEMPT_SECONDS", 600.0)
    script.answer = lambda method, path, body: (200, {"success": True, "operation": "updated"})
    with at.live_progress("job"):
        assert script.wait(1, "PUT")
        entry = owed(script)
        assert box.put([entry], "another", 60)
        assert box.begin(entry.id, "another", 60) is Hold.MINE
        time.sleep(0.8)  # only time tells that it is not shown once more while that goes on
        assert len(script.sent("PUT")) == 1
        assert box.over(entry.id, "another")
        assert script.wait(2, "PUT")
        assert until(lambda: is_drained(box))
    assert at.flush(60)


# -------------------------------------------------------------------------------------------------- the watchdog


def test_what_a_dead_watchdog_had_is_kept(box: Outbox) -> None:
    """What was handed to a watchdog that nobody can talk to any more is written to the disk at the exit."""

    class Dead:
        alive = False

        def leases(self, *told: str) -> None:
            return

        def begin_close(self, timeout: float) -> Callable[[float], bool]:
            return lambda timeout: False

    keeper = Persistence(Runtime())
    keeper.place.directory = box.path().parent
    use_watchdog(keeper, Dead())
    entry = Entry("push", "h", "http://localhost/api", {"title": "t"}, time.time())
    account = Account("key", entry.base_url, Runtime())
    assert leave(keeper, Owed(account, entry, CopyOwner.WATCHDOG))
    assert [each.id for each in box.claim("h", entry.base_url, "next", time.time(), 60)] == [entry.id]


# ------------------------------------------------------------------------------------------------- at most once


def pushes(script: Script, answers: list[int], go: threading.Event) -> None:
    """Answer pushes so, and each later one when told."""
    left = iter(answers)

    def answer(method: str, path: str, body: Any) -> tuple[int, Any]:
        if method != "POST":
            return 200, script.fine(method)
        status = next(left, None)
        if status is None:
            go.wait(60)
        return status or 200, script.fine(method)

    script.answer = answer


def test_a_push_that_may_have_arrived_is_left_to_nobody(script: Script, box: Outbox) -> None:
    """A push of a success whose second attempt is on its way when the process is stopped may not come twice."""
    go = threading.Event()
    pushes(script, [429], go)
    with at.notify("note", on="success"):
        pass
    assert script.wait(2, "POST")
    at.configure(exit_timeout=0.1)
    try:
        default_dispatcher().stop("stopped")
        next_one = Outbox(box.path().parent, clock=lambda: time.time() + 1000)
        assert next_one.claim(fingerprint("script-key"), script.url, "next", time.time() + 1000, 60) == []
    finally:
        at.configure(exit_timeout=2)
        go.set()
    assert at.flush(60)
    assert len(script.sent("POST")) == 2


def test_a_lease_that_ran_out_makes_no_second_push(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    """What this process is delivering is not claimed by it once more."""
    monkeypatch.setattr("activitysmith_track.delivery.leases.Leases.seconds", -1.0)
    pushes(script, [429, 200, 200], threading.Event())
    with at.notify("note", on="success"):
        pass
    assert script.wait(1, "POST")
    at.flush(0.3)
    assert at.flush(60)
    assert len(script.sent("POST")) == 2
