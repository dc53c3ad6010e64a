"""Settings, and the only global state: the tracker that functions such as `live_progress` use by default.

What is not set comes from the environment, and is read when a block opens, never at import:

- `ACTIVITYSMITH_API_KEY`: without a key the library is off, after one line in the log.
- `ACTIVITYSMITH_BASE_URL`: another address of the service, such as a simulator's.
- `ACTIVITYSMITH_WATCHDOG`: `on` for a process that tells the phone when the job was killed.
- `ACTIVITYSMITH_TRACK`: `off`, `no`, `false`, `0` turn the library off; `on`, `yes`, `true`, `1` leave it on.
- `RANK`, `SLURM_PROCID`, `OMPI_COMM_WORLD_RANK`, `PMI_RANK`, `PMIX_RANK`: of a job that runs in many processes only
  rank 0 shows and tells. The others say so at the level of information, since there may be hundreds of them.
"""

from __future__ import annotations

import logging
import os
import threading
import weakref
from dataclasses import dataclass, fields, replace
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from ._endpoint import check_api_key, check_base_url, find_api_key, find_base_url
from ._layers import Layer, Layers
from .errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from types import TracebackType

    from typing_extensions import Self

    from ._pacing import Budget
    from .delivery.account import Account
    from .delivery.dispatcher import Dispatcher

__all__ = ["Settings", "Tracker", "configure", "flush", "override"]

logger = logging.getLogger("activitysmith_track")

