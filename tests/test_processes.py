"""Real processes: how they leave, fork and die, and what the phone shows then."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from socket import SHUT_RDWR, create_server, socket
from typing import Any

import pytest
from patience import PATIENCE

from activitysmith_track.simulator import Simulator

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run(sim: Simulator, tmp_path: Path) -> Run:
    """Run code in a fresh interpreter that is configured for the simulator."""

    def start(code: str, base_url: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
        script = tmp_path / "job.py"
        head = "import activitysmith_track as at\n"
        if not base_url:  # a busy machine may need longer than the usual two seconds
            head += "at.configure(exit_timeout=60)\n"
        script.write_text(head + textwrap.dedent(code), encoding="utf-8")
        settings = {"ACTIVITYSMITH_API_KEY": sim.api_key, "ACTIVITYSMITH_BASE_URL": base_url or sim.base_url}
        return subprocess.run(
            [sys.executable, "-W", "error", str(script)],
            env={**os.environ, **settings, **environment},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
            cwd=tmp_path,
        )

    return start


@pytest.fixture
def hanging() -> Iterator[str]:
    """A service that takes connections and never answers."""
    held: list[socket] = []
    with create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            while True:
                try:
                    held.append(listener.accept()[0])
                except OSError:
                    return

        accepting = threading.Thread(target=accept, daemon=True)
        accepting.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/api"
        with contextlib.suppress(OSError):
            listener.shutdown(SHUT_RDWR)  # wakes who waits for a connection
    accepting.join(PATIENCE)
    for connection in held:
        connection.close()


def card(sim: Simulator, key: str = "job") -> tuple[Any, ...]:
    """Return what the phone shows at the end."""
    found = sim.cards[key]
    return found.ended, found.color, found.subtitle.partition(" in ")[0].partition(" after ")[0]


def test_the_end_is_delivered_before_the_process_leaves(run: Run, sim: Simulator) -> None:
    """A script that ends right after its block leaves a finished card, and says nothing."""
    done = run("with at.live_progress('job', total=1) as p: p.advance()")
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "")
    assert card(sim) == (True, "green", "Done")


def test_an_exception_goes_its_own_way(run: Run, sim: Simulator) -> None:
    """Exit code and traceback are the job's own; the card is red and the push is there when the process is gone."""
    done = run("with at.live_progress('job', total=2) as p: raise ValueError('broke')")
    assert done.returncode == 1
    assert done.stderr.endswith("ValueError: broke\n")
    assert "activitysmith" not in done.stderr.replace("import activitysmith_track", "")
    assert card(sim)[:2] == (True, "red")
    assert [push.title for push in sim.pushes] == ["job failed"]


def test_a_loop_that_nobody_catches(run: Run, sim: Simulator) -> None:
    """An uncaught exception in a loop is a failure, with its push, and the traceback is as without us."""
    done = run("""
        def job():
            for n in at.track(range(4), 'job'):
                if n == 2:
                    raise ValueError('broke')
        job()
    """)
    assert done.returncode == 1
    assert "activitysmith_track/" not in done.stderr
    assert card(sim) == (True, "red", "Failed at 50 %: ValueError: broke")
    assert len(sim.pushes) == 1


@pytest.mark.parametrize(
    ("call", "code", "color"),
    [("sys.exit()", 0, "green"), ("sys.exit(3)", 3, "red"), ("sys.exit('no disk')", 1, "red")],
)
def test_exits(run: Run, sim: Simulator, call: str, code: int, color: str) -> None:
    """`sys.exit` keeps its code, which tells how the block ended."""
    done = run(f"import sys\nwith at.live_progress('job'): {call}")
    assert done.returncode == code
    assert card(sim)[:2] == (True, color)


def test_open_blocks_end_as_stopped(run: Run, sim: Simulator) -> None:
    """What is still open when the interpreter leaves is grey, never running."""
    done = run("""
        import threading
        entered = threading.Event()
        def forever():
            with at.live_progress('thread'):
                entered.set()
                threading.Event().wait()
        threading.Thread(target=forever, daemon=True).start()
        entered.wait()
        p = at.live_progress('job', key='job').__enter__()
        loop = iter(at.track(range(3), 'loop'))
        next(loop)
    """)
    assert (done.returncode, done.stderr) == (0, "")
    assert {key: each.color for key, each in sim.cards.items()} == {"thread": "gray", "job": "gray"}
    assert all(each.ended for each in sim.cards.values())


