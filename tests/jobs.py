"""Jobs in processes of their own, against a service on loopback."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

from internals import FOR_JOBS
from patience import PATIENCE

from activitysmith_track.simulator import Simulator

HEAD = f"""\
import os, signal, sys, threading, time
import activitysmith_track as at
def say(word):
    print(word, flush=True)
{FOR_JOBS}"""


class Job:
    """A script in a process of its own, with a state directory of its own."""

    def __init__(self, sim: Simulator, state: Path) -> None:
        self.sim, self.state = sim, state
        self.processes: list[subprocess.Popen[str]] = []

    def start(self, code: str, head: str = HEAD, **environment: str) -> subprocess.Popen[str]:
        """Start a script; `say("x")` in it tells this process how far it is."""
        given = {
            **os.environ,
            "ACTIVITYSMITH_API_KEY": self.sim.api_key,
            "ACTIVITYSMITH_BASE_URL": self.sim.base_url,
            "XDG_STATE_HOME": str(self.state),
            **environment,
        }
        process = subprocess.Popen(
            [sys.executable, "-c", head + textwrap.dedent(code)],
            env=given,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.processes.append(process)
        return process

    def begin(self, code: str, **environment: str) -> subprocess.Popen[str]:
        """Start a script, and return when it says that it is running."""
        process = self.start(code, **environment)
        assert process.stdout is not None
        assert process.stdout.readline() == "running\n"
        return process

    def run(self, code: str, head: str = HEAD, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a script to its end."""
        process = self.start(code, head, **environment)
        out, error = process.communicate(timeout=PATIENCE)
        return subprocess.CompletedProcess(process.args, process.returncode, out, error)

    def flush(self) -> subprocess.CompletedProcess[str]:
        """Deliver what earlier runs owe, as the command line does."""
        return self.run(
            f"from activitysmith_track.cli import main; sys.exit(main(['flush', '--timeout', '{PATIENCE}']))"
        )
