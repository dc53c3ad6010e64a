"""Random jobs for `chaos.py`: their source, how they must end, and what the service does to them meanwhile."""

from __future__ import annotations

import random
import textwrap
from dataclasses import dataclass, field
from typing import Any, NamedTuple

COLORS = {"done": "green", "failed": "red", "stopped": "gray"}

HEAD = '''\
import asyncio, contextlib, ctypes, json, logging, multiprocessing, os, signal, sys, threading, time

import activitysmith_track as at

KEY = os.environ["ACTIVITYSMITH_API_KEY"]
ON = os.environ.get("ACTIVITYSMITH_TRACK") != "off"
logging.getLogger("activitysmith_track").addHandler(logging.FileHandler(os.environ["CHAOS_LOG"]))
logging.getLogger("activitysmith_track").propagate = False
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell ignores it for what runs in its background
signal.signal(signal.SIGHUP, signal.SIG_DFL)
at.configure(exit_timeout={exit_timeout}, signals={signals}, watchdog={watchdog})


def say(*words):
    print(*words, flush=True)


def nap(seconds):
    time.sleep(seconds)


def guarded():
    """Wait until the watchdog, where there is one, stands and knows of the cards and of the failures so far."""
    dispatcher = at._tracker.default_tracker().dispatcher
    until = time.monotonic() + 30
    while ON and not dispatcher.persistence.guard.watches and time.monotonic() < until:
        time.sleep(0.01)
    def told():
        owed = dispatcher.ledger.owed
        messages = [task.message for task in owed if hasattr(task, "message")]
        ends = [each for each in messages if hasattr(each, "activity") and each.activity.is_armed]
        return (
            all(each.entry for each in messages if getattr(each, "at_least_once", False))
            and all(each.entry or each._armed is each.state for each in ends)
            and all(each.is_armed is not None or each.end_delivery for each in dispatcher.opened)
        )
    while ON and not told() and time.monotonic() < until:
        time.sleep(0.01)
    if ON:
        dispatcher.persistence.guard.watchdog.tell(10)
    time.sleep(0.3)


'''


class Truth(NamedTuple):
    """What a card must show in the end.

    Attributes:
        kind: `done`, `failed` or `stopped`.
        percentage: what it must show, or `None` for anything.
        exact: False where it may show less: the job was killed, and nobody knows it better.
        handle: the kind of the handle.
    """

    kind: str
    percentage: int | None = None
    exact: bool = True
    handle: str = "progress"


class Trouble(NamedTuple):
    """A fault: its kind and fields, when it begins, and when it ends.

    Attributes:
        begins: seconds after the start of the job; negative for before it.
        ends: seconds after the start of the job, or after its end where `after_exit`.
    """

    kind: str
    fields: dict[str, Any]
    begins: float
    ends: float
    after_exit: bool

    def __str__(self) -> str:
        till = f"{self.ends:.1f} s after the {'exit' if self.after_exit else 'start'}"
        return f"{self.kind} {self.fields} from {self.begins:.1f} s to {till}"


@dataclass
class Job:
    """A job and what must come of it.

    Attributes:
        code: its source.
        prologue: what comes first in it.
        cards: what the cards must show, by stream key.
        pushes: how many pushes there must be, by title.
        how: the dimensions by their names.
        outside: what is done to it from outside, and how many seconds after it said so.
        dies: True where it is killed, so that no time is measured.
        same_exit: False where its exit depends on when it is killed.
    """

    code: str = ""
    prologue: str = ""
    cards: dict[str, Truth] = field(default_factory=dict)
    pushes: dict[str, int] = field(default_factory=dict)
    how: dict[str, str] = field(default_factory=dict)
    secret: str = ""
    exit_timeout: float = 2.0
    watchdog: bool = False
    signals: bool = False
    seconds: float = 1.0
    outside: tuple[str, float] | None = None
    dies: bool = False
    same_exit: bool = True
    troubles: list[Trouble] = field(default_factory=list)


# ------------------------------------------------------------------------------------------------------ the endings

