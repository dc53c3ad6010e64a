"""Seeded damage for whatever reads bytes from outside: used by the tests, and at length by `benchmarks/fuzz.py`."""

from __future__ import annotations

import contextlib
import json
import os
import random
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from activitysmith_track.delivery.entries import Entry
from activitysmith_track.delivery.newer_card import NewerCard
from activitysmith_track.delivery.outbox import Outbox

BASE_URL = "https://service.example/api"
_OF_ENTRIES = "id kind key_fingerprint base_url stream_key body at_least_once occurred_at run attempts began_at"
COLUMNS = (*_OF_ENTRIES.split(), "owner", "leased_until", "begun")
NOW = 1_790_000_000.0
ODD: tuple[Any, ...] = (
    *(None, 0, 1, -1, 2**63 - 1, 1e308, -1e308, float("inf"), "", "x", "end", "push", "keep", b"\xff\x00", "\x00"),
    *("[" * 50_000, "9" * 50_000, '{"title": NaN}', '{"title": 3}', '{"title": "T"}', "{}", "[]", "null"),
    *('{"content_state": {"title": "T", "type": "nonsense"}}', '{"title": "\\ud800"}', "x" * 100_000, b"x" * 100_000),
    *('{"title": "T", "payload": ' + '{"a":' * 400 + "1" + "}" * 401, "😀" * 100, NOW, str(NOW)),
)


def owed(count: int, *, long: bool = False) -> list[Entry]:
    """Make entries of all kinds."""
    entries = []
    for number in range(count):
        text = "word " * (400 if long and number % 3 == 0 else 3)
        if number % 2:
            entries.append(Entry("push", "fingerprint", BASE_URL, {"title": f"T{number}", "message": text}, NOW))
        else:
            state = {"title": f"T{number}", "type": "progress", "percentage": 42, "subtitle": text}
            entries.append(Entry("end", "fingerprint", BASE_URL, {"content_state": state}, NOW, f"job-{number}"))
    return entries


def sound_files(directory: Path) -> list[bytes]:
    """Return outbox files as they look when nothing is wrong with them: full, partly claimed, and drained."""
    files = []
    for count, claimed, delivered in ((1, 0, 0), (12, 4, 0), (40, 9, 5), (3, 3, 3)):
        box = Outbox(directory / str(count), clock=lambda: NOW)
        assert box.put(owed(count, long=True))
        taken = box.claim("fingerprint", BASE_URL, "a", NOW, 60, most=claimed) if claimed else []
        assert box.delivered(entry.id for entry in taken[:delivered])
        files.append(box.path().read_bytes())
    return files


def damage(rng: random.Random, content: bytes) -> bytes:
    """Do to a file what disks, crashes and people do: flip, cut, repeat, swap, blank and overwrite."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
        at, how = rng.randrange(max(1, len(data))), rng.randrange(8)
        if how == 0 and data:
            data[at] ^= 1 << rng.randrange(8)
        elif how == 1:
            del data[at:]
        elif how == 2:
            data[at:at] = rng.randbytes(rng.choice((1, 7, 4096)))
        elif how == 3:
            data[at : at + 4096] = bytes(len(data[at : at + 4096]))
        elif how == 4:
            page = rng.randrange(0, max(1, len(data)), 4096)
            data[page : page + 4096] = data[at // 4096 * 4096 :][:4096]
        elif how == 5:
            data[at : at + 8] = rng.randbytes(8)
        elif how == 6 and data:
            data[rng.randrange(min(100, len(data)))] = rng.randrange(256)  # the header
        else:
            page = rng.randrange(0, max(1, len(data)), 4096)
            data[page : page + 12] = rng.randbytes(12)  # the head of a page
    return bytes(data)


def tamper(rng: random.Random, path: Path) -> None:
    """Write odd values into a sound file's rows, as someone with an editor for databases could."""
    base = sqlite3.connect(path)
    with contextlib.closing(base):
        base.execute("PRAGMA synchronous = OFF")
        for _ in range(rng.randrange(1, 6)):
            column = rng.choice(COLUMNS)
            change = f"UPDATE OR IGNORE entries SET {column} = ? WHERE seq % ? = 0"
            with contextlib.suppress(sqlite3.IntegrityError):
                base.execute(change, (rng.choice(ODD), rng.randrange(1, 4)))
        base.commit()


def use(directory: Path) -> list[Entry]:
    """Do everything with an outbox that a process does, and return what it claimed."""
    box = Outbox(directory, clock=lambda: NOW)
    claimed = box.claim("fingerprint", BASE_URL, "b", NOW + 1, 60)
    for entry in claimed[:2]:
        box.begin(entry.id, "b", 60)
    box.release([entry.id for entry in claimed[:3]], "b")
    box.delivered([entry.id for entry in claimed[3:6]])
    box.delivered(box.hold_back_ends("fingerprint", BASE_URL, "job-2", "c", 60) or ())
    box.put(owed(2))
    box.inherit("fingerprint", BASE_URL, "b", "d", 60)
    end_id = claimed[0].id if claimed else ""
    box.look_back(NewerCard("fingerprint", BASE_URL, "job-0", "e", "e", NOW, NOW - 10.0, NOW, 13.0, end_id))
    return claimed


def clean(directory: Path) -> None:
    """Leave nothing behind for the next round."""
    for name in os.listdir(directory):
        os.unlink(directory / name)


def answers(rng: random.Random, count: int) -> Iterator[tuple[int, dict[str, str], bytes]]:
    """Yield what a service gone mad might answer: status, headers and body."""
    fine = {"success": True, "operation": "updated", "notification_id": "n", "tags": ["a"], "errors": [], "limit": 4}
    for _ in range(count):
        body = {name: value for name, value in fine.items() if rng.random() < 0.8}
        for _ in range(rng.randrange(3)):
            name = rng.choice(
                [*fine, "error", "message", "body", "code", "effective_channel_slugs", "__class__", "needs"]
            )
            body[name] = _value(rng, rng.randrange(4))
        content = json.dumps(body).encode()
        how = rng.randrange(6)
        if how == 0:
            content = rng.randbytes(rng.randrange(200))
        elif how == 1:
            content = damage(rng, content)
        elif how == 2:
            at = rng.randrange(len(content))
            odd = (
                b"[",
                b"{",
                b'"',
                b"NaN",
                b"-",
                b"\\ud800",
                b"9" * 5_000,
                b"[" * 2_000,
                b"\xff",
                b"\x00",
                b"1e999",
                b",",
            )
            content = content[:at] + rng.choice(odd) + content[at:]
        status = rng.choice(
            (200, 200, 200, 201, 204, 302, 400, 401, 402, 404, 409, 422, 429, 500, 503, 0, 99, 600, 999)
        )
        odd_dates = (
            "5",
            "9" * 50,
            "Mon, 01 Jan 2035 00:00:00 GMT",
            "x" * rng.randrange(99),
            "",
            "-1",
            "Mon, 99 Jan",
            "\ud800",
        )
        yield status, {"retry-after": rng.choice(odd_dates)}, content


def _value(rng: random.Random, depth: int) -> Any:
    """Make a JSON value of any kind."""
    if depth and rng.random() < 0.4:
        return [_value(rng, depth - 1) for _ in range(rng.randrange(4))]
    if depth and rng.random() < 0.4:
        return {str(number): _value(rng, depth - 1) for number in range(rng.randrange(4))}
    return rng.choice((None, True, False, 0, -1, 10**30, 1.5, 1e308, "", "x", "\ud800", "é" * 50, "x" * 5_000))
