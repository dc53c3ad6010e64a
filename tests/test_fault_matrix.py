"""The fault matrix: what a job saw and what the phone showed, in real processes; the rows are in `fault_rows`."""

from __future__ import annotations

import contextlib
import fnmatch
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from fault_rows import BY_WATCHDOG, ROWS, SERVICES, Row, page
from internals import FOR_JOBS
from patience import PATIENCE, PatientSimulator

from activitysmith_track.simulator import Simulator

DOCS = Path(__file__).resolve().parent.parent / "docs"

EVERYWHERE = {  # what differs between interpreters: exits, signals, tracebacks, threads, loops and forks
    "plain-raises-an-exception-is-well",
    "plain-raises-an-exception-group-is-well",
    "plain-raises-through-a-decorator-is-well",
    "plain-sys-exit-text--is-well",
    "plain-stopiteration-inside-a-generator-is-well",
    "plain-ctrl-c-is-well",
    "signals-true-sigterm-which-the-job-turns-into-sys-exit-9--is-well",
    "signals-true-sighup-is-well",
    "watchdog-true-sigkill-is-well",
    "plain-ctrl-c-and-another-one-at-the-exit-hangs--exit-timeout-60",
    "track-ctrl-c-in-a-loop-is-well",
    "plain-a-generator-that-nobody-finishes-is-well",
    "a-thread-sys-exit-3--is-well",
    "a-daemon-thread-its-main-thread-ends-first-is-well",
    "a-pool-of-threads-one-of-four-jobs-raises-is-well",
    "asyncio-debug-mode-raises-an-exception-is-well",
    "asyncio-ctrl-c-is-well",
    "asyncio-an-async-generator-that-nobody-finishes-is-well",
    "os-fork-a-child-raises-out-of-its-parent-s-block-is-well",
    "os-fork-a-child-has-a-block-of-its-own-which-fails-is-well",
    "os-fork--signals-true-the-parent-is-told-to-stop-its-children-first-is-well",
    "multiprocessing-fork-one-child-returns-one-fails-is-well",
    "multiprocessing-spawn-one-child-returns-one-fails-is-well",
    "multiprocessing-forkserver-one-child-returns-one-fails-is-well",
    "a-pool-of-processes-a-pool-of-processes-one-job-raises-is-well",
    "gevent-patched-raises-an-exception-is-well",
    "atexit-a-block-begins-in-an-exit-handler-that-was-there-first-is-well",
}

HEAD = """\
import time
_clocks = time.monotonic, time.time
_ahead = [0.0, 0.0]
time.monotonic, time.time = lambda: _clocks[0]() + _ahead[0], lambda: _clocks[1]() + _ahead[1]
def jump(seconds): _ahead[:] = seconds, seconds
def past(seconds): _ahead[1] = -seconds
"""
PRELUDE = """\
import atexit, os, signal, sys, threading, time
import activitysmith_track as at
at.configure({settings})
def say(*words): print(*words, flush=True)
def stand():
    if default_tracker().watches and at.flush(30):
        assert watchdog() is None or watchdog().start(30)
def ready():
    stand()
    say("running")
    while not os.path.exists("go"): time.sleep(0.02)
"""


@dataclass
class Seen:
    """What became of a job.

    Attributes:
        code: its exit code.
        out: its standard output.
        errors: its standard error, without lines of our log.
        before: what the phone showed while it ran.
        at_first: what it showed when the process was gone.
        in_the_end: what it shows.
        pushes: how often each came.
        flushed: the exit code of `flush`.
    """

    code: int = 0
    out: str = ""
    errors: str = ""
    before: Mapping[str, str] = field(default_factory=dict)
    at_first: Mapping[str, str] = field(default_factory=dict)
    in_the_end: Mapping[str, str] = field(default_factory=dict)
    pushes: Counter[str] = field(default_factory=Counter)
    flushed: int = 0


def shown(sim: Simulator) -> dict[str, str]:
    """Say what is on the phone, without the times."""
    return {key: describe(card) for key, card in sim.cards.items()}


