"""Damage `_pacing`, `_failure` and `iteration` at random, and see which damage their own tests notice.

    tox -e mutants                        # 200 mutations, with a seed that is drawn and printed
    tox -e mutants -- --seed 7            # the same sample again
    python benchmarks/mutations.py --count 50 --module _failure --list

cosmic-ray makes the mutations. (mutmut 3 was looked at: it leaves out what stands outside functions, and calls each
function through another frame, by which both `track` and the place of a failure are misled.) Each mutation is one
change of one module, and is tried by the test file of that module alone, up to the first failure. It counts as killed
where a test fails or where the tests do not end in time; it has survived where all of them pass.

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
TESTS = {"_pacing": "test_pacing.py", "_failure": "test_failure.py", "iteration": "test_iteration.py"}
NEEDED = ["tests", "benchmarks", "pyproject.toml"]
SITE = "site"  # where the copy of the package lies: the tests refuse one that lies beside them
MEMORY = 3 << 30  # bytes that the tests may take
SLOWER = 10  # how many times as long as without a mutation the tests may take
OUTCOMES = ("killed", "timed out", "survived")
NEED_ARGUMENTS = ("core/VariableReplacer", "core/VariableInserter")

Place = tuple[tuple[int, int], tuple[int, int]]


class Mutation(NamedTuple):
    """One change of one module: what cosmic-ray calls it, and where it is."""

    module: str
    operator: str
    occurrence: int
    place: Place


class Result(NamedTuple):
    """What became of a mutation: "killed", "timed out" or "survived", and the test that failed."""

    mutation: Mutation
    outcome: str
    test: str
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


def limit_memory() -> None:
    """Let a test process fail that takes more memory than it could need."""
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))


def run_tests(place: Path, module: str, timeout: float, **variables: str) -> tuple[int | None, str]:
    """Run the tests of a module in a copy; return pytest's exit code, `None` after a timeout, and its output."""
    options = ["-x", "-q", "--tb=no", "-n0", "-p", "no:cacheprovider", "--hypothesis-seed=1"]
    shutil.rmtree(
        place / ".hypothesis", ignore_errors=True
    )  # what failed for another mutation is no help for this one
    tests = subprocess.Popen(
        [sys.executable, "-m", "pytest", *options, f"tests/{TESTS[module]}"],
        cwd=place,
        env={**os.environ, "PYTHONPATH": str(place / SITE), **variables},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        preexec_fn=limit_memory,
    )
    try:
        output, _ = tests.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        os.killpg(tests.pid, signal.SIGKILL)
        tests.communicate()
        return None, ""
    return tests.returncode, output


def prepare(modules: list[str]) -> tuple[Path, dict[str, float]]:
    """Make a copy in which the tests pass; return it, and the seconds that each module's tests may take.

    Where they have passed, all but the three modules are there as bytecode, which no mutation may write: a mutated
    source can be as long and as old as the one before.
    """
    place, seconds = copy(), {}
    for module in modules:
        began = time.monotonic()
        code, output = run_tests(place, module, 600)
        if code != 0:
            raise SystemExit(f"without a mutation {TESTS[module]} must pass:\n{output}")
        seconds[module] = max(60.0, SLOWER * (time.monotonic() - began))
    for module in modules:
        for bytecode in (place / SITE / PACKAGE / "__pycache__").glob(f"{module}.*"):
            bytecode.unlink()
    return place, seconds


def attempt(mutation: Mutation, place: Path, timeout: float) -> Result:
    """Mutate a copy, run the tests, and mend the copy."""
    path, after = place / SITE / PACKAGE / f"{mutation.module}.py", mutated(mutation) or ""
    path.write_text(after, encoding="utf-8")
    try:
        code, output = run_tests(place, mutation.module, timeout, PYTHONDONTWRITEBYTECODE="1")
    finally:
        path.write_text(source(mutation.module), encoding="utf-8")
    outcome = {None: "timed out", 0: "survived"}.get(code, "killed")
    failed = [line for line in output.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return Result(mutation, outcome, (failed or [""])[0], difference(mutation, after))


def attempts(sample: list[Mutation], modules: list[str], jobs: int) -> Iterator[Result]:
    """Try all mutations of a sample, some at a time."""
    copies: queue.Queue[tuple[Path, dict[str, float]]] = queue.Queue()
    made = []

    def once(mutation: Mutation) -> Result:
        place, seconds = copies.get()
        try:
            return attempt(mutation, place, seconds[mutation.module])
        finally:
            copies.put((place, seconds))

    try:
        for _ in range(jobs):
            made.append(prepare(modules))
            copies.put(made[-1])
        pool = ThreadPoolExecutor(jobs)
        try:
            yield from pool.map(once, sample)
        finally:
            pool.shutdown(cancel_futures=True)
    finally:
        for place, _ in made:
            shutil.rmtree(place, ignore_errors=True)


# ----------------------------------------------------------------------------------------------------- the report


def report(results: list[Result], modules: list[str]) -> float:
    """Print what survived and the figures of each module; return the part that was killed."""
    print("\n".join(f"\n{each.diff}" for each in results if each.outcome == "survived"))
    print("\n" + "".join(f"{each:>10}" for each in ("module", "mutations", *OUTCOMES, "noticed")))
    for name in [*modules, "all"]:
        counts = Counter(each.outcome for each in results if name in (each.mutation.module, "all"))
        noticed = 1 - counts["survived"] / max(counts.total(), 1)
        figures = [counts.total(), *(counts[each] for each in OUTCOMES), f"{noticed:.1%}"]
        print(f"{name:>10}" + "".join(f"{each:>10}" for each in figures))
    return noticed


def main() -> int:
    """Draw, try and report; fail where too few are noticed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=200, help="mutations to draw (%(default)s)")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6), help="of the draw; else one is drawn")
    parser.add_argument("--module", choices=TESTS, action="append", help="only this one; may be given again")
    parser.add_argument("--uniform", action="store_true", help="draw from all mutations, not by place")
    parser.add_argument("--jobs", type=int, default=2, help="test runs at a time (%(default)s)")
    parser.add_argument("--least", type=float, default=0.85, help="part that has to be noticed (%(default)s)")
    parser.add_argument("--list", action="store_true", help="print each mutation as it was tried")
    given = parser.parse_args()
    modules = given.module or list(TESTS)
    print(f"seed {given.seed}", flush=True)
    results = []
    for result in attempts(draw(modules, given.count, given.seed, given.uniform), modules, given.jobs):
        results.append(result)
        if given.list:
            print(f"\n{result.outcome}: {result.diff}\n  {result.test}", flush=True)
    return 0 if report(results, modules) >= given.least else 1


if __name__ == "__main__":
    sys.exit(main())
