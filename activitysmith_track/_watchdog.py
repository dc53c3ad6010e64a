"""Tells the phone when the job itself no longer can: killed, crashed, out of memory, `os._exit`.

The job's side is `Watchdog`. It starts a small process in a session of its own and feeds it over a pipe with frames:
a length of four bytes and so many bytes of JSON. The API key travels there too, never in the arguments or the
environment. The process (`main`) knows the last words of each open card, and sleeps until the job says `bye`, the
pipe closes, or the job's pidfd says that it is gone. Then it delivers what is left to say, for up to an hour, and
exits.

The frames, by their `frame`:

- `hello`: the protocol's version, the job's pid, how to import this library, and how long to try.
- `account`: `id`, `api_key`, `base_url`; cards and what is owed name it by its id.
- `card`: `id`, `account`, `stream_key`, and the last words: `end`, the body that ends the stream, and `push`, the body
  of a push or null. It comes when a card opens and whenever its last words change; the newest counts.
- `goodbye`: `id`; the job has ended that card itself.
- `owed`: `id`, `account`, `method` (`end`, `put` or `push`), `stream_key`, `body`, `at_least_once`, `happened`
  (seconds since the epoch); to be delivered when the job is gone, in whatever way.
- `settled`: `id`; the job has delivered that itself.
- `bye`: the job leaves in order. Cards without a goodbye are ended, and nobody is alarmed.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import sys
import time
import weakref
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator, Mapping

    from .client import ActivitySmith, Call

# What stands here is imported by the process as well, which must stay small: the rest is imported where it is needed.

PROTOCOL = 1
WITHOUT_GOODBYE = "Ended without a goodbye: killed, crashed or out of memory"
MAX_FRAME = 1024 * 1024  # bytes of one frame
MAX_HELD = 4 * MAX_FRAME  # bytes of frames that the process keeps
MAX_ENTRIES = 200  # cards and owed requests that are kept at once
LATE_SECONDS = 60.0  # what arrives later than this says when it happened
TERM_SECONDS = 20.0  # how long the process still tries after a SIGTERM of its own
READY = b"ready"
POLL_SECONDS = 1.0  # how often it looks for the job where there is no pidfd


class Timing(NamedTuple):
    """How long the watchdog takes, in seconds.

    Attributes:
        retry: how long it tries to deliver after the job is gone.
        first_wait: before the second attempt at a request; it doubles from there.
        longest_wait: between two attempts.
        attempt: one request takes at most.
        idle: how long the process is kept while the job has nothing to guard.
        check: how often the job looks whether the process is still there.
        start: how long the process may take to begin.
    """

    retry: float = 3_600.0
    first_wait: float = 1.0
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
    },
    "account": {"id": (int,), "api_key": (str,), "base_url": (str,)},
    "card": {"id": (int,), "account": (int,), "stream_key": (str,), "end": (dict,), "push": (dict, _NONE)},
    "goodbye": {"id": (int,)},
    "owed": {
        "id": (int,),
        "account": (int,),
        "method": (str,),
        "stream_key": (str, _NONE),
        "body": (dict,),
        "at_least_once": (bool,),
        "happened": _NUMBER,
    },
    "settled": {"id": (int,)},
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
        if type(frame.get(name)) not in types:
            raise Garbled(f"{frame['frame']}.{name}")
    if frame["frame"] == "hello":
        _check_hello(frame)
    if frame["frame"] == "owed" and frame["method"] not in ("end", "put", "push"):
        raise Garbled("owed.method")
    return dict(frame)


def _check_hello(frame: Mapping[str, Any]) -> None:
    numbers = all(type(each) in _NUMBER and 0 <= each <= 1e9 for each in frame["timing"])
    texts = [*frame["sys_path"], *frame["environment"], *frame["environment"].values()]
    if frame["protocol"] != PROTOCOL or len(frame["timing"]) != len(Timing._fields) or not numbers:
        raise Garbled("hello of another version")
    if not all(isinstance(each, str) and "\0" not in each for each in texts) or not 0 < frame["pid"] < 2**31:
        raise Garbled("hello")


# -------------------------------------------------------------------------------------------- what there is to do


class Errand(NamedTuple):
    """One request that must arrive.

    Attributes:
        method: `end` or `put` for a stream, `push` for a push.
        account: the API key and the address.
        stream_key: the stream's key, where it is one.
        body: the request's body.
        at_least_once: True where a push may be sent again although it may have arrived.
        happened: seconds since the epoch.
    """

    method: str
    account: tuple[str, str]
    stream_key: str
    body: dict[str, Any]
    at_least_once: bool
    happened: float

    def call(self, now: float) -> Call[Any]:
        """Build the request; one that is late says when it happened."""
        from .client import end_stream_call, send_call, stream_call

        body = dated(self.body, self.happened, now) if now - self.happened > LATE_SECONDS else self.body
        if self.method == "push":
            return send_call(None, body, at_least_once=self.at_least_once)
        build: Any = end_stream_call if self.method == "end" else stream_call
        made: Call[Any] = build(self.stream_key, None, body)
        return made


def dated(body: Mapping[str, Any], happened: float, now: float) -> dict[str, Any]:
    """Add to a card's or a push's words when it happened, by this machine's clock."""
    moment, today = time.localtime(happened), time.localtime(now)
    when = time.strftime("at %H:%M" if moment[:3] == today[:3] else "on %d %b at %H:%M", moment)
    state = body.get("content_state")
    if isinstance(state, dict):
        return {**body, "content_state": {**state, "subtitle": _joined(state.get("subtitle"), when)}}
    return {**body, "message": _joined(body.get("message"), when)} if "title" in body else dict(body)


