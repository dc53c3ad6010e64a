"""All that the tests know of the inside of the library, in one place.

Most tests look from outside: at the requests that the simulator got, at the card on its Lock Screen, at the log, at
what a public function returns. What cannot be seen or brought about from there (a moment between two lines, a
process that is about to fork, a thread that waits, a pipe that is full) is asked for here, and by what it means: the
tests say "somebody waits for this dispatcher", and only this file says where that is written down. So whoever changes
the inside of a class changes this file, and no test.

A test of one private module, such as `_pacing`, imports that module by itself, and its public names alone.
"""

from __future__ import annotations

import contextlib
import os
import select
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import activitysmith_track
from activitysmith_track import (
    Tracker,
    _demo,
    _endpoint,
    _exceptions,
    _fork,
    _inbox,
    _layers,
    _redaction,
    _text,
    _tracker,
    cli,
    iteration,
)
from activitysmith_track import blocks as blocks_package
from activitysmith_track.blocks import context
from activitysmith_track.delivery import (
    accounts,
    activity,
    deliveries,
    departure,
    dispatcher,
    echoes,
    end_delivery,
    end_message,
    landing,
    ledger,
    messages,
    open_activities,
    outbox_file,
    push_delivery,
    recovery,
    run,
    scheduler,
    shutdown,
    signals,
    turns,
)
from activitysmith_track.delivery.push_delivery import PushMessage
from activitysmith_track.delivery.scheduler import WorkerPool
from activitysmith_track.delivery.watchdog import line as lines
from activitysmith_track.delivery.watchdog import successor, supervisor

if TYPE_CHECKING:
    import pytest

    from activitysmith_track import Handle, Outcome, Settings
    from activitysmith_track._pacing import Pacer
    from activitysmith_track.delivery.account import Account
    from activitysmith_track.delivery.activity import Activity
    from activitysmith_track.delivery.dispatcher import Dispatcher
    from activitysmith_track.delivery.outbox import Outbox
    from activitysmith_track.delivery.persistence import Persistence
    from activitysmith_track.delivery.push_delivery import PushDelivery
    from activitysmith_track.delivery.run import Run
    from activitysmith_track.delivery.runtime import Runtime
    from activitysmith_track.delivery.scheduler import Agenda, Scheduler
    from activitysmith_track.delivery.shutdown import Shutdown
    from activitysmith_track.delivery.signals import Signals
    from activitysmith_track.delivery.state import EndState
    from activitysmith_track.delivery.watchdog.job_record import JobRecord
    from activitysmith_track.delivery.watchdog.line import Line
    from activitysmith_track.delivery.watchdog.process import WatchdogProcess
    from activitysmith_track.delivery.watchdog.protocol import Decoder, Timing
    from activitysmith_track.delivery.watchdog.supervisor import Watchdog

# ---------------------------------------------------------------------------- the tracker of the module's functions

RANKS = _tracker._RANKS  # the variables of the environment that name a process among many


def default_dispatcher() -> Dispatcher:
    """Return what delivers for the module's own functions, such as `live_progress`."""
    return _tracker.default_tracker().dispatcher


def default_settings() -> Settings:
    """Return the settings that the module's own functions have now, overrides included."""
    return _tracker.default_tracker().settings


def default_account() -> Account:
    """Return the account that the module's own functions send to; they must be on."""
    found = _tracker.default_tracker().account()
    assert found is not None
    return found


def is_overridden() -> bool:
    """Tell whether an `override` or a `capture` of the module's own functions is open."""
    return _tracker.default_tracker()._layers.layers != ()


def without_default_tracker(patch: pytest.MonkeyPatch, make: Callable[[], Tracker]) -> Callable[[], Any]:
    """Forget the default tracker until the patch is undone.

    Returns:
        What the library asks for it; `make` makes it when it is needed first.
    """
    patch.setattr(_tracker, "_default", {})
    patch.setattr(_tracker, "CoreTracker", make)
    return _tracker.default_tracker


