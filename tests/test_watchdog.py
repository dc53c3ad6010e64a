"""Watchdogs: jobs that leave in order or are killed, services in trouble, the process and its parts, garbage."""

from __future__ import annotations

import json
import logging
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any
from unittest import mock

import internals
import pytest
from internals import fingerprint, is_full, line_to
from owed import Owed, is_drained, leave
from patience import PATIENCE, is_gone, until
from watched import CRASH_REASON, END, PUSH, QUICK, Start, linux, red

from activitysmith_track import InvalidRequest
from activitysmith_track.client.requests import owed_request
from activitysmith_track.delivery.account import Account
from activitysmith_track.delivery.entries import Entry
from activitysmith_track.delivery.outbox import Outbox
from activitysmith_track.delivery.persistence import Persistence
from activitysmith_track.delivery.runtime import Runtime
from activitysmith_track.delivery.state import CopyOwner, Hold
from activitysmith_track.delivery.watchdog import companion, job_record, pids, protocol, supervisor
from activitysmith_track.delivery.watchdog import line as lines
from activitysmith_track.delivery.watchdog.job_record import JobRecord
from activitysmith_track.delivery.watchdog.job_record import Owed as Request
from activitysmith_track.delivery.watchdog.process import WatchdogProcess
from activitysmith_track.delivery.watchdog.protocol import Decoder, Garbled, encode
from activitysmith_track.delivery.watchdog.successor import PacedRuntime, Successor
from activitysmith_track.delivery.watchdog.supervisor import Watchdog
from activitysmith_track.simulator import Simulator

pytestmark = [
    pytest.mark.skipif(os.name != "posix", reason="the watchdog needs POSIX"),
    pytest.mark.once,
    pytest.mark.real,
]
pidfds = pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="this platform has no pidfd")


@pytest.fixture(autouse=True)
def own_path_and_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a watchdog's own steps change, where a test takes them in this process, is set back."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    with mock.patch.dict(os.environ):
        yield


# --------------------------------------------------------------------------------------- the words of a dead job


def test_the_newest_words_count(start: Start, sim: Simulator) -> None:
    """What the card showed last is what it stops at."""
    job = start("""
        show()
        tell()
        for percentage in range(43, 78):
            dog.arm(1, key, url, "job", **words(percentage))
        assert dog.close(30)
        dog = supervisor.Watchdog(Timing(*timing))
        dog.arm(1, key, url, "job", **words(77))
        tell()
        wait()
    """)
    job.watchdog()
    job.watchdog()
    assert red(sim, percentage=42 + 35, pushes=0)  # the first one was told bye, and ended what it was armed for
    assert job.hear() == "ready"
    assert sim.pushes == []
    job.kill()
    assert sim.wait_for(lambda s: s.pushes, PATIENCE)


def test_one_push_for_several_cards(start: Start, sim: Simulator) -> None:
    """One failure, one push: the first card's, which counts the others."""
    job = start("show(1)\nshow(2, 'inner')\nshow(3, 'third')\ndog.disarm(3)\ntell()\nwait()")
    job.watchdog()
    job.hear()
    job.kill()
    assert red(sim)
    assert red(sim, "inner")
    assert [(push.title, push.message) for push in sim.pushes] == [
        ("job failed", f"{CRASH_REASON} · and 1 more card")
    ]
    assert not sim.cards["third"].ended


# --------------------------------------------------------------------------------------- how a job leaves in order


def test_an_orderly_exit(start: Start, sim: Simulator) -> None:
    """Once it is disarmed for each card and the process has said bye, nothing is sent, and it leaves at once."""
    job = start("show()\ntell()\ndog.disarm(1)\nassert dog.close(30) and not dog.alive and dog.close(30)")
    watchdog = job.watchdog()
    assert job.said() == (0, "")
    assert until(lambda: is_gone(watchdog))
    assert [request.method for request in sim.requests] == ["PUT"]


def test_what_is_owed_is_delivered_after_the_exit(start: Start, sim: Simulator) -> None:
    """What it has is delivered when the job has left, be it an end, a state or a push, unless it was acked."""
    job = start("""
        show(1); show(2, "kept")
        green = {"content_state": {"title": "job", "type": "progress", "percentage": 100, "color": "green"}}
        dog.entrust(1, key, url, "end", green, stream_key="job", occurred_at=time.time())
        dog.entrust(2, key, url, "keep", green, stream_key="kept", occurred_at=time.time())
        dog.entrust(3, key, url, "push", {"title": "owed"}, at_least_once=True, occurred_at=time.time())
        dog.entrust(4, key, url, "push", {"title": "acknowledged"}, occurred_at=time.time())
        dog.ack(4)
        dog.disarm(1); dog.disarm(2)
        tell()
        say(sys.stdin.readline().strip())
        assert dog.close(30)
    """)
    watchdog = job.watchdog()
    assert len(sim.requests) == 2  # not before the exit
    assert job.process.stdin is not None
    job.process.stdin.write("go\n")
    job.process.stdin.flush()
    assert job.said() == (0, "")
    assert until(lambda: is_gone(watchdog))
    assert (sim.cards["job"].ended, sim.cards["job"].color) == (True, "green")
    assert (sim.cards["kept"].ended, sim.cards["kept"].percentage) == (False, 100)
    assert [push.title for push in sim.pushes] == ["owed"]


def test_owed_by_an_exit_handler(start: Start, sim: Simulator) -> None:
    """Where the interpreter leaves already and no thread can start, the watchdog still takes over what is owed."""
    job = start("""
        import atexit
        def last():
            dog.entrust(1, key, url, "push", {"title": "owed"}, at_least_once=True, occurred_at=time.time())
            say(dog.close(30))
        atexit.register(last)
    """)
    assert job.hear() == "True"
    assert job.said() == (0, "")
    assert sim.wait_for(lambda s: s.pushes, PATIENCE)


def test_nothing_to_guard(start: Start, sim: Simulator) -> None:
    """A watchdog that was never needed is never started."""
    job = start("say(dog.close(30), dog.alive, threading.active_count())")
    assert (job.hear(), job.said()) == ("True False 1", (0, ""))


def test_it_is_let_go_and_called_again(start: Start, sim: Simulator) -> None:
    """While nothing is guarded there is no process after a while; the next card has one."""
    job = start(
        """
        show()
        tell()
        dog.disarm(1)
        while dog.alive:
            time.sleep(0.01)
        show(2)
        tell()
        wait()
        """,
        QUICK._replace(idle=0.2),
    )
    first, second = job.watchdog(), job.watchdog()
    assert first != second
    assert until(lambda: is_gone(first))
    assert job.hear() == "ready"
    assert not sim.cards["job"].ended
    job.kill()
    assert red(sim)


# ----------------------------------------------------------------------------------------------------- children


