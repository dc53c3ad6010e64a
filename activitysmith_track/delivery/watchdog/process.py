"""The watchdog process: what it is told, and what it does when the job is gone.

`supervisor` starts it in a session of its own and feeds it over a pipe with frames; see `protocol`. It knows the
crash state of each open card, and sleeps until the job says `bye`, the pipe closes, or the job's pidfd says that it
is gone. Then it delivers what is left to say, for up to an hour, and exits. All of it is put into the outbox before
the first attempt: there a newer run of the same card can take the end away, and a next process finds what this one
has to give up. It also takes over what the job itself has put there; an entry that is gone by then was delivered, or
a newer run has the card. While it waits it holds next to nothing: httpx is imported when there is something to send.
"""

from __future__ import annotations

import contextlib
import os
import select
import sys
import time
from typing import TYPE_CHECKING

from .job_record import JobRecord
from .pids import is_gone
from .protocol import READY, Decoder, Garbled, Timing

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

LONGEST_RETRY = 3_600.0  # seconds that it tries to deliver at most
TERM_SECONDS = 20.0  # how long the process still tries after a SIGTERM of its own
POLL_SECONDS = 1.0  # how often it looks for the job where there is no pidfd


def run_watchdog() -> None:  # pragma: no cover  # its process is without site, so coverage does not see it
    """Be the watchdog.

    Standard input is the pipe, standard output the job's pidfd, and the error output is told when the watch begins.
    """
    process = WatchdogProcess()
    _keep_to_itself(process)
    try:
        with contextlib.suppress(Exception):  # whatever goes wrong, what is owed is delivered
            process.wait()
        process.deliver()
    finally:
        os._exit(0)


def _keep_to_itself(process: WatchdogProcess) -> None:  # pragma: no cover  # as above
    import resource
    import signal

    signal.signal(signal.SIGTERM, process.hurry)
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGPIPE, signal.SIGTSTP):
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))  # the key is in memory
    os.umask(0o077)
    os.chdir("/")


class WatchdogProcess:
    """The process: it waits for the job to go, and then delivers what the job owes.

    Args:
        pipe: the descriptor that frames come from.
        pidfd: the descriptor that is the job's pidfd where `hello` says so; it is replaced.
        told: the descriptor that is told when the watch begins; it is replaced.
    """

    def __init__(self, pipe: int = 0, pidfd: int = 1, told: int = 2) -> None:
        self._pipe, self._lent, self._listener = pipe, pidfd, told
        self.record = JobRecord()
        self._decoder = Decoder()
        self._until = float("inf")
        self._pidfd: int | None = None
        self._patience = float("inf")  # seconds to deliver

    def hurry(self, *_: object) -> None:
        """Stay until the job is gone, since its machine may be shutting down, but do not try for long then."""
        self._patience = TERM_SECONDS
        self._until = min(self._until, time.monotonic() + TERM_SECONDS)

    def wait(self) -> None:
        """Wait until the job is gone, as its bye, its closed pipe or its pidfd tells."""
        os.set_blocking(self._pipe, False)
        watched = select.poll()
        watched.register(self._pipe, select.POLLIN)
        registered = False
        while True:
            if self._pidfd is not None and not registered:
                watched.register(self._pidfd, select.POLLIN)
                registered = True
            ready = dict(watched.poll(None if registered or self.record.hello is None else POLL_SECONDS * 1_000))
            gone = self._pidfd in ready if registered else self._is_gone()
            if not self._read(everything=gone) or gone:
                return

    def _read(self, *, everything: bool) -> bool:
        """Take in what the pipe holds; False when there is nothing more to come."""
        try:
            while True:
                data = os.read(self._pipe, 65_536)
                if not self._take(data):
                    return False
                if not everything:
                    return True
        except BlockingIOError:
            return True
        except OSError:
            return False

    def _take(self, data: bytes) -> bool:
        """Take in some bytes; False at the end, be it a bye, a closed pipe or garbage."""
        try:
            for frame, content in self._decoder.feed(data):
                self.record.take(frame, content)
                if frame["frame"] == "hello":
                    self._begin(frame)
                if self.record.left:
                    return False
        except Garbled:
            return False
        return bool(data)

    def _begin(self, hello: Mapping[str, Any]) -> None:
        """Let go of what the job lent, and say that the watch has begun."""
        if self._pidfd is None and hello["pidfd"]:
            self._pidfd = os.dup(self._lent)
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, self._lent)
        with contextlib.suppress(OSError):  # the job does not wait any more
            os.write(self._listener, b"\n%d\n%s" % (os.getpid(), READY))
        os.dup2(null, self._listener)
        os.close(null)

    def _is_gone(self) -> bool:
        hello = self.record.hello
        return hello is not None and is_gone(hello["pid"], hello["started"])

    # -- what the job owes

    def deliver(self) -> None:
        """Deliver what the job owes, or leave it to a next process when the time is over."""
        hello = self.record.hello
        if hello is None or not self.record.owes:
            return
        self._make_importable(hello)
        from .successor import PacedRuntime, Successor

        timing = Timing(*hello["timing"])
        runtime = PacedRuntime(timing.attempt, timing.first_wait, timing.longest_wait)
        self._until = runtime.now() + min(timing.retry, LONGEST_RETRY, self._patience)
        owed, leases = self.record.owed(runtime.wall()), self.record.leases()
        Successor(runtime, hello["outbox"]).deliver(owed, lambda: self._until, leases)

    @staticmethod
    def _make_importable(hello: Mapping[str, Any]) -> None:
        """Make importable what the library needs, as it was in the job."""
        sys.path += [each for each in hello["sys_path"] if each not in sys.path]
        os.environ.update(hello["environment"])
        from importlib.util import find_spec

        if not all(find_spec(name) for name in ("httpx", "platformdirs")):  # they are not found by a path alone
            import site

            site.main()
