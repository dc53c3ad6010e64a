"""One watchdog process, started so that it is no child of the job, and the pipe to it, on which the job never waits.

The API key travels over the pipe too, never in the arguments or the environment.
"""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from .pids import open_pidfd, start_time
from .protocol import PROTOCOL, READY, Timing, encode

if TYPE_CHECKING:
    from collections.abc import Callable

_BOOT = (
    "import sys; sys.path.append(sys.argv[1]);"
    " from activitysmith_track.delivery.watchdog.process import run_watchdog; run_watchdog()"
)
# The shell leaves at once, so that the watchdog is no child of the job, whose own `os.wait()` never meets it.
_LEAVE = '{ "$@" <&3 3<&- & } 3<&0'
_ENVIRONMENT = ("LANG", "LC_ALL", "LC_CTYPE", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "TZ")  # what Python may need
_PROXY_VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")  # over the pipe: a password may be in them
_CERTIFICATE_VARIABLES = ("SSL_CERT_FILE", "SSL_CERT_DIR")
_HOME_VARIABLES = ("HOME", "XDG_STATE_HOME")  # where the user's state directory is
ONE_WRITE = 16_384  # bytes that a pipe takes at once, if it is empty
BLOCKED_SECONDS = 0.1  # between two looks at a pipe that is full


class QueuedFrame(NamedTuple):
    """A frame on its way to the process; one with `lives=False` takes back an earlier one of its key."""

    key: tuple[str, int]
    frame: bytes
    lives: bool


