"""What is owed reaches the phone: through the outbox, the watchdog, signals; and what stands still is told."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from internals import (
    FOR_JOBS,
    default_account,
    default_dispatcher,
    fingerprint,
    has_started,
    name_in_leases,
    watchdog_of,
    when_entrusted,
)
from jobs import Job
from owed import Owed, is_drained, leave
from patience import PATIENCE, is_gone, until

import activitysmith_track as at
from activitysmith_track.delivery.account import Account
from activitysmith_track.delivery.dispatcher import Dispatcher
from activitysmith_track.delivery.entries import Entry
from activitysmith_track.delivery.outbox import Outbox
from activitysmith_track.delivery.persistence import Persistence
from activitysmith_track.delivery.push_delivery import PushDelivery
from activitysmith_track.delivery.runtime import Runtime
from activitysmith_track.delivery.shutdown import Shutdown
from activitysmith_track.delivery.state import Hold
from activitysmith_track.errors import InvalidRequest
from activitysmith_track.simulator import Simulator
from activitysmith_track.testing import Phone, capture

WITHOUT_GOODBYE = "Process gone: killed, crashed or out of memory"


def kept(job: Job) -> list[Path]:
    """Return the files in the state directory."""
    return [path for path in job.state.rglob("*") if path.is_file()]


# ------------------------------------------------------------------------------------------------------- outbox

FAILS = """
    with at.live_progress("nightly", total=100) as p:
        p.advance(42)
        say("running")
        sys.stdin.readline()
        raise ValueError("no disk")
"""


def test_all_goes_well_and_nothing_is_written(job: Job) -> None:
    """A job that delivers everything leaves no trace on disk, and loads no database."""
    done = job.run(
        "before = 'sqlite3' in sys.modules  # coverage has it\nwith at.live_progress('nightly'):\n    pass\n"
        "at.flush(60)\nassert ('sqlite3' in sys.modules) == before, 'sqlite3'"
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert kept(job) == []


@pytest.mark.parametrize("kind", ["status", "refuse", "reset", "hang"])
def test_what_an_exit_could_not_deliver_comes_later(job: Job, kind: str) -> None:
    """The end and the push of a failure are kept on disk, and delivered by the next process, with what happened."""
    process = job.begin(FAILS)
    assert job.sim.wait_for(lambda sim: "nightly" in sim.cards)
    more = {"status": 503} if kind == "status" else {"seconds": 60} if kind == "refuse" else {}
    with job.sim.fault(kind, **more):
        _, error = process.communicate("\n", timeout=PATIENCE)
        assert process.returncode == 1
        assert "ValueError" in error  # the log of other threads may stand between its words
        assert "no disk" in error
        assert not job.sim.cards["nightly"].ended
        assert len(kept(job)) == 1
    assert job.flush().returncode == 0
    card = job.sim.cards["nightly"]
    assert (card.ended, card.color, card.percentage) == (True, "red", 42)
    (push,) = job.sim.pushes
    assert "ValueError: no disk" in (push.message or "")
    assert job.sim.api_key.encode() not in b"".join(path.read_bytes() for path in kept(job))
    assert job.flush().returncode == 0
    assert len(job.sim.pushes) == 1


def test_a_newer_run_cancels_the_owed_end(job: Job) -> None:
    """The card that a new run shows is not ended by what the old one owed; its push still comes."""
    process = job.begin(FAILS)
    assert job.sim.wait_for(lambda sim: "nightly" in sim.cards)
    with job.sim.fault("status", status=503):
        process.communicate("\n", timeout=PATIENCE)
    done = job.run(
        "with at.live_progress('nightly', total=10) as p:\n    p.advance(10)\n    at.flush(60)\nassert at.flush(60)"
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert job.flush().returncode == 0
    assert (job.sim.cards["nightly"].color, job.sim.cards["nightly"].ended) == ("green", True)
    ends = [request for request in job.sim.requests if request.method == "DELETE" and request.status == 200]
    assert {request.body["content_state"]["color"] for request in ends if request.body} == {"green"}
    assert len(job.sim.pushes) == 1


def test_the_process_itself_delivers_when_the_service_is_back(
    sim: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What failed at first is kept meanwhile, delivered once, and forgotten."""
    monkeypatch.setattr("activitysmith_track.delivery.runtime.Runtime.backoff", lambda self, failures: 0.05)
    box = tmp_path / "box"
    with at.override(api_key=sim.api_key, base_url=sim.base_url, outbox=box):
        with sim.fault("status", status=503) as fault:
            with pytest.raises(ValueError), at.live_progress("job"):
                assert sim.wait_for(lambda phone: phone.requests)
                raise ValueError
            assert until(lambda: fault.hits >= 3 and box.exists())
        assert at.flush(60)
    assert sim.cards["job"].ended
    assert len(sim.pushes) == 1
    assert is_drained(Outbox(box))