_FALSE = frozenset({"0", "off", "no", "n", "f", "false", "disable", "disabled"})
_TRUE = frozenset({"1", "on", "yes", "y", "t", "true", "enable", "enabled"})
_RANKS = ("RANK", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK")


@dataclass(frozen=True)
class Settings:
    """What can be configured; `None` means the environment, or the default.

    Attributes:
        api_key: the service's API key. It stands in no repr and no log.
        base_url: the service's address: https, or http to this machine (`localhost`, 127.0.0.0/8, `[::1]`), in ASCII.
        enabled: `False` turns everything off, `True` overrules `ACTIVITYSMITH_TRACK`.
        all_ranks: True to show and tell from every rank of a distributed job, not only from rank 0.
        channels: channel slugs for every card and push that names none, a list or a comma-separated string.
        tags: up to 20 tags for every card and push that names none.
        metadata: up to 50 entries for every card and push that names none.
        redact: called with each failure message after the built-in scrubbing; returns what may be sent.
        exit_timeout: seconds that the interpreter's exit waits in all for ends and pushes on their way, 0 or more.
        budget: the `Budget` of updates that a card has, for phones that are allowed more frequent ones.
        min_interval: seconds between two updates of a card that is not in transition, 0 or more, instead of
            spreading them over the time that the job is expected to take; or `"every change"`, to send each change at
            once. Both are held within the budget.
        outbox: where ends and pushes are kept that could not be delivered, for a next process: True for a file in the
            user's state directory, a directory of one's own, or False for nowhere. It never holds the API key.
        watchdog: True for a small process beside the job that ends its cards red and pushes when the job was killed,
            crashed or ran out of memory; `None` means `ACTIVITYSMITH_WATCHDOG`, or off.
        signals: True to end the cards as stopped on SIGTERM and SIGHUP, before these do what they would have done.
    """

    api_key: str | None = None
    base_url: str | None = None
    enabled: bool | None = None
    all_ranks: bool = False
    channels: Sequence[str] | str | None = None
    tags: Sequence[str] | None = None
    metadata: Mapping[str, Any] | None = None
    redact: Callable[[str], str] | None = None
    exit_timeout: float = 2.0
    budget: Budget | None = None
    min_interval: float | Literal["every change"] | None = None
    outbox: bool | str | os.PathLike[str] = True
    watchdog: bool | None = None
    signals: bool = False

    def __post_init__(self) -> None:
        from . import payloads

        if self.api_key is not None:
            check_api_key(self.api_key)
        if self.base_url is not None:
            check_base_url(self.base_url)
        checks = {
            "channels": payloads.check_channels,
            "tags": payloads.check_tags,
            "metadata": payloads.check_metadata,
        }
        for name, check in checks.items():
            if getattr(self, name) is not None:
                check(name, getattr(self, name))
        if self.redact is not None and not callable(self.redact):
            raise InvalidRequest("redact", self.redact, "a callable that takes and returns a string")
        for name in ("enabled", "watchdog", "signals"):
            if getattr(self, name) not in (None, True, False):
                raise InvalidRequest(name, getattr(self, name), "True, False or None")
        if not isinstance(self.outbox, (bool, str, os.PathLike)) or self.outbox == "":
            raise InvalidRequest("outbox", self.outbox, "True, False or a directory")
        check_seconds("exit_timeout", self.exit_timeout)
        _ = self.pace

    @property
    def pace(self) -> Budget:
        """The budget of updates, with the interval between them.

        Raises:
            InvalidRequest: for a budget or an interval that cannot be.
        """
        from ._pacing import DEFAULT_BUDGET, Budget

        budget = DEFAULT_BUDGET if self.budget is None else self.budget
        if not isinstance(budget, Budget):
            raise InvalidRequest("budget", budget, "a Budget")
        if self.min_interval is None:
            return budget
        if self.min_interval == "every change":
            return replace(budget, every_change=True)
        if isinstance(self.min_interval, str):
            raise InvalidRequest("min_interval", self.min_interval, "seconds, 0 or more, or 'every change'")
        return replace(budget, min_interval=self.min_interval)

    def __repr__(self) -> str:
        shown = {each.name: getattr(self, each.name) for each in fields(self)}
        shown["api_key"] = "..." if self.api_key else None
        return f"Settings({', '.join(f'{name}={value!r}' for name, value in shown.items())})"

    def __getstate__(self) -> dict[str, Any]:
        """Leave the key out of a pickle: whoever reads it takes the key from its own environment."""
        return {**vars(self), "api_key": None}


def check_seconds(name: str, value: object) -> float:
    """Check a duration: a finite number of seconds, 0 or more."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < float("inf"):
        raise InvalidRequest(name, value, "a number of seconds, 0 or more")
    return float(value)


def unknown_option(function: str, given: Iterable[str], known: Iterable[str]) -> TypeError | None:
    """Return the error for the first option that is not known, naming the nearest one that is."""
    known = sorted(known)
    for name in given:
        if name not in known:
            import difflib

            near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            hint = f"; did you mean {near[0]!r}?" if near else f"; it takes {', '.join(known)}"
            return TypeError(f"{function}() got an unexpected option {name!r}{hint}")
    return None


_METHODS = {
    "activities": "live_alert live_metrics live_progress live_stats live_steps live_timer live_value",
    "decorators": "notify track_steps",
    "iteration": "track",
}


class Tracker:
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
        layers: Layers[Settings, Dispatcher] = Layers(_changed("Tracker", Settings(), settings))
        self._layers = layers
        self._dispatcher = self._make_dispatcher(
            lambda: layers.current.exit_timeout
        )  # which does not keep this one alive
        self._has_told_rank = False
        self._is_closed = self._has_delivered = False
        self._finalizer = weakref.finalize(self, self._dispatcher.drop)
        self._finalizer.atexit = False
        if TYPE_CHECKING:  # made when they are first asked for
            from . import activities, decorators, iteration

            self.live_progress = partial(activities.live_progress, tracker=self)
            self.live_steps = partial(activities.live_steps, tracker=self)
            self.live_timer = partial(activities.live_timer, tracker=self)
            self.live_metrics = partial(activities.live_metrics, tracker=self)
            self.live_stats = partial(activities.live_stats, tracker=self)
            self.live_value = partial(activities.live_value, tracker=self)
            self.live_alert = partial(activities.live_alert, tracker=self)
            self.track = partial(iteration.track, tracker=self)
            self.track_steps = partial(decorators.track_steps, tracker=self)
            self.notify = partial(decorators.notify, tracker=self)

    def _make_dispatcher(self, exit_timeout: Callable[[], float]) -> Dispatcher:
        from .delivery.dispatcher import Dispatcher

        return Dispatcher(exit_timeout)

    def __getattr__(self, name: str) -> Any:
        for home, names in _METHODS.items():
            if name in names.split():
                # Not kept, for a tracker that refers to itself would stay until the garbage collector comes by.
                return partial(getattr(import_module(f".{home}", __package__), name), tracker=self)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *" ".join(_METHODS.values()).split()})

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Tracker holds threads and may hold an API key: it cannot be pickled or copied")

    @property
    def settings(self) -> Settings:
        """The settings in force."""
        return self._layers.current

    @property
    def dispatcher(self) -> Dispatcher:
        """What sends: the tracker's own dispatcher, or the one that `using` has put in its place for a while."""
        return self._layers.dispatcher or self._dispatcher

    def configure(self, **settings: Any) -> None:
        """Change settings for good; those not named stay as they are. Raises as `Tracker` does.

        Inside `override` the change lasts beyond its end. What the override itself names stays as that says until it
        ends, and only then is what was configured meanwhile.
        """
        _changed("configure", self.settings, settings)
        self._layers.change(settings)

    def override(self, **settings: Any) -> Override:
        """Change settings for the length of a `with` block, in all threads. Raises as `Tracker` does."""
        return Override(self._layers, settings)

    def close(self, timeout: float | None = None) -> bool:
        """Deliver what is owed, keep what cannot be delivered, and let go of threads and connections.

        Blocks that are open end as stopped. Blocks that are opened later are off, after one line in the log. Closing
        a second time does nothing, and returns what the first time has, or False while that is not known yet.

        Args:
            timeout: seconds to wait at most, 0 or more; `None` for `exit_timeout`, of which trackers that are closed
                in exit handlers have one in all.

        Returns:
            True when everything was delivered. What was not is kept for a next run, as at the interpreter's exit.

        Raises:
            InvalidRequest: for a timeout that cannot be.
        """
        from .delivery.shutdown import shutdown

        seconds = None if timeout is None else check_seconds("timeout", timeout)
        already, self._is_closed = self._is_closed, True
        if not already:
            self._has_delivered = shutdown.close(self.dispatcher, seconds)
        return self._has_delivered

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def flush(self, timeout: float = 10.0) -> bool:
        """Wait until all ends and pushes are delivered, and every open card is on the screen.

        What earlier processes could not deliver is delivered too.

        Args:
            timeout: seconds to wait at most, 0 or more.

        Returns:
            True when everything was delivered; False when something is still on its way, or was refused since the
            last flush.
        """
        return self.dispatcher.flush(check_seconds("timeout", timeout), self.account())

    @property
    def watches(self) -> bool:
        """True where a watchdog was asked for, in the settings or in the environment."""
        asked = self.settings.watchdog
        return _switch("ACTIVITYSMITH_WATCHDOG", False) if asked is None else asked

    def using(self, dispatcher: Dispatcher, **settings: Any) -> Override:
        """Send through another dispatcher, and change settings, for the length of a `with` block; for tests."""
        return Override(self._layers, settings, dispatcher)

    def account(self) -> Account | None:
        """Return the account to send to, or `None` where the library is off."""
        if self._is_closed:
            self.dispatcher.runtime.warn_once("closed", "activitysmith_track is off here: the tracker is closed")
            return None
        settings = self.settings
        if settings.enabled is False or (settings.enabled is None and not _switch("ACTIVITYSMITH_TRACK", True)):
            return None
        if not settings.all_ranks and self._is_another_rank():
            return None
        key = find_api_key(settings.api_key)
        try:
            if key:
                self.dispatcher.persistence.directory = settings.outbox
                return self.dispatcher.account(check_api_key(key), find_base_url(settings.base_url))
        except InvalidRequest as error:  # from the environment: the job goes on without us
            self.dispatcher.runtime.warn_once("environment", "activitysmith_track is off: %s", error)
            return None
        self.dispatcher.runtime.warn_once(
            "key",
            "activitysmith_track is off: no API key. Set ACTIVITYSMITH_API_KEY to turn it on, ACTIVITYSMITH_TRACK="
            "off to silence this line, or preview it locally with: python -m activitysmith_track demo",
        )
        return None

    def _is_another_rank(self) -> bool:
        """Tell whether this process is one of many and not the one that shows; the first time it is logged."""
        name, rank = _rank()
        if rank > 0 and not self._has_told_rank:
            self._has_told_rank = True
            hint = "only rank 0 shows and tells (or all_ranks=True)"
            logger.info("activitysmith_track is off here: %s=%d, and %s", name, rank, hint)
        return rank > 0


class Override:
    """The `with` block of `override`; one object may be entered several times, also in several threads.

    Args:
        layers: the settings that it changes.
        changes: the new values.
        dispatcher: what sends meanwhile; `None` leaves that as it is.
    """

    def __init__(
        self, layers: Layers[Settings, Dispatcher], changes: Mapping[str, Any], dispatcher: Dispatcher | None = None
    ) -> None:
        self._layers, self._changes, self._dispatcher = layers, changes, dispatcher
        self._entered: list[tuple[int, Layer[Dispatcher]]] = []  # with the thread that did it
        _changed("override", layers.current, changes)

    def __enter__(self) -> Settings:
        layer = Layer(self._changes, self._dispatcher)
        self._entered.append((threading.get_ident(), layer))
        return self._layers.put(layer)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        entered = list(self._entered)
        if not entered:
            raise RuntimeError("this override is not open")
        here = [each for each in entered if each[0] == threading.get_ident()]
        last = (here or entered)[-1]  # a block may also end in another thread than it began in
        self._entered.remove(last)
        self._layers.remove(last[1])


def _changed(function: str, settings: Settings, changes: Mapping[str, Any]) -> Settings:
    wrong = unknown_option(function, changes, (each.name for each in fields(Settings)))
    if wrong:
        raise wrong
    return replace(settings, **changes)


def _switch(name: str, default: bool) -> bool:
    """Read a switch from the environment, in any usual spelling."""
    text = os.environ.get(name, "").strip().lower()
    if text and text not in _TRUE | _FALSE:
        left = "on" if default else "off"
        default_tracker().dispatcher.runtime.warn_once(
            ("switch", name), f"{name}=%s is neither on nor off: left {left}", text
        )
    return default if text not in _TRUE | _FALSE else text in _TRUE


def _rank() -> tuple[str, int]:
    """Return the rank of this process and the variable that says so; 0 where none does."""
    for name in _RANKS:
        text = os.environ.get(name, "").strip()
        if text.isascii() and text.isdigit():
            return name, int(text[:9])
    return "", 0


_default: dict[str, Tracker] = {}


def default_tracker() -> Tracker:
    """Return the tracker that the module's functions use, made on first use.

    There is one, ever, and no lock, which a signal handler or a forked child might wait for in vain: where several
    threads make one at once, the first one counts, and the others are dropped before anything was sent with them.
    """
    return _default.get("tracker") or _default.setdefault("tracker", Tracker())


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

    Args:
        timeout: seconds to wait at most, 0 or more.

    Returns:
        True when everything was delivered; False when something is still on its way, or was refused since the last
        flush.
    """
    return default_tracker().flush(timeout)