def _joined(text: object, more: str) -> str:
    return f"{text} · {more}" if text else more


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
        elif kind in ("card", "owed"):
            self._keep((kind, frame["id"]), content)
        else:
            self._keep(("card" if kind == "goodbye" else "owed", frame["id"]), b"")

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

    def errands(self, now: float) -> list[Errand]:
        """Return what is to be delivered now that the job is gone.

        Args:
            now: seconds since the epoch.
        """
        frames = [json.loads(content) for content in self._entries.values()]
        known = [frame for frame in frames if frame["account"] in self._accounts]
        cards = [frame for frame in known if frame["frame"] == "card"]
        made = [self._errand(frame, "end", frame["end"], now) for frame in cards]
        if not self.left:
            made += self._alarms(cards, now)
        return made + [
            self._errand(frame, frame["method"], frame["body"], frame["happened"], frame["at_least_once"])
            for frame in known
            if frame["frame"] == "owed"
        ]

    def _alarms(self, cards: list[dict[str, Any]], now: float) -> Iterator[Errand]:
        """One failure, one push: the first card's, which says how many more there are; one for each account."""
        for account in dict.fromkeys(card["account"] for card in cards):
            own = [card for card in cards if card["account"] == account]
            alarming = [card for card in own if card["push"] is not None]
            if alarming:
                yield self._errand(alarming[0], "push", _counted(alarming[0]["push"], len(own) - 1), now)

    def _errand(
        self, frame: Mapping[str, Any], method: str, body: dict[str, Any], at: float, again: bool = True
    ) -> Errand:
        account = self._accounts[frame["account"]]
        return Errand(method, account, frame["stream_key"] or "", body, again, at)


def _counted(push: dict[str, Any], more: int) -> dict[str, Any]:
    if not more:
        return push
    return {**push, "message": _joined(push.get("message"), f"and {more} more card{'s' if more > 1 else ''}")}


# --------------------------------------------------------------------------------------------------- the process


def main() -> None:
    """Be the watchdog.

    Standard input is the pipe, standard output the job's pidfd, and the error output is told when the watch begins.
    """
    guard = Guard()
    _keep_to_itself(guard)
    try:
        guard.wait()
        guard.deliver()
    finally:
        os._exit(0)


