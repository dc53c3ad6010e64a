"""What the dispatcher sends, in which order, and what it never does to the job."""

from __future__ import annotations

import json
import logging
import signal
import threading
from collections.abc import Iterator
from typing import Any

import internals
import pytest
from internals import default_dispatcher
from patience import PATIENCE, PatientSimulator
from scripted import Script, state

import activitysmith_track as at
from activitysmith_track.delivery.account import Account, Urgency
from activitysmith_track.delivery.dispatcher import Dispatcher
from activitysmith_track.delivery.runtime import Runtime
from activitysmith_track.delivery.scheduler import Scheduler
from activitysmith_track.delivery.state import ActivityState
from activitysmith_track.errors import RateLimited
from activitysmith_track.simulator import Simulator


@pytest.fixture
def script() -> Iterator[Script]:
    """A scripted service that the library is configured for."""
    made = Script()
    with at.override(api_key="script-key", base_url=made.url):
        yield made
        made.answer = lambda method, path, body: (200, made.fine(method))
        assert at.flush(60), "what the test has sent was not delivered"
    made.close()


def test_threads_are_few_and_daemons(phone: Simulator) -> None:
    """However many handles there are, a lane and two crews serve them, and nothing keeps the interpreter alive."""
    before = set(threading.enumerate())
    handles = [at.live_progress(f"job {number}", key=f"k{number}") for number in range(9)]
    for handle in handles:
        handle.__enter__()
    assert phone.wait_for(lambda sim: len(sim.cards) == 4)
    for handle in reversed(handles):
        handle.__exit__(None, None, None)
    assert at.flush(60)
    ours = set(threading.enumerate()) - before
    crews = {f"activitysmith-{crew}-{number}" for crew in ("updates", "ends") for number in range(1, 5)}
    assert {thread.name for thread in ours} <= {"activitysmith-dispatcher"} | crews
    assert all(thread.daemon for thread in ours)


def test_the_latest_state_wins(script: Script) -> None:
    """While one request is on its way a thousand changes become one."""
    gate = threading.Event()

    def slow(method: str, path: str, body: Any) -> tuple[int, Any]:
        if len(script.sent("PUT")) == 1:
            gate.wait(60)
        return 200, script.fine(method)

    script.answer = slow
    with at.live_progress("job", total=1000) as p:
        assert script.wait(1)
        for _ in range(500):
            p.advance()
        gate.set()
        assert script.wait(2)
        assert state(script.asked[1])["percentage"] == 50
        assert len(script.asked) == 2


def test_nothing_to_say_nothing_sent(phone: Simulator) -> None:
    """The same visible state is sent once, however often it is set."""
    with at.live_value("job") as v:
        v.set("3 %")
        assert phone.wait_for(lambda sim: "job" in sim.cards)
        for _ in range(20):
            v.set("3 %")
    assert at.flush(60)
    with at.live_progress("other", total=10**6) as p:
        assert phone.wait_for(lambda sim: "other" in sim.cards)
        for _ in range(100):
            p.advance()
    assert at.flush(60)
    assert [request.method for request in phone.requests] == ["PUT", "DELETE"] * 2


def test_a_hanging_update_holds_up_no_end_and_no_push(script: Script) -> None:
    """Ends and pushes have a lane of their own."""
    gate = threading.Event()

    def hang(method: str, path: str, body: Any) -> tuple[int, Any]:
        if method == "PUT" and "slow" in path:
            gate.wait(60)
        return 200, script.fine(method)

    with at.live_progress("quick"):
        assert script.wait(1)
        script.answer = hang
        with at.live_progress("slow", key="slow"):
            assert script.wait(2, "PUT")
            with pytest.raises(ValueError), at.notify("note"):
                raise ValueError
            assert script.wait(1, "POST")
            gate_open_before = gate.is_set()
        at.current().finish()
        assert script.wait(1, "DELETE")
        assert not gate_open_before
    gate.set()
    assert at.flush(60)


