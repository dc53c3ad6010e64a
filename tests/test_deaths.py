"""What the phone shows when a job dies without a word; how it is found dead differs between versions of Python."""

from __future__ import annotations

import os
import signal

import pytest
from patience import is_gone, until
from watched import CRASH_REASON, Start, linux, red

from activitysmith_track.simulator import Simulator

pytestmark = [pytest.mark.skipif(os.name != "posix", reason="the watchdog needs POSIX"), pytest.mark.real]


@pytest.mark.parametrize(
    ("death", "code"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL),
        ("os.kill(os.getpid(), signal.SIGTERM)", -signal.SIGTERM),
        ("ctypes.string_at(0)", -signal.SIGSEGV),
        ("os.abort()", -signal.SIGABRT),
        ("os._exit(0)", 0),
        ("os._exit(3)", 3),
        ("os.execv('/bin/sh', ['sh', '-c', 'exit 4'])", 4),
        ("threading.Thread(target=os._exit, args=(5,)).start(); wait()", 5),
    ],
)
def test_a_death_without_a_word(start: Start, sim: Simulator, death: str, code: int) -> None:
    """The card ends red at the percentage where it stood, one push is sent, and the watchdog leaves."""
    job = start(f"show()\ntell()\n{death}")
    watchdog = job.watchdog()
    assert job.left() == code
    assert red(sim)
    assert [(push.title, push.message) for push in sim.pushes] == [("job failed", CRASH_REASON)]
    assert until(lambda: is_gone(watchdog))
    assert [request.method for request in sim.requests if request.path.endswith("/job")] == ["PUT", "DELETE"]


@linux
def test_a_child_that_outlives_its_parent(start: Start, sim: Simulator) -> None:
    """A forked child does not hold the pipe open."""
    job = start("""
        show()
        tell()
        ours = os.stat(dog._companion.line._pipe)
        child = os.fork()
        if not child:
            files = [f"/proc/self/fd/{n}" for n in os.listdir("/proc/self/fd")]
            held = [os.stat(file) for file in files if os.path.exists(file)]
            say("held" if ours in held else "dropped", dog.alive)
            wait()
        say(child)
        wait()
    """)
    job.watchdog()
    lines = {job.hear() for _ in range(4)}
    job.others += [int(line) for line in lines if line.isdigit()]
    assert "dropped False" in lines
    job.kill()
    assert red(sim)


def test_a_child_with_a_card_of_its_own(start: Start, sim: Simulator) -> None:
    """A forked child gets a watchdog of its own for what it shows itself."""
    job = start("""
        show()
        tell()
        if not os.fork():
            show(1, "child")
            tell()
            os._exit(0)
        os.wait()
        dog.disarm(1)
        assert dog.close(30)
    """)
    assert job.watchdog() != job.watchdog()
    assert job.said() == (0, "")
    assert red(sim, "child")
    assert not sim.cards["job"].ended


def test_a_group_that_is_killed(start: Start, sim: Simulator) -> None:
    """What ends the job's whole group, such as a terminal that is closed, does not reach the watchdog."""
    job = start("os.setsid()\nshow()\ntell()\nwait()")
    job.watchdog()
    job.hear()
    os.killpg(job.process.pid, signal.SIGKILL)
    assert red(sim)


def test_a_second_watchdog_knows_all(start: Start, sim: Simulator) -> None:
    """The process that takes the place of a killed one ends the cards that the first one was told about."""
    job = start("""
        show()
        tell()
        first = dog.pid
        os.kill(first, signal.SIGKILL)
        while dog.pid in (None, first):
            time.sleep(0.01)
        tell()
        wait()
    """)
    job.watchdog()
    job.watchdog()
    job.hear()
    job.kill()
    assert red(sim)