@pytest.mark.parametrize("place", ["/proc/no/such", "file", False])
def test_without_a_place_to_keep_it(
    sim: Simulator, tmp_path: Path, place: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that takes nothing costs a line in the log, never the job or the delivery."""
    monkeypatch.setattr("activitysmith_track.delivery.runtime.Runtime.backoff", lambda self, failures: 0.05)
    if place == "file":
        (tmp_path / "file").write_text("not a directory")
        place = tmp_path / "file"
    with at.override(api_key=sim.api_key, base_url=sim.base_url, outbox=place):
        with sim.fault("status", status=503) as fault:
            with pytest.raises(ValueError), at.live_progress("job"):
                raise ValueError
            assert until(lambda: fault.hits >= 4)
        assert at.flush(60)
    assert len(sim.pushes) == 1
    told = [record.getMessage() for record in caplog.records if "outbox" in record.getMessage()]
    assert len(told) == len(set(told)) <= 2


@pytest.mark.parametrize("setting", [{"outbox": 3}, {"outbox": ""}, {"watchdog": "on"}, {"signals": 2}])
def test_settings_are_checked(setting: dict[str, Any]) -> None:
    """What cannot be a setting is refused where it is set."""
    with pytest.raises(InvalidRequest):
        at.configure(**setting)


@pytest.mark.parametrize("way", ["script", "module", "cleared"])
def test_ctrl_c_ends_the_process_as_it_would_without_us(job: Job, tmp_path: Path, way: str) -> None:
    """A program dies of SIGINT although the exit imports modules, which makes CPython forget it."""
    (tmp_path / "task.py").write_text(
        "import sys, activitysmith_track as at\n"
        "def task():\n    with at.live_progress('task'):\n        raise KeyboardInterrupt\n"
        "try:\n    task()\nexcept KeyboardInterrupt:\n    if 'cleared' not in sys.argv:\n        raise\n"
    )
    command = ["-m", "task"] if way == "module" else [str(tmp_path / "task.py"), way]
    codes = []
    with job.sim.fault("status", status=503):
        for switch in ("on", "off"):
            environment = {"ACTIVITYSMITH_API_KEY": job.sim.api_key, "ACTIVITYSMITH_BASE_URL": job.sim.base_url}
            environment |= {"XDG_STATE_HOME": str(job.state), "ACTIVITYSMITH_TRACK": switch}
            environment |= {"PYTHONSAFEPATH": ""}  # `-m` finds the module in its directory
            done = subprocess.run(
                [sys.executable, *command],
                cwd=tmp_path,
                env={**os.environ, **environment},
                stderr=subprocess.PIPE,
                timeout=PATIENCE,
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
            )
            codes.append(done.returncode)
    assert codes[0] == codes[1]
    if way == "script":
        assert codes[0] == -signal.SIGINT
    assert len(kept(job)) == 1


def test_an_import_that_goes_on_at_the_exit_forgets_no_ctrl_c(job: Job, tmp_path: Path) -> None:
    """A thread of ours that still imports what sending needs would have CPython forget what ended the program."""
    (tmp_path / "task.py").write_text(
        FOR_JOBS
        + textwrap.dedent("""
            import atexit, sys, threading, time
            begun, done = threading.Event(), threading.Event()
            atexit.register(done.wait, 60)  # after ours
            import activitysmith_track as at
            from activitysmith_track.delivery import interpreter
            interpreter.MAKING_SECONDS = 60
            class Slow:
                def find_spec(self, name, *_):
                    if name == "httpx":
                        begun.set()
                        time.sleep(3)
                        exec("pass")  # as modules with a dataclass in them do
                        done.set()
            sys.meta_path.insert(0, Slow())
            at.configure(watchdog=True, exit_timeout=0)
            with at.live_progress("job"):
                assert begun.wait(60)
                assert watchdog().start(60)
                raise KeyboardInterrupt
        """)
    )
    environment = {"ACTIVITYSMITH_API_KEY": job.sim.api_key, "ACTIVITYSMITH_BASE_URL": job.sim.base_url}
    done = subprocess.run(
        [sys.executable, str(tmp_path / "task.py")],
        env={**os.environ, **environment, "XDG_STATE_HOME": str(job.state)},
        stderr=subprocess.PIPE,
        timeout=PATIENCE,
    )
    assert done.returncode == -signal.SIGINT, done.stderr


@pytest.mark.parametrize("order", ["leave first", "keep first"])
def test_an_attempt_that_fails_while_the_process_leaves(sim: Simulator, tmp_path: Path, order: str) -> None:
    """What two threads keep at the same time is kept once, and a next process may take it at once."""
    dispatcher = default_dispatcher()
    account = dispatcher.account(sim.api_key, sim.base_url)
    dispatcher.persistence.place.directory = tmp_path / "box"
    delivery = PushDelivery(dispatcher, account, {"title": "job failed"}, at_least_once=True)
    message = delivery.message
    one, other = message.copy(), message.copy()
    assert one is not None
    assert other is not None
    if order == "leave first":
        assert leave(dispatcher.persistence, message)
        assert dispatcher.persistence.keep(message, other)
    else:
        assert dispatcher.persistence.keep(Owed(account, other), other)  # type: ignore[arg-type]
        assert leave(dispatcher.persistence, message)
    dispatcher.after_fork()  # as a next process would begin
    dispatcher.persistence.place.directory = tmp_path / "box"
    assert [entry.id for entry in dispatcher.persistence.claim(account.key).entries] == [message.id]


@pytest.mark.parametrize("where", ["handle.Provider.abandon", "states.StateBuilder.end"])
@pytest.mark.parametrize("threads", [True, False])
def test_ctrl_c_at_the_beginning_of_the_exit(job: Job, tmp_path: Path, where: str, threads: bool) -> None:
    """The exit does not wait any longer, and the ends of all open cards are kept."""
    code = f"""
        at.configure(outbox={str(tmp_path / "box")!r}, exit_timeout=3_600)
        start = threading.Thread.start
        def refuse(thread):
            if thread.name.startswith("activitysmith-"):
                raise RuntimeError("can't start new thread")
            start(thread)
        if not {threads}:
            threading.Thread.start = refuse
        first, second = jobs = [at.live_progress(name, key=name, total=10) for name in "ab"]
        for each in jobs:
            each.__enter__()
        from activitysmith_track.blocks import handle, states
        as_it_is, interrupts = {where}, [KeyboardInterrupt]
        def interrupted(*arguments):
            if interrupts:
                raise interrupts.pop()
            return as_it_is(*arguments)
        {where} = interrupted
    """
    with job.sim.fault("status", status=503):
        done = job.run(code)
    assert done.returncode == 0, done.stderr
    entries = Outbox(tmp_path / "box").claim(fingerprint(job.sim.api_key), job.sim.base_url, "next", time.time(), 60)
    assert {entry.stream_key: entry.kind for entry in entries} == {"a": "end", "b": "end"}


def test_the_lane_waits_for_no_disk(sim: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a newer run has replaced is taken out of the file by a thread that may wait for it."""
    forgotten: list[str] = []
    delivered = Outbox.delivered

    def noted(box: Outbox, ids: Any) -> None:
        forgotten.append(threading.current_thread().name)
        delivered(box, ids)

    monkeypatch.setattr(Outbox, "delivered", noted)
    body = {"content_state": {"title": "job", "type": "progress", "percentage": 3}}
    with at.override(api_key=sim.api_key, base_url=sim.base_url, outbox=tmp_path / "box"):
        entry = Entry("end", fingerprint(sim.api_key), sim.base_url, body, time.time(), "job")
        with at.live_progress("job", total=10):
            assert at.flush(60)
            dispatcher, account = default_dispatcher(), default_account()
            assert Outbox(tmp_path / "box").put([entry])
            dispatcher.look_for_owed(account, again=True)
            assert until(lambda: forgotten)
            assert at.flush(60)
            assert not sim.cards["job"].ended
    assert {name.rpartition("-")[0] for name in forgotten} == {"activitysmith-ends"}
    assert is_drained(Outbox(tmp_path / "box"))


# ----------------------------------------------------------------------------------------------------- watchdog

LIVES = """
    at.configure(watchdog=True, exit_timeout=60)
    at.delivery.shutdown.FAREWELL_SECONDS = 60
    with at.live_progress("train", total=100) as p:
        p.advance(30)
        p.update(important=True)
        assert at.flush(60)
        assert watchdog().start(180)
        say("running")
        sys.stdin.readline()
        {death}
"""


@pytest.mark.parametrize(
    "death",
    ["os.kill(os.getpid(), signal.SIGKILL)", "os._exit(0)", "import ctypes; ctypes.string_at(0)", "os.abort()"],
)
def test_a_death_is_told(job: Job, death: str) -> None:
    """Whatever kills the job, its card ends red where it stood, and one push tells it."""
    process = job.begin(LIVES.format(death=death))
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()
    assert job.sim.wait_for(lambda sim: sim.cards["train"].ended and sim.pushes)
    card = job.sim.cards["train"]
    assert (card.color, card.percentage, card.subtitle) == ("red", 30, WITHOUT_GOODBYE)
    (push,) = job.sim.pushes
    assert push.title == "train failed"
    assert "Last seen at 30 % on" in (push.message or "")


def test_a_good_end_with_a_watchdog(job: Job) -> None:
    """A job that ends in order ends green, without a push, and leaves no process."""
    done = job.run(LIVES.format(death="say(str(watchdog().pid))"), PYTHONUNBUFFERED="1")
    assert done.returncode == 0, done.stderr
    assert job.sim.cards["train"].color == "green"
    assert job.sim.pushes == []
    pid = int(done.stdout.split()[-1])
    assert until(lambda: is_gone(pid))


def test_the_watchdog_stays_for_what_is_owed(job: Job) -> None:
    """A job that fails while the service is down leaves the end and the push to the watchdog."""
    process = job.begin(LIVES.format(death="at.configure(exit_timeout=2); raise ValueError('broken')"))
    with job.sim.fault("status", status=503):
        _, error = process.communicate("\n", timeout=PATIENCE)
        assert "ValueError" in error
        assert "broken" in error
        assert not job.sim.cards["train"].ended
    assert job.sim.wait_for(lambda sim: sim.cards["train"].ended and sim.pushes)
    assert job.sim.cards["train"].color == "red"
    (push,) = job.sim.pushes
    assert "ValueError: broken" in (push.message or "")


def test_a_good_end_that_is_on_its_way_is_no_failure(job: Job) -> None:
    """A block that ended well, whose end a slow service has not taken yet, is not told as failed by a later death."""
    death = """
        p.finish()
        while not end_is_with_watchdog(p):
            time.sleep(0.01)
        assert watchdog().tell(60)
        os._exit(1)
    """
    process = job.begin(LIVES.format(death=textwrap.indent(textwrap.dedent(death), " " * 8).strip()))
    with job.sim.fault("status", status=429, retry_after=1):
        process.communicate("\n", timeout=PATIENCE)
        assert process.returncode == 1
    assert job.sim.wait_for(lambda sim: sim.cards["train"].ended)
    assert (job.sim.cards["train"].color, job.sim.pushes) == ("green", [])


def test_what_a_killed_job_has_in_the_outbox_comes_at_once(job: Job) -> None:
    """An end that could not be delivered is on disk, and the watchdog waits for no lease to run out."""
    death = """
        p.finish()
        while not watchdog_has_heard():
            time.sleep(0.01)
        os._exit(1)
    """
    heard = """
    def watchdog_has_heard():
        told = {kind for kind, _ in told_to_watchdog()}
        return "leases" in told and "card" not in told and watchdog().tell(60)
    """
    code = heard + LIVES.format(death=textwrap.indent(textwrap.dedent(death), " " * 8).strip())
    process = job.begin(code)
    with job.sim.fault("status", status=503):
        process.communicate("\n", timeout=PATIENCE)
        assert process.returncode == 1
        assert len(kept(job)) == 1
    assert job.sim.wait_for(lambda sim: sim.cards["train"].ended)
    assert (job.sim.cards["train"].color, job.sim.pushes) == ("green", [])


def test_a_failure_is_told_although_the_job_is_killed_then(job: Job) -> None:
    """A push that is held back for an outer block to take over is the watchdog's meanwhile; the taken over is not."""
    code = """
        try:
            with at.live_progress("outer", key="outer"), at.live_progress("inner", key="inner"):
                raise ValueError("broken")
        except ValueError:
            while not all(hasattr(task, "message") and task.message.entry for task in owed()):
                time.sleep(0.01)
        assert watchdog().tell(60)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    process = job.start(LIVES.format(death=textwrap.indent(textwrap.dedent(code), " " * 8).strip()))
    process.communicate("\n", timeout=PATIENCE)
    assert process.returncode == -signal.SIGKILL
    assert job.sim.wait_for(lambda sim: len(sim.pushes) == 2 and sim.cards["train"].ended), job.sim.pushes
    cards = job.sim.cards
    assert {push.title for push in job.sim.pushes} == {"outer failed", "train failed"}
    assert (cards["outer"].color, cards["inner"].color) == ("red", "red")


def test_a_death_before_the_card_was_shown_leaves_the_older_runs(job: Job) -> None:
    """Killed while the card still shows an older run, that one's end is told, and the newer one's death pushed."""
    process = job.begin("""
        with at.live_value("alpha", watchdog=True) as value:
            value.set(1)
            while not default_dispatcher().persistence.guard.watches:
                time.sleep(0.01)
            say("running")
            sys.stdin.readline()
        with at.live_value("alpha", watchdog=True) as value:
            value.set(2)
            while ("card", activity_of(value).number) not in told_to_watchdog():
                time.sleep(0.01)
            assert watchdog().tell(60)
            say("again")
            time.sleep(60)
    """)
    assert job.sim.wait_for(lambda sim: "alpha" in sim.cards)
    with job.sim.fault("hang", method="DELETE"):
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline() == "again\n"
        process.kill()
    assert job.sim.wait_for(lambda sim: sim.pushes and sim.cards["alpha"].ended)
    assert job.sim.cards["alpha"].color == "green"
    assert [push.title for push in job.sim.pushes] == ["alpha failed"]


def test_an_end_that_the_exit_has_left_is_not_taken_away(sim: Simulator, tmp_path: Path) -> None:
    """A request that opens the card while the exit leaves its end does not take that for an older run's."""
    keeper, account = Persistence(Runtime()), Account(sim.api_key, sim.base_url, Runtime())
    keeper.place.directory = tmp_path / "box"
    body = {"content_state": {"title": "job", "type": "progress", "percentage": 100}}
    entry = keeper.entry(account.key, "end", body, time.time(), stream_key="job")
    assert leave(keeper, Owed(account, entry))
    assert keeper.held.hold_back(account.key, "job") == 0.0
    next_one = Persistence(Runtime())
    next_one.place.directory = keeper.place.directory
    assert [each.id for each in next_one.claim(account.key).entries] == [entry.id]


def test_what_is_kept_after_the_exit_is_free_for_the_next_run(sim: Simulator, tmp_path: Path) -> None:
    """An attempt that fails after the exit keeps its copy, without a lease that nobody would give back."""
    first, second = Persistence(Runtime()), Persistence(Runtime())
    first.place.directory = second.place.directory = tmp_path / "box"
    account = Account(sim.api_key, sim.base_url, Runtime())
    owed: Any = Owed(account, first.entry(account.key, "push", {"title": "x"}, time.time(), at_least_once=True))
    assert leave(first)
    assert first.keep(owed, owed.entry)
    assert [each.id for each in second.claim(account.key).entries] == [owed.entry.id]


def test_what_an_exit_leaves_is_free_for_the_next_run(sim: Simulator, tmp_path: Path) -> None:
    """Neither an attempt that begins while the exit leaves it, nor what was just taken over, keeps a lease on it."""
    keepers = [Persistence(Runtime()) for _ in range(3)]
    for each in keepers:
        each.place.directory = tmp_path / "box"
    first, second, third = keepers
    account = Account(sim.api_key, sim.base_url, Runtime())
    body = {"content_state": {"title": "job", "type": "progress", "percentage": 100}}
    entry = first.entry(account.key, "end", body, time.time(), stream_key="job")
    owed: Any = Owed(account, entry)
    assert leave(first, owed)
    assert first.begin(owed) is Hold.OTHERS
    assert first.claim(account.key).entries == ()
    assert [each.id for each in second.claim(account.key).entries] == [entry.id]
    assert third.claim(account.key).entries == ()
    assert leave(second)
    assert [each.id for each in third.claim(account.key).entries] == [entry.id]


def test_no_watchdog_begins_after_the_exit_has(sim: Simulator) -> None:
    """A card that is guarded while the exit writes to the disk has nobody who could disarm its watchdog."""
    keeper = Persistence(Runtime())
    assert leave(keeper)
    keeper.arm(1, Account(sim.api_key, sim.base_url, Runtime()).key, "job", ({}, None), 0.0)
    assert not keeper.guard.watches
    dog = watchdog_of(keeper)
    assert dog is not None
    assert not has_started(dog)


def test_a_push_that_is_taken_over_while_the_watchdog_is_told(
    sim: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Telling the watchdog may wait for an import; a push that an outer block takes over meanwhile is not sent."""
    dispatcher = Dispatcher(lambda: 2.0)
    account = dispatcher.account(sim.api_key, sim.base_url)
    delivery = PushDelivery(dispatcher, account, {"title": "inner failed"}, at_least_once=True, not_before=1e9)

    def told(self: PushDelivery) -> bool:
        self.withdraw()
        dispatcher.departure.draining = True
        return False

    when_entrusted(monkeypatch, told)
    assert delivery.run(0.0) is None
    assert not delivery.is_in_flight


def test_a_push_that_is_taken_over_just_before_the_exit(job: Job) -> None:
    """What the watchdog was given for an inner block is taken back, though the lane has no time to do so."""
    process = job.start("""
        at.configure(watchdog=True, exit_timeout=0)
        at.delivery.shutdown.FAREWELL_SECONDS = 60
        dispatcher = default_dispatcher()
        with at.live_progress("outer"), at.live_progress("inner"):
            assert at.flush(60)
            assert watchdog().start(60)
            say(watchdog().pid)
            before = entrusted()
            lane, take = dispatcher.scheduler, dispatcher.take_over
            def late(*arguments):
                if is_held_back():  # the inner block's push
                    while entrusted() == before: time.sleep(0.01)
                    lane.wake = lambda task: None
                take(*arguments)
            dispatcher.take_over = late
            raise ValueError("no disk")
    """)
    out, error = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1, error
    assert until(lambda: is_gone(int(out)))
    assert [push.title for push in job.sim.pushes] == ["outer failed"]


def test_the_watchdog_by_environment(job: Job) -> None:
    """`ACTIVITYSMITH_WATCHDOG=on` is enough."""
    code = LIVES.format(death="os._exit(3)").replace("at.configure(watchdog=True)", "pass")
    process = job.start(code, ACTIVITYSMITH_WATCHDOG="on")
    process.communicate("\n", timeout=PATIENCE)
    assert process.returncode == 3
    assert job.sim.wait_for(lambda sim: sim.cards["train"].ended)
    assert job.sim.cards["train"].color == "red"


# ------------------------------------------------------------------------------------------------------ signals

TOLD = """
    at.configure(signals=True, exit_timeout=60)
    {before}
    with at.live_progress("serve", total=100) as p:
        p.advance(7)
        assert at.flush(60)
        say("running")
        while True:
            time.sleep(0.05)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_card(job: Job, number: signal.Signals) -> None:
    """The card says what stopped it before the process is gone, and the exit status is the signal's."""
    process = job.begin(TOLD.format(before=""))
    process.send_signal(number)
    process.communicate(timeout=PATIENCE)
    assert process.returncode == -number
    card = job.sim.cards["serve"]
    assert (card.ended, card.color, card.subtitle) == (True, "gray", f"Stopped: {number.name}")
    assert job.sim.pushes == []


def test_a_signal_is_no_sudden_death(job: Job) -> None:
    """The watchdog hears of the end before the signal ends the process, even where that waits for nothing."""
    before = "at.configure(watchdog=True, exit_timeout=0)\n    at.delivery.shutdown.FAREWELL_SECONDS = 60"
    code = TOLD.format(before=before).replace(
        'say("running")',
        'watchdog().start(60); say("running")',
    )
    process = job.begin(code)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=PATIENCE)
    assert process.returncode == -signal.SIGTERM
    assert job.sim.wait_for(lambda sim: sim.cards["serve"].ended)
    assert job.sim.cards["serve"].subtitle == "Stopped: SIGTERM"
    time.sleep(0.5)
    assert job.sim.pushes == []


def test_a_handler_that_was_there_is_called(job: Job) -> None:
    """The user's own handler decides what becomes of the process."""
    process = job.begin(TOLD.format(before="signal.signal(signal.SIGTERM, lambda *_: sys.exit(9))"))
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 9
    assert (job.sim.cards["serve"].color, job.sim.pushes) == ("gray", [])


def test_a_signal_stops_inner_blocks_too(job: Job) -> None:
    """What a user's handler raises out of an inner block, which has no card of its own, alarms nobody either."""
    code = TOLD.format(before="signal.signal(signal.SIGTERM, lambda *_: sys.exit(9))")
    code = code.replace("while True:", "with at.live_progress('inner'):\n          while True:")
    process = job.begin(code)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 9
    assert (job.sim.cards["serve"].color, job.sim.pushes) == ("gray", [])


def test_a_request_at_the_exit_is_over_before_its_time_is() -> None:
    """No request times out in the moment in which the interpreter is taken down."""
    dispatcher = Dispatcher(lambda: 2.0, Runtime(lambda: 100.0))
    assert dispatcher.departure.attempt_seconds() == Runtime.attempt_seconds
    dispatcher.departure.start_draining(2.0)
    assert dispatcher.departure.attempt_seconds() == pytest.approx(1.9)


def test_a_signal_and_the_exit_wait_once() -> None:
    """Where a handler leaves after the cards were stopped, the two waits are one."""
    clock = [100.0]
    process = Shutdown(Runtime(lambda: clock[0]))
    dispatcher = Dispatcher(lambda: 2.0, Runtime(lambda: clock[0]))
    process.stop("Stopped: SIGTERM", dispatcher)
    for passed, left in ((0.5, 1.5), (2.5, 0.0), (60.0, 2.0)):
        clock[0] = 100.0 + passed
        assert process.seconds_for(dispatcher) == left


def test_a_signal_while_the_service_is_down(job: Job) -> None:
    """What could not be said then is kept, and said by the next flush."""
    process = job.begin(TOLD.format(before="at.configure(exit_timeout=2)"))
    with job.sim.fault("hang"):
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=PATIENCE)
        assert process.returncode == -signal.SIGTERM
    assert job.flush().returncode == 0
    assert job.sim.cards["serve"].subtitle == "Stopped: SIGTERM"


