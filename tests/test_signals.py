"""SIGTERM and SIGHUP in real processes: the cards end, and then everything is as it would have been without us."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import internals
import pytest
from patience import PATIENCE

from activitysmith_track.delivery.signals import Signals

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="this platform has no such signals")

START = """
import os, signal, sys, threading, time
from activitysmith_track.delivery.signals import Signals

def say(text):
    os.write(1, f"{text}\\n".encode())

def wait():
    say("ready")
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        time.sleep(60)

def pause():
    say("ready")
    while not heard:
        time.sleep(0.01)
    heard.clear()

def own(number, frame):
    say("own")
    heard.append(number)

heard = []
signals = Signals(say)
"""


class Left(NamedTuple):
    """How a process left, and what it said before."""

    code: int
    said: list[str]


Job = Callable[..., Left]


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """Run code in a fresh process, and send it a signal each time that it says `ready`."""

    def run(code: str, send: Sequence[int] = (signal.SIGTERM,)) -> Left:
        script = tmp_path / "job.py"
        script.write_text(START + textwrap.dedent(code), encoding="utf-8")
        process = subprocess.Popen(
            [sys.executable, "-W", "error", "-W", "ignore::DeprecationWarning", str(script)],
            stdout=subprocess.PIPE,
            text=True,
        )
        with process, watched(process):
            assert process.stdout is not None
            left, said = list(send), []
            for line in process.stdout:
                if line == "ready\n" and left:
                    process.send_signal(left.pop(0))
                elif line != "ready\n":
                    said.append(line.strip())
        return Left(process.returncode, said)

    return run


def watched(process: subprocess.Popen[str]) -> threading.Timer:
    """Kill a process that hangs, so that no test does."""

    class Timer(threading.Timer):
        def __enter__(self) -> None:
            self.start()

        def __exit__(self, *_: object) -> None:
            self.cancel()

    return Timer(PATIENCE, process.kill)  # type: ignore[return-value]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_the_default_action_and_exit_status_stay(job: Job, number: signal.Signals) -> None:
    """Where there was no handler, the process ends by the signal, as it does without us."""
    assert job("wait()", [number]) == (-number, [])
    assert job("signals.acquire()\nwait()", [number]) == (-number, [f"Stopped: {number.name}"])


def test_an_earlier_handler_is_called_next(job: Job) -> None:
    """The user's own handler comes after us, with the same arguments, and decides what becomes of the process."""
    left = job("""
        def handler(number, frame):
            say(f"own {number} {type(frame).__name__}")
            sys.exit(7)
        signal.signal(signal.SIGTERM, handler)
        signals.acquire()
        wait()
    """)
    assert left == (7, ["Stopped: SIGTERM", f"own {signal.SIGTERM} frame"])


def test_a_process_that_survives_goes_on(job: Job) -> None:
    """An earlier handler that returns lets the job go on, and the next signal is told again."""
    left = job(
        """
        signal.signal(signal.SIGTERM, own)
        signals.acquire()
        pause()
        pause()
        signals.release()
        say(signal.getsignal(signal.SIGTERM).__name__)
        """,
        [signal.SIGTERM, signal.SIGTERM],
    )
    assert left == (0, ["Stopped: SIGTERM", "own", "Stopped: SIGTERM", "own", "own"])


def test_an_ignored_signal_stays_ignored(job: Job) -> None:
    """Nothing is installed over SIG_IGN, as under nohup."""
    left = job("""
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signals.acquire()
        os.kill(os.getpid(), signal.SIGHUP)
        say(signal.getsignal(signal.SIGHUP).name)
        wait()
    """)
    assert left == (-signal.SIGTERM, ["SIG_IGN", "Stopped: SIGTERM"])


def test_a_handler_in_c_is_left_alone(job: Job) -> None:
    """A handler that Python does not know of, such as faulthandler's, keeps its signal."""
    left = job("""
        import faulthandler
        faulthandler.register(signal.SIGHUP, file=open(os.devnull, "w"))
        before = signal.getsignal(signal.SIGHUP)
        import ctypes
        handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(lambda number: say("in C"))
        libc = ctypes.CDLL(None)
        libc.signal.argtypes = ctypes.c_int, ctypes.c_void_p
        libc.signal(signal.SIGTERM, ctypes.cast(handler, ctypes.c_void_p))
        signal.getsignal = lambda number, known=signal.getsignal: None if number == signal.SIGTERM else known(number)
        signals.acquire()
        os.kill(os.getpid(), signal.SIGTERM)
        signals.release()
        os.kill(os.getpid(), signal.SIGTERM)
    """)
    assert left == (0, ["in C", "in C"])


