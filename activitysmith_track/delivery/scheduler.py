"""The threads: one that decides and never waits for the network, and workers that carry requests for it.

An `Agenda` runs short tasks when they are due, and a `Scheduler` is an agenda with a thread. What may take long, a
task hands to a `WorkerPool` as a `Job`; when that is done, the task is looked at again. So a request that hangs keeps
nothing else waiting, and what tasks know is touched by the scheduler's thread alone. User threads only put into an
`Inbox`, which nobody waits for, so that a signal handler may call a handle as well.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
import time
from queue import Empty, SimpleQueue

from .._fork import is_ours
from .._inbox import Inbox

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Protocol

    class Task(Protocol):
        """Something that a scheduler does, now or later."""

        def run(self, now: float) -> float | None:
            """Do what is due; return when to come back, or `None` to wait for a wake-up."""

        def give_up(self) -> None:
            """Give up what the task had to do, since `run` has raised something unforeseen."""


logger = logging.getLogger("activitysmith_track")


class Job:
    """Work that may take long, for a task.

    Attributes:
        result: what the work returned, once it is done.
        error: what it raised instead, or `None`.
    """

    __slots__ = ("done", "error", "pool", "result", "task", "work")

    def __init__(self, task: Task, pool: WorkerPool, work: Callable[[], Any]) -> None:
        self.task, self.pool, self.work = task, pool, work
        self.result: Any = None
        self.error: Exception | None = None
        self.done = False

    def do(self) -> None:
        """Do the work, on a thread of the pool."""
        try:
            self.result = self.work()
        except Exception as error:
            self.error = error


class WorkerPool:
    """Daemon threads that run jobs; another one is started while all are busy.

    Args:
        name: of the threads.
        most: how many there may be.
        report: told of each job that was done, on the thread that did it.
    """

    def __init__(self, name: str, most: int, report: Callable[[Job], None]) -> None:
        self._name, self._most, self._report = name, most, report
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self.busy = 0  # jobs that are not done yet; counted by the scheduler alone

    @property
    def free(self) -> bool:
        """True while a job would be begun at once."""
        return self.busy < self._most

    def send(self, task: Task, work: Callable[[], Any]) -> Job:
        """Have work done for a task; called by the scheduler."""
        job = Job(task, self, work)
        self.busy += 1
        if self.busy > len(self._threads) and not self._start() and not self._threads:
            self._do(job)  # the interpreter exits and lets no thread start any more
        else:
            self._jobs.put(job)
        return job

    def _start(self) -> bool:
        if len(self._threads) >= self._most:
            return False
        number = len(self._threads) + 1
        thread = threading.Thread(target=self._serve, name=f"activitysmith-{self._name}-{number}", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            return False
        self._threads.append(thread)
        return True

    def _serve(self) -> None:
        is_ours()
        while (job := self._jobs.get()) is not None:
            self._do(job)
            del job  # else it would keep its task alive until the next job comes
        self._jobs.put(None)  # for the other threads, and for one that the scheduler has yet to start

    def _do(self, job: Job) -> None:
        job.do()
        self._report(job)

    def stop(self) -> None:
        """Let the threads end when they are done with what they do."""
        self._jobs.put(None)

    def join(self, timeout: float) -> None:
        """Wait until the threads have ended, for so many seconds at most."""
        until = time.monotonic() + timeout
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(max(0.0, until - time.monotonic()))


class Agenda:
    """What is to be done, and when: short tasks, run one after the other by whoever calls `run_due`.

    Args:
        name: how the log calls it.
        clock: seconds of a clock that never goes back.
    """

    def __init__(self, name: str, clock: Callable[[], float]) -> None:
        self._name, self._clock = name, clock
        self._inbox: Inbox[Task | Job | None] = Inbox()
        self._heap: list[list[Any]] = []  # when, an order, and the task; `None` for one that is forgotten
        self._due: dict[Task, list[Any]] = {}  # the entry of each
        self._order = itertools.count()
        self._resting: list[Task] = []
        self.outstanding = 0  # jobs that are not done yet
        self.ran = 0  # tasks, so that a test can tell whether anything happens

    # -- for any thread

    def wake(self, task: Task) -> None:
        """Have a task run soon; never blocks."""
        self._inbox.put(task)

    def report(self, job: Job) -> None:
        """Hear of a job that was done."""
        self._inbox.put(job)

    # -- for its tasks, and for whoever runs them

    def schedule(self, task: Task, due: float) -> None:
        """Have a task run at a time, and at no other."""
        self.forget(task)
        self._due[task] = entry = [due, next(self._order), task]
        heapq.heappush(self._heap, entry)
        if len(self._heap) > 2 * len(self._due) + 64:  # most entries are obsolete, replaced by later ones
            self._heap = list(self._due.values())
            heapq.heapify(self._heap)

    def forget(self, task: Task) -> None:
        """Run a task no more, and drop the reference to it."""
        entry = self._due.pop(task, None)
        if entry is not None:
            entry[2] = None

    def send(self, pool: WorkerPool, task: Task, work: Callable[[], Any]) -> Job:
        """Have a pool do what may take long, and run the task again when it is done."""
        self.outstanding += 1
        return pool.send(task, work)

    def at_rest(self, task: Task) -> bool:
        """Tell whether nothing is due and no job is in flight; if not, run the task again when that is so."""
        if self.outstanding:
            self._resting.append(task)
        elif self.seconds_until_due() == 0.0:
            self.schedule(task, self._clock())
        else:
            return True
        return False

    def next_due(self) -> float | None:
        """Return when the next task is due, as far as is known by now; for any thread."""
        return min((when for when, *_ in list(self._due.values())), default=None)

    def seconds_until_due(self) -> float | None:
        """Return the seconds until there is something to do, 0 or more; `None` where only a wake-up brings it."""
        while self._heap and self._heap[0][2] is None:
            heapq.heappop(self._heap)
        if not self._inbox.empty():
            return 0.0
        return max(0.0, self._heap[0][0] - self._clock()) if self._heap else None

    def take_in(self, timeout: float | None = 0.0) -> bool:
        """Put what was woken on the agenda, after waiting for it at most so long; False when told to stop."""
        try:
            found = self._inbox.get(timeout)
            while found is not None:
                self.schedule(self._landed(found) if isinstance(found, Job) else found, self._clock())
                found = self._inbox.get_nowait()
        except Empty:
            return True
        return False

    def _landed(self, job: Job) -> Task:
        job.done = True
        job.pool.busy -= 1
        self.outstanding -= 1
        if not self.outstanding:
            for task in self._resting:
                self.schedule(task, self._clock())
            self._resting.clear()
        return job.task

    def run_due(self) -> None:
        """Run what is due, until another task is woken or all of it was run."""
        now = self._clock()
        while self._heap and self._heap[0][0] <= now:
            *_, task = heapq.heappop(self._heap)
            if task is None:
                continue
            del self._due[task]
            self.ran += 1
            try:
                again = task.run(self._clock())
            except Exception:
                logger.exception("activitysmith_track: internal error in the %s scheduler", self._name)
                task.give_up()
                again = None
            if again is not None:
                self.schedule(task, again)
            if not self._inbox.empty():
                return


class Scheduler(Agenda):
    """One daemon thread that runs tasks when they are due, started by the first of them.

    Args:
        name: of the thread.
        clock: seconds of a clock that never goes back.
    """

    def __init__(self, name: str, clock: Callable[[], float]) -> None:
        super().__init__(name, clock)
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None
        self._serving: dict[str, int] = {}  # the one thread that serves, even if noting its start was interrupted
        self.too_late = False  # True once the interpreter has refused a thread because it exits

    def start(self) -> bool:
        """Start the thread if it does not run yet; False where the interpreter no longer lets threads start."""
        if self._thread is not None:
            return True
        if not self._starting.acquire(blocking=False):
            return True  # another thread, or the code that a signal handler interrupted, is at it
        try:
            if self._thread is None:
                thread = threading.Thread(target=self._serve, name=f"activitysmith-{self._name}", daemon=True)
                thread.start()
                self._thread = thread
        except RuntimeError as error:
            self.too_late = "interpreter shutdown" in str(error)
            return False
        finally:
            self._starting.release()
        return True

    @property
    def runs(self) -> bool:
        """True once the scheduler has its thread."""
        return self._thread is not None or bool(self._serving)

    def stop(self) -> None:
        """Let the thread end."""
        self._inbox.put(None)

    def join(self, timeout: float) -> None:
        """Wait until the thread has ended, for so many seconds at most; also where another one is starting it."""
        until = time.monotonic() + timeout
        if self._starting.acquire(timeout=timeout):
            self._starting.release()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(max(0.0, until - time.monotonic()))

    def drain(self, until: float, goes_on: Callable[[], object]) -> None:
        """Run what is due on the calling thread, where the scheduler has none; meanwhile it gets none.

        Args:
            until: the clock's time at which it stops at the latest.
            goes_on: returns something false when enough was done.
        """
        if not self._starting.acquire(blocking=False):
            return  # another thread does so, or starts the scheduler's
        try:
            if not self.runs:
                self._drain(until, goes_on)
        finally:
            self._starting.release()

    def _drain(self, until: float, goes_on: Callable[[], object]) -> None:
        while goes_on() and self._clock() < until and (self.outstanding or self.seconds_until_due() is not None):
            wait = self.seconds_until_due()
            left = max(0.0, until - self._clock())
            self.take_in(left if wait is None else min(wait, left))
            self.run_due()

    def _serve(self) -> None:
        is_ours()
        thread = threading.get_ident()
        if self._serving.setdefault("thread", thread) != thread:
            return  # an earlier thread serves; a KeyboardInterrupt kept `start` from noting it
        while self.take_in(self.seconds_until_due()):
            self.run_due()
