"""The watchdog process: what it is told, and what it does when the job is gone.

`_watchdog` starts it in a session of its own and feeds it over a pipe with frames: a length of four bytes and so
many bytes of JSON. It knows the last words of each open card, and sleeps until the job says `bye`, the pipe closes,
or the job's pidfd says that it is gone. Then it delivers what is left to say, for up to an hour, and exits. All of it
is put into the outbox before the first attempt: a newer run of the same card takes its end away there, and what it
has to give up a next process finds there. What the job has put there itself it takes over: what is gone by then was
delivered, or a newer run has the card. While it waits it holds next to nothing: httpx is imported when there is
something to send.

The frames, by their `frame`:

- `hello`: the protocol's version, the job's pid, how to import this library, how long to try, and the outbox's
  directory (true for the user's own, false for none).
- `account`: `id`, `api_key`, `base_url`; cards and what is owed name it by its id.
- `card`: `id`, `account`, `stream_key`, `began` (seconds since the epoch), and the last words: `end`, the body that
  ends the stream, empty where the service would not show it, and `push`, the body of a push or null. It comes when a
  card opens and whenever its last words change; the newest counts.
- `goodbye`: `id`; the job has ended that card itself.
- `owed`: `id`, `account`, `method` (`end`, `keep` or `push`), `stream_key`, `body`, `at_least_once`, `happened`
  and `began` (seconds since the epoch); to be delivered when the job is gone, in whatever way.
- `settled`: `id`; the job has delivered that itself.
- `leases`: `id`, `account` and `owner`; something of that account is in the outbox under a lease of that owner, which
  is the job's name there. When the job is gone, it is taken over from there.
- `returned`: `id`; there is nothing under those leases any more.
- `bye`: the job leaves in order. Cards without a goodbye are ended, and nobody is alarmed.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import sys
import time
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from .delivery.successor import Owed

PROTOCOL = 4
MAX_FRAME = 1024 * 1024  # bytes of one frame
MAX_HELD = 4 * MAX_FRAME  # bytes of frames that the process keeps
MAX_ENTRIES = 200  # cards and owed requests that are kept at once
LONGEST_RETRY = 3_600.0  # seconds that it tries to deliver at most
TERM_SECONDS = 20.0  # how long the process still tries after a SIGTERM of its own
READY = b"ready"
POLL_SECONDS = 1.0  # how often it looks for the job where there is no pidfd


class Timing(NamedTuple):
    """How long the watchdog takes, in seconds.

    Attributes:
        retry: how long it tries to deliver after the job is gone; an hour at most.
        first_wait: before the second attempt at a request, from which the further ones grow; see `retry.backoff`.
        longest_wait: between two attempts.
        attempt: one request takes at most.
        idle: how long the process is kept while the job has nothing to guard.
        check: how often the job looks whether the process is still there.
        start: how long the process may take to begin.
    """

    retry: float = 3_600.0
    first_wait: float = 2.0
    longest_wait: float = 60.0
    attempt: float = 5.0
    idle: float = 30.0
    check: float = 5.0
    start: float = 20.0


# ------------------------------------------------------------------------------------------------------- frames


class Garbled(Exception):
    """What came over the pipe is not what this module sends."""


_NUMBER = (int, float)
_NONE = type(None)
_FRAMES: dict[str, dict[str, tuple[type, ...]]] = {
    "hello": {
        "protocol": (int,),
        "pid": (int,),
        "pidfd": (bool,),
        "started": (int, _NONE),
        "sys_path": (list,),
        "environment": (dict,),
        "timing": (list,),
        "outbox": (str, bool),
    },
    "account": {"id": (int,), "api_key": (str,), "base_url": (str,)},
    "card": {
        "id": (int,),
        "account": (int,),
        "stream_key": (str,),
        "end": (dict,),
        "push": (dict, _NONE),
        "began": _NUMBER,
    },
    "goodbye": {"id": (int,)},
    "owed": {
        "id": (int,),
        "account": (int,),
        "method": (str,),
        "stream_key": (str, _NONE),
        "body": (dict,),
        "at_least_once": (bool,),
        "happened": _NUMBER,
        "began": _NUMBER,
    },
    "settled": {"id": (int,)},
    "leases": {"id": (int,), "account": (int,), "owner": (str,)},
    "returned": {"id": (int,)},
    "bye": {},
}


def encode(kind: str, **fields: Any) -> bytes:
    """Build a frame.

    Raises:
        TypeError, ValueError: for what JSON cannot say, or what is longer than 1 MiB.
    """
    content = json.dumps({"frame": kind, **fields}, separators=(",", ":")).encode()
    if len(content) > MAX_FRAME:
        raise ValueError(f"a frame of {len(content)} bytes is too long")
    return len(content).to_bytes(4, "big") + content


class Decoder:
    """Cuts what comes over the pipe into frames, in bounded memory."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[dict[str, Any], bytes]]:
        """Yield each whole frame, checked, with the bytes that it was.

        Raises:
            Garbled: at the first thing that is no frame.
        """
        self._buffer += data
        while len(self._buffer) >= 4:
            length = int.from_bytes(self._buffer[:4], "big")
            if length > MAX_FRAME:
                raise Garbled(f"a frame of {length} bytes")
            if len(self._buffer) < 4 + length:
                return
            content = bytes(self._buffer[4 : 4 + length])
            del self._buffer[: 4 + length]
            yield read_frame(content), content