PLAIN = {
    "return": ("", "done"),
    "exception": ('raise ValueError("broken")', "failed"),
    "chained": (
        'try:\n    {}["shard"]\nexcept KeyError as error:\n    raise RuntimeError("while reading") from error',
        "failed",
    ),
    "context": ('try:\n    1 / 0\nexcept ZeroDivisionError:\n    raise RuntimeError("while cleaning up")', "failed"),
    "secret": (
        'raise RuntimeError("password=SECRET at https://user:SECRET@db.example/", "Bearer SECRET", KEY)',
        "failed",
    ),
    "exit none": ("sys.exit()", "done"),
    "exit 0": ("sys.exit(0)", "done"),
    "exit 3": ("sys.exit(3)", "failed"),
    "exit text": ('sys.exit("no space left")', "failed"),
    "interrupt": ("raise KeyboardInterrupt", "stopped"),
}
SIGINT = {"sigint": ("os.kill(os.getpid(), signal.SIGINT)\nnap(0.5)", "stopped")}
EXPLICIT = {
    "finish": ("p.finish()", "done"),
    "fail": ('p.fail("the tape is full, token=SECRET")', "failed"),
    "cancel": ("p.cancel()", "stopped"),
}
SIGNALS = {
    "sigterm": ("os.kill(os.getpid(), signal.SIGTERM)\nnap(0.5)", "stopped"),
    "sighup": ("os.kill(os.getpid(), signal.SIGHUP)\nnap(0.5)", "stopped"),
    "sigterm handled": ("os.kill(os.getpid(), signal.SIGTERM)\nnap(0.5)", "stopped"),
    "sigterm handled later": (
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(9))\nos.kill(os.getpid(), signal.SIGTERM)\nnap(0.5)",
        "failed",
    ),
}
DEATHS = {
    "kill": ("guarded()\nos.kill(os.getpid(), signal.SIGKILL)", "failed"),
    "_exit": ("guarded()\nos._exit(0)", "failed"),
    "segfault": ("guarded()\nctypes.string_at(0)", "failed"),
    "abort": ("guarded()\nos.abort()", "failed"),
    "killed outside": ('guarded()\nsay("ready", os.getpid())\nnap(30)', "failed"),
    "killed at exit": ('guarded()\nsay("ready", os.getpid())\nraise ValueError("broken")', "failed"),
}

HANDLES = ("progress", "steps", "timer", "countdown", "metrics", "stats", "value", "alert")
MODES = ("plain", "module", "thread", "daemon", "fork", "mp fork", "mp spawn", "asyncio")


