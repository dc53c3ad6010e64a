"""One exit for all trackers of a process: what real programs do at their end, and how long it may take."""

from __future__ import annotations

import atexit
import gc
import multiprocessing
import os
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import internals
import pytest
from jobs import Job
from patience import PATIENCE, PatientSimulator, until

import activitysmith_track as at
from activitysmith_track import Tracker
from activitysmith_track.client import retry
from activitysmith_track.delivery.account import Account
from activitysmith_track.delivery.interpreter import Interpreter
from activitysmith_track.delivery.parting import part
from activitysmith_track.delivery.persistence import Persistence
from activitysmith_track.delivery.runtime import Runtime
from activitysmith_track.delivery.shutdown import Shutdown
from activitysmith_track.errors import InvalidRequest
from activitysmith_track.simulator import Simulator

# ------------------------------------------------------------------------------------------------ programs that end

WORK = """\
def work(name="late"):
    import activitysmith_track as at
    at.configure(exit_timeout=60)
    with at.live_progress(name, total=2) as p:
        p.advance(2)
"""


def green(job: Job, *keys: str) -> None:
    """Assert that these cards and no others are there, and that all of them ended well."""
    cards = {key: (card.color, card.percentage, card.ended) for key, card in job.sim.cards.items()}
    assert cards == dict.fromkeys(keys, ("green", 100, True))


def test_two_threads_open_their_first_block_at_once(job: Job) -> None:
    """They share one tracker, and both ends arrive."""
    done = job.run("""
        from concurrent.futures import ThreadPoolExecutor
        barrier = threading.Barrier(2)
        def work(number):
            barrier.wait()
            at.live_progress(f"job-{number}")(lambda: None)()
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(work, range(2)))
        at.configure(exit_timeout=60)
    """)
    assert (done.returncode, done.stderr) == (0, "")
    green(job, "job-0", "job-1")


@pytest.mark.parametrize("idle", ["first", "second"])
def test_a_tracker_with_nothing_to_do_keeps_no_other_from_ending(job: Job, idle: str) -> None:
    """Whichever was made first, the exit delivers what the other one owes."""
    done = job.run(f"""
        first, second = at.Tracker(exit_timeout=60), at.Tracker(exit_timeout=60)
        with {"second" if idle == "first" else "first"}.live_progress("busy"):
            pass
    """)
    assert (done.returncode, done.stderr) == (0, "")
    green(job, "busy")


def test_many_trackers_deliver_at_the_same_time(job: Job) -> None:
    """At the exit each has one hanging request on its way, and nobody waits for another one's."""
    with job.sim.fault("hang"):
        done = job.run("""
            trackers = [at.Tracker(exit_timeout=3) for _ in range(4)]
            for number, tracker in enumerate(trackers):
                with tracker.live_progress(f"job-{number}"):
                    pass
        """)
        hung = [request for request in job.sim.requests if request.method == "PUT"]
    assert done.returncode == 0
    assert "4 ends and pushes were not delivered in time: kept" in done.stderr
    assert len({request.path for request in hung}) <= 4
    assert job.flush().returncode == 0


@pytest.mark.parametrize("imported", ["import threading", ""])
@pytest.mark.parametrize("way", ["atexit.register(work)", "weakref.finalize(work, work)"])
def test_the_first_block_of_all_is_opened_by_an_exit_handler(job: Job, imported: str, way: str) -> None:
    """Python calls no exit handler that is registered by then, so the block's end waits for itself."""
    done = job.run(f"import atexit, weakref\n{imported}\n{WORK}\n{way}", head="")
    assert (done.returncode, done.stderr) == (0, "")
    green(job, "late")


def test_a_thread_that_outlives_the_main_one_opens_the_first_block(job: Job) -> None:
    """Python waits for it before it calls exit handlers, so that its blocks need not wait for their ends."""
    code = """
import threading
def goes_on():
    while threading.main_thread().is_alive():
        threading.Event().wait(0.01)
    work()
    from activitysmith_track.delivery.shutdown import shutdown
    print(shutdown.has_left)
threading.Thread(target=goes_on).start()
"""
    done = job.run(WORK + code, head="")
    assert (done.returncode, done.stdout, done.stderr) == (0, "False\n", "")
    green(job, "late")


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this platform cannot fork")
def test_a_child_that_a_thread_forks_is_no_exit_handler(job: Job) -> None:
    """Its program begins in the middle of a thread, without any module, and its blocks wait for nothing."""
    code = """
from multiprocessing import get_context
def child():
    work()
    from activitysmith_track.delivery.shutdown import shutdown
    print(shutdown.has_left, flush=True)
def fork():
    process = get_context("fork").Process(target=child)
    process.start()
    process.join()
import threading
thread = threading.Thread(target=fork)
thread.start()
thread.join()
"""
    done = job.run(WORK + code, head="import warnings; warnings.simplefilter('ignore', DeprecationWarning)\n")
    assert (done.returncode, done.stdout, done.stderr) == (0, "False\n", "")
    green(job, "late")


