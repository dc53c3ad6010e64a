"""The accounts that a dispatcher sends to, each made on first use, however many threads ask for it at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .account import Account

if TYPE_CHECKING:
    from .runtime import Runtime


class Accounts:
    """The accounts, by their keys and addresses.

    Args:
        runtime: the world outside.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._accounts: dict[tuple[str, str], Account] = {}

    def of(self, api_key: str, base_url: str) -> Account:
        """Return the account of one key at one address."""
        key = api_key, base_url
        found = self._accounts.get(key)  # first: what a signal handler raises in a spare account's `__del__` is lost
        return self._accounts.setdefault(key, Account(api_key, base_url, self._runtime)) if found is None else found

    def close(self) -> None:
        """Close the connections; a next request opens new ones."""
        for account in list(self._accounts.values()):
            account.close()