class Maker:
    """Makes one random job.

    Args:
        rng: where the chances come from.
    """

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.job = Job(secret=f"S{rng.randrange(10**9):09d}x", exit_timeout=rng.choice([2.0, 2.0, 2.0, 0.5, 0.0]))
        self.percentage: int | None = None

    def make(self) -> Job:
        """Make it."""
        rng, job = self.rng, self.job
        mode = rng.choice(MODES)
        shapes = ["block", "block", "nested", "several", "sequence", "again", "caught"]
        if mode == "asyncio":
            shapes = ["block", "block", "async function", "async generator", "cancelled task", "notify", "async loop"]
        elif mode == "daemon":
            shapes = ["block"]
        elif mode != "fork":
            shapes += ["loop", "loop", "function", "generator", "notify", "decorated"]
        shape = rng.choice(shapes)
        job.watchdog = rng.random() < 0.5
        job.how.update(mode=mode, shape=shape)
        body, decoration = getattr(self, "_" + shape.replace(" ", "_"))(mode)
        job.code = self._whole(mode, body, decoration)
        job.how.update(watchdog=str(job.watchdog), exit_timeout=str(job.exit_timeout))
        job.troubles = troubles(rng, job)
        kinds = sorted({trouble.kind for trouble in job.troubles})
        job.how["faults"] = "+".join(kinds) or "none"
        return job

    # -- pieces

    def _ending(self, mode: str, *groups: dict[str, tuple[str, str]]) -> tuple[str, str]:
        rng, job = self.rng, self.job
        group = rng.choice(groups)
        name = rng.choice(list(group))
        code, kind = group[name]
        job.how["end"] = name
        if name == "sigint" and mode == "asyncio":  # which cancels the task when it next waits
            code = code.replace("nap(0.5)", "await asyncio.sleep(0.5)")
        if name in DEATHS:
            job.watchdog = job.dies = True
        if group is SIGNALS:
            job.signals = True
        if name == "sigterm handled":
            job.prologue = "signal.signal(signal.SIGTERM, lambda *_: sys.exit(9))\n\n\n"
        if name == "killed outside":
            job.outside = ("SIGKILL", rng.uniform(0, 1.0))
        if name == "killed at exit":
            job.outside, job.same_exit = ("SIGKILL", rng.uniform(0, 2.5)), False
        return code.replace("SECRET", job.secret), kind

    def _groups(self, mode: str) -> list[dict[str, tuple[str, str]]]:
        groups = [PLAIN, PLAIN, EXPLICIT]
        if mode in ("plain", "module", "fork", "asyncio"):
            groups += [SIGINT, SIGNALS, DEATHS]
        if mode in ("mp fork", "mp spawn", "thread"):
            groups += [DEATHS]
        return groups

    def _nap(self, most: float = 0.4) -> str:
        seconds = self.rng.choice([0.0, self.rng.uniform(0, most)])
        self.job.seconds += seconds
        return f"nap({seconds:.2f})\n"

    def _card(self, name: str, extra: str = "") -> tuple[str, str, str]:
        """Return the call that makes a handle, the work on it as `p`, and its kind."""
        kind = self.rng.choice(HANDLES)
        count, total = 0, 0
        if kind == "progress":
            total = self.rng.randint(3, 40)
            count = self.rng.choice([total, self.rng.randint(0, total)])
            make = f'at.live_progress("{name}", total={total}{extra})'
            work = f"for _ in range({count}):\n    p.advance()\n    nap({self.rng.choice([0, 0.005])})\n"
        elif kind == "steps":
            make = f'at.live_steps("{name}", steps=["get", "build", "put"]{extra})'
            work = "".join(f'p.step("{step}")\n{self._nap(0.2)}' for step in ("get", "build", "put")[: count or 2])
        elif kind in ("timer", "countdown"):
            make = f'at.live_timer("{name}"{", duration=60" if kind == "countdown" else ""}{extra})'
            work = self.rng.choice(["", "p.pause()\nnap(0.1)\np.resume()\n"])
        elif kind in ("metrics", "stats"):
            make = f'at.live_{kind}("{name}", {{"loss": 1.5, "epoch": 0}}{extra})'
            work = "for i in range(5):\n    p.set(epoch=i)\n    nap(0.01)\n"
        else:
            make = f'at.live_{kind}("{name}"{extra})'
            work = 'p.set("almost there")\n' if kind == "alert" else "p.set(21)\np.set(42)\n"
        self.percentage = None if not total else 100 * count // total if count == total else rounded(count, total)
        return make, self._nap() + work + self._nap(), kind

    def _expect(self, key: str, outcome: str, handle: str) -> None:
        percentage = self.percentage
        if percentage == 100 and outcome != "done":
            percentage = 99
        self.job.cards[key] = Truth(outcome, percentage, not self.job.dies, handle)

    # -- shapes: each returns the body of the job, and definitions before it

    def _block(self, mode: str) -> tuple[str, str]:
        make, work, handle = self._card("alpha")
        if mode == "daemon":
            self.job.how["end"] = "daemon left"
            self._expect("alpha", "stopped", handle)
            return f"with {make} as p:\n{indent(work)}    working.set()\n    nap(60)\n", ""
        code, outcome = self._ending(mode, *self._groups(mode))
        self._expect("alpha", outcome, handle)
        self._failure("alpha", outcome)
        fork = self._fork() if mode == "fork" else ""
        keyword = "async with" if mode == "asyncio" and self.rng.random() < 0.7 else "with"
        return f"{keyword} {make} as p:\n{indent(work + fork + code)}    pass\nreturn 'returned'\n", ""

    def _failure(self, name: str, outcome: str) -> None:
        if outcome == "failed":
            self.job.pushes[f"{name} failed"] = self.job.pushes.get(f"{name} failed", 0) + 1

    def _fork(self) -> str:
        child = self.rng.choice(
            [
                "os._exit(0)\n",
                "sys.exit(0)\n",
                "sys.exit(4)\n",
                'raise ValueError("in the child")\n',
                'with at.live_progress("child", total=4) as c:\n    c.advance(4)\nsys.exit(0)\n',
            ]
        )
        if "live_progress" in child:
            self.job.cards["child"] = Truth("done", 100)
        self.job.how["child"] = child.split("\n")[0]
        return f"pid = os.fork()\nif pid == 0:\n{indent(child)}say(os.waitpid(pid, 0)[1])\n"

    def _nested(self, mode: str) -> tuple[str, str]:
        make, work, handle = self._card("outer")
        outer = self.percentage
        inner, more, _ = self._card("inner")
        groups = [PLAIN, PLAIN] + ([SIGNALS, DEATHS] if mode in ("plain", "module", "fork") else [])
        code, outcome = self._ending(mode, *groups)
        fork = self._fork() if mode == "fork" else ""
        self.percentage = outer
        self._expect("outer", outcome, handle)
        self._failure("outer", outcome)
        block = f"with {inner} as p:\n{indent(more + fork + code)}    pass\n"
        return f"with {make} as p:\n{indent(work + block)}return 'returned'\n", ""

    def _several(self, mode: str) -> tuple[str, str]:
        names = ("one", "two", "three")[: self.rng.randint(2, 3)]
        made = [(name, *self._card(name, f', key="{name}"'), self.percentage) for name in names]
        groups = [PLAIN, PLAIN] + ([SIGNALS, DEATHS, DEATHS] if mode in ("plain", "module", "fork") else [])
        code, outcome = self._ending(mode, *groups)
        fork = self._fork() if mode == "fork" else ""
        block = fork + code + "\n"
        for name, make, work, handle, percentage in reversed(made):
            self.percentage = percentage
            self._expect(name, outcome, handle)
            block = f"with {make} as p:\n{indent(work + block)}    pass\n"
        self._failure("one", outcome)
        return block + "return 'returned'\n", ""

    def _sequence(self, mode: str) -> tuple[str, str]:
        first, work, handle = self._card("first")
        self._expect("first", "done", handle)
        block = f"with {first} as p:\n{indent(work)}" + self._nap()
        second, more, other = self._card("second")
        groups = [PLAIN, PLAIN] + ([SIGNALS, DEATHS] if mode in ("plain", "module", "fork") else [])
        code, outcome = self._ending(mode, *groups)
        fork = self._fork() if mode == "fork" else ""
        exact = self.job.cards["first"]
        self._expect("second", outcome, other)
        self.job.cards["first"] = exact._replace(exact=True)
        self._failure("second", outcome)
        return f"{block}with {second} as p:\n{indent(more + fork + code)}    pass\nreturn 'returned'\n", ""

    def _again(self, mode: str) -> tuple[str, str]:
        first, work, _ = self._card("alpha")
        block = f"with {first} as p:\n{indent(work)}" + self._nap()
        more, _ = self._block(mode)
        return block + more, ""

    def _caught(self, mode: str) -> tuple[str, str]:
        first, work, handle = self._card("first")
        self._expect("first", "failed", handle)
        self._failure("first", "failed")
        caught = f'try:\n    with {first} as p:\n{indent(indent(work))}        raise OSError("flaky")\n'
        caught += "except OSError:\n    say('caught')\n" + self._nap(1.5)
        exact = self.job.cards["first"]
        body, _ = self._block(mode) if self.rng.random() < 0.7 else self._dies_after()
        self.job.cards["first"] = exact
        return caught + body, ""

    def _dies_after(self) -> tuple[str, str]:
        """Die outside of any block: what was owed is delivered all the same."""
        code, _ = self._ending("plain", {name: DEATHS[name] for name in ("kill", "_exit", "abort", "segfault")})
        return code + "\n", ""

    def _loop(self, mode: str) -> tuple[str, str]:
        total = self.rng.randint(2, 30)
        at = self.rng.randrange(total)
        source, known = self.rng.choice(
            [
                (f"range({total})", True),
                (f"list(range({total}))", True),
                (f"iter(range({total}))", True),
                (f"(n for n in range({total}))", False),
                (f'map(str, "x" * {total})', False),
            ]
        )
        groups = {
            "exhausted": ("pass", "done"),
            "break": (f"if i == {at}:\n    break", "stopped"),
            "raised": (f"if i == {at}:\n    raise ValueError('at ' + str(i))", "failed"),
            "returned": (f"if i == {at}:\n    return i", "stopped"),
        }
        code, outcome = self._ending(mode, groups)
        if outcome == "failed" and mode in ("mp fork", "mp spawn"):
            outcome = "stopped"  # multiprocessing catches what leaves the loop, so that no hook hears of it
        self.percentage = (100 if outcome == "done" else rounded(at, total)) if known else None
        self._expect("loop", outcome, "progress" if known else "timer")
        self._failure("loop", outcome)
        pause = f"nap({self.rng.choice([0, 0.01, 0.03])})\n"
        return (
            f"for i, _ in enumerate(at.track({source}, 'loop')):\n{indent(pause + code)}"
            f"say('after')\n{self._nap()}return 'returned'\n"
        ), ""

    def _async_loop(self, mode: str) -> tuple[str, str]:
        total = self.rng.randint(2, 20)
        groups = {"exhausted": ("pass", "done"), "raised": ("raise ValueError(i)", "failed")}
        code, outcome = self._ending(mode, groups)
        self._expect("loop", outcome, "timer")
        self._failure("loop", outcome)
        inside = "await asyncio.sleep(0.01)\nyield i\n"
        items = f"async def items():\n    for i in range({total}):\n{indent(indent(inside))}\n\n"
        return f"async for i in at.track(items(), 'loop'):\n{indent(code)}return 'returned'\n", items

    def _function(self, mode: str) -> tuple[str, str]:
        groups = [PLAIN, PLAIN] + ([SIGNALS, DEATHS] if mode in ("plain", "module") else [])
        code, outcome = self._ending(mode, *groups)
        self._expect("backup", outcome, "steps")
        self._failure("backup", outcome)
        work = f"{self._nap()}at.step('put')\n{self._nap()}p = at.current()\n"
        decorated = f"@at.track_steps('backup', steps=['get', 'put'])\ndef backup():\n{indent(work + code)}"
        return "return backup()\n", decorated + "    return 'backed up'\n\n\n"

    def _decorated(self, mode: str) -> tuple[str, str]:
        make, work, handle = self._card("decorated")
        code, outcome = self._ending(mode, PLAIN)
        self._expect("decorated", outcome, handle)
        self._failure("decorated", outcome)
        body = f"p = at.current()\n{work}{code}\n"
        return "return decorated()\n", f"@{make}\ndef decorated():\n{indent(body)}    return 'decorated'\n\n\n"

    def _generator(self, mode: str) -> tuple[str, str]:
        close, outcome = self._ending(
            mode,
            {
                "generator exhausted": ("pass", "done"),
                "generator closed": ("if i == 2:\n    break", "stopped"),
                "generator failed": ("pass", "failed"),
                "generator thrown": ("if i == 2:\n    made.throw(ValueError('thrown'))", "failed"),
            },
        )
        self._expect("items", outcome, "steps")
        self._failure("items", outcome)
        fails = "if i == 3:\n    raise ValueError('inside')\n" if self.job.how["end"] == "generator failed" else ""
        inside = f"at.step(str(i))\n{self._nap(0.1)}{fails}yield i\n"
        decorated = f"@at.track_steps('items')\ndef items():\n    for i in range(5):\n{indent(indent(inside))}\n\n"
        return f"made = items()\nfor i in made:\n{indent(close)}made.close()\nreturn 'returned'\n", decorated

    def _async_function(self, mode: str) -> tuple[str, str]:
        code, outcome = self._ending(mode, PLAIN, SIGNALS)
        self._expect("backup", outcome, "steps")
        self._failure("backup", outcome)
        body = f"await asyncio.sleep(0.1)\nat.step('put')\np = at.current()\n{code}\n"
        decorated = f"@at.track_steps('backup', steps=['get', 'put'])\nasync def backup():\n{indent(body)}"
        return "return await backup()\n", decorated + "    return 'backed up'\n\n\n"

    def _async_generator(self, mode: str) -> tuple[str, str]:
        close, outcome = self._ending(
            mode,
            {
                "generator exhausted": ("pass", "done"),
                "generator closed": ("if i == 2:\n    break", "stopped"),
                "generator thrown": ("if i == 2:\n    await made.athrow(ValueError('thrown'))", "failed"),
            },
        )
        self._expect("items", outcome, "steps")
        self._failure("items", outcome)
        inside = "at.step(str(i))\nawait asyncio.sleep(0.02)\nyield i\n"
        decorated = (
            f"@at.track_steps('items')\nasync def items():\n    for i in range(5):\n{indent(indent(inside))}\n\n"
        )
        return (
            f"made = items()\nasync for i in made:\n{indent(close)}await made.aclose()\nreturn 'returned'\n",
            decorated,
        )

    def _cancelled_task(self, mode: str) -> tuple[str, str]:
        make, work, handle = self._card("task")
        self.job.how["end"] = "task cancelled"
        self._expect("task", "stopped", handle)
        inner = f"async def task(ready):\n    async with {make} as p:\n{indent(indent(work))}"
        inner += "        ready.set()\n        await asyncio.sleep(60)\n\n\n"
        return (
            "ready = asyncio.Event()\nrunning = asyncio.create_task(task(ready))\nawait ready.wait()\n"
            "running.cancel()\nwith contextlib.suppress(asyncio.CancelledError):\n    await running\n"
            "return 'cancelled'\n"
        ), inner

    def _notify(self, mode: str) -> tuple[str, str]:
        code, outcome = self._ending(mode, PLAIN)
        self._failure("nightly", outcome)
        body = self._nap() + code + "\n"
        if mode == "asyncio":
            decorated = f"@at.notify('nightly')\nasync def nightly():\n    await asyncio.sleep(0.05)\n{indent(body)}"
            return "return await nightly()\n", decorated + "    return 'slept'\n\n\n"
        decorated = f"@at.notify('nightly')\ndef nightly():\n{indent(body)}    return 'slept'\n\n\n"
        return "return nightly()\n", decorated

    # -- the whole script

    def _whole(self, mode: str, body: str, decoration: str) -> str:
        job = self.job
        head = HEAD.format(exit_timeout=job.exit_timeout, signals=job.signals, watchdog=job.watchdog)
        asynchronous = "async " if mode == "asyncio" else ""
        code = f"{head}{job.prologue}{decoration}{asynchronous}def job():\n{indent(body)}\n\n"
        code += {
            "thread": "def main():\n    thread = threading.Thread(target=lambda: say(job()))\n"
            "    thread.start()\n    thread.join()\n    say('joined')\n",
            "daemon": "working = threading.Event()\n\n\ndef main():\n"
            "    threading.Thread(target=job, daemon=True).start()\n    working.wait()\n    say('leaving')\n",
            "asyncio": "def main():\n    say(asyncio.run(job()))\n",
            "mp fork": _PROCESS.format("fork"),
            "mp spawn": _PROCESS.format("spawn"),
        }.get(mode, "def main():\n    say(job())\n")
        return code + '\n\nif __name__ == "__main__":\n    main()\n'