def test_ctrl_c_twice_loses_nothing_of_many_trackers(job: Job) -> None:
    """The second one comes while all of them have kept what they could not deliver."""
    with job.sim.fault("status", status=503):
        process = job.begin("""
            trackers = [at.Tracker(exit_timeout=60) for _ in range(3)]
            for number, tracker in enumerate(trackers):
                try:
                    with tracker.live_progress(f"job-{number}"):
                        raise ValueError("no disk")
                except ValueError:
                    pass
            at.delivery.interpreter.DEAF_SECONDS = 60
            say("running")
        """)
        for _ in range(3):
            time.sleep(0.05)
            process.send_signal(signal.SIGINT)
        process.communicate(timeout=PATIENCE)
    assert job.flush().returncode == 0
    assert sorted(push.title for push in job.sim.pushes) == [f"job-{number} failed" for number in range(3)]


def test_blocks_in_an_exit_handler_may_contain_each_other(job: Job) -> None:
    """The end of an inner block stops no outer one, and what fails there is pushed."""
    done = job.run(
        """
        import atexit
        def work():
            import activitysmith_track as at
            at.configure(exit_timeout=60)
            with at.live_progress("outer"):
                with at.live_progress("inner", key="inner"):
                    pass
            try:
                with at.live_progress("fails"):
                    raise ValueError("no disk")
            except ValueError:
                pass
        atexit.register(work)
        """,
        head="",
    )
    assert (done.returncode, done.stderr) == (0, "")
    colors = {key: (card.color, card.ended) for key, card in job.sim.cards.items()}
    assert colors == {"outer": ("green", True), "inner": ("green", True), "fails": ("red", True)}
    assert [push.title for push in job.sim.pushes] == ["fails failed"]


def test_an_exit_handler_that_comes_after_ours_opens_a_block(job: Job) -> None:
    """It was registered before the first block was opened, and is called when our own handler is through."""
    done = job.run(f"import atexit\n{WORK}\natexit.register(work)\nwork('early')", head="")
    assert (done.returncode, done.stderr) == (0, "")
    green(job, "early", "late")


@pytest.mark.parametrize("early", ["early", ""])
def test_a_thread_that_an_exit_handler_waits_for_opens_a_block(job: Job, early: str) -> None:
    """A scheduler that is shut down at the exit lets its last task end, whose block is delivered as well."""
    code = f"""
leaves = threading.Event()
worker = threading.Thread(target=lambda: (leaves.wait(), work()), daemon=True)
worker.start()
atexit.register(lambda: (leaves.set(), worker.join()))
{f"work({early!r})" if early else ""}
"""
    done = job.run(f"import atexit, threading\n{WORK}{code}", head="")
    assert (done.returncode, done.stderr) == (0, "")
    green(job, *(name for name in (early, "late") if name))


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this platform cannot fork")
def test_a_finalizer_of_a_child_opens_its_first_block(job: Job) -> None:
    """A child of multiprocessing leaves without exit handlers, and registers no finalizer by then either."""
    code = """
from multiprocessing import get_context, util
process = get_context("fork").Process(target=lambda: util.Finalize(None, work, exitpriority=-5))
process.start()
process.join()
"""
    done = job.run(WORK + code, head="")
    assert (done.returncode, done.stderr) == (0, "")
    green(job, "late")


# ------------------------------------------------------------------------------------------------- one deadline