def test_a_later_handler_is_kept(job: Job) -> None:
    """What the user installs after us stays, through nested blocks and after them; ours is out."""
    left = job("""
        signals.acquire()
        signal.signal(signal.SIGTERM, lambda *_: (say("later"), os._exit(3)))
        signals.acquire()
        signals.release()
        signals.release()
        wait()
    """)
    assert left == (3, ["later"])


def test_a_later_handler_that_calls_ours_decides(job: Job) -> None:
    """Ours, called by a later one, tells the phone and does not end the process."""
    left = job("""
        signals.acquire()
        ours = signal.signal(signal.SIGTERM, lambda *given: (say("later"), ours(*given), say("on"), os._exit(3)))
        wait()
    """)
    assert left == (3, ["later", "Stopped: SIGTERM", "on"])


def test_a_chain_in_which_ours_stands_twice(job: Job) -> None:
    """A later handler that calls ours, under a second block's: all run once, and nothing runs in circles."""
    left = job("""
        signal.signal(signal.SIGTERM, lambda *_: (say("first"), os._exit(3)))
        signals.acquire()
        ours = signal.signal(signal.SIGTERM, lambda *given: (say("later"), ours(*given)))
        signals.release()
        signals.acquire()
        wait()
    """)
    assert left == (3, ["Stopped: SIGTERM", "later", "first"])


def test_nested_blocks(job: Job) -> None:
    """The handlers stand until the last block is through, and then the default is back."""
    left = job(
        """
        signals.acquire(); signals.acquire(); signals.release()
        say(type(signal.getsignal(signal.SIGTERM)).__name__)
        signals.release()
        say(signal.getsignal(signal.SIGTERM).name)
        signals.release()
        signals.acquire()
        wait()
        """
    )
    assert left == (-signal.SIGTERM, ["_Handler", "SIG_DFL", "Stopped: SIGTERM"])


def test_nothing_is_tracked_any_more(job: Job) -> None:
    """After the last block a signal does what it did before."""
    assert job("signals.acquire()\nsignals.release()\nwait()") == (-signal.SIGTERM, [])


def test_blocks_in_another_thread(job: Job) -> None:
    """Another thread installs nothing; the main thread's next block does, for both."""
    left = job("""
        def in_thread(function):
            thread = threading.Thread(target=function); thread.start(); thread.join()
        in_thread(signals.acquire)
        say(signal.getsignal(signal.SIGTERM).name)
        signals.acquire()
        signals.release()
        wait()
    """)
    assert left == (-signal.SIGTERM, ["SIG_DFL", "Stopped: SIGTERM"])


def test_a_handler_that_outlives_its_blocks(job: Job) -> None:
    """Where the last block ends in another thread the handler stays, says nothing, and is used again."""
    left = job(
        """
        signal.signal(signal.SIGTERM, own)
        signals.acquire()
        thread = threading.Thread(target=signals.release); thread.start(); thread.join()
        pause()
        signals.acquire()
        pause()
        signals.release()
        say(signal.getsignal(signal.SIGTERM).__name__)
        """,
        [signal.SIGTERM, signal.SIGTERM],
    )
    assert left == (0, ["own", "Stopped: SIGTERM", "own", "own"])


def test_a_second_signal_leaves_at_once(job: Job) -> None:
    """Who does not want to wait for the end to be delivered sends another signal."""
    left = job(
        """
        signals = Signals(lambda words: (say(words), wait()))
        signals.acquire()
        wait()
        """,
        [signal.SIGTERM, signal.SIGHUP],
    )
    assert left == (-signal.SIGHUP, ["Stopped: SIGTERM"])


def test_what_stop_raises(job: Job) -> None:
    """A fault of ours changes nothing for the job; Ctrl-C gets through."""
    assert job("Signals(lambda words: 1 / 0).acquire()\nwait()") == (-signal.SIGTERM, [])
    left = job("""
        def stop(words):
            raise KeyboardInterrupt
        signals = Signals(stop)
        signals.acquire()
        try:
            wait()
        except KeyboardInterrupt:
            say("interrupted")
    """)
    assert left == (0, ["interrupted"])


def test_a_signal_while_the_lock_is_held(job: Job) -> None:
    """A signal that comes in the middle of our own bookkeeping waits for nothing."""
    left = job("""
        signals.acquire()
        with signals._lock:
            wait()
    """)
    assert left == (-signal.SIGTERM, ["Stopped: SIGTERM"])


