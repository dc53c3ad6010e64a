"""The public tracker, and the functions that set the process's own one.

What is not set comes from the environment, and is read when a block opens, never at import:

- `ACTIVITYSMITH_API_KEY`: without a key the library is off, after one line in the log.
- `ACTIVITYSMITH_BASE_URL`: another address of the service, such as a simulator's.
- `ACTIVITYSMITH_WATCHDOG`: `on` for a process that tells the phone when the job was killed.
- `ACTIVITYSMITH_TRACK`: `off`, `no`, `false`, `0` turn the library off; `on`, `yes`, `true`, `1` leave it on.
- `RANK`, `SLURM_PROCID`, `OMPI_COMM_WORLD_RANK`, `PMI_RANK`, `PMIX_RANK`: of a job that runs in many processes only
  rank 0 shows and tells. The others say so at the level of information, since there may be hundreds of them.
"""

from __future__ import annotations

from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

from ._tracker import CoreTracker, Override, default_tracker
from .settings import Settings, check_seconds, unknown_option

__all__ = [
    "Override",
    "Settings",
    "Tracker",
    "check_seconds",
    "configure",
    "default_tracker",
    "flush",
    "override",
    "unknown_option",
]

_METHODS = {
    "live": "live_alert live_metrics live_progress live_stats live_steps live_timer live_value",
    "decorators": "notify track_steps",
    "iteration": "track",
}


class Tracker(CoreTracker):
    """Settings and a dispatcher of one's own, for those who want no globals.

    Every function of the library is a method of it too: `tracker.live_progress(...)`, `tracker.track(...)`,
    `tracker.notify(...)`. It is a `with` block too, which closes it. One that is not closed delivers at the exit what
    it owes, as the process's own does, and its threads end once nothing refers to it any more.

    Example::

        with Tracker(api_key=key) as tracker, tracker.live_progress("import") as progress:
            ...

    Args:
        **settings: the fields of `Settings`.

    Raises:
        TypeError: for an unknown setting, naming the nearest one.
        InvalidRequest: for an unusable value.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        if TYPE_CHECKING:  # made when they are first asked for
            from . import decorators, iteration, live

            self.live_progress = partial(live.live_progress, tracker=self)
            self.live_steps = partial(live.live_steps, tracker=self)
            self.live_timer = partial(live.live_timer, tracker=self)
            self.live_metrics = partial(live.live_metrics, tracker=self)
            self.live_stats = partial(live.live_stats, tracker=self)
            self.live_value = partial(live.live_value, tracker=self)
            self.live_alert = partial(live.live_alert, tracker=self)
            self.track = partial(iteration.track, tracker=self)
            self.track_steps = partial(decorators.track_steps, tracker=self)
            self.notify = partial(decorators.notify, tracker=self)

    def __getattr__(self, name: str) -> Any:
        for home, names in _METHODS.items():
            if name in names.split():
                # Not kept, for a tracker that refers to itself would stay until the garbage collector comes by.
                return partial(getattr(import_module(f".{home}", __package__), name), tracker=self)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *" ".join(_METHODS.values()).split()})


def configure(**settings: Any) -> None:
    """Change the settings of the whole process; see `Settings` for the names.

    Channels, tags, metadata and `redact` count from now on, also for blocks that are already open. These keep their
    key and address, their budget and interval, and whether they are shown at all.

    Inside `override`, or `capture` of `activitysmith_track.testing`, the change outlives the block. What the block
    itself names stays as it says until it ends, and only then is what was configured meanwhile.

    Raises:
        TypeError: for an unknown setting, naming the nearest one.
        InvalidRequest: for an unusable value.
    """
    default_tracker().configure(**settings)


def override(**settings: Any) -> Override:
    """Change settings for the length of a `with` block, in all threads.

    Blocks may overlap and end in any order: the one that was entered last counts, and each one's end takes away only
    what it brought itself.

    Example::

        with override(base_url=sim.base_url, api_key=sim.api_key):
            nightly()

    Raises:
        TypeError: for an unknown setting, naming the nearest one.
        InvalidRequest: for an unusable value.
    """
    return default_tracker().override(**settings)


def flush(timeout: float = 10.0) -> bool:
    """Wait until all ends and pushes are delivered, and every open card is on the screen.

    The last state of a card that stays up is delivered when it is shown; that it may be shown once more, some
    seconds later, nobody waits for.

    Args:
        timeout: seconds to wait at most, 0 or more.

    Returns:
        True when everything was delivered; False when something is still on its way, or was refused since the last
        flush.
    """
    return default_tracker().flush(timeout)
