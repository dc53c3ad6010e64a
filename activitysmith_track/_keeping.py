"""Who delivers what the job cannot: the outbox on disk, for a next process, and the watchdog beside this one.

While all goes well nothing is written, and only a look at the outbox's file is taken, unless the watchdog was asked
for. What touches the disk is called on a crew's thread, or at the exit; what feeds the watchdog waits for nothing.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
from typing import TYPE_CHECKING

from ._forks import module

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

    from ._courier import Account
    from ._outbox import Entry, Outbox
    from ._watchdog import Watchdog
    from .delivery.runtime import Runtime

logger = logging.getLogger("activitysmith_track")

_OUTBOX = f"{__package__}._outbox"
RETRY_SECONDS = 1.0  # within which what could not be left in an outbox is tried once more
LEASE_SECONDS = 180.0  # for which nobody else takes what this process tries to deliver; renewed by each attempt


class Keeper:
    """Keeps copies of what is owed, for when the process is gone before it is delivered."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self.directory: str | os.PathLike[str] | bool = True  # the outbox's; True for the user's own, False for none
        self._outbox: Outbox | None = None
        self._watchdog: Watchdog | None = None
        self._closed = False  # nobody could say goodbye to a watchdog that is told of a card from now on
        self._numbers = itertools.count(1)
        self._handed: dict[str, int] = {}  # what the watchdog has, by the entries' ids
        self._owner = f"{os.getpid()}-{runtime.token()}"
        self._left: set[str] = set()  # the ids of what was left to a next process
        self._claimed: set[str] = set()  # the ids of what was taken over and has not been tried yet
        self._leaving = runtime.lock()  # lest an attempt takes a lease on what is left, and nobody gives it back

    @property
    def outbox(self) -> Outbox | None:
        """The outbox, or `None` where it was turned off."""
        if self.directory is False:
            return None
        if self._outbox is None:
            made = self._runtime.outbox(None if self.directory is True else self.directory)
            made.exists()  # which imports what it takes to tell
            self._outbox = self._outbox or made  # else another thread was faster
        return self._outbox

    @property
    def place(self) -> str | bool:
        """The outbox's directory, as the watchdog takes it."""
        return self.directory if isinstance(self.directory, bool) else os.path.abspath(self.directory)

    # -- what is owed

    def entry(self, account: Account, kind: str, body: Mapping[str, Any], happened: float, **more: Any) -> Entry:
        """Make an entry of something that is owed to an account; see `Entry`."""
        made: Entry = module(_OUTBOX).Entry(kind, *_address(account), body, happened, run=self._owner, **more)
        return made

    def keep(self, account: Account, entry: Entry) -> bool:
        """Keep a copy of what this process still tries to deliver itself."""
        if self.hand_over(account, entry):
            return True
        outbox = self.outbox
        if outbox is None:
            return False
        with self._leaving:
            return entry.id in self._left or outbox.put([entry], owner=self._owner, lease_seconds=LEASE_SECONDS)

    def begin(self, entry: Entry) -> bool | None:
        """Note that an attempt at what is kept begins.

        Returns:
            False where somebody else has it, or a newer run has cancelled it; `None` where that cannot be told.
        """
        if entry.id in self._handed:
            if _once(entry):
                self.delivered(entry)  # from here on it may have arrived, and nobody else is to send it
            return True
        outbox = self.outbox
        if outbox is None:
            return True
        with self._leaving:
            self._claimed.discard(entry.id)
            return False if self._closed else outbox.begin(entry.id, self._owner, LEASE_SECONDS)

    def delivered(self, entry: Entry) -> None:
        """Forget what was delivered, or will never be."""
        number = self._handed.pop(entry.id, None)
        if number is not None and self._watchdog is not None:
            self._watchdog.settled(number)
        elif (outbox := self.outbox) is not None:
            outbox.delivered([entry.id])

    def cancel_ends(self, account: Account, stream_key: str) -> list[Entry] | None:
        """Forget the end that an older run owes a card, since a newer one shows under the same key.

        Returns:
            What is to be put back if that one does not come to be shown; `None` where it has to wait until another
            process has sent it.
        """
        outbox = self._used_outbox()
        if outbox is None:
            return []
        with self._leaving:
            if self._closed:  # it would take away what the exit has just left there of that very card
                return []
            return outbox.cancel_ends(*_address(account), stream_key, self._owner)

    def put_back(self, entries: list[Entry]) -> None:
        """Owe again what was forgotten for a newer run that is not shown."""
        outbox = self.outbox if entries else None
        if outbox is not None:
            outbox.put(entries)

    def over(self, account: Account, entry: Entry) -> None:
        """Note that an attempt has failed for certain, and that another one follows."""
        if entry.id in self._handed or (_once(entry) and self.hand_over(account, entry)):
            return
        outbox = self.outbox
        if outbox is not None and not outbox.over(entry.id, self._owner) and _once(entry):
            self.keep(account, entry)

    def claim(self, account: Account) -> list[Entry]:
        """Take over what earlier processes owe an account."""
        outbox = self._used_outbox()
        if outbox is None:
            return []
        with self._leaving:
            if self._closed:
                return []
            entries = outbox.claim(*_address(account), self._owner, self._runtime.wall(), LEASE_SECONDS)
            self._claimed.update(entry.id for entry in entries)
        return entries

    def _used_outbox(self) -> Outbox | None:
        outbox = self.outbox
        return outbox if outbox is not None and outbox.exists() else None

    def part(self, owed: Owed, kept: Iterable[Entry], timeout: float, *, stays: bool = False) -> Parting:
        """Begin to leave to others what this process could not deliver, for it exits; `leave_all` does the rest.

        Args:
            owed: what nobody else knows of yet.
            kept: what is kept already.
            timeout: seconds that the watchdog has at most to hear all of it.
            stays: True where the process may yet stay, so that the watchdog is not told that it leaves in order.
        """
        owed = list(owed)
        left = [entry for account, entry in owed if not self.hand_over(account, entry)]
        with self._leaving:
            self._closed = not stays
        watchdog = self._watchdog
        if watchdog is None:
            return Parting(self, owed, list(kept), left)
        heard = watchdog.begin_tell() if stays else watchdog.begin_close(timeout)
        return Parting(self, owed, list(kept), left, heard)

    def stop(self) -> None:
        """Let the watchdog go, where there is one, and wait for nothing."""
        if self._watchdog is not None:
            self._watchdog.begin_close(0.0)

    # -- the watchdog

    @property
    def watched(self) -> bool:
        """True while a watchdog stands guard."""
        return self._watchdog is not None and self._watchdog.alive

    @property
    def prepares(self) -> bool:
        """True while a watchdog is being started."""
        return self._watchdog is not None and self._watchdog.starts

    def hand_over(self, account: Account, entry: Entry) -> bool:
        """Have the watchdog deliver something if the process is gone before it has; False where there is none."""
        watchdog = self._watchdog
        if watchdog is None or not watchdog.alive:
            return False
        number = self._handed.setdefault(entry.id, next(self._numbers))
        watchdog.hand_over(
            number,
            account.secret,
            account.base_url,
            entry.kind,
            entry.body,
            stream_key=entry.stream_key,
            at_least_once=entry.at_least_once,
            happened=entry.happened,
        )
        return True

    def guard(self, number: int, account: Account, stream_key: str, words: LastWords) -> None:
        """Have the watchdog end a card if the job dies; starts it with the first one."""
        watchdog = self._watchdog
        if watchdog is None:
            try:
                self._watchdog = watchdog = self._runtime.watchdog(self.place)
            except Exception as error:
                logger.warning("activitysmith_track: no watchdog here: %s", error)
                return
        if self._closed:
            return
        end, push = words
        watchdog.guard(number, account.secret, account.base_url, stream_key, end=end, push=push)

    def goodbye(self, number: int) -> None:
        """Tell the watchdog that a card was ended."""
        if self._watchdog is not None:
            self._watchdog.goodbye(number)


