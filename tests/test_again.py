"""Tests of the real world run once more where they fail, and no others do: runs of pytest inside of pytest."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

pytest_plugins = ["pytester"]
pytestmark = pytest.mark.once

HEAD = """
import os, pathlib, time, pytest
HERE = pathlib.Path(__file__).parent
real = pytest.mark.real

@pytest.fixture
def times(request):
    "Say how often this test has begun, over all processes."
    file = HERE / (request.node.name.replace("/", "-") + ".times")
    file.write_text(file.read_text() + "x" if file.exists() else "x")
    return len(file.read_text())
"""
WORKERS = pytest.mark.parametrize("workers", ["0", "2"])


class Run:
    """A run of pytest on one file of tests.

    Attributes:
        status: its exit status.
        text: what it printed.
        counts: how many tests had which outcome, as the last line says.
    """

    def __init__(self, pytester: pytest.Pytester, tests: str, workers: str, *arguments: str) -> None:
        pytester.makepyfile(test_it=HEAD + tests)
        for file in pytester.path.glob("*.times"):
            file.unlink()
        result = pytester.runpytest_subprocess("-n", workers, *arguments)
        self.path, self.status, self.text = pytester.path, int(result.ret), result.stdout.str()
        outcomes = re.findall(r"(\d+) ([a-z]+)", result.outlines[-1].partition(" in ")[0])
        self.counts = {name: int(number) for number, name in outcomes}

    def times(self, *names: str) -> list[int]:
        """Return how often tests have begun."""
        return [len((self.path / f"{name}.times").read_text()) for name in names]

    @property
    def second(self) -> str:
        """What stands at the end about what was run again."""
        return self.text.partition("run once more by itself")[2]


@pytest.fixture(autouse=True)
def only_these_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    """The runs inside know the plugin that lies beside this file, and nothing of the run around them."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("PYTEST_PLUGINS", "xdist.plugin,again")
    for name in ("PYTEST_XDIST_WORKER", "PYTEST_XDIST_WORKER_COUNT", "PYTEST_XDIST_TESTRUNUID", "PYTEST_ADDOPTS"):
        monkeypatch.delenv(name, raising=False)


ALL_KINDS = """
@real
def test_luck(times):
    print("said by the first run" if times == 1 else "")
    if times == 1:
        (HERE / "process").write_text(str(os.getpid()))
    assert times == 2, "bad luck"
    assert len(list(HERE.glob("done-*"))) == 4, "it is not the last one"
    assert (HERE / "process").read_text() != str(os.getpid())
    assert "PYTEST_XDIST_WORKER" not in os.environ

@pytest.mark.parametrize("number", range(4))
def test_other(number):
    time.sleep(0.05)
    (HERE / f"done-{number}").touch()

@real
def test_bad(times):
    assert not f"time {times}"

def test_pure(times):
    assert times == 2
@real
def test_good(times):
    pass
@real
def test_skipped(times):
    pytest.skip("no need")
@real
@pytest.mark.xfail(strict=True)
def test_expected(times):
    assert False

class TestInside:
    @real
    @pytest.mark.parametrize("value", ["a::b [x]-k /ü", ""])
    def test_odd(self, value, times):
        assert times == 2

@pytest.fixture(scope="module")
def shared():
    return []
@pytest.fixture
def fragile(times, shared, request):
    shared.append(times)
    assert times == 2 or "set_up" not in request.node.name, "while it is set up"
    yield
    assert times == 2 or "torn_down" not in request.node.name, "while it is torn down"
@real
def test_set_up(fragile, shared):
    assert shared == [2], "a fixture of the first run is still there"
@real
def test_torn_down(fragile):
    pass

@real
def test_crash(times):
    assert times == 2
    os._exit(3)
"""


@WORKERS
def test_each_kind(pytester: pytest.Pytester, workers: str) -> None:
    """What is marked and fails is run again, last and alone, and nothing else is; what counts is the end."""
    run = Run(pytester, ALL_KINDS, workers, "--junitxml=results.xml", "-rs")
    assert (run.status, run.counts) == (1, {"failed": 3, "passed": 10, "skipped": 1, "xfailed": 1, "again": 7})
    assert run.times("test_luck", "test_bad", "test_set_up", "test_torn_down", "test_crash") == [2] * 5
    assert run.times("test_pure", "test_good", "test_skipped", "test_expected") == [1] * 4
    assert "test_it.py::test_luck: passed by itself" in run.second
    assert "AssertionError: bad luck" in run.second
    assert "said by the first run" in run.second
    assert "test_it.py::test_bad: failed again" in run.second
    assert "assert not 'time 1'" in run.second
    assert "assert not 'time 2'" in run.text.partition("run once more by itself")[0]
    assert "while it is set up" in run.second
    assert "while it is torn down" in run.second
    assert "run again, its process ended with status 3" in run.text
    cases = [*ElementTree.parse(run.path / "results.xml").getroot().iter("testcase")]
    ended = {case.get("name"): [each.tag for each in case] for case in cases}
    assert len(cases) == len(ended) == 15
    assert {name for name, tags in ended.items() if tags == ["failure"]} == {"test_bad", "test_pure", "test_crash"}


LUCK = """
@real
def test_a_luck(times):
    assert times == 2, "bad luck"
def test_b_next(times):
    pass
"""


@WORKERS
def test_stopped_at_the_first_failure(pytester: pytest.Pytester, workers: str) -> None:
    """With `-x` a first failure stops nothing; where another test stops the run, it counts and is not run again."""
    run = Run(pytester, LUCK + "def test_c_bad():\n    assert False\n", workers, "-x", "--dist=loadfile")
    assert run.status != 0
    assert (run.counts["failed"], run.counts["again"]) == (2, 1)
    assert "test_it.py::test_a_luck: the run was stopped, so it was not run again" in run.second
    assert run.times("test_a_luck", "test_b_next") == [1, 1]
    run = Run(pytester, LUCK, workers, "-x")
    assert (run.status, run.counts) == (0, {"passed": 2, "again": 1})


def test_a_worker_that_crashes(pytester: pytest.Pytester) -> None:
    """The test in whose middle it crashes has failed and is not run again; what failed on it before is."""
    crash = "@real\ndef test_c_crash(times):\n    os._exit(3)\ndef test_d_after(times):\n    pass\n"
    run = Run(pytester, LUCK + crash, "1")
    assert (run.status, run.counts) == (1, {"failed": 1, "passed": 3, "again": 1})
    assert run.times("test_a_luck", "test_b_next", "test_c_crash", "test_d_after") == [2, 1, 1, 1]


def test_nothing_was_run_again(pytester: pytest.Pytester) -> None:
    """Nothing is said where nothing was."""
    run = Run(pytester, "@real\ndef test_good():\n    pass\n", "0")
    assert (run.status, run.counts, run.second) == (0, {"passed": 1}, "")