def test_nothing_is_installed_while_nothing_is_tracked() -> None:
    """The handlers come with the first block and go with the last."""
    before = signal.getsignal(signal.SIGTERM)
    with capture(), at.override(signals=True):
        assert signal.getsignal(signal.SIGTERM) == before
        with at.live_progress("a"), at.live_progress("b"):
            assert signal.getsignal(signal.SIGTERM) != before
        assert signal.getsignal(signal.SIGTERM) == before


# ------------------------------------------------------------------------------------------------------- stalls


@pytest.fixture
def phone() -> Iterator[Phone]:
    """A phone on a clock that stands."""
    with capture() as captured:
        yield captured


def move(handle: Any) -> None:
    """Make progress, whatever that is for a handle."""
    if isinstance(handle, at.Steps):
        handle.step(f"step {handle.current_step}")
    elif isinstance(handle, at.Progress):
        handle.advance()
    else:
        handle.set(str(time.monotonic_ns()))


MAKERS: list[Callable[..., Any]] = [at.live_progress, at.live_steps, at.live_value, at.live_alert]


@pytest.mark.parametrize("make", MAKERS)
def test_a_stall_is_told_once_and_recovers(phone: Phone, make: Callable[..., Any]) -> None:
    """Without progress the card turns orange and a push comes; progress turns it back."""
    with make("job", stall_after=900, **({"total": 1000} if make is at.live_progress else {})) as handle:
        for _ in range(3):
            move(handle)
            phone.advance(minutes=5)
        assert phone.pushes == []
        phone.advance(minutes=12)
        card = phone.card("job")
        assert card.subtitle.startswith("No progress for 1")
        if make is at.live_alert:
            assert card.icon["color"] == "orange"
        else:
            assert card.color == "orange"
        assert phone.push().title == "job stands still"
        move(handle)
        phone.advance(minutes=2)
        assert not (phone.card("job").subtitle or "").startswith("No progress")
        assert phone.card("job").color != "orange"
        phone.advance(minutes=40)
        assert phone.card("job").subtitle.startswith("No progress")
        assert len(phone.pushes) == 1
        assert not phone.card("job").over_budget
    assert phone.card("job").ended


def test_a_loop_that_stalls(phone: Phone) -> None:
    """`track` is told to stand still as well."""
    for number in at.track(range(3), "loop", stall_after=60):
        phone.advance(50)
        if number == 1:
            phone.advance(30)
            assert phone.card("loop").color == "orange"
    assert len(phone.pushes) == 1


def test_a_clock_cannot_stall() -> None:
    """A timer makes no progress that could be missed."""
    with pytest.raises(InvalidRequest):
        at.live_timer("x", stall_after=5)


def test_a_fork_has_a_keeper_of_its_own() -> None:
    """A child neither holds its parent's leases nor its watchdog."""
    dispatcher = default_dispatcher()
    before = dispatcher.persistence
    dispatcher.after_fork()
    assert dispatcher.persistence is not before
    assert name_in_leases(dispatcher.persistence) != name_in_leases(before)