@linux
@pidfds
@pytest.mark.parametrize("pidfd", [True, False])
def test_a_child_of_c_that_holds_the_pipe(start: Start, sim: Simulator, pidfd: bool) -> None:
    """A child that was forked behind Python's back holds the pipe; that the job is gone is seen all the same."""
    job = start(f"""
        if not {pidfd}:
            line.open_pidfd = lambda: None
        show()
        tell()
        libc = ctypes.PyDLL(None)
        child = libc.fork()
        if not child:
            while True:
                libc.pause()
        say(child)
        wait()
    """)
    job.watchdog()
    job.others.append(int(job.hear()))
    assert job.hear() == "ready"
    job.kill()
    assert red(sim)
    assert not is_gone(job.others[0])


@pytest.mark.parametrize("leave", ["os._exit(1)", "os.kill(os.getpid(), 9)", "sys.exit()"])
def test_a_child_that_dies_first(start: Start, sim: Simulator, leave: str) -> None:
    """The death of a forked child is not the job's."""
    job = start(f"""
        show()
        tell()
        child = os.fork()
        if not child:
            dog.disarm(1)
            dog.close(0)
            {leave}
        os.waitpid(child, 0)
        dog.arm(1, key, url, "job", **words(50))
        dog.disarm(1)
        assert dog.close(30)
    """)
    watchdog = job.watchdog()
    assert job.said() == (0, "")
    assert until(lambda: is_gone(watchdog))
    assert [request.method for request in sim.requests] == ["PUT"]


def test_the_jobs_own_children(start: Start, sim: Simulator) -> None:
    """`os.wait` returns the job's own child and then has none left: the watchdog is nobody's child."""
    job = start("""
        show()
        tell()
        child = os.posix_spawn("/bin/sh", ["sh", "-c", "exit 7"], {})
        assert os.wait() == (child, 7 << 8)
        try:
            os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            say("childless")
        dog.disarm(1)
        assert dog.close(30)
    """)
    job.watchdog()
    assert job.hear() == "childless"
    assert job.said() == (0, "")


@pytest.mark.parametrize("setting", ["signal.SIGCHLD, signal.SIG_IGN", "signal.SIGPIPE, signal.SIG_DFL"])
def test_signals_that_the_job_has_set(start: Start, sim: Simulator, setting: str) -> None:
    """A job that ignores its children, or that dies of a broken pipe, is served like any other."""
    job = start(f"""
        signal.signal({setting})
        show()
        tell()
        first = dog.pid
        os.kill(first, signal.SIGKILL)
        while dog.pid in (None, first):
            dog.arm(1, key, url, "job", **words())
        tell()
        wait()
    """)
    job.watchdog()
    job.watchdog()
    assert job.hear() == "ready"
    job.kill()
    assert red(sim)


# ------------------------------------------------------------------------------------------------- the process


@linux
def test_where_the_process_stands(start: Start, sim: Simulator) -> None:
    """It has a session of its own, no parent of the job's, no key in arguments or environment, and little memory."""
    job = start("show()\ntell()\nwait()", ACTIVITYSMITH_API_KEY=sim.api_key, HTTPS_PROXY="http://user:pass@proxy:1")
    pid = job.watchdog()
    job.hear()
    proc, held = (
        Path(f"/proc/{pid}"),
        ["/dev/null", "/dev/null", *(["anon_inode"] if hasattr(os, "pidfd_open") else []), "pipe"],
    )
    status = dict(line.split(":\t", 1) for line in (proc / "status").read_text().splitlines() if ":\t" in line)
    assert int(status["PPid"]) != job.process.pid
    assert os.getsid(pid) not in (os.getsid(0), os.getsid(job.process.pid))
    assert os.readlink(proc / "cwd") == "/"
    assert int(status["VmRSS"].split()[0]) < 15_000
    for file in ("cmdline", "environ"):
        content = (proc / file).read_bytes()
        assert sim.api_key.encode() not in content
        assert b"user:pass" not in content
    assert until(lambda: sorted(os.readlink(each).partition(":")[0] for each in (proc / "fd").iterdir()) == held)
    ignored = int(status["SigIgn"], 16)
    assert all(ignored >> number - 1 & 1 for number in (signal.SIGINT, signal.SIGHUP, signal.SIGPIPE))
    assert "0077" in status["Umask"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGQUIT])
def test_signals_to_the_watchdog(start: Start, sim: Simulator, number: int) -> None:
    """No signal short of SIGKILL keeps it from its duty."""
    job = start("show()\ntell()\nwait()")
    watchdog = job.watchdog()
    job.hear()
    os.kill(watchdog, number)
    job.kill()
    assert red(sim)


def test_a_stopped_watchdog_holds_up_nothing(start: Start, sim: Simulator) -> None:
    """With a process that reads nothing the job goes on, and only the newest of what it says is kept."""
    job = start("""
        show()
        tell()
        os.kill(dog.pid, signal.SIGSTOP)
        more = words(10)
        more["end"]["metadata"] = {"note": "x" * 2000}
        for percentage in range(2000):
            dog.arm(1 + percentage % 3, key, url, "job", **more)
        for number in 2, 3:
            dog.disarm(number)
        dog.arm(1, key, url, "job", **words(77))
        while not dog._inbox.empty():
            time.sleep(0.01)
        say(len(dog._companion.line._pending) <= 4)
        wait()
    """)
    watchdog = job.watchdog()
    assert job.hear() == "True"
    assert job.hear() == "ready"
    os.kill(watchdog, signal.SIGCONT)
    assert until(lambda: not os.path.exists("/proc") or _readable(watchdog))
    job.kill()
    assert sim.wait_for(lambda s: s.cards["job"].ended and s.pushes, PATIENCE)


def _readable(pid: int) -> bool:
    """Tell whether a process sleeps, as it does when it has read all."""
    return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] == b"S"


def test_a_farewell_that_nobody_hears(start: Start, sim: Simulator) -> None:
    """A process that reads nothing costs the exit no more than it was given."""
    job = start("""
        show()
        tell()
        os.kill(dog.pid, signal.SIGSTOP)
        more = words(10)
        more["end"]["metadata"] = {"note": "x" * 2000}
        for number in range(100):
            dog.arm(1 + number, key, url, "job", **more)
        begun = time.monotonic()
        say(dog.close(0.3), time.monotonic() - begun < 10)
    """)
    job.watchdog()
    assert job.hear() == "False True"
    assert job.said() == (0, "")


def test_a_watchdog_that_somebody_kills(start: Start, sim: Simulator) -> None:
    """It is started anew once, with all that it must know; after that the job is told once, and goes on."""
    job = start("""
        heard = threading.Event()
        class Handler(logging.StreamHandler):
            def emit(self, record):
                super().emit(record)
                heard.set()
        logging.basicConfig(format="%(message)s", handlers=[Handler()])
        show()
        tell()
        first = dog.pid
        os.kill(first, signal.SIGKILL)
        while dog.pid in (None, first):
            time.sleep(0.01)
        tell()
        say(sys.stdin.readline().strip())
        os.kill(dog.pid, signal.SIGKILL)
        assert heard.wait(180)
        show()
        assert not dog.start(1)
        say(dog.close(1))
    """)
    assert job.watchdog() != job.watchdog()
    assert job.process.stdin is not None
    job.process.stdin.write("\n")
    job.process.stdin.flush()
    assert (job.hear(), job.hear()) == ("", "False")
    assert job.said() == (0, "activitysmith_track: the watchdog was ended by somebody; the job goes on without\n")


