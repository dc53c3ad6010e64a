"""Where the outbox of a process is, and whether there is one."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from .._endpoint import key_fingerprint

if TYPE_CHECKING:
    from .._endpoint import AccountKey
    from .outbox import Outbox
    from .runtime import Runtime


class OutboxPlace:
    """Where the outbox is.

    Args:
        runtime: the world outside.

    Attributes:
        directory: the outbox's; True for the user's own, False for none.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self.directory: str | os.PathLike[str] | bool = True
        self._made: dict[str, Outbox] = {}  # at most one, which the first thread to ask for it makes

    @property
    def outbox(self) -> Outbox | None:
        """The outbox, or `None` where it was turned off."""
        directory, found = self.directory, self._made.get("outbox")
        if directory is False:
            return None
        if found is None:
            made = self._runtime.outbox(None if directory is True else directory)
            found = self._made.setdefault("outbox", made)
            found.exists()  # which imports what finding the file needs
        return found

    @property
    def used_outbox(self) -> Outbox | None:
        """The outbox, where there is a file already; most processes need none."""
        outbox = self.outbox
        return outbox if outbox is not None and outbox.exists() else None

    @property
    def path(self) -> str | bool:
        """The directory, as the watchdog takes it."""
        return self.directory if isinstance(self.directory, bool) else os.path.abspath(self.directory)


def address(account: AccountKey) -> tuple[str, str]:
    """Return how the outbox knows an account: by its key's fingerprint, and by its address."""
    return key_fingerprint(account.api_key), account.base_url
