"""The public names and their signatures are those of `public_names.txt`: none changes by accident.

Where a change is meant, the file is written anew: `python tests/test_public_names.py > tests/public_names.txt`.
"""

from __future__ import annotations

import ast
import difflib
import inspect
import pkgutil
import sys
import textwrap
import typing
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import pytest

import activitysmith_track

pytestmark = pytest.mark.once  # what is written is the same on every interpreter

PINNED = Path(__file__).with_name("public_names.txt")
PACKAGE = activitysmith_track.__name__
# A class or a function stands where it is first met in this order, and is "the same as" that in later modules.
MODULES = (
    *("", "client", "errors", "payloads", "settings", "configuration", "live", "decorators", "iteration"),
    *("simulator", "testing", "blocks", "activities"),
)
INNER = {"cli", "delivery"}  # the command, and what nobody but the library imports
# The methods with a name of Python's own that users count on; others, such as those of a dataclass, are not listed.
SPECIAL = ("__call__", "__enter__", "__exit__", "__aenter__", "__aexit__", "__iter__", "__aiter__", "__next__")
HEAD = """\
# What activitysmith_track offers, one line a name; names without a module are those of the package itself.
# Written by `python tests/test_public_names.py > tests/public_names.txt`; tests/test_public_names.py compares.
# A class stands with what it is made with, which are a dataclass's fields too; its members are those that the bases
# named here do not have.
"""


def test_names_and_signatures_are_pinned() -> None:
    """A public name, a parameter, a default or a type is neither added, nor lost, nor changed by accident."""
    before, now = (text.splitlines() for text in (PINNED.read_text(encoding="utf-8"), written()))
    compared = difflib.unified_diff(before, now, "before", "now", lineterm="", n=0)
    changes = [line for line in compared if not line.startswith("@@")]
    if changes:
        hint = "where that is meant: python tests/test_public_names.py > tests/public_names.txt"
        pytest.fail("\n".join(["the public names have changed;", hint, *changes]), pytrace=False)


def test_no_public_module_is_left_out() -> None:
    """What has a name without an underscore is listed, or said to be inner."""
    found = {each.name for each in pkgutil.iter_modules(activitysmith_track.__path__) if each.name[0] != "_"}
    assert found == {*MODULES, *INNER} - {""}


# ------------------------------------------------------------------------------------------- what stands in the file


def written() -> str:
    """Return the whole text of the file."""
    return HEAD + "".join(f"{line}\n" for line in sorted(lines()))


def lines() -> Iterator[str]:
    """Yield a line for each public name."""
    homes: dict[object, str] = {}
    for module in MODULES:
        prefix, names = (f"{module}." if module else ""), dict(names_of(module))
        fresh = {value: prefix + name for name, value in names.items() if is_defined(value) and value not in homes}
        homes |= fresh
        for name, value in names.items():
            path = prefix + name
            if not is_defined(value):
                yield f"{path}: {'type' if typing.get_origin(value) else type(value).__name__}"
            elif homes[value] != path:
                yield f"{path}: the same as {homes[value]}"
            elif isinstance(value, type):
                yield from lines_of_class(path, value, homes)
            else:
                yield line_of_function(path, value)


def names_of(module: str) -> Iterator[tuple[str, Any]]:
    """Yield the names that a module offers, with what they are: those of `__all__`, or the public ones made there."""
    loaded = import_module(f"{PACKAGE}.{module}" if module else PACKAGE)
    for name in getattr(loaded, "__all__", None) or [each for each in vars(loaded) if each[0] != "_"]:
        value = inspect.unwrap(getattr(loaded, name))  # such as a pytest fixture
        is_others = isinstance(value, ModuleType) or getattr(value, "__module__", None) in ("__future__", "typing")
        if hasattr(loaded, "__all__") or not is_others:
            yield name, value


def is_defined(value: object) -> bool:
    """Tell a class or a function from a constant, of which only the kind is told."""
    return isinstance(value, type | FunctionType) and not typing.get_origin(value)


def lines_of_class(path: str, cls: type, homes: dict[object, str]) -> Iterator[str]:
    """Yield the line of a class and those of its members."""
    bases = [base for base in cls.__mro__[1:] if base in homes or not is_ours(base)]
    bases = [base for base in bases if base.__module__ != "typing" and base is not object]
    nearest = [base for base in bases if not any(base in other.__mro__[1:] for other in bases)]
    of = ", ".join(homes.get(base, base.__name__) for base in nearest)
    yield f"{path}{arguments_of(cls)}: class{f' of {of}' if of else ''}"
    yield from lines_of_members(path, cls, [base for base in nearest if base in homes])


