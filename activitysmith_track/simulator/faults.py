"""Faults on demand: what goes wrong between a request and its answer, for which requests, and how often."""

from __future__ import annotations

import fnmatch
import itertools
import json
import random
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from ..errors import InvalidRequest
from ..payloads import check_integer, check_number, check_object, check_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

    from typing_extensions import Self

__all__ = ["FAULT_KINDS", "Fault", "Faults"]

FAULT_KINDS = {
    "latency": "answers late",
    "status": "answers with an error",
    "reset": "resets the connection instead of answering",
    "hang": "never answers",
    "truncate": "breaks the connection in the middle of the answer",
    "garbage": "answers 200 with a body that is not JSON",
    "drip": "answers a byte at a time",
    "refuse": "refuses connections",
}
MAX_SECONDS = 3_600.0
MAX_FAULTS = 100
MAX_BODY = 64 * 1024  # bytes of JSON of a body of one's own
DEFAULT_SECONDS = {"latency": 1.0, "drip": 10.0, "refuse": 1.0}

_WORDS: dict[int, tuple[str, str, dict[str, Any]]] = {
    400: ("Invalid request", "This request was refused by a simulated fault.", {}),
    401: ("Unauthorized", "Missing or invalid API key", {}),
    402: ("trial_exhausted", "Your trial is used up.", {"upgrade_url": "https://activitysmith.com/app/billing"}),
    403: ("Forbidden", "This API key cannot do that.", {}),
    404: ("Not found", "There is no such thing.", {}),
    409: ("Conflict", "This notification cannot be replaced now.", {}),
    422: ("No recipients found", "No devices matched the effective channel target", {"effective_channel_slugs": []}),
    429: ("Rate limit exceeded", "Too many requests, please try again later.", {"code": "rate_limited"}),
    502: (
        "Badge update failed",
        "The badge could not be updated.",
        {"code": "badge_update_failed", "badge": 0, "devices_updated": 0},
    ),
}