def test_a_block_in_an_exit_handler(run: Run, sim: Simulator) -> None:
    """What begins only when the interpreter leaves, where no thread can start any more, is delivered all the same."""
    done = run("""
        import atexit
        at.flush(0)
        def last():
            with at.live_progress('job', total=1) as p:
                p.advance()
            at.flush(60)
        atexit.register(last)
    """)
    assert (done.returncode, done.stderr) == (0, "")
    assert card(sim) == (True, "green", "Done")


def test_a_block_in_an_exit_handler_that_comes_after_ours(run: Run, sim: Simulator) -> None:
    """What was registered before the first block runs after our own handler, and is delivered as well."""
    code = """
        import atexit
        def last():
            with at.live_progress('last', total=1) as p:
                p.advance()
            with at.notify('note', on='success'): pass
        atexit.register(last)
        at.configure(exit_timeout=60)
        with at.live_progress('job'): pass
    """
    done = run(code, base_url=sim.base_url)
    assert (done.returncode, done.stderr) == (0, "")
    assert {key: (each.ended, each.color) for key, each in sim.cards.items()} == {
        "job": (True, "green"),
        "last": (True, "green"),
    }
    assert [push.title for push in sim.pushes] == ["note finished"]


def test_what_comes_after_the_exit_and_its_time_is_kept(run: Run, sim: Simulator) -> None:
    """A block in such a handler is left to the next run, where the exit's time is over."""
    with sim.fault("hang", path="/live-activity/*", method="DELETE"):
        code = """
            import atexit
            def last():
                with at.live_progress('last', total=1) as p:
                    p.advance()
            atexit.register(last)
            at.configure(exit_timeout=0.3)
            with at.live_progress('job'): at.flush(60)
        """
        done = run(code, base_url=sim.base_url)
    assert done.returncode == 0
    assert done.stderr.count("kept for the next run") == 2
    assert not sim.cards["job"].ended
    run("at.flush(60)\nwith at.live_progress('other'): pass\nat.flush(60)")
    assert sim.cards["job"].ended


def test_a_thread_that_ends_a_block_after_the_exit(run: Run) -> None:
    """Only the thread that leaves may wait for what comes after it; another one just goes on."""
    code = """
        import atexit, logging, threading
        logging.basicConfig()
        go, done = threading.Event(), threading.Event()
        def work():
            go.wait()
            with at.live_progress('late'): pass
            done.set()
        def last():
            go.set()
            print(done.wait(60))
        atexit.register(last)
        threading.Thread(target=work, daemon=True).start()
        at.configure(exit_timeout=0.1)
        with at.live_progress('job'): pass
    """
    done = run(code, base_url="http://127.0.0.1:9")
    assert (done.returncode, done.stdout) == (0, "True\n")
    assert "Traceback" not in done.stderr


def test_the_exit_waits_for_a_client_that_is_being_made(run: Run) -> None:
    """OpenSSL is not taken down while a thread of ours has it read the certificates: that crashes."""
    done = run("""
        import threading
        import time
        from activitysmith_track import client
        from activitysmith_track.delivery import interpreter
        interpreter.MAKING_SECONDS = 60
        begun, make = threading.Event(), client.ActivitySmith.__init__
        def slow(*arguments, **options):
            begun.set()
            time.sleep(1)
            make(*arguments, **options)
            print('made', flush=True)
        client.ActivitySmith.__init__ = slow
        at.configure(exit_timeout=0.2)
        at.live_progress('job').__enter__()
        assert begun.wait(60)
    """)
    assert (done.returncode, done.stdout) == (0, "made\n")


