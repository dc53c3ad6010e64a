"""What all tests find around them is as it should be, and no test can leave anything behind unseen."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import surroundings
from internals import clocks_of, default_dispatcher
from patience import CLOCK, PATIENCE, standing_clock

import activitysmith_track

pytest_plugins = ["pytester"]

LEAVING = """
import logging, os, signal, subprocess, sys, threading
import leftovers, pytest
leftovers.SETTLING_SECONDS = 0.1

def test_environment(): os.environ["LEFT"] = "x"
def test_directory(): os.chdir("/")
def test_signal(): signal.signal(signal.SIGUSR1, signal.SIG_IGN)
def test_mask(): signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
def test_umask(): os.umask(0o123)
def test_log(): logging.getLogger("left").addHandler(logging.NullHandler())
def test_hook(): sys.excepthook = lambda *_: None
def test_path(): sys.path.append("/left")
def test_thread(): threading.Thread(target=threading.Event().wait, name="left", daemon=True).start()
def test_child(): sys.left = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
def test_descriptor(): os.open(os.devnull, os.O_RDONLY)
def test_nothing(monkeypatch, tmp_path):
    monkeypatch.setenv("LEFT", "y")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    with open(os.devnull), subprocess.Popen(["true"]): pass
    thread = threading.Thread(target=print)
    thread.start()
"""
LEFT = {
    "environment": "environment LEFT: 'x' is new",
    "directory": "state working directory: * became '/'",
    "signal": "signal handler *: * became <Handlers.SIG_IGN: 1>",
    "mask": "state blocked signals: *",
    "umask": "state umask: * became 'Umask:*0123'",
    "log": "log handlers left: (<NullHandler (NOTSET)>,) is new",
    "hook": "state sys.excepthook: * became <function *",
    "path": "state sys.path: *",
    "thread": "thread <Thread(left, started daemon *)>: 'left' is new",
    "child": "child *: 'cat' is new",
    "descriptor": "descriptors /dev/null: * became *",
}


@pytest.mark.once
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells children, descriptors and the umask")
def test_what_is_left_behind_is_named(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test that leaves something behind fails at its teardown and says what it is; one that does not passes."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("PYTEST_PLUGINS", "leftovers")
    pytester.makepyfile(LEAVING)
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    result.assert_outcomes(passed=len(LEFT) + 1, errors=len(LEFT))
    for name, words in LEFT.items():
        result.stdout.fnmatch_lines([f"*ERROR at teardown of test_{name} *"])
        result.stdout.fnmatch_lines([f"E * {words}".replace("[", "[[]")])


@pytest.mark.once
@pytest.mark.real
@pytest.mark.skipif(os.name != "posix", reason="other systems have no such signals")
def test_signals_are_heard_where_they_are_ignored(tmp_path: Path) -> None:
    """Where the tests inherit that Ctrl-C and hangups are ignored, as behind a shell's `&`, no child does."""

    def ignore() -> None:
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
            signal.signal(number, signal.SIG_IGN)

    tests = ["test_cli.py::test_simulator_interrupted", "test_fault_matrix.py::test_row[plain-ctrl-c-is-well]"]
    tests += ["test_signals.py::test_the_default_action_and_exit_status_stay"]
    paths = [str(Path(__file__).with_name(test)) for test in tests]
    configuration = surroundings.ROOT / "pyproject.toml"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-c", configuration, "-n0", "-p", "no:cacheprovider", *paths],
        stdout=subprocess.PIPE,
        text=True,
        timeout=2 * PATIENCE,
        preexec_fn=ignore,
    )
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not enforce the limit")
def test_memory_has_an_end() -> None:
    """A fault that eats memory is a `MemoryError` in its test."""
    with pytest.raises(MemoryError):
        bytearray(surroundings.MEMORY)


def test_children_import_what_is_tested() -> None:
    """A process that a test starts has the same package as the test."""
    code = "import activitysmith_track; print(activitysmith_track.__file__)"
    printed = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True).stdout
    assert printed.strip() == activitysmith_track.__file__


def test_the_working_tree_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clone's folder does not pass for the package that was installed from it, unless it is what is installed."""
    surroundings.refuse_the_working_tree()
    monkeypatch.setattr(activitysmith_track, "__file__", str(surroundings.ROOT / "activitysmith_track/__init__.py"))
    monkeypatch.setattr(surroundings, "is_editable", lambda: True)
    surroundings.refuse_the_working_tree()
    monkeypatch.setattr(surroundings, "is_editable", lambda: False)
    with pytest.raises(pytest.UsageError, match="Run `pytest` instead of `python -m pytest`"):
        surroundings.refuse_the_working_tree()


def test_there_is_one_clock() -> None:
    """Whatever of the library tells the time stands while the clock stands, and goes on from there."""
    with standing_clock() as clock:
        before = clock()
        clocks = clocks_of(default_dispatcher())
        assert {each() for each in clocks} == {before}
        clock.advance(60)
        assert {each() for each in clocks} == {before + 60}
    assert all(before + 60 <= each() <= CLOCK() for each in clocks)