def test_a_main_thread_that_is_busy_in_c(job: Job) -> None:
    """The handler runs as soon as the main thread is back in Python."""
    left = job("""
        import ctypes
        signals.acquire()
        say("ready")
        ctypes.PyDLL(None).usleep(300_000)
        wait()
    """)
    assert left == (-signal.SIGTERM, ["Stopped: SIGTERM"])


def test_a_child_that_is_told_at_once(job: Job) -> None:
    """A signal that reaches a child before Python is ready there is not lost."""
    left = job(
        """
        signals.acquire()
        for n in range(40):
            child = os.fork()
            if not child:
                time.sleep(60)
                os._exit(7)
            os.kill(child, signal.SIGTERM)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM
        signals.release()
        assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == set()
        """
    )
    assert left == (0, [])


def test_a_forked_child_only_passes_on(job: Job) -> None:
    """The child of a tracked process dies by the signal and ends no card; what it tracks itself it does end."""
    left = job("""
        signals.acquire()
        for own in (False, True):
            child = os.fork()
            if not child:
                if own:
                    signals.acquire()
                os.kill(os.getpid(), signal.SIGTERM)
            say(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        wait()
    """)
    number = str(-signal.SIGTERM)
    assert left == (-signal.SIGTERM, [number, "Stopped: SIGTERM", number, "Stopped: SIGTERM"])


@pytest.mark.parametrize("order", ["before", "after"])
def test_asyncio_handlers_keep_working(job: Job, order: str) -> None:
    """A loop's own handler is called whether it was there before ours or came after; after ours, it stands alone."""
    left = job(
        f"""
        import asyncio
        async def main():
            loop, told = asyncio.get_running_loop(), asyncio.Event()
            if {order == "after"}:
                signals.acquire()
            loop.add_signal_handler(signal.SIGTERM, told.set)
            if {order == "before"}:
                signals.acquire()
            say("ready")
            await asyncio.wait_for(told.wait(), 30)
            say("loop")
            signals.release()
            told.clear()
            say("ready")
            await asyncio.wait_for(told.wait(), 30)
            say("loop")
            loop.remove_signal_handler(signal.SIGTERM)
            say(signal.getsignal(signal.SIGTERM).name)
        asyncio.run(main())
    """,
        [signal.SIGTERM, signal.SIGTERM],
    )
    told = ["Stopped: SIGTERM"] if order == "before" else []
    assert left == (0, [*told, "loop", "loop", "SIG_DFL"])


def test_the_stop_is_told_in_this_process() -> None:
    """In the test's own process: told, chained, restored."""
    said: list[object] = []
    before = signal.signal(signal.SIGHUP, lambda number, _: said.append(number))
    signals = Signals(said.append, (signal.SIGHUP,))
    try:
        signals.acquire()
        os.kill(os.getpid(), signal.SIGHUP)
        signals.release()
        os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)
    assert said == ["Stopped: SIGHUP", signal.SIGHUP, signal.SIGHUP]


def test_the_default_is_raised_again_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the test's own process: the default action, a second signal, and what a forked child forgets."""
    said: list[object] = []
    monkeypatch.setattr(os, "kill", lambda _, number: said.append((signal.getsignal(number), number)))
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)

    def stop(words: str) -> None:
        said.append(words)
        handler(signal.SIGHUP, None)
        signal.signal(signal.SIGHUP, handler)

    signals = Signals(stop, (signal.SIGHUP,))
    try:
        signals.acquire()
        handler = signal.getsignal(signal.SIGHUP)
        assert callable(handler)
        handler(signal.SIGHUP, None)
        internals.signals_in_child()
        signal.signal(signal.SIGHUP, handler)
        handler(signal.SIGHUP, None)
        handler(signal.SIGHUP, None)
    finally:
        signal.signal(signal.SIGHUP, before)
    raised = (signal.SIG_DFL, signal.SIGHUP)
    assert said == ["Stopped: SIGHUP", raised, raised, raised]


def test_a_fork_in_the_middle_of_a_fork_unblocks_what_it_blocked() -> None:
    """A handler of another signal may fork while a fork waits: afterwards no signal stays blocked."""
    before_handler, before_mask = signal.signal(signal.SIGHUP, signal.SIG_DFL), signal.pthread_sigmask(0, ())
    signals = Signals(lambda _: None, (signal.SIGHUP,))
    try:
        signals.acquire()
        internals.signals_before_fork()
        internals.signals_before_fork()
        internals.signals_after_fork()
        assert signal.SIGHUP in signal.pthread_sigmask(0, ())
        internals.signals_after_fork()
        assert signal.pthread_sigmask(0, ()) == before_mask
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before_mask)
        signals.release()
        signal.signal(signal.SIGHUP, before_handler)