def test_a_job_that_closes_what_it_did_not_open(start: Start, sim: Simulator) -> None:
    """Where the pipe's number belongs to a file of the job's by now, nothing is written to it."""
    job = start("""
        show()
        tell()
        pipe = dog._companion.line._pipe
        file = os.open("own", os.O_CREAT | os.O_RDWR)
        os.dup2(file, pipe)
        for percentage in range(10):
            dog.arm(1, key, url, "job", **words(percentage))
        tell()
        dog.disarm(1)
        assert dog.close(30)
        say(os.fstat(pipe).st_size)
    """)
    assert job.watchdog()
    job.watchdog()
    assert job.hear() == "0"
    assert job.said() == (0, "")


@pytest.mark.parametrize(
    ("python", "word"),
    [("/nowhere/python3", "not found"), ("/bin/true", "does not answer"), ("/bin/false", "answer")],
)
def test_it_cannot_be_started(caplog: pytest.LogCaptureFixture, python: str, word: str) -> None:
    """Without a process the job goes on, after one line in the log."""
    if not os.path.exists(python) and not python.startswith("/nowhere"):
        pytest.skip("this machine has no such program")
    dog = Watchdog(QUICK, interpreter=python)
    with caplog.at_level(logging.WARNING):
        assert not dog.start(PATIENCE)
        dog.arm(1, "key", "http://127.0.0.1:1/api", "job", end=END, push=PUSH, began_at=0.0)
        dog.disarm(1)
        assert not dog.start(PATIENCE)
        assert dog.close(PATIENCE)
    assert len(caplog.records) == 1
    assert word in caplog.text


def test_a_shell_that_hangs(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shell that does not leave at once is not waited for, and leaves no child behind."""
    internals.shell_hangs(monkeypatch)
    dog = Watchdog(QUICK._replace(start=0.2))
    assert not dog.start(PATIENCE)
    assert "could not be started" in caplog.text
    assert dog.close(PATIENCE)
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_an_interpreter_is_found_or_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server's or a frozen program is never started in the place of Python."""
    assert os.path.samefile(companion.interpreter(), sys.executable)
    monkeypatch.setattr(sys, "executable", "/usr/bin/uwsgi")
    assert os.path.basename(companion.interpreter()).startswith("python")
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    with pytest.raises(OSError, match="no Python interpreter"):
        companion.interpreter()


def test_it_is_refused_where_it_cannot_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """On Windows the setting is refused where it is made."""
    with monkeypatch.context() as patch:
        patch.setattr(supervisor.os, "name", "nt")
        with pytest.raises(InvalidRequest, match="watchdog"):
            Watchdog()


# ---------------------------------------------------------------------------------------- a service in trouble


@pytest.mark.parametrize("kind", ["status", "reset", "hang", "truncate", "garbage", "refuse", "limit"])
def test_a_service_that_comes_back(start: Start, sim: Simulator, kind: str) -> None:
    """Ends and pushes are tried until they arrive."""
    job = start("show()\ntell()\nwait()", QUICK._replace(attempt=0.5))
    watchdog = job.watchdog()
    job.hear()
    if kind == "limit":
        sim.fault("status", status=429, retry_after=0, times=4)
    else:
        sim.fault(kind, **{"seconds": 0.5} if kind == "refuse" else {"times": 4})
    job.kill()
    assert red(sim)
    assert until(lambda: is_gone(watchdog))
    assert sum(request.method == "DELETE" and request.status == 200 for request in sim.requests) >= 1


def test_a_hanging_end_holds_up_no_push(start: Start, sim: Simulator) -> None:
    """What is to be delivered is delivered side by side."""
    job = start("show()\ntell()\nwait()", QUICK._replace(attempt=30.0))
    job.watchdog()
    job.hear()
    fault = sim.fault("hang", method="DELETE")
    job.kill()
    assert sim.wait_for(lambda s: s.pushes, PATIENCE)
    assert until(lambda: fault.hits == 1)
    assert not sim.cards["job"].ended


@pytest.mark.parametrize("kind", ["hang", "status"])
def test_it_does_not_try_for_ever(start: Start, sim: Simulator, kind: str) -> None:
    """When its time is over it leaves, whatever is owed."""
    job = start("show()\ntell()\nwait()", QUICK._replace(retry=1.0))
    watchdog = job.watchdog()
    job.hear()
    sim.fault(kind)
    job.kill()
    assert until(lambda: is_gone(watchdog))
    assert not sim.cards["job"].ended


@pytest.mark.parametrize(("status", "ends"), [(400, 2), (401, 1), (403, 1), (404, 1)])
def test_a_final_answer(start: Start, sim: Simulator, status: int, ends: int) -> None:
    """What the service refuses for good is not asked again, but for an end without the words that it may not take."""
    job = start("show()\ntell()\nwait()")
    watchdog = job.watchdog()
    job.hear()
    sim.fault("status", status=status)
    job.kill()
    assert until(lambda: is_gone(watchdog))
    assert sorted(request.method for request in sim.requests[1:]) == [*["DELETE"] * ends, "POST"]
    asked = [request.content for request in sim.requests if request.method == "DELETE"]
    assert [b"content_state" in each for each in asked] == [True, False][:ends]


# ------------------------------------------------------------------------------------- the process, in this one


class Pipes:
    """A watchdog's descriptors, and a thread in which it waits."""

    def __init__(self) -> None:
        self.reads, self.writes = os.pipe()
        self.listens, self.told = os.pipe()
        self.lent = os.open(os.devnull, os.O_RDWR)
        self.process = WatchdogProcess(self.reads, self.lent, self.told)
        self.thread = threading.Thread(target=self.process.wait, daemon=True)

    def __enter__(self) -> Pipes:
        self.thread.start()
        return self

    def send(self, *frames: bytes) -> None:
        """Write to its pipe."""
        os.write(self.writes, b"".join(frames))

    def hello(self, **fields: Any) -> None:
        """Say hello, and wait until it is heard."""
        self.send(hello(**fields))
        assert os.read(self.listens, 100).endswith(protocol.READY)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self.writes)
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive()
        for each in (self.reads, self.listens, self.lent, self.told):
            os.close(each)


def hello(**fields: Any) -> bytes:
    """Build a hello of this process."""
    usual = {
        "protocol": protocol.PROTOCOL,
        "pid": os.getpid(),
        "pidfd": False,
        "started": None,
        "sys_path": [*sys.path, "/nowhere"],
        "environment": {"NO_PROXY": "*"},
        "timing": list(QUICK),
        "outbox": False,
    }
    return encode("hello", **{**usual, **fields})


