"""A simulated phone for every test that wants one, and a clean environment for all."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from internals import (
    RANKS,
    default_dispatcher,
    default_settings,
    forget_signal,
    hear_of_exceptions,
    is_overridden,
    watchdog_of,
)
from jobs import Job
from patience import CLOCK, PATIENCE, PatientSimulator

from activitysmith_track import configure, flush, override, testing
from activitysmith_track.delivery.runtime import Runtime
from activitysmith_track.delivery.shutdown import shutdown
from activitysmith_track.simulator import Simulator, serving

if TYPE_CHECKING:
    from stories import Story

pytest_plugins = ["surroundings", "leftovers", "again", "watched"]
_numbers = itertools.count(1)


@pytest.fixture(autouse=True, scope="session")
def clean_environment() -> Iterator[None]:
    """No setting of the machine's own reaches a test."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [*RANKS, *(each for each in os.environ if each.startswith("ACTIVITYSMITH_"))]:
            patch.delenv(name, raising=False)
        yield


@pytest.fixture(autouse=True, scope="session")
def patient_simulator() -> Iterator[None]:
    """A simulator of any test may take its time to start, to stop and to come to rest."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(serving, "START_SECONDS", PATIENCE)
        patch.setattr(testing, "SETTLE_SECONDS", PATIENCE)
        yield


@pytest.fixture(autouse=True, scope="session")
def patient_attempts() -> Iterator[None]:
    """A request has more time than a busy machine takes, since what must not come twice is not repeated."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Runtime, "attempt_seconds", 60.0)
        for phase in ("connect", "read", "write", "pool"):  # of the requests that tests make without a timeout
            patch.setattr(httpx.get.__kwdefaults__["timeout"], phase, 60.0)
        yield


@pytest.fixture(autouse=True, scope="session")
def once_in_a_process() -> None:
    """What the library does once in a process is done before the first test, which would count as having left it."""
    hear_of_exceptions()
    with Simulator():  # uvicorn sets its loggers up
        pass


@pytest.fixture(autouse=True, scope="session")
def one_clock() -> None:
    """All parts of the default tracker have one clock, which a test can stop."""
    dispatcher = default_dispatcher()
    dispatcher.runtime.now = CLOCK
    dispatcher.close()  # what it begins anew has that clock


@pytest.fixture(autouse=True)
def own_state_directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Each test has an outbox of its own, and so have the processes that it starts: never the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.getbasetemp() / f"state-{next(_numbers)}"))
        yield


@pytest.fixture(autouse=True)
def fresh_dispatcher() -> Iterator[None]:
    """No test inherits what another one left on its way, has told already or has configured."""
    before = vars(default_settings())
    yield
    assert not is_overridden(), "an override or a capture is still open"
    for dispatcher in shutdown.dispatchers:  # those of the test's own trackers too
        if (watchdog := watchdog_of(dispatcher.persistence)) is not None:
            watchdog.close(PATIENCE)
        dispatcher.close()
    forget_signal()
    configure(**before)


@pytest.fixture
def sim() -> Iterator[Simulator]:
    """A service on loopback, of the test's own."""
    with PatientSimulator() as service:
        yield service


@pytest.fixture
def phone(sim: Simulator) -> Iterator[Simulator]:
    """A service on loopback that the library is configured for; what is owed is delivered before it goes."""
    with override(api_key=sim.api_key, base_url=sim.base_url):
        yield sim
        assert flush(60), "what the test has sent was not delivered"


@pytest.fixture
def job(sim: Simulator, tmp_path: Path) -> Iterator[Job]:
    """Scripts against a service on loopback, all of them gone after the test."""
    made = Job(sim, tmp_path / "state")
    yield made
    for process in made.processes:
        process.kill()
        process.communicate()


@pytest.fixture
def story() -> Iterator[Story]:
    """A simulated world of its own."""
    from stories import Story

    made = Story()
    yield made
    made.world.close()