class Waiter:
    """A dispatcher of the exit that has something to deliver, and never does; it waits on a clock that it moves."""

    def __init__(self, clock: list[float], timeout: float, *, runs: bool = True) -> None:
        self._clock, self._timeout, self._until = clock, timeout, 0.0
        self.scheduler = self.departure = self.ledger = self.opened = self
        self.runs, self.is_awaited, self.heeds_signals, self.refuses = runs, True, True, False
        self.is_idle = self.has_delivered = False
        self.ended: list[str | None] = []
        self.persistence = Persistence(Runtime())

    def exit_timeout(self) -> float:
        return self._timeout

    def start_draining(self, seconds: float) -> None:
        self._until = self._clock[0] + seconds

    @property
    def seconds_left(self) -> float:
        return max(0.0, self._until - self._clock[0])

    def end_open(self, words: str | None = None) -> None:
        self.ended.append(words)

    def send_owed(self) -> None:
        return

    def drain_here(self, seconds: float) -> None:
        self._clock[0] += seconds

    def wait(self, timeout: float) -> None:
        self._clock[0] += max(0.0, timeout)

    def part(self, timeout: float, *, stays: bool = False) -> Any:
        return part(self.persistence, list, timeout, stays=stays)

    def count_left(self) -> int:
        return 0

    def refuse(self) -> None:
        self.refuses = True

    def close(self, timeout: float) -> None:
        assert self.refuses
        assert timeout >= 0


class Unheard(Interpreter):
    """An interpreter that calls no exit handler of ours."""

    def call_at_exit(self, handler: Callable[[], None]) -> bool:
        return False


def exit_of(clock: list[float], *dispatchers: Waiter) -> Shutdown:
    """Return an exit with these dispatchers, which is not registered."""
    runtime = Runtime(lambda: clock[0])
    runtime.interpreter = Unheard()
    made = Shutdown(runtime)
    for each in dispatchers:
        made.add(each)  # type: ignore[arg-type]
    return made


@pytest.fixture(autouse=True)
def open_gates() -> Iterator[None]:
    """No gate stays shut after a test."""
    yield
    internals.open_gates()


@pytest.mark.parametrize("runs", [True, False])
def test_six_dispatchers_wait_as_long_as_the_most_patient_one(runs: bool) -> None:
    """The exit's deadline is not the sum of all, with threads and where no thread can start any more."""
    clock = [100.0]
    dispatchers = [Waiter(clock, timeout, runs=runs) for timeout in (2.0, 0.5, 2.0, 0.0, 1.0, 2.0)]
    exit_of(clock, *dispatchers).at_exit()
    assert clock[0] == pytest.approx(102.0)
    assert [each.ended for each in dispatchers] == [[None]] * 6


def test_what_comes_later_has_the_time_that_is_left() -> None:
    """Blocks in later exit handlers share the time, in which that of the handlers themselves does not count."""
    clock = [100.0]
    dispatcher = Waiter(clock, 2.0)
    process = exit_of(clock, dispatcher)
    dispatcher.wait = lambda timeout: clock.__setitem__(0, clock[0] + 0.5)  # type: ignore[method-assign]
    process.at_exit()
    clock[0] += 60.0
    assert process.seconds_for(dispatcher) == pytest.approx(1.5)  # type: ignore[arg-type]
    process.leave()
    assert process.seconds_for(dispatcher) == pytest.approx(1.0)  # type: ignore[arg-type]
    assert dispatcher.ended == [None]


def test_a_signal_waits_once_for_all_dispatchers() -> None:
    """The first one's handler ends the cards of all that heed signals, and those of the others wait no more."""
    clock = [100.0]
    dispatchers = [Waiter(clock, 2.0) for _ in range(6)]
    dispatchers[5].heeds_signals = False
    process = exit_of(clock, *dispatchers)
    for each in dispatchers[:5]:
        process.stop("Stopped: SIGTERM", each)  # type: ignore[arg-type]
    assert clock[0] == pytest.approx(102.0)
    assert [set(each.ended) for each in dispatchers] == [{"Stopped: SIGTERM"}] * 5 + [set()]


