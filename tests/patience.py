"""How long a test waits: nothing is asserted about speed, and a busy machine may take its time."""

from __future__ import annotations

from collections.abc import Callable

from activitysmith_track.simulator import Simulator

PATIENCE = 180.0  # seconds for what has to come: only a hang takes so long


class PatientSimulator(Simulator):
    """A service whose `wait_for` has the patience of the tests."""

    def wait_for(self, predicate: Callable[[Simulator], object], timeout: float = PATIENCE) -> bool:
        """Wait as the simulator does, but for longer."""
        return super().wait_for(predicate, timeout)