def is_ours(cls: type) -> bool:
    """Tell whether a class is one of the library."""
    return cls.__module__.partition(".")[0] == PACKAGE


def arguments_of(cls: type) -> str:
    """Write what a class is made with, or `(...)` where that is not said by the library."""
    for each in cls.__mro__:
        if is_ours(each) and isinstance(made := vars(each).get("__init__"), FunctionType):
            return arguments(made, skip=1)
    return "(...)"


def lines_of_members(path: str, cls: type, listed: list[type]) -> Iterator[str]:
    """Yield a line for each public member of a class that none of the listed bases has told of."""
    seen = set[str]()
    for each in cls.__mro__:
        if not is_ours(each) or any(issubclass(base, each) for base in listed):
            continue
        annotations, made = inspect.get_annotations(each), dict(made_in(each))
        told = {name for name, field in vars(each).get("__dataclass_fields__", {}).items() if field.init}
        for name in sorted({*annotations, *vars(each), *made} - seen - told):
            if name[0] != "_" or name in SPECIAL:
                seen.add(name)
                value = vars(each).get(name)
                yield line_of_member(f"{path}.{name}", value, annotations.get(name))
                if (group := made.get(name)) is not None:
                    yield from lines_of_members(f"{path}.{name}", group, [])


def made_in(cls: type) -> Iterator[tuple[str, type | None]]:
    """Yield the attributes that `__init__` sets, each with the class of the same module that it is one of, if any."""
    if not isinstance(vars(cls).get("__init__"), FunctionType) or "__dataclass_fields__" in vars(cls):
        return
    space = vars(import_module(cls.__module__))
    for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(vars(cls)["__init__"])))):
        if not isinstance(node, ast.Assign | ast.AnnAssign):
            continue
        called = node.value.func if isinstance(node.value, ast.Call) else None
        group = space.get(called.id) if isinstance(called, ast.Name) else None
        is_group = isinstance(group, type) and group.__module__ == cls.__module__
        for each in ast.walk(node):
            is_set = isinstance(each, ast.Attribute) and isinstance(each.ctx, ast.Store)
            if is_set and isinstance(each.value, ast.Name) and each.value.id == "self":
                yield each.attr, group if is_group else None


def line_of_member(path: str, value: Any, annotation: object) -> str:
    """Write a method with its arguments, or a property or an attribute with its type, where that is said."""
    value = value.__func__ if isinstance(value, staticmethod | classmethod) else value
    if isinstance(value, FunctionType):
        return line_of_function(path, value)
    if isinstance(value, property):
        said = inspect.signature(value.fget).return_annotation if value.fget else ""
        return f"{path}: property of {typed(said)}{', can be set' if value.fset else ''}"
    return f"{path}: {typed(annotation) if annotation else 'attribute'}"


def line_of_function(path: str, function: FunctionType) -> str:
    """Write a function with its arguments and what it returns."""
    returned = inspect.signature(function).return_annotation
    ends = "" if returned is inspect.Signature.empty else f" -> {typed(returned)}"
    return f"{path}{arguments(function)}{ends}{', async' if inspect.iscoroutinefunction(function) else ''}"


def arguments(function: FunctionType, skip: int = 0) -> str:
    """Write the parameters of a function, but for the first ones: Python's own words differ between versions."""
    parameters = list(inspect.signature(function).parameters.values())[skip:]
    said: list[str] = []
    for before, each in zip([None, *parameters], parameters, strict=False):
        was = None if before is None else before.kind
        if was is each.POSITIONAL_ONLY and each.kind is not each.POSITIONAL_ONLY:
            said.append("/")
        if each.kind is each.KEYWORD_ONLY and was not in (each.KEYWORD_ONLY, each.VAR_POSITIONAL):
            said.append("*")
        stars = {each.VAR_POSITIONAL: "*", each.VAR_KEYWORD: "**"}.get(each.kind, "")
        kind = "" if each.annotation is each.empty else f": {typed(each.annotation)}"
        default = "" if each.default is each.empty else f" = {plain(each.default)}"
        said.append(f"{stars}{each.name}{kind}{default if kind else default.replace(' ', '', 2)}")
    if parameters and parameters[-1].kind is inspect.Parameter.POSITIONAL_ONLY:
        said.append("/")
    return f"({', '.join(said)})"


def typed(annotation: object) -> str:
    """Write a type as it stands in the source, where modules do without evaluating it."""
    annotation = annotation.__forward_arg__ if isinstance(annotation, typing.ForwardRef) else annotation
    return annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)


def plain(value: object) -> str:
    """Write a default; of what has no plain form only that there is one."""
    return repr(value) if type(value) in (str, int, float, bool, type(None), tuple) else "..."


if __name__ == "__main__":
    sys.stdout.write(written())
