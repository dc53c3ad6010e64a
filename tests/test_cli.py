"""The command line: the demo, as a new user runs it."""

from __future__ import annotations

import itertools
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import internals
import pytest
from patience import PATIENCE, until

import activitysmith_track
from activitysmith_track import cli
from activitysmith_track.simulator import Device, Simulator


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "activitysmith_track", *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


@pytest.mark.real
def test_demo() -> None:
    """It exits 0, shows the cards as lines where there is no terminal, and sums up what was sent."""
    done = run("demo")
    assert (done.returncode, done.stderr) == (0, "")
    for words in (
        "Hash the standard library: ######################## 100 % Done",
        "Compress it: [#][#][#][#][#] Done",
        "Publish the digests: [#][#] Failed in Upload: ConnectionRefusedError",
        "PUSH Publish the digests failed",
        "0 of them refused; 1 push(es).",
        "within its budget of 12",
    ):
        assert words in done.stdout
    assert "not-for-your-lock-screen" not in done.stdout
    assert "over its budget" not in done.stdout


def test_demo_in_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """In a terminal the Lock Screen is drawn."""
    internals.quick_demo(monkeypatch)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    assert cli.main(["demo"]) == 0
    shown = capsys.readouterr().out
    assert "Publish the digests failed" in shown
    assert "╭" in shown


