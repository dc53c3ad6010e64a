"""Jobs with a watchdog of their own, for tests that end them: a plugin of this project's tests."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from patience import PATIENCE, is_gone, until

from activitysmith_track.delivery.watchdog.protocol import Timing
from activitysmith_track.simulator import Simulator

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

QUICK = Timing(first_wait=0.05, longest_wait=0.2, retry=PATIENCE, attempt=60.0, check=0.1, start=PATIENCE)
END = {"content_state": {"title": "job", "type": "progress", "percentage": 42, "color": "red", "subtitle": "gone"}}
PUSH = {"title": "job failed", "message": "gone"}
CRASH_REASON = "Process gone: killed, crashed or out of memory"  # on the phone, of a job that was killed

START = f"""
import ctypes, json, logging, os, signal, sys, threading, time
from activitysmith_track.client import ActivitySmith
from activitysmith_track.delivery.watchdog import line, supervisor
from activitysmith_track.delivery.watchdog.protocol import Timing

CRASH_REASON = {CRASH_REASON!r}
key, url, *timing = json.loads(sys.stdin.readline())
def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())

def words(percentage=42, title="job"):
    state = {{"title": title, "type": "progress", "percentage": percentage}}
    end = {{"content_state": {{**state, "color": "red", "subtitle": CRASH_REASON}}}}
    return {{"end": end, "push": {{"title": title + " failed", "message": CRASH_REASON}}, "began_at": 0.0}}

def show(number=1, title="job", percentage=42):
    with ActivitySmith(key, base_url=url) as service:
        service.live_activities.stream(title, title=title, type="progress", percentage=percentage)
    dog.arm(number, key, url, title, **words(percentage, title))

def tell():
    assert dog.start({PATIENCE})
    say(dog.pid)

def wait():
    say("ready")
    while True:
        time.sleep(60)

dog = supervisor.Watchdog(Timing(*timing))
"""


class Job:
    """A real process with a watchdog of its own."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.watchdogs: list[int] = []
        self.others: list[int] = []

    def hear(self) -> str:
        """Return the next line that it says."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def watchdog(self) -> int:
        """Return the number of its watchdog, which it says next."""
        self.watchdogs.append(int(self.hear()))
        return self.watchdogs[-1]

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def left(self) -> int:
        """Wait until it has left, and return its exit code."""
        return self.process.wait(PATIENCE)

    def said(self) -> tuple[int, str]:
        """Wait until it has left, and return its exit code and what it wrote to stderr."""
        assert self.process.stderr is not None
        return self.left(), self.process.stderr.read()


Start = Callable[..., Job]


@pytest.fixture
def start(sim: Simulator, tmp_path: Path) -> Iterator[Start]:
    """Start a job that is configured for the simulator; whatever is left of it is killed at the end."""
    jobs: list[Job] = []

    def run(code: str, timing: Timing = QUICK, base_url: str = "", **environment: str) -> Job:
        script = tmp_path / f"job{len(jobs)}.py"
        script.write_text(START + textwrap.dedent(code), encoding="utf-8")
        process = subprocess.Popen(
            [sys.executable, "-W", "error", "-W", "ignore::DeprecationWarning", str(script)],
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
        )
        jobs.append(Job(process))
        assert process.stdin is not None
        process.stdin.write(json.dumps([sim.api_key, base_url or sim.base_url, *timing]) + "\n")
        process.stdin.flush()
        return jobs[-1]

    yield run
    for job in jobs:
        with job.process:
            job.process.kill()
        for pid in job.watchdogs + job.others:
            if not is_gone(pid):
                os.kill(pid, signal.SIGKILL)
                until(lambda gone=pid: is_gone(gone))


def red(sim: Simulator, key: str = "job", percentage: int = 42, pushes: int = 1) -> bool:
    """Wait until a card is red and its push is there."""
    arrived = sim.wait_for(lambda s: key in s.cards and s.cards[key].ended and len(s.pushes) >= pushes, PATIENCE)
    card = sim.cards[key]
    return arrived and (card.color, card.percentage, card.subtitle) == ("red", percentage, CRASH_REASON)
