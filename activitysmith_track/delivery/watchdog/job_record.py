"""What the process knows of its job, and what it is to deliver when the job is gone: pure, and bounded."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from .protocol import MAX_ENTRIES, MAX_FRAME

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Mapping

MAX_HELD = 4 * MAX_FRAME  # bytes of frames that are kept

_TAKEN_BACK_BY = {"disarm": "card", "ack": "owed", "returned": "leases"}


class Owed(NamedTuple):
    """One request that must arrive.

    Attributes:
        method: `end` or `keep` for a stream, `push` for a push.
        account: the API key and the address.
        stream_key: the stream's key, where it is one.
        body: the request's body.
        at_least_once: True where a push may be sent again although it may have arrived.
        occurred_at: seconds since the epoch.
        began_at: the same for the beginning of the run whose end it is; 0 for a push.
    """

    method: str
    account: tuple[str, str]
    stream_key: str
    body: Mapping[str, Any]
    at_least_once: bool
    occurred_at: float
    began_at: float = 0.0


class JobRecord:
    """What the job has said so far: how its cards end if it dies, what it owes, and what it has in the outbox."""

    def __init__(self) -> None:
        self.hello: dict[str, Any] | None = None
        self.left = False  # in order: the job said `bye`
        self._accounts: dict[int, tuple[str, str]] = {}
        self._entries: dict[tuple[str, int], bytes] = {}  # unparsed, which takes far less memory
        self._held = 0

    def take(self, frame: Mapping[str, Any], content: bytes) -> None:
        """Note what a frame says."""
        kind = frame["frame"]
        if kind == "hello":
            self.hello = dict(frame)
        elif kind == "bye":
            self.left = True
        elif kind == "account":
            if len(self._accounts) < MAX_ENTRIES:
                self._accounts[frame["id"]] = frame["api_key"], frame["base_url"]
        elif kind in _TAKEN_BACK_BY.values():
            self._keep((kind, frame["id"]), content)
        else:
            self._keep((_TAKEN_BACK_BY[kind], frame["id"]), b"")

    def _keep(self, key: tuple[str, int], content: bytes) -> None:
        """Keep an entry in the place of its older one; empty content removes it. Beyond the bounds none is added."""
        held = self._held - len(self._entries.get(key, b"")) + len(content)
        if not content:
            self._entries.pop(key, None)
        elif held > MAX_HELD or (key not in self._entries and len(self._entries) >= MAX_ENTRIES):
            return
        else:
            self._entries[key] = content
        self._held = held

    @property
    def owes(self) -> bool:
        """True where there is something to deliver."""
        return bool(self._entries)

    def owed(self, now: float) -> list[Owed]:
        """Return what is to be delivered now that the job is gone.

        Args:
            now: seconds since the epoch.
        """
        frames = sorted((json.loads(content) for content in self._entries.values()), key=lambda frame: frame["id"])
        known = [frame for frame in frames if frame["account"] in self._accounts]
        cards = [frame for frame in known if frame["frame"] == "card"]
        streams = {_stream(frame): frame for frame in cards if frame["end"]}  # the newest card of each
        made = [self._owed(frame, "end", frame["end"], now) for frame in streams.values()]
        if not self.left:
            made += self._alarms([*streams.values(), *(frame for frame in cards if not frame["end"])], now)
        return [*made, *self._entrusted(known, streams)]

    def _entrusted(self, known: list[dict[str, Any]], streams: Container[tuple[int, str | None]]) -> Iterator[Owed]:
        """Yield what the job has left to be delivered; of each stream the newest, unless a card of it is open."""
        owed: dict[object, dict[str, Any]] = {}
        for frame in known:
            if frame["frame"] == "owed" and frame["method"] == "push":
                owed[frame["id"]] = frame
            elif frame["frame"] == "owed" and _stream(frame) not in streams:
                owed[_stream(frame)] = frame
        for frame in owed.values():
            yield self._owed(frame, frame["method"], frame["body"], frame["occurred_at"], frame["at_least_once"])

    def leases(self) -> list[tuple[tuple[str, str], str]]:
        """Return whose leases in the outbox are to be taken over, each with the account."""
        frames = [json.loads(content) for (kind, _), content in self._entries.items() if kind == "leases"]
        known = [frame for frame in frames if frame["account"] in self._accounts]
        return [(self._accounts[frame["account"]], frame["owner"]) for frame in known]

    def _alarms(self, cards: list[dict[str, Any]], now: float) -> Iterator[Owed]:
        """Yield one push for each account: that of its first card, which says how many more cards there are."""
        for account in dict.fromkeys(card["account"] for card in cards):
            own = [card for card in cards if card["account"] == account]
            alarming = [card for card in own if card["push"] is not None]
            if alarming:
                yield self._owed(alarming[0], "push", _with_count(alarming[0]["push"], len(own) - 1), now)

    def _owed(
        self, frame: Mapping[str, Any], method: str, body: dict[str, Any], at: float, again: bool = True
    ) -> Owed:
        account = self._accounts[frame["account"]]
        began_at = frame["began_at"] if method != "push" else 0.0
        return Owed(method, account, frame["stream_key"] or "", body, again, at, began_at)


def _stream(frame: Mapping[str, Any]) -> tuple[int, str | None]:
    return frame["account"], frame["stream_key"]


def _with_count(push: dict[str, Any], more: int) -> dict[str, Any]:
    if not more:
        return push
    others = f"and {more} more card{'s' if more > 1 else ''}"
    return {**push, "message": f"{push['message']} · {others}" if push.get("message") else others}
