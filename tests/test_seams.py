"""Where real threads meet: each test is about one of the seams that the package `delivery` lists.

The simulated world of `world.py` runs in one thread and cannot see these. Here real threads meet as often as can be:
they begin together, and change places after every few instructions. What only a few instructions decide is tried at
each line of the code: another thread does what it does there, while the first one stands still.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import itertools
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Set
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

import internals
import pytest
from jobs import Job
from patience import PATIENCE, until

from activitysmith_track.blocks.handle import Provider
from activitysmith_track.blocks.outcome import LOOKS, Outcome
from activitysmith_track.client.answers import read_answer
from activitysmith_track.client.requests import Request
from activitysmith_track.delivery import (
    account,
    accounts,
    departure,
    end_delivery,
    outbox_file,
    outbox_place,
    push_delivery,
    transport,
)
from activitysmith_track.delivery.dispatcher import Dispatcher
from activitysmith_track.delivery.echoes import Echoes
from activitysmith_track.delivery.entries import Entry
from activitysmith_track.delivery.guard import Guard
from activitysmith_track.delivery.interpreter import Interpreter
from activitysmith_track.delivery.leases import Leases
from activitysmith_track.delivery.outbox import Outbox
from activitysmith_track.delivery.parting import leave_all, part
from activitysmith_track.delivery.persistence import Persistence
from activitysmith_track.delivery.runtime import Runtime
from activitysmith_track.delivery.scheduler import Scheduler, WorkerPool
from activitysmith_track.delivery.shutdown import Shutdown
from activitysmith_track.delivery.signals import Signals
from activitysmith_track.delivery.state import CopyOwner, Life, OnPhone
from activitysmith_track.delivery.watchdog.supervisor import Watchdog

# ---------------------------------------------------------------------------------------------------- what they need


@pytest.fixture(autouse=True)
def restless(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Threads change places after every few instructions, and an account takes any number of cards and requests."""
    monkeypatch.setattr(account, "SLOTS", 10_000)
    monkeypatch.setattr(account, "REQUESTS_PER_MINUTE", 1_000_000)
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.fixture
def steady(restless: None) -> None:
    """Threads change places as seldom as usual, where a test says by itself when they do."""
    sys.setswitchinterval(0.005)


def together(*works: Callable[[], object]) -> None:
    """Do all of it at the same time, each thing on a thread of its own; raise what one of them raises."""
    barrier, errors = threading.Barrier(len(works), timeout=PATIENCE), list[BaseException]()

    def do(work: Callable[[], object]) -> None:
        try:
            barrier.wait()
            work()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=do, args=(work,), daemon=True) for work in works]
    for each in threads:
        each.start()
    for each in threads:
        each.join(PATIENCE)
    assert not any(each.is_alive() for each in threads), "a thread waits for ever"
    if errors:
        raise errors[0]


def times(count: int, work: Callable[[int], object]) -> Callable[[], None]:
    """Return what does something so many times, each time with its number."""
    return lambda: [work(number) for number in range(count)] and None


class Stop(threading.Event):
    """Lets a thread do something again and again until the others are done."""

    def repeat(self, work: Callable[[], object]) -> Callable[[], None]:
        """Return what does something until it is set, and once at least."""

        def do() -> None:
            work()
            while not self.is_set():
                work()

        return do

    def after(self, *works: Callable[[], object]) -> list[Callable[[], None]]:
        """Return the works; when the last of them is done, it is set."""
        left = list(works)

        def do(work: Callable[[], object]) -> None:
            try:
                work()
            finally:
                left.pop()
                if not left:
                    self.set()

        return [functools.partial(do, work) for work in works]


