"""Run a test that needs the real world once more, by itself, where it has failed: a plugin of this project's tests.

A test with the marker `real` needs real time, real processes or real signals, so that a busy machine can make it
fail. Its first failure is put aside. When all other tests are done, and no worker is busy any more, the test runs
once more in a fresh process, and what it does there counts. The end of the run names what was run again, with the
first failure.

Nothing else ever runs again: no test without the marker, no test twice, and no test in whose middle a worker has
crashed. Where a run is stopped early (`-x`, Ctrl-C), nothing runs again either, and the first failures count.
"""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from _pytest.runner import runtestprotocol

PUT_ASIDE: Any = "again"  # the outcome of a first failure that does not count yet
ONLY, REPORTS = "PYTEST_AGAIN_ONLY", "PYTEST_AGAIN_REPORTS"  # what the fresh process is told in its environment
LONGEST = 1_800  # seconds for one test, its set-up and the start of its process


def pytest_configure(config: pytest.Config) -> None:
    """Add the marker, and what this process has to do."""
    config.addinivalue_line("markers", "real: needs real time, real processes or real signals; see tests/again.py")
    if REPORTS in os.environ:
        one = OneTest(config, os.environ.pop(ONLY), Path(os.environ.pop(REPORTS)))
        config.pluginmanager.register(one, "again-one-test")
        return
    config.pluginmanager.register(PutAside(), "again-put-aside")
    if not hasattr(config, "workerinput"):  # which a worker of pytest-xdist has
        config.pluginmanager.register(RunAgain(config), "again-run-again")


def pytest_report_teststatus(report: pytest.TestReport) -> tuple[str, str, str] | None:
    """Show a failure that was put aside as such."""
    return (PUT_ASIDE, "A", "AGAIN") if report.outcome == PUT_ASIDE else None


class PutAside:
    """Puts the first failures aside, in every process that runs tests."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
        """Run a test of the real world, and report either all of its phases or that it failed for the first time."""
        if item.get_closest_marker("real") is None:
            return None
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        reports = runtestprotocol(item, nextitem=nextitem, log=False)
        failures = [report for report in reports if report.failed]
        for report in [put_aside(failures)] if failures else reports:
            item.ihook.pytest_runtest_logreport(report=report)
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        return True


def put_aside(failures: list[pytest.TestReport]) -> pytest.TestReport:
    """Make one report, which counts as neither passed nor failed, of what failed in a test and in its teardown."""
    first, *others = failures
    first.sections += [(f"its {each.when} failed too", each.longreprtext) for each in others]
    first.outcome, first.when = PUT_ASIDE, "call"
    return first


class RunAgain:
    """Runs what has failed once more, in the process that reports on all tests.

    Args:
        config: of the run.
    """

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._first: dict[str, pytest.TestReport] = {}
        self._second: dict[str, str] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Remember a first failure."""
        if report.outcome == PUT_ASIDE:
            self._first[report.nodeid] = report

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self) -> Generator[None, object, object]:
        """Run again what has failed when all tests are done."""
        try:
            result = yield
        except BaseException:  # the run was stopped
            for first in self._first.values():
                self._report(first, [failed(first)], "the run was stopped, so it was not run again")
            raise
        for first in self._first.values():
            reports = self._run(first)
            again = any(report.failed for report in reports)
            self._report(first, reports, "failed again" if again else "passed by itself")
        return result

    def _report(self, first: pytest.TestReport, reports: list[pytest.TestReport], words: str) -> None:
        self._second[first.nodeid] = words
        for report in reports:
            if hasattr(first, "node"):  # so that it is the same test for `--junitxml`
                report.node = first.node  # type: ignore[attr-defined]
            self._config.hook.pytest_runtest_logreport(report=report)

    def _run(self, first: pytest.TestReport) -> list[pytest.TestReport]:
        with tempfile.TemporaryDirectory() as place:
            told = Path(place, "reports")
            environment = {**os.environ, ONLY: first.nodeid, REPORTS: str(told)}
            try:
                done = subprocess.run(
                    [sys.executable, "-m", "pytest", *self._arguments(first.nodeid)],
                    cwd=place,  # where no package lies that could stand in for the installed one
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                    errors="replace",
                    timeout=LONGEST,
                )
            except subprocess.TimeoutExpired as late:
                return [failed(first, f"run again, it did not end within {LONGEST} s\n{late.output}")]
            lines = told.read_text(encoding="utf-8").splitlines() if told.exists() else []
        hook = self._config.hook
        reports = [hook.pytest_report_from_serializable(config=self._config, data=json.loads(line)) for line in lines]
        if not reports or reports[-1].when != "teardown":
            words = f"run again, its process ended with status {done.returncode}\n{done.stdout}"
            reports.append(failed(first, words))
        return reports

    def _arguments(self, nodeid: str) -> list[str]:
        config = self._config
        arguments = ["--rootdir", str(config.rootpath), "-p", "no:cacheprovider"]
        arguments += ["-c", str(config.inipath)] if config.inipath else []
        arguments += ["-n0"] if hasattr(config.option, "numprocesses") else []
        if hasattr(config.option, "randomly_seed"):
            arguments.append(f"--randomly-seed={config.option.randomly_seed}")
        return [*arguments, str(config.rootpath / nodeid.partition("::")[0])]

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Name what was run again, and say how it had failed."""
        if not self._second:
            return
        terminalreporter.section("failed beside other tests, and run once more by itself")
        for nodeid, words in self._second.items():
            terminalreporter.write_line(f"{nodeid}: {words}. Its first failure:", bold=True)
            first = self._first[nodeid]
            terminalreporter.write_line(first.longreprtext)
            for title, content in first.sections:
                terminalreporter.write_sep("-", title)
                terminalreporter.write_line(content.rstrip("\n"))


def failed(first: pytest.TestReport, words: str | None = None) -> pytest.TestReport:
    """Make a report of a failure that counts: the first one itself, or of what these words say."""
    report = copy.copy(first)
    report.outcome = "failed"
    if words is not None:
        report.longrepr, report.sections = words, []
    return report


class OneTest:
    """Runs one test alone, and writes down its reports for the process that asked for them.

    Args:
        config: of the run.
        nodeid: of the test.
        told: the file.
    """

    def __init__(self, config: pytest.Config, nodeid: str, told: Path) -> None:
        self._config, self._nodeid, self._told = config, nodeid, told

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Leave out all other tests of the file."""
        others = [item for item in items if item.nodeid != self._nodeid]
        self._config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if item.nodeid == self._nodeid]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Write down a report as soon as there is one, since the test may end the process."""
        data = self._config.hook.pytest_report_to_serializable(config=self._config, report=report)
        with self._told.open("a", encoding="utf-8") as file:
            file.write(json.dumps(data) + "\n")
