"""Break everything on purpose: random jobs, random faults and random kills, and see that no card lies.

    python benchmarks/chaos.py --runs 1000 --seed 1 [--workers 3]
    python benchmarks/chaos.py --only 1:17

Each run is a job in a process of its own against a service on loopback, beside a twin for which the library is off.
What must hold for every run:

1. Result, exit code and traceback are the twin's (our own frames aside).
2. The job takes at most `exit_timeout` + 1 s longer than the twin. Judged here only, and measured again alone.
3. The phone shows how each block ended within 10 s of the service being back, where there is a watchdog, or else of
   the next `activitysmith-track flush`. A 429 moves the service's return by the silence that it asks for.
4. Each activity that began has one end that took effect.
5. Each failure has at least one push, and exactly one where every answer arrived; nothing else has any.
6. No secret is in anything that was sent, logged or stored.

What does not hold is printed with the source of the job; `--only` repeats it. The exit status is 1 then.
"""

from __future__ import annotations

import argparse
import contextlib
import glob
import os
import re
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from chaos_jobs import COLORS, Job, Truth, make

import activitysmith_track
from activitysmith_track.simulator import Simulator

PACKAGE = Path(activitysmith_track.__file__).parent
TRUTH_SECONDS = 10.0
FLUSH_SECONDS = 20.0  # that the command may take to deliver what is owed
SPARE_SECONDS = 1.0  # that a job may take longer, beside its `exit_timeout`
SILENCE_SECONDS = 10.0  # after a 429 that names none
LONGEST = 120.0  # seconds that a job may take at all
FRAME = re.compile(r'^( *)(?:[|+ ]*)File "[^"]*(?:activitysmith_track|wrapt)[/\\]')


class Recorder(Simulator):
    """A service that remembers every byte that it was sent, the Authorization header aside."""

    def __init__(self, api_key: str) -> None:
        super().__init__(api_key=api_key, requests_per_minute=100_000)
        self.heard: list[bytes] = []
        self.asked = 0  # requests that are being answered
        self.silence = 0.0  # seconds that a 429 asked for, the longest

    def application(self) -> Any:
        """Return what answers, with an ear at it."""
        application = super().application()

        async def overheard(scope: Any, receive: Any, send: Any) -> None:
            body = bytearray()

            async def heard() -> Any:
                message = await receive()
                body.extend(message.get("body", b""))
                return message

            headers = [b"%s: %s" % pair for pair in scope["headers"] if pair[0] != b"authorization"]
            self.heard += [scope["raw_path"], scope["query_string"], *headers]
            self.asked += 1
            try:
                await application(scope, heard, send)
            finally:
                self.asked -= 1
                self.heard.append(bytes(body))

        return overheard


@dataclass
class Ran:
    """What a process did."""

    code: int
    out: str
    error: str
    seconds: float


@dataclass
class Verdict:
    """What came of one run.

    Attributes:
        name: how `--only` calls it.
        job: the job.
        wrong: what did not hold.
        added: seconds that the job took longer than its twin, or `None` where that is not measured.
        truth: seconds from the service's return (or the flush, or the end of the job) until the phone told the truth.
        notes: what is counted, and no violation.
    """

    name: str
    job: Job
    wrong: list[str] = field(default_factory=list)
    added: float | None = None
    truth: float | None = None
    notes: list[str] = field(default_factory=list)


class Slots:
    """How many processes run at once; all of the slots make sure that one runs alone.

    Args:
        number: how many.
    """

    def __init__(self, number: int) -> None:
        self._number, self._slots, self._taking = number, threading.Semaphore(number), threading.Lock()

    def __enter__(self) -> None:
        with self._taking:
            self._slots.acquire()

    def __exit__(self, *_: object) -> None:
        self._slots.release()

    @contextlib.contextmanager
    def all(self) -> Iterator[None]:
        """Wait until nothing else runs."""
        with self._taking:
            for _ in range(self._number):
                self._slots.acquire()
        try:
            yield
        finally:
            self._slots.release(self._number)