_PROCESS = """def work():
    say(job())


def main():
    child = multiprocessing.get_context("{}").Process(target=work)
    child.start()
    child.join()
    say("child", child.exitcode)
"""


def indent(code: str) -> str:
    """Move code in by one level."""
    return textwrap.indent(code.rstrip("\n") + "\n" if code.strip() else "", "    ")


def rounded(count: int, total: int) -> int:
    """Return the percentage that a card shows that has not come to its end."""
    return min(99, int(100 * count / total + 0.5))


# ------------------------------------------------------------------------------------------------------- the service

KINDS = ("latency", "status", "status", "reset", "hang", "truncate", "garbage", "drip", "refuse")


def troubles(rng: random.Random, job: Job) -> list[Trouble]:
    """Choose what the service does while the job runs and after it."""
    made: list[Trouble] = []
    for _ in range(rng.choice([0, 1, 1, 1, 2, 2, 3])):
        kind = rng.choice(KINDS)
        if kind == "refuse" and any(each.kind == "refuse" for each in made):
            continue
        begins = rng.choice([-1.0, rng.uniform(0.2, job.seconds), job.seconds + rng.uniform(-0.3, 0.5)])
        after_exit = rng.random() < 0.6
        ends = rng.uniform(0.1, 4.0) if after_exit else begins + rng.uniform(0.2, 2.5)
        made.append(Trouble(kind, _fields(rng, kind), begins, ends, after_exit))
    return made


