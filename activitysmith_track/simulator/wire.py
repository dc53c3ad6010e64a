"""The bytes of a request and of an answer: JSON objects within bounds, and a refusal for everything else."""

from __future__ import annotations

import json
import math
from typing import Any

__all__ = ["MAX_BODY_BYTES", "Refusal", "as_json", "read_object"]

MAX_BODY_BYTES = 1024 * 1024
MAX_DEPTH = 64  # of objects and lists within each other


class Refusal(Exception):  # it is an answer, not a fault
    """A request that is turned down.

    Args:
        status: of the answer, 400 to 499.
        error: the answer's `error`, in the service's words.
        message: its `message`, where it has one.
        **more: further fields of its body.
    """

    def __init__(self, status: int, error: str, message: str | None = None, **more: Any) -> None:
        self.status = status
        self.body = {"error": error, **({"message": message} if message is not None else {}), **more}
        super().__init__(error)


def as_json(content: Any) -> bytes:
    """Write a value as compact JSON in ASCII."""
    return json.dumps(content, separators=(",", ":"), allow_nan=False).encode()


def read_object(content: bytes) -> dict[str, Any] | None:
    """Read a body: an object, or `None` where it is empty.

    Raises:
        Refusal: with 413 for more than 1 MiB; with 400 for what is not JSON in UTF-8, for anything but an object, and
            for more than 64 objects and lists within each other.
    """
    if len(content) > MAX_BODY_BYTES:
        raise Refusal(413, "Payload too large", f"a body has at most {MAX_BODY_BYTES} bytes")
    if not content.strip():
        return None
    try:
        body = json.loads(content.decode(), parse_constant=_refuse_constant, parse_float=_finite_number)
    except (ValueError, RecursionError):
        raise Refusal(400, "Invalid JSON", "the body is not JSON in UTF-8") from None
    if not isinstance(body, dict):
        raise Refusal(400, "Invalid request", "the body must be an object")
    if _is_deep(body):
        raise Refusal(400, "Invalid request", f"the body nests more than {MAX_DEPTH} objects and lists")
    return body


def _is_deep(body: dict[str, Any]) -> bool:
    level: list[Any] = [body]
    depth = 0
    while level and depth < MAX_DEPTH:
        members = (member for each in level for member in (each.values() if isinstance(each, dict) else each))
        level = [member for member in members if isinstance(member, (dict, list))]
        depth += 1
    return bool(level)


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _finite_number(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"{text} is too large a number")
    return number