class TrackerIn(Tracker):
    """A tracker in surroundings and with an exit of the test's own.

    Args:
        runtime: what the dispatcher takes from outside.
        leaves: the exit that it takes part in.
        **settings: as `Tracker` takes them.
    """

    def __init__(self, runtime: Runtime, leaves: Shutdown, **settings: Any) -> None:
        self.runtime, self.leaves = runtime, leaves
        super().__init__(**settings)

    def _make_dispatcher(self, exit_timeout: Callable[[], float]) -> Dispatcher:
        return dispatcher.Dispatcher(exit_timeout, self.runtime, self.leaves)

    def abandon(self) -> None:
        """Have nothing delivered when it is gone, and nothing kept for that."""
        self._finalizer.detach()


CODE_OF_SETTINGS = {_layers.__file__, _tracker.__file__}  # where settings are changed, and put one over the other


def before_settings_are_built(patch: pytest.MonkeyPatch, change: Callable[[], object]) -> None:
    """Do something once, when a change of settings has read the old ones and not yet made the new ones."""
    build = _layers._with_changes

    def overtaken(*given: Any) -> Any:
        patch.setattr(_layers, "_with_changes", build)
        change()
        return build(*given)

    patch.setattr(_layers, "_with_changes", overtaken)


def fingerprint(api_key: str) -> str:
    """Return what the outbox has in the place of a key."""
    return _endpoint.key_fingerprint(api_key)


# ------------------------------------------------------------------------------------- names, exceptions and secrets


def found_lazily() -> set[str]:
    """Return the names that the package loads when they are asked for."""
    return set(activitysmith_track._HOME_OF)


def links_read(error: BaseException) -> Iterator[object]:
    """Yield each exception of a chain of causes that is read to describe the first one."""
    return _exceptions._links(error)


def stack_is_full(patch: pytest.MonkeyPatch) -> None:
    """Have no room left on the stack where an exception is to be described."""

    def shrinking(_: object) -> Iterator[object]:
        raise RecursionError

    patch.setattr(_exceptions, "_links", shrinking)


def library_is_in(patch: pytest.MonkeyPatch, folder: str) -> None:
    """Have the library's own code stand in this folder."""
    patch.setattr(_exceptions, "_OURS", folder + os.sep)


def use_patterns(patch: pytest.MonkeyPatch, *patterns: Any) -> None:
    """Have secrets be recognised by these patterns alone; each has a `sub` as a compiled one has."""
    patch.setattr(_redaction, "_patterns", lambda: [(each, "") for each in patterns])


def time_left(pace: Pacer, now: float, fraction: float) -> float:
    """Return how long a job is taken to go on, in seconds, by how fast it has been."""
    return pace._forecast.seconds_left(now, fraction)


# ---------------------------------------------------------------------------------------------- what a block shows


def activity_of(handle: Handle) -> Activity | None:
    """Return what delivers the card of a block that has begun; `None` where the library is off."""
    return handle._display.card


def inner_blocks_of(handle: Handle) -> list[Handle]:
    """Return what a block remembers of the blocks inside it."""
    return list(handle._display._inner)


def open_lines_of(handle: Handle) -> list[Any]:
    """Return the open blocks that are lines on a block's card."""
    return handle._display.lines()


def end_state(handle: Handle, outcome: Outcome) -> EndState:
    """Return what is sent at the end of a block that has this outcome."""
    return handle._builder.final(handle, outcome)


def cannot_be_shown(handle: Handle) -> None:
    """Have the library fail by a fault of its own whenever it is to say what a block shows."""
    builder = handle._builder
    handle._builder = type("Broken", (type(builder),), {"running": None})()


def running_loop() -> Any:
    """Return the handle of the loop around the caller, which `current()` never returns."""
    return next(each for each in context.stack.get() if getattr(each, "is_loop", False))


def note_opened(track: iteration.Track[Any]) -> list[Any]:
    """Return a list that gets the handle of a loop when it is iterated over."""
    opened, begin = list[Any](), track._open

    def noted(*given: Any) -> Any:
        loop = begin(*given)
        opened.append(loop.handle)
        return loop

    track._open = noted  # type: ignore[method-assign]
    return opened


def options_of(handle: Handle) -> Any:
    """Return the options that a handle was made with."""
    return handle._options


def hear_of_exceptions() -> None:
    """Have the library hear of exceptions that nobody catches, as the first loop of a process does."""
    iteration._Hook.install()


