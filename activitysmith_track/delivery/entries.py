"""What the outbox keeps: an end, the last state of a card that stays up, or a push; and the check of these."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .._fork import importing

MAX_KEPT_BYTES = 64 * 1024  # of JSON; the service takes 4 KB of a push and 16 KB of metadata

_OPERATIONS = {"end": "end_stream", "keep": "stream", "push": "send"}
_LONGEST_NAME = 300  # characters of an id or a run


@dataclass(frozen=True)
class Entry:
    """Something that is owed.

    Attributes:
        kind: `end` (the DELETE of a stream), `keep` (the last PUT of a card that stays up) or `push`.
        key_fingerprint: of the API key that it goes out with; see `_endpoint`.
        base_url: the service's address.
        body: the body of the request.
        occurred_at: seconds since the epoch, when the block ended.
        stream_key: the card, for `end` and `keep`; `None` for a push.
        at_least_once: True where a duplicate is better than nothing. A push without it is dropped where nobody can
            tell whether an attempt succeeded.
        run: names the process that it comes from.
        id: putting the same id twice keeps it once.
        attempts: how often it was released after a failure.
        began_at: seconds since the epoch, when the run began whose end it is; 0 for a push.
    """

    kind: str
    key_fingerprint: str
    base_url: str
    body: Mapping[str, Any]
    occurred_at: float
    stream_key: str | None = None
    at_least_once: bool = True
    run: str = ""
    id: str = field(default_factory=lambda: os.urandom(12).hex())
    attempts: int = 0
    began_at: float = 0.0


def load_checks() -> None:
    """Import what `checked` needs, while nothing is forked."""
    with importing():
        from .. import payloads  # noqa: F401


def checked(entry: Entry) -> Entry:
    """Return an entry that can be sent, or raise what is wrong with it."""
    from ..payloads import check_body, check_stream_key

    body = check_body(_OPERATIONS[entry.kind], entry.body)
    if entry.kind == "push":
        if entry.stream_key is not None:
            raise ValueError("a push with a stream key")
    else:
        check_stream_key("stream_key", entry.stream_key)
    texts = (entry.key_fingerprint, entry.base_url, entry.run, entry.id)
    if not all(isinstance(text, str) and len(text) <= _LONGEST_NAME for text in texts):
        raise ValueError("a name that is no text, or too long")
    if not isinstance(entry.occurred_at, (int, float)) or not math.isfinite(entry.occurred_at):
        raise ValueError("no time at which it occurred")
    attempts = entry.attempts if isinstance(entry.attempts, int) else 0
    began_at = (
        float(entry.began_at) if isinstance(entry.began_at, (int, float)) and math.isfinite(entry.began_at) else 0.0
    )
    return Entry(
        entry.kind,
        entry.key_fingerprint,
        entry.base_url,
        body,
        float(entry.occurred_at),
        entry.stream_key,
        bool(entry.at_least_once),
        entry.run,
        entry.id,
        attempts,
        began_at,
    )