class Parting:
    """What a process that leaves has to see to for one keeper.

    Args:
        keeper: the keeper.
        owed: what nobody else knew of.
        kept: what was kept already.
        left: of `owed`, what no watchdog has been told.
        heard: waits until the watchdog has been told everything, and returns whether it has; `None` for no watchdog.

    Attributes:
        told: whether the watchdog, where there is one, has been told everything.
    """

    def __init__(
        self,
        keeper: Keeper,
        owed: list[tuple[Account, Entry]],
        kept: list[Entry],
        left: list[Entry],
        heard: Callable[[float], bool] | None = None,
    ) -> None:
        self.keeper, self._owed, self._kept, self.left, self._heard = keeper, owed, kept, left, heard
        self.told = True

    def wait(self, timeout: float) -> None:
        """Wait at most so many seconds until the watchdog has been told; what it has not been, the outbox keeps."""
        keeper = self.keeper
        self.told = self._heard is None or self._heard(timeout)
        if not self.told:  # what it has of them may come twice, or not at all
            handed = [each for each in self._kept if each.id in keeper._handed]
            again = [each for each in handed if not (keeper.watched and _once(each))]
            self.left = [*again, *(entry for _, entry in self._owed)]

    @property
    def leases(self) -> list[tuple[str, str]]:
        """What is given back to the outbox, each with its owner."""
        keeper = self.keeper
        kept = [each.id for each in self._kept if each.id not in keeper._handed]
        ids = [*keeper._claimed, *kept, *(each.id for each in self.left)]
        return [(each, keeper._owner) for each in ids]

    def note(self) -> None:
        """Note what goes into the outbox, lest an attempt that fails by now keeps it once more."""
        self.keeper._left.update(entry.id for entry in self.left)