@pytest.mark.parametrize("when", ["it waits", "it keeps"])
@pytest.mark.parametrize("kind", [KeyboardInterrupt, TimeoutError])
def test_what_a_signal_raises_while_a_tracker_is_closed(
    sim: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str, kind: type[BaseException]
) -> None:
    """It goes on to the job, whose Ctrl-C or time limit it is, and what was owed is kept all the same."""
    settings: dict[str, Any] = {"api_key": sim.api_key, "base_url": sim.base_url, "outbox": tmp_path / "box"}
    tracker, threads = Tracker(**settings), set(threading.enumerate())
    number = signal.SIGINT if kind is KeyboardInterrupt else signal.SIGALRM
    before = signal.getsignal(number)

    def interrupt(*_: Any, **__: Any) -> None:
        raise kind

    name = "wait" if when == "it waits" else "part"
    home = tracker.dispatcher if name == "wait" else tracker.dispatcher.departure
    method = getattr(home, name)

    def interrupted(*arguments: Any, **options: Any) -> Any:
        signal.raise_signal(number)
        return method(*arguments, **options)

    if when == "it keeps" and kind is TimeoutError:
        pytest.skip("only Ctrl-C is put off: it may come at any time, and a time limit comes once")
    if kind is TimeoutError:
        signal.signal(number, interrupt)
    monkeypatch.setattr(home, name, interrupted)
    try:
        with sim.fault("status", status=503):
            with pytest.raises(ValueError, match="no disk"), tracker.live_progress("job"):
                raise ValueError("no disk")
            with pytest.raises(kind):
                tracker.close(0.2)
            # What was on its way just then is refused as well.
            assert until(lambda: not set(threading.enumerate()) - threads)
    finally:
        signal.signal(number, before)
    with Tracker(**settings) as later:
        later.flush(0.0)  # the end goes once more much later, when the first start can be carried out no more
        assert until(lambda: bool(sim.pushes))
    assert [push.title for push in sim.pushes] == ["job failed"]


def test_ctrl_c_ends_the_wait_of_all() -> None:
    """All cards are ended, what is owed is kept, and no dispatcher waits any more."""
    clock = [100.0]
    first, second = Waiter(clock, 2.0), Waiter(clock, 2.0)

    def interrupted(timeout: float) -> None:
        raise KeyboardInterrupt

    first.wait = interrupted  # type: ignore[method-assign]
    exit_of(clock, first, second).at_exit()
    assert clock[0] == 100.0
    assert internals.has_left(first.persistence)
    assert internals.has_left(second.persistence)


# ---------------------------------------------------------------------------------------------------- the gates


def ours(work: Any) -> threading.Thread:
    """Start a thread of the library's own."""

    def run() -> None:
        with internals.on_own_thread():
            work()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


def test_who_waits_at_a_gate_holds_no_lock() -> None:
    """A client that is to be made after the exit was here keeps nobody from importing something meanwhile."""
    account = Account("key", "https://service.example/api", Runtime())
    internals.certificates.shut(0.0)
    thread = ours(lambda: internals.connect(account))
    assert until(lambda: internals.somebody_waits_at(internals.certificates))
    assert internals.import_lock().acquire(timeout=PATIENCE)
    internals.import_lock().release()
    assert internals.connections_of(account) is None
    internals.certificates.open()
    thread.join(PATIENCE)
    assert internals.connections_of(account) is not None
    account.close()


def test_a_gate_is_shut_when_everybody_has_left() -> None:
    """The exit waits for who is inside, at most so long; others than the library's own threads pass at any time."""
    gate, inside, leaves = internals.new_gate(), threading.Event(), threading.Event()
    passed: list[str] = []

    def stay() -> None:
        with gate, gate:  # entered again, as an import within an import does
            inside.set()
            leaves.wait(PATIENCE)
            passed.append("inside")

    thread = ours(stay)
    assert inside.wait(PATIENCE)
    gate.shut(0.0)
    assert passed == []
    leaves.set()
    gate.shut(PATIENCE)
    assert passed == ["inside"]
    with gate:
        passed.append("another's")
    late = ours(lambda: passed.append("late") if gate.__enter__() is None else None)
    assert until(lambda: internals.somebody_waits_at(gate))
    assert passed == ["inside", "another's"]
    gate.open()
    for each in (thread, late):
        each.join(PATIENCE)
    assert passed == ["inside", "another's", "late"]


# ----------------------------------------------------------------------------------------- one tracker, and its end


def test_there_is_one_default_tracker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two threads that ask for it first, at the same time, get the same one."""
    barrier, made = threading.Barrier(2, timeout=PATIENCE), list[Tracker]()

    def slow() -> Tracker:
        barrier.wait()
        return Tracker()

    default_tracker = internals.without_default_tracker(monkeypatch, slow)
    threads = [threading.Thread(target=lambda: made.append(default_tracker())) for _ in range(2)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(PATIENCE)
    assert len(made) == 2
    assert made[0] is made[1] is default_tracker()


def own_threads() -> set[threading.Thread]:
    """Return the threads of the library's own."""
    return {each for each in threading.enumerate() if each.name.startswith("activitysmith-")}


def descriptors() -> int:
    """Return how many descriptors are open."""
    return len(os.listdir("/proc/self/fd")) if os.path.exists("/proc/self/fd") else 0