@dataclass
class Fault:
    """One fault; `FAULT_KINDS` lists the kinds. As a `with` block it is taken away at the end.

    Attributes:
        kind: what goes wrong.
        path: a shell pattern for the path behind `/api` as it was sent, such as `/live-activity/*`.
        method: an HTTP method in any case, or `*`.
        times: how many requests it hits; `None` for all.
        skip: how many matching requests pass before it begins.
        probability: of hitting a matching request, 0 to 1.
        seed: of those chances; the same seed hits the same requests.
        seconds: of the machine's own: how long `latency` waits, `drip` takes and `refuse` lasts; every other kind
            waits so long before it strikes.
        status: of the answer, 400 to 599, where the kind is `status`.
        body: of that answer; by default what the service says with that status.
        retry_after: the answer's `Retry-After`: seconds, or a date as HTTP writes it.
        handled: whether the service carries the request out all the same; by default it does where the answer is
            late, truncated, garbage or dripping, and does not where it is a status, a reset or a hang.
        id: given when it is set.
        hits: how many requests it has hit.

    `refuse` keeps requests from being made at all, so it takes `seconds` and nothing else.

    Raises:
        InvalidRequest: for a value that cannot be, or one that `refuse` has no use for.
    """

    kind: str
    path: str = "*"
    method: str = "*"
    times: int | None = None
    skip: int = 0
    probability: float = 1.0
    seed: int = 0
    seconds: float | None = None
    status: int = 500
    body: Mapping[str, Any] | None = None
    retry_after: float | str | None = None
    handled: bool | None = None
    id: int = field(default=0, compare=False)
    hits: int = field(default=0, compare=False)

    def __post_init__(self) -> None:
        _check(self)
        self.method = self.method.upper()
        if self.handled is None:
            self.handled = self.kind in ("latency", "truncate", "garbage", "drip")
        if self.seconds is None:
            self.seconds = DEFAULT_SECONDS.get(self.kind, 0.0)
        self.owner: Faults | None = None
        self._random = random.Random(self.seed)
        self._left, self._to_skip = self.times, self.skip

    def strikes(self, method: str, path: str) -> bool:
        """Tell whether it hits this request, and count it if so."""
        matches = self.method in ("*", method) and fnmatch.fnmatchcase(path, self.path)
        if not matches or self._left == 0 or self.kind == "refuse":
            return False
        if self._to_skip:
            self._to_skip -= 1
            return False
        if self.probability < 1 and self._random.random() >= self.probability:
            return False
        if self._left is not None:
            self._left -= 1
        self.hits += 1
        return True

    @property
    def loses_answer(self) -> bool:
        """True where the client sees no whole answer."""
        return self.kind in ("reset", "hang", "truncate")

    def spoil(self, status: int, answer: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Return what is said instead of an answer: only a `status` fault says something of its own."""
        if self.kind != "status":
            return status, answer
        error, message, more = _WORDS.get(self.status, ("Internal server error", "Something went wrong.", {}))
        return self.status, dict(self.body) if self.body is not None else {"error": error, "message": message, **more}

    @property
    def headers(self) -> dict[str, str]:
        """The headers that it adds to an answer."""
        return {} if self.kind != "status" or self.retry_after is None else {"retry-after": str(self.retry_after)}

    @property
    def is_set(self) -> bool:
        """True until it is taken away."""
        return self.owner is not None and self in self.owner

    def remove(self) -> None:
        """Take it away."""
        if self.owner is not None:
            self.owner.remove(self.id)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()

    def as_json(self) -> dict[str, Any]:
        """Return its fields, for the control API."""
        return {each.name: getattr(self, each.name) for each in fields(self)}


def _check(fault: Fault) -> None:
    if not isinstance(fault.kind, str) or fault.kind not in FAULT_KINDS:
        raise InvalidRequest("kind", fault.kind, "one of " + ", ".join(FAULT_KINDS))
    if fault.kind == "refuse":
        _check_refusal(fault)
    check_text("path", fault.path, shortest=1, longest=1_000)
    check_text("method", fault.method, shortest=1, longest=20)
    if fault.times is not None:
        check_integer("times", fault.times, at_least=1)
    check_integer("skip", fault.skip)
    check_integer("seed", fault.seed)
    check_integer("status", fault.status, at_least=400, at_most=599)
    check_number("probability", fault.probability, at_least=0, at_most=1)
    if fault.seconds is not None:
        check_number("seconds", fault.seconds, at_least=0, at_most=MAX_SECONDS)
    if fault.body is not None:
        _check_body(fault.body)
    if fault.handled is not None and not isinstance(fault.handled, bool):
        raise InvalidRequest("handled", fault.handled, "true, false or null")
    _check_retry_after(fault.retry_after)


def _check_refusal(fault: Fault) -> None:
    for each in fields(fault):
        value = getattr(fault, each.name)
        if each.name not in ("kind", "seconds") and (type(value), value) != (type(each.default), each.default):
            raise InvalidRequest(each.name, value, "nothing: refuse takes seconds only")


def _check_body(body: object) -> None:
    size = len(json.dumps(check_object("body", body)))
    if size > MAX_BODY:
        raise InvalidRequest("body", f"{size} bytes of JSON", f"at most {MAX_BODY} bytes of JSON")


def _check_retry_after(value: object) -> None:
    if isinstance(value, str):
        if not value.isprintable() or not value.isascii() or len(value) > 100:
            raise InvalidRequest("retry_after", value, "seconds, or a date as HTTP writes it")
    elif value is not None:
        check_number("retry_after", value, at_least=0, at_most=86_400)


class Faults:
    """The faults that are set, in the order in which they were added: the first that strikes wins.

    Args:
        changed: called after one was set or taken away, on the thread that did so.
    """

    def __init__(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        self._lock = threading.Lock()
        self._faults: dict[int, Fault] = {}
        self._ids = itertools.count(1)

    def add(self, fault: Fault) -> Fault:
        """Set one.

        Raises:
            InvalidRequest: when there are 100 already.
        """
        with self._lock:
            if len(self._faults) >= MAX_FAULTS:
                raise InvalidRequest("faults", len(self._faults), f"at most {MAX_FAULTS} at once")
            fault.id, fault.owner = next(self._ids), self
            self._faults[fault.id] = fault
        self._changed()
        return fault

    def remove(self, number: int) -> bool:
        """Take one away; False where there is none of that id."""
        with self._lock:
            found = self._faults.pop(number, None) is not None
        self._changed()
        return found

    @property
    def refuse(self) -> bool:
        """True while one is set that refuses connections."""
        return any(fault.kind == "refuse" for fault in self)

    def clear(self) -> None:
        """Take all of them away."""
        with self._lock:
            self._faults.clear()
        self._changed()

    def __iter__(self) -> Iterator[Fault]:
        with self._lock:
            return iter(list(self._faults.values()))

    def __contains__(self, fault: object) -> bool:
        with self._lock:
            return isinstance(fault, Fault) and fault.id in self._faults

    def strike(self, method: str, path: str) -> Fault | None:
        """Return the fault that hits this request, if one does."""
        with self._lock:
            return next((fault for fault in self._faults.values() if fault.strikes(method, path)), None)