def test_an_update_that_lands_after_the_end_does_not_wake_the_card(
    script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where an update was still on its way when the end was sent, the end is sent once more after it."""
    monkeypatch.setattr("activitysmith_track.delivery.end_delivery.OVERTAKE_SECONDS", 0.05)
    gate = threading.Event()

    def hang(method: str, path: str, body: Any) -> tuple[int, Any]:
        if len(script.sent("PUT")) == 2 and method == "PUT":
            gate.wait(60)
        return 200, script.fine(method)

    script.answer = hang
    with at.live_progress("job") as p:
        assert at.flush(60)
        p.update(subtitle="more", important=True)
        assert script.wait(2, "PUT")
    assert script.wait(1, "DELETE")
    gate.set()
    assert script.wait(2, "DELETE")
    assert at.flush(60)
    assert [request[0] for request in script.asked] == ["PUT", "PUT", "DELETE", "DELETE"]


def test_an_end_waits_for_a_slow_start(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the card's start there is nothing to end."""
    monkeypatch.setattr("activitysmith_track.delivery.end_delivery.OVERTAKE_SECONDS", 0.01)
    gate = threading.Event()

    def hang(method: str, path: str, body: Any) -> tuple[int, Any]:
        if method == "PUT":
            gate.wait(60)
        return 200, script.fine(method)

    script.answer = hang
    with at.live_progress("job"):
        assert script.wait(1, "PUT")
    assert not at.flush(0.3)
    assert script.sent("DELETE") == []
    gate.set()
    assert at.flush(60)
    assert [request[0] for request in script.asked] == ["PUT", "DELETE"]


def test_a_new_run_waits_for_the_end_of_the_older(phone: Simulator) -> None:
    """Runs of one name take turns on one card, in their order; the one in between may be skipped."""
    for number in range(5):
        with at.live_value("job") as v:
            v.set(number)
    assert at.flush(60)
    assert phone.cards["job"].value == 4
    assert phone.cards["job"].ended
    values = [request.body["content_state"]["value"] for request in phone.requests if request.body]
    assert values == sorted(values)


def test_four_slots(phone: Simulator) -> None:
    """The fifth waits its turn, and then shows the state of that moment."""
    handles = [at.live_progress(f"j{number}", key=f"j{number}", total=10) for number in range(5)]
    for handle in handles[:4]:
        handle.__enter__()
    assert phone.wait_for(lambda sim: len(sim.cards) == 4)
    handles[4].__enter__()
    handles[4].advance(7)
    handles[0].finish()
    assert phone.wait_for(lambda sim: "j4" in sim.cards)
    assert phone.cards["j4"].history[0][1]["percentage"] == 70
    assert {request.status for request in phone.requests} == {200}
    for handle in reversed(handles):
        handle.__exit__(None, None, None)
    assert at.flush(60)


def test_the_limit_comes_from_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the account has fewer slots, the dispatcher learns it and waits; nothing is lost."""
    monkeypatch.setattr("activitysmith_track.delivery.account.SLOT_RETRY", 0.2)
    with PatientSimulator(slots=1) as sim, at.override(api_key=sim.api_key, base_url=sim.base_url):
        with at.live_progress("a", key="a"):
            assert sim.wait_for(lambda phone: "a" in phone.cards)
            with at.live_progress("b", key="b") as b:
                assert sim.wait_for(lambda phone: phone.requests[-1].status == 429)
                at.current().finish()
                del b
        assert at.flush(60)
        assert sim.cards["a"].ended


class Clock:
    """A clock that a test moves by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_account_rate() -> None:
    """No more than sixty requests in any minute, of which ten are left to ends and pushes."""
    clock = Clock()
    account = Account("key", "http://localhost:1", Runtime(clock))
    sent: list[float] = []
    for _ in range(200):
        clock.now = max(clock.now, account.open_at(clock.now, Urgency.UPDATE))
        account.note_request(clock.now)
        sent.append(clock.now)
        if clock.now == 0 and len(sent) == 50:
            assert account.open_at(clock.now, Urgency.UPDATE) == 60
            assert account.open_at(clock.now, Urgency.END) == 0
            assert account.open_at(clock.now, Urgency.DEBT) == 60
    assert all(later - earlier >= 60 for earlier, later in zip(sent, sent[50:], strict=False))
    assert account.rate_limited(clock.now, RateLimited(429, {}, retry_after=7)) == clock.now + 7
    assert account.open_at(clock.now, Urgency.END) >= clock.now + 7
    at_once = RateLimited(429, {}, retry_after=0)  # which would use up the minute's rate in a moment
    clock.now += 20
    account.answered()
    assert account.rate_limited(clock.now, at_once) == clock.now + 1
    assert account.rate_limited(clock.now, at_once) == clock.now + 1, "both were sent before the first was answered"
    clock.now += 1
    assert account.rate_limited(clock.now, at_once) > clock.now + 1, "the second in a row"
    account.answered()
    clock.now += 60
    assert account.rate_limited(clock.now, at_once) == clock.now + 1
    account.close()


def test_retry_after_is_honoured(script: Script) -> None:
    """After a 429 nothing is sent before its time, and then the latest state is."""
    times: list[float] = []
    clock = default_dispatcher().clock
    moved = threading.Event()

    def limited(method: str, path: str, body: Any) -> tuple[int, Any]:
        times.append(clock())
        if len(times) == 1:
            moved.wait(PATIENCE)
            return 429, {"error": "Rate limit exceeded"}
        return 200, script.fine(method)

    script.answer = limited
    with at.live_progress("job", total=10) as p:
        assert script.wait(1)
        p.advance(3)
        moved.set()
        assert script.wait(2)
    assert times[1] - times[0] >= 1
    assert state(script.asked[1])["percentage"] == 30


@pytest.mark.parametrize("status", [500, 503])
def test_updates_are_tried_again_with_the_latest_state(
    script: Script, status: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A failure that may pass is tried again with what is true by then, told once, and raised never."""
    monkeypatch.setattr("activitysmith_track.delivery.runtime.Runtime.backoff", lambda self, failures: 0.01)
    moved = threading.Event()

    def failing(method: str, path: str, body: Any) -> tuple[int, Any]:
        if len(script.asked) == 2:
            moved.wait(PATIENCE)
        return (status, {}) if len(script.asked) < 4 else (200, script.fine(method))

    script.answer = failing
    with at.live_progress("job", total=10) as p:
        assert script.wait(2)
        p.advance(4)
        moved.set()
        assert script.wait(4)
    assert at.flush(60)
    assert state(script.asked[3])["percentage"] == 40
    assert len([record for record in caplog.records if "could not deliver an update" in record.message]) <= 1


def test_what_is_refused_for_good_is_not_tried_again(script: Script) -> None:
    """A 401 ends it for this card: no further request, and the job runs on."""
    script.answer = lambda method, path, body: (401, {})
    with at.live_progress("job", total=10) as p:
        assert script.wait(1)
        at.flush(1)
        p.advance(5)
        p.update(important=True)
    assert not at.flush(2) or len(script.asked) == 1
    assert len(script.asked) == 1


def test_failure_pushes_are_at_least_once(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    """The push of a failure is sent until it is answered; that of a success only once where it may have arrived."""
    monkeypatch.setattr("activitysmith_track.delivery.runtime.Runtime.backoff", lambda self, failures: 0.01)
    monkeypatch.setattr("activitysmith_track.delivery.echoes.Echoes.seconds", 0.0)
    script.answer = lambda method, path, body: (
        (503, {}) if len(script.sent("POST")) < 3 else (200, script.fine(method))
    )
    with pytest.raises(ValueError), at.notify("note"):
        raise ValueError
    assert at.flush(60)
    assert len(script.sent("POST")) == 3
    script.asked.clear()
    script.answer = lambda method, path, body: (503, {})
    with at.notify("note", on="success"):
        pass
    assert not at.flush(60)
    assert len(script.sent("POST")) == 1


def test_ends_are_tried_again(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    """An end is sent until it is answered."""
    monkeypatch.setattr("activitysmith_track.delivery.runtime.Runtime.backoff", lambda self, failures: 0.01)
    script.answer = lambda method, path, body: (
        (503, {}) if method == "DELETE" and len(script.sent("DELETE")) < 3 else (200, script.fine(method))
    )
    with at.live_progress("job"):
        pass
    assert at.flush(60)
    assert len(script.sent("DELETE")) == 3


def test_flush_tells_the_truth(script: Script) -> None:
    """`flush` is False while something is owed, and after something was refused, and True otherwise."""
    gate = threading.Event()

    def slow(method: str, path: str, body: Any) -> tuple[int, Any]:
        gate.wait(60)
        return 200, script.fine(method)

    script.answer = slow
    with at.live_progress("job"):
        pass
    assert not at.flush(0.05)
    gate.set()
    assert at.flush(60)
    script.answer = lambda method, path, body: (400, {"error": "no"}) if method == "POST" else (200, {})
    with at.notify("note", on="success"):
        pass
    assert not at.flush(60)
    assert at.flush(60)


def test_a_warning_quietens(script: Script, caplog: pytest.LogCaptureFixture) -> None:
    """After a warning of the service no update is sent for a while; the end is."""
    script.answer = lambda method, path, body: (200, {**script.fine(method), "warning": "too many"})
    with at.live_steps("job", steps=["a", "b"]) as s:
        assert script.wait(1)
        assert at.flush(60)
        s.step("b")
    assert at.flush(60)
    assert [request[0] for request in script.asked] == ["PUT", "DELETE"]
    assert "too many" in caplog.text


def test_the_key_is_in_no_log(script: Script, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever is logged, the key is not."""
    caplog.set_level(logging.DEBUG)
    script.answer = lambda method, path, body: (401, {"error": "no"})
    with pytest.raises(ValueError), at.live_progress("job"):
        raise ValueError("the key is script-key")
    at.flush(60)
    assert "script-key" not in caplog.text
    assert "script-key" not in json.dumps(script.asked)


def test_handles_may_be_used_in_signal_handlers(phone: Simulator) -> None:
    """A signal handler may advance, step and end, whatever it interrupts."""
    with at.live_progress("job", total=10**6) as p:

        def handler(*_: object) -> None:
            p.advance()
            p.update(subtitle="signal", important=True)
            with at.live_progress("inner", key="inner"):
                pass

        before = signal.signal(signal.SIGUSR1, handler)
        try:
            for number in range(2_000):
                p.update(subtitle=str(number), important=number % 100 == 0)
                if number % 50 == 0:
                    signal.raise_signal(signal.SIGUSR1)
        finally:
            signal.signal(signal.SIGUSR1, before)
        assert p.completed == 40
    assert at.flush(60)


def test_what_cannot_be_imported_any_more_is_owed(
    script: Script, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A module that the leaving interpreter refuses makes a failed delivery, which is tried again."""
    monkeypatch.setattr("activitysmith_track.delivery.runtime.Runtime.backoff", lambda self, failures: 0.01)
    refusals = iter([RuntimeError("can't register atexit after shutdown")] * 3)

    def load() -> None:
        for refusal in refusals:
            raise refusal

    monkeypatch.setattr("activitysmith_track.delivery.transport.load", load)
    with at.live_progress("job"):
        pass
    assert at.flush(60)
    assert [method for method, _, _ in script.asked][-1] == "DELETE"
    assert "cannot be imported" in caplog.text


def test_a_lane_forgets_times_that_were_replaced() -> None:
    """A task that is put off again and again stands once in what the lane remembers."""

    class Idle:
        def run(self, now: float) -> float | None:
            return None

        def give_up(self) -> None:
            return

    clock = Clock()
    lane, tasks, order = Scheduler("test", clock), [Idle() for _ in range(3)], []
    for number, task in enumerate(tasks):
        task.run = lambda now, number=number: order.append((number, now))  # type: ignore[method-assign, misc]
    for later in range(10_000):
        lane.schedule(tasks[later % 3], 1e6 - later)
    assert internals.planned(lane) < 100
    clock.now = 1e6
    lane.run_due()
    assert [number for number, _ in order] == [0, 2, 1]  # the last times that were said


class Still:
    """A source that never changes."""

    def snapshot(self) -> ActivityState:
        return ActivityState({"content_state": {"title": "x", "type": "value", "value": 1}})

    def rest(self) -> float | None:
        return None

    def abandon(self) -> None:
        return


def test_a_forked_child_starts_afresh() -> None:
    """After a fork nothing of the parent's is left to send, and its cards are dead."""
    dispatcher = Dispatcher(lambda: 0.0)
    account = dispatcher.account("key", "http://localhost:1")
    card = dispatcher.open(account, "job", Still(), delay=99)
    dispatcher.after_fork()
    assert card.is_inherited
    card.wake()
    assert dispatcher.flush(0)
    assert dispatcher.account("key", "http://localhost:1") is not account


def test_an_internal_error_is_told_and_owes_nothing(phone: Simulator, caplog: pytest.LogCaptureFixture) -> None:
    """A fault of our own is logged, the card is ended, and nothing is waited for."""
    with at.live_progress("job") as p:
        assert phone.wait_for(lambda sim: "job" in sim.cards)
        internals.cannot_be_shown(p)
        p.update(important=True)
    assert at.flush(60)
    assert "internal error" in caplog.text
    assert phone.cards["job"].ended


def test_a_million_changes_are_one_wake_up(script: Script) -> None:
    """While a request hangs, changes pile up nowhere."""
    gate = threading.Event()

    def hang(method: str, path: str, body: Any) -> tuple[int, Any]:
        gate.wait(60)
        return 200, script.fine(method)

    script.answer = hang
    lane = default_dispatcher().scheduler
    with at.live_progress("job", total=10**6) as p:
        assert script.wait(1)
        for number in range(10_000):
            p.update(color="orange", subtitle=str(number))
            p.advance()
        assert internals.handed_in(lane) <= 1
        gate.set()
    assert at.flush(60)


def test_no_account_is_made_in_vain(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a signal handler raises while Python finalizes an object is lost, so none is made to be thrown away."""
    made: list[tuple[Any, ...]] = []
    monkeypatch.setattr(
        "activitysmith_track.delivery.accounts.Account", lambda *given: made.append(given) or Account(*given)
    )
    dispatcher = default_dispatcher()
    assert dispatcher.account("key", "http://localhost:1") is dispatcher.account("key", "http://localhost:1")
    assert len(made) == 1
