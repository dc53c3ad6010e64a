"""Where requests may go and with which key: the only place that decides about keys, addresses and plain http.

A key is found, checked, hidden from tracebacks and told from others here.

The key travels with every request, so plain http is allowed to this machine only. An address is read with a grammar
that is narrower than that of any URL library, and what is used from then on is put together from the parts that were
judged. So nobody behind it, be it urllib, httpx or the resolver, can take it for another host than was judged here.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, NamedTuple

from .errors import InvalidRequest, MissingAPIKey

if TYPE_CHECKING:
    from collections.abc import Callable
    from ipaddress import IPv4Address, IPv6Address

DEFAULT_BASE_URL = "https://activitysmith.com/api"

_ALLOWED = "an https URL in ASCII without credentials, or http to this machine (localhost, 127.0.0.1, [::1])"
_NAME = r"[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*\.?"
_PATH = r"(?:/[^\x00-\x20?#\\\x7f-\U0010ffff]*)?"
_URL = rf"([Hh][Tt][Tt][Pp][Ss]?)://(\[[0-9A-Fa-f:.]+\]|{_NAME})(?::([0-9]{{1,5}}))?({_PATH})"
_NUMERIC = r"(?:.*\.)?(?:[0-9]+|0[xX][0-9A-Fa-f]*)\.?"  # what some resolvers take for an IPv4 address


def find_base_url(given: str | None) -> str:
    """Return the address to send to: the given one, that of `ACTIVITYSMITH_BASE_URL`, or the service's own.

    Raises:
        InvalidRequest: as `check_base_url` does; space around the environment's value does not matter.
    """
    return check_base_url(given or os.environ.get("ACTIVITYSMITH_BASE_URL", "").strip() or DEFAULT_BASE_URL)


def find_api_key(given: str | None) -> str | None:
    """Return the key, not checked yet: the given one, or that of `ACTIVITYSMITH_API_KEY`, or `None`."""
    return given or os.environ.get("ACTIVITYSMITH_API_KEY", "").strip() or None


class Secret:
    """An API key whose repr says nothing, for the locals of frames that a traceback may print."""

    def __init__(self, text: str) -> None:
        self._reveal: Callable[[], str] = lambda: text

    def reveal(self) -> str:
        """Return the key."""
        return self._reveal()

    def __repr__(self) -> str:
        return "'...'"


def find_secret(given: str | None) -> Secret:
    """Return the key, hidden and not checked yet: the given one, or that of `ACTIVITYSMITH_API_KEY`.

    Raises:
        MissingAPIKey: where there is none.
    """
    key = find_api_key(given)
    if key is None:
        raise MissingAPIKey("no API key: pass api_key, or set ACTIVITYSMITH_API_KEY")
    return Secret(key)


def check_base_url(value: object) -> str:
    """Check the service's address: https, or http to this machine; no credentials in it, no query, no fragment.

    Returns:
        The address with its scheme and host in lower case, and without a slash at the end.

    Raises:
        InvalidRequest: for anything else. Credentials are not repeated in the message.
    """
    found = re.fullmatch(_URL, value, re.ASCII) if isinstance(value, str) else None
    if found is None:
        has_credentials = isinstance(value, str) and "@" in value
        raise InvalidRequest("base_url", "a URL with credentials" if has_credentials else value, _ALLOWED)
    scheme, host, port, path = found[1].lower(), found[2].lower(), found[3], found[4].rstrip("/")
    is_sound = _is_host(host) and (port is None or 0 < int(port) < 65_536)
    if not is_sound or (scheme == "http" and not is_loopback(host.strip("[]"))):
        raise InvalidRequest("base_url", value, _ALLOWED)
    return f"{scheme}://{host}{'' if port is None else f':{port}'}{path}"


def is_loopback(host: str) -> bool:
    """Tell whether a host surely means this machine: the name localhost, 127.0.0.0/8, and ::1.

    What only some resolvers or kernels take for it does not count: 127.1, 2130706433, 0.0.0.0, ::ffff:127.0.0.1, an
    address with an interface (::1%eth0), and localhost with anything before or behind it.
    """
    address = _as_address(host)
    if address is None:
        return host.lower() == "localhost"
    return address.is_loopback if address.version == 4 else str(address) == "::1"


def is_address(host: str) -> bool:
    """Tell whether a host is an IP address, and no name that somebody's DNS resolves."""
    return _as_address(host) is not None


def bracketed(host: str) -> str:
    """Write a host as it stands in a URL."""
    return f"[{host}]" if ":" in host else host


def host_to_reach(listening: str) -> str:
    """Return the host by which this machine reaches a server of its own, as it stands in a URL.

    Args:
        listening: the address that the server listens at; of one that means all interfaces it is loopback's.
    """
    return bracketed({"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(listening, listening))


def check_api_key(value: object) -> str:
    """Check that an API key can travel in a header; its text is never repeated in the message.

    Raises:
        InvalidRequest: for anything but a string of printable ASCII characters; space around it does not matter.
    """
    key, value = value, type(value)  # what a traceback may print of this frame is not the key
    if not isinstance(key, str) or not key.strip().isascii() or not key.strip().isprintable():
        key = None
        raise InvalidRequest("api_key", value, "a string of printable ASCII characters")
    return key.strip()


def key_fingerprint(api_key: str) -> str:
    """Tell API keys apart without keeping them: 16 hexadecimal digits of a hash of the key."""
    from ._fork import module

    digest = module("hashlib").blake2s(api_key.encode("utf-8", "replace"), digest_size=8, person=b"asoutbox")
    return str(digest.hexdigest())


class AccountKey(NamedTuple):
    """What tells one account from another: an API key at one address. Its repr does not show the key."""

    api_key: str
    base_url: str

    def __repr__(self) -> str:
        return f"AccountKey('...', {self.base_url!r})"


def _is_host(host: str) -> bool:
    """Tell whether a host is one that everybody reads alike: an address as `ipaddress` knows it, or a name."""
    if host.startswith("["):
        return ":" in host and is_address(host[1:-1])
    return len(host) <= 253 and (is_address(host) or not re.fullmatch(_NUMERIC, host))


def _as_address(host: str) -> IPv4Address | IPv6Address | None:
    from ipaddress import ip_address

    try:
        return ip_address(host)
    except ValueError:
        return None