def test_demo_live(sim: Simulator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """With `--live` the same goes to the service that the environment names."""
    internals.quick_demo(monkeypatch)
    assert cli.main(["demo", "--live"]) == 2
    assert "ACTIVITYSMITH_API_KEY" in capsys.readouterr().err
    monkeypatch.setenv("ACTIVITYSMITH_API_KEY", sim.api_key)
    monkeypatch.setenv("ACTIVITYSMITH_BASE_URL", sim.base_url)
    assert cli.main(["demo", "--live"]) == 0
    assert "Everything was delivered" in capsys.readouterr().out
    assert {card.ended for card in sim.cards.values()} == {True}


def test_demo_without_the_extra(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Without the simulator's libraries it says what to install."""
    import activitysmith_track.simulator

    monkeypatch.setattr(activitysmith_track, "simulator", activitysmith_track.simulator)  # to be there again
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    for name in [each for each in sys.modules if each.startswith("activitysmith_track.simulator")]:
        monkeypatch.delitem(sys.modules, name)
    for command in ("demo", "simulator"):
        assert cli.main([command]) == 2
        assert 'pip install "activitysmith-track[simulator]"' in capsys.readouterr().err


def test_demo_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C leaves with the usual status."""

    def interrupted(**options: Any) -> Any:
        raise KeyboardInterrupt

    internals.demo_is(monkeypatch, interrupted)
    assert cli.main(["demo"]) == 130


@pytest.mark.real
def test_simulator() -> None:
    """It says where it is and how to reach it, answers, and leaves on SIGTERM with status 0."""
    command = [sys.executable, "-W", "error", "-m", "activitysmith_track", "simulator", "--port", "0", "--slots", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        told = "".join(itertools.islice(process.stdout, 6))
        (base_url,) = re.findall(r"export ACTIVITYSMITH_BASE_URL=(\S+)", told)
        (key,) = re.findall(r"export ACTIVITYSMITH_API_KEY=(\S+)", told)
        headers = {"Authorization": f"Bearer {key}"}
        state = {"title": "T", "type": "progress", "percentage": 1}
        answers = [
            httpx.put(f"{base_url}/live-activity/stream/{name}", json={"content_state": state}, headers=headers)
            for name in "ab"
        ]
        assert [each.status_code for each in answers] == [200, 429]
        assert "<!doctype html>" in httpx.get(base_url.removesuffix("/api")).text
        assert until(lambda: catches(process.pid, signal.SIGTERM))
        process.send_signal(signal.SIGTERM)
        _, error = process.communicate(timeout=PATIENCE)
    assert (process.returncode, error) == (0, "")


def catches(pid: int, number: int) -> bool:
    """Tell whether a process has a handler for a signal; where there is no /proc to ask, give it the time for one."""
    try:
        (caught,) = re.findall(r"^SigCgt:\s*(\w+)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    except FileNotFoundError:
        time.sleep(1.0)
        return True
    return bool(int(caught, 16) >> (number - 1) & 1)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--speed", "-1"], "speed"),
        (["--slots", "0"], "slots"),
        (["--billing", "free"], "billing"),
        (["--host", "192.0.2.1"], "address"),
        (["--port", "99999"], "port"),
        (["--free-updates", "-1"], "free_updates"),
        (["--seconds-per-update", "nan"], "seconds_per_update"),
        (["--cards", "0"], "cards"),
    ],
)
def test_simulator_refuses(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A rule that cannot be, or an address that is not this machine's, is said in one line."""
    assert cli.main(["simulator", *arguments]) == 2
    assert words in capsys.readouterr().err


def test_the_phone_has_options(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Every parameter of the phone is an option, with the same default."""
    made: list[Device] = []
    monkeypatch.setattr(cli, "wait_for_interrupt", lambda: None)
    monkeypatch.setattr(Simulator, "start", lambda self: made.append(self.service.device) or self)
    monkeypatch.setattr(Simulator, "port", 1)
    given = ["--free-updates", "1", "--seconds-per-update", "2", "--refill-seconds", "3", "--cards", "4"]
    assert cli.main(["simulator", "--port", "0"]) == 0
    assert cli.main(["simulator", "--port", "0", *given, "--life-seconds", "5", "--stay-seconds", "6"]) == 0
    assert [made[0], made[-1]] == [Device(), Device(1, 2.0, 3.0, 4, 5.0, 6.0)]


@pytest.mark.real
def test_simulator_interrupted(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Ctrl-C ends it quietly, and the signal handlers are those from before."""
    before = signal.getsignal(signal.SIGTERM)

    def interrupt() -> None:
        """Press Ctrl-C once it waits: the first thing that it then does is to take SIGTERM."""
        assert until(lambda: signal.getsignal(signal.SIGTERM) is not before)
        time.sleep(0.2)  # from the handler to the `try` behind it
        signal.pthread_kill(main, signal.SIGINT)

    main = threading.main_thread().ident
    assert main is not None
    threading.Thread(target=interrupt).start()
    rules = ["--port", "0", "--metrics", "a, b", "--channels", "ops", "--scope", "ops", "--end-oldest", "--focus"]
    assert cli.main(["simulator", *rules]) == 0
    assert signal.getsignal(signal.SIGTERM) is before
    assert "Lock Screen: http://127.0.0.1:" in capsys.readouterr().out


def test_demo_keeps_its_page(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """With `--keep` the Lock Screen is there during the demo, and until Ctrl-C after it."""
    waited: list[bool] = []
    internals.demo_does(monkeypatch, lambda say: say("work"), lambda: waited.append(True))
    assert cli.main(["demo", "--keep"]) == 0
    assert waited == [True]
    assert "stays at http://127.0.0.1:" in capsys.readouterr().out


JOB = """
import sys, activitysmith_track as at
at.configure(outbox=sys.argv[1], exit_timeout=0.2)
at.live_progress("job")(sys.exit)("broke")
"""


def test_flush_delivers_what_is_kept(sim: Simulator, tmp_path: Path) -> None:
    """`flush --outbox` delivers what a job kept in a directory of its own; the status tells what is left."""
    account = {"ACTIVITYSMITH_API_KEY": sim.api_key, "ACTIVITYSMITH_BASE_URL": sim.base_url}
    kept = str(tmp_path / "outbox")
    fault = sim.fault("status", status=503)
    subprocess.run([sys.executable, "-c", JOB, kept], env={**os.environ, **account}, check=False, timeout=PATIENCE)
    assert run("flush", "--outbox", kept, "--timeout", "0.5", **account).returncode == 1
    fault.remove()
    assert run("flush", **account).returncode == 0
    assert sim.pushes == []
    assert run("flush", "--outbox", kept, "--timeout", "120", **account).returncode == 0
    assert [push.title for push in sim.pushes] == ["job failed"]


@pytest.mark.parametrize(
    "environment",
    [{}, {"ACTIVITYSMITH_API_KEY": "k", "ACTIVITYSMITH_TRACK": "off"}, {"ACTIVITYSMITH_API_KEY": "k", "RANK": "1"}],
)
def test_flush_that_cannot_be(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a key, or where the library is off, nothing was tried: the status is not that of success."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert cli.main(["flush"]) == 2
    assert "nothing can be delivered" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--timeout", "-1"], ["--outbox", ""]])
def test_flush_refuses(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What cannot be a timeout or a directory is said in one line."""
    monkeypatch.setenv("ACTIVITYSMITH_API_KEY", "key")
    assert cli.main(["flush", *arguments]) == 2
    assert "is not allowed" in capsys.readouterr().err


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    """The version is that of the package."""
    with pytest.raises(SystemExit) as left:
        cli.main(["--version"])
    assert left.value.code == 0
    assert capsys.readouterr().out == f"activitysmith-track {activitysmith_track.__version__}\n"


def test_unknown_command() -> None:
    """An unknown command is refused with the usage."""
    done = run("nonsense")
    assert done.returncode == 2
    assert "usage: activitysmith-track" in done.stderr