class Run:
    """One job, its twin, and the judgement.

    Args:
        seed: of all jobs.
        index: of this one.
        place: a directory of its own.
        slots: of jobs that run at once.
        timed: whether the added time is judged.
    """

    def __init__(self, seed: int, index: int, place: Path, slots: Slots, *, timed: bool = True) -> None:
        self.job = make(seed, index)
        self.verdict = Verdict(f"{seed}:{index}", self.job)
        self.place, self._slots, self._timed = place, slots, timed
        self._key = f"key-{seed}-{index}-{self.job.secret}"
        self._script = place / "job.py"
        self._script.write_text(self.job.code)
        (place / "lib").mkdir()
        (place / "lib" / "activitysmith_track").symlink_to(PACKAGE)  # tells this run's watchdogs from all others
        self._back = 0.0

    def judge(self) -> Verdict:
        """Run it, and see what holds."""
        job, verdict = self.job, self.verdict
        with self._slots:
            twin = self._twin()
        with Recorder(self._key) as sim:
            with self._slots:
                ran = self._meet(sim)
            self._await_truth(sim)
            self._look_for_secrets(sim)
        self._end_watchdogs()
        self._same(twin, ran)
        if self._timed and not job.dies and job.outside is None:
            self._time(twin, ran)
        return verdict

    def wrong(self, number: int, words: str) -> None:
        """Note that something does not hold."""
        self.verdict.wrong.append(f"({number}) {words}")

    # -- the processes

    def _environment(self, name: str, base_url: str) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("ACTIVITYSMITH_")}
        return {
            **kept,
            "PYTHONPATH": str(self.place / "lib"),
            "ACTIVITYSMITH_API_KEY": self._key,
            "ACTIVITYSMITH_BASE_URL": base_url,
            "XDG_STATE_HOME": str(self.place / name),
            "CHAOS_LOG": str(self.place / f"{name}.log"),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONSAFEPATH": "",  # `-m` finds the job in its directory
            "PYTHONWARNINGS": "ignore::DeprecationWarning",  # of a fork beside threads, from 3.12 on
        }

    def _start(self, name: str, base_url: str, **more: str) -> subprocess.Popen[str]:
        module = ["-m", "job"] if self.job.how["mode"] == "module" else [str(self._script)]
        with (self.place / f"{name}.err").open("wb") as error:
            return subprocess.Popen(
                [sys.executable, *module],
                env={**self._environment(name, base_url), **more},
                cwd=self.place,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=error,
                text=True,
            )

    def _run(self, name: str, base_url: str, **more: str) -> Ran:
        began = time.monotonic()
        process = self._start(name, base_url, **more)
        timer = threading.Timer(LONGEST, process.kill)
        timer.start()
        out = ""
        assert process.stdout is not None
        for line in process.stdout:  # not to the end of the pipe: a child may hold it open
            if line.startswith("ready ") and self.job.outside is not None:
                self._kill_later(int(line.split()[1]), process)
                line = "ready\n"
            out += line
        code = process.wait()
        process.stdout.close()
        timer.cancel()
        error = (self.place / f"{name}.err").read_text(errors="replace")
        return Ran(code, out, error, time.monotonic() - began)

    def _kill_later(self, pid: int, process: subprocess.Popen[str]) -> None:
        assert self.job.outside is not None
        name, seconds = self.job.outside

        def kill() -> None:
            time.sleep(seconds)
            if process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, getattr(signal, name))

        threading.Thread(target=kill, daemon=True).start()

    def _twin(self) -> Ran:
        return self._run("twin", "http://127.0.0.1:9", ACTIVITYSMITH_TRACK="off")

    def _meet(self, sim: Recorder) -> Ran:
        """Run the job while the service has its troubles; returns when both are over."""
        exited, over = threading.Event(), threading.Event()
        watcher = threading.Thread(target=self._trouble, args=(sim, exited, over), daemon=True)
        began = threading.Event()
        self._began = began
        watcher.start()
        began.wait()
        ran = self._run("job", sim.base_url)
        self._back = time.monotonic()
        exited.set()
        self._stored()
        over.wait()
        self._back = max(self._back, self._over_at) + sim.silence
        return ran

    def _trouble(self, sim: Recorder, exited: threading.Event, over: threading.Event) -> None:
        """Set the faults and take them away again, each at its time."""
        start = time.monotonic() + 1e9
        exit_at: float | None = None
        waiting, on = list(self.job.troubles), list[tuple[Any, Any]]()
        for trouble in [each for each in waiting if each.begins < 0]:
            waiting.remove(trouble)
            on.append((trouble, sim.fault(trouble.kind, **trouble.fields)))
        start = time.monotonic()
        self._began.set()
        while waiting or on or not exited.is_set():
            now = time.monotonic()
            if exited.is_set() and exit_at is None:
                exit_at = now
            for trouble in [each for each in waiting if now - start >= each.begins]:
                waiting.remove(trouble)
                on.append((trouble, sim.fault(trouble.kind, **trouble.fields)))
            for trouble, fault in list(on):
                since = exit_at if trouble.after_exit else start
                if since is not None and now - since >= trouble.ends:
                    on.remove((trouble, fault))
                    self._take_away(sim, fault)
            if exit_at is not None:  # what has not begun by then never does
                waiting = []
            time.sleep(0.02)
        self._over_at = time.monotonic()
        over.set()

    def _take_away(self, sim: Recorder, fault: Any) -> None:
        fault.remove()
        if fault.kind == "status" and fault.status == 429 and fault.hits:
            asked = SILENCE_SECONDS if fault.retry_after is None else float(fault.retry_after)
            sim.silence = max(sim.silence, asked)
        if fault.kind == "refuse":
            time.sleep(0.1)  # until it listens again

    def _watchdogs(self) -> list[Path]:
        """Return where /proc tells of this run's watchdogs."""
        found = []
        for path in glob.glob("/proc/[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                arguments = Path(path).read_bytes()
                if b"watchdog.process" in arguments and str(self.place).encode() in arguments:
                    found.append(Path(path).parent)
        return found

    def _end_watchdogs(self) -> None:
        """End those that would try for an hour to say to a service that is gone what somebody else has said."""
        for path in self._watchdogs():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(path.name), signal.SIGKILL)

    # -- the judgement

    def _same(self, twin: Ran, ran: Ran) -> None:
        """Invariant 1."""
        if not self.job.same_exit:
            return
        if ran.code != twin.code:
            self.wrong(1, f"exit code {ran.code}, without us {twin.code}; {ran.error[-500:]}")
        if ran.out != twin.out:
            self.wrong(1, f"it said {ran.out!r}, without us {twin.out!r}")
        if plain(ran.error) != plain(twin.error):
            self.wrong(1, f"its errors were\n{ran.error}\nwithout us\n{twin.error}")

    def _time(self, twin: Ran, ran: Ran) -> None:
        """Invariant 2: where it seems broken, measured again, since the machine may have been busy."""
        added = ran.seconds - twin.seconds
        if "child" in self.job.cards:  # whose exit the job waits for
            added -= self.job.exit_timeout
        for again in range(2):
            if added <= self.job.exit_timeout + SPARE_SECONDS:
                break
            with Recorder(self._key) as sim, self._slots.all():
                added = min(added, self._meet_again(sim, again) - self._twin().seconds)
        self.verdict.added = added
        if added > self.job.exit_timeout + SPARE_SECONDS:
            self.wrong(2, f"it took {added:.2f} s longer, with an exit_timeout of {self.job.exit_timeout}")

    def _meet_again(self, sim: Recorder, again: int) -> float:
        return self._meet(sim).seconds

    def _await_truth(self, sim: Recorder) -> None:
        """Invariants 3, 4 and 5."""
        since = max(self._back, self._answered(sim))
        if self._left and self.job.watchdog:
            self.verdict.notes.append("left to the outbox before the watchdog stood")
        if (self._left or not self.job.watchdog) and self._lies(sim):
            flushed = self._flush(sim)
            since = time.monotonic()
            self.verdict.notes.append("flushed")
            if flushed.returncode:
                self.verdict.notes.append("flush incomplete")
        lies = self._settle(sim, since)
        self._rest(sim)
        if not lies and self._lies(sim):
            lies = [f"{lie}, after it had been right" for lie in self._settle(sim, since)]
        for lie in lies:
            self.wrong(3, lie)
        self._ends(sim)
        self._pushes(sim)

    def _settle(self, sim: Recorder, since: float) -> list[str]:
        """Wait until the phone tells the truth; returns what it does not tell in time."""
        while (lies := self._lies(sim)) and time.monotonic() < since + TRUTH_SECONDS:
            time.sleep(0.02)
        self.verdict.truth = max(0.0, time.monotonic() - since)
        return lies

    def _answered(self, sim: Recorder) -> float:
        """Wait until no request is held up any more, and return when that was: then the service is back."""
        until = time.monotonic() + 15
        while sim.asked and time.monotonic() < until:
            time.sleep(0.02)
        return time.monotonic()

    def _rest(self, sim: Recorder) -> None:
        """Wait until nothing is on its way any more."""
        until = time.monotonic() + 15
        quiet = time.monotonic()
        seen = -1
        while time.monotonic() < until and time.monotonic() - quiet < 0.6:
            if sim.asked or len(sim.heard) != seen:
                quiet, seen = time.monotonic(), len(sim.heard)
            time.sleep(0.02)

    def _flush(self, sim: Recorder) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "activitysmith_track", "flush", "--timeout", str(FLUSH_SECONDS)],
            env=self._environment("job", sim.base_url),
            cwd=self.place,
            capture_output=True,
            text=True,
            timeout=LONGEST,
        )
        with (self.place / "job.log").open("a") as log:
            log.write(done.stdout + done.stderr)
        return done

    def _lies(self, sim: Recorder) -> list[str]:
        """Return what the phone does not show as it was."""
        cards = sim.cards
        lies = []
        for key, truth in self.job.cards.items():
            lie = lies_of(cards.get(key), truth)
            if lie and self._never_appeared(sim, key):
                lie = lies_of(cards[key], Truth("done", handle=cards[key].type))  # what it says of the run before
            lies += [f"{key}: {lie}"] if lie else []
        told = Counter(push.title for push in sim.pushes)
        lies += [f"no push {title!r}" for title, most in self.job.pushes.items() if not told[title]]
        return lies

    def _never_appeared(self, sim: Recorder, key: str) -> bool:
        """Tell whether only the first of two blocks of the same name came to the screen."""
        puts = [each for each in sim.requests if each.method == "PUT" and each.path.endswith(f"/{key}")]
        began = [each for each in puts if each.answer.get("operation") in ("started", "rotated")]
        return self.job.how["shape"] == "again" and len(began) == 1

    def _ends(self, sim: Recorder) -> None:
        began, ended = Counter[str](), Counter[str]()
        for request in sim.requests:
            if request.path.startswith("/live-activity/stream/") and request.answer.get("success"):
                key = request.path.rpartition("/")[2]
                if request.answer.get("operation") in ("started", "rotated"):
                    began[key] += 1
                ended[key] += request.answer.get("operation") == "rotated"
                if request.method == "DELETE" and not request.answer.get("ignored"):
                    ended[key] += 1
        for key in began:
            if ended[key] != began[key]:
                self.wrong(4, f"{key} began {began[key]} times and was ended {ended[key]} times")
            if key not in self.job.cards:
                self.wrong(3, f"there is a card {key} that nobody asked for")
            if began[key] > 1 + (self.job.how["shape"] == "again"):
                self.verdict.notes.append("began again after its end")

    def _pushes(self, sim: Recorder) -> None:
        told = Counter(push.title or "" for push in sim.pushes)
        ways = [request for request in sim.requests if request.path == "/push-notification"]
        arrived = all(request.fault is None for request in ways)
        arrived &= not self.job.dies and self.job.exit_timeout >= 2  # else it may have left before an answer came
        log = self.place / "job.log"
        lines = log.read_text(errors="replace") if log.exists() else ""
        too_late = ("could not deliver a push", "not delivered in time")
        arrived &= not any(words in lines for words in too_late)
        for title, count in told.items():
            wanted = self.job.pushes.get(title, 0)
            if not wanted and title == "inner failed" and self.job.how["end"] == "killed at exit":
                self.verdict.notes.append("killed before the outer block took over the push of the inner one")
            elif not wanted:
                self.wrong(5, f"a push that nobody asked for: {[push.body for push in sim.pushes]}")
            elif count > wanted and arrived:
                self.wrong(5, f"{count} pushes {title!r}, although every answer arrived")
            elif count > wanted:
                self.verdict.notes.append("a push came twice")

    # -- secrets

    def _stored(self) -> None:
        """Note what is stored, and what the watchdogs' arguments are, while they are there."""
        self._left = left_in(self.place / "job")
        self._kept = [path.read_bytes() for path in (self.place / "job").rglob("*") if path.is_file()]
        for path in self._watchdogs():
            with contextlib.suppress(OSError):
                self._kept += [(path / "cmdline").read_bytes(), (path / "environ").read_bytes()]

    def _look_for_secrets(self, sim: Recorder) -> None:
        """Invariant 6."""
        stored = [path.read_bytes() for path in (self.place / "job").rglob("*") if path.is_file()]
        log = self.place / "job.log"
        logged = log.read_bytes() if log.exists() else b""
        if b"internal error" in logged or b"Traceback" in logged:
            self.wrong(1, f"an error of our own: {logged.decode(errors='replace')[-2_000:]}")
        places = {"sent": sim.heard, "stored": [*stored, *self._kept], "logged": [logged]}
        for secret in (self._key, self.job.secret):
            for place, contents in places.items():
                if any(secret.encode() in content for content in contents):
                    self.wrong(6, f"{'the key' if secret == self._key else 'a secret'} was {place}")