def _keep_to_itself(guard: Guard) -> None:
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
    """The process: it waits for the job to go, and then runs the errands.

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
        self._patience = float("inf")  # seconds for the errands

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

    # -- the errands

    def deliver(self) -> None:
        """Run all errands side by side, so that a hanging one holds up no other, and return when all are over."""
        errands = self.duty.errands(time.time())
        if not errands:
            return
        timing = self._prepare()
        self._until = time.monotonic() + min(timing.retry, self._patience)
        import threading

        post = _Post(timing, threading.Lock())
        threads = [threading.Thread(target=self._run, args=(errand, post), daemon=True) for errand in errands]
        for thread in threads:
            thread.start()
        for thread in threads:
            while thread.is_alive() and (left := self._until - time.monotonic()) > 0:
                thread.join(min(1.0, left))  # a signal may have made it shorter

    def _prepare(self) -> Timing:
        """Make the library importable as it was in the job."""
        hello = self.duty.hello
        if hello is None:
            return Timing()
        sys.path += [each for each in hello["sys_path"] if each not in sys.path]
        os.environ.update(hello["environment"])
        try:
            from . import client  # noqa: F401
        except ImportError:  # a package that is found by more than its path
            import site

            site.main()
        return Timing(*hello["timing"])

    def _run(self, errand: Errand, post: _Post) -> None:
        for wait in _waits(post.timing):
            try:
                post.client(errand.account).perform(errand.call(time.time()))
                return
            except Exception as error:
                pause = _pause(errand, error, wait)
            if pause is None or time.monotonic() >= self._until:
                return
            time.sleep(min(pause, max(0.0, self._until - time.monotonic())))


class _Post:
    """The clients, one for each account."""

    def __init__(self, timing: Timing, lock: threading.Lock) -> None:
        self.timing, self._lock = timing, lock
        self._clients: dict[tuple[str, str], ActivitySmith] = {}

    def client(self, account: tuple[str, str]) -> ActivitySmith:
        """Return the account's client, made on first use."""
        from .client import ActivitySmith

        with self._lock:
            if account not in self._clients:
                api_key, base_url = account
                made = ActivitySmith(api_key, base_url=base_url, timeout=self.timing.attempt, max_attempts=1)
                self._clients[account] = made
            return self._clients[account]


def _waits(timing: Timing) -> Iterator[float]:
    """Yield the seconds before each further attempt: doubling, half of it jitter."""
    import random

    wait = timing.first_wait
    while True:
        yield wait * random.uniform(0.5, 1.0)
        wait = min(wait * 2, timing.longest_wait)


def _pause(errand: Errand, error: Exception, wait: float) -> float | None:
    """Return the seconds until the next attempt, or `None` where another one is of no use."""
    from .client import worth_another_try
    from .errors import ActivitySmithError, DeliveryError, InvalidAnswer, ServerError, TooManyRequests

    if isinstance(error, TooManyRequests):
        return max(wait, error.retry_after or 0.0)
    if isinstance(error, (ValueError, TypeError)):
        return None  # it is no request that the service could take
    if isinstance(error, ActivitySmithError):
        call = errand.call(0.0)
        passing = isinstance(error, (DeliveryError, InvalidAnswer, ServerError)) and call.repeatable
        return wait if passing or worth_another_try(call, error) else None
    return wait


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


# -------------------------------------------------------------------------------------------------- the job's side

_BOOT = "import sys; sys.path.append(sys.argv[1]); from activitysmith_track._watchdog import main; main()"
_FLAGS = ("-I", "-S", "-B")  # nothing of the user's own is imported or written
# The shell leaves at once, so that the watchdog is no child of the job, whose own `os.wait()` never meets it.
_LEAVE = '{ "$@" <&3 3<&- & } 3<&0'
_ENVIRONMENT = ("LANG", "LC_ALL", "LC_CTYPE", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "TZ")  # what Python may need
_ROUTES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")  # over the pipe: a password may be in them
_TRUST = ("SSL_CERT_FILE", "SSL_CERT_DIR")
BLOCKED_SECONDS = 0.1  # between two looks at a pipe that is full