@pytest.mark.parametrize("end", ["close", "with", "drop"])
def test_trackers_that_are_done_leave_nothing_behind(end: str) -> None:
    """Neither a thread nor a descriptor nor an exit handler remains of one that was closed or is used no more."""
    with PatientSimulator(slots=20) as sim:
        use_and_let_go(sim, end)
    assert {(card.color, card.ended) for card in sim.cards.values()} == {("green", True)}


def use_and_let_go(sim: Simulator, end: str) -> None:
    """Use ten trackers one after the other, and look what is left of them."""
    settings = {"api_key": sim.api_key, "base_url": sim.base_url}
    with Tracker(**settings) as first, first.live_progress("warm up"):
        pass
    gc.collect()
    threads, files, handlers = own_threads(), descriptors(), atexit._ncallbacks()  # type: ignore[attr-defined]  # noqa: SLF001
    for number in range(10):
        tracker = Tracker(**settings)
        with tracker.live_progress(f"job-{number}") as progress:
            progress.advance()
        if end == "with":
            with tracker:
                pass
        elif end == "close":
            assert tracker.close(PATIENCE)
        del tracker, progress
    assert until(lambda: gc.collect() is not None and own_threads() <= threads)
    assert until(lambda: gc.collect() is not None and descriptors() <= files)
    assert atexit._ncallbacks() == handlers  # type: ignore[attr-defined]  # noqa: SLF001


def test_a_tracker_that_is_dropped_delivers_what_it_owes(sim: Simulator) -> None:
    """Nothing refers to it any more while its end and its push are still on their way."""
    before = own_threads()
    tracker = Tracker(api_key=sim.api_key, base_url=sim.base_url)
    with pytest.raises(ValueError, match="no disk"), tracker.live_progress("job"):
        raise ValueError("no disk")
    del tracker
    assert sim.wait_for(lambda sim: sim.pushes and sim.cards["job"].ended)
    assert until(lambda: gc.collect() is not None and own_threads() <= before)


def test_what_has_ended_is_kept_alive_by_no_later_look(phone: Simulator) -> None:
    """Looks that were planned for much later, of the card, of a stall and of a sample, hold no ended handle."""
    handle: Any = at.live_metrics("job", sample=lambda: {"CPU": 1}, every=3_600, stall_after=3_600)
    with handle:
        assert at.flush(PATIENCE)
    assert at.flush(PATIENCE)
    reference = weakref.ref(handle)
    del handle
    assert until(lambda: gc.collect() is not None and reference() is None)


def test_a_tracker_needs_no_garbage_collector(sim: Simulator) -> None:
    """One that was used and is dropped is gone as soon as all has arrived, and its threads with it."""
    before = own_threads()
    tracker = Tracker(api_key=sim.api_key, base_url=sim.base_url)
    reference = weakref.ref(tracker)
    gc.disable()
    try:
        with tracker.live_progress("job"):
            pass
        del tracker
        assert until(lambda: reference() is None)
        assert until(lambda: own_threads() <= before)
    finally:
        gc.enable()
    assert sim.cards["job"].color == "green"


def test_trackers_closed_by_exit_handlers_share_one_deadline() -> None:
    """Closing without a time of its own takes of what the exit has in all, and is no part of it elsewhere."""
    clock = [100.0]
    dispatchers = [Waiter(clock, 2.0) for _ in range(4)]
    process = exit_of(clock, *dispatchers)
    assert not process.close(dispatchers[0])  # type: ignore[arg-type]
    assert clock[0] == pytest.approx(102.0)
    process.has_left = True
    for each in dispatchers[1:]:
        process.close(each)  # type: ignore[arg-type]
    assert clock[0] == pytest.approx(104.0)
    process.close(dispatchers[1], 1.0)  # type: ignore[arg-type]
    assert clock[0] == pytest.approx(105.0)


def test_a_block_that_is_opened_while_its_tracker_closes(sim: Simulator) -> None:
    """It had its account before, and gets no card after: nothing would end it."""
    tracker = Tracker(api_key=sim.api_key, base_url=sim.base_url)
    tracker.dispatcher.opened.refuse()
    with tracker.live_progress("late", total=2) as progress:
        progress.advance()
        assert tracker.close(PATIENCE)
    assert sim.requests == []


