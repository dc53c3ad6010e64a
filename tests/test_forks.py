"""What a forked child must never inherit: modules that are imported by half, and locks that nobody releases."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from socket import create_server

import internals
import pytest
from patience import PATIENCE, end_process

from activitysmith_track import _fork
from activitysmith_track._text import host
from activitysmith_track.delivery.account import Account
from activitysmith_track.delivery.entries import Entry
from activitysmith_track.delivery.outbox import Outbox
from activitysmith_track.delivery.persistence import Persistence
from activitysmith_track.delivery.runtime import Runtime
from activitysmith_track.simulator import Simulator

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform cannot fork"),
    pytest.mark.real,
]


def run(code: str, **environment: str) -> str:
    """Run code in a fresh interpreter and return what it printed."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", textwrap.dedent(code)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_fork_waits_for_what_begins_while_it_waits() -> None:
    """A guard holds for a fork too that was waiting already when the guarded thing was first needed."""
    printed = run("""
        import os, threading, time
        from activitysmith_track._fork import loading, storing
        loading.fork_seconds = storing.fork_seconds = 60
        ready, inside = threading.Event(), False
        def first_use():
            global inside
            with loading.lock:
                ready.set()
                time.sleep(0.2)  # the fork waits now
                import activitysmith_track.delivery.outbox
                storing.lock.acquire()
                inside = True
            time.sleep(0.2)
            inside = False
            storing.lock.release()
        thread = threading.Thread(target=first_use)
        thread.start()
        ready.wait()
        child = os.fork()
        if child == 0:
            os._exit(1 if inside or not storing.lock.acquire(timeout=0) else 0)
        thread.join()
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), storing.lock.locked())
    """)
    assert printed == "0 False\n"


def test_a_fork_waits_no_longer_than_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is held for long keeps no fork waiting for ever, and is still held by its thread after it."""
    monkeypatch.setattr(_fork.storing, "fork_seconds", 0.01)
    with _fork.storing.lock:
        internals.around_fork_in_parent()
        assert _fork.storing.lock.locked()
    assert not _fork.storing.lock.locked()


def test_two_threads_fork_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each fork gives back what it took itself, also where the other one gave up waiting."""
    guard = _fork.ForkLock(threading.RLock, fork_seconds=0.01)
    guard.before_fork()
    other = threading.Thread(target=lambda: (guard.before_fork(), guard.after_in_parent()))
    other.start()
    other.join()
    guard.after_in_parent()
    taken: list[bool] = []
    another = threading.Thread(target=lambda: taken.append(guard.lock.acquire(timeout=1)))
    another.start()
    another.join()
    assert taken == [True]


def test_what_is_there_waits_for_no_import(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a watchdog is told is not late because httpx is imported on another thread at that time."""
    monkeypatch.setattr(_fork, "PATIENCE", 3_600.0)
    keeper, account = Persistence(Runtime()), Account("key", "https://service.example/api", Runtime())
    made = list[object]()

    def make() -> None:
        made.extend([host(), keeper.entry(account.key, "push", {"title": "t"}, 0.0, id="one")])

    make()  # the first of each needs the lock
    thread = threading.Thread(target=make)
    with _fork.importing():
        thread.start()
        thread.join(PATIENCE)
        assert not thread.is_alive()
    assert made[2:] == made[:2]


WATCHED = """
    import os, sys, threading, traceback
    import activitysmith_track as at
    from activitysmith_track import _fork
    odd = []
    def look(event, details):
        thread = threading.current_thread()
        if event == "import" and thread.name.startswith("activitysmith"):
            if not _fork.loading.lock._is_owned():
                odd.append((thread.name, details[0], "unguarded"))
            if any(frame.f_code.co_name == "_transaction" for frame, _ in traceback.walk_stack(None)):
                odd.append((thread.name, details[0], "in a transaction"))
    sys.addaudithook(look)
    answers = os.environ["ANSWERS"] == "1"
    at.configure(watchdog=os.environ["WATCHDOG"] == "1", exit_timeout=60 if answers else 0.3)
    try:
        with at.live_progress("job", total=2) as p:
            p.advance()
            p.update(important=True)
            with at.notify("news"):
                pass
            with at.live_metrics("numbers", {"load": 1}) as m:
                m.set(load=3)
            at.flush(60 if answers else 2)
            raise ValueError("broke")
    except ValueError as error:
        assert str(error) == "broke"
        at.flush(60 if answers else 2)
    list(at.track(range(3), "loop"))
    at.flush(60 if answers else 2)
    print(odd, watchdog().pid if watchdog() else None)
"""


@pytest.mark.parametrize("watchdog", ["0", "1"])
@pytest.mark.parametrize("answers", [True, False])
def test_our_threads_import_only_under_guard(sim: Simulator, tmp_path: Path, answers: bool, watchdog: str) -> None:
    """No fork can meet a thread of ours in the middle of an import, whatever the thread is doing."""
    key = sim.api_key
    with create_server(("127.0.0.1", 0)) as closed:
        nobody = f"http://127.0.0.1:{closed.getsockname()[1]}/api"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path))
        base_url = sim.base_url if answers else nobody
        owed = Entry("push", internals.fingerprint(key), base_url, {"title": "from an earlier run"}, time.time())
        assert Outbox().put([owed])
        printed = run(
            internals.FOR_JOBS + textwrap.dedent(WATCHED),
            ACTIVITYSMITH_API_KEY=key,
            ACTIVITYSMITH_BASE_URL=base_url,
            WATCHDOG=watchdog,
            ANSWERS="1" if answers else "0",
        )
    odd, _, left = printed.strip().rpartition(" ")
    assert odd == "[]"
    if left != "None" and not answers:
        end_process(int(left))  # it would try for an hour, and whoever gets that port by then would hear of it
    assert (left != "None") is (watchdog == "1")
    assert ("from an earlier run" in [push.title for push in sim.pushes]) is answers


def test_an_import_waits_only_so_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the main thread an import goes on without the lock, and gives back only what it took."""
    monkeypatch.setattr(_fork, "PATIENCE_OF_MAIN", 0.01)
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with _fork.importing():
            held.set()
            done.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(60)
    with _fork.importing():
        assert not _fork.loading.lock.acquire(blocking=False)
    done.set()
    thread.join()
    assert _fork.loading.lock.acquire(blocking=False)
    _fork.loading.lock.release()