def lies_of(card: Any, truth: Truth) -> str | None:
    """Return how a card differs from how its block ended, or `None`; one that never appeared says nothing."""
    if card is None:
        return None
    if not card.ended:
        return f"it still runs, and the block is {truth.kind}"
    color = (card.icon or {}).get("color") if truth.handle == "stats" else card.color
    if color != COLORS[truth.kind]:
        return f"it is {color} ({card.subtitle!r}), and the block is {truth.kind}"
    if truth.percentage is None or card.percentage == truth.percentage:
        return None
    if not truth.exact and card.percentage <= truth.percentage:
        return None
    return f"it is at {card.percentage} %, and the block at {truth.percentage} %"


def left_in(place: Path) -> int:
    """Return how many entries an outbox holds that nobody tries to deliver."""
    left = 0
    for path in place.rglob("*.sqlite"):
        with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(path, timeout=2)) as base:
            left += base.execute("SELECT count(*) FROM entries WHERE owner IS NULL").fetchone()[0]
    return left


def plain(error: str) -> str:
    """Return a traceback without the frames that are ours."""
    lines: list[str] = []
    dropping = False
    for line in error.splitlines():
        if line.lstrip(" |+").startswith("File "):
            dropping = bool(FRAME.match(line))
        elif not line.startswith("    "):
            dropping = False
        if not dropping:
            lines.append(line)
    return "\n".join(lines)