# ------------------------------------------------------------------------------------- where real threads can meet

_BLOCKS = {str(each) for each in Path(blocks_package.__path__[0]).glob("*.py")}
_DELIVERIES = deliveries, end_delivery, end_message, messages, push_delivery, recovery
_DISPATCHER = accounts, departure, dispatcher, echoes, ledger, open_activities, turns
_ROOMS = _inbox, activity, landing, run, *_DELIVERIES, *_DISPATCHER, scheduler

CODE_OF_MEETINGS = {*_BLOCKS, *(each.__file__ for each in _ROOMS)}  # where the user's threads meet the scheduler's
new_inbox = _inbox.Inbox  # what one thread waits at, and others put in


def locks_of(served: Dispatcher) -> tuple[Any, ...]:
    """Return the locks of a dispatcher that another thread may have to wait for."""
    return served.opened._lock, served.echoes.taking_over, served.departure._lock, served.scheduler._starting


def start_lock_of(lane: Scheduler) -> Any:
    """Return the lock under which a scheduler's thread is started."""
    return lane._starting


def owe(served: Dispatcher, task: Any) -> None:
    """Have a dispatcher owe a task, which nothing delivers."""
    served.ledger.owe(task)


def owed_by(served: Dispatcher) -> list[Any]:
    """Return the tasks that a dispatcher has still to deliver."""
    return served.ledger.owed


def waiting_for(served: Dispatcher) -> int:
    """Return how many threads wait until a dispatcher owes nothing."""
    return len(served.ledger._waiters)


@contextlib.contextmanager
def held_back(served: Dispatcher, push: PushDelivery) -> Iterator[None]:
    """Have a failure's push wait for an outer block that may take it over, until the block ends."""
    served.echoes.note(push)
    yield
    served.echoes._pushes.clear()


def opened_by(served: Dispatcher) -> list[Run]:
    """Return what delivers the cards that are open."""
    return list(served.opened)


def clocks_of(served: Dispatcher) -> list[Callable[[], float]]:
    """Return all clocks by which a dispatcher tells the time."""
    return [served.clock, served.scheduler._clock, served.sampling._clock, served.runtime.now]


def is_idle(lane: Agenda) -> bool:
    """Tell whether nothing has been handed to a scheduler that it has not taken in."""
    return lane._inbox.empty()


def handed_in(lane: Agenda) -> int:
    """Return how many things have been handed to a scheduler that it has not taken in."""
    return len(lane._inbox._items)


def planned(lane: Agenda) -> int:
    """Return how many times a scheduler remembers, those included that are out of date."""
    return len(lane._heap)


def count_threads_of(lane: Scheduler) -> list[int]:
    """Return a list that grows by one whenever a thread begins to serve a scheduler."""
    served, serve = list[int](), lane._serve
    lane._serve = lambda: (served.append(1), serve())  # type: ignore[method-assign, assignment, func-returns-value]
    return served


def without_workers(patch: pytest.MonkeyPatch) -> None:
    """Have each job done where it is handed out, since no thread can be started for it."""
    patch.setattr(WorkerPool, "_start", lambda pool: False)


# ---------------------------------------------------------------------------------------------------- the deliveries


def requests_of_last_minute(account: Account) -> list[float]:
    """Return when the requests were sent that count for the account's rate."""
    return list(account._sent)


def use_up_rate(account: Account, now: float, count: int) -> None:
    """Have so many requests count for the account's rate as if they had just been sent."""
    account._sent.extend([now] * count)


def connect(account: Account) -> None:
    """Make the account's connections, as its first request does."""
    account._transport._connect()


def connections_of(account: Account) -> Any:
    """Return the HTTP client of an account, or `None` where none was made."""
    made = account._transport._connections
    return None if made is None else made.client


def attempt(push: PushDelivery, perform: Callable[[float], None]) -> None:
    """Try once to deliver a push, with `perform` in the place of the request."""
    with mock.patch.object(PushMessage, "_perform", lambda message, seconds: perform(seconds)):
        push.message.attempt(1.0)


def when_entrusted(patch: pytest.MonkeyPatch, tell: Callable[[PushDelivery], bool]) -> None:
    """Do something where a push is handed to the watchdog, and return whether that has it."""
    patch.setattr(push_delivery.PushDelivery, "_entrust", tell)


