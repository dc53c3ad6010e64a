"""What the library costs the job: ratios to tqdm and wrapt, side by side in one run, medians and ranges.

Run it with `python benchmarks/overhead.py [--out DIR] [--quick]`; it needs the `bench` extra. Each row says what it
is compared with; the exit status is 1 where something is lost or unbounded, never because of a time.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import itertools
import os
import platform
import resource
import socket
import statistics
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import activitysmith_track as at
from activitysmith_track._tracker import default_tracker
from activitysmith_track.simulator import Simulator
from activitysmith_track.testing import capture

ITEMS = 1_000_000
HANDLES = 10_000
DAY_SECONDS, DAY_ADVANCES, DAY_STEP = 86_400, 10_000_000, 10
IMPORTS = {
    "nothing": "pass",
    "import activitysmith_track": "import activitysmith_track",
    "import tqdm": "import tqdm",
    "import wrapt": "import wrapt",
    "one decorator applied": "from activitysmith_track import track_steps\n"
    "@track_steps('Nightly backup', steps=['snapshot', 'upload'])\ndef backup(): pass",
}
EXITS = {
    "healthy": "",
    "hanging": "",
    "dead": "",
}
JOB = "from activitysmith_track import live_progress\nwith live_progress('job', total=10) as p:\n    p.advance(3)\n"


class Report:
    """The rows of the table, and whether something was lost."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, str, str]] = []
        self.failed: list[str] = []

    def add(self, what: str, figure: str, bar: str = "") -> None:
        """Add a row, and print it at once."""
        self.rows.append((what, figure, bar))
        print(f"{what:62s} {figure:44s} {bar}", flush=True)

    def must(self, what: str, holds: bool) -> None:
        """Note what must hold on any machine."""
        if not holds:
            self.failed.append(what)

    def table(self) -> str:
        """Write the rows as Markdown."""
        machine = f"{platform.python_implementation()} {platform.python_version()}, {platform.machine()}, "
        lines = [f"{machine}{os.cpu_count()} cores, {platform.system()}", "", "| what | measured | the bar |"]
        lines += ["| --- | --- | --- |"]
        return "\n".join([*lines, *(f"| {what} | {figure} | {bar} |" for what, figure, bar in self.rows), ""])


def spread(values: list[float], unit: str, factor: float = 1.0) -> str:
    """Write a median with its range."""
    return (
        f"{statistics.median(values) * factor:.3g} {unit} ({min(values) * factor:.3g} to {max(values) * factor:.3g})"
    )