# ------------------------------------------------------------------------------------------------------- all of them


def all_of(seed: int, indices: list[int], workers: int, *, timed: bool = True) -> Iterator[Verdict]:
    """Judge many jobs, so many at once, and yield each verdict as it comes.

    Args:
        seed: of all jobs.
        indices: of the jobs.
        workers: how many processes run at once; as many again may wait for their service.
        timed: whether the added time is judged.
    """
    slots = Slots(workers)

    def one(index: int) -> Verdict:
        with tempfile.TemporaryDirectory(prefix="chaos-", ignore_cleanup_errors=True) as place:
            run = Run(seed, index, Path(place), slots, timed=timed)
            try:
                return run.judge()
            except Exception as error:
                run.wrong(0, f"the benchmark itself failed: {error!r}")
                return run.verdict

    with ThreadPoolExecutor(2 * workers) as pool:
        yield from pool.map(one, indices)


def describe(verdict: Verdict) -> str:
    """Write a violation down so that it can be repeated."""
    how = ", ".join(f"{name}: {value}" for name, value in verdict.job.how.items())
    service = "\n".join(f"#   {trouble}" for trouble in verdict.job.troubles) or "#   healthy"
    wrong = "\n".join(verdict.wrong)
    return f"\nVIOLATION in {verdict.name} ({how})\n{wrong}\n# the service:\n{service}\n{verdict.job.code}"


