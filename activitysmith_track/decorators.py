"""The decorators: a fresh handle for every call, and functions that stay what they were.

A decorated function keeps its name, signature, kind and place: coroutine functions, generators and async generators
stay so, methods bind, and it is pickled by name. One small driver for each kind runs the call inside its handle.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, cast, overload

import wrapt

from .activities import Options, Steps, Watch, check_options, enter, leave
from .errors import InvalidRequest
from .settings import unknown_option

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from typing import TypeVar

    from typing_extensions import Unpack

    F = TypeVar("F", bound=Callable[..., Any])

__all__ = ["notify", "track_steps"]

Make = Callable[[], Watch]


# ------------------------------------------------------------------------------------- wrappers that pickle by name


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
    with make() as watch:
        watch.result = result = wrapped(*args, **kwargs)
        return result


def _named(
    drive: Callable[..., Any], make: Make, wrapped: Callable[..., Any], _: object, args: Any, kwargs: Any
) -> Any:
    """Give a coroutine or generator the name of the function that it runs."""
    made = drive(wrapped, args, kwargs, make)
    for name in ("__name__", "__qualname__"):
        setattr(made, name, getattr(wrapped, name, getattr(made, name)))
    return made


async def _awaited(wrapped: Callable[..., Any], args: Any, kwargs: Any, make: Make) -> Any:
    async with make() as watch:
        watch.result = result = await wrapped(*args, **kwargs)
        return result


def _generated(wrapped: Callable[..., Any], args: Any, kwargs: Any, make: Make) -> Generator[Any, Any, Any]:
    """Run a generator inside its handle, which is current only while the generator itself runs."""
    watch = make()
    watch.begin()
    try:
        generator = wrapped(*args, **kwargs)
        resume, value = generator.send, None
        while True:
            enter(watch)
            try:
                item = resume(value)
            finally:
                value = None
                leave(watch)
            try:
                value = yield item
                resume = generator.send
            except GeneratorExit as closing:
                closed = _inside(watch, generator.close)
                watch.settle(closing)
                return closed
            except BaseException as thrown:
                resume, value = generator.throw, _without_frame(thrown)
    except StopIteration as stop:
        watch.result = stop.value
        watch.settle(None)
        return stop.value
    except BaseException as error:
        watch.settle(error)
        raise


def _inside(watch: Watch, function: Callable[[], Any]) -> Any:
    enter(watch)
    try:
        return function()
    finally:
        leave(watch)


def _without_frame(error: BaseException) -> BaseException:
    """Take the frame of ours out of a traceback that an exception gained where it was thrown in."""
    trace = error.__traceback__
    return error.with_traceback(trace.tb_next if trace is not None else None)


async def _generated_async(
    wrapped: Callable[..., Any], args: Any, kwargs: Any, make: Make
) -> AsyncGenerator[Any, Any]:
    """Run an async generator inside its handle, which is current only while the generator itself runs."""
    watch = make()
    watch.begin()
    try:
        generator = wrapped(*args, **kwargs)
        resume, value = generator.asend, None
        while True:
            enter(watch)
            try:
                item = await resume(value)
            finally:
                value = None
                leave(watch)
            try:
                value = yield item
                resume = generator.asend
            except GeneratorExit:
                enter(watch)
                try:
                    await generator.aclose()
                finally:
                    leave(watch)
                raise
            except BaseException as thrown:
                resume, value = generator.athrow, _without_frame(thrown)
    except StopAsyncIteration:
        watch.settle(None)
    except BaseException as error:
        watch.settle(error)
        raise


# -------------------------------------------------------------------------------------------------- the decorators


def _name_of(function: Any) -> str:
    """Name a block after the function that it decorates."""
    inner = getattr(function, "__func__", function)
    name = getattr(inner, "__qualname__", None) or type(inner).__name__
    return str(name).rpartition("<locals>.")[2]


@overload
def track_steps(name: F, /) -> F: ...


@overload
def track_steps(
    name: str | None = None, /, *, steps: Sequence[str] | int | None = None, **options: Unpack[Options]
) -> Callable[[F], F]: ...


def track_steps(name: Any = None, /, *, steps: Sequence[str] | int | None = None, **options: Unpack[Options]) -> Any:
    """Decorate a function whose `step(...)` calls become segments; bare, or called.

    Args:
        name: what the job is called; the function's name by default.
        steps: the names in their order (the first one runs from the start), their number, or nothing.
        **options: see `Options`.

    Raises:
        TypeError: for an unknown option, naming the nearest one, or for what is no function.
        InvalidRequest: for an unusable value.

    Example::

        @track_steps("Nightly backup", steps=["snapshot", "upload"])
        def backup():
            snapshot()
            step("upload")
            upload()
    """
    if name is not None and not isinstance(name, str):
        return track_steps()(name)
    wrong = unknown_option("track_steps", options, {*Options.__annotations__, "steps"})
    if wrong:
        raise wrong
    Steps(name or "job", steps=steps, options=options)  # what is wrong is said here, not at the first call

    def decorate(function: F) -> F:
        return wrap(function, Steps(name or _name_of(function), steps=steps, options=options).again)

    return decorate


class Notice(Watch):
    """A block of which only the end is told, by a push: `notify`."""

    def __init__(self, name: str | None, options: Mapping[str, Any]) -> None:
        super().__init__(name or "job", options)
        self._given = name

    def __call__(self, function: F) -> F:
        """Decorate a function of any kind: each call is told for itself."""
        name = self._given or _name_of(function)
        return wrap(function, partial(Notice, name, self._options))


_ON = {"failure": (True, False), "success": (False, True), "always": (True, True)}
_OF_PUSHES = (
    "title",
    "channels",
    "tags",
    "metadata",
    "on_failure",
    "on_success",
    "cancelled",
    "ignore",
    "disable",
    "wait",
    "tracker",
)


@overload
def notify(name: F, /) -> F: ...


@overload
def notify(
    name: str | None = None,
    /,
    *,
    on: Literal["failure", "success", "always"] = "failure",
    **options: Unpack[Options],
) -> Notice: ...


def notify(
    name: Any = None, /, *, on: Literal["failure", "success", "always"] = "failure", **options: Unpack[Options]
) -> Any:
    """Tell how a function, or a `with` block, ended: a push, and no Live Activity.

    Args:
        name: what the job is called; the function's name by default.
        on: which end is told.
        **options: of `Options` those that concern a push: `title`, `channels`, `tags`, `metadata`, `on_failure`,
            `on_success` (what to push; they overrule `on`), `cancelled`, `ignore`, `disable`, `wait`, `tracker`.

    Raises:
        TypeError: for an unknown option, naming the nearest one, or for what is no function.
        InvalidRequest: for an unusable value.

    Example::

        @notify(on="always")
        def nightly(): ...
    """
    if name is not None and not isinstance(name, str):
        return notify()(name)
    if name is not None and not name.strip():
        raise InvalidRequest("name", name, "a string that is not blank")
    if not isinstance(on, str) or on not in _ON:
        raise InvalidRequest("on", on, f"one of {', '.join(_ON)}")
    checked = check_options("notify", options, own=("on",))
    for other in checked:
        if other not in _OF_PUSHES:
            raise TypeError(f"notify() shows no card, so it has no {other!r}; it takes {', '.join(_OF_PUSHES)}")
    failure, success = _ON[on]
    return Notice(name, {"on_failure": failure, "on_success": success, **checked})
