"""Run-time data as texts and numbers that a phone can show; nothing here raises for data."""

from __future__ import annotations

import math
from typing import Any

from .. import _text
from .._text import LONGEST_TEXT


def fit(value: object, longest: int = LONGEST_TEXT) -> str:
    """Turn anything into a text that the phone can show: no lone surrogates, not too long; never raises."""
    try:
        text = value if isinstance(value, str) else str(value)
        text = text[: longest * 8].encode("utf-8", "replace").decode()
    except Exception:
        return "?"
    return _text.shorten(text, longest)


def plain(number: float) -> str:
    """Write a count: `1,234`, or `0.5`."""
    return f"{number:,}" if isinstance(number, int) else f"{number:,.1f}".removesuffix(".0")


def finite(value: Any) -> float | None:
    """Read a number that came at run time; `None` where it is none, whatever its `__float__` does."""
    try:
        number = float(value)
    except Exception:
        return None
    return number if math.isfinite(number) else None
