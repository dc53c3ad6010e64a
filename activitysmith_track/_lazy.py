"""Modules of this package that are imported when they are first used: decorating a function stays cheap."""

from __future__ import annotations

from importlib import import_module

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Lazy:
    """Stands for a module of this package, and imports it with the first look at one of its names."""

    def __init__(self, name: str) -> None:
        self.__name = name

    def __getattr__(self, name: str) -> Any:
        found = getattr(import_module(f".{self.__name}", __package__), name)
        setattr(self, name, found)
        return found