def is_on_its_way(push: PushDelivery) -> bool:
    """Tell whether a worker has been given a push to send."""
    return push._job is not None


def dated(body: dict[str, Any], occurred_at: float, now: float, kind: str) -> dict[str, Any]:
    """Return the body of what is owed as it is sent at a time: where it is late it says when it happened."""
    return _text.annotate_delay(body, occurred_at, now, kind)


# ------------------------------------------------------------------------------------------------------- what is kept


def name_in_leases(persistence: Persistence) -> str:
    """Return the name under which a process holds what it takes out of the outbox."""
    return persistence.leases.owner


def has_left(persistence: Persistence) -> bool:
    """Tell whether the process has kept all that it had to keep, and takes nothing any more."""
    return persistence.leases.is_closed


def is_at_the_disk(persistence: Persistence) -> bool:
    """Tell whether a thread is using the outbox, or has taken something out of it."""
    return bool(outbox_file._busy or persistence.leases.ids)


def watchdog_of(persistence: Persistence) -> Watchdog | None:
    """Return the watchdog that was made, or `None`."""
    return persistence.guard.watchdog


def use_watchdog(persistence: Persistence, dog: Any) -> None:
    """Have something else in the place of the watchdog."""
    persistence.guard.watchdog = dog


def alone_with_the_outbox() -> contextlib.AbstractContextManager[object]:
    """Keep other threads of the process, and calls that interrupt this one, from using the outbox meanwhile."""
    return outbox_file._alone()


def state_directory(patch: pytest.MonkeyPatch, path: str) -> None:
    """Have the system name this as the place for what programs keep."""
    patch.setattr(outbox_file, "_state_directory", lambda: path)


