"""The rows of the fault matrix, and the page that shows them: `python tests/fault_rows.py > docs/faults.md`.

A row is a script that runs in a process of its own against a simulated service. It says `running` and then waits for
the word to go on; what goes wrong with the service begins then, or was there from the start.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from textwrap import dedent
from typing import Any, NamedTuple


class Service(NamedTuple):
    """What the service does.

    Attributes:
        fault: the kind and the options of the simulator's fault, or nothing.
        early: True where it does so from the start, and not only from when the job goes on.
        patience: the job's `exit_timeout`.
        flushed: True where the rest is delivered by `activitysmith-track flush`, once the service is well again.
    """

    fault: tuple[str, Mapping[str, Any]] | None = None
    early: bool = False
    patience: float = 60.0
    flushed: bool = False


def _down(kind: str, patience: float = 0.5, *, early: bool = False, **options: Any) -> Service:
    return Service((kind, options), early, patience, flushed=True)


def _odd(kind: str, *, early: bool = False, **options: Any) -> Service:
    return Service((kind, options), early)


SERVICES: dict[str, Service] = {
    "is well": Service(),
    "503 until it is gone": _down("status", status=503),
    "503 once": _odd("status", status=503, times=1),
    "429, retry in 1 s, once": _odd("status", status=429, retry_after=1, times=1),
    "429, retry in an hour": _down("status", status=429, retry_after=3600),
    "hangs": _down("hang"),
    "hangs, `exit_timeout=60`": _down("hang", 60.0),
    "hangs, `exit_timeout=0`": _down("hang", 0.0),
    "refuses connections": _down("refuse", seconds=60),
    "resets connections": _down("reset"),
    "breaks off its answers": _down("truncate"),
    "answers garbage": _down("garbage"),
    "answers a byte at a time": _down("drip", seconds=60),
    "answers 0.3 s late": _odd("latency", seconds=0.3),
    "hangs for updates": _down("hang", 4.0, path="/live-activity/*", method="PUT"),
    "hangs for updates from the start": _down("hang", 4.0, path="/live-activity/*", method="PUT", early=True),
    "answers 2 s late, from the start": _odd("latency", path="/live-activity/*", method="PUT", early=True, seconds=2),
    "hangs from the start": _down("hang", early=True),
    "503 from the start": _down("status", early=True, status=503),
    "503 for the first two": _odd("status", early=True, status=503, times=2),
    "401: a wrong key": _odd("status", early=True, status=401),
    "402: the trial is over": _odd("status", early=True, status=402),
    "422: no phone": Service(("status", {"status": 422}), early=True, patience=0.5),
    "not asked: no key": Service(),
}

WITHOUT_GOODBYE = "Process gone: killed, crashed or out of memory"
RUNNING = "blue, 42 %, running"
DONE = "green, 100 %, Done in …, ended"
SHORT = "green, 42 %, Done, 42 of 100, ended"
STOPPED = "gray, 42 %, Stopped at 42 %, ended"
DEAD = f"red, 42 %, {WITHOUT_GOODBYE}, ended"
DEATH = f"job failed: {WITHOUT_GOODBYE}"
NOBODY = "stays until the next run, or 8 h"
BY_FLUSH = "by the next run or `flush`"
BY_WATCHDOG = "by the watchdog"
BEFORE = "before the process was gone"


def failed(reason: str, percentage: int = 42) -> str:
    """Say how a card looks whose job failed."""
    return f"red, {percentage} %, Failed at {percentage} %: {reason}, ended"


@dataclass(frozen=True)
class Row:
    """One job.

    Attributes:
        ends: how it ends.
        job: its script.
        service: what the service does, a key of `SERVICES`.
        process: how it is run.
        acts: what it is told once it runs: `go`, names of signals, seconds to wait, words to wait for.
        code: its exit code.
        says: the last line on its standard error that is not a line of our log.
        out: what it prints after `running`.
        phone: what the phone shows in the end, by stream keys; a text is that of the card `job`.
        pushes: titles and first lines.
        repeats: True where a push may come once more, since nobody can tell whether it had arrived.
        at_first: what the phone shows when the process is gone, where that is something else.
        by: who saw to it that the phone shows that.
        costs: how much longer the job takes.
        until: what the phone shows before the job is told anything; nothing to wait for nothing.
        alone: the exit code of its twin without the library, where there is nothing left to kill any more.
        settings: more of `configure`.
        environment: more of it.
        needs: what the machine must have.
    """

    ends: str
    job: str
    service: str = "is well"
    process: str = "plain"
    acts: str = "go"
    code: int = 0
    says: str = ""
    out: str = ""
    phone: str | Mapping[str, str] = ""
    pushes: tuple[str, ...] = ()
    repeats: bool = False
    at_first: str | None = None
    by: str = BEFORE
    costs: str = "`exit_timeout` at most"
    until: str | Mapping[str, str] = RUNNING
    alone: int | None = None
    settings: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    needs: str = ""

    @property
    def name(self) -> str:
        """How a test names it."""
        words = f"{self.process}-{self.ends}-{self.service}".lower()
        return "".join(each if each.isalnum() else "-" for each in words).strip("-").replace("--", "-")

    @property
    def cards(self) -> Mapping[str, str]:
        """What the phone shows in the end."""
        return _cards(self.phone)

    @property
    def cards_at_first(self) -> Mapping[str, str]:
        """What it shows when the process is gone."""
        return self.cards if self.at_first is None else _cards(self.at_first)

    @property
    def cards_before(self) -> Mapping[str, str]:
        """What it shows before the job is told to go on."""
        return {} if SERVICES[self.service].early or "not asked" in self.service else _cards(self.until)

    @property
    def watched(self) -> bool:
        """True where a watchdog stands guard."""
        return "watchdog=True" in self.settings

    @property
    def why_not(self) -> str:
        """Say why it cannot run here, if so."""
        return next((why for need in self.needs.split() if (why := _missing(need))), "")


def _cards(shown: str | Mapping[str, str]) -> Mapping[str, str]:
    return {"job": shown} if isinstance(shown, str) and shown else shown or {}  # type: ignore[return-value]


def _missing(need: str) -> str:
    if need == "3.11":
        return "" if sys.version_info >= (3, 11) else "exception groups came with Python 3.11"
    if need == "gevent":
        return "" if importlib.util.find_spec("gevent") else "gevent is not installed"
    return "" if hasattr(os, need) else f"this platform has no os.{need}"


# ------------------------------------------------------------------------------------------------------- scripts


def script(text: str) -> str:
    """Take the indentation of this file off a script."""
    return dedent(text).strip() + "\n"


def block(*end: str, name: str = "live_progress('job', total=100)") -> str:
    """Write a job at 42 of 100 that goes on with so many lines, inside its block."""
    lines = ["ready()", *(dedent(each).strip() for each in end)]
    begin = f"with at.{name} as p:\n    p.advance(42)\n    p.update(important=True)\n"
    return begin + "".join(f"    {line}\n" for each in lines for line in each.splitlines())


FAILS = block("raise ValueError('no disk')")
FAILED = failed("ValueError: no disk")
SAYS = "ValueError: no disk"
TOLD = ("job failed: ValueError: no disk",)
ENDS = block("p.advance(58)")
WAITS = block("while True: time.sleep(0.05)")
KILL = block("os.kill(os.getpid(), signal.SIGKILL)")

PLAIN = [
    Row("returns", ENDS, phone=DONE),
    Row("returns at 42 of 100", block(), phone=SHORT),
    Row("raises an exception", FAILS, code=1, says=SAYS, phone=FAILED, pushes=TOLD),
    Row(
        "raises an exception group",
        block("raise ExceptionGroup('two went wrong', [ValueError('a'), OSError('b')])"),
        code=1,
        says="+------------------------------------",
        phone=failed("2 errors (two went wrong): ValueError: a; OSError: b"),
        pushes=("job failed: 2 errors (two went wrong): ValueError: a; OSError: b",),
        needs="3.11",
    ),
    Row(
        "raises through two blocks",
        script("""
            with at.live_progress("outer", total=2, key="outer") as o:
                with at.live_progress("job", total=100, key="job") as p:
                    p.advance(42)
                    p.update(important=True)
                    o.advance()
                    o.update(important=True)
                    ready()
                    raise ValueError("no disk")
        """),
        code=1,
        says=SAYS,
        until={"job": RUNNING, "outer": RUNNING.replace("42", "50")},
        phone={"job": FAILED, "outer": failed("ValueError: no disk", 50)},
        pushes=("outer failed: ValueError: no disk",),
    ),
    Row(
        "raises through a decorator",
        script("""
            @at.track_steps("job", steps=["Snapshot", "Upload", "Verify"])
            def backup():
                at.step("Upload")
                ready()
                raise ValueError("no disk")
            backup()
        """),
        code=1,
        says=SAYS,
        until="blue, step 2 of 3, Upload, running",
        phone="red, step 2 of 3, Failed in Upload: ValueError: no disk, ended",
        pushes=TOLD,
    ),
    Row("`sys.exit()`", block("sys.exit()"), phone=SHORT),
    Row("`sys.exit(0)` after all of it", block("p.advance(58)", "sys.exit(0)"), phone=DONE),
    Row(
        "`sys.exit(3)`",
        block("sys.exit(3)"),
        code=3,
        phone=failed("exit code 3"),
        pushes=("job failed: exit code 3",),
    ),
    Row(
        '`sys.exit("text")`',
        block("sys.exit('no disk')"),
        code=1,
        says="no disk",
        phone=failed("no disk"),
        pushes=("job failed: no disk",),
    ),
    Row(
        "too deep a recursion",
        block(
            "def deep(): return deep()",
            "try: deep()",
            "except RecursionError: raise RecursionError('too deep') from None",  # Python's words vary
        ),
        code=1,
        says="RecursionError: too deep",
        phone=failed("RecursionError: too deep"),
        pushes=("job failed: RecursionError: too deep",),
    ),
    Row(
        "`MemoryError`",
        block("bytearray(1 << 62)"),
        code=1,
        says="MemoryError",
        phone=failed("MemoryError"),
        pushes=("job failed: MemoryError",),
    ),
    Row(
        "`StopIteration`",
        block("next(iter([]))"),
        code=1,
        says="StopIteration",
        phone=failed("StopIteration"),
        pushes=("job failed: StopIteration",),
    ),
    Row(
        "`StopIteration` inside a generator",
        script("""
            @at.track_steps("job", steps=["Read", "Write"])
            def rows():
                yield 1
                next(iter([]))
            for row in rows():
                ready()
        """),
        code=1,
        says="RuntimeError: generator raised StopIteration",
        until="blue, step 1 of 2, Read, running",
        phone="red, step 1 of 2, Failed in Read: RuntimeError: generator raised StopIteration "
        "(because of StopIteration), ended",
        pushes=("job failed: RuntimeError: generator raised StopIteration (because of StopIteration)",),
    ),
    Row(
        "an exception whose `str()` raises",
        script("""
            class Odd(Exception):
                __module__ = "builtins"
                def __str__(self): raise OSError("not even that")
        """)
        + block("raise Odd()"),
        code=1,
        says="Odd: <exception str() failed>",
        phone=failed("Odd: (its message cannot be read)"),
        pushes=("job failed: Odd: (its message cannot be read)",),
    ),
    Row("Ctrl-C", WAITS, acts="SIGINT", code=-2, says="KeyboardInterrupt", phone=STOPPED),
    Row(
        "Ctrl-C, caught",
        script("""
            try:
                with at.live_progress("job", total=100) as p:
                    p.advance(42)
                    p.update(important=True)
                    ready()
                    while True: time.sleep(0.05)
            except KeyboardInterrupt:
                sys.exit(130)
        """),
        acts="SIGINT",
        code=130,
        phone=STOPPED,
    ),
    Row("SIGTERM", WAITS, acts="SIGTERM", code=-15, phone=RUNNING, by=NOBODY, costs="nothing"),
    Row(
        "SIGTERM",
        WAITS,
        process="`signals=True`",
        settings="signals=True",
        acts="SIGTERM",
        code=-15,
        phone="gray, 42 %, Stopped: SIGTERM, ended",
    ),
    Row(
        "SIGTERM, which the job turns into `sys.exit(9)`",
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(9))\n" + WAITS,
        process="`signals=True`",
        settings="signals=True",
        acts="SIGTERM",
        code=9,
        phone="gray, 42 %, Stopped: SIGTERM, ended",
    ),
    Row(
        "SIGTERM, which the job turns into `sys.exit(9)`",
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(9))\n" + WAITS,
        acts="SIGTERM",
        code=9,
        phone=failed("exit code 9"),
        pushes=("job failed: exit code 9",),
    ),
    Row(
        "SIGTERM, which the job ignores",
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + ENDS,
        process="`signals=True`",
        settings="signals=True",
        acts="SIGTERM 0.1 go",
        phone=DONE,
    ),
    Row(
        "SIGTERM",
        WAITS,
        service="hangs",
        process="`signals=True`",
        settings="signals=True",
        acts="SIGTERM",
        code=-15,
        at_first=RUNNING,
        phone="gray, 42 %, Stopped: SIGTERM, ended",
        by=BY_FLUSH,
    ),
    Row(
        "SIGTERM twice",
        WAITS,
        service="hangs, `exit_timeout=60`",
        process="`signals=True`",
        settings="signals=True",
        acts="SIGTERM 3 SIGTERM",
        code=-15,
        phone=RUNNING,
        by=NOBODY,
        costs="until the second one",
    ),
    Row(
        "SIGHUP",
        WAITS,
        process="`signals=True`",
        settings="signals=True",
        acts="SIGHUP",
        code=-1,
        phone="gray, 42 %, Stopped: SIGHUP, ended",
    ),
    Row("SIGHUP", WAITS, acts="SIGHUP", code=-1, phone=RUNNING, by=NOBODY, costs="nothing"),
]

DEATHS = [
    ("SIGKILL", KILL, -9),
    ("`os._exit(0)`", block("os._exit(0)"), 0),
    ("a segmentation fault", block("import ctypes", "ctypes.string_at(0)"), -11),
    ("`os.abort()`", block("os.abort()"), -6),
    ("`os.execv`", block("os.execv(sys.executable, [sys.executable, '-c', 'pass'])"), 0),
]
KILLED = [
    *(Row(ends, job, code=code, phone=RUNNING, by=NOBODY, costs="nothing") for ends, job, code in DEATHS),
    *(
        Row(
            ends,
            job,
            process="`watchdog=True`",
            settings="watchdog=True",
            code=code,
            at_first=RUNNING,
            phone=DEAD,
            pushes=(DEATH,),
            by=BY_WATCHDOG,
            costs="nothing",
        )
        for ends, job, code in DEATHS
    ),
    Row(
        "SIGTERM",
        WAITS,
        process="`watchdog=True`",
        settings="watchdog=True",
        acts="SIGTERM",
        code=-15,
        at_first=RUNNING,
        phone=DEAD,
        pushes=(DEATH,),
        by=BY_WATCHDOG,
        costs="nothing",
    ),
    Row(
        "SIGTERM",
        WAITS,
        process="`watchdog=True, signals=True`",
        settings="watchdog=True, signals=True",
        acts="SIGTERM",
        code=-15,
        phone="gray, 42 %, Stopped: SIGTERM, ended",
    ),
    Row(
        "SIGKILL",
        KILL,
        service="503 until it is gone",
        process="`watchdog=True`",
        settings="watchdog=True",
        code=-9,
        at_first=RUNNING,
        phone=DEAD,
        pushes=(DEATH,),
        by=BY_WATCHDOG,
        costs="nothing",
    ),
    Row("returns", ENDS, process="`watchdog=True`", settings="watchdog=True", phone=DONE),
    Row(
        "raises an exception",
        FAILS,
        service="503 until it is gone",
        process="`watchdog=True`",
        settings="watchdog=True",
        code=1,
        says=SAYS,
        at_first=RUNNING,
        phone=FAILED,
        pushes=TOLD,
        by=BY_WATCHDOG,
    ),
    Row(
        "SIGKILL inside `notify()`",
        script("""
            with at.notify("job"):
                ready()
                os.kill(os.getpid(), signal.SIGKILL)
        """),
        process="`watchdog=True`",
        settings="watchdog=True",
        code=-9,
        until="",
        by="by nobody: a block without a card is not guarded",
        costs="nothing",
    ),
]


def _kept(service: str, **more: Any) -> Row:
    given: dict[str, Any] = {"at_first": RUNNING, "by": BY_FLUSH, **more}
    return Row("raises an exception", FAILS, service, code=1, says=SAYS, phone=FAILED, pushes=TOLD, **given)


SICK = [
    _kept("503 until it is gone"),
    _kept("429, retry in an hour"),
    _kept("hangs"),
    _kept("hangs, `exit_timeout=0`"),
    _kept("refuses connections"),
    _kept("resets connections"),
    _kept("breaks off its answers", at_first=None, repeats=True, by="before it was gone, and again by the next run"),
    _kept("answers garbage", at_first=None, repeats=True, by="before it was gone, and again by the next run"),
    _kept(
        "answers a byte at a time", at_first=None, repeats=True, by="before it was gone, and again by the next run"
    ),
    _kept("503 once", at_first=None, by=BEFORE),
    _kept("429, retry in 1 s, once", at_first=None, by=BEFORE),
    _kept("answers 0.3 s late", at_first=None, by=BEFORE),
    _kept("503 for the first two", at_first=None, by=BEFORE),
    Row(
        "raises an exception in the middle of an update",
        block("p.update(subtitle='late', important=True)", "time.sleep(0.3)", "raise ValueError('no disk')"),
        "hangs for updates",
        code=1,
        says=SAYS,
        phone=FAILED,
        pushes=TOLD,
    ),
    Row(
        "raises an exception",
        FAILS,
        "hangs for updates from the start",
        code=1,
        says=SAYS,
        pushes=TOLD,
        by="the push " + BEFORE + "; a card that was never there is not shown",
    ),
    *(
        Row(
            "raises an exception",
            FAILS,
            service,
            code=1,
            says=SAYS,
            pushes=TOLD,
            by=f"the push {BY_FLUSH}; a card that was never there is not shown",
        )
        for service in ("hangs from the start", "503 from the start")
    ),
    *(
        Row(
            "raises an exception",
            FAILS,
            service,
            code=1,
            says=SAYS,
            by="by nobody: a line in the log says why",
        )
        for service in ("401: a wrong key", "402: the trial is over", "422: no phone")
    ),
    Row(
        "raises an exception",
        FAILS,
        "not asked: no key",
        environment={"ACTIVITYSMITH_API_KEY": ""},
        code=1,
        says=SAYS,
        by="by nobody: a line in the log says why",
        costs="nothing",
    ),
    Row(
        "raises an exception",
        FAILS,
        "hangs",
        process="`outbox=False`",
        settings="outbox=False",
        code=1,
        says=SAYS,
        phone=RUNNING,
        by=NOBODY + "; a line in the log says that two are lost",
    ),
    Row(
        "raises an exception",
        FAILS,
        "hangs",
        process="a state directory that is a device",
        environment={"XDG_STATE_HOME": "/dev/null"},
        code=1,
        says=SAYS,
        phone=RUNNING,
        by=NOBODY + "; a line in the log says that two are lost",
    ),
    Row("returns", ENDS, "hangs", at_first=RUNNING, phone=DONE, by=BY_FLUSH),
    Row("returns", ENDS, "503 until it is gone", at_first=RUNNING, phone=DONE, by=BY_FLUSH),
    Row("returns", ENDS, "refuses connections", at_first=RUNNING, phone=DONE, by=BY_FLUSH),
    Row("returns", ENDS, "answers 2 s late, from the start", phone=DONE),
    Row("returns", ENDS, "hangs from the start", by="by nobody: a card that was never there is not shown"),
    Row(
        "`sys.exit(3)`",
        block("sys.exit(3)"),
        "hangs",
        code=3,
        at_first=RUNNING,
        phone=failed("exit code 3"),
        pushes=("job failed: exit code 3",),
        by=BY_FLUSH,
    ),
    Row(
        "Ctrl-C",
        WAITS,
        "hangs",
        acts="SIGINT",
        code=-2,
        says="KeyboardInterrupt",
        at_first=RUNNING,
        phone=STOPPED,
        by=BY_FLUSH,
    ),
    Row(
        "Ctrl-C, and another one at the exit",
        "atexit.register(say, 'leaving')\n" + WAITS,
        "hangs, `exit_timeout=60`",
        acts="SIGINT leaving 3 SIGINT",
        code=-2,
        says="KeyboardInterrupt",
        out="leaving",
        at_first=RUNNING,
        phone=STOPPED,
        by=BY_FLUSH,
        costs="until the second one",
    ),
    Row(
        "returns, and Ctrl-C at the exit",
        "atexit.register(say, 'leaving')\n" + ENDS,
        "hangs, `exit_timeout=60`",
        acts="go leaving 3 SIGINT",
        out="leaving",
        at_first=RUNNING,
        phone=DONE,
        by=BY_FLUSH,
        costs="until Ctrl-C",
    ),
    Row(
        "SIGKILL at the exit",
        "atexit.register(say, 'leaving')\n" + FAILS,
        "hangs, `exit_timeout=60`",
        acts="go leaving 0.3 SIGKILL",
        code=-9,
        alone=1,
        says=SAYS,
        out="leaving",
        phone=RUNNING,
        by=NOBODY,
    ),
]

LOOPS = [
    Row(
        "a loop that ends",
        script("""
            for number in at.track(range(10), "job"):
                if number == 4:
                    ready()
        """),
        process="`track`",
        until="*",
        phone=DONE,
    ),
    Row(
        "a loop that is left by `break`",
        script("""
            for number in at.track(range(10), "job"):
                if number == 4:
                    ready()
                    break
        """),
        process="`track`",
        until="*",
        phone="gray, 40 %, Stopped at 40 %, ended",
    ),
    Row(
        "a loop that raises",
        script("""
            for number in at.track(range(10), "job"):
                if number == 4:
                    ready()
                    raise ValueError("no disk")
        """),
        process="`track`",
        until="*",
        code=1,
        says=SAYS,
        phone=failed("ValueError: no disk", 40),
        pushes=TOLD,
    ),
    Row(
        "a loop in which `sys.exit(3)` is called",
        script("""
            for number in at.track(range(10), "job"):
                if number == 4:
                    ready()
                    sys.exit(3)
        """),
        process="`track`",
        until="*",
        code=3,
        phone="gray, 40 %, Stopped at 40 %, ended",
    ),
    Row(
        "Ctrl-C in a loop",
        script("""
            for number in at.track(range(10), "job"):
                if number == 4:
                    ready()
                    while True: time.sleep(0.05)
        """),
        process="`track`",
        acts="SIGINT",
        until="*",
        code=-2,
        says="KeyboardInterrupt",
        phone="gray, 40 %, Stopped at 40 %, ended",
    ),
    Row(
        "a generator that is closed",
        script("""
            @at.track_steps("job", steps=["Read", "Write"])
            def rows():
                yield 1
                yield 2
            made = rows()
            next(made)
            ready()
            made.close()
        """),
        until="blue, step 1 of 2, Read, running",
        phone="gray, step 1 of 2, Stopped in Read, ended",
    ),
    Row(
        "a generator that nobody finishes",
        script("""
            @at.track_steps("job", steps=["Read", "Write"])
            def rows():
                yield 1
                yield 2
            made = rows()
            next(made)
            ready()
        """),
        until="blue, step 1 of 2, Read, running",
        phone="gray, step 1 of 2, Stopped in Read, ended",
    ),
]

THREADS = [
    Row(
        "raises an exception",
        script("""
            def work():
                with at.live_progress("job", total=100) as p:
                    p.advance(42)
                    p.update(important=True)
                    ready()
                    raise ValueError("no disk")
            thread = threading.Thread(target=work)
            thread.start()
            thread.join()
        """),
        process="a thread",
        says=SAYS,
        phone=FAILED,
        pushes=TOLD,
    ),
    Row(
        "`sys.exit(3)`",
        script("""
            def work():
                with at.live_progress("job", total=100) as p:
                    p.advance(42)
                    p.update(important=True)
                    ready()
                    sys.exit(3)
            thread = threading.Thread(target=work)
            thread.start()
            thread.join()
        """),
        process="a thread",
        phone=failed("exit code 3"),
        pushes=("job failed: exit code 3",),
    ),
    Row(
        "its main thread ends first",
        script("""
            def work():
                with at.live_progress("job", total=100) as p:
                    p.advance(42)
                    p.update(important=True)
                    standing.set()
                    time.sleep(600)
            standing = threading.Event()
            threading.Thread(target=work, daemon=True).start()
            standing.wait()
            ready()
        """),
        process="a daemon thread",
        phone=STOPPED,
    ),
    Row(
        "its main thread raises",
        script("""
            def work():
                with at.live_progress("job", total=100) as p:
                    p.advance(42)
                    p.update(important=True)
                    standing.set()
                    while True: p.update(subtitle=str(time.time()))
            standing = threading.Event()
            threading.Thread(target=work, daemon=True).start()
            standing.wait()
            ready()
            raise ValueError("no disk")
        """),
        until="blue, 42 %, *running",
        process="a busy daemon thread",
        code=1,
        says=SAYS,
        phone=STOPPED,
    ),
    Row(
        "its main thread ends first",
        script("""
            def work():
                with at.live_progress("job", total=100) as p:
                    p.advance(42)
                    p.update(important=True)
                    standing.set()
                    while not os.path.exists("go"): time.sleep(0.02)
                    time.sleep(0.3)
                    p.advance(58)
            standing = threading.Event()
            threading.Thread(target=work).start()
            standing.wait()
            ready()
        """),
        process="a thread",
        phone=DONE,
    ),
    Row(
        "one of four jobs raises",
        script("""
            from concurrent.futures import ThreadPoolExecutor
            from contextvars import copy_context
            def work(n):
                with at.live_progress(f"part {n}", total=1) as part:
                    if n == 3: raise ValueError("no disk")
                    part.advance()
            with at.live_progress("job", total=100) as p:
                p.advance(42)
                p.update(important=True)
                ready()
                with ThreadPoolExecutor(2) as pool:
                    made = [pool.submit(copy_context().run, work, n) for n in range(4)]
                say(sum(each.exception() is None for each in made))
        """),
        process="a pool of threads",
        out="3",
        phone=SHORT,
        pushes=("part 3 failed: ValueError: no disk",),
    ),
    Row(
        "returns",
        script("""
            start = threading.Thread.start
            def refuse(thread):
                raise RuntimeError("can't start new thread")
            threading.Thread.start = refuse
        """)
        + ENDS,
        process="no thread can be started",
        until="",
        phone=DONE,
    ),
]

LOOPING = [
    Row(
        "returns",
        script("""
            import asyncio
            async def main():
                async with at.live_progress("job", total=100) as p:
                    p.advance(42)
                    p.update(important=True)
                    asyncio.get_running_loop().slow_callback_duration = 60
                    await asyncio.to_thread(ready)
                    p.advance(58)
            asyncio.run(main(), debug=True)
        """),
        process="asyncio, debug mode",
        environment={"PYTHONASYNCIODEBUG": "1"},
        phone=DONE,
    ),
    Row(
        "raises an exception",
        script("""
            import asyncio
            @at.track_steps("job", steps=["Read", "Write"])
            async def main():
                asyncio.get_running_loop().slow_callback_duration = 60
                await asyncio.to_thread(ready)
                raise ValueError("no disk")
            asyncio.run(main(), debug=True)
        """),
        process="asyncio, debug mode",
        code=1,
        says=SAYS,
        until="blue, step 1 of 2, Read, running",
        phone="red, step 1 of 2, Failed in Read: ValueError: no disk, ended",
        pushes=TOLD,
    ),
    Row(
        "a task is cancelled",
        script("""
            import asyncio
            async def work():
                async with at.live_progress("job", total=100) as p:
                    p.advance(42)
                    p.update(important=True)
                    await asyncio.sleep(600)
            async def main():
                task = asyncio.create_task(work())
                await asyncio.sleep(0)
                ready()
                task.cancel()
                say((await asyncio.gather(task, return_exceptions=True))[0].__class__.__name__)
            asyncio.run(main())
        """),
        process="asyncio",
        out="CancelledError",
        phone=STOPPED,
    ),
    Row(
        "a task runs into a timeout",
        script("""
            import asyncio
            async def work():
                async with at.live_progress("job", total=100) as p:
                    p.advance(42)
                    p.update(important=True)
                    ready()
                    await asyncio.sleep(600)
            try:
                asyncio.run(asyncio.wait_for(work(), 0.1))
            except (TimeoutError, asyncio.TimeoutError):
                say("late")
        """),
        process="asyncio",
        out="late",
        phone=STOPPED,
    ),
    Row(
        "Ctrl-C",
        script("""
            import asyncio
            async def main():
                async with at.live_progress("job", total=100) as p:
                    p.advance(42)
                    p.update(important=True)
                    await asyncio.sleep(0)
                    ready()
                    await asyncio.sleep(600)
            asyncio.run(main())
        """),
        process="asyncio",
        acts="go 0.3 SIGINT",
        code=-2,
        says="KeyboardInterrupt",
        phone=STOPPED,
    ),
    Row(
        "an async generator that nobody finishes",
        script("""
            import asyncio
            async def rows():
                async with at.live_progress("job", total=100) as p:
                    p.advance(42)
                    p.update(important=True)
                    yield 1
                    yield 2
            async def main():
                made = rows()
                async for row in made:
                    ready()
                    break
            asyncio.run(main())
        """),
        process="asyncio",
        phone=STOPPED,
    ),
    Row(
        "its loop is closed in the middle",
        script("""
            import asyncio
            async def rows():
                async with at.live_progress("job", total=100) as p:
                    p.advance(42)
                    p.update(important=True)
                    yield 1
            loop = asyncio.new_event_loop()
            made = rows()
            loop.run_until_complete(made.__anext__())
            loop.close()
            ready()
        """),
        process="a closed event loop",
        phone=STOPPED,
    ),
    Row(
        "`wait=True`",
        script("""
            import asyncio
            async def main():
                async with at.live_progress("job", total=100, wait=0.3) as p:
                    p.advance(42)
                    p.update(important=True)
                    ready()
                    p.advance(58)
                say("left")
            asyncio.run(main())
        """),
        service="503 until it is gone",
        process="asyncio",
        out="left",
        at_first=RUNNING,
        phone=DONE,
        by=BY_FLUSH,
        costs="`wait` and `exit_timeout` at most",
    ),
]

FORKS = [
    Row(
        "a child falls out of its parent's block",
        block("""
            child = os.fork()
            if child:
                say(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
                p.advance(58)
            else:
                p.advance(13)
                p.update(subtitle="child", important=True)
        """),
        process="`os.fork`",
        out="0",
        phone=DONE,
        needs="fork",
    ),
    Row(
        "a child raises out of its parent's block",
        block("""
            child = os.fork()
            if not child:
                raise ValueError("no disk")
            say(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
            p.advance(58)
        """),
        process="`os.fork`",
        out="1",
        says=SAYS,
        phone=DONE,
        needs="fork",
    ),
    Row(
        "a child leaves by `os._exit`",
        block("""
            child = os.fork()
            if not child:
                p.fail("child")
                os._exit(7)
            say(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
            p.advance(58)
        """),
        process="`os.fork`",
        out="7",
        phone=DONE,
        needs="fork",
    ),
    Row(
        "a child has a block of its own, which fails",
        block("""
            child = os.fork()
            if not child:
                with at.live_progress("child", total=4) as c:
                    c.advance()
                    sys.exit(5)
            say(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
            p.advance(58)
        """),
        process="`os.fork`",
        out="5",
        phone={"job": DONE, "child": failed("exit code 5", 25)},
        pushes=("child failed: exit code 5",),
        needs="fork",
    ),
    Row(
        "a child is forked while the parent fails",
        script("""
            try:
                with at.live_progress("job", total=100) as p:
                    p.advance(42)
                    p.update(important=True)
                    ready()
                    raise ValueError("no disk")
            except ValueError:
                child = os.fork()
                if not child:
                    sys.exit(0)
            say(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        """),
        process="`os.fork`",
        out="0",
        phone=FAILED,
        pushes=TOLD,
        needs="fork",
    ),
    Row(
        "a child is forked while the parent fails",
        script("""
            try:
                with at.live_progress("job", total=100) as p:
                    p.advance(42)
                    p.update(important=True)
                    ready()
                    raise ValueError("no disk")
            except ValueError:
                child = os.fork()
                if not child:
                    sys.exit(0)
            say(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        """),
        service="503 until it is gone",
        process="`os.fork`",
        out="0",
        at_first=RUNNING,
        phone=FAILED,
        pushes=TOLD,
        by=BY_FLUSH,
        needs="fork",
    ),
    Row(
        "the parent becomes a daemon inside its block",
        block("""
            if os.fork():
                os._exit(0)
            os.setsid()
            p.advance(58)
        """),
        process="`os.fork`",
        phone=RUNNING,
        by=NOBODY + ": the block is the parent's",
        costs="nothing",
        needs="fork",
    ),
    Row(
        "becomes a daemon, then opens its block",
        script("""
            if os.fork(): os._exit(0)
            os.setsid()
        """)
        + block("p.advance(58)", "raise SystemExit(0)"),
        process="`os.fork`",
        acts="go 0.3",
        phone=DONE,
        by="before the daemon was gone",
        at_first="*",
        needs="fork",
    ),
    Row(
        "the parent is killed, a child lives on",
        block("""
            if not os.fork():
                time.sleep(600)
            os.kill(os.getpid(), signal.SIGKILL)
        """),
        process="`os.fork`, `watchdog=True`",
        settings="watchdog=True",
        code=-9,
        at_first=RUNNING,
        phone=DEAD,
        pushes=(DEATH,),
        by=BY_WATCHDOG,
        costs="nothing",
        needs="fork",
    ),
    Row(
        "a child is killed, the parent returns",
        block("""
            child = os.fork()
            if not child:
                os.kill(os.getpid(), signal.SIGKILL)
            say(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
            p.advance(58)
        """),
        process="`os.fork`, `watchdog=True`",
        settings="watchdog=True",
        out="-9",
        phone=DONE,
        needs="fork",
    ),
    Row(
        "a child with a block of its own is killed",
        block("""
            child = os.fork()
            if not child:
                with at.live_progress("child", total=4) as c:
                    c.advance()
                    stand()
                    os.kill(os.getpid(), signal.SIGKILL)
            say(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
            p.advance(58)
        """),
        process="`os.fork`, `watchdog=True`",
        settings="watchdog=True",
        out="-9",
        at_first="*",
        phone={"job": DONE, "child": f"red, 25 %, {WITHOUT_GOODBYE}, ended"},
        pushes=(DEATH.replace("job", "child"),),
        by=BY_WATCHDOG,
        needs="fork",
    ),
    Row(
        "the parent is told to stop, its children first",
        block("""
            children = []
            for n in range(2):
                child = os.fork()
                if not child:
                    while True: time.sleep(0.05)
                children.append(child)
            for child in children: os.kill(child, signal.SIGTERM)
            say(*(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children))
            os.kill(os.getpid(), signal.SIGTERM)
            while True: time.sleep(0.05)
        """),
        process="`os.fork`, `signals=True`",
        settings="signals=True",
        code=-15,
        out="-15 -15",
        phone="gray, 42 %, Stopped: SIGTERM, ended",
        needs="fork",
    ),
    Row(
        "workers each track their own, one fails",
        block("""
            children = []
            for n in range(3):
                child = os.fork()
                if not child:
                    code = 0
                    try:
                        with at.live_progress(f"worker {n}", total=2) as w:
                            w.advance(2 - n % 2)
                            if n == 1: raise ValueError("no disk")
                    except ValueError:
                        code = 4
                    at.flush(60)
                    os._exit(code)
                children.append(child)
            say(*(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children))
            p.advance(58)
        """),
        process="a pre-fork server",
        out="0 4 0",
        phone={"job": DONE, "worker-0": DONE, "worker-1": failed("ValueError: no disk", 50), "worker-2": DONE},
        pushes=("worker 1 failed: ValueError: no disk",),
        costs="`flush` in each worker",
        needs="fork",
    ),
    *(
        Row(
            "one child returns, one fails",
            script(f"""
                import multiprocessing
                def work(n):
                    with at.live_progress(f"child {{n}}", total=2) as c:
                        c.advance()
                        if n: sys.exit(3)
                        c.advance()
                if __name__ == "__main__":
                    context = multiprocessing.get_context("{method}")
                    with at.live_progress("job", total=100) as p:
                        p.advance(42)
                        p.update(important=True)
                        ready()
                        children = [context.Process(target=work, args=(n,)) for n in range(2)]
                        for child in children: child.start()
                        for child in children: child.join()
                        say(*(child.exitcode for child in children))
                        p.advance(58)
            """),
            process=f"multiprocessing, {method}",
            out="0 3",
            phone={"job": DONE, "child-0": DONE, "child-1": failed("exit code 3", 50)},
            pushes=("child 1 failed: exit code 3",),
            costs="`exit_timeout` at most in each process",
            needs="fork" if method != "spawn" else "",
        )
        for method in ("fork", "spawn", "forkserver")
    ),
    *(
        Row(
            "a child fails",
            script(f"""
                import multiprocessing
                def work():
                    with at.live_progress("child", total=2) as c:
                        c.advance()
                        sys.exit(3)
                if __name__ == "__main__":
                    context = multiprocessing.get_context("{method}")
                    ready()
                    child = context.Process(target=work)
                    child.start()
                    child.join()
                    say(child.exitcode)
            """),
            service="503 until it is gone",
            process=f"multiprocessing, {method}",
            until="",
            out="3",
            pushes=("child failed: exit code 3",),
            by=f"the push {BY_FLUSH}; a card that was never there is not shown",
            costs="`exit_timeout` at most in each process",
            needs="fork" if method != "spawn" else "",
        )
        for method in ("fork", "spawn")
    ),
    Row(
        "a child is terminated",
        script("""
            import multiprocessing
            def work(pipe):
                with at.live_progress("child", total=2) as c:
                    c.advance()
                    at.flush(60)
                    pipe.send("running")
                    time.sleep(600)
            if __name__ == "__main__":
                context = multiprocessing.get_context("spawn")
                with at.live_progress("job", total=100) as p:
                    p.advance(42)
                    p.update(important=True)
                    ready()
                    mine, its = context.Pipe()
                    child = context.Process(target=work, args=(its,))
                    child.start()
                    mine.recv()
                    child.terminate()
                    child.join()
                    say(child.exitcode)
                    p.advance(58)
        """),
        process="multiprocessing, spawn, `signals=True`",
        settings="signals=True",
        out="-15",
        phone={"job": DONE, "child": "gray, 50 %, Stopped: SIGTERM, ended"},
    ),
    Row(
        "a pool of processes, one job raises",
        script("""
            import multiprocessing
            from concurrent.futures import ProcessPoolExecutor
            def work(n):
                with at.notify("part"):
                    if n == 1: raise ValueError("no disk")
            if __name__ == "__main__":
                with at.live_progress("job", total=100) as p:
                    p.advance(42)
                    p.update(important=True)
                    ready()
                    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
                        made = [pool.submit(work, n) for n in range(3)]
                    say(sum(each.exception() is None for each in made))
                    p.advance(58)
        """),
        process="a pool of processes",
        out="2",
        phone=DONE,
        pushes=("part failed: ValueError: no disk",),
        costs="`exit_timeout` at most in each process",
    ),
]

GEVENT = "from gevent import monkey; monkey.patch_all()\nimport gevent\n"
ODD = [
    Row("returns", GEVENT + ENDS, process="gevent-patched", phone=DONE, needs="gevent"),
    Row(
        "raises an exception",
        GEVENT + FAILS,
        process="gevent-patched",
        code=1,
        says=SAYS,
        phone=FAILED,
        pushes=TOLD,
        needs="gevent",
    ),
    Row(
        "raises an exception",
        GEVENT + FAILS,
        "hangs",
        process="gevent-patched",
        code=1,
        says=SAYS,
        at_first=RUNNING,
        phone=FAILED,
        pushes=TOLD,
        by=BY_FLUSH,
        needs="gevent",
    ),
    Row(
        "SIGKILL",
        GEVENT + KILL,
        process="gevent-patched, `watchdog=True`",
        settings="watchdog=True",
        code=-9,
        at_first=RUNNING,
        phone=DEAD,
        pushes=(DEATH,),
        by=BY_WATCHDOG,
        costs="nothing",
        needs="gevent",
    ),
    Row(
        "its exit handlers run around ours",
        script("""
            atexit.register(say, "registered before, called after")
            default_tracker()
            atexit.register(say, "registered after, called before")
        """)
        + ENDS,
        process="`atexit`",
        out="registered after, called before\nregistered before, called after",
        phone=DONE,
    ),
    Row(
        "an exit handler raises",
        script("""
            def odd():
                raise ValueError("no disk")
            default_tracker()
            atexit.register(odd)
        """)
        + ENDS,
        process="`atexit`",
        says=SAYS,
        phone=DONE,
    ),
    Row(
        "an exit handler ends the block",
        script("""
            p = at.live_progress("job", total=100)
            p.__enter__()
            @atexit.register
            def last():
                p.fail("left open")
            p.advance(42)
            p.update(important=True)
            ready()
        """),
        process="`atexit`",
        phone=failed("left open"),
        pushes=("job failed: left open",),
    ),
    Row(
        "a block begins in an exit handler that was there first",
        script("""
            @atexit.register
            def last():
                with at.live_progress("late", total=2) as late:
                    late.advance(2)
        """)
        + ENDS,
        process="`atexit`",
        phone={"job": DONE, "late": DONE},
    ),
    Row(
        "a block is never left",
        script("""
            p = at.live_progress("job", total=100)
            p.__enter__()
            p.advance(42)
            p.update(important=True)
            ready()
        """),
        phone=STOPPED,
    ),
    Row(
        "returns after a pause",
        ENDS,
        process="stopped for a moment (SIGSTOP, SIGCONT)",
        acts="SIGSTOP 0.7 SIGCONT go",
        phone=DONE,
    ),
    Row(
        "returns after a pause",
        ENDS,
        process="stopped for a moment, `watchdog=True`",
        settings="watchdog=True",
        acts="SIGSTOP 0.7 SIGCONT go",
        phone=DONE,
    ),
    Row(
        "the machine sleeps for nine hours",
        block("jump(9 * 3600)", "p.advance(8)", "p.update(important=True)", "at.flush(60)", "p.advance(50)"),
        process="its clocks jump ahead",
        phone=DONE,
        costs="`flush`",
    ),
    Row(
        "raises after the wall clock went back two hours",
        block("past(2 * 3600)", "raise ValueError('no disk')"),
        "503 until it is gone",
        process="its clock is set back",
        code=1,
        says=SAYS,
        at_first=RUNNING,
        phone=failed("ValueError: no disk (happened *, 2 h ago)"),
        pushes=TOLD,
        by=BY_FLUSH + ", with the time that the machine had then",
    ),
    Row(
        "closes every descriptor that it did not open",
        block("os.closerange(3, 1024)", "p.advance(58)"),
        process="closed descriptors",
        phone=DONE,
    ),
    Row(
        "is killed after it closed every descriptor and then opened its block",
        "os.closerange(3, 1024)\n" + KILL,
        process="closed descriptors, `watchdog=True`",
        settings="watchdog=True",
        code=-9,
        at_first=RUNNING,
        phone=DEAD,
        pushes=(DEATH,),
        by=BY_WATCHDOG,
        costs="nothing",
    ),
    Row(
        "raises an exception",
        FAILS,
        process="rank 1 of a job in many processes",
        environment={"RANK": "1"},
        until="",
        code=1,
        says=SAYS,
        by="by nobody: rank 0 tells",
        costs="nothing",
    ),
]

ROWS: list[Row] = [*PLAIN, *KILLED, *SICK, *LOOPS, *THREADS, *LOOPING, *FORKS, *ODD]


# ---------------------------------------------------------------------------------------------------- the page

INTRODUCTION = """\
# The fault matrix

What a job saw, and what the phone showed, for each way to end, service and kind of process below. Every row is a
test: `tests/fault_rows.py` holds it as data, `tests/test_fault_matrix.py` runs it in a process of its own against the
[simulator](simulator.md), and this page is made of the same rows by `python tests/fault_rows.py > docs/faults.md`.
What to make of it is in [reliability.md](reliability.md).

Each job stands at 42 of 100 when it goes on to its end; the service gets sick at that moment, unless a row says
otherwise. **A twin of every job runs with `ACTIVITYSMITH_TRACK=off`: exit code, standard output and standard error
are the same, but for lines of our own log.** A traceback's last line is told where there is one. "Costs" is the
most that the library adds to the job's end; `exit_timeout` is 2 s unless configured.
"""

SECTIONS = [
    ("Ends and signals", PLAIN),
    ("Sudden deaths, and the watchdog", KILLED),
    ("A sick service", SICK),
    ("Loops and generators", LOOPS),
    ("Threads", THREADS),
    ("Asyncio", LOOPING),
    ("Forks and process pools", FORKS),
    ("Other odd circumstances", ODD),
]


def page() -> str:
    """Write the page."""
    parts = [INTRODUCTION]
    number = 0
    for title, rows in SECTIONS:
        lines = [
            f"## {title}",
            "",
            "| | it ends | the service | the process | the job saw | costs | the phone showed |",
        ]
        lines += ["| --- " * 7 + "|"]
        for row in rows:
            number += 1
            cells = (row.ends, row.service, row.process, _saw(row), row.costs, _showed(row))
            lines.append(f"| {number} | " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def _saw(row: Row) -> str:
    parts = [f"exit code {row.code}" if row.code >= 0 else f"killed by signal {-row.code}"]
    parts += [f"`{row.says}`"] if row.says.strip("+-") else []
    parts += [f"printed {' and '.join(f'`{line}`' for line in row.out.splitlines())}"] if row.out else []
    return "; ".join(parts)


def _showed(row: Row) -> str:
    several = len(row.cards) > 1
    cards = "; ".join(f"{key}: {text}" if several else text for key, text in row.cards.items()) or "no card"
    cards = cards.replace("…", "...").replace("*", "...")
    told = [f'push "{push}"' + (", once or twice" if row.repeats else "") for push in row.pushes]
    at_first = "; ".join(row.cards_at_first.values())
    first = f"at first {at_first}; then " if at_first not in ("*", "; ".join(row.cards.values())) else ""
    return f"{first}{cards}. {'; '.join(told) or 'no push'}. *{row.by[0].upper()}{row.by[1:]}.*"


if __name__ == "__main__":
    sys.stdout.write(page())