class Line:
    """One process, and the pipe to it, which is never waited for. Used by the watchdog's thread alone."""

    def __init__(self, outbox: str | bool = False, now: Callable[[], float] = time.monotonic) -> None:
        self.pid: int | None = None
        self._outbox, self._now = outbox, now
        self._pending: dict[tuple[str, int], QueuedFrame] = {}  # the newest of each key, to be written
        self._rest = b""  # of a frame that is written by half
        self._known: set[tuple[str, int]] = set()
        self._pipe: int | None = None
        self._identity: tuple[int, int] | None = None
        self._lent: set[int] = set()  # descriptors that are closed when the process is ready

    # -- starting

    def start(self, python: str, timing: Timing, seconds: float) -> None:
        """Start the process and wait until it is ready.

        Raises:
            OSError, subprocess.SubprocessError, RuntimeError: where it cannot be.
        """
        until = self._now() + seconds
        frames, pipe = os.pipe()
        told, tells = os.pipe()
        self._lent |= {frames, told, tells}
        self._pipe, self._identity = pipe, _identity(pipe)
        os.set_blocking(pipe, False)
        try:
            self._spawn(python, frames, tells, seconds)
            self._return(frames, tells)
            self.put(QueuedFrame(("hello", 0), encode("hello", **self._hello(timing)), True))
            while self.flush() and self.blocked and self._now() < until:
                self.wait(BLOCKED_SECONDS)
            self.pid = _await_ready(told, until, self._now)
        finally:
            self._return(*self._lent)

    def _spawn(self, python: str, frames: int, tells: int, seconds: float) -> None:
        pidfd = open_pidfd()
        self._has_pidfd = pidfd is not None
        if pidfd is not None:
            self._lent.add(pidfd)
        shell = subprocess.Popen(
            ["/bin/sh", "-c", _LEAVE, "sh", python, *_flags(), "-c", _BOOT, _root()],
            stdin=frames,
            stdout=subprocess.DEVNULL if pidfd is None else pidfd,
            stderr=tells,
            cwd="/",
            env={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
            start_new_session=True,
        )
        try:
            shell.wait(seconds)
        except subprocess.TimeoutExpired:
            shell.kill()
            shell.wait()
            raise

    def _return(self, *descriptors: int) -> None:
        for each in descriptors:
            self._lent.discard(each)  # first: a child forked in between must not close another one of this number
            os.close(each)

    def _hello(self, timing: Timing) -> dict[str, Any]:
        names = [
            *_PROXY_VARIABLES,
            *(name.upper() for name in _PROXY_VARIABLES),
            *_CERTIFICATE_VARIABLES,
            *_HOME_VARIABLES,
        ]
        return {
            "protocol": PROTOCOL,
            "pid": os.getpid(),
            "pidfd": self._has_pidfd,
            "started": start_time(os.getpid()),
            "sys_path": _absolute(sys.path),
            "environment": {name: os.environ[name] for name in names if name in os.environ},
            "timing": list(timing),
            "outbox": self._outbox,
        }

    # -- feeding

    @property
    def blocked(self) -> bool:
        """True while something is yet to be written."""
        return bool(self._rest or self._pending)

    def say_bye(self) -> None:
        """Tell the process that the job leaves in order."""
        self.put(QueuedFrame(("bye", 0), encode("bye"), True))
        self.flush()

    def put(self, queued: QueuedFrame) -> None:
        """Have a frame written, in the place of one of the same key that has not been written yet."""
        if queued.lives or queued.key in self._known:
            self._pending[queued.key] = queued
        else:
            self._pending.pop(queued.key, None)

    def flush(self) -> bool:
        """Write as much as the pipe takes; False when the process is gone."""
        if not self._stands():
            return False
        try:
            while self._rest or self._pending:
                while self._pending and len(self._rest) < ONE_WRITE:
                    queued = self._pending.pop(next(iter(self._pending)))
                    self._rest += queued.frame
                    (self._known.add if queued.lives else self._known.discard)(queued.key)
                self._rest = self._rest[os.write(self._pipe or -1, self._rest) :]
        except BlockingIOError:
            return True
        except OSError:
            return False
        return True

    def wait(self, seconds: float) -> None:
        """Wait until the pipe takes more."""
        poll = select.poll()
        poll.register(self._pipe or -1, select.POLLOUT)
        poll.poll(seconds * 1_000)

    def _stands(self) -> bool:
        """Tell whether the pipe is still ours (the job may have closed all that it did not open) and has a reader."""
        if self._pipe is None or _identity(self._pipe) != self._identity:
            return False
        poll = select.poll()
        poll.register(self._pipe, 0)
        return not poll.poll(0)

    def close(self) -> None:
        """Close the pipe, if it is still ours."""
        pipe, self._pipe = self._pipe, None
        if pipe is not None and _identity(pipe) == self._identity:
            os.close(pipe)

    def drop(self) -> None:
        """In a forked child: close all that the parent's thread had open, even in the middle of a start."""
        self.close()
        self._return(*self._lent)


def _flags() -> tuple[str, ...]:
    """Return the interpreter's options: nothing of the user's own is imported."""
    return ("-I", "-S", "-B") if sys.dont_write_bytecode else ("-I", "-S")


def _identity(descriptor: int) -> tuple[int, int] | None:
    try:
        found = os.fstat(descriptor)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _root() -> str:
    """Return where this package is found."""
    return os.path.abspath(os.path.join(os.path.dirname(__file__), *[os.pardir] * 3))


def _absolute(paths: list[str]) -> list[str]:
    try:
        return [os.path.abspath(each) for each in paths if isinstance(each, str)]
    except OSError:  # the working directory is gone
        return [each for each in paths if isinstance(each, str) and os.path.isabs(each)]


def _await_ready(told: int, until: float, now: Callable[[], float]) -> int:
    """Wait for the process to say that it is ready, and return its pid.

    Raises:
        OSError: when it does not, with the last line that it wrote.
    """
    heard = b""
    poll = select.poll()
    poll.register(told, select.POLLIN)
    while not heard.endswith(b"\n" + READY) and poll.poll(max(0.0, until - now()) * 1_000):
        data = os.read(told, 65_536)
        if not data:
            break
        heard = (heard + data)[-65_536:]
    lines = heard.decode(errors="replace").split("\n")
    if heard.endswith(b"\n" + READY) and lines[-2].isdigit():
        return int(lines[-2])
    raise OSError(next((line[-300:] for line in reversed(lines) if line.strip()), "it does not answer"))