def test_who_waits_while_a_tracker_is_closed(sim: Simulator) -> None:
    """A flush on another thread ends with the closing, and says that not all was delivered."""
    tracker, answers = Tracker(api_key=sim.api_key, base_url=sim.base_url), list[bool]()
    with sim.fault("hang"):
        with tracker.live_progress("job"):
            pass
        thread = threading.Thread(target=lambda: answers.append(tracker.flush(PATIENCE)))
        thread.start()
        assert until(lambda: internals.waiting_for(tracker.dispatcher))
        assert not tracker.close(0.1)
        assert not tracker.close(0.1)
        thread.join(PATIENCE)
    assert len(answers) == 1


def test_a_client_that_was_closed_is_made_anew(sim: Simulator) -> None:
    """Another thread closes the connections while an end is on its way to them; the end arrives."""
    with Tracker(api_key=sim.api_key, base_url=sim.base_url) as tracker:
        with tracker.live_progress("job"):
            assert tracker.flush(PATIENCE)
            account = tracker.account()
            assert account is not None
            internals.connections_of(account).close()
        assert tracker.flush(PATIENCE)
    assert sim.cards["job"].color == "green"
    assert retry.is_transient(RuntimeError("Cannot send a request, as the client has been closed."))


def test_closing_ends_what_is_open(sim: Simulator, caplog: pytest.LogCaptureFixture) -> None:
    """The card is grey, what is done with the handle later changes nothing, and later blocks are off."""
    with Tracker(api_key=sim.api_key, base_url=sim.base_url, exit_timeout=PATIENCE) as tracker:
        progress = tracker.live_progress("job", total=100).__enter__()
        progress.advance(42)
    card = sim.cards["job"]
    assert (card.color, card.subtitle, card.ended) == ("gray", "Stopped at 42 %", True)
    progress.advance(10)
    progress.__exit__(None, None, None)
    with tracker.live_progress("later"):
        pass
    with tracker.live_progress("even later"):
        pass
    assert tracker.close()
    assert list(sim.cards) == ["job"]
    assert [record.message for record in caplog.records] == ["activitysmith_track is off here: the tracker is closed"]


def test_what_cannot_be_delivered_by_closing_is_kept(sim: Simulator, tmp_path: Path) -> None:
    """It waits no longer than it is told, says that something is left, and a next tracker delivers it."""
    settings: dict[str, Any] = {"api_key": sim.api_key, "base_url": sim.base_url, "outbox": tmp_path / "box"}
    tracker = Tracker(**settings)
    with sim.fault("status", status=503):
        with pytest.raises(ValueError, match="no disk"), tracker.live_progress("job"):
            raise ValueError("no disk")
        assert not tracker.close(0.2)
    with Tracker(**settings) as later:
        assert later.flush(PATIENCE)
    assert [push.title for push in sim.pushes] == ["job failed"]


@pytest.mark.parametrize("timeout", [-1, "soon", float("nan"), True])
def test_closing_takes_seconds(timeout: Any) -> None:
    """A timeout that cannot be is refused, and closes nothing."""
    tracker = Tracker(api_key="key")
    with pytest.raises(InvalidRequest, match="timeout"):
        tracker.close(timeout)
    assert tracker.account() is not None


def test_a_forked_child_ends_like_its_parent(job: Job) -> None:
    """A child that a late exit handler forks calls no handler of ours any more either, and delivers all the same."""
    if not hasattr(os, "fork") or sys.version_info[:2] == (3, 12):
        pytest.skip("this Python cannot fork at its exit")
    code = """
import os
def last():
    child = os.fork()
    if child == 0:
        work("child")
    else:
        os.waitpid(child, 0)
        work("parent")
import atexit
atexit.register(last)
work("early")
"""
    done = job.run(WORK + code, head="import warnings; warnings.simplefilter('ignore', DeprecationWarning)\n")
    assert (done.returncode, done.stderr) == (0, "")
    green(job, "early", "child", "parent")


def test_all_trackers_stop_at_a_signal(job: Job) -> None:
    """Each ends its own cards as the signal says, in one wait for all of them."""
    process = job.begin("""
        trackers = [at.Tracker(exit_timeout=60, signals=True) for _ in range(3)]
        handles = [each.live_progress(f"job-{n}").__enter__() for n, each in enumerate(trackers)]
        assert all(each.flush(60) for each in trackers)
        say("running")
        signal.pause()
    """)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=PATIENCE)
    assert process.returncode == -signal.SIGTERM
    cards = {key: (card.color, card.subtitle, card.ended) for key, card in job.sim.cards.items()}
    assert cards == dict.fromkeys(["job-0", "job-1", "job-2"], ("gray", "Stopped: SIGTERM", True))