class Service:
    """A service that is well, without a network: it remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[Request[Any]] = []
        self.before: Callable[[Request[Any]], object] = lambda request: None

    def perform(self, request: Request[Any], seconds: float | None = None) -> Any:
        self.before(request)
        began = any(each.path == request.path for each in list(self.asked))
        self.asked.append(request)
        operation = "ended" if request.method == "DELETE" else "updated" if began else "started"
        content = f'{{"success": true, "operation": "{operation}", "notification_id": "n"}}'
        return read_answer(request.answer, 200, {}, content.encode(), 0.0)

    def close(self) -> None:
        return

    def count(self, method: str, key: str = "") -> int:
        """Return how many requests of a method came, for a stream."""
        return sum(request.method == method and request.path.endswith(key) for request in list(self.asked))


class Unheard(Interpreter):
    """An interpreter that calls no exit handler of ours by itself, and is not taken down after one."""

    def call_at_exit(self, handler: Callable[[], None]) -> bool:
        return False

    def shut_gates(self) -> None:
        return


class Loopless(Runtime):
    """The real runtime, with this service in the place of the network."""

    def __init__(self, service: Service | None = None, now: Callable[[], float] = time.monotonic) -> None:
        super().__init__(now)
        self.interpreter, self.service = Unheard(), service or Service()

    def transport(self, api_key: str, base_url: str, seconds: float) -> Any:
        return self.service


class Bench(internals.TrackerIn):
    """A tracker with a service and an exit of its own."""

    def __init__(self, now: Callable[[], float] = time.monotonic, **settings: Any) -> None:
        self.service = Service()
        runtime = Loopless(self.service, now)
        given: dict[str, Any] = {"api_key": "key", "base_url": "http://localhost:1", "outbox": False, **settings}
        super().__init__(runtime, Shutdown(runtime), **given)

    def own_account(self) -> account.Account:
        """Return the account, which is on."""
        found = self.account()
        assert found is not None
        return found


@contextlib.contextmanager
def benches() -> Iterator[Callable[..., Bench]]:
    """Give trackers whose threads have ended when the block has."""
    made: list[Bench] = []

    def make(**settings: Any) -> Bench:
        made.append(Bench(**settings))
        return made[-1]

    try:
        yield make
    finally:
        for each in made:
            each.dispatcher.close(PATIENCE)


@pytest.fixture
def bench() -> Iterator[Bench]:
    """A tracker with a service and an exit of its own."""
    with benches() as make:
        yield make()


class Meeting:
    """Lets another thread in before one line of what a thread does.

    Args:
        number: of the line, counted from 1 over the files.
        files: whose lines count; by default those in which the user's threads meet the scheduler's.

    Attributes:
        happened: False where there is no such line.
    """

    def __init__(self, number: int, files: Set[str] = internals.CODE_OF_MEETINGS) -> None:
        self.number, self.files, self.happened = number, files, False

    def of(self, work: Callable[[], object], other: Callable[[], object], *locks: Any) -> None:
        """Do something, and before the line, on another thread, something else.

        Args:
            work: what is interrupted.
            other: what is done meanwhile, to its end unless one of the locks is held at the line.
            locks: those that it may have to wait for.
        """
        lines, thread = 0, threading.Thread(target=other, daemon=True)

        def trace(frame: FrameType, event: str, _: Any) -> Any:
            nonlocal lines
            if frame.f_code.co_filename not in self.files:
                return None
            lines += event == "line"
            if event == "line" and lines == self.number:
                sys.settrace(None)
                self.happened = True
                thread.start()
                thread.join(0.01 if any(map(is_held, locks)) else PATIENCE)
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            work()
        finally:
            sys.settrace(before)
        if self.happened:
            thread.join(PATIENCE)
            assert not thread.is_alive(), "the other thread waits for ever"


def is_held(lock: Any) -> bool:
    """Tell whether this thread holds a lock, where that can be told, or whether any does."""
    return bool(lock._is_owned() if hasattr(lock, "_is_owned") else lock.locked())  # noqa: SLF001


MUST_WAIT = threading.Lock()  # for meetings in which the other thread may have to wait for this one in any case
MUST_WAIT.acquire()


def at_each_line(
    attempt: Callable[[Meeting], None], least: int, files: Set[str] = internals.CODE_OF_MEETINGS
) -> None:
    """Try something with a meeting at each of its lines, of which there are so many at least."""
    for number in itertools.count(1):
        meeting = Meeting(number, files)
        try:
            attempt(meeting)
        except AssertionError as error:
            raise AssertionError(f"at line {number}") from error
        if not meeting.happened:
            break
    assert number > least


# ------------------------------------------------------------------------------- the user's threads among themselves


def test_first_use(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many threads use the library first: there is one default tracker, one account and one watch for signals."""

    def slow(room: ModuleType, name: str) -> None:
        made = getattr(room, name)
        # the moment in which the others may come is made longer; no verdict depends on how long
        monkeypatch.setattr(room, name, lambda *given: (time.sleep(0.001), made(*given))[1])

    def first(ask: Callable[[], object]) -> None:
        found: list[Any] = []
        together(*[lambda: found.append(ask())] * 4)
        assert len(set(found)) == 1

    slow(accounts, "Account")
    slow(departure, "importing")  # of what handles signals
    for _ in range(5):
        with benches() as make:
            default_tracker = internals.without_default_tracker(monkeypatch, make)
            first(default_tracker)
            first(default_tracker().account)
            first(functools.partial(getattr, default_tracker().dispatcher.departure, "signals"))


def shown_by(handle: Any) -> dict[str, Any]:
    """Return the state of its card that a block would be shown with now."""
    looked = Provider(handle).snapshot()
    assert looked is not None
    return dict(looked.body["content_state"])


def test_counts(bench: Bench) -> None:
    """What many threads count is all there."""
    with bench.live_progress("job", total=10**9) as progress:
        together(*[times(20_000, lambda _: progress.advance()) for _ in range(4)])
        assert progress.completed == 80_000


