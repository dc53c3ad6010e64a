"""The tracker that blocks belong to: its settings, and the dispatcher that sends for it; and the process's own one.

What is not set in `Settings` comes from the environment, and is read when a block opens, never at import: which
variables there are stands in `configuration`.
"""

from __future__ import annotations

import logging
import os
import threading
import weakref
from typing import TYPE_CHECKING, Any, NoReturn

from ._endpoint import check_api_key, find_api_key, find_base_url
from ._layers import Layer, Layers
from .errors import InvalidRequest
from .settings import Settings, changed, check_seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

    from typing_extensions import Self

    from .delivery.account import Account
    from .delivery.dispatcher import Dispatcher

logger = logging.getLogger("activitysmith_track")

_FALSE = frozenset({"0", "off", "no", "n", "f", "false", "disable", "disabled"})
_TRUE = frozenset({"1", "on", "yes", "y", "t", "true", "enable", "enabled"})
_RANKS = ("RANK", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK")


class CoreTracker:
    """Settings and one dispatcher: what a block needs of the tracker that it belongs to.

    Args:
        **settings: the fields of `Settings`.

    Raises:
        TypeError: for an unknown setting, naming the nearest one.
        InvalidRequest: for an unusable value.
    """

    def __init__(self, **settings: Any) -> None:
        layers: Layers[Settings, Dispatcher] = Layers(changed("Tracker", Settings(), settings))
        self._layers = layers
        self._dispatcher = self._make_dispatcher(lambda: layers.current.exit_timeout)  # keeps no tracker alive
        self._has_told_rank = False
        self._is_closed = self._has_delivered = False
        self._finalizer = weakref.finalize(self, self._dispatcher.drop)
        self._finalizer.atexit = False

    def _make_dispatcher(self, exit_timeout: Callable[[], float]) -> Dispatcher:
        from .delivery.dispatcher import Dispatcher

        return Dispatcher(exit_timeout)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Tracker holds threads and may hold an API key: it cannot be pickled or copied")

    @property
    def settings(self) -> Settings:
        """The settings in force."""
        return self._layers.current

    @property
    def dispatcher(self) -> Dispatcher:
        """The dispatcher that sends: the tracker's own, or the one that `using` has put in its place."""
        return self._layers.dispatcher or self._dispatcher

    def configure(self, **settings: Any) -> None:
        """Change settings for good; those not named stay as they are. Raises as `Tracker` does.

        A change made inside `override` outlives it. Settings that the override itself names keep the override's
        values until it ends, and take the configured ones then.
        """
        changed("configure", self.settings, settings)
        self._layers.change(settings)

    def override(self, **settings: Any) -> Override:
        """Change settings for the length of a `with` block, in all threads. Raises as `Tracker` does."""
        return Override(self._layers, settings)

    def close(self, timeout: float | None = None) -> bool:
        """Deliver what is owed, keep what cannot be delivered, and let go of threads and connections.

        Blocks that are open end as stopped. Blocks that are opened later are off, after one line in the log. Closing
        a second time does nothing, and returns what the first call returned, or False while that one is not over yet.

        Args:
            timeout: seconds to wait at most, 0 or more; `None` for `exit_timeout`, which trackers that are closed in
                exit handlers share.

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

        The last state of a card that stays up is delivered when it is shown; that it may be shown once more, some
        seconds later, nobody waits for.

        What earlier processes could not deliver is delivered too.

        Args:
            timeout: seconds to wait at most, 0 or more.

        Returns:
            True when everything was delivered; False when something is still undelivered, or was refused since the
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
                self.dispatcher.persistence.place.directory = settings.outbox
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
        """Tell whether this process has another rank than 0, and so shows nothing; the first time it is logged."""
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
        self._entered: list[tuple[int, Layer[Dispatcher]]] = []  # each with the thread that entered
        changed("override", layers.current, changes)

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


_default: dict[str, CoreTracker] = {}


def default_tracker() -> CoreTracker:
    """Return the tracker that the module's functions use, made on first use.

    There is only ever one. It is made without a lock, for which a signal handler or a forked child might wait in
    vain: if several threads make one at once, the first one counts, and the others are dropped before they are used.
    """
    return _default.get("tracker") or _default.setdefault("tracker", CoreTracker())
