"""What all tests find: the installed package, signals that are heard, bounded memory, an empty directory."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest

import activitysmith_track

try:
    import resource
except ImportError:  # Windows, where tests run without a limit
    resource = None  # type: ignore[assignment]

ROOT = Path(__file__).resolve().parent.parent
MEMORY = 4 << 30  # bytes of data that a process of the tests may have, stacks of its threads included
WORKERS_PER_CORE = 4  # most tests wait for a process, a thread or a time


def pytest_configure(config: pytest.Config) -> None:
    """Prepare this process, before workers and other children inherit from it."""
    refuse_the_working_tree()
    hear_signals()
    limit_memory()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """Say how many workers `-n auto` means: none for tests that were named one by one."""
    if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ:
        return None
    return 0 if any("::" in name for name in config.args) else WORKERS_PER_CORE * (os.cpu_count() or 1)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark as `real` what uses a service in real time, or processes; and begin with what takes longest."""
    for item in items:
        if REAL_TIME & set(getattr(item, "fixturenames", ())):
            item.add_marker("real")
    items.sort(key=lambda item: item.get_closest_marker("first") is None)  # the others keep their order


REAL_TIME = {"sim", "script", "job", "run", "start"}  # fixtures; the last three start processes


def refuse_the_working_tree() -> None:
    """Stop where the clone's own folder stands in for the package that was installed from it.

    Raises:
        pytest.UsageError: if so.
    """
    if Path(activitysmith_track.__file__).resolve().parent == ROOT / "activitysmith_track" and not is_editable():
        raise pytest.UsageError(
            "these tests are about the installed package, but `activitysmith_track` was imported from the working "
            "tree. Run `pytest` instead of `python -m pytest`, which puts the current folder in front of what is "
            'installed; or install the working tree itself with `python -m pip install --editable ".[test]"`.'
        )


def is_editable() -> bool:
    """Tell whether the working tree itself is what is installed."""
    try:
        origin = distribution("activitysmith-track").read_text("direct_url.json")
    except PackageNotFoundError:
        return False
    return bool(json.loads(origin or "{}").get("dir_info", {}).get("editable"))


def hear_signals() -> None:
    """Let no child inherit that a signal is ignored, as `nohup` and a shell's `&` have it.

    A handler ends with an `exec`, and the child then has the system's own; a signal that is ignored stays so.
    """
    for name in ("SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if name == "SIGINT" else _ignore)


def _ignore(number: int, frame: object) -> None:
    """Do nothing, as this process was told to."""


def limit_memory() -> None:
    """Let a fault that eats memory end in a `MemoryError` in its test, before the machine has none left.

    The limit is one of data (RLIMIT_DATA), not of addresses (RLIMIT_AS): browsers and Node reserve far more addresses
    than they use. It is a soft one, so a child could raise it; the children of tests need less as well. macOS takes
    it and does not enforce it.
    """
    if resource is None:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    most = MEMORY if hard == resource.RLIM_INFINITY else min(MEMORY, hard)
    if soft == resource.RLIM_INFINITY or soft > most:
        resource.setrlimit(resource.RLIMIT_DATA, (most, hard))


@pytest.fixture(autouse=True, scope="session")
def empty_directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tests stand in an empty directory: from the clone's, Python would give children the working tree to import."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("empty"))
        yield