class _Item(NamedTuple):
    """A frame on its way to the process; one that does not live takes back an earlier one of its key."""

    key: tuple[str, int]
    frame: bytes
    lives: bool


class _Farewell:
    """The last thing that the thread is told."""

    def __init__(self, until: float) -> None:
        import threading

        self.until, self.heard = until, False
        self.done = threading.Event()


class Watchdog:
    """Keeps a small process beside the job that speaks for it when it cannot.

    No method raises, and none waits save `start` and `close`, for as long as they are told. A daemon thread starts
    the process when there is something to guard, feeds it, starts it anew once if somebody ended it, and lets it go
    when there has been nothing to guard for a while. A forked child has none until it guards something of its own.

    Args:
        timing: how long it takes.
        interpreter: the path of the Python to run; by default this one.

    Raises:
        InvalidRequest: where the platform has no such processes (Windows).
    """

    def __init__(self, timing: Timing | None = None, interpreter: str | None = None) -> None:
        if os.name != "posix":
            from .errors import InvalidRequest

            raise InvalidRequest("watchdog", True, "False on this platform, which is not POSIX")
        self._timing, self._interpreter = timing or Timing(), interpreter
        self._fresh()
        _watchdogs.add(self)

    def _fresh(self) -> None:
        import itertools
        import threading
        from queue import SimpleQueue

        self._inbox: SimpleQueue[_Item | _Farewell | None] = SimpleQueue()
        self._accounts: dict[tuple[str, str], int] = {}
        self._numbers = itertools.count(1)
        self._lock = threading.RLock()  # short bookkeeping; reentrant for signal handlers
        self._thread: threading.Thread | None = None
        self._decided = threading.Event()  # whether the process could be started
        self._line: _Line | None = None
        self._live: dict[tuple[str, int], bytes] = {}
        self._asked = False
        self._over = False  # nothing is taken in any more
        self._restarts = 1
        self._busy_at = 0.0
        self._told: set[str] = set()

    # -- what the job says

    def guard(
        self,
        card: int,
        api_key: str,
        base_url: str,
        stream_key: str,
        *,
        end: Mapping[str, Any],
        push: Mapping[str, Any] | None,
    ) -> None:
        """Say what is to be told about a card if the job dies now; the newest call counts.

        Args:
            card: a number of the caller's own.
            api_key: the account's key.
            base_url: the service's address.
            stream_key: the card's stream.
            end: the body that ends the stream.
            push: the body of a push, or `None` for a card that alarms nobody.
        """
        account = self._account(api_key, base_url)
        words = {"end": dict(end), "push": None if push is None else dict(push)}
        self._feed(("card", card), True, "card", id=card, account=account, stream_key=stream_key, **words)

    def goodbye(self, card: int) -> None:
        """Say that a card was ended, or is left up on purpose: there is nothing to tell about it any more."""
        self._feed(("card", card), False, "goodbye", id=card)

    def hand_over(
        self,
        owed: int,
        api_key: str,
        base_url: str,
        method: str,
        body: Mapping[str, Any],
        *,
        stream_key: str | None = None,
        at_least_once: bool = False,
        happened: float | None = None,
    ) -> None:
        """Have a request delivered once the job is gone, in whatever way, unless `settled` takes it back.

        Args:
            owed: a number of the caller's own.
            api_key: the account's key.
            base_url: the service's address.
            method: `end` or `put` for a stream, `push` for a push.
            body: the request's body.
            stream_key: the stream, for `end` and `put`.
            at_least_once: True where a push may be repeated although it may have arrived.
            happened: seconds since the epoch, which late words name; by default now.
        """
        self._feed(
            ("owed", owed),
            True,
            "owed",
            id=owed,
            account=self._account(api_key, base_url),
            method=method,
            stream_key=stream_key,
            body=dict(body),
            at_least_once=at_least_once,
            happened=time.time() if happened is None else happened,
        )

    def settled(self, owed: int) -> None:
        """Say that what was handed over has been delivered."""
        self._feed(("owed", owed), False, "settled", id=owed)

    def start(self, timeout: float = 20.0) -> bool:
        """Start the process before there is anything to guard, and wait until it stands.

        Args:
            timeout: seconds to wait at most.

        Returns:
            Whether it stands guard.
        """
        self._asked = True
        self._inbox.put(None)
        return self._run() and self._decided.wait(timeout) and self.alive

    def close(self, timeout: float) -> bool:
        """Say bye: the job leaves in order, and the process delivers what was handed over, then exits.

        Cards without a goodbye are ended by their last words, without a push.

        Args:
            timeout: seconds to wait at most until the process has been told everything.

        Returns:
            True when it has, or when there was nothing to tell.
        """
        if self._over or (self._thread is None and self._inbox.empty()):
            return not self._live
        farewell = _Farewell(time.monotonic() + timeout)
        self._inbox.put(farewell)
        if not self._run():
            self._serve()  # the interpreter is leaving, where no thread can start any more
        farewell.done.wait(timeout)
        return farewell.heard

    def after_fork(self) -> None:
        """In a forked child: drop the parent's pipe, and forget everything. It happens by itself."""
        line = self._line
        self._fresh()
        if line is not None:
            line.close()

    @property
    def alive(self) -> bool:
        """True while a process stands guard, as far as is known."""
        return self._line is not None and self._line.pid is not None

    @property
    def pid(self) -> int | None:
        """The number of the process that stands guard."""
        return None if self._line is None else self._line.pid

    def _account(self, api_key: str, base_url: str) -> int:
        account = api_key, base_url
        with self._lock:
            if account not in self._accounts:
                self._accounts[account] = number = next(self._numbers)
                self._feed(("account", number), True, "account", id=number, api_key=api_key, base_url=base_url)
            return self._accounts[account]

    def _feed(self, key: tuple[str, int], lives: bool, kind: str, **fields: Any) -> None:
        if self._over:
            return
        try:
            self._inbox.put(_Item(key, encode(kind, **fields), lives))
        except (TypeError, ValueError) as error:
            self._tell(f"activitysmith_track: the watchdog cannot take this in: {error}")
            return
        self._run()

    def _run(self) -> bool:
        """See to it that the thread runs; False where the interpreter no longer lets one start."""
        import threading

        with self._lock:
            if self._thread is None:
                thread = threading.Thread(target=self._serve, name="activitysmith-watchdog", daemon=True)
                try:
                    thread.start()
                except RuntimeError:
                    return False
                self._thread = thread
        return True

    # -- the thread

    def _serve(self) -> None:
        _hold_broken_pipes()
        while True:
            received = self._receive()
            if isinstance(received, _Farewell):
                break
            try:
                self._look_after()
            except Exception as error:  # whatever it is, the job goes on
                self._give_up(f"activitysmith_track: the watchdog is off: {type(error).__name__}: {error}")
        with contextlib.suppress(Exception):
            received.heard = self._part(received.until)
        self._over = True
        received.done.set()

    def _receive(self) -> _Farewell | None:
        """Take in all that was said, or what is said within the time after which to look around."""
        from queue import Empty

        with contextlib.suppress(Empty):
            received = self._inbox.get(timeout=self._pause())
            while not isinstance(received, _Farewell):
                if received is not None:
                    self._note(received)
                received = self._inbox.get_nowait()
            return received
        return None

    def _pause(self) -> float | None:
        if self._line is None:
            return None
        if self._line.blocked:
            return BLOCKED_SECONDS
        return self._timing.check if self._guards else min(self._timing.check, self._timing.idle)

    @property
    def _guards(self) -> bool:
        return any(kind != "account" for kind, _ in self._live)

    def _note(self, item: _Item) -> None:
        if not item.lives:
            self._live.pop(item.key, None)
        elif item.key not in self._live and len(self._live) >= MAX_ENTRIES:
            self._tell(f"activitysmith_track: the watchdog guards {MAX_ENTRIES} things and takes in no more")
            return
        else:
            self._live[item.key] = item.frame
        if self._line is not None:
            self._line.put(item)
        self._busy_at = time.monotonic()

    def _look_after(self, until: float | None = None) -> None:
        """Start the process, feed it, start it anew or let it go: whatever is due."""
        if self._line is None:
            if self._guards or self._asked:
                self._begin(until)
        elif not self._line.flush():
            self._lost(until)
        elif not (self._guards or self._line.blocked) and time.monotonic() - self._busy_at >= self._timing.idle:
            line, self._line, self._asked = self._line, None, False
            line.say_bye()  # the next card starts another
            line.close()

    def _begin(self, until: float | None) -> None:
        if self._over:
            return
        seconds = self._timing.start if until is None else min(self._timing.start, until - time.monotonic())
        self._busy_at = time.monotonic()
        self._line = line = _Line()
        try:
            line.start(self._interpreter or interpreter(), self._timing, seconds)
        except Exception as error:  # from no processes left to no shell: the job goes on without
            self._give_up(f"activitysmith_track: the watchdog could not be started: {error}")
            return
        for key, frame in self._live.items():
            line.put(_Item(key, frame, True))
        line.flush()
        self._decided.set()

    def _lost(self, until: float | None) -> None:
        line, self._line = self._line, None
        if line is not None:
            line.close()
        if not self._restarts:
            self._give_up("activitysmith_track: the watchdog was ended by somebody; the job goes on without")
        elif self._guards:
            self._restarts -= 1
            self._begin(until)

    def _part(self, until: float) -> bool:
        """Tell the process all that it has not been told, and bye; False where that cannot be by then."""
        told = None
        while not self._over:
            self._look_after(until)
            line = self._line
            if line is None:
                return not self._guards
            if line is not told:
                told = line
                line.say_bye()
            if not line.blocked:
                line.close()
                self._line = None
                return True
            if time.monotonic() >= until:
                break
            line.wait(min(BLOCKED_SECONDS, max(0.0, until - time.monotonic())))
        return False

    def _give_up(self, message: str) -> None:
        line, self._line, self._over = self._line, None, True
        if line is not None:
            line.close()
        self._decided.set()
        self._tell(message)

    def _tell(self, message: str) -> None:
        """Log a warning, once."""
        import logging

        if message not in self._told:
            self._told.add(message)
            logging.getLogger("activitysmith_track").warning("%s", message)