def _fields(rng: random.Random, kind: str) -> dict[str, Any]:
    if kind == "refuse":
        return {"seconds": 60.0}
    fields: dict[str, Any] = {}
    if kind == "latency":
        fields["seconds"] = round(rng.choice([0.1, 0.5, rng.uniform(0.5, 3.0)]), 2)
    if kind == "drip":
        fields["seconds"] = round(rng.uniform(0.5, 6.0), 2)
    if kind == "status":
        fields["status"] = rng.choice([500, 503, 503, 429, 429])
        if fields["status"] == 429 or rng.random() < 0.2:
            fields["retry_after"] = rng.choice([None, 0, 1, 3])
    if rng.random() < 0.3:
        fields.update(probability=round(rng.uniform(0.3, 0.9), 2), seed=rng.randrange(1_000))
    if rng.random() < 0.2:
        fields["times"] = rng.randint(1, 3)
    scope = rng.random()
    if scope < 0.15:
        fields["path"] = "/push-notification"
    elif scope < 0.3:
        fields["method"] = rng.choice(["PUT", "DELETE"])
    return {name: value for name, value in fields.items() if value is not None}


def make(seed: int, index: int) -> Job:
    """Make the job of an index."""
    return Maker(random.Random(f"{seed}:{index}")).make()