def read_frame(content: bytes) -> dict[str, Any]:
    """Read a frame and check the type of each field.

    Raises:
        Garbled: for anything that this module does not send.
    """
    try:
        frame = json.loads(content)
    except (ValueError, RecursionError):
        raise Garbled("not JSON") from None
    fields = _FRAMES.get(str(frame.get("frame"))) if isinstance(frame, dict) else None
    if fields is None:
        raise Garbled("no frame of this version")
    for name, types in fields.items():
        if name not in frame or type(frame[name]) not in types:
            raise Garbled(f"{frame['frame']}.{name}")
    if frame["frame"] == "hello":
        _check_hello(frame)
    if frame["frame"] == "owed" and frame["method"] not in ("end", "keep", "push"):
        raise Garbled("owed.method")
    return dict(frame)


def _check_hello(frame: Mapping[str, Any]) -> None:
    numbers = all(type(each) in _NUMBER and 0 <= each <= 1e9 for each in frame["timing"])
    texts = [*frame["sys_path"], *frame["environment"], *frame["environment"].values(), str(frame["outbox"])]
    if frame["protocol"] != PROTOCOL or len(frame["timing"]) != len(Timing._fields) or not numbers:
        raise Garbled("hello of another version")
    if not all(isinstance(each, str) and "\0" not in each for each in texts) or not 0 < frame["pid"] < 2**31:
        raise Garbled("hello")


# -------------------------------------------------------------------------------------------- what there is to do

_TAKEN_BACK_BY = {"goodbye": "card", "settled": "owed", "returned": "leases"}


class Duty:
    """What the process knows: pure, and bounded whatever it is told."""

    def __init__(self) -> None:
        self.hello: dict[str, Any] | None = None
        self.left = False  # in order: the job said `bye`
        self._accounts: dict[int, tuple[str, str]] = {}
        self._entries: dict[tuple[str, int], bytes] = {}  # as they came: parsed they would take several times that
        self._held = 0

    def take(self, frame: Mapping[str, Any], content: bytes) -> None:
        """Note what a frame says."""
        kind = frame["frame"]
        if kind == "hello":
            self.hello = dict(frame)
        elif kind == "bye":
            self.left = True
        elif kind == "account":
            if len(self._accounts) < MAX_ENTRIES:
                self._accounts[frame["id"]] = frame["api_key"], frame["base_url"]
        elif kind in _TAKEN_BACK_BY.values():
            self._keep((kind, frame["id"]), content)
        else:
            self._keep((_TAKEN_BACK_BY[kind], frame["id"]), b"")

    def _keep(self, key: tuple[str, int], content: bytes) -> None:
        """Hold an entry in the place of its older one, or none; beyond the bounds nothing new is held."""
        held = self._held - len(self._entries.get(key, b"")) + len(content)
        if not content:
            self._entries.pop(key, None)
        elif held > MAX_HELD or (key not in self._entries and len(self._entries) >= MAX_ENTRIES):
            return
        else:
            self._entries[key] = content
        self._held = held

    @property
    def owes(self) -> bool:
        """True where there is something to say."""
        return bool(self._entries)

    def owed(self, now: float) -> list[Owed]:
        """Return what is to be delivered now that the job is gone.

        Args:
            now: seconds since the epoch.
        """
        frames = sorted((json.loads(content) for content in self._entries.values()), key=lambda frame: frame["id"])
        known = [frame for frame in frames if frame["account"] in self._accounts]
        cards = [frame for frame in known if frame["frame"] == "card"]
        streams = {_stream(frame): frame for frame in cards if frame["end"]}  # the newest card of each
        made = [self._owed(frame, "end", frame["end"], now) for frame in streams.values()]
        if not self.left:
            made += self._alarms([*streams.values(), *(frame for frame in cards if not frame["end"])], now)
        owed = {
            frame["id"] if frame["method"] == "push" else _stream(frame): frame
            for frame in known
            if frame["frame"] == "owed" and (frame["method"] == "push" or _stream(frame) not in streams)
        }
        return made + [
            self._owed(frame, frame["method"], frame["body"], frame["happened"], frame["at_least_once"])
            for frame in owed.values()
        ]

    def leases(self) -> list[tuple[tuple[str, str], str]]:
        """Return whose leases in the outbox are to be taken over, each with the account."""
        frames = [json.loads(content) for (kind, _), content in self._entries.items() if kind == "leases"]
        known = [frame for frame in frames if frame["account"] in self._accounts]
        return [(self._accounts[frame["account"]], frame["owner"]) for frame in known]

    def _alarms(self, cards: list[dict[str, Any]], now: float) -> Iterator[Owed]:
        """One failure, one push: the first card's, which says how many more there are; one for each account."""
        for account in dict.fromkeys(card["account"] for card in cards):
            own = [card for card in cards if card["account"] == account]
            alarming = [card for card in own if card["push"] is not None]
            if alarming:
                yield self._owed(alarming[0], "push", _counted(alarming[0]["push"], len(own) - 1), now)

    def _owed(
        self, frame: Mapping[str, Any], method: str, body: dict[str, Any], at: float, again: bool = True
    ) -> Owed:
        from .delivery.successor import Owed

        account = self._accounts[frame["account"]]
        began = frame["began"] if method != "push" else 0.0
        return Owed(method, account, frame["stream_key"] or "", body, again, at, began)