def test_each_line_at_which_two_threads_show_something(steady: None, bench: Bench) -> None:
    """Neither undoes what the other one has shown, set or begun."""

    def attempt(meeting: Meeting) -> None:
        with bench.live_progress("a") as progress, bench.live_metrics("b", key="b") as metrics:
            with bench.live_steps("c", steps=9, key="c") as steps:
                metrics.set({"x": 0, "y": 0})
                meeting.of(
                    lambda: (progress.update(title="x"), metrics.set({"x": 1}), steps.advance()),
                    lambda: (progress.update(color="green"), metrics.set({"y": 1}), steps.advance()),
                    *internals.locks_of(bench.dispatcher),
                )
                if meeting.happened:
                    shown = shown_by(progress)
                    assert (shown["title"], shown["color"]) == ("x", "green")
                    assert shown_by(metrics)["metrics"] == [{"label": label, "value": 1} for label in "xy"]
                    assert steps.current_step == 2

    at_each_line(attempt, least=50)


def test_readings(bench: Bench) -> None:
    """However many labels threads set at the same time, the sampling thread among them, a grid has eight."""
    for _ in range(20):
        with bench.live_metrics("full") as metrics:
            readings = [{f"{label}{number}": 1 for number in range(3)} for label in "abcd"]
            together(*[functools.partial(metrics.set, each) for each in readings])
            assert len(shown_by(metrics)["metrics"]) == 8


def test_steps(bench: Bench) -> None:
    """Each of the steps that threads take at the same time is taken."""
    for _ in range(5):
        with bench.live_steps("job", steps=1_000) as steps:
            together(*[times(50, lambda _: steps.advance()) for _ in range(4)])
            assert (steps.current_step, Provider(steps).transitions()) == (200, 200)


def test_a_block_ends_once(bench: Bench) -> None:
    """However many threads end a block, the first end stands, and it is sent once."""
    pushed = 0
    for number in range(30):
        handle = bench.live_progress(f"job-{number}")
        handle.begin()
        ends = [handle.finish, handle.fail, handle.cancel, lambda: bench.dispatcher.departure.end_open("Stopped")]
        together(*ends)
        assert bench.flush(PATIENCE)
        card, outcome = internals.activity_of(handle), handle.outcome
        pushes = bench.service.count("POST") - pushed
        assert card is not None
        assert card.end_delivery is not None
        assert outcome is not None
        assert card.end_delivery.message.state.body["content_state"]["color"] == LOOKS[outcome.kind][0]
        assert pushes == (outcome.kind == "failed")
        assert bench.service.count("DELETE", f"job-{number}") == bench.service.count("PUT", f"job-{number}")
        pushed += pushes


@pytest.mark.parametrize("way", ["fail", "end_open"])
def test_each_line_at_which_another_thread_ends_a_block(steady: None, way: str) -> None:
    """Also while it is being opened, or about to end by itself: one end is handed in, that of its outcome."""

    def attempt(meeting: Meeting) -> None:
        with benches() as make:
            bench, handed = make(), list[Any]()
            served, hand_in = bench.dispatcher, bench.dispatcher.hand_in
            served.hand_in = lambda task: (handed.append(task), hand_in(task))  # type: ignore[method-assign]
            handle = bench.live_progress("job")
            use = lambda: (handle.__enter__(), handle.__exit__(None, None, None))  # noqa: E731
            meeting.of(use, handle.fail if way == "fail" else served.departure.end_open, *internals.locks_of(served))
            assert handle.outcome is not None
            ends = {each for each in handed if isinstance(each, end_delivery.EndDelivery)}
            colors = [end.message.state.body["content_state"]["color"] for end in ends]
            assert colors == [LOOKS[handle.outcome.kind][0]]
            assert bench.flush(PATIENCE)
            assert served.is_idle
            assert bench.service.count("POST") == (handle.outcome.kind == "failed")

    at_each_line(attempt, least=50)


def test_each_line_at_which_another_thread_reads_a_handle(steady: None, bench: Bench) -> None:
    """Whoever reads how long a block takes, while it ends, reads no time below zero."""

    def attempt(meeting: Meeting) -> None:
        spans: list[float] = []
        with bench.live_progress("job") as handle:
            meeting.of(handle.finish, lambda: spans.append(handle.elapsed))
        assert all(each >= 0 for each in spans)

    at_each_line(attempt, least=50)


def test_the_same_key_at_once(bench: Bench) -> None:
    """Blocks that threads open under one key at the same time get cards of their own, and all of them end."""
    keys: list[str] = []
    inside = threading.Barrier(4, timeout=PATIENCE)

    def use(number: int) -> None:
        with bench.live_progress("job", key="job") as handle:
            card = internals.activity_of(handle)
            assert card is not None
            keys.append(card.stream_key)
            inside.wait()
            assert len(set(keys[-4:])) == 4
            inside.wait()

    for _ in range(20):
        together(*[times(1, use)] * 4)
        assert bench.flush(PATIENCE)
        assert not bench.own_account().activities
        assert bench.dispatcher.is_idle