class _Line:
    """One process, and the pipe to it, which is never waited for. Used by the watchdog's thread alone."""

    def __init__(self) -> None:
        self.pid: int | None = None
        self._pending: dict[tuple[str, int], bytes] = {}  # the newest of each key, to be written
        self._rest = b""  # of a frame that is written by half
        self._known: set[tuple[str, int]] = set()
        self._pipe: int | None = None
        self._identity: tuple[int, int] | None = None
        self._lent: list[int] = []

    # -- starting

    def start(self, python: str, timing: Timing, seconds: float) -> None:
        """Start the process and wait until it stands.

        Raises:
            OSError, subprocess.SubprocessError, RuntimeError: where it cannot be.
        """
        until = time.monotonic() + seconds
        told = self._spawn(python, seconds)
        try:
            self._pending[("hello", 0)] = encode("hello", **self._hello(timing))
            self.flush()
            self.pid = _await_ready(told, until)
        finally:
            os.close(told)

    def _spawn(self, python: str, seconds: float) -> int:
        """Start the process, and return the descriptor on which it says that it is ready."""
        import subprocess

        frames, pipe = os.pipe()
        self._pipe, self._identity = pipe, _identity(pipe)
        os.set_blocking(pipe, False)
        told, tells = os.pipe()
        pidfd = open_pidfd()
        self._has_pidfd = pidfd is not None
        try:
            shell = subprocess.Popen(
                ["/bin/sh", "-c", _LEAVE, "sh", python, *_FLAGS, "-c", _BOOT, _root()],
                stdin=frames,
                stdout=subprocess.DEVNULL if pidfd is None else pidfd,
                stderr=tells,
                cwd="/",
                env={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
                start_new_session=True,
            )
            shell.wait(seconds)
        finally:
            for each in (frames, tells, pidfd):
                if each is not None:
                    os.close(each)
        return told

    def _hello(self, timing: Timing) -> dict[str, Any]:
        names = [*_ROUTES, *(name.upper() for name in _ROUTES), *_TRUST]
        return {
            "protocol": PROTOCOL,
            "pid": os.getpid(),
            "pidfd": self._has_pidfd,
            "started": start_time(os.getpid()),
            "sys_path": _absolute(sys.path),
            "environment": {name: os.environ[name] for name in names if name in os.environ},
            "timing": list(timing),
        }

    # -- feeding

    @property
    def blocked(self) -> bool:
        """True while something is yet to be written."""
        return bool(self._rest or self._pending)

    def say_bye(self) -> None:
        """Tell the process that the job leaves in order."""
        self.put(_Item(("bye", 0), encode("bye"), True))
        self.flush()

    def put(self, item: _Item) -> None:
        """Have a frame written in the place of the one of its key that has not been."""
        if item.lives or item.key in self._known:
            self._pending[item.key] = item.frame
        else:
            self._pending.pop(item.key, None)

    def flush(self) -> bool:
        """Write as much as the pipe takes; False when the process is gone."""
        if not self._stands():
            return False
        try:
            while self._rest or self._pending:
                if not self._rest:
                    key = next(iter(self._pending))
                    self._rest = self._pending.pop(key)
                    self._known.add(key)
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


def _identity(descriptor: int) -> tuple[int, int] | None:
    try:
        found = os.fstat(descriptor)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _root() -> str:
    """Return where this package is found."""
    return os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def _absolute(paths: list[str]) -> list[str]:
    try:
        return [os.path.abspath(each) for each in paths if isinstance(each, str)]
    except OSError:  # the working directory is gone
        return [each for each in paths if isinstance(each, str) and os.path.isabs(each)]


def _await_ready(told: int, until: float) -> int:
    """Wait for the process to say that it stands, and return its number.

    Raises:
        OSError: when it does not, with its last words.
    """
    heard = b""
    poll = select.poll()
    poll.register(told, select.POLLIN)
    while not heard.endswith(b"\n" + READY) and poll.poll(max(0.0, until - time.monotonic()) * 1_000):
        data = os.read(told, 65_536)
        if not data:
            break
        heard = (heard + data)[-65_536:]
    lines = heard.decode(errors="replace").split("\n")
    if heard.endswith(b"\n" + READY) and lines[-2].isdigit():
        return int(lines[-2])
    raise OSError(next((line[-300:] for line in reversed(lines) if line.strip()), "it does not answer"))


def open_pidfd() -> int | None:
    """Return a descriptor that tells when this process is gone, or `None` where there is no such thing."""
    try:
        return os.pidfd_open(os.getpid())  # type: ignore[attr-defined,unused-ignore]
    except (AttributeError, OSError):  # not Linux, before 5.3, or forbidden
        return None


def interpreter() -> str:
    """Return the path of a Python to run.

    Raises:
        OSError: where this program is none that takes Python's options, such as a frozen one or a server's.
    """
    candidates = (
        sys.executable,
        getattr(sys, "_base_executable", None),
        os.path.join(sys.exec_prefix, "bin/python3"),
    )
    for path in candidates if not hasattr(sys, "frozen") else ():
        if path and os.path.basename(path).lower().startswith(("python", "pypy")) and os.access(path, os.X_OK):
            return path
    raise OSError("this program has no Python interpreter beside it")


def _hold_broken_pipes() -> None:
    """Block SIGPIPE on this thread: the job may have given it back its default, which would end the job."""
    import signal

    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGPIPE,))


def _forget_in_child() -> None:
    for each in list(_watchdogs):
        each.after_fork()


_watchdogs: weakref.WeakSet[Watchdog] = weakref.WeakSet()

if hasattr(os, "register_at_fork"):  # pragma: no branch  # Windows has no fork
    os.register_at_fork(after_in_child=_forget_in_child)