def test_a_hanging_service_costs_the_exit_timeout_at_most(run: Run, hanging: str) -> None:
    """The process leaves on time with its own exit code, and says in one line that something was not delivered."""
    begun = time.monotonic()
    done = run("at.configure(exit_timeout=0.5)\nwith at.live_progress('job'): raise SystemExit(5)", base_url=hanging)
    assert done.returncode == 5
    assert "not delivered" in done.stderr
    assert time.monotonic() - begun < 20


def test_a_refusing_service(run: Run) -> None:
    """With nobody there the job runs, and its result is its own."""
    with create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    done = run(
        "at.configure(exit_timeout=0)\nwith at.live_progress('job'): print('did it')",
        base_url=f"http://127.0.0.1:{port}",
    )
    assert (done.returncode, done.stdout) == (0, "did it\n")


fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform cannot fork")


@fork
def test_a_forked_child_leaves_its_parents_card_alone(run: Run, sim: Simulator) -> None:
    """A child neither moves nor ends its parent's card; a block of its own works."""
    done = run("""
        import os, warnings
        warnings.simplefilter('ignore', DeprecationWarning)
        with at.live_progress('job', total=4) as p:
            p.advance(2)
            p.update(important=True)
            at.flush(60)
            child = os.fork()
            if child == 0:
                p.advance(1)
                p.update(subtitle='child', important=True)
                p.finish()
                with at.live_progress('child', total=1) as c:
                    c.advance()
                at.flush(60)
                os._exit(7)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
            p.advance(2)
    """)
    assert (done.returncode, done.stderr) == (0, "")
    assert sim.cards["child"].color == "green"
    assert card(sim) == (True, "green", "Done")
    assert "child" not in {state.get("subtitle") for _, state, _ in sim.cards["job"].history}
    assert sum(request.method == "DELETE" and request.path.endswith("/job") for request in sim.requests) == 1


@pytest.mark.parametrize(
    "method", [pytest.param("fork", marks=fork), "spawn", pytest.param("forkserver", marks=fork)]
)
def test_multiprocessing(run: Run, sim: Simulator, method: str) -> None:
    """Children of multiprocessing deliver their own ends before they leave."""
    done = run(f"""
        import multiprocessing, warnings
        warnings.simplefilter('ignore', DeprecationWarning)
        def work(n):
            with at.live_progress(f'child {{n}}', total=1) as p:
                p.advance()
        if __name__ == '__main__':
            context = multiprocessing.get_context('{method}')
            with at.live_progress('job'):
                children = [context.Process(target=work, args=(n,)) for n in range(2)]
                for child in children: child.start()
                for child in children: child.join()
                assert [child.exitcode for child in children] == [0, 0]
    """)
    assert (done.returncode, done.stderr) == (0, "")
    assert {key: each.color for key, each in sim.cards.items()} == dict.fromkeys(
        ("job", "child-0", "child-1"), "green"
    )
    assert all(each.ended for each in sim.cards.values())


def test_asyncio_debug_mode(run: Run, sim: Simulator) -> None:
    """In asyncio's debug mode nothing is slow, unclosed or never awaited."""
    done = run(
        """
        import asyncio
        async def items():
            for n in range(3):
                yield n
        @at.track_steps('steps')
        async def main():
            asyncio.get_running_loop().slow_callback_duration = 600  # the machine may be busy
            async with at.live_progress('job', key='job', total=3, wait=True) as p:
                async for n in at.track(items(), 'loop'):
                    p.advance()
        asyncio.run(main(), debug=True)
        """,
        PYTHONASYNCIODEBUG="1",
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert card(sim) == (True, "green", "Done")


def test_development_mode_is_quiet(run: Run, sim: Simulator) -> None:
    """Nothing is left unclosed, which Python's development mode would tell."""
    done = run("with at.live_progress('job'): pass", PYTHONDEVMODE="1")
    assert (done.returncode, done.stderr) == (0, "")
    assert card(sim)[0]


def test_without_a_key(run: Run) -> None:
    """Without a key there is one line, and the job runs."""
    done = run("with at.live_progress('job'): print('did it')", ACTIVITYSMITH_API_KEY="")
    assert (done.returncode, done.stdout) == (0, "did it\n")
    assert done.stderr.count("\n") == 1
    assert "ACTIVITYSMITH_API_KEY" in done.stderr