def figures(name: str, values: list[float]) -> str:
    """Write the median, the 95th percentile and the worst of some seconds."""
    if not values:
        return f"{name}: none"
    ordered = sorted(values)
    high = ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))]
    return f"{name}: median {statistics.median(ordered):.2f} s, 95th {high:.2f} s, worst {ordered[-1]:.2f} s"


def report(verdicts: list[Verdict]) -> str:
    """Write down what came of all of them."""
    lines = []
    for name in ("mode", "shape", "end", "child", "watchdog", "faults"):
        counts = Counter(verdict.job.how.get(name) for verdict in verdicts)
        counts.pop(None, None)
        lines.append(f"{name}: " + ", ".join(f"{each} {count}" for each, count in counts.most_common()))
    notes = Counter(note for verdict in verdicts for note in verdict.notes)
    lines.append("notes: " + (", ".join(f"{note} {count}" for note, count in notes.items()) or "none"))
    lines.append(figures("added time", [each.added for each in verdicts if each.added is not None]))
    for name, asked in (("with a watchdog", True), ("by exit or flush", False)):
        truths = [each.truth for each in verdicts if each.truth is not None and each.job.watchdog is asked]
        lines.append(figures(f"time to truth {name}", truths))
    wrong = [verdict for verdict in verdicts if verdict.wrong]
    lines.append(f"{len(verdicts)} runs, {len(wrong)} with violations: " + " ".join(each.name for each in wrong))
    return "\n".join(lines)


def main() -> int:
    """Run them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="the index of the first run")
    parser.add_argument("--workers", type=int, default=3, help="jobs at once")
    parser.add_argument("--only", metavar="SEED:INDEX", help="one run, and its source")
    given = parser.parse_args()
    seed, indices = given.seed, list(range(given.first, given.first + given.runs))
    if given.only:
        seed, index = map(int, given.only.split(":"))
        indices = [index]
    verdicts = []
    for verdict in all_of(seed, indices, given.workers):
        verdicts.append(verdict)
        if verdict.wrong or given.only:
            print(describe(verdict), flush=True)
        elif len(verdicts) % 50 == 0:
            print(f"{len(verdicts)} runs", flush=True)
    print(report(verdicts))
    return any(verdict.wrong for verdict in verdicts)


if __name__ == "__main__":
    sys.exit(main())
