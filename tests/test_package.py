"""What importing the package does, and what it offers."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from internals import found_lazily
from patience import PATIENCE

import activitysmith_track

REPEATED = {"TYPE_CHECKING", "_HOMES", "logger", "payloads", "settings", "trackers"}  # the same thing wherever it is
HEAVY = ("httpx", "asyncio", "wrapt", "tenacity", "inspect", "dataclasses")

FRESH = """
import os, sys, threading
opened = []
sys.addaudithook(lambda event, args: opened.append(args[0]) if event == "open" else None)
class Environment(dict):
    def __getitem__(self, name):
        raise AssertionError(f"read {name}")
    get = __contains__ = __getitem__
before, os.environ = os.environ, Environment()
already = set(sys.modules)
import activitysmith_track
os.environ = before
read = [name for name in opened if isinstance(name, str) and not name.endswith((".py", ".pyc"))]
print(",".join(sorted(set(sys.modules) - already)), threading.active_count(), len(read), sep="|")
"""


def run(code: str) -> str:
    """Run code in a fresh interpreter and return what it printed."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_import_is_light() -> None:
    """Importing starts no thread, opens no file of its own, reads no environment and imports nothing heavy."""
    modules, threads, files = run(FRESH).split("|")
    loaded = set(modules.split(","))
    assert "activitysmith_track" in loaded
    assert not loaded & set(HEAVY)
    assert (threads, files) == ("1", "0")


def test_import_leaves_integrations_alone() -> None:
    """The simulator and its server are imported by nobody but their user."""
    code = "import activitysmith_track as t, sys; t.live_progress; t.ActivitySmith; print('starlette' in sys.modules)"
    assert run(code) == "False"


def test_all_is_sorted_and_loads() -> None:
    """Every public name is listed in order, and can be had; which ones there are is held by `test_public_names`."""
    assert activitysmith_track.__all__ == sorted(activitysmith_track.__all__)
    assert set(activitysmith_track.__all__) <= set(dir(activitysmith_track))
    for name in activitysmith_track.__all__:
        assert getattr(activitysmith_track, name).__module__.startswith("activitysmith_track")


def test_homes_agree_with_all() -> None:
    """The lazy loader knows exactly the public names."""
    assert found_lazily() == set(activitysmith_track.__all__)


def test_unknown_name_is_an_attribute_error() -> None:
    """A name that is not there says so in Python's own way."""
    with pytest.raises(AttributeError, match="no attribute 'live_progres'"):
        activitysmith_track.live_progres  # noqa: B018


def test_a_name_stands_once() -> None:
    """What is defined at the top level of one module has a name that no other module gives to something else."""
    homes = defaultdict[str, set[Path]](set)
    for path in Path(activitysmith_track.__file__).parent.rglob("*.py"):
        for name in defined(ast.parse(path.read_text(encoding="utf-8")).body):
            homes[name].add(path)
    assert {name for name, paths in homes.items() if len(paths) > 1 and not name.startswith("__")} == REPEATED


def defined(statements: Iterable[ast.stmt]) -> Iterator[str]:
    """Yield the names that statements define, also under a condition."""
    for each in statements:
        if isinstance(each, ast.If):
            yield from defined([*each.body, *each.orelse])
        elif isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield each.name
        elif isinstance(each, ast.Assign | ast.AnnAssign):
            targets = each.targets if isinstance(each, ast.Assign) else [each.target]
            yield from (node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name))


def test_version_is_that_of_the_distribution() -> None:
    """`__version__` is read from the installed distribution, when asked for."""
    from importlib.metadata import version

    assert activitysmith_track.__version__ == version("activitysmith-track")


def test_a_decorator_imports_no_http_library() -> None:
    """Decorating, and even entering a block, leaves httpx to the dispatcher's own thread."""
    code = """
import sys, threading, activitysmith_track as at
seen = []
at.configure(api_key='key', base_url='http://127.0.0.1:9', exit_timeout=0)
@at.track_steps
def job(): pass
at.live_progress('x', total=3)
assert threading.active_count() == 1
print('httpx' in sys.modules, 'tenacity' in sys.modules)
"""
    assert run(code) == "False False"
