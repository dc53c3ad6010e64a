"""A string that is not what it seems, for whatever reads texts of others."""

from __future__ import annotations

from typing import Any


class Sly(str):
    """A string that is not what it seems."""

    def __str__(self) -> str:
        raise RuntimeError

    def __len__(self) -> int:
        raise RuntimeError

    def __getitem__(self, at: Any) -> str:
        raise RuntimeError