def test_inner_blocks(bench: Bench) -> None:
    """Threads open and close blocks inside one, while the scheduler reads what runs there."""
    with bench.live_progress("outer") as outer:
        stop, seen = Stop(), list[int]()

        def inner(number: int) -> None:
            with bench.live_progress(f"inner-{number}"):
                seen.append(len(internals.open_lines_of(outer)))

        inside = [contextvars.copy_context() for _ in range(3)]  # the block is around them, in each of the threads
        works = [functools.partial(each.run, times(100, inner)) for each in inside]
        together(*stop.after(*works), stop.repeat(Provider(outer).snapshot))
        assert min(seen) >= 1
        assert internals.open_lines_of(outer) == []
        assert internals.inner_blocks_of(outer) == []
        assert len(bench.own_account().activities) == 1


# --------------------------------------------------------------------------------- the user's threads, the scheduler


@pytest.mark.parametrize("kind", ["runtime", "outbox"])
def test_each_line_at_which_another_thread_tells_the_same(
    steady: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str
) -> None:
    """It stands in the log once."""
    module = sys.modules[Runtime.__module__] if kind == "runtime" else outbox_file
    said: list[str] = []
    monkeypatch.setattr(module.logger, "warning", lambda message, *details: said.append(message))

    def attempt(meeting: Meeting) -> None:
        said.clear()
        tell = Runtime().warn_once if kind == "runtime" else Outbox(tmp_path).file.warn_once
        meeting.of(lambda: tell("this", "told"), lambda: tell("this", "told"))
        assert said == ["told"]

    at_each_line(attempt, least=3, files={str(module.__file__)})