def told(sim: Simulator, *, push: Any = PUSH, owed: tuple[dict[str, Any], ...] = ()) -> list[bytes]:
    """Build the frames of one account with one card."""
    return [
        encode("account", id=1, api_key=sim.api_key, base_url=sim.base_url),
        encode("card", id=1, account=1, stream_key="job", end=END, push=push, began_at=1.0),
        *(encode("owed", **{"id": n, "account": 1, "at_least_once": False, **each}) for n, each in enumerate(owed)),
    ]


def show(sim: Simulator) -> None:
    """Put a card on the screen."""
    from activitysmith_track import ActivitySmith

    with ActivitySmith(sim.api_key, base_url=sim.base_url) as service:
        service.live_activities.stream("job", title="job", type="progress", percentage=42)


def test_waiting_and_delivering(sim: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process's own steps: told, closed, delivered, over."""
    monkeypatch.setenv("NO_PROXY", "")
    show(sim)
    with Pipes() as pipes:
        pipes.hello()
        pipes.send(*told(sim))
    pipes.process.deliver()
    assert (sim.cards["job"].color, [push.title for push in sim.pushes]) == ("red", ["job failed"])
    assert sys.path[-1] == "/nowhere"
    assert os.environ["NO_PROXY"] == "*"


def test_a_bye(sim: Simulator) -> None:
    """A bye ends the wait while the pipe is open, and what comes after it is not read."""
    with Pipes() as pipes:
        pipes.hello()
        pipes.send(*told(sim)[:1], encode("bye"), *told(sim))
        pipes.thread.join(PATIENCE)
        assert not pipes.thread.is_alive()
    pipes.process.deliver()
    assert pipes.process.record.left
    assert sim.requests == []


@linux
def test_a_job_that_is_gone_before_the_hello() -> None:
    """A number that belongs to no process, or to another by now, is no job to wait for."""
    child = subprocess.Popen(["/bin/sh", "-c", "exit"])
    child.wait(PATIENCE)
    with Pipes() as pipes:
        pipes.hello(pid=child.pid)
        pipes.thread.join(PATIENCE)
        assert not pipes.thread.is_alive()
    assert pids.is_gone(os.getpid(), -1)
    assert not pids.is_gone(os.getpid(), pids.start_time(os.getpid()))
    assert not pids.is_gone(1, None)


@pidfds
def test_a_job_whose_pidfd_tells() -> None:
    """The pidfd ends the wait although the pipe is open, when all that it holds is read."""
    child = subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE)
    pidfd = os.pidfd_open(child.pid)
    with Pipes() as pipes:
        os.dup2(pidfd, pipes.lent)
        pipes.hello(pidfd=True)
        pipes.send(encode("account", id=7, api_key="k", base_url="u"))
        child.communicate(timeout=PATIENCE)
        pipes.thread.join(PATIENCE)
        assert not pipes.thread.is_alive()
    os.close(pidfd)
    assert 7 in internals.accounts_of(pipes.process.record)
    heard_by = internals.pidfd_of(pipes.process)
    assert heard_by is not None
    os.close(heard_by)