def describe(card: Any) -> str:
    """Say what is on a card, without the times that depend on how busy the machine is."""
    state = "ended" if card.ended else "running"
    place = f"step {card.current_step} of {card.number_of_steps}" if card.number_of_steps else f"{card.percentage} %"
    subtitle = re.sub(r"^Done in .*", "Done in …", card.subtitle or "")
    subtitle = re.sub(r"^\d.* left$| \(happened [\d:]+, (\d+ s|1 min) ago\)$", "", subtitle)
    return ", ".join(filter(None, (card.color or "blue", place, subtitle, state)))


def alike(found: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    """Tell whether the phone shows what is wanted; a card of `*` may show anything."""
    return found.keys() == wanted.keys() and all(
        fnmatch.fnmatchcase(found[key], text.replace("[", "[[]")) for key, text in wanted.items()
    )


class Job:
    """A row's script in a process of its own, with a directory and a state directory of its own."""

    def __init__(self, row: Row, sim: Simulator, place: Path, environment: Mapping[str, str], *, off: bool) -> None:
        self.row, self.sim, self.place, self.off = row, sim, place, off
        place.mkdir(parents=True)
        settings = f"exit_timeout={SERVICES[row.service].patience}, {row.settings}"
        first, rest = (row.job.split("\n", 1)) if row.job.startswith("from gevent") else ("", row.job)
        head = HEAD if re.search(r"\b(jump|past)\(", row.job) else ""
        code = f"{first}\n{head}{FOR_JOBS}{PRELUDE.format(settings=settings)}{rest}"
        (place / "job.py").write_text(code, encoding="utf-8")
        self.environment = {
            **environment,
            "ACTIVITYSMITH_API_KEY": sim.api_key,
            "ACTIVITYSMITH_BASE_URL": sim.base_url,
            "XDG_STATE_HOME": str(place / "state"),
            **row.environment,
            **({"ACTIVITYSMITH_TRACK": "off"} if off else {}),
        }

    def run(self) -> Seen:
        """Run it, do to it and to the service what the row says, and look at the phone."""
        service, seen, fault = SERVICES[self.row.service], Seen(), None
        if service.fault is not None and service.early:
            fault = self.sim.fault(service.fault[0], **service.fault[1])
        with self.started() as process:
            self.wait_for("running", process)
            if not self.off:
                self.sim.wait_for(lambda sim: alike(shown(sim), self.row.cards_before), PATIENCE)
            seen.before = shown(self.sim)
            if service.fault is not None and not service.early:
                fault = self.sim.fault(service.fault[0], **service.fault[1])
            for act in self.row.acts.split():
                self.act(act, process)
            seen.code = process.wait(PATIENCE)
            if self.row.at_first != "*":
                seen.at_first = shown(self.sim)
            if fault is not None and fault.is_set:
                fault.remove()
            if not self.off:
                self.finish(seen, flushed=service.flushed)
        seen.out = self.read("out").removeprefix("running\n").strip()
        lines = self.read("errors").splitlines()
        told = "\n".join(line for line in lines if not line.startswith("activitysmith_track"))
        told = re.sub(r"(?ms)(, in ready\n).*(?=^KeyboardInterrupt)", r"\1", told)  # wherever in it
        seen.errors = re.sub("0x[0-9a-f]+", "0x...", told)
        return seen

    def finish(self, seen: Seen, *, flushed: bool) -> None:
        """Have the rest delivered, by whom the row says."""
        row = self.row
        if flushed and not row.watched:
            command = [sys.executable, "-m", "activitysmith_track", "flush", "--timeout", "30"]
            given = {**self.environment, "XDG_STATE_HOME": str(self.place / "state")}
            seen.flushed = subprocess.run(command, env=given, capture_output=True, timeout=PATIENCE).returncode
        self.sim.wait_for(lambda sim: alike(shown(sim), row.cards) and len(sim.pushes) >= len(row.pushes), PATIENCE)
        seen.in_the_end = shown(self.sim)
        seen.pushes = Counter(f"{push.title}: {(push.message or '').splitlines()[0]}" for push in self.sim.pushes)

    @contextlib.contextmanager
    def started(self) -> Iterator[subprocess.Popen[bytes]]:
        """Start it; nothing of it is left afterwards."""
        with open(self.place / "out", "wb") as out, open(self.place / "errors", "wb") as errors:
            process = subprocess.Popen(
                [sys.executable, "-W", "ignore::DeprecationWarning", "job.py"],
                env=self.environment,
                cwd=self.place,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=errors,
                start_new_session=True,
            )
            try:
                yield process
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def act(self, act: str, process: subprocess.Popen[bytes]) -> None:
        """Do one thing to it."""
        if act == "go":
            (self.place / "go").touch()
        elif act.startswith("SIG"):
            process.send_signal(signal.Signals[act])
        elif act.replace(".", "").isdigit():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(float(act))
        else:
            self.wait_for(act, process)

    def wait_for(self, word: str, process: subprocess.Popen[bytes]) -> None:
        """Wait until it has printed a line."""
        until = time.monotonic() + PATIENCE
        while word not in self.read("out").splitlines() and process.poll() is None and time.monotonic() < until:
            time.sleep(0.02)

    def read(self, name: str) -> str:
        """Return what it has printed."""
        return (self.place / name).read_text(encoding="utf-8")


def run(row: Row, place: Path) -> tuple[Seen, Seen]:
    """Run a row, and its twin with the library off beside it."""
    environment = dict(os.environ)
    with PatientSimulator() as sim, PatientSimulator() as nobody, ThreadPoolExecutor(1) as beside:
        twin = beside.submit(Job(row, nobody, place / "off", environment, off=True).run)
        seen = Job(row, sim, place / "on", environment, off=False).run()
        twin.result()
        assert [each for each in nobody.requests if each.status != 401] == []  # of a stranger that was left behind
    return seen, twin.result()


def marked(row: Row) -> Any:
    """Say what the test of a row is called, and whether it runs on every interpreter."""
    return pytest.param(row, id=row.name, marks=() if row.name in EVERYWHERE else pytest.mark.once)


@pytest.mark.real
@pytest.mark.parametrize("row", [marked(row) for row in ROWS])
def test_row(row: Row, tmp_path: Path) -> None:
    """The job saw, and the phone showed, what the row says; and without the library the job saw the same."""
    if row.why_not:
        pytest.skip(row.why_not)
    seen, twin = run(row, tmp_path)
    assert (seen.code, seen.out) == (row.code, row.out)
    assert (seen.errors.splitlines() or [""])[-1].strip() == row.says
    alone = row.code if row.alone is None else row.alone
    assert (twin.code, twin.out, twin.errors) == (alone, seen.out, seen.errors.replace("/on/", "/off/"))
    may_have_come = SERVICES[row.service].early and not SERVICES[row.service].flushed
    assert may_have_come or alike(seen.before, row.cards_before), seen.before
    may_be_through = row.at_first == "*" or (row.by == BY_WATCHDOG and alike(seen.at_first, row.cards))
    assert may_be_through or alike(seen.at_first, row.cards_at_first), seen.at_first
    assert alike(seen.in_the_end, row.cards), seen.in_the_end
    assert seen.pushes.keys() == set(row.pushes)
    assert all(count == 1 or (row.repeats and count == 2) for count in seen.pushes.values())
    assert seen.flushed == 0


def test_rows_are_many_and_differ() -> None:
    """No two rows say the same, and there are enough of them."""
    assert len({row.name for row in ROWS}) == len(ROWS) >= 60
    assert {row.service for row in ROWS} == SERVICES.keys()
    assert {row.name for row in ROWS} >= EVERYWHERE


def test_the_page_is_in_step() -> None:
    """The page in the documentation is what the rows make."""
    assert (DOCS / "faults.md").read_text(encoding="utf-8") == page()
