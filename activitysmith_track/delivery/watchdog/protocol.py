"""What the job tells its watchdog: frames, each a length of four bytes and so many bytes of JSON.

They are, by their `frame`:

- `hello`: the protocol's version, the job's pid, how to import this library, how long to try, and the outbox's
  directory (true for the user's own, false for none).
- `account`: `id`, `api_key`, `base_url`; cards and what is owed name it by its id.
- `card`: `id`, `account`, `stream_key`, `began_at` (seconds since the epoch), and its crash state: `end`, the body
  that ends the stream, empty where the service would not show it, and `push`, the body of a push or null. It comes
  when a card opens and whenever its crash state changes; the newest counts.
- `disarm`: `id`; the job has ended that card itself, or leaves it up.
- `owed`: `id`, `account`, `method` (`end`, `keep` or `push`), `stream_key`, `body`, `at_least_once`, `occurred_at`
  and `began_at` (seconds since the epoch); to be delivered when the job is gone, in whatever way.
- `ack`: `id`; the job has delivered that itself.
- `leases`: `id`, `account` and `owner`; something of that account is in the outbox under a lease of that owner,
  which is the job's name there. When the job is gone, it is taken over from there.
- `returned`: `id`; there is nothing under those leases any more.
- `bye`: the job leaves in order. Cards that it is still armed for are ended, and nobody is alarmed.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PROTOCOL = 5
MAX_FRAME = 1024 * 1024  # bytes of one frame
MAX_ENTRIES = 200  # cards and owed requests that are kept at once
READY = b"ready"


class Timing(NamedTuple):
    """How long the watchdog takes, in seconds.

    Attributes:
        retry: how long it tries to deliver after the job is gone; an hour at most.
        first_wait: before the second attempt at a request, from which the further ones grow; see `retry.backoff`.
        longest_wait: between two attempts.
        attempt: one request takes at most.
        idle: how long the process is kept while the job has nothing to guard.
        check: how often the job looks whether the process is still there.
        start: how long the process may take to begin.
    """

    retry: float = 3_600.0
    first_wait: float = 2.0
    longest_wait: float = 60.0
    attempt: float = 5.0
    idle: float = 30.0
    check: float = 5.0
    start: float = 20.0


class Garbled(Exception):
    """What came over the pipe is not what this module sends."""


_NUMBER = (int, float)
_NONE = type(None)
_FRAMES: dict[str, dict[str, tuple[type, ...]]] = {
    "hello": {
        "protocol": (int,),
        "pid": (int,),
        "pidfd": (bool,),
        "started": (int, _NONE),
        "sys_path": (list,),
        "environment": (dict,),
        "timing": (list,),
        "outbox": (str, bool),
    },
    "account": {"id": (int,), "api_key": (str,), "base_url": (str,)},
    "card": {
        "id": (int,),
        "account": (int,),
        "stream_key": (str,),
        "end": (dict,),
        "push": (dict, _NONE),
        "began_at": _NUMBER,
    },
    "disarm": {"id": (int,)},
    "owed": {
        "id": (int,),
        "account": (int,),
        "method": (str,),
        "stream_key": (str, _NONE),
        "body": (dict,),
        "at_least_once": (bool,),
        "occurred_at": _NUMBER,
        "began_at": _NUMBER,
    },
    "ack": {"id": (int,)},
    "leases": {"id": (int,), "account": (int,), "owner": (str,)},
    "returned": {"id": (int,)},
    "bye": {},
}


def encode(kind: str, **fields: Any) -> bytes:
    """Build a frame.

    Raises:
        TypeError, ValueError: for what JSON cannot say, or what is longer than 1 MiB.
    """
    content = json.dumps({"frame": kind, **fields}, separators=(",", ":")).encode()
    if len(content) > MAX_FRAME:
        raise ValueError(f"a frame of {len(content)} bytes is too long")
    return len(content).to_bytes(4, "big") + content


class Decoder:
    """Cuts what comes over the pipe into frames, in bounded memory."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[dict[str, Any], bytes]]:
        """Yield each whole frame, checked, with the bytes that it was.

        Raises:
            Garbled: at the first thing that is no frame.
        """
        self._buffer += data
        while len(self._buffer) >= 4:
            length = int.from_bytes(self._buffer[:4], "big")
            if length > MAX_FRAME:
                raise Garbled(f"a frame of {length} bytes")
            if len(self._buffer) < 4 + length:
                return
            content = bytes(self._buffer[4 : 4 + length])
            del self._buffer[: 4 + length]
            yield read_frame(content), content


def read_frame(content: bytes) -> dict[str, Any]:
    """Read a frame and check the type of each field.

    Raises:
        Garbled: for anything that this module does not send.
    """
    try:
        frame = json.loads(content)
    except (ValueError, RecursionError):
        raise Garbled("not JSON") from None
    fields = _FRAMES.get(str(frame.get("frame"))) if isinstance(frame, dict) else None
    if fields is None:
        raise Garbled("no frame of this version")
    for name, types in fields.items():
        if name not in frame or type(frame[name]) not in types:
            raise Garbled(f"{frame['frame']}.{name}")
    if frame["frame"] == "hello":
        _check_hello(frame)
    if frame["frame"] == "owed" and frame["method"] not in ("end", "keep", "push"):
        raise Garbled("owed.method")
    return dict(frame)


def _check_hello(frame: Mapping[str, Any]) -> None:
    numbers = all(type(each) in _NUMBER and 0 <= each <= 1e9 for each in frame["timing"])
    texts = [*frame["sys_path"], *frame["environment"], *frame["environment"].values(), str(frame["outbox"])]
    if frame["protocol"] != PROTOCOL or len(frame["timing"]) != len(Timing._fields) or not numbers:
        raise Garbled("hello of another version")
    if not all(isinstance(each, str) and "\0" not in each for each in texts) or not 0 < frame["pid"] < 2**31:
        raise Garbled("hello")