def _stream(frame: Mapping[str, Any]) -> tuple[int, str | None]:
    return frame["account"], frame["stream_key"]


def _counted(push: dict[str, Any], more: int) -> dict[str, Any]:
    if not more:
        return push
    others = f"and {more} more card{'s' if more > 1 else ''}"
    return {**push, "message": f"{push['message']} · {others}" if push.get("message") else others}


# --------------------------------------------------------------------------------------------------- the process


def main() -> None:  # pragma: no cover  # its process is without site, so coverage does not see it
    """Be the watchdog.

    Standard input is the pipe, standard output the job's pidfd, and the error output is told when the watch begins.
    """
    guard = Guard()
    _keep_to_itself(guard)
    try:
        with contextlib.suppress(Exception):  # whatever it is, there is a duty
            guard.wait()
        guard.deliver()
    finally:
        os._exit(0)


def _keep_to_itself(guard: Guard) -> None:  # pragma: no cover  # as above
    import resource
    import signal

    signal.signal(signal.SIGTERM, guard.hurry)
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGPIPE, signal.SIGTSTP):
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))  # the key is in memory
    os.umask(0o077)
    os.chdir("/")


class Guard:
    """The process: it waits for the job to go, and then delivers what is left to say.

    Args:
        pipe: the descriptor that frames come from.
        pidfd: the descriptor that is the job's pidfd where `hello` says so; it is replaced.
        told: the descriptor that is told when the watch begins; it is replaced.
    """

    def __init__(self, pipe: int = 0, pidfd: int = 1, told: int = 2) -> None:
        self._pipe, self._lent, self._listener = pipe, pidfd, told
        self.duty = Duty()
        self._decoder = Decoder()
        self._until = float("inf")
        self._pidfd: int | None = None
        self._patience = float("inf")  # seconds to deliver

    def hurry(self, *_: object) -> None:
        """Stay until the job is gone, since its machine may be shutting down, but do not try for long then."""
        self._patience = TERM_SECONDS
        self._until = min(self._until, time.monotonic() + TERM_SECONDS)

    def wait(self) -> None:
        """Return when the job is gone: by its bye, its closed pipe, or its pidfd."""
        os.set_blocking(self._pipe, False)
        watched = select.poll()
        watched.register(self._pipe, select.POLLIN)
        registered = False
        while True:
            if self._pidfd is not None and not registered:
                watched.register(self._pidfd, select.POLLIN)
                registered = True
            ready = dict(watched.poll(None if registered or self.duty.hello is None else POLL_SECONDS * 1_000))
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
                self.duty.take(frame, content)
                if frame["frame"] == "hello":
                    self._begin(frame)
                if self.duty.left:
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
        with contextlib.suppress(OSError):  # the job has not waited
            os.write(self._listener, b"\n%d\n%s" % (os.getpid(), READY))
        os.dup2(null, self._listener)
        os.close(null)

    def _is_gone(self) -> bool:
        hello = self.duty.hello
        return hello is not None and is_gone(hello["pid"], hello["started"])

    # -- what is left to say

    def deliver(self) -> None:
        """Deliver what is left to say, or leave it to a next process when the time is over."""
        hello = self.duty.hello
        if hello is None or not self.duty.owes:
            return
        self._make_importable(hello)
        from .delivery.successor import PacedRuntime, Successor

        timing = Timing(*hello["timing"])
        runtime = PacedRuntime(timing.attempt, timing.first_wait, timing.longest_wait)
        self._until = runtime.now() + min(timing.retry, LONGEST_RETRY, self._patience)
        owed, leases = self.duty.owed(runtime.wall()), self.duty.leases()
        Successor(runtime, hello["outbox"]).deliver(owed, lambda: self._until, leases)

    @staticmethod
    def _make_importable(hello: Mapping[str, Any]) -> None:
        """Have what the library needs found as it was in the job."""
        sys.path += [each for each in hello["sys_path"] if each not in sys.path]
        os.environ.update(hello["environment"])
        from importlib.util import find_spec

        if not all(find_spec(name) for name in ("httpx", "platformdirs")):  # found by more than their path
            import site

            site.main()


def is_gone(pid: int, started: int | None) -> bool:
    """Tell whether a process has ended, even if nobody has reaped it or its number belongs to another by now."""
    if started is not None:
        return start_time(pid) != started
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


def start_time(pid: int) -> int | None:
    """Return when a running process was started, in ticks since the boot, or `None` where that cannot be read."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        return None if fields[0] in (b"Z", b"X") else int(fields[19])
    except (OSError, ValueError, IndexError):
        return None