def before_it_heals(patch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Do something once, before a damaged file of the outbox is set aside."""
    healing = outbox_file._healing

    def later(directory: Path) -> Any:
        act()
        patch.undo()
        return healing(directory)

    patch.setattr(outbox_file, "_healing", later)


def set_aside(box: Outbox, found: os.stat_result) -> None:
    """Set the outbox's file aside, if it is still the one that was found damaged."""
    box.file._set_aside(box.path(), found, ValueError())


def stop_sqlite_at_once(patch: pytest.MonkeyPatch) -> None:
    """Allow SQLite no step at all."""
    patch.setattr(outbox_file, "_MOST_STEPS", 0)
    patch.setattr(outbox_file, "_STEPS", 1)


def disk_is_full(patch: pytest.MonkeyPatch, when: Callable[[], bool]) -> None:
    """Have the disk take nothing of an outbox while that is so."""
    transaction = outbox_file._transaction

    def full(*given: Any) -> Any:
        if when():
            raise sqlite3.OperationalError("database or disk is full")
        return transaction(*given)

    patch.setattr(outbox_file, "_transaction", full)


def tell(box: Outbox, error: Exception) -> None:
    """Have the outbox log what has failed."""
    box.file._tell(error)


def wait_for_no_disk(patch: pytest.MonkeyPatch) -> None:
    """Let the outbox write without waiting until it is on the disk: thousands of files would take minutes."""
    pragmas = tuple(each.replace("synchronous = FULL", "synchronous = OFF") for each in outbox_file._PRAGMAS)
    patch.setattr(outbox_file, "_PRAGMAS", pragmas)


# ------------------------------------------------------------------------------------------- forks, gates and signals


def gates_are_shut() -> tuple[bool, bool]:
    """Tell whether the exit keeps our threads from importing, and from reading certificates."""
    return _fork.imports._is_shut, _fork.certificates._is_shut


def open_gates() -> None:
    """Let our threads do again what the exit keeps them from."""
    _fork.imports.open()
    _fork.certificates.open()


new_gate = _fork.Gate  # which the exit shuts
certificates = _fork.certificates  # the gate before what reads certificates


def somebody_waits_at(gate: Any) -> bool:
    """Tell whether a thread waits at a gate."""
    return bool(gate._changed._waiters)


@contextlib.contextmanager
def on_own_thread() -> Iterator[None]:
    """Have this thread count as one of the library's own."""
    _fork.is_ours()
    try:
        yield
    finally:
        _fork._thread.is_ours = False


def import_lock() -> Any:
    """Return the lock that imports hold, and that a fork waits for."""
    return _fork.loading.lock


def storing_keeps_no_fork_waiting(patch: pytest.MonkeyPatch) -> None:
    """Have a fork go on at once while a thread uses the outbox."""
    patch.setattr(_fork.storing, "fork_seconds", 0.01)


def around_fork_in_parent() -> None:
    """Do in this process what is done before a fork and, in the parent, after it."""
    _fork._before()
    _fork._after_in_parent()


def forget_signal() -> None:
    """Have the process's exit not count the time in which a signal has waited."""
    shutdown.shutdown._stopped = float("-inf")


def tracked_by(watching: Signals) -> int:
    """Return how many blocks a watch for signals counts."""
    return watching._tracked


def begin_at(watching: Signals, count: int) -> None:
    """Have a watch for signals count from here."""
    watching._tracked = count


def signals_before_fork() -> None:
    """Do for signals what is done before a fork: hold them up."""
    signals._hold_before_fork()


def signals_after_fork() -> None:
    """Do for signals what is done after a fork, in the parent: let them through."""
    signals._let_go()


def signals_in_child() -> None:
    """Do for signals what is done after a fork, in the child: forget those that came."""
    signals._begin_anew_in_child()


# ------------------------------------------------------------------------------------ the watchdog, seen from the job


def line_to(dog: Watchdog) -> Line | None:
    """Return the line to the watchdog's process, or `None` where it has none."""
    return dog._companion.line


def pipe_of(line: Line) -> int | None:
    """Return the descriptor that a line writes to, or `None` where it is closed."""
    return line._pipe


def is_full(line: Line) -> bool:
    """Tell whether a line's pipe takes nothing more, while there is something to be written."""
    return bool(line._rest) and not select.select([], [line._pipe], [], 0)[1]


def remembered_by(line: Line) -> int:
    """Return of how many frames a line remembers what the process was told."""
    return len(line._known)


def has_started(dog: Watchdog) -> bool:
    """Tell whether a watchdog's thread was ever started."""
    return dog._thread is not None


def join(dog: Watchdog, timeout: float) -> None:
    """Wait until a watchdog's thread has ended."""
    assert dog._thread is not None
    dog._thread.join(timeout)


def run_by(dog: Watchdog, timing: Timing) -> None:
    """Change how long a watchdog waits for what."""
    dog._companion.timing = timing


def has_been_told(dog: Watchdog) -> Callable[[], bool]:
    """Return what tells whether the watchdog's thread, also that from before a fork, has something to take in."""
    inbox = dog._inbox
    return lambda: not inbox.empty()


def say_farewell_later(dog: Watchdog) -> Callable[[], None]:
    """Return what ends the thread that a watchdog has now, which a real child of a fork does not have."""
    inbox = dog._inbox
    return lambda: inbox.put(supervisor._Farewell(0.0))


def give_up(dog: Watchdog) -> Callable[[object, bytes, bool], None]:
    """Have a watchdog be one that was given up, and return how its thread notes what it is told by then."""
    dog._companion.is_over = True
    return lambda name, content, lasts: dog._companion.note(lines.QueuedFrame(name, content, lasts))


def fails_by_itself(patch: pytest.MonkeyPatch, dog: Watchdog) -> None:
    """Have a watchdog's thread meet a fault of our own."""
    patch.setattr(dog._companion, "look_after", lambda: 1 / 0)


def has_no_thread(dog: Watchdog) -> None:
    """Have a watchdog's thread end before it has done anything."""
    dog._run = lambda: False  # type: ignore[method-assign]


def shell_hangs(patch: pytest.MonkeyPatch) -> None:
    """Have the shell that starts the watchdog's process never leave."""
    patch.setattr(lines, "_LEAVE", "while :; do :; done")


def starts_halfway(patch: pytest.MonkeyPatch, line: Line) -> None:
    """Have the start of a watchdog's process be interrupted where everything is open, and nothing is closed again."""
    patch.setattr(line, "_return", lambda *_: None)
    patch.setattr(lines, "_await_ready", lambda *_: 0)


def when_ready(patch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Do something, in the thread that starts it, when the watchdog's process has said that it is ready."""
    ready = lines._await_ready

    def slow(*given: Any) -> int:
        pid = ready(*given)
        act()
        return pid

    patch.setattr(lines, "_await_ready", slow)


def writes_to(line: Line, pipe: int) -> None:
    """Have a line write to this pipe, and find it sound whenever it looks."""
    line._pipe, line._identity = pipe, lines._identity(pipe)
    line._stands = lambda: True  # type: ignore[method-assign]


def absolute(paths: list[str]) -> list[str]:
    """Return the module search path as the watchdog's process is told it."""
    return lines._absolute(paths)


def command_of_process() -> list[str]:
    """Return what follows the interpreter in the command that starts the watchdog's process."""
    return ["-I", "-S", "-c", lines._BOOT, lines._root()]


# ------------------------------------------------------------------------------------ the watchdog, seen from inside


def dispatcher_of(heir: successor.Successor) -> Dispatcher:
    """Return what delivers for a job that is gone."""
    return heir._dispatcher


def pidfd_of(process: WatchdogProcess) -> int | None:
    """Return the descriptor by which the process hears of the job's end."""
    return process._pidfd


def read_all(process: WatchdogProcess) -> bool:
    """Have the process read what its pipe holds, and return whether that is still open."""
    return process._read(everything=True)


def accounts_of(record: JobRecord) -> Any:
    """Return the accounts that a job has named, by their numbers."""
    return record._accounts


def bytes_held_by(record: JobRecord) -> int:
    """Return how much the process holds of what a job has told."""
    return record._held


def entries_of(record: JobRecord) -> Any:
    """Return the cards and deliveries that the process holds of a job."""
    return record._entries


def buffered_by(decoder: Decoder) -> int:
    """Return how many bytes wait for the rest of their frame."""
    return len(decoder._buffer)


def before_the_first_attempt(patch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Do something when the process has written down what it owes, and has not sent anything."""
    patch.setattr(successor, "_can_send", lambda: (act(), True)[1])


# ------------------------------------------------------------------------------------------ for the code of real jobs

FOR_JOBS = '''\
def default_tracker():
    """Return the tracker of the module's own functions."""
    from activitysmith_track import _tracker
    return _tracker.default_tracker()
def default_dispatcher():
    """Return what delivers for the module's own functions."""
    return default_tracker().dispatcher
def watchdog():
    """Return the default tracker's watchdog, or `None`."""
    return default_dispatcher().persistence.guard.watchdog
def told_to_watchdog():
    """Return of what the watchdog was told and is to know: pairs of a kind and a number."""
    return set(watchdog()._companion.live)
def activity_of(handle):
    """Return what delivers a block's card."""
    return handle._display.card
def end_is_with_watchdog(handle):
    """Tell whether the watchdog was told how a block has ended."""
    return activity_of(handle).end_delivery.message._armed is not None
def owed():
    """Return what is to be delivered."""
    return default_dispatcher().ledger.owed
def is_held_back():
    """Tell whether a failure's push waits for an outer block that may take it over."""
    return bool(default_dispatcher().echoes._pushes)
def entrusted():
    """Return what the watchdog has been given to deliver."""
    return default_dispatcher().persistence.guard._entrusted.copy()
'''
"""What a job's code can ask, in a process of its own."""

# ------------------------------------------------------------------------------------------------------- the demo


def quick_demo(patch: pytest.MonkeyPatch) -> None:
    """Have the demo work through two files, and not through all of the package."""
    patch.setattr(_demo, "COMPRESSED_BYTES", 100_000)
    patch.setattr(_demo, "source_files", lambda: [_demo.__file__, cli.__file__])


def demo_does(patch: pytest.MonkeyPatch, work: Callable[..., object], wait: Callable[[], object]) -> None:
    """Have the demo do this as its work, and this to wait for Ctrl-C after it."""
    patch.setattr(_demo, "work", work)
    patch.setattr(_demo, "wait_for_interrupt", wait)


def demo_is(patch: pytest.MonkeyPatch, run: Callable[..., object]) -> None:
    """Have the demo be something else."""
    patch.setattr(_demo, "run_simulated", run)