def leave_all(partings: list[Parting], timeout: float, runtime: Runtime) -> list[bool]:
    """Have watchdogs and outboxes take over what is left, side by side and each file in one transaction.

    Args:
        partings: of each keeper one.
        timeout: seconds to wait at most until all the watchdogs have been told.
        runtime: tells the time.

    Returns:
        Of each whether all of it is in safe hands.
    """
    until = runtime.now() + timeout
    files: dict[object, list[Parting]] = {}
    for each in partings:
        each.wait(max(0.0, until - runtime.now()))
        if each.left or each.leases:
            files.setdefault(each.keeper.place, []).append(each)
    until = runtime.now() + RETRY_SECONDS
    stored = {place: _store(group, until, runtime) for place, group in files.items()}
    return [stored[each.keeper.place] if each.left or each.leases else each.told for each in partings]


def _store(partings: list[Parting], until: float, runtime: Runtime) -> bool:
    """Leave everything in one outbox; tried twice where the file is busy, unless it is late."""
    outbox = partings[0].keeper.outbox
    if outbox is None:
        return not any(each.left for each in partings)
    entries = [entry for each in partings for entry in each.left]
    leases = [lease for each in partings for lease in each.leases]
    with contextlib.ExitStack() as stack:
        for each in partings:
            stack.enter_context(each.keeper._leaving)
        for each in partings:
            each.note()
        kept_all = outbox.leave(entries, leases)
        if not kept_all and runtime.now() < until:
            kept_all = outbox.leave(entries, leases)  # the file may have been busy for once
        return kept_all


def _once(entry: Entry) -> bool:
    """Tell whether it is better lost than delivered twice."""
    return entry.kind == "push" and not entry.at_least_once


def _address(account: Account) -> tuple[str, str]:
    """Return how the outbox knows an account: by a hint at its key, and by its address."""
    return module(_OUTBOX).hint(account.secret), account.base_url


if TYPE_CHECKING:
    Owed = Iterable[tuple[Account, Entry]]
    LastWords = tuple[Mapping[str, Any], Mapping[str, Any] | None]
