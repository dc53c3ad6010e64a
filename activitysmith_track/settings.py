"""What can be configured, and how it is checked: settings of a tracker, seconds, and names that nobody knows."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Literal

from ._endpoint import check_api_key, check_base_url
from .errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from ._pacing import Budget

__all__ = ["Settings", "changed", "check_seconds", "unknown_option"]


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


def changed(function: str, settings: Settings, changes: Mapping[str, Any]) -> Settings:
    """Return settings with other values, checked.

    Args:
        function: how an error names the caller.
        settings: what stays as it is.
        changes: the new values, by the names of the fields.

    Raises:
        TypeError: for an unknown setting, naming the nearest one.
        InvalidRequest: for an unusable value.
    """
    wrong = unknown_option(function, changes, (each.name for each in fields(Settings)))
    if wrong:
        raise wrong
    return replace(settings, **changes)
