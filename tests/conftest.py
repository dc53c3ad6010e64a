"""A simulated phone for every test that wants one, and a clean environment for all."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from jobs import Job
from patience import PATIENCE, PatientSimulator

from activitysmith_track import _courier, flush, override, testing
from activitysmith_track.configuration import _RANKS, default_tracker
from activitysmith_track.simulator import Simulator, server

_numbers = itertools.count(1)


@pytest.fixture(autouse=True, scope="session")
def clean_environment() -> Iterator[None]:
    """No setting of the machine's own reaches a test."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [*_RANKS, *(each for each in os.environ if each.startswith("ACTIVITYSMITH_"))]:
            patch.delenv(name, raising=False)
        yield


@pytest.fixture(autouse=True, scope="session")
def patient_simulator() -> Iterator[None]:
    """A simulator of any test may take its time to start, to stop and to come to rest."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server, "START_SECONDS", PATIENCE)
        patch.setattr(testing, "SETTLE_SECONDS", PATIENCE)
        yield


@pytest.fixture(autouse=True, scope="session")
def patient_attempts() -> Iterator[None]:
    """A request has more time than a busy machine takes, since what must not come twice is not repeated."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_courier, "ATTEMPT_SECONDS", 60.0)
        for phase in ("connect", "read", "write", "pool"):  # of the requests that tests make without a timeout
            patch.setattr(httpx.get.__kwdefaults__["timeout"], phase, 60.0)
        yield


@pytest.fixture(autouse=True, scope="session")
def hangups_are_heard() -> Iterator[None]:
    """Processes that tests start do not ignore SIGHUP, even where `nohup` has the tests ignore it."""
    ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    if ignored:
        signal.signal(signal.SIGHUP, lambda *_: None)  # unlike SIG_IGN, this does not survive an `exec`
    yield
    if ignored:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)


@pytest.fixture(autouse=True)
def own_state_directory(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Each test has an outbox of its own, and so have the processes that it starts: never the user's."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path_factory.getbasetemp() / f"state-{next(_numbers)}"))


@pytest.fixture(autouse=True)
def fresh_courier() -> Iterator[None]:
    """No test inherits what another one left on its way, has told already or has configured."""
    before = vars(default_tracker().settings)
    yield
    assert default_tracker()._layers.layers == (), "an override or a capture is still open"
    default_tracker().courier.close()
    default_tracker().configure(**before)


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
        flush(60)


@pytest.fixture
def job(sim: Simulator, tmp_path: Path) -> Iterator[Job]:
    """Scripts against a service on loopback, all of them gone after the test."""
    made = Job(sim, tmp_path / "state")
    yield made
    for process in made.processes:
        process.kill()
        process.communicate()