def test_a_guard_that_is_told_to_leave(sim: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a SIGTERM of its own it still does its duty, but not for long."""
    monkeypatch.setattr(f"{WatchdogProcess.__module__}.TERM_SECONDS", 0.2)
    process = WatchdogProcess()
    for frame in (hello(timing=list(QUICK._replace(retry=3_600.0))), *told(sim)):
        process.record.take(*next(Decoder().feed(frame)))
    with sim.fault("status", status=503):
        before = set(threading.enumerate())
        delivering = threading.Thread(target=process.deliver)
        delivering.start()
        assert sim.wait_for(lambda phone: len(phone.requests) >= 4)
        assert delivering.is_alive()
        process.hurry()
        delivering.join(PATIENCE)
        for thread in set(threading.enumerate()) - before:
            thread.join(PATIENCE)
    assert not delivering.is_alive()


def test_what_is_given_up_is_left_in_the_outbox(sim: Simulator, tmp_path: Path) -> None:
    """What the process cannot deliver in its time a next process finds on disk, free to take, without the key."""
    process = WatchdogProcess()
    owed = {"method": "keep", "stream_key": "other", "body": END, "occurred_at": time.time(), "began_at": 0.0}
    timing = list(QUICK._replace(retry=0.2))
    for frame in (hello(environment={}, timing=timing, outbox=str(tmp_path / "box")), *told(sim, owed=(owed,))):
        process.record.take(*next(Decoder().feed(frame)))
    before = set(threading.enumerate())
    with sim.fault("status", status=503):
        process.deliver()
        for thread in set(threading.enumerate()) - before:
            thread.join(PATIENCE)
    box = Outbox(tmp_path / "box")
    entries = box.claim(fingerprint(sim.api_key), sim.base_url, "me", time.time(), 60)
    assert sorted(entry.kind for entry in entries) == ["end", "keep", "push"]
    assert all(sim.api_key.encode() not in path.read_bytes() for path in (tmp_path / "box").iterdir())


@pytest.mark.parametrize("method", ["begin", "put"])
def test_nothing_is_taken_again_after_the_end(
    method: str, sim: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An attempt that begins while the process gives up takes no lease with it, which nobody would give back."""
    persistence, account = Persistence(Runtime()), Account(sim.api_key, sim.base_url, Runtime())
    persistence.place.directory = tmp_path / "box"
    end, keep = (persistence.entry(account.key, kind, END, time.time(), stream_key=kind) for kind in ("end", "keep"))
    assert persistence.adopt([end], is_recent=True) == {end.id}
    owed: Any = Owed(account, end, CopyOwner.OUTBOX)
    other: Any = Owed(account, keep)
    closing = threading.Thread(target=lambda: leave(persistence, owed))
    as_it_is = getattr(Outbox, method)

    def at_the_same_time(*args: Any, **more: Any) -> Any:
        monkeypatch.setattr(Outbox, method, as_it_is)
        closing.start()
        closing.join(0.5)
        return as_it_is(*args, **more)

    monkeypatch.setattr(Outbox, method, at_the_same_time)
    if method == "begin":
        persistence.begin(owed)
    else:
        persistence.keep(other, keep)
    closing.join(PATIENCE)
    assert persistence.begin(owed) is Hold.OTHERS
    box = Outbox(tmp_path / "box")
    assert "end" in [entry.kind for entry in box.claim(fingerprint(sim.api_key), sim.base_url, "me", time.time(), 60)]


def test_an_update_that_is_carried_out_late(sim: Simulator, tmp_path: Path) -> None:
    """A card that a dead job's update wakes after its end is ended again, for the last time when none can come."""
    process, timing = WatchdogProcess(), list(QUICK._replace(attempt=3.0))
    frames = hello(environment={}, timing=timing, outbox=str(tmp_path / "box")), *told(sim, push=None)
    for frame in frames:
        process.record.take(*next(Decoder().feed(frame)))
    show(sim)
    delivering = threading.Thread(target=process.deliver)
    delivering.start()
    assert sim.wait_for(lambda phone: phone.cards["job"].ended)
    show(sim)
    delivering.join(PATIENCE)
    assert (sim.cards["job"].ended, sim.cards["job"].color) == (True, "red")
    assert [request.method for request in sim.requests] == ["PUT", "DELETE", "PUT", "DELETE", "DELETE"]
    assert is_drained(Outbox(tmp_path / "box"))


def test_what_the_job_had_in_the_outbox_is_taken_over(sim: Simulator, tmp_path: Path) -> None:
    """What is gone from there by then stays gone, and what others have there stays theirs."""
    box = Outbox(tmp_path / "box")
    own = {
        "key_fingerprint": fingerprint(sim.api_key),
        "base_url": sim.base_url,
        "body": PUSH,
        "occurred_at": time.time(),
        "run": "1-x",
    }
    titles = ("under a lease", "taken back", "given back", "another's", "may have come")
    entries = [
        Entry("push", **{**own, "body": {"title": title}}, at_least_once=title != "may have come") for title in titles
    ]
    assert box.put([entries[0], entries[1], entries[4]], "1-x", 60)
    assert box.put(entries[2:4])
    assert box.put([Entry("push", **{**own, "run": "2-y"})], "2-y", 60)
    assert box.begin(entries[3].id, "3-z", 60) is Hold.MINE
    assert box.begin(entries[4].id, "1-x", 60) is Hold.MINE
    assert box.delivered([entries[1].id])
    process, account = WatchdogProcess(), encode("account", id=1, api_key=sim.api_key, base_url=sim.base_url)
    told = encode("leases", id=1, account=1, owner="1-x"), encode("leases", id=2, account=9, owner="2-y")
    for frame in (hello(environment={}, outbox=str(tmp_path / "box")), account, *told):
        process.record.take(*next(Decoder().feed(frame)))
    process.deliver()
    assert sorted(push.title for push in sim.pushes) == ["given back", "under a lease"]
    assert process.record.leases() == [((sim.api_key, sim.base_url), "1-x")]


def test_a_second_end_is_not_tried_for_long(sim: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A card that has been ended is not worth an hour of trying to end it again."""
    monkeypatch.setattr("activitysmith_track.delivery.recovery.END_AGAIN_SECONDS", 1.0)
    process, timing = WatchdogProcess(), list(QUICK._replace(attempt=0.2, retry=3_600.0))
    show(sim)
    for frame in (hello(environment={}, timing=timing, outbox=str(tmp_path / "box")), *told(sim, push=None)):
        process.record.take(*next(Decoder().feed(frame)))
    with sim.fault("status", status=503, path="/live-activity/*", skip=1):
        process.deliver()
    assert sim.cards["job"].ended
    assert len(sim.requests) >= 3
    assert is_drained(Outbox(tmp_path / "box"))


def test_a_newer_run_takes_the_end_away(sim: Simulator, tmp_path: Path) -> None:
    """A card that was begun anew while the service did not answer is not ended by what its older run left."""
    show(sim)
    process = WatchdogProcess()
    for frame in (hello(environment={}, outbox=str(tmp_path / "box")), *told(sim)):
        process.record.take(*next(Decoder().feed(frame)))
    box = Outbox(tmp_path / "box")
    with sim.fault("status", status=503):
        delivering = threading.Thread(target=process.deliver)
        delivering.start()
        assert sim.wait_for(lambda phone: len(phone.requests) >= 5)
        until, taken = time.monotonic() + PATIENCE, None
        while taken is None and time.monotonic() < until:  # an attempt is under way
            taken = box.hold_back_ends(fingerprint(sim.api_key), sim.base_url, "job", "next", 60)
        assert len(taken or ()) == 1
        assert box.delivered(taken or ())
    delivering.join(PATIENCE)
    assert not sim.cards["job"].ended
    assert [push.title for push in sim.pushes] == ["job failed"]
    assert is_drained(box)


def test_without_a_hello(sim: Simulator) -> None:
    """Who has not said hello is no job of ours, whatever else comes."""
    process = WatchdogProcess()
    for frame in told(sim):
        process.record.take(*next(Decoder().feed(frame)))
    process.deliver()
    assert sim.requests == []


def test_the_watchdog_writes_down_an_end_first(
    sim: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A newer run that begins before the watchdog's first attempt finds the end, and takes it away."""
    show(sim)
    process, box = WatchdogProcess(), Outbox(tmp_path / "box")
    for frame in (hello(environment={}, outbox=str(tmp_path / "box")), *told(sim)):
        process.record.take(*next(Decoder().feed(frame)))
    taken: list[Any] = []

    def take() -> None:
        taken.append(box.hold_back_ends(fingerprint(sim.api_key), sim.base_url, "job", "next", 60))
        box.delivered(taken[0])

    internals.before_the_first_attempt(monkeypatch, take)
    process.deliver()
    assert len(taken[0]) == 1
    assert [request.method for request in sim.requests] == ["PUT", "POST"]


def test_a_package_that_is_not_on_the_path(sim: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the path alone does not lead to httpx, site is asked; if that is not enough, nothing is sent."""
    import site

    called: list[bool] = []
    monkeypatch.setattr(site, "main", lambda: called.append(True))
    process = WatchdogProcess()
    for frame in (hello(environment={}), *told(sim)):
        process.record.take(*next(Decoder().feed(frame)))
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "httpx", None)
        patch.setitem(sys.modules, "activitysmith_track.client.sync", None)
        patch.delattr("activitysmith_track.client.sync", raising=False)
        process.deliver()
    assert (called, sim.requests) == ([True], [])
    process.deliver()
    assert (called, len(sim.requests)) == ([True], 2)


def test_nobody_listens() -> None:
    """A job that is gone before it could hear that the watch has begun is no reason to fail."""
    with Pipes() as pipes:
        os.close(pipes.listens)
        pipes.send(hello())
        pipes.listens = os.open(os.devnull, os.O_RDONLY)


def test_several_accounts() -> None:
    """Who owns another account gets a push of their own; cards that alarm nobody are only counted."""
    record = JobRecord()
    for number, key in ((1, "a"), (2, "b"), (3, "c")):
        record.take({"frame": "account", "id": number, "api_key": key, "base_url": "u"}, b"")
    pushes: list[Any] = [None, PUSH, PUSH, {"title": "t"}, {"title": "t"}, None, PUSH]
    for number, (account, push) in enumerate(zip((1, 1, 1, 2, 2, 3, 9), pushes, strict=True)):
        words = {"end": END, "push": push, "began_at": 1.0}
        content = encode("card", id=number, account=account, stream_key=f"k{number}", **words)[4:]
        record.take(json.loads(content), content)
    found = [each for each in record.owed(5.0) if each.method == "push"]
    assert found == [
        Request("push", ("a", "u"), "k1", {**PUSH, "message": "gone · and 2 more cards"}, True, 5.0),
        Request("push", ("b", "u"), "k3", {"title": "t", "message": "and 1 more card"}, True, 5.0),
    ]
    assert len(record.owed(5.0)) == 8


def test_the_newest_card_of_a_stream_counts() -> None:
    """What an older block owes a card that a newer one of the same name shows is not told in its place."""
    record = JobRecord()
    record.take({"frame": "account", "id": 1, "api_key": "a", "base_url": "u"}, b"")
    older = {
        "account": 1,
        "method": "end",
        "stream_key": "k",
        "body": {},
        "at_least_once": True,
        "occurred_at": 1.0,
        "began_at": 0.5,
    }
    for content in (
        encode("owed", id=1, **older),
        encode("owed", id=3, **{**older, "stream_key": "other"}),
        encode("owed", id=2, **{**older, "stream_key": "other", "method": "keep"}),
        encode("card", id=4, account=1, stream_key="k", end=END, push=PUSH, began_at=1.0),
        encode("card", id=3, account=1, stream_key="k", end={**END, "metadata": {}}, push=None, began_at=1.0),
    ):
        record.take(json.loads(content[4:]), content[4:])
    owed = [(each.method, each.stream_key, each.body) for each in record.owed(5.0)]
    assert owed == [("end", "k", END), ("push", "k", PUSH), ("end", "other", {})]


def test_a_card_that_was_refused_alarms_and_ends_nothing() -> None:
    """There is no end to be told of it, and it does not stand for a newer or an older block of its name."""
    record = JobRecord()
    record.take({"frame": "account", "id": 1, "api_key": "a", "base_url": "u"}, b"")
    for number, key, end in ((1, "k", END), (2, "k", {}), (3, "other", {})):
        content = encode("card", id=number, account=1, stream_key=key, end=end, push=PUSH, began_at=1.0)[4:]
        record.take(json.loads(content), content)
    owed = [(each.method, each.stream_key, each.body.get("message")) for each in record.owed(5.0)]
    assert owed == [("end", "k", None), ("push", "k", "gone · and 2 more cards")]


def test_requests_of_each_kind(sim: Simulator, tmp_path: Path) -> None:
    """What is owed becomes the request that it is, dated where it is late."""
    show(sim)
    kept = {**END["content_state"], "title": "other"}
    requests = [
        Request("keep", (sim.api_key, sim.base_url), "other", {"content_state": kept}, True, time.time() - 3_600),
        Request("end", (sim.api_key, sim.base_url), "job", END, True, time.time()),
        Request("push", (sim.api_key, sim.base_url), "", PUSH, True, time.time() - 3_600),
    ]
    runtime = PacedRuntime(0.5, 0.05, 0.2)
    until = runtime.now() + PATIENCE
    Successor(runtime, str(tmp_path / "box")).deliver(requests, lambda: until)
    assert "ago" in str(sim.cards["other"].subtitle)
    assert (sim.cards["job"].ended, sim.cards["job"].subtitle) == (True, "gone")
    assert [push.message for push in sim.pushes if "1 h ago" in (push.message or "")]


def test_a_machine_without_threads(sim: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no thread can be had everything goes one after the other."""

    def refuse(_: object) -> None:
        raise RuntimeError("can't start new thread")

    process = WatchdogProcess()
    for frame in (hello(environment={}), *told(sim)):
        process.record.take(*next(Decoder().feed(frame)))
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        process.deliver()
    assert [request.method for request in sim.requests] == ["DELETE", "POST"]


def test_what_the_pipe_of_a_dead_job_holds() -> None:
    """All of it is read, also that it is disarmed, which was written right before the end."""
    reads, writes = os.pipe()
    os.set_blocking(reads, False)
    os.write(writes, encode("account", id=7, api_key="k", base_url="u"))
    process = WatchdogProcess(pipe=reads)
    assert internals.read_all(process)
    assert 7 in internals.accounts_of(process.record)
    os.close(writes)
    assert not internals.read_all(process)
    os.close(reads)


def test_a_descriptor_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be read counts as closed, and a process that may not be asked about as alive."""
    assert not internals.read_all(WatchdogProcess(pipe=-1))
    assert pids.start_time(-1) is None

    def forbid(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "kill", forbid)
    assert not pids.is_gone(1, None)


# ----------------------------------------------------------------------------------- the job's side, in this process


@pytest.fixture
def dog(sim: Simulator) -> Iterator[Watchdog]:
    """A watchdog of the test's own process, which leaves it in order."""
    made = Watchdog(QUICK._replace(idle=0.2))
    yield made
    made.disarm(1)
    made.close(PATIENCE)


def arm(dog: Watchdog, sim: Simulator, note: str = "") -> None:
    """Have a card guarded."""
    dog.arm(1, sim.api_key, sim.base_url, "job", end={**END, "metadata": {"note": note}}, push=None, began_at=0.0)


def test_a_pipe_that_is_full(dog: Watchdog, sim: Simulator) -> None:
    """What does not go through the pipe waits, the newest of each, and goes on when the process reads again."""
    arm(dog, sim)
    assert dog.start(PATIENCE)
    line = line_to(dog)
    assert line is not None
    assert dog.pid is not None
    os.kill(dog.pid, signal.SIGSTOP)
    try:
        assert until(lambda: arm(dog, sim, "x" * 4_000) or is_full(line))
        assert not dog.tell(0.3)
    finally:
        os.kill(dog.pid, signal.SIGCONT)
    assert until(lambda: not line.blocked)
    assert dog.tell(PATIENCE)
    assert dog.alive


def test_what_is_over_is_forgotten(dog: Watchdog, sim: Simulator) -> None:
    """However many cards come and go, nothing is remembered of those that are gone."""
    arm(dog, sim)
    assert dog.start(PATIENCE)
    for number in range(2, 300):
        dog.arm(number, sim.api_key, sim.base_url, "job", end=END, push=None, began_at=0.0)
        dog.disarm(number)
    assert dog.tell(PATIENCE)
    line = line_to(dog)
    assert line is not None
    assert internals.remembered_by(line) <= 3  # the hello, the account and the card


def test_no_time_for_a_farewell(sim: Simulator) -> None:
    """`close` waits no longer than it is told, and says that not all was heard."""
    dog = Watchdog(QUICK)
    arm(dog, sim)
    assert dog.start(PATIENCE)
    line, pid = line_to(dog), dog.pid
    assert line is not None
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    assert until(lambda: arm(dog, sim, "x" * 4_000) or is_full(line))
    assert not dog.close(0.2)
    internals.join(dog, PATIENCE)
    os.kill(pid, signal.SIGKILL)
    line.close()


def test_starting_anew_once(dog: Watchdog, sim: Simulator, caplog: pytest.LogCaptureFixture) -> None:
    """A process that was killed has one successor."""
    for _ in range(2):
        arm(dog, sim)
        assert dog.start(PATIENCE)
        killed = dog.pid
        assert killed is not None
        os.kill(killed, signal.SIGKILL)
        assert until(lambda gone=killed: dog.pid != gone)
    assert until(lambda: len(caplog.records) == 1)
    arm(dog, sim)
    assert not dog.start(PATIENCE)


def test_idling(dog: Watchdog, sim: Simulator) -> None:
    """A process that has nothing to guard is let go; one that was killed meanwhile has no successor."""
    internals.run_by(dog, QUICK)
    assert dog.start(PATIENCE)
    pid = dog.pid
    assert pid is not None
    internals.run_by(dog, QUICK._replace(idle=0.2))
    assert until(lambda: is_gone(pid) and not dog.alive)
    internals.run_by(dog, QUICK)
    assert dog.start(PATIENCE)
    assert dog.pid not in (None, pid)
    os.kill(dog.pid or 0, signal.SIGKILL)
    assert until(lambda: not dog.alive)
    arm(dog, sim)
    assert dog.start(PATIENCE)


def test_what_is_in_the_outbox_keeps_a_process_and_calls_none(dog: Watchdog, sim: Simulator) -> None:
    """It is safe there: who guards stays for it, but it is worth no process of its own, and no farewell."""
    assert dog.begin_close(0.0)(0.0)
    dog = Watchdog(QUICK._replace(idle=0.2))
    dog.leases(sim.api_key, sim.base_url, "1-x")
    assert not dog.tell(0.3)
    assert line_to(dog) is None
    assert dog.start(PATIENCE)
    pid = dog.pid
    assert pid is not None
    time.sleep(0.5)  # only time tells that it stays
    assert dog.pid == pid
    os.kill(pid, signal.SIGKILL)
    assert until(lambda: not dog.alive and line_to(dog) is None)
    assert dog.close(PATIENCE)


def test_a_pipe_that_was_closed(dog: Watchdog, sim: Simulator) -> None:
    """A job that closes what it did not open gets another process."""
    arm(dog, sim)
    assert dog.start(PATIENCE)
    first, line = dog.pid, line_to(dog)
    assert line is not None
    pipe = internals.pipe_of(line)
    assert pipe is not None
    os.close(pipe)
    assert until(lambda: dog.pid not in (None, first))


def test_after_a_fork(sim: Simulator) -> None:
    """What a child does: it drops the pipe, and knows nothing any more."""
    dog = Watchdog(QUICK)
    dog.after_fork()
    assert dog.start(PATIENCE)
    say_farewell, line, pid = internals.say_farewell_later(dog), line_to(dog), dog.pid
    assert line is not None
    assert pid is not None
    dog.after_fork()
    assert (internals.pipe_of(line), dog.alive, dog.pid, dog.close(PATIENCE)) == (None, False, None, True)
    assert until(lambda: is_gone(pid))
    say_farewell()  # to the thread, which a real child does not have


def test_a_fork_in_the_middle_of_a_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the parent has open while it starts the process is closed in the child."""
    line, before = lines.Line(), set(os.listdir("/dev/fd"))
    with monkeypatch.context() as patch:
        internals.starts_halfway(patch, line)
        line.start(sys.executable, QUICK, PATIENCE)
    assert set(os.listdir("/dev/fd")) - before
    line.drop()
    assert set(os.listdir("/dev/fd")) - before == set()


def test_where_no_thread_can_start(sim: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """As while the interpreter leaves: what it is entrusted with is passed on by `close` itself."""

    def refuse(_: object) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    dog = Watchdog(QUICK)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        dog.entrust(
            1, sim.api_key, sim.base_url, "push", {"title": "owed"}, at_least_once=True, occurred_at=time.time()
        )
        assert not dog.start(0)
        assert dog.close(PATIENCE)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGPIPE])
    assert sim.wait_for(lambda s: s.pushes, PATIENCE)


def test_a_fault_of_our_own(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever goes wrong in the thread, the job goes on after one line in the log."""
    dog = Watchdog(QUICK)
    internals.fails_by_itself(monkeypatch, dog)
    assert not dog.start(PATIENCE)
    dog.arm(1, "k", "u", "job", end={}, push=None, began_at=0.0)
    assert dog.close(PATIENCE)
    assert [record.getMessage() for record in caplog.records] == [
        "activitysmith_track: the watchdog is off: ZeroDivisionError: division by zero"
    ]


def test_a_farewell_to_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """Where no process can be started for what is owed at the exit, `close` says so."""
    dog = Watchdog(QUICK, interpreter="/nowhere/python3")
    internals.has_no_thread(dog)
    dog.entrust(1, "k", "u", "push", {"title": "owed"}, occurred_at=time.time())
    assert not dog.close(PATIENCE)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGPIPE])
    assert len(caplog.records) == 1


def test_a_path_longer_than_the_pipe(dog: Watchdog, sim: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """However much there is on the path, the process hears all of it."""
    monkeypatch.setattr(sys, "path", [*sys.path, *(f"/nowhere/{'x' * 200}/{n}" for n in range(2_000)), None])
    arm(dog, sim)
    assert dog.start(PATIENCE)


def test_a_process_that_dies_between_two_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe that breaks while it is written to counts as one that broke before."""
    reads, writes = os.pipe()
    os.close(reads)
    line = lines.Line()
    internals.writes_to(line, writes)
    line.put(lines.QueuedFrame(("bye", 0), encode("bye"), True))
    assert not line.flush()
    line.close()


def test_what_a_job_may_lack(monkeypatch: pytest.MonkeyPatch) -> None:
    """A working directory that is gone and a kernel without pidfd are no obstacle."""

    def refuse(*_: object) -> None:
        raise OSError

    monkeypatch.setattr(os, "pidfd_open", refuse, raising=False)
    assert pids.open_pidfd() is None
    monkeypatch.setattr(os.path, "abspath", refuse)
    assert internals.absolute(["", "a", "/b"]) == ["/b"]


def test_a_kernel_without_pidfd(dog: Watchdog, sim: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process is started all the same."""
    monkeypatch.setattr(lines, "open_pidfd", lambda: None)
    arm(dog, sim)
    assert dog.start(PATIENCE)


# ------------------------------------------------------------------------------------------------------- garbage


def frames() -> list[bytes]:
    """Return one frame of each kind."""
    return [
        hello(),
        encode("account", id=1, api_key="k", base_url="http://127.0.0.1:1/api"),
        encode("card", id=1, account=1, stream_key="job", end=END, push=PUSH, began_at=1.0),
        encode("disarm", id=1),
        encode(
            "owed",
            id=1,
            account=1,
            method="end",
            stream_key="k",
            body={},
            at_least_once=True,
            occurred_at=1.5,
            began_at=1.0,
        ),
        encode("ack", id=1),
        encode("leases", id=1, account=1, owner="1-x"),
        encode("returned", id=1),
        encode("bye"),
    ]


def spoil(chance: random.Random) -> bytes:
    """Return frames with something wrong, or nothing."""
    chosen = [chance.choice(frames()) for _ in range(chance.randrange(1, 6))]
    data = bytearray(b"".join(chosen))
    kind = chance.randrange(6)
    if kind == 0:
        return bytes(data[: chance.randrange(len(data))])
    if kind == 1:
        return bytes(chance.randrange(256) for _ in range(chance.randrange(200)))
    if kind == 2:
        return bytes(data) + (chance.choice([2**20 + 1, 2**31, 2**32 - 1])).to_bytes(4, "big") + b"x" * 50
    if kind == 3:
        for _ in range(chance.randrange(1, 10)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        return bytes(data)
    frame = json.loads(chosen[-1][4:])
    wrong = chance.choice([None, True, -1, 1e400, 10**30, "x", [], {}, [[]], {"a": [1]}, "\ud800", "\0"])
    frame[chance.choice(list(frame))] = wrong
    content = json.dumps(frame).encode() if kind == 4 else b"[" * chance.randrange(1, 100_000)
    return bytes(data) + len(content).to_bytes(4, "big") + content


def swallow(data: bytes, chance: random.Random) -> JobRecord:
    """Feed bytes in pieces to what reads them in the process, and have it say what there is to do."""
    decoder, record = Decoder(), JobRecord()
    try:
        while data:
            size = chance.randrange(1, 5_000)
            for frame, content in decoder.feed(data[:size]):
                record.take(frame, content)
            data = data[size:]
    except Garbled:
        pass
    assert internals.buffered_by(decoder) <= protocol.MAX_FRAME + 5_004
    assert all(isinstance(owner, str) for _, owner in record.leases())
    for each in record.owed(0.0):
        try:
            body = internals.dated(dict(each.body), each.occurred_at, 0.0, each.method)
            owed_request(each.method, each.stream_key, body)
        except ValueError:
            continue
    return record


def test_garbage_does_no_harm() -> None:
    """Whatever comes over the pipe, what reads it neither fails nor grows; `FUZZ_INPUTS` sets how often."""
    chance = random.Random(5)
    for _ in range(int(os.environ.get("FUZZ_INPUTS", "3000"))):
        swallow(spoil(chance), chance)


def test_what_is_held_is_bounded() -> None:
    """Cards without end, or huge ones, do not grow the process; a smaller one still takes its place."""
    record, big = JobRecord(), {"x": "y" * 500_000}
    for number in range(1_000):
        record.take({"frame": "account", "id": number, "api_key": "k", "base_url": "u"}, b"")
        content = encode("card", id=number, account=1, stream_key="k", end=big, push=None, began_at=1.0)[4:]
        record.take({"frame": "card", "id": number}, content)
    assert internals.bytes_held_by(record) <= job_record.MAX_HELD
    assert len(internals.accounts_of(record)) <= protocol.MAX_ENTRIES
    for number in range(1_000):
        record.take({"frame": "card", "id": number}, b"{}")
    assert len(internals.entries_of(record)) == protocol.MAX_ENTRIES
    for number in range(1_000):
        record.take({"frame": "disarm", "id": number}, b"{}")
    assert (internals.bytes_held_by(record), internals.entries_of(record)) == (0, {})


@pytest.mark.parametrize("seed", range(12))
def test_a_process_that_is_fed_garbage(sim: Simulator, seed: int) -> None:
    """The real process leaves when its pipe is garbled or closed, and sends nothing that was not told."""
    chance = random.Random(seed)
    process = subprocess.Popen(
        [sys.executable, *internals.command_of_process()],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    data = hello(pid=os.getpid(), timing=list(QUICK._replace(retry=0.1))) + spoil(chance)
    _, said = process.communicate(data, timeout=PATIENCE)
    assert process.returncode == 0
    assert said.strip().split() == [str(process.pid).encode(), b"ready"]


def test_garbage_counts_as_a_closed_pipe(sim: Simulator) -> None:
    """What was told before the garbage is delivered, although the pipe stays open."""
    show(sim)
    with Pipes() as pipes:
        pipes.hello()
        pipes.send(*told(sim), b"\xff" * 100)
        pipes.thread.join(PATIENCE)
        assert not pipes.thread.is_alive()
    pipes.process.deliver()
    assert (sim.cards["job"].color, len(sim.pushes)) == ("red", 1)


@pytest.mark.parametrize(
    "wrong",
    [
        {"protocol": 0},
        {"timing": [1.0]},
        {"timing": [float("nan")] * len(QUICK)},
        {"timing": [-1] * len(QUICK)},
        {"timing": ["1"] * len(QUICK)},
        {"sys_path": [1]},
        {"environment": {"a": "b\0c"}},
        {"environment": {"a": 1}},
        {"pid": 0},
        {"pid": 2**40},
        {"pid": True},
        {"started": "x"},
        {"outbox": "a\0b"},
        {"outbox": 1},
    ],
)
def test_a_hello_of_another_version(wrong: dict[str, Any]) -> None:
    """A job that runs an older version of this library than is installed by now gets no watchdog of another."""
    with pytest.raises(Garbled):
        list(Decoder().feed(hello(**wrong)))


def test_frames_that_cannot_be_built(caplog: pytest.LogCaptureFixture) -> None:
    """What JSON cannot say, or what is too long, is told once in the log, and the job goes on."""
    dog = Watchdog(QUICK)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            dog.arm(1, "k", "u", "job", end={"x": object()}, push=None, began_at=0.0)
            dog.arm(1, "k", "u", "job", end={"x": "y" * 2**20}, push=None, began_at=0.0)
    assert len(caplog.records) == 2
    assert dog.close(PATIENCE)


def test_a_job_that_leaves_while_the_process_starts(sim: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """No card is told without the bye, for the interpreter may stop the thread between two writes."""
    dog, written, write = Watchdog(QUICK), list[bytes](), os.write
    stands, is_told = threading.Event(), internals.has_been_told(dog)

    def slow() -> None:
        stands.set()
        while not is_told():
            time.sleep(0.001)

    def record(descriptor: int, data: bytes) -> int:
        written.append(bytes(data))
        return write(descriptor, data)

    internals.when_ready(monkeypatch, slow)
    monkeypatch.setattr(os, "write", record)
    arm(dog, sim)
    assert stands.wait(PATIENCE)
    assert dog.close(PATIENCE)
    frames = [[frame for frame, _ in Decoder().feed(data)] for data in written if b'"frame"' in data]
    assert [[frame["frame"] for frame in each] for each in frames] == [["hello"], ["account", "card", "bye"]]
    assert sim.wait_for(lambda phone: phone.requests)


def test_too_many_things(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the bound nothing new is guarded, which is told once."""
    monkeypatch.setattr(companion, "MAX_ENTRIES", 3)
    dog = Watchdog(QUICK._replace(retry=0.0))
    with caplog.at_level(logging.WARNING):
        for number in range(6):
            dog.entrust(number, "k", "http://127.0.0.1:1/api", "push", {"title": "t"}, occurred_at=time.time())
        assert dog.close(PATIENCE)
    assert [record.getMessage() for record in caplog.records] == [
        "activitysmith_track: the watchdog guards 3 things and takes in no more"
    ]
