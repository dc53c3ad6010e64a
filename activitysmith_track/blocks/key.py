"""The key of a stream: the same job is the same card."""

from __future__ import annotations

import os
import re
from typing import Any

from ..errors import InvalidRequest

KEY_FIELD = r"\{(name|host)\}"


def check_key(path: str, value: Any) -> str:
    """Check a key that the user gave, with `{name}` and `{host}` as placeholders."""
    if not isinstance(value, str):
        raise InvalidRequest(path, value, "a string")
    rest = re.sub(KEY_FIELD, "x", value)
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,200}", rest):
        raise InvalidRequest(path, value, "1 to 200 letters, digits, underscores, hyphens, {name} and {host}")
    return value


def slug(text: str) -> str:
    """Make a stream key of a name; if that loses characters, a short hash is added to tell it from others.

    Spaces, dots, colons, slashes and capitals do not count as lost; accents and symbols do.
    """
    kept = re.sub(r"[\s./:-]+", "-", text.lower()).strip("-")
    made = re.sub(r"[^a-z0-9_-]+", "", kept)[:200].strip("-")
    if made == kept:
        return made or "job"
    import zlib

    digest = f"{zlib.crc32(text.encode('utf-8', 'surrogatepass')):08x}"
    return f"{made}-{digest}" if made else f"job-{digest}"


def stream_key(name: str, key: str | None) -> str:
    """Return the key of a block's stream, from its name and the key that was given for it, if any."""
    if key is None:
        return slug(name)
    fields = {"name": slug(name)}
    if "{host}" in key:
        fields["host"] = slug(_host())
    return re.sub(KEY_FIELD, lambda found: fields[found[1]], key)[:250]


def _host() -> str:
    return os.uname().nodename if hasattr(os, "uname") else os.environ.get("COMPUTERNAME", "host")
