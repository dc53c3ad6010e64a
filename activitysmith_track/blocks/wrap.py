"""Decorates functions so that each call runs inside a block.

A decorated function keeps its name, signature, kind and place: coroutine functions, generators and async generators
stay so, methods bind, and it is pickled by name. One small driver for each kind runs the call inside its block.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import wrapt

from .context import enter, leave

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from types import TracebackType
    from typing import Protocol, TypeVar

    from typing_extensions import Self

    F = TypeVar("F", bound=Callable[..., Any])

    class Wrapping(Protocol):
        """What a call of a decorated function needs of the block that it runs in."""

        result: object

        @property
        def is_open(self) -> bool:
            """True between entering and the end, in the process that entered."""

        def begin(self) -> None:
            """Open the block."""

        def settle(self, error: BaseException | None) -> None:
            """End the block: well, or by the exception that has left it."""

        def __enter__(self) -> Self: ...

        def __exit__(
            self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
        ) -> None: ...

        async def __aenter__(self) -> Self: ...

        async def __aexit__(
            self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
        ) -> None: ...

    Make = Callable[[], Wrapping]


class _BoundWrapper(wrapt.BoundFunctionWrapper):  # type: ignore[type-arg]  # generic in recent versions only
    """A decorated method, bound; it is pickled as its object and its name, as methods are."""

    def __reduce_ex__(self, protocol: object) -> Any:
        return getattr, (self._self_instance, self.__wrapped__.__name__)

    def __copy__(self) -> Any:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        import copy

        return getattr(copy.deepcopy(self._self_instance, memo), self.__wrapped__.__name__)


class _Wrapper(wrapt.FunctionWrapper):  # type: ignore[type-arg]  # generic in recent versions only
    """A decorated function; it is pickled by name, as functions are."""

    __bound_function_wrapper__ = _BoundWrapper

    def __reduce_ex__(self, protocol: object) -> Any:
        return self.__wrapped__.__qualname__

    def __copy__(self) -> Any:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return self


def wrap(function: F, make: Make) -> F:
    """Decorate a function of any kind.

    Args:
        function: a function, method, classmethod, staticmethod, coroutine function, generator or async generator.
        make: returns a fresh handle; called once for every call.

    Raises:
        TypeError: for what is no function.
    """
    inner = getattr(function, "__func__", function)
    if isinstance(inner, type) or not callable(inner):
        raise TypeError(f"only functions and methods can be decorated, not {function!r}")
    return cast("F", _Wrapper(function, _driver(inner, make)))


def _driver(function: Callable[..., Any], make: Make) -> Callable[..., Any]:
    """Choose how calls of a function are run, by its kind."""
    if inspect.iscoroutinefunction(function):
        return partial(_named, _awaited, make)
    if inspect.isgeneratorfunction(function):
        return partial(_named, _generated, make)
    if inspect.isasyncgenfunction(function):
        return partial(_named, _generated_async, make)
    return partial(_called, make)


def _called(make: Make, wrapped: Callable[..., Any], _: object, args: Any, kwargs: Any) -> Any:
    with make() as block:
        block.result = result = wrapped(*args, **kwargs)
        return result


def _named(
    drive: Callable[..., Any], make: Make, wrapped: Callable[..., Any], _: object, args: Any, kwargs: Any
) -> Any:
    """Run a function by its driver, and give the coroutine or generator the function's name."""
    made = drive(wrapped, args, kwargs, make)
    for name in ("__name__", "__qualname__"):
        setattr(made, name, getattr(wrapped, name, getattr(made, name)))
    return made


async def _awaited(wrapped: Callable[..., Any], args: Any, kwargs: Any, make: Make) -> Any:
    async with make() as block:
        block.result = result = await wrapped(*args, **kwargs)
        return result


def _generated(wrapped: Callable[..., Any], args: Any, kwargs: Any, make: Make) -> Generator[Any, Any, Any]:
    """Run a generator inside its handle, which is current only while the generator itself runs."""
    block = make()
    block.begin()
    try:
        generator = wrapped(*args, **kwargs)
        resume, value = generator.send, None
        while True:
            enter(block)
            try:
                item = resume(value)
            finally:
                value = None
                leave(block)
            try:
                value = yield item
                resume = generator.send
            except GeneratorExit as closing:
                closed = _inside(block, generator.close)
                block.settle(closing)
                return closed
            except BaseException as thrown:
                resume, value = generator.throw, _without_frame(thrown)
    except StopIteration as stop:
        block.result = stop.value
        block.settle(None)
        return stop.value
    except BaseException as error:
        block.settle(error)
        raise


def _inside(block: Wrapping, function: Callable[[], Any]) -> Any:
    enter(block)
    try:
        return function()
    finally:
        leave(block)


def _without_frame(error: BaseException) -> BaseException:
    """Remove our own frame from a traceback, which an exception has gained where it was thrown in."""
    trace = error.__traceback__
    return error.with_traceback(trace.tb_next if trace is not None else None)


async def _generated_async(
    wrapped: Callable[..., Any], args: Any, kwargs: Any, make: Make
) -> AsyncGenerator[Any, Any]:
    """Run an async generator inside its handle, which is current only while the generator itself runs."""
    block = make()
    block.begin()
    try:
        generator = wrapped(*args, **kwargs)
        resume, value = generator.asend, None
        while True:
            enter(block)
            try:
                item = await resume(value)
            finally:
                value = None
                leave(block)
            try:
                value = yield item
                resume = generator.asend
            except GeneratorExit:
                enter(block)
                try:
                    await generator.aclose()
                finally:
                    leave(block)
                raise
            except BaseException as thrown:
                resume, value = generator.athrow, _without_frame(thrown)
    except StopAsyncIteration:
        block.settle(None)
    except BaseException as error:
        block.settle(error)
        raise


def name_of(function: Any) -> str:
    """Name a block after the function that it decorates."""
    inner = getattr(function, "__func__", function)
    name = getattr(inner, "__qualname__", None) or type(inner).__name__
    return str(name).rpartition("<locals>.")[2]