def alternate(cases: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Run the cases in turns, so that what disturbs the machine disturbs all of them."""
    found: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(rounds):
        for name, case in cases.items():
            found[name].append(case())
    return found


def timed(work: Callable[[], object]) -> float:
    """Return the seconds that work takes, without the collector."""
    gc.collect()
    gc.disable()
    began = time.perf_counter()
    work()
    took = time.perf_counter() - began
    gc.enable()
    return took


# ------------------------------------------------------------------------------------------------ what it costs


def _bare_generator(items: Any) -> Iterator[Any]:
    for item in items:  # not "yield from": the cost of resuming a frame is what is measured
        yield item


def loops(report: Report, rounds: int) -> None:
    """Measure an item of a loop beyond the bare loop."""
    from rich.progress import track as rich_track
    from tqdm import tqdm

    items, null = list(range(ITEMS)), open(os.devnull, "w")  # noqa: SIM115

    def run(iterable: Any) -> None:
        for _ in iterable:
            pass

    cases: dict[str, Callable[[], float]] = {
        "bare": lambda: timed(lambda: run(items)),
        "ours": lambda: timed(lambda: run(at.track(items, "loop"))),
        "ours, an iterator": lambda: timed(lambda: run(at.track(iter(items), "loop"))),
        "tqdm": lambda: timed(lambda: run(tqdm(items, file=null))),
        "rich.track": lambda: timed(lambda: run(rich_track(items, disable=False, console=_console(null)))),
        "a generator": lambda: timed(lambda: run(_bare_generator(items))),
    }
    found = alternate(cases, rounds)
    beyond = {
        name: [max(each - bare, 0.0) for each, bare in zip(found[name], found["bare"], strict=True)] for name in found
    }
    for name in ("ours", "ours, an iterator", "tqdm", "rich.track", "a generator"):
        report.add(f"an item of a loop, beyond the bare loop: {name}", spread(beyond[name], "ns", 1e9 / ITEMS))
    for name, what in (("ours", "a list"), ("ours, an iterator", "an iterator")):
        ratios = [ours / other for ours, other in zip(beyond[name], beyond["tqdm"], strict=True)]
        report.add(f"an item of `track` around {what}, of tqdm's", spread(ratios, ""), "0.25; 0.3 on 3.12 and 3.13")


def _console(file: Any) -> Any:
    from rich.console import Console

    return Console(file=file)


def calls(report: Report, rounds: int) -> None:
    """Measure a call of `advance`, and count what eight threads count."""
    from tqdm import tqdm

    null = open(os.devnull, "w")  # noqa: SIM115

    def ours() -> float:
        with at.live_progress("calls", total=ITEMS) as progress:
            advance = progress.advance
            return timed(lambda: _repeat(advance))

    def theirs() -> float:
        with tqdm(total=ITEMS, file=null) as bar:
            update = bar.update
            return timed(lambda: _repeat(update))

    found = alternate({"bare": lambda: timed(lambda: _repeat(_nothing)), "ours": ours, "tqdm": theirs}, rounds)
    report.add("`advance()`, with the loop around it", spread(found["ours"], "ns", 1e9 / ITEMS))
    report.add("`tqdm.update()`, with the loop around it", spread(found["tqdm"], "ns", 1e9 / ITEMS))
    ratios = [ours / other for ours, other in zip(found["ours"], found["tqdm"], strict=True)]
    report.add("`advance()`, of `tqdm.update()`", spread(ratios, ""), "0.5")
    lost = _lost_counts()
    report.add("counts lost by 8 threads of 250,000 advances", str(lost), "0")
    report.must("no count is lost", lost == 0)


def _nothing() -> None:
    return


def _repeat(call: Callable[[], object]) -> None:
    for _ in range(ITEMS):
        call()


def _lost_counts(threads: int = 8, each: int = 250_000) -> int:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with at.live_progress("threads", total=threads * each) as progress:
            workers = [
                threading.Thread(target=lambda: [progress.advance() for _ in range(each)]) for _ in range(threads)
            ]
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()
            return threads * each - int(progress.completed)
    finally:
        sys.setswitchinterval(before)


def imports(report: Report, rounds: int) -> None:
    """Measure the processor time of imports in fresh interpreters, with compiled files."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}

    def fresh(code: str) -> float:
        """Return the processor time, which other programs disturb less than the clock's."""
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-c", code], check=True, env=environment)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime

    for code in IMPORTS.values():
        fresh(code)
    found = alternate({name: lambda code=code: fresh(code) for name, code in IMPORTS.items()}, rounds)
    # the interpreter's own start is taken off by the medians: single differences are mostly noise
    cost = {name: statistics.median(times) - statistics.median(found["nothing"]) for name, times in found.items()}
    for name in list(IMPORTS)[1:]:
        report.add(name, f"{cost[name] * 1e3:.1f} ms ({_range(found[name], found['nothing'])})")
    of_tqdm = cost["import activitysmith_track"] / cost["import tqdm"]
    of_wrapt = cost["one decorator applied"] / cost["import wrapt"]
    report.add("`import activitysmith_track`, of `import tqdm`", f"{of_tqdm:.3f}", "0.1")
    report.add("one decorator applied, of `import wrapt`", f"{of_wrapt:.3f}", "1.1")


def _range(times: list[float], base: list[float]) -> str:
    middle = statistics.median(base)
    return f"{(min(times) - middle) * 1e3:.1f} to {(max(times) - middle) * 1e3:.1f}"


# ------------------------------------------------------------------------------------ what a service can do to it


@contextlib.contextmanager
def service(kind: str) -> Iterator[dict[str, str]]:
    """Give the environment for a service that is healthy, hangs, or is not there."""
    if kind == "healthy":
        with Simulator(slots=10_000, requests_per_minute=10**9) as sim:
            yield {"ACTIVITYSMITH_API_KEY": sim.api_key, "ACTIVITYSMITH_BASE_URL": sim.base_url}
        return
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listening:
        port = listening.getsockname()[1]
        if kind == "dead":
            listening.close()
        yield {"ACTIVITYSMITH_API_KEY": "bench-key", "ACTIVITYSMITH_BASE_URL": f"http://127.0.0.1:{port}/api"}


def blocks(report: Report, rounds: int) -> None:
    """Measure what entering and leaving a block takes of the job's thread."""
    for kind in EXITS:
        with service(kind) as given:
            settings = {"api_key": given["ACTIVITYSMITH_API_KEY"], "base_url": given["ACTIVITYSMITH_BASE_URL"]}
            with at.override(**settings, enabled=True):
                times = [_enter_and_leave(number) for number in range(20 * rounds)]
            default_tracker().dispatcher.close()
        report.add(f"entering and leaving a block, {kind} service", spread(times, "us", 1e6), "median under 1 ms")
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import httpx"], check=True)
    httpx_seconds = time.perf_counter() - began
    report.add("`import httpx`, which a crew's thread does, process included", f"{httpx_seconds * 1e3:.0f} ms")


def _enter_and_leave(number: int) -> float:
    began = time.perf_counter()
    with at.live_progress(f"block {number}", total=2):
        pass
    return time.perf_counter() - began


def exits(report: Report, rounds: int) -> None:
    """Measure what a process's exit takes more than without the library."""
    for kind in EXITS:
        with service(kind) as given:
            off = {**os.environ, **given, "ACTIVITYSMITH_TRACK": "off"}
            on = {**os.environ, **given}

            def run(environment: dict[str, str]) -> float:
                began = time.perf_counter()
                subprocess.run([sys.executable, "-c", JOB], env=environment, check=True, stderr=subprocess.DEVNULL)
                return time.perf_counter() - began

            found = alternate({"on": lambda: run(on), "off": lambda: run(off)}, max(3, rounds // 2))  # noqa: B023
        more = [one - other for one, other in zip(found["on"], found["off"], strict=True)]
        bar = "exit_timeout (2 s) and the imports" if kind != "healthy" else ""
        report.add(f"a whole process with one block, more than without: {kind} service", spread(more, "s"), bar)


def handles(report: Report) -> None:
    """Open many handles at once while a request hangs."""
    with service("hanging") as given, contextlib.ExitStack() as stack:
        settings = {"api_key": given["ACTIVITYSMITH_API_KEY"], "base_url": given["ACTIVITYSMITH_BASE_URL"]}
        stack.enter_context(at.override(**settings, enabled=True, exit_timeout=0.0))
        dispatcher = default_tracker().dispatcher
        with at.live_progress("first"):  # loads what sending needs, which is no handle's
            pass
        at.flush(1.0)
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        opened = [at.live_progress("job", total=100, key=f"job-{number}") for number in range(HANDLES)]
        for handle in opened:
            handle.begin()
        _until(lambda: dispatcher.scheduler._inbox.empty())
        gc.collect()
        each = (tracemalloc.get_traced_memory()[0] - before) / HANDLES
        tracemalloc.stop()
        ours = [thread for thread in threading.enumerate() if thread.name.startswith("activitysmith-")]
        report.add(f"memory of a handle, {HANDLES:,} of them open", f"{each:.0f} B", "2,048 B")
        report.add("threads for all of them", str(len(ours)))
        report.must("a handle is under 2 KiB", each < 2048)
        report.must("threads do not grow with the handles", len(ours) <= 10)
        waits = [_considered(opened[number]) for number in range(99, HANDLES, 99)]  # not those that hang
        report.add("a change considered while other requests hang", spread(waits, "ms", 1e3), "50 ms")
        dispatcher.close()


def _until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    until = time.monotonic() + seconds
    while not condition() and time.monotonic() < until:
        time.sleep(0.01)


def _considered(handle: Any) -> float:
    """Return the seconds until the dispatcher has looked at a handle that changed."""
    seen = threading.Event()
    as_it_is = type(handle)._builder

    class Seen(type(as_it_is)):  # type: ignore[misc]
        def transitions(self, asked: Any) -> int:  # which every look asks for
            if asked is handle:
                seen.set()
            return int(super().transitions(asked))

    handle._builder = Seen()
    began = time.perf_counter()
    handle.update(color="orange")
    if not seen.wait(10):
        return 10.0
    return time.perf_counter() - began


# ------------------------------------------------------------------------------------------------- a day, and rest


def day(report: Report) -> None:
    """Let a simulated job of 24 hours advance ten million times."""
    with capture() as phone:
        with at.live_progress("day", total=DAY_ADVANCES) as progress:
            advance, n = progress.advance, DAY_ADVANCES * DAY_STEP // DAY_SECONDS
            sizes: list[int] = []
            tracemalloc.start()
            for number in range(DAY_SECONDS // DAY_STEP):
                for _ in itertools.repeat(None, n):
                    advance()
                phone.advance(DAY_STEP)
                if number % 864 == 863:
                    phone.simulator.service.requests.clear()
                    gc.collect()
                    sizes.append(_own_memory())
            tracemalloc.stop()
        phone.settle()
        cards = [card for card in phone.simulator.activities.values() if card.stream_key == "day"]
        updates = [card.updates for card in cards]
        allowed = [int(((card.ended_at or 0) - card.started_at) / 120) for card in cards]
        report.add("24 h, 10,000,000 advances: cards one after the other", str(len(cards)), "none past 8 h")
        report.add("updates of each, of those that the budget allows", f"{updates} of {allowed}")
        growth = max(sizes[1:]) - sizes[0]
        report.add("memory of the library's own, after 2.4 h and at most later", f"{sizes[0]} B, {growth:+} B")
        report.must("each card is within its budget", not any(card.over_budget for card in cards))
        report.must("no card is ended by iOS", not any(card.ended_by == "system" for card in cards))
        report.must("memory is bounded", growth < 64 * 1024)


def _own_memory() -> int:
    """Return what the library itself holds: its modules', without the simulator's."""
    package = str(Path(at.__file__).parent)
    snapshot = tracemalloc.take_snapshot().filter_traces(
        [tracemalloc.Filter(True, package + "/*"), tracemalloc.Filter(False, package + "/simulator/*")]
    )
    return sum(trace.size for trace in snapshot.traces)


def rest(report: Report, seconds: float) -> None:
    """Count what the dispatcher does while nothing changes."""
    with service("healthy") as given:
        settings = {"api_key": given["ACTIVITYSMITH_API_KEY"], "base_url": given["ACTIVITYSMITH_BASE_URL"]}
        with at.override(**settings, enabled=True), at.live_progress("idle", total=10) as progress:
            progress.advance(4)
            at.flush(5)
            lane = default_tracker().dispatcher.scheduler
            time.sleep(1.0)
            before = lane.ran
            time.sleep(seconds)
            woken = lane.ran - before
        at.flush(5)
    report.add(f"wake-ups of the dispatcher in {seconds:.0f} s while nothing changes", str(woken), "0; 1 for a stall")
    report.must("the dispatcher sleeps", woken <= 1)


def main() -> int:
    """Run everything and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, help="folder for overhead.md")
    parser.add_argument("--quick", action="store_true", help="fewer rounds, and no day")
    options = parser.parse_args()
    rounds = 3 if options.quick else 11
    report = Report()
    with Simulator(slots=1_000, requests_per_minute=10**9) as sim:
        with at.override(api_key=sim.api_key, base_url=sim.base_url, enabled=True):
            loops(report, rounds)
            calls(report, rounds)
            at.flush(5)
        default_tracker().dispatcher.close()
    imports(report, 3 * rounds)
    blocks(report, rounds)
    exits(report, rounds)
    handles(report)
    rest(report, 3.0 if options.quick else 20.0)
    if not options.quick:
        day(report)
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "overhead.md").write_text(report.table(), encoding="utf-8")
    for each in report.failed:
        print("failed:", each, file=sys.stderr)
    return int(bool(report.failed))


if __name__ == "__main__":
    sys.exit(main())
