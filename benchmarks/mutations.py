"""Damage the pure modules or the delivery layer at random, and see which damage is noticed.

    tox -e mutants                        # 200 mutations, with a seed that is drawn and printed
    tox -e mutants -- --seed 7            # the same sample again
    tox -e mutants -- --layer delivery    # of `activitysmith_track/delivery/`
    python benchmarks/mutations.py --count 50 --module _exceptions --list

cosmic-ray makes the mutations. (mutmut 3 was looked at: it leaves out what stands outside functions, and calls each
function through another frame, by which both `track` and the place of a failure are misled.) Each mutation is one
change of one module, and is tried by the checks of that module, up to the first failure. A pure module has one,
its own test file. A module of the delivery has several, those first that notice most in the least time: schedules of
the simulated world, tests, more schedules, more tests. A mutation counts as killed where a check fails or does not
end in time; it has survived where all of them pass. A test of the delivery that fails runs once more by itself, since
it may need real time; where it passes then, its check counts as passed.

The sample is drawn by place: first places of the source, each as likely as the other, then one of the mutations that
cosmic-ray has for that place. `--uniform` draws from all mutations instead; three quarters of them replace an
arithmetic operator, of which many only raise a `TypeError`, so that it is the easier measure.

Left out is what never runs: annotations, which `from __future__ import annotations` leaves unread, what stands under
`if TYPE_CHECKING:`, and mutations that do not compile. Nothing else is. A mutation that changes nothing a caller can
see is in the sample too, and counts as a survivor.

The package and its tests are mutated in a temporary copy, under a limit of memory, since a mutation may well ask for
all that there is.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import itertools
import os
import queue
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import NamedTuple

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "activitysmith_track"
NEEDED = ["tests", "benchmarks", "pyproject.toml"]
SITE = "site"  # where the copy of the package lies: the tests refuse one that lies beside them
MEMORY = 3 << 30  # bytes that the tests may take
SLOWER = 10  # how many times as long as without a mutation a check may take
OUTCOMES = ("killed", "timed out", "survived")
NEED_ARGUMENTS = ("core/VariableReplacer", "core/VariableInserter")

Place = tuple[tuple[int, int], tuple[int, int]]


class Check(NamedTuple):
    """A command that fails where it notices a mutation.

    Attributes:
        name: in the report.
        command: what Python runs.
        slower: how many times the processor time that it takes without a mutation each of its processes may take.
        again: True to run a test that has failed once more by itself.
    """

    name: str
    command: tuple[str, ...]
    slower: int = SLOWER
    again: bool = False


def own_tests(name: str) -> Check:
    """Return the check of a module that is pure."""
    return Check(name, (*PYTEST, "-n0", f"tests/{name}.py"))


def real_tests(name: str, *files: str) -> Check:
    """Return a check by tests that mostly wait, for time or for processes, and so run three at a time."""
    return Check(name, (*PYTEST, "-n3", *ALONE, *(f"tests/test_{each}.py" for each in files)), again=True)


def schedules(first: int, count: int) -> Check:
    """Return a check by schedules of the simulated world: of those that `tests/test_world.py` has, too."""
    options = (f"--seed={first}", f"--runs={count}", "--events=50", "--first")
    return Check(f"{count:,} schedules", ("benchmarks/world.py", *options), slower=4)


PYTEST = ("-m", "pytest", "-x", "-q", "--tb=no", "-p", "no:cacheprovider", "--hypothesis-seed=1")
# what has failed is not put aside until all the others are done, and what hangs fails by itself
ALONE = ("-p", "no:again", "-o", "markers=real\nonce\nfirst", "--timeout=60")

ORDERS = Check(
    "orders",
    (
        *PYTEST,
        "-n0",
        *(
            f"tests/test_{each}.py"
            for each in (
                *("retry", "unanswered", "orders", "orders_of_answers", "orders_of_doubt", "orders_of_three"),
                "two_processes",
            )
        ),
    ),
)
# most damage shows in the first few schedules; and what hangs is stopped soon
WORLD = [schedules(0, 50), ORDERS, schedules(50, 250)]
LONG_WORLD = schedules(300, 1_500)
QUICK = real_tests(
    "quick tests",
    *("dispatcher", "older_runs", "lifecycle", "activities", "signals", "seams", "threads", "pacing_of_cards"),
)
SLOW = real_tests("slow tests", "keeping", "shutdown", "processes", "deaths", "forks")

PURE = {
    "_forecast": [own_tests("test_pacing")],
    **{
        name: [own_tests(f"test_{name.strip('_')}")]
        for name in ("_pacing", "_text", "_redaction", "_exceptions", "iteration")
    },
}
SIMULATED = (
    *("account", "accounts", "activity", "aftermath", "bodies", "certainty", "deliveries", "departure"),
    *("dispatcher", "echoes", "end_delivery", "end_message", "guard", "held_ends", "landing", "leases"),
    *("ledger", "lost_starts", "messages", "older_ends", "open_activities", "outbox_place", "parting"),
    *("persistence", "push_delivery", "recovery", "run", "scheduler", "screen", "shutdown", "state"),
    *("succession", "turns", "unanswered", "update_queue", "update_request"),
)
NOT_SIMULATED = ("interpreter", "runtime", "signals", "transport")  # the world has none, or its own in their place
ON_DISK = ("entries", "outbox", "outbox_file", "outbox_tables")
WATCHDOG = ("companion", "job_record", "line", "pids", "process", "protocol", "supervisor")
DELIVERY = {
    **{f"delivery/{name}": [*WORLD, QUICK, LONG_WORLD, SLOW] for name in (*SIMULATED, "watchdog/successor")},
    **{f"delivery/{name}": [QUICK, SLOW] for name in NOT_SIMULATED},
    **{f"delivery/{name}": [own_tests("test_outbox"), ORDERS, QUICK, SLOW] for name in ON_DISK},
    **{f"delivery/watchdog/{name}": [real_tests("watchdog", "watchdog"), *WORLD, SLOW] for name in WATCHDOG},
    "client/retry": [*WORLD, QUICK, LONG_WORLD],
}
CHECKS = {**PURE, **DELIVERY}
LAYERS = {"pure": list(PURE), "delivery": list(DELIVERY)}


class Mutation(NamedTuple):
    """One change of one module: what cosmic-ray calls it, and where it is."""

    module: str
    operator: str
    occurrence: int
    place: Place


class Result(NamedTuple):
    """What became of a mutation: "killed", "timed out" or "survived"; the checks, with their seconds; what failed."""

    mutation: Mutation
    outcome: str
    checks: dict[str, float]
    words: str
    diff: str


# ------------------------------------------------------------------------------------------------- the mutations


@cache
def source(module: str) -> str:
    """Return the source of a module of the package as it is when the run begins."""
    return (ROOT / PACKAGE / f"{module}.py").read_text(encoding="utf-8")


def never_run(tree: object) -> Iterator[Place]:
    """Yield where annotations stand, and what is there for the type checker only."""
    for node in ast_nodes(tree):
        annotations = []
        if node.type in ("param", "funcdef"):
            annotations = [node.annotation]
        elif node.type == "annassign":
            annotations = [node.children[1]]
        elif node.type == "if_stmt" and node.children[1].get_code().strip() == "TYPE_CHECKING":
            annotations = [node]
        yield from ((each.start_pos, each.end_pos) for each in annotations if each is not None)


def mutations(module: str) -> list[Mutation]:
    """Return all mutations of a module that cosmic-ray has and that can make a difference."""
    tree = get_ast(source(module))
    left_out = list(never_run(tree))
    found = []
    for name in sorted(set(operator_names()) - {*NEED_ARGUMENTS}):
        operator = get_operator(name)()
        places = [place for node in ast_nodes(tree) for place in operator.mutation_positions(node)]
        for occurrence, (begin, end) in enumerate(places):
            if not any(first <= begin and end <= last for first, last in left_out):
                found.append(Mutation(module, name, occurrence, (begin, end)))
    return found


def mutated(mutation: Mutation) -> str | None:
    """Return the source of the mutated module, or `None` where it does not compile."""
    text = mutate_code(source(mutation.module), get_operator(mutation.operator)(), mutation.occurrence)
    try:
        compile(text, mutation.module, "exec")
    except SyntaxError:
        return None
    return str(text)


def draw(modules: list[str], count: int, seed: int, uniform: bool) -> list[Mutation]:
    """Draw a sample of the mutations of some modules."""
    rng = random.Random(seed)
    every = [each for module in modules for each in mutations(module)]
    places: dict[object, list[Mutation]] = {}
    for each in every:
        places.setdefault(each if uniform else (each.module, each.place), []).append(each)
    print(f"{len(every)} mutations, {count} drawn from {len(places)} {'of them' if uniform else 'places'}")
    sample: list[Mutation] = []
    for place in rng.sample(sorted(places), len(places)):
        if len(sample) == count:
            break
        compiling = (each for each in rng.sample(places[place], len(places[place])) if mutated(each))
        sample.extend(itertools.islice(compiling, 1))
    return sample


def difference(mutation: Mutation, after: str) -> str:
    """Return the lines that a mutation changes."""
    lines = difflib.unified_diff(source(mutation.module).splitlines(), after.splitlines(), n=0, lineterm="")
    changed = [line for line in lines if line[:1] in "+-" and line[:3] not in ("+++", "---")]
    return "\n".join(
        [f"{mutation.module}.py:{mutation.place[0][0]} {mutation.operator.removeprefix('core/')}", *changed]
    )


# ----------------------------------------------------------------------------------------------------- the trials


def copy() -> Path:
    """Copy what the tests need to a place of its own, which may be damaged."""
    place = Path(tempfile.mkdtemp(prefix="mutations-"))
    shutil.copytree(ROOT / PACKAGE, place / SITE / PACKAGE, ignore=shutil.ignore_patterns("__pycache__"))
    for name in NEEDED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, place / name, ignore=shutil.ignore_patterns("__pycache__", "node_modules"))
        else:
            shutil.copy(ROOT / name, place / name)
    return place


def limit(processor: float) -> None:
    """Let a process fail that takes more memory, or more seconds of the processor, than it could need."""
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (int(processor), int(processor)))


def kill_what_is_left(place: Path) -> None:
    """Kill what the checks of a copy have started and left behind, such as a watchdog that a mutation keeps busy."""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # gone, or somebody else's
            if any(f"{place / SITE}".encode() in (process / name).read_bytes() for name in ("environ", "cmdline")):
                os.kill(int(process.name), signal.SIGKILL)


def run(place: Path, command: tuple[str, ...], seconds: float, processor: float) -> tuple[int | None, str]:
    """Run a command in a copy; return its exit code, `None` where it did not end in time, and its output."""
    # what failed for another mutation is no help for this one
    shutil.rmtree(place / ".hypothesis", ignore_errors=True)
    with (place / "output").open("wb") as output:  # no pipe, which a process that is left behind would hold open
        process = subprocess.Popen(
            [sys.executable, *command],
            cwd=place,
            env={**os.environ, "PYTHONPATH": str(place / SITE)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=lambda: limit(processor),
        )
    try:
        code: int | None = process.wait(seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        code = None
    kill_what_is_left(place)
    if code in (-signal.SIGXCPU, -signal.SIGKILL):
        code = None
    return code, (place / "output").read_text("utf-8", "replace")


def perform(check: Check, place: Path, normal: float) -> tuple[int | None, str]:
    """Run a check in a copy, given its seconds without a mutation; return its exit code and what failed."""
    limits = max(60.0, SLOWER * normal), max(8.0, check.slower * normal)
    code, output = run(place, check.command, *limits)
    if code == 0:
        return code, ""
    lines = output.strip().splitlines() or [""]
    words = next((line for line in lines if line.startswith(("FAILED", "ERROR"))), lines[-1]).strip()
    if code and check.again and words.startswith(("FAILED ", "ERROR ")):
        test = words.partition(" ")[2].partition(" - ")[0]
        code, _ = run(place, (*PYTEST, "-n0", *ALONE, test), *limits)
        words += "" if code else " (passed by itself)"
    return code, words


def prepare(modules: list[str]) -> tuple[Path, dict[str, float]]:
    """Make a copy in which all checks pass; return it, and the seconds of each check.

    Where they have passed, all but the modules in question are there as bytecode, and no more is written: a mutated
    source can be as long and as old as the one before.
    """
    place, normal = copy(), {}
    for check in dict.fromkeys(each for module in modules for each in CHECKS[module]):
        began = time.monotonic()
        code, words = perform(check, place, 60.0)
        if code != 0:
            raise SystemExit(f"without a mutation this must pass: {check.name}:\n{words}")
        normal[check.name] = time.monotonic() - began
        print(f"{check.name}: {normal[check.name]:.1f} s", flush=True)
    for module in modules:
        path = place / SITE / PACKAGE / module
        for bytecode in (path.parent / "__pycache__").glob(f"{path.name}.*"):
            bytecode.unlink()
    return place, normal


def attempt(mutation: Mutation, place: Path, normal: dict[str, float]) -> Result:
    """Mutate a copy, run the checks, and mend the copy."""
    path, after = place / SITE / PACKAGE / f"{mutation.module}.py", mutated(mutation) or ""
    path.write_text(after, encoding="utf-8")
    code: int | None = 0
    words, checks = [], {}
    try:
        for check in CHECKS[mutation.module]:
            began = time.monotonic()
            code, failed = perform(check, place, normal[check.name])
            checks[check.name] = time.monotonic() - began
            words += [failed[:300]] if failed else []
            if code != 0:
                break
    finally:
        path.write_text(source(mutation.module), encoding="utf-8")
    outcome = {None: "timed out", 0: "survived"}.get(code, "killed")
    return Result(mutation, outcome, checks, "; ".join(words), difference(mutation, after))


def attempts(sample: list[Mutation], modules: list[str], jobs: int) -> Iterator[Result]:
    """Try all mutations of a sample, some at a time."""
    copies: queue.Queue[Path] = queue.Queue()

    def once(mutation: Mutation) -> Result:
        place = copies.get()
        try:
            return attempt(mutation, place, normal)
        finally:
            copies.put(place)

    first, normal = prepare(modules)
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    made = [first, *(Path(tempfile.mkdtemp(prefix="mutations-")) for _ in range(jobs - 1))]
    try:
        for place in made:
            if place != first:
                shutil.copytree(first, place, dirs_exist_ok=True)
            copies.put(place)
        pool = ThreadPoolExecutor(jobs)
        try:
            yield from pool.map(once, sample)
        finally:
            pool.shutdown(cancel_futures=True)
    finally:
        for place in made:
            shutil.rmtree(place, ignore_errors=True)


# ----------------------------------------------------------------------------------------------------- the report


def report(results: list[Result], modules: list[str]) -> float:
    """Print what survived and the figures of each module and check; return the part that was killed."""
    print("\n".join(f"\n{each.diff}" for each in results if each.outcome == "survived"))
    print(f"\n{'module':>22}" + "".join(f"{each:>10}" for each in ("mutations", *OUTCOMES, "noticed")))
    for name in [*modules, "all"]:
        counts = Counter(each.outcome for each in results if name in (each.mutation.module, "all"))
        noticed = 1 - counts["survived"] / max(counts.total(), 1)
        figures = [counts.total(), *(counts[each] for each in OUTCOMES), f"{noticed:.1%}"]
        print(f"{name:>22}" + "".join(f"{each:>10}" for each in figures))
    print(f"\n{'check':>22}" + "".join(f"{each:>10}" for each in ("tried", "noticed", "seconds")))
    for name in dict.fromkeys(check.name for module in modules for check in CHECKS[module]):
        tried = [each for each in results if name in each.checks]
        last = [each for each in tried if each.outcome != "survived" and list(each.checks)[-1] == name]
        print(f"{name:>22}{len(tried):>10}{len(last):>10}{sum(each.checks[name] for each in tried):>10.0f}")
    return noticed


def main() -> int:
    """Draw, try and report; fail where too few are noticed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=200, help="mutations to draw (%(default)s)")
    parser.add_argument("--skip", type=int, default=0, help="leave out so many of these, tried before (%(default)s)")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6), help="of the draw; else one is drawn")
    parser.add_argument("--layer", choices=LAYERS, default="pure", help="whose modules are damaged (%(default)s)")
    parser.add_argument("--module", choices=CHECKS, action="append", help="only this one; may be given again")
    parser.add_argument("--uniform", action="store_true", help="draw from all mutations, not by place")
    parser.add_argument("--jobs", type=int, default=2, help="mutations that are tried at a time (%(default)s)")
    parser.add_argument("--least", type=float, default=0.85, help="part that has to be noticed (%(default)s)")
    parser.add_argument("--list", action="store_true", help="print each mutation as it was tried")
    given = parser.parse_args()
    modules = given.module or LAYERS[given.layer]
    print(f"seed {given.seed}", flush=True)
    results = []
    drawn = draw(modules, given.count, given.seed, given.uniform)[given.skip :]
    for result in attempts(drawn, modules, given.jobs):
        results.append(result)
        if given.list:
            took = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in result.checks.items())
            print(f"\n{result.outcome}: {result.diff}\n  {took}\n  {result.words}", flush=True)
    return 0 if report(results, modules) >= given.least else 1


if __name__ == "__main__":
    sys.exit(main())