def test_each_line_at_which_two_threads_look_for_the_outbox(
    steady: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """There is one, which says once what is wrong with it."""
    monkeypatch.setattr(outbox_file.logger, "warning", lambda message, *details: said.append(details))
    said: list[object] = []
    (tmp_path / "file").write_text("no directory")

    def attempt(meeting: Meeting) -> None:
        said.clear()
        place, found = outbox_place.OutboxPlace(Runtime()), list[Any]()
        place.directory = tmp_path / "file"
        meeting.of(lambda: found.append(place.outbox), lambda: found.append(place.outbox))
        assert all(each is place.outbox for each in found)
        assert len(said) == 1

    at_each_line(attempt, least=3, files={str(outbox_place.__file__)})


def test_each_line_at_which_something_is_put_into_an_inbox(steady: None) -> None:
    """Its reader is woken, also where it has looked in vain in the middle of that."""

    def attempt(meeting: Meeting) -> None:
        inbox: Any = internals.new_inbox()
        meeting.of(lambda: inbox.put(1), inbox.get, MUST_WAIT)

    at_each_line(attempt, least=2)


def soon(condition: Callable[[], object]) -> bool:
    """Wait until something holds, and see at once when it does."""
    until = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > until:
            return False
    return True


class Still:
    """A tracker without threads of its own: its scheduler runs on the test's, on a clock that the test moves."""

    def __init__(self, make: Callable[..., Bench], patch: pytest.MonkeyPatch, **settings: Any) -> None:
        patch.setattr(Scheduler, "start", lambda scheduler: True)
        internals.without_workers(patch)  # so that a job is done where it is handed out
        self.now = 100.0
        self.tracker = make(now=lambda: self.now, **settings)
        self.lane = self.tracker.dispatcher.scheduler

    def go(self, seconds: float) -> None:
        """Let time pass."""
        until = self.now + seconds
        while True:
            self.lane.take_in()
            self.lane.run_due()
            wait = self.lane.seconds_until_due()
            if not internals.is_idle(self.lane):
                continue  # its thread would not have slept
            if wait is None or self.now + wait > until:
                break
            self.now += wait
        self.now = until


def test_each_line_at_which_a_reading_changes(steady: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the scheduler is doing when a change comes, it is handed in or looked at all the same."""

    def attempt(meeting: Meeting) -> None:
        with benches() as make:
            still = Still(make, monkeypatch, min_interval="every change")
            value = still.tracker.live_value("job")
            value.begin()
            value.set(0)
            still.go(200.0)
            value.set(1)
            meeting.of(lambda: still.go(200.0), lambda: value.set(2))
            still.go(200.0)
            shown = still.tracker.service.asked[-1].body
            assert shown is not None
            assert shown["content_state"]["value"] == 1 + meeting.happened

    at_each_line(attempt, least=200)


def test_each_line_at_which_a_step_begins(steady: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A transition goes at once, also of a job that moves all the time and is looked at only now and then."""

    def attempt(meeting: Meeting) -> None:
        with benches() as make:
            still, shown, begun = Still(make, monkeypatch), list[float](), list[float]()
            progress = still.tracker.live_progress("job", total=10**6)
            progress.begin()
            still.go(100.0)

            def see(request: Request[Any]) -> None:
                if "step" in str(request.body):
                    shown.append(still.now)

            def move() -> None:
                progress.advance()
                still.go(1.0)

            def step() -> None:
                begun.append(still.now)
                progress.update(subtitle="step", important=True)

            still.tracker.service.before = see
            meeting.of(move, step)
            still.go(60.0)
            assert shown[:1] == begun

    at_each_line(attempt, least=50)


def test_each_line_at_which_something_is_settled(steady: None, bench: Bench) -> None:
    """Many threads wait until nothing is owed, and each of them is woken, whatever the others do by then."""
    served, owed = bench.dispatcher, Task()

    def attempt(meeting: Meeting) -> None:
        internals.owe(served, owed)

        def settle() -> None:
            assert soon(lambda: internals.waiting_for(served) == 4)
            meeting.of(lambda: served.task_done(owed), lambda: time.sleep(0.005))  # in which who is woken may go on

        together(*[lambda: served.wait(PATIENCE)] * 4, settle)
        assert internals.waiting_for(served) == 0

    at_each_line(attempt, least=4)


def test_flush_hears_of_everything(bench: Bench) -> None:
    """Threads that wait until nothing is owed are woken each time, whatever others hand in meanwhile."""
    own = bench.own_account()

    def work(number: int) -> None:
        with bench.live_progress(f"{threading.get_ident()}-{number}"):
            bench.dispatcher.push(own, {"title": "x"}, at_least_once=True)
        assert bench.flush(PATIENCE) or bench.dispatcher.ledger.owes  # what another one has handed in since

    together(*[times(10, work)] * 4)
    assert bench.flush(PATIENCE)
    assert bench.service.count("POST") == 40
    assert bench.dispatcher.is_idle
    assert internals.waiting_for(bench.dispatcher) == 0


def test_each_line_at_which_a_card_appears(steady: None) -> None:
    """A change that is handed in while the card appears leaves nothing owed that was shown."""

    def attempt(meeting: Meeting) -> None:
        with benches() as make:
            bench, gate = make(), threading.Event()
            bench.service.before = lambda request: gate.wait(PATIENCE)
            with bench.live_progress("job") as progress:
                card: Any = internals.activity_of(progress)
                assert until(lambda: card.life is Life.STARTING)

                def appear() -> None:
                    gate.set()
                    assert until(lambda: not bench.dispatcher.ledger.owes and card.life is Life.SHOWN)

                meeting.of(lambda: bench.dispatcher.hand_in(card), appear)
                gate.set()
                assert bench.flush(PATIENCE)

    at_each_line(attempt, least=5)


def test_each_line_at_which_an_end_is_replaced(steady: None) -> None:
    """An end that is replaced while it is delivered is owed no longer than that."""

    def attempt(meeting: Meeting) -> None:
        with benches() as make:
            bench = make()
            with bench.live_progress("job") as progress:
                assert bench.flush(PATIENCE)
                card: Any = internals.activity_of(progress)
                state = internals.end_state(progress, Outcome("done", "job", "job", 1.0))
                card.end(state._replace(not_before=bench.dispatcher.clock() + PATIENCE))
            end = card.end_delivery

            def arrive() -> None:
                end.message.state = end.message.state._replace(not_before=0.0)
                bench.dispatcher.scheduler.wake(end)
                bench.dispatcher.wait(PATIENCE)

            meeting.of(lambda: end.replace(state), arrive)
            assert bench.flush(PATIENCE)

    at_each_line(attempt, least=5)


def test_what_is_looked_through_while_it_grows(bench: Bench) -> None:
    """The scheduler and the exit look through what is open and owed, while threads open, owe and take over."""
    own, stop, served = bench.own_account(), Stop(), bench.dispatcher

    def use(number: int) -> None:
        mark = number, threading.get_ident()
        with bench.live_progress(f"{mark}"):
            served.push(own, {"title": "x"}, at_least_once=True, failure=mark)
            for _ in range(5):
                served.take_over("another", -1)
            served.take_over(mark, -1)

    looks = (
        served.ledger.owed_ids,
        served.departure.count_left,
        served.departure.send_owed,
        lambda: served.departure.part(0.0, stays=True),
        lambda: served.turns.retry_all(own),  # which is the scheduler's, and touches nothing that is its alone
    )
    together(*stop.after(*[times(60, use)] * 3), *map(stop.repeat, looks))
    assert served.flush(PATIENCE)
    assert served.is_idle


def test_each_line_at_which_a_push_is_taken_over(steady: None, bench: Bench) -> None:
    """An inner block's push that an outer one takes over is not sent; and one that is being sent is not withdrawn."""
    served, own = bench.dispatcher, bench.own_account()

    class Push(push_delivery.PushDelivery):
        was_withdrawn = False

        def withdraw(self) -> None:
            super().withdraw()
            self.was_withdrawn = True

    def attempt(meeting: Meeting) -> None:
        served.echoes = Echoes(served.runtime)
        push = Push(served, own, {"title": "x"}, at_least_once=True)
        push.failure = "mark", 1
        with internals.held_back(served, push):
            meeting.of(
                lambda: push.run(served.clock()), lambda: served.take_over("mark", 0), *internals.locks_of(served)
            )
            assert push.was_withdrawn is not internals.is_on_its_way(push)

    at_each_line(attempt, least=20)


# ------------------------------------------------------------------------------------------- the threads of our own


class Task:
    """A task that runs twenty times, and notices two threads inside.

    Args:
        pause: seconds that it takes each time.
    """

    inside = 0

    def __init__(self, pause: float = 0.0) -> None:
        self.runs, self._pause = 0, pause

    @property
    def is_done(self) -> bool:
        """True when it ran as often as it should."""
        return self.runs == 20

    def run(self, now: float) -> float | None:
        Task.inside += 1
        assert Task.inside == 1, "two threads run tasks of one scheduler"
        time.sleep(self._pause)  # in which another thread may come
        self.runs += 1
        Task.inside -= 1
        return None if self.is_done else now

    def give_up(self) -> None:
        self.runs = -10_000


@pytest.fixture
def lanes() -> Iterator[Callable[[], Scheduler]]:
    """Schedulers whose threads have ended after the test."""
    made: list[Scheduler] = []

    def make() -> Scheduler:
        made.append(Scheduler("seams", Runtime().now))
        return made[-1]

    yield make
    for each in made:
        each.stop()
        each.join(PATIENCE)


def test_a_scheduler_starts_once(lanes: Callable[[], Scheduler]) -> None:
    """However many threads hand in the first task, one thread runs all of them."""

    def attempt() -> None:
        lane, tasks = lanes(), [Task() for _ in range(4)]
        served = internals.count_threads_of(lane)
        together(*[functools.partial(hand_in, lane, task) for task in tasks])
        assert until(lambda: all(each.is_done for each in tasks))
        assert served == [1]

    def hand_in(lane: Scheduler, task: Task) -> None:
        lane.wake(task)
        lane.start()

    for _ in range(20):
        attempt()


def test_each_line_at_which_a_scheduler_is_stopped(steady: None, lanes: Callable[[], Scheduler]) -> None:
    """Whoever stops it while another thread starts it waits for that as well."""

    def attempt(meeting: Meeting) -> None:
        lane, left, before = lanes(), list[threading.Thread](), set(threading.enumerate())
        lane.wake(Task(pause=0.001))

        def stop() -> None:
            lane.stop()
            lane.join(PATIENCE)
            left.extend(each for each in set(threading.enumerate()) - before if each.name == "activitysmith-seams")

        meeting.of(lane.start, stop, internals.start_lock_of(lane))
        assert left == []

    at_each_line(attempt, least=5)


def test_one_thread_at_a_time_runs_tasks(lanes: Callable[[], Scheduler]) -> None:
    """Where a thread delivers itself, since none could be started, no other one does so, or starts one, meanwhile."""

    def attempt() -> None:
        lane, tasks = lanes(), [Task() for _ in range(4)]
        for each in tasks:
            lane.wake(each)
        drain = lambda: lane.drain(time.monotonic() + PATIENCE, lambda: not all(each.is_done for each in tasks))  # noqa: E731
        together(drain, drain, lane.start, drain)
        lane.start()
        assert until(lambda: all(each.is_done for each in tasks))

    for _ in range(20):
        attempt()


def test_workers_report_each_job_once(lanes: Callable[[], Scheduler]) -> None:
    """Each job is done by one worker, and what became of it is seen by the scheduler's thread alone."""
    lane, results, threads = lanes(), list[int](), set[int]()
    crew = WorkerPool("seams", 4, lane.report)

    class Send:
        job: Any = None

        def __init__(self, number: int) -> None:
            self.number = number

        def run(self, now: float) -> float | None:
            threads.add(threading.get_ident())
            if self.job is None:
                self.job = lane.send(crew, self, lambda: self.number)
            elif self.job.done:
                results.append(self.job.result)
            return None

        def give_up(self) -> None:
            raise AssertionError

    lane.start()
    together(*[times(100, lambda number: lane.wake(Send(number)))] * 3)
    assert until(lambda: len(results) == 300)
    assert Counter(results) == dict.fromkeys(range(100), 3)
    assert (crew.busy, lane.outstanding, len(threads)) == (0, 0, 1)
    crew.stop()
    crew.join(PATIENCE)


def test_connections_are_closed_while_they_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers that need the same client get one, although another thread closes it: when they are through."""

    class Client:
        def __init__(self, *given: object, **more: object) -> None:
            self.closed = False

        @property
        def is_closed(self) -> bool:
            closed = self.closed
            time.sleep(0)  # the other threads' turn
            return closed

        def perform(self, request: object, seconds: float | None) -> str:
            before = self.closed
            time.sleep(0)
            return "done" if not (before or self.closed) else "closed in its middle"

        def close(self) -> None:
            self.closed = True

    monkeypatch.setattr("activitysmith_track.client.sync.ActivitySmith", Client)
    line, stop, answers = transport.HttpTransport("key", "http://localhost:1", 1.0), Stop(), list[Any]()
    request: Any = None
    together(
        *stop.after(*[times(300, lambda _: answers.append(line.perform(request)))] * 3),
        stop.repeat(line.close),
    )
    assert answers == ["done"] * 900


# ---------------------------------------------------------------------------------------- closing, signals, the exit


def test_a_flush_that_begins_while_the_dispatcher_closes() -> None:
    """Whoever begins to wait while another thread closes waits for nothing that is gone."""

    def attempt() -> None:
        with benches() as make:
            bench, gate = make(), threading.Event()
            bench.service.before = lambda request: gate.wait(PATIENCE)
            owed = bench.dispatcher.push(bench.own_account(), {"title": "x"}, at_least_once=True)
            assert until(lambda: owed.is_in_flight)
            waits = times(20, lambda _: bench.dispatcher.wait(PATIENCE))
            together(waits, waits, lambda: bench.dispatcher.close(0.0))
            gate.set()

    for _ in range(60):
        attempt()


def test_each_line_at_which_a_tracker_closes(steady: None) -> None:
    """However far a thread is with the end of its block when another one closes the tracker, it is sent once."""

    def attempt(meeting: Meeting) -> None:
        with benches() as make:
            bench = make(exit_timeout=PATIENCE)
            handle = bench.live_progress("job", on_failure="gone")
            handle.begin()
            assert bench.flush(PATIENCE)
            served = bench.dispatcher
            meeting.of(handle.fail, bench.close, *internals.locks_of(served))
            served.wait(PATIENCE)
            served.close(PATIENCE)
            assert handle.outcome is not None
            pushed = handle.outcome.kind == "failed"
            assert (bench.service.count("DELETE"), bench.service.count("POST")) == (1, pushed)

    at_each_line(attempt, least=50)


def test_each_line_at_which_a_tracker_closes_while_a_block_opens(steady: None) -> None:
    """The block is ended, or never seen."""

    def attempt(meeting: Meeting) -> None:
        with benches() as make:
            bench = make(exit_timeout=PATIENCE)
            handle = bench.live_progress("job")
            meeting.of(handle.begin, bench.close, *internals.locks_of(bench.dispatcher))
            bench.dispatcher.close(PATIENCE)
            if meeting.happened:  # else it was not closed
                assert bench.service.count("PUT") == bench.service.count("DELETE")

    at_each_line(attempt, least=50)


def test_what_is_settled_is_done(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever hears that an end is owed no more, as the exit does, finds the card released and the watchdog told."""
    served, done = bench.dispatcher, list[tuple[str, bool]]()

    def watch(home: Any, name: str) -> None:
        act = getattr(home, name)
        monkeypatch.setattr(home, name, lambda what: (done.append((name, is_owed())), act(what)))

    def is_owed() -> bool:
        return any(isinstance(each, end_delivery.EndDelivery) for each in internals.owed_by(served))

    watch(served.turns, "release")
    watch(served.persistence.guard, "disarm")
    with bench.live_progress("job"):
        assert bench.flush(PATIENCE)
    assert bench.flush(PATIENCE)
    assert done == [("disarm", True), ("release", True)]


def test_a_push_that_comes_while_the_threads_stop(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A block that had failed before, and whose push comes when the others are delivered, has it sent."""
    let_go = Guard.let_go

    def late(guard: Guard) -> None:
        let_go(guard)
        thread = threading.Thread(
            target=lambda: bench.dispatcher.push(own, {"title": "late"}, at_least_once=True), daemon=True
        )
        thread.start()
        thread.join(PATIENCE)

    own = bench.own_account()
    monkeypatch.setattr(Guard, "let_go", late)
    bench.close(PATIENCE)
    monkeypatch.undo()
    assert until(lambda: bench.service.count("POST") == 1)


def test_threads_that_come_after_the_exit_and_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of them has its push kept, although no time is left to wait for the one that is keeping its own."""
    monkeypatch.setattr("activitysmith_track.delivery.shutdown.RETRY_SECONDS", PATIENCE)
    storing, leave = threading.Event(), Outbox.leave
    with benches() as make:
        bench, gate = make(exit_timeout=0.0, outbox=str(tmp_path)), threading.Event()
        bench.service.before = lambda request: gate.wait(PATIENCE)
        bench.leaves.has_left = True
        own, pushed = bench.own_account(), list[push_delivery.PushDelivery]()

        def slow(outbox: Outbox, *given: Any) -> bool:
            storing.set()
            time.sleep(0.05)  # in which the other two come
            return leave(outbox, *given)

        def push() -> None:
            pushed.append(bench.dispatcher.push(own, {"title": "x"}, at_least_once=True))

        def push_later() -> None:
            assert storing.wait(PATIENCE)
            push()

        monkeypatch.setattr(Outbox, "leave", slow)
        together(push, push_later, push_later)
        kept = [each.message.copy_owner is CopyOwner.OUTBOX for each in pushed]
        gate.set()
        assert kept == [True] * 3


def test_a_block_that_a_thread_opens_beside_the_exit(job: Job) -> None:
    """A daemon thread goes on to its next block while the exit waits: that is not left running on the phone."""
    with job.sim.fault("latency", seconds=1.0, method="DELETE"):
        done = job.run("""
            shown = threading.Event()
            def work():
                with at.live_progress("first") as first:
                    at.flush(60)
                    shown.set()
                    while first.is_open:
                        time.sleep(0.001)
                with at.live_progress("second"):
                    time.sleep(600)
            at.configure(exit_timeout=60)
            threading.Thread(target=work, daemon=True).start()
            shown.wait()
        """)
    assert (done.returncode, done.stderr) == (0, "")
    assert [(key, card.ended) for key, card in job.sim.cards.items() if not card.ended] == []
    assert "first" in job.sim.cards


def test_what_is_opened_while_a_signal_ends_the_rest(bench: Bench) -> None:
    """Another thread opens a block while the handler waits for the ends of the others: it is ended as well."""
    opened: list[Any] = []

    def before(request: Request[Any]) -> None:
        if request.method == "DELETE" and not opened:
            opened.append(bench.live_progress("second"))
            opened[0].begin()

    bench.service.before = before
    with bench.live_progress("first") as first:
        card: Any = internals.activity_of(first)
        assert until(lambda: card.on_phone is OnPhone.YES)
        bench.configure(exit_timeout=PATIENCE)
        bench.dispatcher.stop("Stopped: SIGTERM")
        assert opened[0].outcome.kind == "stopped"
    assert bench.flush(PATIENCE)


def test_dispatchers_come_and_go_while_the_exit_looks() -> None:
    """Threads make trackers, and let go of them, while another one goes through all that there are."""
    leaves, stop, kept = Shutdown(Loopless()), Stop(), list[Dispatcher]()

    def make(number: int) -> None:
        made = Dispatcher(lambda: 0.0, Loopless(), leaves)
        if number % 2:
            kept.append(made)

    together(*stop.after(*[times(60, make)] * 3), *[stop.repeat(lambda: leaves.dispatchers)] * 2)
    assert set(leaves.dispatchers) >= set(kept)


def test_signals_count_what_is_tracked() -> None:
    """Threads begin and end blocks at the same time, and each is counted."""
    signals = Signals(lambda words: None, ())
    internals.begin_at(signals, 10**6)
    together(*[times(10_000, lambda _: (signals.acquire(), signals.release()))] * 4)
    assert internals.tracked_by(signals) == 10**6


# ------------------------------------------------------------------------------------ the watchdog's thread, the disk


def test_a_watchdog_is_told_and_asked_at_once() -> None:
    """The exit asks what a watchdog that was given up had to guard, while its thread takes in what it was told."""
    dog, stop = Watchdog(), Stop()
    tell = internals.give_up(dog)

    def note(number: int) -> None:
        tell(("account", number % 400), b"", number % 1_000 < 700)

    together(*stop.after(times(10_000, note)), *[stop.repeat(lambda: dog.begin_close(0.0)(0.0))] * 2)


@pytest.mark.parametrize("way", ["claim", "hold"])
def test_a_lease_is_not_taken_while_the_process_leaves(tmp_path: Path, way: str) -> None:
    """What a worker takes over, or holds back, while the exit gives everything back is free for the next process."""
    runtime = Loopless()

    def attempt(number: int) -> None:
        own, persistence = account.Account("key", "http://localhost:1", runtime), Persistence(runtime)
        persistence.place.directory = tmp_path / str(number)
        box, fingerprint = Outbox(tmp_path / str(number)), persistence.entry(own.key, "push", {}, 0.0).key_fingerprint
        body = {"content_state": {"title": "x", "type": "value", "value": 1}}
        assert box.put([Entry("end", fingerprint, own.key.base_url, body, runtime.wall(), "job")])

        def leave() -> None:
            assert soon(lambda: internals.is_at_the_disk(persistence))
            leave_all([part(persistence, list, 0.0)], 0.0, runtime)

        take = (
            persistence.claim if way == "claim" else functools.partial(persistence.held.hold_back, stream_key="job")
        )
        together(lambda: take(own.key), leave)
        assert len(box.claim(fingerprint, own.key.base_url, "next", runtime.wall(), Leases.seconds)) == 1

    for number in range(5):
        attempt(number)


def test_one_thread_at_a_time_uses_the_outbox(tmp_path: Path) -> None:
    """Threads wait for each other, and no call of theirs finds the file locked."""
    box = Outbox(tmp_path / "box", patience=0.0)
    kept: list[bool] = []
    push: Callable[[], Entry] = lambda: Entry("push", "h", "http://localhost:1", {"title": "x"}, Runtime().wall())  # noqa: E731
    assert box.put([push()])
    together(*[times(5, lambda _: kept.append(box.put([push()])))] * 4)
    assert kept == [True] * 20
