"""A simulated phone for every test that wants one, and a clean environment for all."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from activitysmith_track import flush, override
from activitysmith_track.configuration import _RANKS, default_tracker
from activitysmith_track.simulator import Simulator


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the machine's own reaches a test."""
    for name in [*_RANKS, *(each for each in os.environ if each.startswith("ACTIVITYSMITH_"))]:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True, scope="session")
def own_state_directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test, and no process that one starts, writes to the outbox of the user who runs them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture(autouse=True)
def fresh_courier() -> Iterator[None]:
    """No test inherits what another one left on its way, or has told already."""
    yield
    default_tracker().courier.close()


@pytest.fixture
def sim() -> Iterator[Simulator]:
    """A service on loopback, of the test's own."""
    with Simulator() as service:
        yield service


@pytest.fixture
def phone(sim: Simulator) -> Iterator[Simulator]:
    """A service on loopback that the library is configured for; what is owed is delivered before it goes."""
    with override(api_key=sim.api_key, base_url=sim.base_url):
        yield sim
        flush(5)
